//! The comparison itself, put together from this room's parts: identity, evidence, evaluation, verdicts.

use super::call_tree::CallTree;
use super::decide::{Basis, Case, Judged, Verdict, against, judge};
use super::evaluate::{Design, Estimate, Evaluation, RelativeInterval, evaluate};
use super::identity::{FnIx, Functions};
use super::material::Material;
use super::self_check::SelfCheck;
use super::settle::{Settle, settle, smallest_change};
use super::{Kpi, LoadSide, Measure, Options, Run, comparable, kpi, self_check};
use crate::analysis::Measure as Weighing;

/// One figure on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub before: f64,
    pub after: f64,
    /// Relative; `None` where there was nothing before.
    pub change: Option<f64>,
    /// 95 %, of the relative change.
    pub interval: RelativeInterval,
}

/// A relative change and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// `None` where there was nothing before.
    pub change: Option<f64>,
    pub interval: RelativeInterval,
}

/// The same path measured in every way that both sides know. Costs and cores in CPU seconds, shares 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    pub cost: Option<Figure>,
    pub cores: Option<Figure>,
    pub share: Figure,
}

/// A function whose cost went elsewhere without being saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shift {
    /// Into this caller.
    InlinedInto(String),
    /// Out of this caller.
    OutlinedFrom(String),
}

impl Shift {
    /// The caller whose sum decides.
    pub fn caller(&self) -> &str {
        match self {
            Shift::InlinedInto(caller) | Shift::OutlinedFrom(caller) => caller,
        }
    }
}

/// A function with all below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    pub name: String,
    pub kernel: bool,
    /// Path of its binary; empty where unknown.
    pub module: String,
    /// Its name before, where it has another now.
    pub renamed_from: Option<String>,
    /// Where the caller's sum decided.
    pub shift: Option<Shift>,
    pub verdict: Verdict,
    /// By the measure that decides.
    pub figure: Figure,
    pub figures: Figures,
    /// Shares of the function's own code, before and after.
    pub self_share: [f64; 2],
    /// Of no difference; and the false discovery rate at which this one would be told.
    pub p: f64,
    pub q: f64,
    /// The evidence that told a change.
    pub basis: Basis,
    /// Its change with that taken out which most of the profile has in common.
    pub against_rest: Change,
    /// It grew or shrank only as most of the profile did.
    pub only_common: bool,
    /// The smallest growth that this data would have shown in four of five cases, relative.
    pub smallest_change: Option<f64>,
    pub settle: Option<Settle>,
    /// A callee whose change is (most of) this one's.
    pub explained_by: Option<String>,
}

/// Functions too small to be tested.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Untested {
    pub functions: usize,
    /// Share of their own code, before and after.
    pub self_share: [f64; 2],
}

/// What the comparison found.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub service: String,
    pub verdict: Verdict,
    /// One sentence.
    pub reason: String,
    pub measure: Measure,
    /// Whether weights are CPU time; else ticks.
    pub by_cpu_time: bool,
    pub runs: [Vec<RunFacts>; 2],
    /// The whole by the measure that decides; `None` where that is the share.
    pub total: Option<(Figure, Verdict)>,
    /// By size of the change that is explained by nothing else, changed ones first.
    pub paths: Vec<Path>,
    pub untested: Untested,
    pub interleaved: bool,
    pub self_check: Option<SelfCheck>,
    pub design_effect: f64,
    pub by_time: bool,
    pub kpis: Vec<Kpi>,
    /// Whole sentences: what to know when reading this.
    pub warnings: Vec<String>,
    /// Whole sentences: why no conclusion should be drawn; empty when one may.
    pub doubts: Vec<String>,
    pub options: Options,
    /// For pictures.
    pub(super) stacks: Stacks,
}

/// A run as the documents state it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    pub label: String,
    pub samples: u64,
    pub cpu_seconds: Option<f64>,
    pub seconds: Option<f64>,
    pub work: Option<f64>,
    pub work_source: Option<String>,
    pub started_unix_ns: Option<u64>,
    pub event: String,
    pub unwind: String,
    pub command: String,
}

