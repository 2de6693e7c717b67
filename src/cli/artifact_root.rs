//! Which artifact root a command means that was not told one: the gate config's, so that the gates find what was written.
//!
//! In: `--artifacts`, as far as given. Out: the root; that it came from a config is said.

use std::path::{Path, PathBuf};

use super::gate::config_failure;
use super::status::Log;
use super::stop::Failure;
use crate::gate::Edition;
use crate::gate::discover::{DiscoverError, discover};

/// From the folder we are in.
pub(super) fn of(given: Option<&Path>, log: &Log) -> Result<PathBuf, Failure> {
    let (root, said) = chosen(Path::new(""), given)?;
    said.iter().for_each(|said| log.warning(said));
    Ok(root)
}

fn chosen(repository: &Path, given: Option<&Path>) -> Result<(PathBuf, Option<String>), Failure> {
    if let Some(given) = given {
        return Ok((given.to_owned(), None));
    }
    let default = PathBuf::from(Edition::Fourteen.artifacts());
    match discover(repository, None, None, None) {
        Ok(found) if found.config.file.is_some() && found.artifacts != default => {
            let said = format!(
                "artifacts in {}, as the gate config {} says (--artifacts DIR names another folder)",
                found.artifacts.display(),
                found.config.file.unwrap_or_default()
            );
            Ok((found.artifacts, Some(said)))
        }
        Ok(_) => Ok((default, None)),
        Err(error @ DiscoverError::Several { .. }) => {
            let said = format!(
                "{error}; artifacts in {}, as none was named with --artifacts DIR",
                default.display()
            );
            Ok((default, Some(said)))
        }
        Err(error) => Err(config_failure(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_root_is_the_flag_s_then_the_config_s_then_the_default() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = |given: Option<&str>| {
            let (root, said) = chosen(dir.path(), given.map(Path::new)).expect("a root");
            (root.display().to_string(), said.is_some())
        };
        assert_eq!(root(None), (".artifacts/performance".into(), false));
        let folder = dir.path().join("config/protocol_gates");
        fs::create_dir_all(&folder).expect("made");
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
        write("18.yaml", "perfprof: {edition: 18}\n");
        assert_eq!(root(None), (".artifacts/protocol-18".into(), true));
        assert_eq!(root(Some("x")), ("x".into(), false));
        write("14.yaml", "perfprof: {edition: 14}\n");
        assert_eq!(root(None), (".artifacts/performance".into(), true));
        fs::remove_file(folder.join("14.yaml")).expect("was there");
        write("18.yaml", "perfprof: {edition: 18, artifacts: /etc}\n");
        chosen(dir.path(), None).expect_err("leads out of the repository");
    }
}
