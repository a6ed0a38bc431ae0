//! The operations that are counted apart.

macro_rules! ops {
    ($($op:ident $text:literal,)*) => {
        /// An operation of [`CacheService`](crate::CacheService) or of one of its capabilities.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Op {
            $(
                #[doc = concat!("`", $text, "`.")]
                $op,
            )*
        }

        impl Op {
            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$op),*];

            /// The method's name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$op => $text,)*
                }
            }
        }
    };
}

ops! {
    Get "get",
    Set "set",
    Delete "delete",
    Exists "exists",
    GetMany "get_many",
    SetMany "set_many",
    DeleteMany "delete_many",
    Read "read",
    ReadMany "read_many",
    Peek "peek",
    Lease "lease",
    Wait "wait",
    Renew "renew",
    Fill "fill",
    Refresh "refresh",
    Touch "touch",
    Release "release",
    Rest "rest",
    Discard "discard",
    LeaseMany "lease_many",
    RenewMany "renew_many",
    FillMany "fill_many",
    ReleaseMany "release_many",
    Change "change",
    Bump "bump",
    Generations "generations",
    Beat "beat",
    Subscribe "subscribe",
    SetIfAbsent "set_if_absent",
    CompareAndSet "compare_and_set",
    CompareAndDelete "compare_and_delete",
    Add "add",
    Keys "keys",
    Clear "clear",
}
