//! From registers and a copied stack to return addresses, and whether the thread's root was reached.
//!
//! In: the mappings of a process, registers, stack bytes. Out: frames, leaf first, and a [`crate::profile::StackEnd`].
//! It reads no memory but the copy, and no file but the sections `target` has read.
//!
//! [`rows`] finds the row of `.eh_frame` for an address, [`evaluate`] computes the caller's registers by it, [`copy`]
//! walks until the root.
#![forbid(unsafe_code)]

mod copy;
mod evaluate;
mod rows;

pub use copy::{CopyUnwinder, StackCopy};
pub use evaluate::{REGISTER_COUNT, Registers};
pub use rows::Rows;
