//! `load-test-results.json` on disk: scenarios accumulate, one is replaced by another of its name.
//!
//! Under this name a load-test tool's own file may stand, too. Its results are kept, and the file itself is moved aside.

use super::publish::{Published, basic_stamp, set_aside};
use super::root::Existing;
use super::{ArtifactError, ArtifactRoot};
use crate::load_test::{self, LoadTest, Split};
use crate::render::escape::visible;

/// The document's name.
pub const LOAD_TESTS: &str = "load-test-results.json";

/// Puts the results among those that stand there, and returns all of them.
pub fn publish_load_tests(
    root: &ArtifactRoot,
    tests: Vec<LoadTest>,
    now_unix_ns: u64,
) -> Result<(Vec<LoadTest>, Published), ArtifactError> {
    let locked = root.lock()?;
    let stamp = basic_stamp(now_unix_ns);
    let mut published = Published::default();
    let present = match locked.read(LOAD_TESTS)? {
        Existing::Missing => Some(Vec::new()),
        Existing::Bytes(bytes) => {
            let found = load_test::all_from_bytes(&bytes, Split::Scenarios).ok();
            if let Some(tests) = found.as_ref().filter(|_| !is_ours(&bytes)) {
                let tool = tests.first().map_or("tool", |test| test.tool.as_str());
                let aside = locked.move_aside_as(LOAD_TESTS, "native", &stamp)?;
                published.notes.push(format!(
                    "`{LOAD_TESTS}` was {tool}'s own file; its results were taken over, and it was moved to `{}`",
                    aside.display()
                ));
            }
            found
        }
        Existing::Unreadable => None,
    };
    if present.is_none() {
        set_aside(&locked, LOAD_TESTS, &stamp, &mut published)?;
    }
    let mut all = present.unwrap_or_default();
    for test in tests {
        match all.iter_mut().find(|old| old.scenario == test.scenario) {
            Some(old) => {
                published.notes.extend(replaced(old, &test));
                *old = test;
            }
            None => all.push(test),
        }
    }
    let document = load_test::document(&all);
    let path = locked.write(LOAD_TESTS, format!("{document:#}\n").as_bytes())?;
    published.files.push(path);
    Ok((all, published))
}

/// A result of another file or tool may be another test that happens to be called the same.
fn replaced(old: &LoadTest, new: &LoadTest) -> Option<String> {
    let file = |test: &LoadTest| test.source.as_ref().map(|source| source.file.clone());
    if old.tool == new.tool && file(old) == file(new) {
        return None;
    }
    let from = |test: &LoadTest| {
        let file = file(test).map(|file| format!(" from `{}`", visible(&file)));
        format!(
            "{}'s result{}",
            visible(&test.tool),
            file.unwrap_or_default()
        )
    };
    Some(format!(
        "`{}`: {} replaced {} (`--scenario NAME` gives it a name of its own)",
        visible(new.scenario.as_deref().unwrap_or("default")),
        from(new),
        from(old)
    ))
}

fn is_ours(bytes: &[u8]) -> bool {
    let document: Result<serde_json::Value, _> = serde_json::from_slice(bytes);
    document.is_ok_and(|document| document["schema"] == load_test::SCHEMA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NOW: u64 = 1_800_000_000_000_000_000;

    fn test(scenario: &str, rate: f64) -> LoadTest {
        LoadTest {
            tool: "k6".into(),
            scenario: Some(scenario.into()),
            throughput_per_second: rate,
            ..LoadTest::default()
        }
    }

    #[test]
    fn scenarios_accumulate_and_are_replaced_by_name() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(dir.path()).expect("writable");
        for tests in [vec![test("a", 1.0), test("b", 2.0)], vec![test("a", 3.0)]] {
            let (_, published) = publish_load_tests(&root, tests, NOW).expect("written");
            assert!(published.notes.is_empty());
        }
        let all = load_test::read_all(&dir.path().join(LOAD_TESTS)).expect("readable");
        assert_eq!(all, [test("a", 3.0), test("b", 2.0)]);
    }

    #[test]
    fn that_another_tool_s_result_was_replaced_is_said() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(dir.path()).expect("writable");
        let mut wrk = test("a", 2.0);
        wrk.tool = "wrk".into();
        publish_load_tests(&root, vec![test("a", 1.0)], NOW).expect("written");
        let (all, published) = publish_load_tests(&root, vec![wrk], NOW).expect("written");
        assert_eq!(all.len(), 1);
        assert_eq!(published.notes.len(), 1);
        let note = &published.notes[0];
        assert!(
            note.starts_with("`a`: wrk's result replaced k6's result"),
            "{note}"
        );
    }

    #[test]
    fn a_tool_s_own_file_is_taken_over_and_a_damaged_one_moved_aside() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(dir.path()).expect("writable");
        let path = dir.path().join(LOAD_TESTS);
        let native = r#"{"throughput": 5, "scenario": "old"}"#;
        let damaged = "{";
        for (text, kept, left) in [(native, 2, "native"), (damaged, 1, "corrupt")] {
            fs::write(&path, text).expect("writable");
            let (all, published) =
                publish_load_tests(&root, vec![test("a", 1.0)], NOW).expect("written");
            assert_eq!((all.len(), published.notes.len()), (kept, 1), "{text}");
            let aside = dir
                .path()
                .join(format!("{LOAD_TESTS}.{left}-20270115T080000Z"));
            assert_eq!(fs::read_to_string(aside).expect("moved aside"), text);
        }
    }
}
