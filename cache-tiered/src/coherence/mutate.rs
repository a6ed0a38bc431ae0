//! Deliberate breakages of single rules, to show that model, simulation and harness would see them.
//!
//! Compiled in only with the feature `mutate`, which refuses a build without debug assertions. Without it every
//! question is answered `false` at compile time.

#[cfg(all(feature = "mutate", not(debug_assertions)))]
compile_error!("the feature `mutate` breaks coherence on purpose and can't be in a release build");

/// A rule that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Mutation {
    /// The lease is taken after the origin was read.
    LeaseAfterLoad = 1,
    /// A fill does not compare its token.
    NoCas,
    /// The acknowledgement of an own invalidation does not purge.
    NoPost,
    /// The acknowledgement purges only if its number was not yet applied.
    AckDedupesOnly,
    /// Near entries are served without trust.
    NoTrust,
    /// Trust is counted from the reply of a beat.
    TrustFromReply,
    /// A beat that finds a gap renews trust and ignores the gap.
    IgnoreGap,
    /// A gap moves the base but begins no epoch.
    GapNoEpoch,
    /// The epoch of a flight counts for nothing: it is joined in a later one, and installs into it.
    NoFlightEpoch,
    /// A flight is joined while there is no trust.
    JoinUntrusted,
    /// An invalidation does not detach the flight of its key.
    NoDetach,
    /// An invalidation detaches only flights, and only when the near store holds the key.
    NoPoison,
    /// A detached flight installs.
    DetachedInstalls,
    /// A detached flight does not purge its key when it ends.
    DetachedNoPurge,
    /// The value of a rejected fill is installed.
    InstallRejected,
    /// The value of a rejected fill is returned without looking at the far store again.
    ReturnRejected,
    /// A change publishes before it removes.
    PublishFirst,
    /// A sequence that went back is taken for a late reply.
    IgnoreReset,
    /// A beat that made the sequence begins no epoch.
    CreatedNoEpoch,
    /// A tag's bump is not remembered.
    NoTagBump,
    /// `s0` is read when the load ends.
    S0AfterLoad,
    /// Generations are not asked for entries older than the epoch.
    NoGenerations,
    /// The far store's floor is ignored.
    IgnoreFloor,
    /// A load under a hold is stored.
    HoldFills,
    /// A flight that met a hold stays joinable.
    HoldJoinable,
    /// A near hit reads trust after it read the entry.
    TrustAfterEntry,
    /// Entries are confirmed in the epoch that holds when the reply comes.
    ConfirmLate,
    /// The outage window is counted from the last serving.
    OutageFromServe,
    /// Trust is shown before the epoch that it belongs to.
    TrustBeforeEpoch,
    /// Acknowledged changes are not repeated on a new server.
    NoReplay,
    /// The end of a detached flight does not contest the current one.
    NoContest,
    /// Callers that joined a contested flight take whatever it brings.
    JoinContested,
    /// A value that is told but not installed leaves an older near entry in place.
    BareKeepsNear,
    /// A caller that joined a flight older than the bound while cut off is not told so.
    JoinUnmarked,
    /// A caller takes what it joined although a tag of it was bumped meanwhile.
    JoinBumped,
    /// A caller without trust takes what a flight that it joined found in the far store.
    JoinFound,
    /// A bump without a number is forgotten.
    UnnumberedIgnored,
    /// A change acknowledged by a server that was replaced meanwhile is not repeated on the new one.
    NoLateReplay,
    /// A near entry that proved itself is confirmed, then put again.
    PutConfirmed,
    /// A value loaded while cut off is put once its flight has settled.
    UnconfirmedUnfenced,
    /// A read-modify-write stores without comparing what it read.
    SwapBlind,
    /// A value loaded while cut off is served although a tag of it was bumped since.
    UnconfirmedBumped,
    /// A value loaded under a bar is told without another look at the far store.
    BarredTells,
    /// A load that stored nothing tells its own while a value that can't be served stays in the far store.
    OvertakenKeeps,
    /// A fallback is served whatever is known of its key.
    FallbackUnjudged,
    /// What a flight found past its time is served although the flight was detached.
    FallbackDetached,
    /// A refresh stores without comparing the stamp that it saw.
    RefreshBlind,
    /// A flight that ends without a value removes what the near store holds.
    EmptyDrops,
    /// A flight tells what it brought although a background write of its key is on its way.
    BehindUntold,
    /// A background write departs while an older one of its key flies.
    BehindReorders,
    /// A background write that a change makes void is sent all the same.
    BehindSurvives,
    /// A background write that a change makes void is not read while the change flies.
    BehindWithdrawn,
    /// A background write is read for as long as it flies.
    BehindOverstays,
    /// A value loaded while cut off counts as current as of the end of its load.
    UnconfirmedFromEnd,
    /// Numbers that a server gave count as applied on the next one.
    RunKeepsNumbers,
    /// A number that a server gave counts as applied on the next one if its acknowledgement comes late.
    LateNumbers,
    /// A strict write waits for the bound alone, and not for those who are cut off.
    SettlesEarly,
    /// A flight's entry is put once the flight has settled.
    PutSettled,
    /// A doubt looks at the near entry before it looks at the flight.
    DoubtNearFirst,
    /// A purge removes the near entry before it detaches the flight.
    PurgeRemovesFirst,
    /// An invalidation keeps the far store's value as a fallback.
    InvalidateSoftens,
    /// A put goes into the far store without number and message.
    PutUnnumbered,
    /// A process does not read its own background writes.
    WrittenUnread,
}

