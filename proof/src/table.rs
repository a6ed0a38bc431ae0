//! The runs: which are clean, which have to fail, and where each broken rule shows.

use cache_core::envelope;
use cache_tiered::coherence::mutate::Mutation;

use crate::config::{Config, Events, Kind, Warm};

const NONE: Events = Config::BASE.events;

/// A run with one reader and a writer elsewhere.
const SMALL: Config = Config { ticks: 1, bound: 1, checked: 1, gets: [0, 2, 0], beats: [0, 1, 0], ..Config::BASE };

const TWO_WRITES: Config =
    Config { name: "two-writes", gets: [0, 3, 0], writes: &[(0, Kind::Delete), (0, Kind::Delete)], ..SMALL };

/// Three gets and two writes at one moment: everything is trusted, only the order counts.
const RACES: Config = Config { name: "races", ticks: 0, beats: [0; 3], ..TWO_WRITES };

/// A near entry that is there, current, and can't be served until a beat.
const LAPSED: Config = Config { name: "lapsed", warm: Warm::Near, gets: [0, 2, 0], ..TWO_WRITES };

const BASE: Config = Config { name: "base", ticks: 2, gets: [0, 3, 0], ..SMALL };

const READS_OWN: Config =
    Config { name: "reads-own", bound: 2, checked: 2, gets: [0, 3, 0], writes: &[(1, Kind::Delete)], ..SMALL };

const TAGS: Config = Config { name: "tags", ticks: 2, tag: Some(7), writes: &[(0, Kind::Tag)], ..SMALL };

const OWN_TAG_UNNUMBERED: Config = Config {
    name: "own-tag-unnumbered",
    tag: Some(7),
    writes: &[(1, Kind::Tag)],
    events: Events { full: 1, ..NONE },
    ..SMALL
};

const CUT_OFF: Config = Config {
    name: "cut-off",
    ticks: 3,
    outage: 2,
    writes: &[(0, Kind::Delete)],
    events: Events { deaf: 1, ..NONE },
    ..SMALL
};

const STRICT_OUTAGE: Config = Config { name: "cut-off-strict", outage: 0, ..CUT_OFF };

const CUT_OFF_OWN_TAG: Config = Config { name: "cut-off-own-tag", tag: Some(7), writes: &[(1, Kind::Tag)], ..CUT_OFF };

const HOLD_CRASH: Config = Config {
    name: "hold-crash",
    warm: Warm::Far,
    writes: &[(0, Kind::Crash)],
    events: Events { expire: 1, ..NONE },
    ..SMALL
};

/// A bar that is lost before its writer commits.
const BAR_LOST: Config = Config {
    name: "bar-lost",
    gets: [1, 2, 0],
    writes: &[(0, Kind::Guard)],
    events: Events { evict: 1, ..NONE },
    ..RACES
};

/// A strict write, and a process that is cut off.
const STRICT_CUT_OFF: Config = Config {
    name: "strict-cut-off",
    outage: 1,
    warm: Warm::Near,
    writes: &[(0, Kind::Strict)],
    gets: [0, 1, 0],
    beats: [0, 1, 0],
    ..CUT_OFF
};

const STRICT_WRITE: Config = Config { name: "strict-write", writes: &[(0, Kind::Strict)], ..SMALL };

const UPDATED: Config =
    Config { name: "updated", warm: Warm::Far, writes: &[(0, Kind::Update), (1, Kind::Delete)], ..SMALL };

const FAILOVER: Config =
    Config { name: "failover", gets: [0, 1, 0], beats: [1, 1, 0], events: Events { failover: 1, ..NONE }, ..SMALL };

const FINE: Config = Config { name: "fine", warm: Warm::Near, fine: true, ..SMALL };

const FINE_OTHER: Config = Config {
    name: "fine-revalidate",
    warm: Warm::Near,
    fine: true,
    bound: 2,
    checked: 2,
    writes: &[(1, Kind::Delete), (0, Kind::Other)],
    ..SMALL
};

const FINE_GAPS: Config = Config {
    name: "fine-gaps",
    warm: Warm::Near,
    fine: true,
    beats: [0, 2, 0],
    writes: &[(0, Kind::Delete), (0, Kind::Other)],
    ..SMALL
};

