//! From a profile to files: what `record` and `report` have in common.

use std::path::PathBuf;

use super::plan::{Format, Outputs};
use super::status::Log;
use super::stop::{Exit, Failure};
use super::words;
use crate::analysis::{Analysis, Thresholds, Verdict};
use crate::artifacts::{self, ArtifactRoot, Export, Extra, write_atomic};
use crate::profile::{Origin, Profile};
use crate::render::terminal::Colour;
use crate::render::{flamegraph, short_names, speedscope, terminal};
use crate::store::{folded, pprof};
use crate::sys::usage::unix_ns;

/// The artifact root, checked to take files.
pub(super) fn open_root(outputs: &Outputs) -> Result<ArtifactRoot, Failure> {
    let root = ArtifactRoot::open(&outputs.artifacts).map_err(words::not_written)?;
    root.check_writable().map_err(words::not_written)?;
    Ok(root)
}

/// Judges the profile, writes everything and prints the summary. The exit code tells the verdict.
pub(super) fn publish(
    root: &ArtifactRoot,
    profile: &Profile,
    thresholds: &Thresholds,
    outputs: &Outputs,
    log: &Log,
) -> Result<Exit, Failure> {
    let analysis = Analysis::of(profile, thresholds);
    let short = outputs.short_names.then(|| {
        let short = short_names::shortened(profile);
        let analysis = Analysis::of(&short, thresholds);
        (short, analysis)
    });
    let shown = match &short {
        Some((profile, analysis)) => (profile, analysis),
        None => (profile, &analysis),
    };
    let exports = exports(profile, shown, outputs.per_thread)?;
    // The asked-for files first: whatever happens to the artifacts, these are there.
    let mut files = Vec::new();
    for (format, path) in &outputs.files {
        let bytes = asked_for(*format, shown, &exports, outputs)?;
        write_atomic(path, &bytes).map_err(words::not_written)?;
        files.push(path.clone());
    }
    let extra = Extra {
        shown: Some(shown),
        ..artifacts::with_capacity(profile, &analysis, &outputs.planning)
    };
    let now = unix_ns();
    let published = artifacts::publish(root, profile, &analysis, extra, &exports, now)
        .map_err(|error| rescue(words::not_written(error), profile, &outputs.files, log))?;
    published.notes.iter().for_each(|note| log.warning(note));
    files.splice(0..0, published.files);
    let colour = if log.colour() {
        Colour::Ansi
    } else {
        Colour::Plain
    };
    log.block(&terminal::summary(shown.0, shown.1, &files, colour));
    Ok(exit_of(profile, &analysis.coverage.verdict))
}

/// What goes into `diagnostics/`: every format, and where waits were recorded their twins.
fn exports(
    profile: &Profile,
    (shown, analysis): (&Profile, &Analysis),
    per_thread: bool,
) -> Result<Vec<Export>, Failure> {
    let mut exports = Vec::new();
    for format in Format::ALL {
        let profile = match format {
            Format::Pprof => profile,
            Format::Folded | Format::Svg | Format::Speedscope => shown,
        };
        // A service that only waited has ticks in no picture.
        if format == Format::Svg && profile.total_count() == 0 {
            continue;
        }
        exports.push(Export {
            extension: format.extension().into(),
            bytes: encode(format, profile, per_thread)?,
        });
    }
    let Some(view) = waits_of(shown, analysis) else {
        return Ok(exports);
    };
    for format in [Format::Svg, Format::Folded] {
        exports.push(Export {
            extension: format!("off-cpu.{}", format.extension()),
            bytes: encode_waits(format, &view, per_thread)?,
        });
    }
    Ok(exports)
}

/// The waits as a profile of their own, where there are any.
fn waits_of(shown: &Profile, analysis: &Analysis) -> Option<Profile> {
    let idle = &analysis.waits.as_ref()?.idle;
    let view = shown.off_cpu_view(|ix| idle.get(ix).copied().unwrap_or(false))?;
    (view.total_count() > 0).then_some(view)
}

/// The bytes of a file that was named on the command line.
fn asked_for(
    format: Format,
    (shown, analysis): (&Profile, &Analysis),
    exports: &[Export],
    outputs: &Outputs,
) -> Result<Vec<u8>, Failure> {
    if outputs.waits_asked && format != Format::Pprof {
        return match waits_of(shown, analysis) {
            Some(view) => encode_waits(format, &view, outputs.per_thread),
            None => Ok(Vec::new()),
        };
    }
    let export = exports.iter().find(|e| e.extension == format.extension());
    Ok(export.map_or_else(Vec::new, |export| export.bytes.clone()))
}

fn encode_waits(format: Format, view: &Profile, per_thread: bool) -> Result<Vec<u8>, Failure> {
    match format {
        Format::Svg => flamegraph::render_waits(view)
            .map(String::into_bytes)
            .map_err(|error| Failure::new(Exit::Failed, error)),
        _ => encode(format, view, per_thread),
    }
}

/// The artifacts could not be written, say because the disk is full: the profile itself must not be lost with them.
fn rescue(
    failure: Failure,
    profile: &Profile,
    written: &[(Format, PathBuf)],
    log: &Log,
) -> Failure {
    if written.iter().any(|(format, _)| *format == Format::Pprof) {
        return failure;
    }
    let path = std::env::temp_dir().join(format!("perfprof-{}.pb.gz", std::process::id()));
    if write_atomic(&path, &pprof::encode(profile)).is_ok() {
        log.warning(format!("the profile was saved as `{}`", path.display()));
        return failure.hint(format!(
            "make room and run `perfprof report {}`",
            path.display()
        ));
    }
    failure
}

/// Another tool's file says nothing of its coverage: that it cannot be judged is said, and is no failing of it.
fn exit_of(profile: &Profile, verdict: &Verdict) -> Exit {
    match (&profile.recording.origin, verdict) {
        (Origin::Foreign { .. }, _) | (_, Verdict::Trusted) => Exit::Success,
        (Origin::Perfprof, Verdict::Inconclusive { .. }) => Exit::Inconclusive,
    }
}

fn encode(format: Format, profile: &Profile, per_thread: bool) -> Result<Vec<u8>, Failure> {
    Ok(match format {
        Format::Pprof => pprof::encode(profile),
        Format::Folded => folded::encode(profile, per_thread).into_bytes(),
        Format::Speedscope => speedscope::render(profile).into_bytes(),
        Format::Svg => flamegraph::render(profile)
            .map_err(|error| Failure::new(Exit::Failed, error))?
            .into_bytes(),
    })
}
