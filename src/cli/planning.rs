//! What is to be planned: the target utilization, the replicas, and a load test read from its file.

use std::path::Path;

use super::args::PlanningArgs;
use super::stop::{Exit, Failure};
use crate::capacity::{Load, Planning};
use crate::load_test;

/// All but the load, whose test runs while perfprof measures: its result is read by [`take_load`], when that is over.
pub(super) fn of(args: &PlanningArgs) -> Result<Planning, Failure> {
    if let Some(path) = &args.load_test {
        check_folder(path)?;
    }
    Ok(Planning {
        target_utilization: args.target_utilization,
        replicas: args.replicas,
        load: None,
        hot_paths: Vec::new(),
    })
}

/// A result that can never come is found before the recording.
fn check_folder(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let why = match (folder.is_dir(), path.is_dir()) {
        (true, false) => return Ok(()),
        (true, true) => "it is a directory".to_owned(),
        (false, _) => format!("there is no directory `{}`", folder.display()),
    };
    Err(Failure::message(
        Exit::BadInput,
        format!("no load-test result can be in `{}`: {why}", path.display()),
    ))
}

/// Reads the load test's result, if one was promised. What was recorded must not be lost for a bad one: the failure is
/// for after everything else was written.
pub(super) fn take_load(planning: &mut Planning, path: Option<&Path>) -> Option<Failure> {
    let path = path?;
    match load_test::read(path) {
        Ok(test) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            planning.load = Some(Load {
                requests_per_second: test.throughput_per_second,
                source: format!("{name} ({})", test.tool),
            });
            None
        }
        Err(error) => Some(Failure::new(Exit::BadInput, error).hint(
            "everything was written, but without the cost of a request; the load test must have ended when the \
             measurement ends. Results of k6, Locust, JMeter, Artillery, hey, oha and wrk are read, and \
             `{\"throughput_per_second\": 120.5}`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_test_that_has_not_ended_is_asked_for_its_folder_only() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let in_folder = |name: &str| PlanningArgs {
            target_utilization: 0.65,
            replicas: None,
            load_test: Some(folder.path().join(name)),
        };
        let planning = of(&in_folder("later.json")).expect("its folder is there");
        assert_eq!(planning.load, None);
        let refused = of(&in_folder("none/later.json")).expect_err("no such folder");
        assert_eq!(refused.exit, Exit::BadInput);
    }

    #[test]
    fn a_load_is_taken_when_it_is_there_and_refused_without_harm() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("load.json");
        let mut planning = Planning::default();
        let refused = take_load(&mut planning, Some(&path)).expect("nothing is there");
        assert_eq!((refused.exit, &planning.load), (Exit::BadInput, &None));
        std::fs::write(&path, r#"{"throughput_per_second": 60}"#).expect("writable");
        assert!(take_load(&mut planning, Some(&path)).is_none());
        assert_eq!(
            planning.load.map(|load| load.requests_per_second),
            Some(60.0)
        );
        assert!(take_load(&mut Planning::default(), None).is_none());
    }
}
