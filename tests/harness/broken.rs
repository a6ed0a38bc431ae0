//! The broken rules that histories show, each with the fault under which it shows best. The model finds the others.

use crate::faults::Fault;
use crate::topology::Layout;

/// Rule and fault, in a layout.
pub(crate) const fn shown(layout: Layout) -> &'static [(&'static str, Fault)] {
    match layout {
        Layout::Standalone => ALONE,
        Layout::Sentinel | Layout::Cluster => MANY,
    }
}

/// Where a proxy stands before each process.
const ALONE: &[(&str, Fault)] = &[
    ("NoCas", Fault::None),
    ("LeaseAfterLoad", Fault::None),
    ("NoPost", Fault::None),
    ("NoDetach", Fault::LateAnswers),
    ("DetachedInstalls", Fault::LateAnswers),
    ("NoTrust", Fault::StallReplies),
    ("IgnoreGap", Fault::DropPushes),
    ("GapNoEpoch", Fault::DropPushes),
];

/// Where none does: processes cut themselves off.
const MANY: &[(&str, Fault)] = &[
    ("NoCas", Fault::None),
    ("LeaseAfterLoad", Fault::None),
    ("NoPost", Fault::None),
    ("NoDetach", Fault::LateAnswers),
    ("DetachedInstalls", Fault::LateAnswers),
    ("NoTrust", Fault::Silence),
    ("IgnoreGap", Fault::Deafen),
    ("GapNoEpoch", Fault::Deafen),
];
