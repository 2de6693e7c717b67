//! The capacity analysis on disk: a section of `capacity-analysis.md`, an entry of its JSON, a picture in `diagnostics/`.
//!
//! In: what the capacity room made. Out: files beside those of other services. `publish` uses the parts for recordings.

use super::publish::{
    CAPACITY, CAPACITY_TITLE, Document, Export, Published, basic_stamp, merge, with_section,
    write_export,
};
use super::root::Locked;
use super::{ArtifactError, ArtifactRoot, report, slug};
use crate::render;

/// A service's capacity analysis without a profile.
#[derive(Clone, Debug)]
pub struct CapacityOutput {
    pub service: String,
    /// From its heading on.
    pub section: String,
    /// SVG.
    pub chart: Option<String>,
    pub document: Document,
}

/// Writes the analysis; the picture is named after `now_unix_ns`.
pub fn publish_capacity(
    root: &ArtifactRoot,
    output: &CapacityOutput,
    now_unix_ns: u64,
) -> Result<Published, ArtifactError> {
    let locked = root.lock()?;
    let stamp = basic_stamp(now_unix_ns);
    let slug = slug(&output.service);
    let mut published = Published::default();
    let mut exported = None;
    let mut section = output.section.clone();
    if let Some(chart) = &output.chart {
        let (path, link) = write_chart(&locked, &format!("{slug}-{stamp}"), chart)?;
        section = illustrated(&section, &link);
        exported = Some(path);
    }
    let document = &output.document;
    let entries = merge(&locked, document, &stamp, &mut published)?;
    write_section(&locked, &slug, &section, &stamp, &mut published)?;
    let value = render::document(document.schema, document.version, entries);
    let path = locked.write(document.file, format!("{value:#}\n").as_bytes())?;
    published.files.push(path);
    published.files.extend(exported);
    Ok(published)
}

/// Puts the service's section into `capacity-analysis.md`.
pub(super) fn write_section(
    locked: &Locked<'_>,
    slug: &str,
    section: &str,
    stamp: &str,
    published: &mut Published,
) -> Result<(), ArtifactError> {
    let parts = with_section(locked, CAPACITY, slug, section, stamp, published)?;
    let text = report::to_text(&parts, CAPACITY_TITLE);
    published
        .files
        .push(locked.write(CAPACITY, text.as_bytes())?);
    Ok(())
}

/// Writes the picture; its path, and as documents link to it.
pub(super) fn write_chart(
    locked: &Locked<'_>,
    stem: &str,
    chart: &str,
) -> Result<(std::path::PathBuf, String), ArtifactError> {
    let export = Export {
        extension: "capacity.svg".into(),
        bytes: chart.as_bytes().to_vec(),
    };
    let path = write_export(locked, stem, &export)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let link = format!("diagnostics/{name}");
    Ok((path, link))
}

/// The text with the picture below its heading, or at its top where it has none.
pub(super) fn illustrated(text: &str, link: &str) -> String {
    let picture = format!("![CPU use over time]({link})");
    match text.split_once("\n\n") {
        Some((heading, rest)) if heading.starts_with('#') => {
            format!("{heading}\n\n{picture}\n\n{rest}")
        }
        _ => format!("{picture}\n\n{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn services_accumulate_with_their_pictures() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(dir.path()).expect("writable");
        for service in ["a", "b", "a"] {
            let output = CapacityOutput {
                service: service.into(),
                section: format!("## {service}\n\nfigures\n"),
                chart: Some(format!("<svg>{service}</svg>")),
                document: Document {
                    file: "capacity-analysis.json",
                    schema: "perfprof.capacity",
                    version: 2,
                    entry: serde_json::json!({ "service": service }),
                },
            };
            let now = 1_800_000_000_000_000_000;
            let published = publish_capacity(&root, &output, now).expect("written");
            assert!(published.notes.is_empty() && published.files.len() == 3);
        }
        let text = fs::read_to_string(dir.path().join(CAPACITY)).expect("written");
        assert_eq!(text.matches("## ").count(), 2, "{text}");
        let link = "diagnostics/a-20270115T080000Z.capacity.svg";
        assert!(text.contains(&format!("## a\n\n![CPU use over time]({link})\n\nfigures")));
        assert_eq!(
            fs::read_to_string(dir.path().join(link)).expect("written"),
            "<svg>a</svg>"
        );
    }
}
