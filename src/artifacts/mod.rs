//! Where artifacts stand on disk, and how they get there without ever being half written or lost.
//!
//! In: bytes made by the reading side. Out: files under the artifact root, the documents at its top, exports in
//! `diagnostics/`, manifests in `manifests/`. Several services accumulate in the same documents; a lock keeps two
//! recordings that end at once from overwriting each other. Nothing here knows what a sample is.
#![forbid(unsafe_code)]

mod atomic;
mod baseline;
mod capacity;
mod comparison;
mod document;
mod error;
mod inside;
mod load_tests;
mod name;
mod publish;
mod report;
mod root;
mod with_capacity;

pub use atomic::{write_atomic, write_atomic_with};
pub use baseline::publish_baseline;
pub use capacity::{CapacityOutput, publish_capacity};
pub use comparison::{ComparisonOutput, publish_comparison};
pub use error::ArtifactError;
pub use inside::{InsideError, open_inside, read_inside, read_named};
pub use load_tests::{LOAD_TESTS, publish_load_tests};
pub use name::slug;
pub use publish::{Document, Export, Extra, Published, basic_stamp, publish};
pub use report::section;
pub use root::{ArtifactRoot, Locked};
pub use with_capacity::with_capacity;
