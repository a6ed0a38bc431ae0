//! Building an engine, and taking it down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cache_core::observe::Counters;
use cache_core::{CacheService, Clock, LocalStore, NodeId, Packing, Result, Stamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::behind::Behind;
use super::monitor::Monitor;
use super::pauses::Pauses;
use super::recovery::Recovery;
use super::work::Home;
use super::{Engine, Far, Floors, Gates, Holds, LineState, Names, Options, ServerTime};
use crate::coherence::{Ring, Track, View};
use crate::flight::Flights;
use crate::sync::Mutex;

/// How long acknowledged changes are kept for a replay, and how many.
const RING: (Duration, usize) = (Duration::from_secs(60), 100_000);

/// How many engines this process has built.
static BUILT: AtomicU64 = AtomicU64::new(0);

/// What an engine is built from; already checked.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) near: Option<Arc<dyn LocalStore>>,
    pub(crate) far: Option<Arc<dyn CacheService>>,
    pub(crate) packing: Packing,
    pub(crate) namespace: String,
    pub(crate) lines: usize,
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    /// One near hit in so many is compared with the far store.
    pub(crate) monitor: Option<u32>,
    /// The heat of one near hit in so many is counted.
    pub(crate) heat: Option<u32>,
    /// How many keys may wait for a background write; `None` for none.
    pub(crate) behind: Option<usize>,
}

impl Engine {
    /// Starts an engine. With a far store that can be heard: subscribes first, then beats, so that nothing is read
    /// before it is known what was missed.
    pub(crate) async fn start(setup: Setup) -> Result<Arc<Self>> {
        let Setup { near, far, packing, namespace, lines, options, clock, monitor, heat, behind } = setup;
        let names = Names::new(&namespace, lines, BUILT.fetch_add(1, Ordering::Relaxed));
        let heard = far.as_ref().is_some_and(|far| far.bus().is_some());
        let (monitor, samples) = Monitor::new(monitor.filter(|_| heard), heat);
        let states = (0..lines).map(|index| {
            let track = if heard { Track::new(options.bound) } else { Track::local() };
            LineState {
                view: View::new(&track),
                track: Mutex::new(track),
                names: names.line(index),
                beat: Notify::new(),
                verdict: Notify::new(),
                ring: Mutex::new(Ring::new(RING.0, RING.1)),
                recovery: Mutex::new(Recovery::default()),
            }
        });
        let engine = Arc::new(Self {
            near,
            far: far.map(|far| Far::new(far, packing)),
            lines: states.collect(),
            names,
            flights: Flights::new(),
            options,
            clock,
            time: ServerTime::default(),
            floors: Floors::default(),
            holds: Holds::default(),
            pauses: Pauses::default(),
            gates: Gates::default(),
            near_writes: Mutex::new(()),
            counters: Counters::new(),
            monitor,
            behind: behind.map(Behind::new),
            node: NodeId(Stamp::random().0),
            tasks: Mutex::new(JoinSet::new()),
            work: Arc::default(),
        });
        engine.listen_and_beat().await?;
        if engine.behind.is_some() {
            engine.spawn(Arc::clone(&engine).write_behind());
        }
        if let Some(samples) = samples {
            engine.spawn(Arc::clone(&engine).watch(samples));
        }
        Ok(engine)
    }

    async fn listen_and_beat(self: &Arc<Self>) -> Result<()> {
        let Some(bus) = self.far.as_ref().and_then(Far::bus) else { return Ok(()) };
        let listener = if self.options.polling { None } else { Some(self.subscribe(bus).await?) };
        for line in 0..self.lines.len() {
            self.beat(line).await;
        }
        self.open_generations().await;
        if let Some(listener) = listener {
            self.spawn(Arc::clone(self).listen(listener));
        }
        for line in 0..self.lines.len() {
            self.spawn(Arc::clone(self).beat_loop(line, Home(Arc::clone(&self.work))));
        }
        Ok(())
    }

    /// Runs a background task until [`stop`](Self::stop). It holds the engine, so stopping is what ends both.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }

    /// Ends the background tasks.
    pub(crate) fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
