//! From registers and stack memory to return addresses, and whether the thread's root was reached.
//!
//! In: the mappings of a process, registers, stack bytes, and the call frame information of the mapped files, compiled
//! into tables. Out: frames, leaf first, and a [`crate::profile::StackEnd`]. It reads no memory but the copy, and no
//! file but the sections `target` has read.
#![forbid(unsafe_code)]

mod cfi;
mod copy;
pub mod row;
pub mod table;
mod tables;
mod walk;

pub use cfi::{Gap, Gaps};
pub use copy::StackCopy;
pub use table::UnwindTable;
pub use tables::Tables;
pub use walk::{Registers, StackMemory, Unread, walk};
