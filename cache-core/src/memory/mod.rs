//! The reference backend, in process memory. (Being written.)
