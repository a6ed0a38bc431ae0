//! The decisions of a request: what a near entry is good for, whom a caller may join, what a refused fill means.

use std::time::Duration;

use cache_core::{Header, Stamp, State, Tick};

use super::UNCONFIRMED;
use super::mutate::{Mutation, broken};

/// What a near entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Worth {
    /// Serve it.
    Fresh,
    /// Serve it marked: the process is cut off, and the outage window is open.
    Unconfirmed,
    /// Ask the far store whether it still holds this stamp.
    Suspect,
    /// Nothing.
    Nothing,
}

/// Whether a near entry may be served as fresh.
///
/// The arguments are read in the order `trust`, entry, `current` (its epoch is the line's and no tag of it was
/// bumped), `now`.
#[must_use]
#[inline]
pub fn is_fresh(trust: Tick, current: bool, now: Tick) -> bool {
    current && (now < trust || broken(Mutation::NoTrust))
}

/// What a near entry is good for that may not be served as fresh.
///
/// `outage` is how long it may be served while the process is cut off, `None` while it is not. It counts from the end
/// of trust; for an entry that was loaded while cut off, from the load. Such an entry belongs to no epoch and is never
/// `current`; it is served while it surely `stands`: no tag of it was bumped since its load began.
#[must_use]
pub fn doubtful(
    epoch: u64,
    confirmed: Tick,
    trust: Tick,
    current: bool,
    stands: bool,
    now: Tick,
    outage: Option<Duration>,
) -> Worth {
    let unconfirmed = epoch == UNCONFIRMED;
    if let Some(outage) = outage
        && (current || unconfirmed && (stands || broken(Mutation::UnconfirmedBumped)))
    {
        let since = if unconfirmed { confirmed } else { trust };
        if now < since + outage {
            return Worth::Unconfirmed;
        }
    }
    // an entry that was never installed, or never in the far store, has no stamp to ask about
    if epoch != 0 && !unconfirmed && !current { Worth::Suspect } else { Worth::Nothing }
}

/// How long after a change was acknowledged any process may serve what was before it: those that hear the far store for
/// the bound, those that are cut off for the outage window more.
#[must_use]
pub fn settles_after(bound: Duration, outage: Duration) -> Duration {
    if broken(Mutation::SettlesEarly) { bound } else { bound + outage }
}

/// Whether an entry past its time may stand in for a load that failed or is late. Its time apart, the rule is that of a
/// near hit: what was invalidated stands in for nothing.
#[must_use]
pub fn stands_in(
    epoch: u64,
    confirmed: Tick,
    trust: Tick,
    current: bool,
    stands: bool,
    now: Tick,
    outage: Option<Duration>,
) -> bool {
    let worth = || doubtful(epoch, confirmed, trust, current, stands, now, outage);
    is_fresh(trust, current, now) || worth() == Worth::Unconfirmed || broken(Mutation::FallbackUnjudged)
}

/// Whether what a flight found past its time is current: its epoch is the line's (`same`), it was not detached before it
/// ended (`linked`), and no tag of what it found was bumped (`stands`).
#[must_use]
pub fn found_current(same: bool, linked: bool, stands: bool) -> bool {
    same && (linked || broken(Mutation::FallbackDetached)) && stands
}

/// Whether what the near store holds goes when a flight ends: not if it was current, whether or not it brought a value.
#[must_use]
pub fn ends_with_purge(was_current: bool, brought: bool) -> bool {
    !was_current && !broken(Mutation::DetachedNoPurge) || !brought && broken(Mutation::EmptyDrops)
}

/// What a refresh of a near entry does, by what the far store holds as it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refreshing {
    /// The same value: loads, and stores over this stamp alone.
    Load,
    /// Somebody else's: takes that.
    Take,
    /// No value: it was invalidated or is being loaded. The entry is left to whoever knows.
    Leave,
}

