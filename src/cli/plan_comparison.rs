//! `perfprof plan`: how long to record each side of a comparison.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::args::PlanArgs;
use super::report::read;
use super::stop::{Exit, Failure};
use crate::analysis::{HotPath, HotPaths};
use crate::compare::{Options, Plan, PlanQuestion, plan};
use crate::profile::Profile;

/// Without a profile: as many paths above half a percent as services here had, and independent samples.
const USUAL_PATHS: u32 = 50;
const USUAL_HZ: f64 = 199.0;
/// Of so many paths of about the asked size, the one with the longest bursts is taken.
const LIKE: usize = 3;

pub(super) fn run(args: &PlanArgs) -> Result<Exit, Failure> {
    let known = args
        .profile
        .as_deref()
        .map(|path| Known::read(path, args.share))
        .transpose()?
        .unwrap_or_default();
    let options = Options::default();
    let question = PlanQuestion {
        share: args.share,
        change: args.change,
        cores: args.cores.or(known.cores).unwrap_or(1.0),
        frequency_hz: args.frequency.or(known.frequency_hz).unwrap_or(USUAL_HZ),
        power: args.power,
        paths: args.paths.or(known.paths).unwrap_or(USUAL_PATHS) as usize,
        false_discovery_rate: options.false_discovery_rate,
        design_effect: known.design_effect.unwrap_or(1.0),
        runs: args.runs as usize,
    };
    let plan = plan(&question);
    let text = match args.json {
        true => format!("{:#}\n", document(&question, &plan, &known)),
        false => words(&question, &plan, &known),
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::new(Exit::NotWritten, error))?;
    Ok(Exit::Success)
}

/// What a profile of the service says.
#[derive(Debug, Default)]
struct Known {
    cores: Option<f64>,
    frequency_hz: Option<f64>,
    paths: Option<u32>,
    design_effect: Option<f64>,
}

impl Known {
    fn read(path: &Path, share: f64) -> Result<Known, Failure> {
        let profile: Profile = read(path, None)?;
        let hot = HotPaths::of(&profile, 1000);
        let tested = hot
            .by_total
            .iter()
            .filter(|path| path.share.value >= Options::default().min_share);
        // Bursts differ from path to path; those of a like size are the best guess.
        let mut like: Vec<&HotPath> = tested.clone().collect();
        like.sort_by(|a, b| {
            let far = |path: &HotPath| (path.share.value / share).ln().abs();
            far(a).total_cmp(&far(b))
        });
        let effects = like
            .iter()
            .take(LIKE)
            .filter_map(|path| path.share.design_effect);
        let effect = effects.reduce(f64::max);
        let seconds = profile.recording.duration_ns as f64;
        let hz = profile.recording.frequency_hz;
        Ok(Known {
            cores: (seconds > 0.0 && profile.total_cpu_ns() > 0)
                .then(|| profile.total_cpu_ns() as f64 / seconds),
            frequency_hz: (hz > 0.0).then_some(hz),
            paths: u32::try_from(tested.count())
                .ok()
                .filter(|count| *count > 0),
            design_effect: effect.map(|effect| effect.max(1.0)),
        })
    }
}

fn words(question: &PlanQuestion, plan: &Plan, known: &Known) -> String {
    let bursts = match known.design_effect {
        Some(effect) => format!("a design effect of {effect:.1}, as measured in the profile"),
        None => "independent samples (give `--profile` to have measured how they come in bursts)"
            .to_owned(),
    };
    let together = match question.runs {
        1 => "in one run".to_owned(),
        runs => format!(
            "in {runs} runs that take turns, {} each",
            duration(plan.seconds / runs as f64)
        ),
    };
    format!(
        "To find a change by {:.1} % of a path with {:.1} % of the samples, in {:.0} of 100 cases:\n\n  {:.0} samples on each side: {} at \
         {:.0} Hz and {:.2} cores, {together}\n\nThis supposes {bursts}, {} paths tested together at a false discovery rate of {:.0} %, \
         and that runs vary no more than their blocks.\nCompare with `--tolerance {:.2}%`: a change must exceed the tolerance to be told.\n",
        question.change * 100.0,
        question.share * 100.0,
        question.power * 100.0,
        plan.samples.ceil(),
        duration(plan.seconds),
        question.frequency_hz,
        question.cores,
        question.paths,
        question.false_discovery_rate * 100.0,
        question.change * 50.0,
    )
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn document(question: &PlanQuestion, plan: &Plan, known: &Known) -> serde_json::Value {
    json!({
        "schema": "perfprof.plan",
        "schema_version": 1,
        "share": question.share,
        "change": question.change,
        "cores": question.cores,
        "frequency_hz": question.frequency_hz,
        "power": question.power,
        "paths": question.paths,
        "false_discovery_rate": question.false_discovery_rate,
        "design_effect": question.design_effect,
        "runs_per_side": question.runs,
        "design_effect_measured": known.design_effect.is_some(),
        "tolerance": question.change / 2.0,
        "samples_per_side": plan.samples.ceil(),
        "seconds_per_side": plan.seconds,
    })
}
