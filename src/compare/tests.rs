//! Comparisons of profiles whose truth is known: made by drawing ticks, slice by slice.

use fastrand::Rng;

use super::decide::{Case, judge};
use super::evaluate::{Design, evaluate};
use super::material::Material;
use super::*;
use crate::profile::{
    Accounting, ElfAddr, Frame, FrameKind, Function, Line, Origin, Profile, ProfileBuilder,
    Recording, Sample, StackEnd, Thread,
};

const SLICES: u32 = 300;
const TICK_NS: u64 = 5_000_000;

/// A program: stacks from root to leaf (`main;serve;parse`) and how much of the CPU time each takes.
type Program<'a> = &'a [(&'a str, f64)];

/// A recording of `program`, 30 s long, with `ticks` on average in each slice of 100 ms. `started` orders runs.
fn record(program: Program, ticks: f64, started: u64, rng: &mut Rng) -> Profile {
    let mut builder = ProfileBuilder::default();
    let thread = builder.thread(Thread {
        pid: 1,
        tid: 1,
        name: "app".into(),
        process: "app".into(),
    });
    let stacks: Vec<_> = program
        .iter()
        .map(|(stack, _)| {
            let frames: Vec<_> = stack
                .split(';')
                .map(|name| {
                    let function = builder.function(Function {
                        name: name.into(),
                        linkage_name: String::new(),
                        file: String::new(),
                    });
                    builder.frame(Frame {
                        kind: FrameKind::User,
                        mapping: None,
                        addr: ElfAddr(0),
                        lines: vec![Line { function, line: 0 }],
                        unresolved: None,
                    })
                })
                .collect();
            builder.stack(frames)
        })
        .collect();
    let whole: f64 = program.iter().map(|(_, weight)| weight).sum();
    for slice in 0..SLICES {
        let count = (ticks * whole).round() as u64;
        for _ in 0..count {
            let mut at = rng.f64() * whole;
            let drawn = program.iter().position(|(_, weight)| {
                at -= weight;
                at < 0.0
            });
            builder.sample(Sample {
                slice,
                thread,
                stack: stacks[drawn.unwrap_or(0)],
                end: StackEnd::Root,
                count: 1,
                cpu_ns: TICK_NS,
            });
        }
    }
    let recording = Recording {
        origin: Origin::Perfprof,
        service: "app".into(),
        event: "cpu-clock".into(),
        unwind: "dwarf".into(),
        frequency_hz: 1e9 / TICK_NS as f64,
        duration_ns: u64::from(SLICES) * 100_000_000,
        slice_ns: 100_000_000,
        started_unix_ns: started,
        ..Recording::default()
    };
    builder.build(recording, Accounting::default())
}

fn run(profile: Profile, work: Option<f64>) -> Run {
    let mut run = Run::new(format!("{}.pb.gz", fastrand::u64(..)), profile);
    run.work = work;
    run
}

/// One run a side, 30 s at 20 ticks a slice unless the program is heavier.
fn pair(before: Program, after: Program, work: Option<f64>, rng: &mut Rng) -> [Vec<Run>; 2] {
    [before, after].map(|program| vec![run(record(program, 20.0, 0, rng), work)])
}

fn compare(sides: [Vec<Run>; 2]) -> Comparison {
    let none = LoadSide::default();
    let mut comparison = Comparison::of("app", sides, [&none, &none], &Options::default());
    // Made-up recordings have no accounting to be covered by; that is another room's business.
    comparison
        .doubts
        .retain(|doubt| !doubt.contains("inconclusive by itself"));
    comparison.conclude();
    comparison
}

fn path_of<'a>(comparison: &'a Comparison, name: &str) -> &'a Path {
    let path = comparison.paths.iter().find(|path| path.name == name);
    path.unwrap_or_else(|| panic!("`{name}` is tested"))
}

fn verdict_of(comparison: &Comparison, name: &str) -> Verdict {
    path_of(comparison, name).verdict
}