impl Refreshing {
    /// Decides by the header under the key, `None` if there is no frame of ours, and the stamp of the near entry.
    #[must_use]
    pub fn by(header: Option<&Header>, seen: Stamp) -> Self {
        match header {
            Some(Header { state: State::Value, stamp, .. }) if *stamp == seen => Self::Load,
            Some(Header { state: State::Value | State::Negative, .. }) => Self::Take,
            _ => Self::Leave,
        }
    }
}

/// On what footing a caller joins a flight of its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Joining {
    /// With trust: whatever changed more than the bound ago was applied, and has detached its flights.
    Trusted,
    /// Without, but the flight began within the bound: what it loads from the origin is as good. What it finds in the
    /// far store is not: bumps of its tags may be unheard.
    Recent,
    /// Cut off, within the outage window: told as unconfirmed.
    Window,
}

/// The footing on which a caller that comes at `now` may join a flight that began at `begun`, if it may.
#[must_use]
pub fn may_join(trust: Tick, now: Tick, begun: Tick, bound: Duration, window: Duration) -> Option<Joining> {
    if now < trust {
        Some(Joining::Trusted)
    } else if now < begun + bound {
        Some(Joining::Recent)
    } else if now < begun + window {
        Some(Joining::Window)
    } else {
        None
    }
}

/// What a caller does with the value of a flight that it joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Take {
    /// Takes it.
    Plain,
    /// Takes it, marked as unconfirmed.
    Unconfirmed,
    /// Boards again.
    Again,
}

/// Decides what a joined flight's value is good for: whether it was `loaded` from the origin by the flight, whether its
/// tags still stand as far as this process knows, and whether the flight was contested when it was joined and did not
/// settle.
#[must_use]
pub fn take_joined(joining: Joining, loaded: bool, stands: bool, lost: bool) -> Take {
    // a bump detaches no flight: which tags a value carries is known when it is there
    let bumped = !stands && !broken(Mutation::JoinBumped);
    match joining {
        _ if lost || bumped => Take::Again,
        Joining::Recent if !loaded && !broken(Mutation::JoinFound) => Take::Again,
        Joining::Window if !broken(Mutation::JoinUnmarked) => Take::Unconfirmed,
        Joining::Trusted | Joining::Recent | Joining::Window => Take::Plain,
    }
}

/// Why a key is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// This process changed it.
    Own,
    /// A message says that another process did.
    Message,
}

impl Cause {
    /// Whether the purge detaches the flight of the key.
    #[must_use]
    pub fn detaches(self) -> bool {
        !match self {
            Self::Own => broken(Mutation::NoDetach),
            Self::Message => broken(Mutation::NoPoison) || broken(Mutation::NoDetach),
        }
    }
}

/// Whether the acknowledgement of an own change purges its keys: always, also if the message came first.
#[must_use]
pub fn ack_purges(known: bool) -> bool {
    !(broken(Mutation::NoPost) || broken(Mutation::AckDedupesOnly) && known)
}

/// What a loader does that stored nothing, by what the far store holds now, if that can't be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overtaken {
    /// Nobody is about to fill an older value: its own may be returned, not stored.
    Alone,
    /// Another loader holds the lease and may have read an older row: wait for it, then look again.
    Wait(Stamp),
    /// A value that can't be served now might be later, if the server's clock is set: it is removed before its own is
    /// told, then it looks again.
    Discard,
}

impl Overtaken {
    /// Decides by the header under the key, `None` if there is no frame of ours.
    #[must_use]
    pub fn by(header: Option<&Header>) -> Self {
        match header {
            Some(header) if matches!(header.state, State::Lease | State::Stale) && header.stamp != Stamp::NONE => {
                Self::Wait(header.stamp)
            }
            Some(header)
                if matches!(header.state, State::Value | State::Negative) && !broken(Mutation::OvertakenKeeps) =>
            {
                Self::Discard
            }
            // a tombstone, or a stale value that nobody replaces: loads that come later read later
            _ => Self::Alone,
        }
    }
}
