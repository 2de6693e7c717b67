//! One recording's results put on disk: exports first, then the documents that refer to them.

use std::path::PathBuf;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::atomic::{read_existing, write_atomic};
use super::capacity::{illustrated, write_chart, write_section};
use super::report::{self, Part};
use super::root::{Existing, Locked, free_name};
use super::{ArtifactError, ArtifactRoot, document, slug};
use crate::analysis::Analysis;
use crate::profile::Profile;
use crate::render::markdown::{Attachments, Link};
use crate::render::{self, bottleneck, coverage, markdown};

const REPORT: &str = "profiling-report.md";
pub(super) const CAPACITY: &str = "capacity-analysis.md";
pub(super) const CAPACITY_TITLE: &str = "# Capacity analysis\n";
/// An export that exists is compared up to this size before another name is taken.
const MAX_COMPARED_BYTES: u64 = 256 << 20;

/// A file for `diagnostics/`.
#[derive(Clone, Debug)]
pub struct Export {
    /// `svg`, `pb.gz`, `folded`, `speedscope.json`, …
    pub extension: String,
    pub bytes: Vec<u8>,
}

/// One service's entry for a JSON document at the root of the artifacts.
#[derive(Clone, Debug)]
pub struct Document {
    /// File name, e.g. `capacity-analysis.json`.
    pub file: &'static str,
    pub schema: &'static str,
    pub version: u64,
    /// An object with the service's name as `service`.
    pub entry: Value,
}

/// What other rooms made of the recording.
#[derive(Clone, Debug, Default)]
pub struct Extra<'a> {
    /// Markdown made by the capacity analysis, without a heading, for the report.
    pub capacity_markdown: Option<String>,
    /// The service's section of `capacity-analysis.md`, from its heading on.
    pub capacity_section: Option<String>,
    /// SVG, for both.
    pub capacity_chart: Option<String>,
    /// Entries for further documents.
    pub documents: Vec<Document>,
    /// The profile and its analysis with the names that people are to read, where those are not the full ones.
    pub shown: Option<(&'a Profile, &'a Analysis)>,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The report first, then documents, then exports.
    pub files: Vec<PathBuf>,
    /// What the user must know, in whole sentences: documents that could not be continued and were moved aside.
    pub notes: Vec<String>,
}

/// Writes exports and documents of one recording under `root`, beside those of other services.
///
/// Exports are named after the start of the recording, or `now_unix_ns` where that is unknown. The section links to
/// them, so they are written first; whoever finds a section finds its files.
pub fn publish(
    root: &ArtifactRoot,
    profile: &Profile,
    analysis: &Analysis,
    extra: Extra<'_>,
    exports: &[Export],
    now_unix_ns: u64,
) -> Result<Published, ArtifactError> {
    let locked = root.lock()?;
    let stamp = basic_stamp(now_unix_ns);
    let recorded = match profile.recording.started_unix_ns {
        0 => stamp.clone(),
        started => basic_stamp(started),
    };
    let slug = slug(&profile.recording.service);
    let mut exported = Vec::new();
    let mut attachments = Attachments {
        links: Vec::new(),
        capacity: extra.capacity_markdown.clone(),
    };
    for export in exports {
        let path = write_export(&locked, &format!("{slug}-{recorded}"), export)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        attachments.links.push(Link {
            extension: export.extension.clone(),
            path: format!("diagnostics/{name}"),
        });
        exported.push(path);
    }
    let mut capacity_section = extra.capacity_section;
    if let Some(chart) = &extra.capacity_chart {
        let (path, link) = write_chart(&locked, &format!("{slug}-{recorded}"), chart)?;
        for text in [&mut attachments.capacity, &mut capacity_section] {
            *text = text.as_deref().map(|text| illustrated(text, &link));
        }
        exported.push(path);
    }

    let mut published = Published::default();
    let coverage = Document {
        file: "coverage.json",
        schema: coverage::SCHEMA,
        version: coverage::SCHEMA_VERSION,
        entry: coverage::entry(profile, analysis),
    };
    let bottlenecks = Document {
        file: "bottleneck-report.json",
        schema: bottleneck::SCHEMA,
        version: bottleneck::SCHEMA_VERSION,
        entry: bottleneck::entry(profile, analysis),
    };
    let entries = merge(&locked, &coverage, &stamp, &mut published)?;
    let mut documents = vec![(&coverage, entries.clone())];
    for document in std::iter::once(&bottlenecks).chain(&extra.documents) {
        documents.push((document, merge(&locked, document, &stamp, &mut published)?));
    }

    let (profile, analysis) = extra.shown.unwrap_or((profile, analysis));
    let section = markdown::section(profile, analysis, &attachments);
    let parts = with_section(&locked, REPORT, &slug, &section, &stamp, &mut published)?;
    let text = report::to_text(&parts, &overview(&parts, &entries));
    published.files.push(locked.write(REPORT, text.as_bytes())?);
    if let Some(section) = &capacity_section {
        write_section(&locked, &slug, section, &stamp, &mut published)?;
    }
    for (document, entries) in documents {
        let value = render::document(document.schema, document.version, entries);
        let path = locked.write(document.file, format!("{value:#}\n").as_bytes())?;
        published.files.push(path);
    }
    published.files.extend(exported);
    Ok(published)
}

