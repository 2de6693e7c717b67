//! Which config, edition and artifact root a gate is asked for, when these were not all named.
//!
//! `config/protocol_gates` holds a file per protocol of the whole workflow; only those of the two performance protocols
//! are perfprof's. A file is taken for one when it has a `perfprof` key, or when its number is 14 or 18.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Config, ConfigError, Edition};
use crate::artifacts::read_named;

/// From the repository's root.
pub const FOLDER: &str = "config/protocol_gates";
/// More files than any workflow has protocols.
const MAX_FILES: usize = 500;
/// A longer file is no config of people's.
const MAX_SEARCHED_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "the gate config `{file}`: `perfprof.artifacts`: `{artifacts}` leads out of the repository"
    )]
    Outside { file: String, artifacts: String },
    #[error("several gate configs could be meant: {}", files.join(", "))]
    Several { files: Vec<String> },
}

/// What was found, and a sentence that says so.
#[derive(Debug)]
pub struct Discovered {
    pub config: Config,
    pub edition: Edition,
    pub artifacts: PathBuf,
    pub said: String,
}

/// Finds what was not named, below `repository`.
pub fn discover(
    repository: &Path,
    file: Option<&Path>,
    edition: Option<Edition>,
    artifacts: Option<&Path>,
) -> Result<Discovered, DiscoverError> {
    let config = match file {
        Some(file) => Config::read(file)?,
        None => find(repository, edition)?.unwrap_or_default(),
    };
    if artifacts.is_none() {
        stays_inside(&config)?;
    }
    let of_config = edition_of(&config);
    let of_root = artifacts.and_then(edition_of_root);
    let known = edition.or(of_config).or(of_root);
    let named_root = artifacts
        .map(Path::to_owned)
        .or(config.own.artifacts.clone());
    let (edition, root) = match (known, named_root) {
        (Some(edition), Some(root)) => (edition, root),
        (Some(edition), None) => (edition, edition.artifacts().into()),
        (None, Some(root)) => (Edition::Fourteen, root),
        (None, None) => {
            // Where something was recorded; `record` writes to edition 14's by itself.
            let edition = Edition::ALL
                .into_iter()
                .find(|edition| repository.join(edition.artifacts()).is_dir());
            let edition = edition.unwrap_or(Edition::Fourteen);
            (edition, edition.artifacts().into())
        }
    };
    let said = said(&config, edition, &root);
    Ok(Discovered {
        config,
        edition,
        artifacts: root,
        said,
    })
}

/// A config may come from anybody; only the user's own flag leads out of the repository.
fn stays_inside(config: &Config) -> Result<(), DiscoverError> {
    let Some(root) = &config.own.artifacts else {
        return Ok(());
    };
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    match root.components().all(inside) {
        true => Ok(()),
        false => Err(DiscoverError::Outside {
            file: config.file.clone().unwrap_or_default(),
            artifacts: root.display().to_string(),
        }),
    }
}

fn said(config: &Config, edition: Edition, root: &Path) -> String {
    let source = match &config.file {
        Some(file) => format!("config {file}"),
        None => format!(
            "no config in {FOLDER}, so defaults (`perfprof init --edition {}` writes one)",
            edition.number()
        ),
    };
    format!(
        "edition {}, artifacts in {}, {source}",
        edition.number(),
        root.display()
    )
}

/// The config of the folder; `None` when there is none for the performance protocols.
fn find(repository: &Path, edition: Option<Edition>) -> Result<Option<Config>, DiscoverError> {
    let mut found = Vec::new();
    for path in yaml_files(&repository.join(FOLDER)) {
        let numbered = number_in(&path).and_then(Edition::of).is_some();
        let shown = path.strip_prefix(repository).unwrap_or(&path).to_owned();
        let text = beginning(&path);
        // Another protocol's file may hold what it likes.
        if !numbered && !has_own_key(&text) {
            continue;
        }
        let mut config = Config::read(&path)?;
        config.file = Some(shown.display().to_string());
        let of_file = edition_of(&config).or_else(|| number_in(&path).and_then(Edition::of));
        config.own.edition = config.own.edition.or(of_file);
        if edition.is_none() || of_file.is_none() || edition == of_file {
            found.push((has_own_key(&text), config));
        }
    }
    // A file that says something of perfprof goes before one that is only numbered like it.
    if found.len() > 1 && found.iter().filter(|(own, _)| *own).count() >= 1 {
        found.retain(|(own, _)| *own);
    }
    if found.len() > 1 {
        let files = found.into_iter().filter_map(|(_, config)| config.file);
        return Err(DiscoverError::Several {
            files: files.collect(),
        });
    }
    Ok(found.pop().map(|(_, config)| config))
}

