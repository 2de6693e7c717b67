//! `perfprof report`: every output again, from profiles on disk.

use std::path::Path;

use super::args::ReportArgs;
use super::plan::Outputs;
use super::publish::{open_root, publish};
use super::status::Log;
use super::stop::{Exit, Failure};
use crate::analysis::Thresholds;
use crate::profile::Profile;
use crate::store;

pub(super) fn run(args: ReportArgs, log: &Log) -> Result<Exit, Failure> {
    let outputs = Outputs::of(&args.output)?;
    if args.profiles.len() > 1 && (!outputs.files.is_empty() || args.service.is_some()) {
        return Err(Failure::message(
            Exit::Usage,
            "`--output` and `--service` take one profile, and several were given",
        )
        .hint("give one profile at a time"));
    }
    let profiles = args
        .profiles
        .iter()
        .map(|path| read(path, args.service.as_deref()))
        .collect::<Result<Vec<Profile>, Failure>>()?;
    let root = open_root(&outputs)?;
    let mut exit = Exit::Success;
    for profile in profiles {
        let one = publish(&root, &profile, &Thresholds::default(), &outputs, log)?;
        exit = if one == Exit::Success { exit } else { one };
    }
    Ok(exit)
}

pub(super) fn read(path: &Path, service: Option<&str>) -> Result<Profile, Failure> {
    let mut profile = store::read(path).map_err(|error| Failure::new(Exit::BadInput, error))?;
    if let Some(service) = service {
        profile.recording.service = service.to_owned();
    }
    if profile.total_count() == 0 {
        let message = format!("`{}` holds no samples", path.display());
        return Err(Failure::message(Exit::BadInput, message));
    }
    Ok(profile)
}