/// Writes an export. An existing one with other content is kept, and the new one numbered.
pub(super) fn write_export(
    locked: &Locked<'_>,
    stem: &str,
    export: &Export,
) -> Result<PathBuf, ArtifactError> {
    let dir = locked.root().diagnostics();
    let name = |suffix: &str| dir.join(format!("{stem}{suffix}.{}", export.extension));
    let same = |path: &PathBuf| {
        let existing = read_existing(path, MAX_COMPARED_BYTES);
        matches!(existing, Ok(Some(bytes)) if bytes == export.bytes)
    };
    let mut path = name("");
    if !same(&path) {
        path = free_name(name);
        write_atomic(&path, &export.bytes)?;
    }
    Ok(path)
}

/// The entries of the document on disk with the new one among them.
pub(super) fn merge(
    locked: &Locked<'_>,
    document: &Document,
    stamp: &str,
    published: &mut Published,
) -> Result<Vec<Value>, ArtifactError> {
    let entries = match locked.read(document.file)? {
        Existing::Missing => Some(Vec::new()),
        Existing::Bytes(bytes) => document::entries(&bytes, document.schema, document.version),
        Existing::Unreadable => None,
    };
    if entries.is_none() {
        set_aside(locked, document.file, stamp, published)?;
    }
    let mut entries = entries.unwrap_or_default();
    document::upsert(&mut entries, document.entry.clone());
    Ok(entries)
}

/// The parts of the Markdown document on disk with the service's section among them.
pub(super) fn with_section(
    locked: &Locked<'_>,
    file: &str,
    slug: &str,
    section: &str,
    stamp: &str,
    published: &mut Published,
) -> Result<Vec<Part>, ArtifactError> {
    let parts = match locked.read(file)? {
        Existing::Missing => Some(vec![Part::Overview]),
        Existing::Bytes(bytes) => String::from_utf8(bytes)
            .ok()
            .and_then(|text| report::parse(&text)),
        Existing::Unreadable => None,
    };
    if parts.is_none() {
        set_aside(locked, file, stamp, published)?;
    }
    let mut parts = parts.unwrap_or_else(|| vec![Part::Overview]);
    report::upsert(&mut parts, slug, section);
    Ok(parts)
}

pub(super) fn set_aside(
    locked: &Locked<'_>,
    file: &str,
    stamp: &str,
    published: &mut Published,
) -> Result<(), ArtifactError> {
    let aside = locked.move_aside(file, stamp)?;
    published.notes.push(format!(
        "`{file}` was not written by this version of perfprof or is damaged; it was moved to `{}` and a new one begun",
        aside.display()
    ));
    Ok(())
}

/// The top of the report: every service with its verdict, from the entries of `coverage.json`.
fn overview(parts: &[Part], entries: &[Value]) -> String {
    let rows: Vec<markdown::OverviewRow<'_>> = report::slugs(parts)
        .map(|section| {
            let entry = entries
                .iter()
                .find(|e| e["service"].as_str().is_some_and(|s| slug(s) == section));
            markdown::OverviewRow {
                anchor: section,
                coverage: entry,
            }
        })
        .collect();
    markdown::overview(&rows)
}