impl Mutation {
    /// Every mutation that the model shows.
    pub const ALL: &[Self] = &[
        Self::LeaseAfterLoad,
        Self::NoCas,
        Self::NoPost,
        Self::AckDedupesOnly,
        Self::NoTrust,
        Self::TrustFromReply,
        Self::IgnoreGap,
        Self::GapNoEpoch,
        Self::NoFlightEpoch,
        Self::JoinUntrusted,
        Self::NoDetach,
        Self::NoPoison,
        Self::DetachedInstalls,
        Self::DetachedNoPurge,
        Self::InstallRejected,
        Self::ReturnRejected,
        Self::PublishFirst,
        Self::IgnoreReset,
        Self::CreatedNoEpoch,
        Self::NoTagBump,
        Self::S0AfterLoad,
        Self::NoGenerations,
        Self::IgnoreFloor,
        Self::HoldFills,
        Self::HoldJoinable,
        Self::TrustAfterEntry,
        Self::ConfirmLate,
        Self::OutageFromServe,
        Self::TrustBeforeEpoch,
        Self::NoReplay,
        Self::NoContest,
        Self::JoinContested,
        Self::BareKeepsNear,
        Self::JoinUnmarked,
        Self::JoinBumped,
        Self::JoinFound,
        Self::UnnumberedIgnored,
        Self::NoLateReplay,
        Self::PutConfirmed,
        Self::UnconfirmedUnfenced,
        Self::SwapBlind,
        Self::UnconfirmedBumped,
        Self::BarredTells,
        Self::OvertakenKeeps,
        Self::FallbackUnjudged,
        Self::FallbackDetached,
        Self::RefreshBlind,
        Self::EmptyDrops,
        Self::WrittenUnread,
        Self::BehindUntold,
        Self::BehindReorders,
        Self::BehindSurvives,
        Self::BehindWithdrawn,
        Self::BehindOverstays,
        Self::UnconfirmedFromEnd,
        Self::RunKeepsNumbers,
        Self::LateNumbers,
        Self::SettlesEarly,
    ];

    /// Those of two threads between two instructions, in steps that the model takes as one: the interleavings show
    /// them.
    pub const ORDER: &[Self] = &[Self::PutSettled, Self::DoubtNearFirst, Self::PurgeRemovesFirst];

    /// Those of operations that the model does not have: the simulation shows them.
    pub const PLAYED: &[Self] = &[Self::InvalidateSoftens, Self::PutUnnumbered];
}

#[cfg(feature = "mutate")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutation;

    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    /// Breaks one rule in this process, or none.
    pub fn set(mutation: Option<Mutation>) {
        ACTIVE.store(mutation.map_or(0, |m| m as u8), Ordering::SeqCst);
    }

    /// Whether `mutation` is active.
    #[must_use]
    pub fn broken(mutation: Mutation) -> bool {
        ACTIVE.load(Ordering::Relaxed) == mutation as u8
    }
}

#[cfg(not(feature = "mutate"))]
mod switch {
    use super::Mutation;

    /// Never: rules can't be broken in this build.
    #[must_use]
    #[inline]
    pub const fn broken(_: Mutation) -> bool {
        false
    }
}

pub use switch::*;