const LOWER: Config =
    Config { name: "sequence-lower", first: 3, remade: Some(1), events: Events { seq_lost: 1, ..NONE }, ..SMALL };

const EQUAL: Config = Config { name: "sequence-equal", first: 1, ..LOWER };

const JOIN_FOUND: Config =
    Config { name: "tags-cut-off", bound: 2, checked: 2, warm: Warm::Far, events: Events { deaf: 1, ..NONE }, ..TAGS };

const LEASES: Config = Config { name: "lease-expires", events: Events { expire: 2, ..NONE }, ..SMALL };

/// A value whose time is over, and then is not.
const CLOCK_SET: Config = Config {
    name: "clock-set",
    gets: [1, 2, 0],
    writes: &[(0, Kind::Delete)],
    events: Events { expire: 1, age: 1, clock: 1, ..NONE },
    ..RACES
};

const FALLBACK: Config = Config {
    name: "fallback",
    warm: Warm::Far,
    fail_safe: true,
    events: Events { age: 1, origin: 1, ..NONE },
    ..SMALL
};

const FALLBACK_OWN: Config = Config { name: "fallback-own", writes: &[(1, Kind::Delete)], ..FALLBACK };

const FALLBACK_NEAR: Config =
    Config { name: "fallback-near", warm: Warm::Near, events: Events { age: 2, origin: 1, ..NONE }, ..FALLBACK };

const FALLBACK_TAGS: Config =
    Config { name: "fallback-tags", tag: Some(7), ticks: 2, writes: &[(0, Kind::Tag)], ..FALLBACK };

const REFRESH: Config =
    Config { name: "refresh", warm: Warm::Near, events: Events { refresh: 1, origin: 1, ..NONE }, ..SMALL };

const REFRESH_BOTH: Config = Config {
    name: "refresh-both",
    gets: [1, 1, 0],
    writes: &[(0, Kind::Delete)],
    events: Events { refresh: 1, near_evict: 1, ..NONE },
    warm: Warm::Near,
    ..RACES
};

const BEHIND: Config = Config {
    name: "behind",
    warm: Warm::Near,
    gets: [1, 2, 0],
    writes: &[(1, Kind::Behind), (1, Kind::Behind)],
    ..SMALL
};

const BEHIND_VOID: Config =
    Config { name: "behind-void", gets: [0, 2, 0], writes: &[(1, Kind::Behind), (1, Kind::Delete)], ..BEHIND };

/// A value that was stored and changed by another process before the one that stores it knows that it was.
const BEHIND_LATE: Config = Config {
    name: "behind-late",
    ticks: 2,
    gets: [0, 2, 0],
    writes: &[(1, Kind::Behind), (0, Kind::Delete)],
    ..BEHIND
};

/// Loads while cut off that take as long as the window is.
const CUT_OFF_SLOW: Config = Config { name: "cut-off-slow", ticks: 4, ..CUT_OFF };

/// Numbers that the old server gave, with a gap below them, and the new one gives again.
const FAILOVER_NUMBERS: Config =
    Config { name: "failover-numbers", warm: Warm::Near, gets: [0, 2, 0], beats: [0, 2, 0], gapped: true, ..FAILOVER };

/// A change that the old server acknowledges when the new one is known already.
const FAILOVER_LATE: Config =
    Config { name: "failover-late", gapped: false, writes: &[(1, Kind::Other), (0, Kind::Delete)], ..FAILOVER_NUMBERS };