/// Names of the paths with a verdict.
fn with_verdict(comparison: &Comparison, told: impl Fn(Verdict) -> bool) -> Vec<&str> {
    let paths = comparison.paths.iter();
    paths
        .filter(|path| told(path.verdict))
        .map(|path| path.name.as_str())
        .collect()
}

/// Verdicts without the self-check, which simulations need not pay for.
fn verdicts([before, after]: &[Vec<Run>; 2]) -> Vec<(String, Verdict)> {
    let runs = [before.as_slice(), after.as_slice()];
    let options = Options::default();
    let material = Material::of(runs, options.min_share);
    let measure = Measure::of(before, after);
    let [b, a] = material.evidence(runs, measure);
    let design = Design {
        paths: material.tested.len(),
        measure,
        paired: false,
        resamples: 300,
    };
    let evaluation = evaluate(&b, &a, design);
    let case = Case::of(&evaluation, measure, material.common);
    let (paths, total) = judge(&case, &options);
    let names = material
        .tested
        .iter()
        .map(|f| material.functions.get(*f).name.clone());
    let mut told: Vec<(String, Verdict)> = names
        .zip(paths.iter().map(|judged| judged.verdict))
        .collect();
    told.extend(total.map(|total| ("the whole".to_owned(), total.verdict)));
    told
}

const SHOP: Program = &[
    ("main;serve;parse", 0.30),
    ("main;serve;query", 0.40),
    ("main;render", 0.20),
    ("main;log", 0.10),
];

#[test]
fn a_recording_against_itself_and_against_its_like_is_no_change() {
    let mut rng = Rng::with_seed(1);
    let recorded = record(SHOP, 20.0, 0, &mut rng);
    let same = compare([vec![run(recorded.clone(), None)], vec![run(recorded, None)]]);
    assert_eq!(same.verdict, Verdict::Unchanged, "{}", same.reason);
    let trials = 60;
    let alarms = (0..trials)
        .filter(|_| {
            verdicts(&pair(SHOP, SHOP, None, &mut rng))
                .iter()
                .any(|(_, v)| v.is_change())
        })
        .count();
    // At most 5 % are allowed; 60 trials of 5 % give more than 8 once in 200.
    assert!(alarms <= 8, "{alarms} of {trials}");
}

#[test]
fn a_path_that_falls_from_30_to_24_percent_is_found_and_no_other_is() {
    let mut rng = Rng::with_seed(2);
    let faster: Program = &[
        ("main;serve;parse", 0.24),
        ("main;serve;query", 0.40 * 0.76 / 0.70),
        ("main;render", 0.20 * 0.76 / 0.70),
        ("main;log", 0.10 * 0.76 / 0.70),
    ];
    let trials = 20;
    for _ in 0..trials {
        // 6,000 samples a side.
        let told = verdicts(&pair(SHOP, faster, None, &mut rng));
        let changed: Vec<&str> = told
            .iter()
            .filter(|(_, v)| v.is_change())
            .map(|(name, _)| name.as_str())
            .collect();
        assert!(changed.contains(&"parse"), "{told:?}");
        assert!(
            changed.iter().all(|name| ["parse", "serve"].contains(name)),
            "{told:?}"
        );
    }
}

#[test]
fn cost_per_unit_of_work_tells_an_absolute_change_where_shares_cannot() {
    let mut rng = Rng::with_seed(3);
    let slower: Program = &[
        ("main;serve;parse", 0.60),
        ("main;serve;query", 0.80),
        ("main;render", 0.40),
        ("main;log", 0.20),
    ];
    let by_cost = compare(pair(SHOP, slower, Some(1000.0), &mut rng));
    assert_eq!(
        (by_cost.measure, by_cost.verdict),
        (Measure::Cost, Verdict::Regressed),
        "{}",
        by_cost.reason
    );
    assert_eq!(verdict_of(&by_cost, "parse"), Verdict::Regressed);
    let path = path_of(&by_cost, "parse");
    let change = path.figure.change.expect("was there before");
    assert!((0.9..1.1).contains(&change), "doubled: {change}");
    assert!(path.figure.interval.low < 1.0 && path.figure.interval.high.expect("bounded") > 1.0);
    let share = &path.figures.share;
    assert!(
        (share.before - share.after).abs() < 0.05,
        "its share is what it was"
    );
}

