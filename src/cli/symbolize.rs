//! `perfprof symbolize`: names for a profile that lacks them, from debug information that is at hand now.

use super::args::SymbolizeArgs;
use super::plan::Outputs;
use super::publish::{open_root, publish};
use super::report;
use super::status::Log;
use super::stop::{Exit, Failure};
use super::symbols;
use super::waiting::with_progress;
use crate::analysis::Thresholds;
use crate::profile::Origin;
use crate::symbolize::Progress;
use crate::symbolize::repair::repair;

pub(super) fn run(args: SymbolizeArgs, log: &Log) -> Result<Exit, Failure> {
    let outputs = Outputs::of(&args.output)?;
    let (options, warnings) = symbols::options(&args.symbols)?;
    let profile = report::read(&args.profile, None)?;
    if profile.recording.origin != Origin::Perfprof {
        let message = format!("`{}` was not recorded by perfprof", args.profile.display());
        return Err(Failure::message(Exit::BadInput, message).hint(
            "addresses in another tool's profile may be those of one process, not of a file",
        ));
    }
    let root = open_root(&outputs)?;
    warnings.iter().for_each(|warning| log.warning(warning));
    let progress = Progress::default();
    let repaired = with_progress(log, &progress, || repair(profile, &options, &progress));
    repaired
        .naming
        .notes
        .iter()
        .for_each(|note| log.warning(note));
    log.info(format!(
        "{} frames lacked a name or a line; of {} more is known now",
        repaired.lacking, repaired.mended
    ));
    publish(
        &root,
        &repaired.profile,
        &Thresholds::default(),
        &outputs,
        log,
    )
}