/// The clean runs of every kind.
pub const QUICK: &[Config] = &[
    BASE,
    RACES,
    LAPSED,
    Config { name: "bound-2", ticks: 3, bound: 2, checked: 2, ..SMALL },
    Config { name: "both-read", gets: [1, 1, 0], beats: [0, 1, 0], ..SMALL },
    READS_OWN,
    Config { name: "other-key", writes: &[(0, Kind::Delete), (0, Kind::Other)], ..SMALL },
    LEASES,
    Config { name: "evicted", events: Events { evict: 1, near_evict: 1, ..NONE }, ..SMALL },
    Config { name: "soft", writes: &[(0, Kind::Soften)], events: Events { expire: 1, ..NONE }, ..SMALL },
    HOLD_CRASH,
    Config {
        name: "guarded",
        warm: Warm::Far,
        writes: &[(0, Kind::Guard)],
        events: Events { expire: 1, ..NONE },
        ..SMALL
    },
    STRICT_WRITE,
    BAR_LOST,
    UPDATED,
    TAGS,
    Config { name: "tags-lost", events: Events { tags_lost: 1, ..NONE }, ..TAGS },
    Config { name: "tags-and-gap", writes: &[(1, Kind::Tag), (0, Kind::Other)], ..TAGS },
    Config { name: "clear", tag: Some(envelope::ALL), ..TAGS },
    OWN_TAG_UNNUMBERED,
    JOIN_FOUND,
    Config { name: "unnumbered", events: Events { full: 1, ..NONE }, ..SMALL },
    Config { name: "restart", events: Events { restart: 1, ..NONE }, gets: [0, 1, 0], ..SMALL },
    FAILOVER,
    FAILOVER_NUMBERS,
    LOWER,
    CUT_OFF,
    STRICT_OUTAGE,
    STRICT_CUT_OFF,
    CUT_OFF_OWN_TAG,
    Config { name: "calls-fail", gets: [0, 1, 0], events: Events { fail: 1, ..NONE }, ..SMALL },
    FINE,
    CLOCK_SET,
    FALLBACK,
    FALLBACK_OWN,
    FALLBACK_NEAR,
    FALLBACK_TAGS,
    Config {
        name: "fallback-soft",
        ticks: 0,
        beats: [0; 3],
        writes: &[(1, Kind::Soften), (0, Kind::Delete)],
        events: Events { origin: 1, ..NONE },
        ..FALLBACK
    },
    BEHIND,
    BEHIND_VOID,
    BEHIND_LATE,
    CUT_OFF_SLOW,
    REFRESH,
    REFRESH_BOTH,
    Config { name: "refresh-own", writes: &[(1, Kind::Delete)], ..REFRESH },
    Config { name: "refresh-tags", tag: Some(7), writes: &[(0, Kind::Tag)], ..REFRESH },
];

/// Larger clean runs, for the night.
pub const NIGHTLY: &[Config] = &[
    Config {
        name: "updated-and-tags",
        tag: Some(7),
        warm: Warm::Near,
        writes: &[(0, Kind::Update), (1, Kind::Tag)],
        ..SMALL
    },
    TWO_WRITES,
    Config { name: "two-writers", gets: [0, 2, 0], writes: &[(0, Kind::Delete), (1, Kind::Delete)], ..SMALL },
    Config { name: "two-writes-2", ticks: 2, ..TWO_WRITES },
    Config { name: "three-nodes", nodes: 3, gets: [0, 1, 1], beats: [0, 1, 0], ..SMALL },
    Config { name: "long", ticks: 4, bound: 2, checked: 2, gets: [0, 3, 0], beats: [0, 2, 0], ..SMALL },
    Config { name: "own-and-other", gets: [0, 3, 0], writes: &[(1, Kind::Delete), (0, Kind::Delete)], ..SMALL },
    Config {
        name: "guarded-3",
        gets: [0, 3, 0],
        writes: &[(0, Kind::Guard)],
        events: Events { expire: 1, ..NONE },
        ..SMALL
    },
    Config {
        name: "tags-two",
        writes: &[(1, Kind::Tag), (0, Kind::Tag)],
        events: Events { full: 2, ..NONE },
        ticks: 1,
        ..TAGS
    },
    Config { name: "tags-all-lost", events: Events { tags_lost: 1, seq_lost: 1, ..NONE }, ..TAGS },
    FAILOVER_LATE,
    Config { name: "failover-2", gets: [0, 2, 0], ..FAILOVER },
    Config { name: "cut-off-3", gets: [0, 3, 0], beats: [0, 2, 0], ..CUT_OFF },
    Config { name: "calls-fail-2", gets: [0, 2, 0], beats: [1, 1, 0], events: Events { fail: 1, ..NONE }, ..SMALL },
    FINE_OTHER,
    FINE_GAPS,
    Config { name: "fine-cold", ticks: 2, warm: Warm::Cold, ..FINE },
];