#[test]
fn inlined_code_is_moved_cost_and_no_change() {
    let mut rng = Rng::with_seed(4);
    let inlined: Program = &[
        ("main;serve", 0.30),
        ("main;serve;query", 0.40),
        ("main;render", 0.20),
        ("main;log", 0.10),
    ];
    let comparison = compare(pair(SHOP, inlined, Some(1.0), &mut rng));
    let parse = path_of(&comparison, "parse");
    assert_eq!(parse.shift, Some(Shift::InlinedInto("serve".into())));
    let changed = with_verdict(&comparison, Verdict::is_change);
    assert!(changed.is_empty(), "{changed:?}");
    let back = compare(pair(inlined, SHOP, Some(1.0), &mut rng));
    let parse = path_of(&back, "parse");
    assert_eq!(parse.shift, Some(Shift::OutlinedFrom("serve".into())));
    assert!(!back.paths.iter().any(|path| path.verdict.is_change()));
}

#[test]
fn inlined_code_that_also_got_cheaper_is_an_improvement_of_its_caller() {
    let mut rng = Rng::with_seed(5);
    let faster: Program = &[
        ("main;serve", 0.05),
        ("main;serve;query", 0.40),
        ("main;render", 0.20),
        ("main;log", 0.10),
    ];
    let comparison = compare(pair(SHOP, faster, Some(1.0), &mut rng));
    assert_eq!(verdict_of(&comparison, "serve"), Verdict::Improved);
    assert_eq!(
        comparison.verdict,
        Verdict::Improved,
        "{}",
        comparison.reason
    );
}

#[test]
fn a_callee_that_is_new_in_a_caller_that_got_cheaper_is_no_regression() {
    let mut rng = Rng::with_seed(12);
    // Half of the time in `lookup` itself; then a twentieth, mostly in a comparison that was inlined before.
    let old: Program = &[
        ("main;lookup", 0.50),
        ("main;render", 0.30),
        ("main;log", 0.20),
    ];
    let new: Program = &[
        ("main;lookup", 0.01),
        ("main;lookup;compare", 0.04),
        ("main;render", 0.30),
        ("main;log", 0.20),
    ];
    for work in [None, Some(1.0)] {
        let comparison = compare(pair(old, new, work, &mut rng));
        assert_eq!(verdict_of(&comparison, "lookup"), Verdict::Improved);
        assert!(
            !comparison
                .paths
                .iter()
                .any(|path| path.verdict == Verdict::Regressed)
        );
        assert_eq!(
            comparison.verdict,
            Verdict::Improved,
            "{}",
            comparison.reason
        );
    }
}

#[test]
fn what_is_called_by_code_that_replaced_other_code_is_no_regression() {
    let mut rng = Rng::with_seed(13);
    // As when `entry(word.to_string())` becomes `get_mut(word)`: other calls of other library code, and cheaper.
    let old: Program = &[
        ("main;count;entry;hash", 0.20),
        ("main;count;entry;find;equal", 0.05),
        ("main;count;to_string;alloc", 0.25),
        ("main;render", 0.80),
        ("main;log", 0.60),
    ];
    let new: Program = &[
        ("main;count;get_mut;hash", 0.20),
        ("main;count;get_mut;table_get_mut;equal", 0.10),
        ("main;count;get_mut;table_get_mut;probe", 0.10),
        ("main;render", 0.80),
        ("main;log", 0.60),
    ];
    for work in [None, Some(1.0)] {
        let comparison = compare(pair(old, new, work, &mut rng));
        let regressed = with_verdict(&comparison, |verdict| verdict == Verdict::Regressed);
        assert!(regressed.is_empty(), "{regressed:?}");
        assert_eq!(verdict_of(&comparison, "count"), Verdict::Improved);
    }
}

/// Twelve steps of one loop, the first `changed` of them with their cost multiplied.
fn steps(changed: usize, by: f64) -> Vec<(String, f64)> {
    let cost = |ix: usize| if ix < changed { by } else { 1.0 };
    (0..12)
        .map(|ix| (format!("main;step{ix}"), cost(ix) / 12.0))
        .collect()
}

