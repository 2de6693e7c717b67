//! From registers and a copied stack to return addresses, and whether the thread's root was reached.
//!
//! In: the mappings of a process, registers, stack bytes. Out: frames, leaf first, and a [`crate::profile::StackEnd`].
//! It reads no memory but the copy, and no file but the sections `target` has read.
//!
//! There are two ways. Over a copied stack, `rows` finds the row of `.eh_frame` for an address, `evaluate` computes the
//! caller's registers by it with every rule DWARF has, and `copy` walks until the root. Inside the kernel a walker has
//! only what fits: `cfi` compiles the same information into a [`table`] of 4-byte rows, and [`walk`] is the twin of
//! that walker, for tests.
#![forbid(unsafe_code)]

mod cfi;
mod copy;
mod evaluate;
pub mod row;
mod rows;
pub mod table;
mod tables;
mod upload;
pub mod walk;

pub use cfi::{Gap, Gaps};
pub use copy::{CopyUnwinder, StackCopy, skips_callers};
pub use evaluate::Registers;
pub use rows::Rows;
pub use table::UnwindTable;
pub use tables::Tables;
pub use upload::{Eviction, NotUploaded, UploadFigures, Uploader};
