//! What the known files are, in a few words for the manifest.

/// By the path from the artifact root; empty where nothing is known.
pub(super) fn of(path: &str) -> &'static str {
    if let Some(name) = path.strip_prefix("diagnostics/") {
        return of_export(name);
    }
    if path.starts_with("gate-results/") {
        return "verdict of a gate";
    }
    match path {
        "profiling-report.md" => "profiling report with flame graphs and hot paths",
        "coverage.json" => "coverage metrics of each profile",
        "bottleneck-report.json" => "hot paths and wait causes",
        "capacity-analysis.md" | "capacity-analysis.json" => "capacity analysis",
        "performance-comparison.json" | "comparison.md" => "comparison of before and after",
        "optimization-validation-report.json" => "validation of the optimization",
        "load-test-results.json" => "results of load tests",
        "baseline-metrics.json" | "baseline-metrics.csv" => "baseline metrics",
        "gate-waivers.json" => "waivers",
        "history.sqlite3" => "every figure ever measured",
        "hypothesis-log.md" => "hypotheses",
        "performance-intake-report.json" => "performance intake",
        "optimization-plan.json" => "optimization plan",
        "slo-update-record.json" => "SLO changes and sign-offs",
        "PERFORMANCE-REPORT.md" => "performance report",
        "performance-report-manifest.json" => "attachments and recipients of the report",
        "continuous-improvement-notes.md" => "notes for the next cycle",
        _ => "",
    }
}

fn of_export(name: &str) -> &'static str {
    let ends = [
        (".off-cpu.svg", "flame graph of waits"),
        (".capacity.svg", "CPU use over time"),
        (".svg", "flame graph"),
        (".pb.gz", "profile, pprof"),
        (".off-cpu.folded", "waits, folded"),
        (".folded", "folded stacks"),
        (".speedscope.json", "profile, speedscope"),
    ];
    ends.iter()
        .find(|(end, _)| name.ends_with(end))
        .map_or("profiling export", |(_, what)| what)
}