fn borrowed(program: &[(String, f64)]) -> Vec<(&str, f64)> {
    program
        .iter()
        .map(|(stack, weight)| (stack.as_str(), *weight))
        .collect()
}

#[test]
fn what_did_not_change_is_not_held_against_a_majority_that_did() {
    let mut rng = Rng::with_seed(14);
    let old = steps(0, 1.0);
    for by in [0.6, 1.5] {
        let new = steps(8, by);
        for work in [None, Some(1.0)] {
            let sides = pair(&borrowed(&old), &borrowed(&new), work, &mut rng);
            let told = verdicts(&sides);
            for step in 8..12 {
                let name = format!("step{step}");
                let (_, verdict) = told.iter().find(|(n, _)| *n == name).expect("tested");
                assert!(!verdict.is_change(), "{by} {work:?} {name}: {told:?}");
            }
        }
    }
}

#[test]
fn halves_that_change_against_each_other_are_not_told_by_shares() {
    let mut rng = Rng::with_seed(15);
    let old: Program = &[("main;hot", 0.60), ("main;a", 0.20), ("main;b", 0.20)];
    let halved: Program = &[("main;hot", 0.30), ("main;a", 0.20), ("main;b", 0.20)];
    let [mut before, mut after] = pair(old, halved, None, &mut rng);
    for run in before.iter_mut().chain(&mut after) {
        // Only shares are known.
        run.profile.recording.duration_ns = 0;
    }
    let comparison = compare([before, after]);
    assert_eq!(comparison.measure, Measure::Share);
    assert!(!comparison.paths.iter().any(|path| path.verdict.is_change()));
    assert_eq!(comparison.verdict, Verdict::Inconclusive);
}

#[test]
fn a_call_that_a_callee_took_over_is_no_regression_of_the_callee() {
    let mut rng = Rng::with_seed(16);
    // By a tail call, `hash` seemed to be called by `handle`; inlined, it is part of `ingest`.
    let tail: Program = &[
        ("main;handle;ingest", 0.20),
        ("main;handle;hash", 0.25),
        ("main;handle;parse", 0.25),
        ("main;render", 0.30),
    ];
    let inlined: Program = &[
        ("main;handle;ingest", 0.45),
        ("main;handle;parse", 0.25),
        ("main;render", 0.30),
    ];
    let nested: Program = &[
        ("main;handle;ingest", 0.20),
        ("main;handle;ingest;hash", 0.25),
        ("main;handle;parse", 0.25),
        ("main;render", 0.30),
    ];
    for other in [inlined, nested] {
        for (before, after) in [(tail, other), (other, tail)] {
            let comparison = compare(pair(before, after, Some(1.0), &mut rng));
            let changed = with_verdict(&comparison, Verdict::is_change);
            assert!(changed.is_empty(), "{changed:?}");
        }
    }
}

#[test]
fn a_renamed_module_is_matched_name_by_name() {
    let mut rng = Rng::with_seed(6);
    let old: Program = &[
        ("main;json::parse;json::skip", 0.30),
        ("main;json::parse;json::number", 0.15),
        ("main;json::parse", 0.05),
        ("main;render", 0.50),
    ];
    let new: Program = &[
        ("main;simd_json::parse;simd_json::skip", 0.30),
        ("main;simd_json::parse;simd_json::number", 0.15),
        ("main;simd_json::parse", 0.05),
        ("main;render", 0.50),
    ];
    let comparison = compare(pair(old, new, Some(1.0), &mut rng));
    for (name, was) in [
        ("simd_json::parse", "json::parse"),
        ("simd_json::skip", "json::skip"),
        ("simd_json::number", "json::number"),
    ] {
        let path = path_of(&comparison, name);
        assert_eq!(path.renamed_from.as_deref(), Some(was));
        assert!(!path.verdict.is_change(), "{path:?}");
    }
    assert!(
        !comparison
            .paths
            .iter()
            .any(|path| path.name == "json::parse")
    );
}

