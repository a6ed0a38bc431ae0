//! Frames that the cases put into a store, and how they read what is there.

use bytes::Bytes;

use crate::testkit::Context;
use crate::testkit::context::LONG;
use crate::{Clock, Frame, Header, Stamp, State, Tags, envelope::flag};

/// An hour in ms: far beyond any difference between the clocks of a test and of its server.
const HOUR: u64 = 3_600_000;

/// Server ms that have long passed.
pub(super) fn past() -> u64 {
    Clock::system().unix_ms() - HOUR
}

/// Server ms that no case lives to see.
pub(super) fn future() -> u64 {
    Clock::system().unix_ms() + HOUR
}

/// The frame of a fresh value.
pub(super) fn value(stamp: Stamp, payload: &str) -> Frame {
    let header = Header { stamp, soft_exp: future(), created: past(), s0: 7, load_ms: 3, ..Header::value() };
    let tags = Tags::new(vec![5, 9]).expect("two tags");
    Frame { header, tags, payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

/// The frame of a fresh "nothing".
pub(super) fn negative(stamp: Stamp) -> Frame {
    let mut frame = value(stamp, "");
    frame.header.state = State::Negative;
    frame.header.flags |= flag::NEGATIVE;
    frame
}

/// `frame` in state `S` with `token`'s lease until `deadline`.
pub(super) fn stale(mut frame: Frame, token: Stamp, deadline: u64) -> Frame {
    frame.header = Header { state: State::Stale, stamp: token, soft_exp: deadline, ..frame.header };
    frame
}

/// `frame` with freshness ended at `soft_exp`.
pub(super) fn until(mut frame: Frame, soft_exp: u64) -> Frame {
    frame.header.soft_exp = soft_exp;
    frame
}

/// Bytes that no version of this crate wrote as a frame, some of them nearly.
pub(super) fn foreign() -> Vec<Bytes> {
    let mut almost = value(Stamp(1), "v").to_bytes("k").to_vec();
    let mut all = vec![Bytes::new(), Bytes::from_static(b"x"), Bytes::from_static(b"{\"user\":1}")];
    for state in *b"LSTVN" {
        // the state's letter where the state stands, but no magic
        let mut bytes = vec![b'.'; 80];
        bytes[2] = state;
        bytes[8..16].copy_from_slice(&TOKEN.to_bytes());
        all.push(Bytes::from(bytes));
    }
    almost[1] = crate::envelope::FORMAT + 1;
    all.push(Bytes::from(almost));
    all.push(Bytes::copy_from_slice(&Frame::lease(TOKEN, future())[..20]));
    all
}

pub(super) const TOKEN: Stamp = Stamp(0x1122_3344_5566_7788);
pub(super) const RIVAL: Stamp = Stamp(0xff00_0000_0000_0001);

impl Context {
    /// Puts `frame` under `key` by the service alone.
    pub(super) async fn put(&self, key: &str, frame: &Frame) {
        self.set(key, frame.to_bytes(key), LONG).await;
    }

    /// The frame under `key`, whole.
    pub(super) async fn frame(&self, key: &str) -> Option<Frame> {
        let bytes = self.get(key).await?;
        Some(Frame::parse(key, &bytes).expect("the key holds a whole frame"))
    }

    /// Fills `key` as a loader with `token` does, and says whether it was stored.
    pub(super) async fn fill(&self, key: &str, token: Stamp, payload: &str) -> bool {
        let frame = value(token, payload).to_bytes(key);
        self.leases().fill(key, token, frame, LONG, &self.line().channel).await.expect("fill")
    }

    /// The payload under `key`, if it is a fresh value.
    pub(super) async fn payload(&self, key: &str) -> Option<Bytes> {
        let frame = self.frame(key).await?;
        (frame.header.state == State::Value).then_some(frame.payload)
    }
}