/// Runs that have to fail, with the property that has to be violated: the bound that is checked is one tick shorter
/// than the bound that is kept, or the promise is more than a failover leaves of it.
pub const VACUITY: &[(Config, &str)] = &[
    (Config { name: "vacuity-bound", bound: 2, checked: 1, ticks: 2, ..SMALL }, "P3 bound"),
    (Config { name: "vacuity-outage", checked: 0, ..CUT_OFF }, "P3 bound"),
    (Config { name: "vacuity-tags", bound: 2, checked: 1, ..TAGS }, "P5 tags"),
    (Config { name: "failover-full-promise", full_promise: true, ..FAILOVER }, "P1 far"),
];

/// Where a broken rule shows.
#[must_use]
pub const fn shows(mutation: Mutation) -> Config {
    match mutation {
        Mutation::NoPost | Mutation::NoDetach => READS_OWN,
        Mutation::AckDedupesOnly => {
            Config { name: "own-sequence-lower", warm: Warm::Near, writes: &[(1, Kind::Delete)], ..LOWER }
        }
        Mutation::NoTrust
        | Mutation::TrustFromReply
        | Mutation::IgnoreGap
        | Mutation::GapNoEpoch
        | Mutation::NoPoison
        | Mutation::DetachedInstalls
        | Mutation::LeaseAfterLoad
        | Mutation::NoCas => SMALL,
        Mutation::JoinUntrusted => STRICT_OUTAGE,
        Mutation::DetachedNoPurge
        | Mutation::InstallRejected
        | Mutation::ReturnRejected
        | Mutation::NoContest
        | Mutation::JoinContested => RACES,
        Mutation::BareKeepsNear => LAPSED,
        Mutation::PublishFirst => BASE,
        Mutation::IgnoreReset => LOWER,
        Mutation::CreatedNoEpoch => EQUAL,
        Mutation::NoTagBump | Mutation::S0AfterLoad | Mutation::NoGenerations | Mutation::JoinBumped => TAGS,
        Mutation::IgnoreFloor => Config { name: "tags-lost", events: Events { tags_lost: 1, ..NONE }, ..TAGS },
        Mutation::UnnumberedIgnored => OWN_TAG_UNNUMBERED,
        Mutation::JoinFound => JOIN_FOUND,
        Mutation::SwapBlind => UPDATED,
        Mutation::HoldFills => HOLD_CRASH,
        Mutation::HoldJoinable => STRICT_WRITE,
        Mutation::OutageFromServe => Config { name: "cut-off-warm", warm: Warm::Near, ..CUT_OFF },
        Mutation::JoinUnmarked => CUT_OFF,
        Mutation::UnconfirmedUnfenced => Config { name: "cut-off-own", writes: &[(1, Kind::Delete)], ..CUT_OFF },
        Mutation::BarredTells => BAR_LOST,
        Mutation::UnconfirmedBumped => CUT_OFF_OWN_TAG,
        Mutation::OvertakenKeeps => CLOCK_SET,
        Mutation::FallbackUnjudged => FALLBACK_NEAR,
        Mutation::FallbackDetached => FALLBACK_OWN,
        Mutation::WrittenUnread | Mutation::BehindReorders => BEHIND,
        Mutation::BehindUntold | Mutation::BehindSurvives | Mutation::BehindWithdrawn => BEHIND_VOID,
        Mutation::BehindOverstays => BEHIND_LATE,
        Mutation::UnconfirmedFromEnd => CUT_OFF_SLOW,
        Mutation::RunKeepsNumbers => FAILOVER_NUMBERS,
        Mutation::LateNumbers => FAILOVER_LATE,
        Mutation::SettlesEarly => STRICT_CUT_OFF,
        Mutation::RefreshBlind | Mutation::EmptyDrops => REFRESH,
        Mutation::NoReplay | Mutation::NoLateReplay => FAILOVER,
        Mutation::TrustAfterEntry | Mutation::TrustBeforeEpoch => FINE,
        Mutation::PutConfirmed => FINE_OTHER,
        Mutation::ConfirmLate => FINE_GAPS,
        _ => SMALL,
    }
}