/// The stacks of both sides, and what became of their functions.
#[derive(Debug, Clone)]
pub(super) struct Stacks {
    pub(super) tree: std::sync::Arc<CallTree>,
    pub(super) functions: std::sync::Arc<Functions>,
    pub(super) alias: Vec<FnIx>,
    /// Whole of each side in the measure's unit.
    pub(super) amounts: [f64; 2],
    pub(super) ticks: [u64; 2],
}

/// Resamples of blocks: the standard error of a standard error is then 4 %.
const RESAMPLES: usize = 300;

/// Every measure that both sides know, evaluated.
struct Evaluations {
    decisive: Evaluation,
    /// CPU time per second, where that is known and another measure decides.
    cores: Option<Evaluation>,
}

impl Evaluations {
    fn of(material: &Material, runs: [&[Run]; 2], measure: Measure, paired: bool) -> Evaluations {
        let by = |measure: Measure| {
            let [before, after] = material.evidence(runs, measure);
            evaluate(&before, &after, design(material, measure, paired))
        };
        let timed = |run: &Run| run.cpu_seconds().is_some() && run.seconds().is_some();
        let also = measure == Measure::Cost && runs.iter().all(|side| side.iter().all(timed));
        Evaluations {
            decisive: by(measure),
            cores: also.then(|| by(Measure::Cores)),
        }
    }

    /// One path in every measure.
    fn figures(&self, measure: Measure, path: usize) -> Figures {
        let decisive = figure(&self.decisive.paths[path]);
        let cores = self.cores.as_ref().map(|cores| figure(&cores.paths[path]));
        Figures {
            cost: (measure == Measure::Cost).then(|| decisive.clone()),
            cores: match measure {
                Measure::Cores => Some(decisive),
                _ => cores,
            },
            share: figure(&self.decisive.shares[path]),
        }
    }
}

fn design(material: &Material, measure: Measure, paired: bool) -> Design {
    Design {
        paths: material.tested.len(),
        measure,
        paired,
        resamples: RESAMPLES,
    }
}

impl Comparison {
    /// Compares. Both sides have at least one run, and every run a sample.
    pub fn of(
        service: &str,
        mut sides: [Vec<Run>; 2],
        loads: [&LoadSide; 2],
        options: &Options,
    ) -> Comparison {
        let interleaved = super::run::in_pairs(&mut sides);
        let runs = [sides[0].as_slice(), sides[1].as_slice()];
        let material = Material::of(runs, options.min_share);
        let measure = Measure::of(runs[0], runs[1]);
        let evaluations = Evaluations::of(&material, runs, measure, interleaved);
        let evaluation = &evaluations.decisive;
        let total = evaluation.total.as_ref();
        let case = Case::of(evaluation, measure, material.common);
        let (judged, total_judged) = judge(&case, options);
        let [evidence, _] = material.evidence(runs, measure);
        let design = design(&material, measure, interleaved);
        let mut comparison = Comparison {
            service: service.to_owned(),
            verdict: Verdict::Inconclusive,
            reason: String::new(),
            measure,
            by_cpu_time: material.weighing == Weighing::CpuTime,
            runs: runs.map(|side| side.iter().map(RunFacts::of).collect()),
            total: total
                .zip(total_judged)
                .map(|(estimate, judged)| (figure(estimate), judged.verdict)),
            paths: paths(&material, &evaluations, measure, &judged, options),
            untested: material.untested(),
            interleaved,
            self_check: self_check::check(&evidence, design, options),
            design_effect: evaluation.design_effect,
            by_time: evaluation.by_time,
            kpis: Vec::new(),
            warnings: warnings(runs, measure, evaluation, &material, options),
            doubts: [
                comparable::doubts(runs[0], runs[1]),
                comparable::given_twice(runs),
                comparable::too_short(runs),
            ]
            .concat(),
            options: options.clone(),
            stacks: material.stacks(amounts(evaluation)),
        };
        comparison.settle_shifts();
        if super::run::same_recordings(runs[0], runs[1]) {
            comparison.all_unchanged();
        }
        comparison.kpis = kpi::of(&comparison, loads);
        comparison.conclude();
        comparison.sort();
        comparison
    }
}

pub(super) fn figure(estimate: &Estimate) -> Figure {
    Figure {
        before: estimate.before,
        after: estimate.after,
        change: estimate.change(),
        interval: estimate.interval,
    }
}

