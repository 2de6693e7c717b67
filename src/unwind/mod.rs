//! From registers and a copied stack to return addresses, and whether the thread's root was reached.
//!
//! In: the mappings of a process, registers, stack bytes. Out: frames, leaf first, and a [`crate::profile::StackEnd`].
//! It reads no memory but the copy, and no file but the sections `target` has read.
#![forbid(unsafe_code)]

mod cfi;
mod copy;
mod heap;
mod root;
pub mod row;
pub mod table;
mod upload;

pub use cfi::{Gap, Gaps};
pub use copy::{CopyUnwinder, StackCopy};
pub use root::RootJudge;
pub use table::UnwindTable;
pub use upload::{Eviction, UploadFigures, Uploader};