#[test]
fn callers_and_callees_that_are_renamed_together_are_matched() {
    let mut rng = Rng::with_seed(17);
    let old: Program = &[
        ("main;handle;parse", 0.5),
        ("main;handle", 0.2),
        ("main;render", 0.3),
    ];
    let new: Program = &[
        ("main2;handle2;parse", 0.5),
        ("main2;handle2", 0.2),
        ("main2;render", 0.3),
    ];
    let comparison = compare(pair(old, new, Some(1.0), &mut rng));
    let was = |name: &str| {
        let path = comparison.paths.iter().find(|path| path.name == name);
        path.expect("tested").renamed_from.clone()
    };
    assert_eq!(
        (was("main2").as_deref(), was("handle2").as_deref()),
        (Some("main"), Some("handle"))
    );
    assert!(!comparison.paths.iter().any(|path| path.verdict.is_change()));
}

#[test]
fn three_samples_show_no_equality() {
    let mut rng = Rng::with_seed(18);
    let [before, after] = [("main;a", 1.0), ("main;b", 1.0)].map(|program| {
        let mut sample = record(&[program], 1.0, 0, &mut rng);
        sample.samples.truncate(3);
        sample.recording.duration_ns = 0;
        vec![run(sample, None)]
    });
    let comparison = compare([before, after]);
    assert_eq!(
        comparison.verdict,
        Verdict::Inconclusive,
        "{}",
        comparison.reason
    );
}

#[test]
fn a_new_path_and_one_that_is_gone_need_no_special_case() {
    let mut rng = Rng::with_seed(7);
    let more: Program = &[
        ("main;serve;parse", 0.30),
        ("main;serve;query", 0.40),
        ("main;render", 0.20),
        ("main;log", 0.10),
        ("main;audit;sign", 0.20),
    ];
    let comparison = compare(pair(SHOP, more, Some(1.0), &mut rng));
    let sign = path_of(&comparison, "sign");
    assert_eq!(
        (sign.verdict, sign.figure.change),
        (Verdict::Regressed, None)
    );
    let comparison = compare(pair(more, SHOP, Some(1.0), &mut rng));
    let sign = path_of(&comparison, "sign");
    assert_eq!(
        (sign.verdict, sign.figure.change),
        (Verdict::Improved, Some(-1.0))
    );
}

/// Five runs a side that take turns on a machine that gets slower and slower, by 4 % each.
fn drifting(after: Program, rng: &mut Rng) -> [Vec<Run>; 2] {
    let mut sides = [Vec::new(), Vec::new()];
    for turn in 0..10u64 {
        let program = [SHOP, after][(turn % 2) as usize];
        let slow = 1.0 + 0.04 * turn as f64;
        let slowed: Vec<(&str, f64)> = program
            .iter()
            .map(|(stack, w)| (*stack, w * slow))
            .collect();
        let profile = record(&slowed, 6.0, 1 + turn, rng);
        sides[(turn % 2) as usize].push(run(profile, Some(1.0)));
    }
    sides
}

#[test]
fn drift_cancels_between_runs_that_take_turns() {
    let mut rng = Rng::with_seed(8);
    let same = compare(drifting(SHOP, &mut rng));
    assert!(same.interleaved);
    assert!(!same.verdict.is_change(), "{}", same.reason);
    let halved: Program = &[
        ("main;serve;parse", 0.30),
        ("main;serve;query", 0.20),
        ("main;render", 0.20),
        ("main;log", 0.10),
    ];
    let changed = compare(drifting(halved, &mut rng));
    assert_eq!(verdict_of(&changed, "query"), Verdict::Improved);
    assert!(!verdict_of(&changed, "render").is_change());
    // 20 % less in all, hidden by a drift of 40 % over the runs.
    let (_, whole) = changed.total.as_ref().expect("work is known");
    assert_eq!(*whole, Verdict::Improved);
}