/// `20231114T221320Z`, ISO 8601 in basic form.
pub fn basic_stamp(unix_ns: u64) -> String {
    let time =
        Timestamp::from_second((unix_ns / 1_000_000_000) as i64).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::UTC)
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Thresholds, canned};
    use std::fs;
    use std::path::Path;

    const COVERAGE: &str = "coverage.json";
    const BOTTLENECKS: &str = "bottleneck-report.json";
    const NOW: u64 = 1_800_000_000_000_000_000;

    fn put(dir: &Path, profile: &Profile, svg: &str) -> Published {
        let root = ArtifactRoot::open(dir).expect("writable");
        let analysis = Analysis::of(profile, &Thresholds::default());
        let exports = [Export {
            extension: "svg".into(),
            bytes: svg.into(),
        }];
        publish(&root, profile, &analysis, Extra::default(), &exports, NOW).expect("written")
    }

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).expect("written")
    }

    fn services(dir: &Path, name: &str) -> Vec<String> {
        let document: Value = serde_json::from_str(&read(dir, name)).expect("JSON");
        let services = document["services"].as_array().expect("an array").iter();
        services
            .map(|entry| entry["service"].as_str().expect("a name").to_owned())
            .collect()
    }

    #[test]
    fn services_accumulate_and_a_second_recording_replaces_the_first() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let dir = dir.path();
        let other = canned::named_server("other/one", ["serve", "walk"]);
        put(dir, &canned::server(), "<svg/>");
        put(dir, &other, "<svg/>");
        let published = put(dir, &canned::server(), "<svg/>");
        assert!(published.notes.is_empty());
        for name in [COVERAGE, BOTTLENECKS] {
            assert_eq!(services(dir, name), ["tiny-server", "other/one"]);
        }
        let report = read(dir, REPORT);
        assert_eq!(report.matches("\n## tiny-server\n").count(), 1);
        assert_eq!(report.matches("\n## other/one\n").count(), 1);
        assert!(report.contains("[tiny-server](#tiny-server)"), "{report}");
        let link = "diagnostics/tiny-server-20231114T221320Z.svg";
        assert!(report.contains(&format!("]({link})")) && dir.join(link).is_file());
        for file in published.files {
            assert!(file.is_file(), "{}", file.display());
        }
    }

    #[test]
    fn documents_of_other_rooms_accumulate_too() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(dir.path()).expect("writable");
        let profile = canned::server();
        let analysis = Analysis::of(&profile, &Thresholds::default());
        for service in ["a", "b", "a"] {
            let extra = Extra {
                capacity_section: Some(format!("## {service}\n\nfigures\n")),
                documents: vec![Document {
                    file: "capacity-analysis.json",
                    schema: "perfprof.capacity-analysis",
                    version: 1,
                    entry: serde_json::json!({ "service": service }),
                }],
                ..Extra::default()
            };
            publish(&root, &profile, &analysis, extra, &[], NOW).expect("written");
        }
        assert_eq!(services(dir.path(), "capacity-analysis.json"), ["a", "b"]);
        // The canned profile's service is one and the same: its section is replaced.
        let text = read(dir.path(), "capacity-analysis.md");
        assert!(text.contains(CAPACITY_TITLE), "{text}");
        assert_eq!(text.matches("## ").count(), 1, "{text}");
    }

    #[test]
    fn exports_that_differ_are_both_kept() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let name = |published: &Published| {
            let last = published.files.last().expect("an export");
            last.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        };
        let first = put(dir.path(), &canned::server(), "one");
        let again = put(dir.path(), &canned::server(), "one");
        let second = put(dir.path(), &canned::server(), "two");
        assert_eq!(name(&first), "tiny-server-20231114T221320Z.svg");
        assert_eq!(name(&again), name(&first));
        assert_eq!(name(&second), "tiny-server-20231114T221320Z-2.svg");
        assert_eq!(fs::read_to_string(&first.files[3]).expect("kept"), "one");
    }

    #[test]
    fn damaged_documents_are_moved_aside_and_said() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let dir = dir.path();
        for (name, text) in [(REPORT, "# mine\n"), (COVERAGE, "{"), (BOTTLENECKS, "[]")] {
            fs::write(dir.join(name), text).expect("writable");
        }
        let published = put(dir, &canned::server(), "");
        assert_eq!(published.notes.len(), 3, "{:?}", published.notes);
        let aside = format!("{REPORT}.corrupt-20270115T080000Z");
        assert_eq!(read(dir, &aside), "# mine\n");
        assert!(published.notes.iter().any(|note| note.contains(&aside)));
        assert_eq!(services(dir, COVERAGE), ["tiny-server"]);
        // The next one continues the new documents, and a second accident overwrites nothing.
        assert!(put(dir, &canned::server(), "").notes.is_empty());
        fs::write(dir.join(REPORT), [0xff, 0xfe]).expect("writable");
        put(dir, &canned::server(), "");
        assert_eq!(read(dir, &aside), "# mine\n");
        assert!(dir.join(format!("{aside}-2")).exists());
    }

    #[test]
    fn recordings_that_end_together_lose_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::thread::scope(|scope| {
            for i in 0..8 {
                let dir = dir.path();
                scope.spawn(move || {
                    let profile = canned::named_server(&format!("service-{i}"), ["a", "b"]);
                    put(dir, &profile, "x")
                });
            }
        });
        let mut found = services(dir.path(), COVERAGE);
        found.sort();
        let expected: Vec<String> = (0..8).map(|i| format!("service-{i}")).collect();
        assert_eq!(found, expected);
        let report = read(dir.path(), REPORT);
        assert!(
            expected
                .iter()
                .all(|name| report.contains(&format!("## {name}\n")))
        );
    }
}