/// The wholes of both sides; shares have 1.
fn amounts(evaluation: &Evaluation) -> [f64; 2] {
    let total = evaluation.total.as_ref();
    total.map_or([1.0, 1.0], |total| [total.before, total.after])
}

fn paths(
    material: &Material,
    evaluations: &Evaluations,
    measure: Measure,
    judged: &[Judged],
    options: &Options,
) -> Vec<Path> {
    let evaluation = &evaluations.decisive;
    let explained = material.explained(judged, amounts(evaluation));
    let tested = judged.len() + usize::from(evaluation.total.is_some());
    let of_path = |(ix, function): (usize, &FnIx)| {
        let (estimate, judged) = (&evaluation.paths[ix], &judged[ix]);
        let share = &evaluation.shares[ix];
        let name = material.functions.get(*function);
        let rate = options.false_discovery_rate;
        Path {
            name: name.name.clone(),
            kernel: name.kernel,
            module: material.functions.module(*function).to_owned(),
            renamed_from: material.renamed_from(*function),
            shift: material.shift(*function),
            verdict: judged.verdict,
            figure: figure(estimate),
            figures: evaluations.figures(measure, ix),
            self_share: material.graph.self_weight[function.0 as usize],
            p: estimate.p,
            q: judged.q,
            basis: judged.basis,
            against_rest: Change {
                change: against(share, material.common.growth).0,
                interval: against(share, material.common.growth).1,
            },
            only_common: judged.only_common,
            smallest_change: smallest_change(estimate, judged.margin, rate, tested),
            settle: match judged.verdict {
                Verdict::Inconclusive => settle(estimate, judged, rate, tested),
                _ => None,
            },
            explained_by: explained[ix].map(|callee| material.functions.get(callee).name.clone()),
        }
    };
    material.tested.iter().enumerate().map(of_path).collect()
}

fn warnings(
    runs: [&[Run]; 2],
    measure: Measure,
    evaluation: &Evaluation,
    material: &Material,
    options: &Options,
) -> Vec<String> {
    let mut warnings: Vec<String> = options
        .targets
        .iter()
        .filter(|target| !material.has(target))
        .map(|target| format!("the target `{target}` is no path that was tested"))
        .collect();
    if measure != Measure::Cost && !material.common.majority {
        warnings.push(
            "no clear majority of the profile stayed as it was: what grew and what shrank cannot be told apart by shares, and no \
             path is told by them. Give the amount of work"
                .to_owned(),
        );
    }
    match measure {
        Measure::Cost if material.weighing == Weighing::Ticks => warnings.push(
            "CPU time is not known: samples per unit of work are compared, as if both sides were sampled at one rate".to_owned(),
        ),
        Measure::Cost => {}
        Measure::Cores => warnings.push(
            "the amount of work is not known: CPU time per second is compared, as if both sides served the same load (give \
             `--work-before` and `--work-after`, or load-test results)"
                .to_owned(),
        ),
        Measure::Share => warnings.push(
            "only shares are known, and they mislead: when one path halves, all others grow in share. A path is told as changed \
             only against the growth that most of the profile has in common"
                .to_owned(),
        ),
    }
    if measure != Measure::Share && runs.iter().any(|side| side.len() < 2) {
        warnings.push(format!(
            "with one run on a side, how much runs differ by themselves is not measured: {:.0} % are assumed for CPU time as a \
             whole. Several interleaved runs a side measure it (`perfprof ci run`)",
            super::evaluate::single_run_deviation(measure) * 100.0
        ));
    }
    if !evaluation.by_time {
        warnings.push(
            "profiles with too few time slices (another tool's, or shorter than a second) do not say how samples come in bursts; \
             intervals rest on the number of samples and on how runs differ"
                .to_owned(),
        );
    }
    warnings
}

impl RunFacts {
    fn of(run: &Run) -> RunFacts {
        let recording = &run.profile.recording;
        RunFacts {
            label: run.label.clone(),
            samples: run.profile.total_count(),
            cpu_seconds: run.cpu_seconds(),
            seconds: run.seconds(),
            work: run.work,
            work_source: run.work_source.clone(),
            started_unix_ns: run.started_unix_ns(),
            event: recording.event.clone(),
            unwind: recording.unwind.clone(),
            command: recording.command.clone(),
        }
    }
}