#[test]
fn runs_that_differ_by_themselves_are_told_from_a_change() {
    // A service whose runs differ: which of two paths is hot depends on the run, and three runs a side show it.
    let mut rng = Rng::with_seed(9);
    let program = |share: f64| vec![("main;a", share), ("main;b", 1.0 - share)];
    let sides = [[0.3, 0.5, 0.4], [0.5, 0.45, 0.6]].map(|shares| {
        shares
            .iter()
            .map(|share| run(record(&program(*share), 20.0, 0, &mut rng), Some(1.0)))
            .collect::<Vec<Run>>()
    });
    let first = |side: &[Run]| vec![run(side[0].profile.clone(), side[0].work)];
    let singles = [first(&sides[0]), first(&sides[1])];
    let comparison = compare(sides);
    assert!(
        !verdict_of(&comparison, "a").is_change(),
        "0.40 and 0.52 on average, and a spread of 0.2"
    );
    // Blocks of one run each would have passed for a change, runs do not.
    let grown = |comparison: &Comparison| {
        let path = comparison.paths.iter().find(|path| path.name == "a");
        path.expect("tested").figures.share.interval.low
    };
    let single = compare(singles);
    assert!(grown(&single) > 0.0 && grown(&comparison) < 0.0);
}

#[test]
fn sides_recorded_differently_are_told() {
    let mut rng = Rng::with_seed(10);
    let [before, mut after] = pair(SHOP, SHOP, None, &mut rng);
    assert_eq!(check(&before, &after), []);
    after[0].profile.recording.unwind = "fp".into();
    let found = check(&before, &after);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].reason.contains("`dwarf` in") && found[0].reason.contains("`fp` in"),
        "{found:?}"
    );
}

#[test]
fn a_recording_given_twice_or_shorter_than_a_second_concludes_nothing() {
    let mut rng = Rng::with_seed(19);
    let recorded = record(SHOP, 20.0, 0, &mut rng);
    let named = |label: &str| Run::new(label.into(), recorded.clone());
    let twice = compare([vec![named("a"), named("a")], vec![named("b")]]);
    assert_eq!(twice.verdict, Verdict::Inconclusive);
    assert!(
        twice.doubts[0].contains("`a` was given more than once"),
        "{:?}",
        twice.doubts
    );
    let short = |label: &str, rng: &mut Rng| {
        let mut profile = record(SHOP, 20.0, 0, rng);
        profile.samples.retain(|sample| sample.slice < 5);
        profile.recording.duration_ns = 500_000_000;
        Run::new(label.into(), profile)
    };
    let comparison = compare([vec![short("a", &mut rng)], vec![short("b", &mut rng)]]);
    assert_eq!(comparison.verdict, Verdict::Inconclusive);
    assert!(
        comparison.doubts[0].contains("shorter than a second"),
        "{:?}",
        comparison.doubts
    );
}

#[test]
fn documents_follow_their_schemas_and_texts_are_harmless() {
    let mut rng = Rng::with_seed(11);
    const NAME: &str = "</details><script>alert(1)</script>|`x`\u{1b}[31m";
    let stack = format!("main;{NAME}");
    let hostile: Program = &[(&stack, 0.2), ("main;render", 0.5), ("main;log", 0.3)];
    let worse: Program = &[(&stack, 0.9), ("main;render", 0.5), ("main;log", 0.3)];
    let comparison = compare(pair(hostile, worse, Some(10.0), &mut rng));
    assert_eq!(
        comparison.verdict,
        Verdict::Regressed,
        "{}",
        comparison.reason
    );
    for (schema, document) in [
        (
            include_str!("../../schemas/performance-comparison.schema.json"),
            document(&comparison, 1),
        ),
        (
            include_str!("../../schemas/optimization-validation-report.schema.json"),
            validation(&comparison, 1),
        ),
    ] {
        let schema = serde_json::from_str(schema).expect("JSON");
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    let text = comment(
        &comparison,
        &Pictures::default(),
        &["perfprof compare".into()],
    );
    // In a code span it is shown and does nothing.
    let shown = "`</details><script>alert(1)</script>|'x'\\x1b[31m`";
    assert!(text.contains(shown), "{text}");
    assert!(!text.replace(shown, "").contains("<script"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.starts_with("## ❌ app: regressed\n"), "{text}");
}
