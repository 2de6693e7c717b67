//! A comparison on disk: pictures in `diagnostics/`, the documents at the root.
//!
//! In: what the compare room made. Out: files. Documents are of one comparison, the newest; pictures carry its time.

use std::path::PathBuf;

use serde_json::Value;

use super::publish::{Export, basic_stamp, write_export};
use super::{ArtifactError, ArtifactRoot, Published, slug};

/// Everything about one comparison that is written beside its text.
#[derive(Debug)]
pub struct ComparisonOutput<'a> {
    pub service: &'a str,
    /// Differential flame graphs: `before` or `after`, and the SVG.
    pub pictures: Vec<(&'static str, String)>,
    /// File name and content.
    pub documents: Vec<(&'static str, Value)>,
}

/// Writes it, and `comparison.md`, which `text` makes of the links of the pictures in their order. Pictures are named after
/// `now_unix_ns`.
pub fn publish_comparison(
    root: &ArtifactRoot,
    output: &ComparisonOutput<'_>,
    text: impl FnOnce(&[String]) -> String,
    now_unix_ns: u64,
) -> Result<Published, ArtifactError> {
    let locked = root.lock()?;
    let stem = format!("{}-{}", slug(output.service), basic_stamp(now_unix_ns));
    let mut links = Vec::new();
    let mut pictures: Vec<PathBuf> = Vec::new();
    for (shape, svg) in &output.pictures {
        let export = Export {
            extension: format!("diff-{shape}.svg"),
            bytes: svg.as_bytes().to_vec(),
        };
        let path = write_export(&locked, &stem, &export)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        links.push(format!("diagnostics/{name}"));
        pictures.push(path);
    }
    let mut published = Published::default();
    let text = text(&links);
    published
        .files
        .push(locked.write("comparison.md", text.as_bytes())?);
    for (name, value) in &output.documents {
        published
            .files
            .push(locked.write(name, format!("{value:#}\n").as_bytes())?);
    }
    published.files.extend(pictures);
    Ok(published)
}