/// What of a file is searched for the key; another's file may be anything.
fn beginning(path: &Path) -> String {
    let bytes = read_named(path, MAX_SEARCHED_BYTES).ok().flatten();
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_yaml = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str());
        matches!(extension, Some("yaml" | "yml")) && path.is_file()
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(is_yaml)
        .take(MAX_FILES)
        .collect();
    files.sort();
    files
}

/// Whether the key stands at the beginning of a line, as it does in every file made by people.
fn has_own_key(text: &str) -> bool {
    text.lines().any(|line| {
        let key = line.trim_start_matches(['"', '\'']);
        key.strip_prefix("perfprof")
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    })
}

fn edition_of(config: &Config) -> Option<Edition> {
    let of_id = || {
        let id = config.protocol_id.as_deref()?;
        Edition::of(id.trim().parse().ok()?)
    };
    config.own.edition.or_else(of_id)
}

/// The number of `14.yaml`, or of `protocol-18.yaml`.
fn number_in(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let digits = stem.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn edition_of_root(root: &Path) -> Option<Edition> {
    Edition::ALL.into_iter().find(|edition| {
        let name = Path::new(edition.artifacts()).file_name();
        root.file_name() == name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        dir
    }

    #[test]
    fn the_file_of_the_performance_protocol_is_found_among_others() {
        let dir = folder(&[
            ("config/protocol_gates/11.yaml", "gates: [{{{ not even YAML"),
            (
                "config/protocol_gates/18.yaml",
                "protocol_id: '18'\nperfprof:\n  services: [{name: a}]\n",
            ),
        ]);
        let found = discover(dir.path(), None, None, None).expect("one");
        assert_eq!(
            found.config.file.as_deref(),
            Some("config/protocol_gates/18.yaml")
        );
        assert_eq!(found.edition, Edition::Eighteen);
        assert_eq!(found.artifacts, Path::new(".artifacts/protocol-18"));
        assert_eq!(found.config.own.services.len(), 1);
    }

    #[test]
    fn without_a_config_the_defaults_are_said() {
        let dir = folder(&[(".artifacts/protocol-18/coverage.json", "{}")]);
        let found = discover(dir.path(), None, None, None).expect("defaults");
        assert_eq!(found.edition, Edition::Eighteen);
        assert!(
            found.said.contains("perfprof init --edition 18"),
            "{}",
            found.said
        );
        let found = discover(dir.path(), None, None, Some(Path::new("x"))).expect("defaults");
        assert_eq!(
            (found.edition, found.artifacts),
            (Edition::Fourteen, "x".into())
        );
    }

    #[test]
    fn only_the_user_leads_out_of_the_repository() {
        for root in ["/etc", "../elsewhere", "a/../../b"] {
            let yaml = format!("perfprof: {{edition: 18, artifacts: {root}}}\n");
            let dir = folder(&[("config/protocol_gates/18.yaml", yaml.as_str())]);
            let error = discover(dir.path(), None, None, None)
                .expect_err(root)
                .to_string();
            assert!(
                error.contains("perfprof.artifacts") && error.contains(root),
                "{error}"
            );
            let given = discover(dir.path(), None, None, Some(Path::new("/tmp"))).expect("given");
            assert_eq!(given.artifacts, Path::new("/tmp"));
        }
    }

    #[test]
    fn two_editions_are_told_apart_or_asked_for() {
        let dir = folder(&[
            ("config/protocol_gates/14.yaml", "perfprof: {edition: 14}\n"),
            (
                "config/protocol_gates/18.yaml",
                "protocol_id: 18\nperfprof: {}\n",
            ),
        ]);
        let of = |edition| discover(dir.path(), None, edition, None);
        for edition in Edition::ALL {
            let found = of(Some(edition)).expect("one");
            assert_eq!(found.edition, edition);
            let name = format!("{}.yaml", edition.number());
            assert!(found.config.file.is_some_and(|file| file.ends_with(&name)));
        }
        let error = of(None).expect_err("which?").to_string();
        assert!(
            error.contains("14.yaml") && error.contains("18.yaml"),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_config_is_an_error_and_not_a_default() {
        let dir = folder(&[("config/protocol_gates/18.yaml", "perfprof: [\n")]);
        let error = discover(dir.path(), None, None, None)
            .expect_err("damaged")
            .to_string();
        assert!(
            error.contains("18.yaml") && error.contains("line"),
            "{error}"
        );
    }
}
