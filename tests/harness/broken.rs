//! The broken rules that histories show, each with the fault under which it shows best. The model finds the others.

use crate::faults::Fault;

/// Rule and fault.
pub(crate) const SHOWN: &[(&str, Fault)] = &[
    ("NoCas", Fault::None),
    ("LeaseAfterLoad", Fault::None),
    ("NoPost", Fault::None),
    ("NoDetach", Fault::None),
    ("DetachedInstalls", Fault::None),
    ("NoTrust", Fault::StallReplies),
    ("IgnoreGap", Fault::DropPushes),
    ("GapNoEpoch", Fault::DropPushes),
];
