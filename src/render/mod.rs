//! Formats that perfprof only writes. In: a `&Profile`. Out: text or bytes, the same for the same profile, with every name
//! escaped for where it stands. Formats that are also read back live in [`crate::store`].
#![forbid(unsafe_code)]

pub mod flamegraph;
pub mod speedscope;
