//! `perfprof doctor`: what can be measured here, what cannot, and the exact command that changes it.
//!
//! In: a [`Diagnosis`]. Out: an aligned table or a JSON document on the given stream, and the exit code.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::stop::{Exit, Failure};
use crate::sampling::{SamplingPlan, Scope, can_open, load_filter};
use crate::sys::perf::{StackSource, Trigger};
use crate::target::doctor::{Diagnosis, Finding, Plan, Status};
use crate::target::host::{Host, Probes};

/// Name and version of the JSON document, see `schemas/doctor.schema.json`.
pub(super) const SCHEMA: &str = "perfprof.doctor";
pub(super) const SCHEMA_VERSION: u32 = 1;

/// Looks, tries, and prints the diagnosis: success when recording is possible.
pub(super) fn run(as_json: bool) -> Result<Exit, Failure> {
    let mut host = Host::inspect();
    host.probes = probe();
    let program = std::env::current_exe().unwrap_or_else(|_| "perfprof".into());
    let diagnosis = Diagnosis::of(&host, &program.to_string_lossy());
    let text = if as_json {
        format!("{:#}\n", document(&diagnosis))
    } else {
        text(&diagnosis)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::new(Exit::NotWritten, error));
        }
        _ => {}
    }
    Ok(exit_of(&diagnosis))
}

fn exit_of(diagnosis: &Diagnosis) -> Exit {
    if diagnosis.can_record() {
        Exit::Success
    } else {
        Exit::NotPermitted
    }
}

/// Tries what can be tried: opening events and loading the programs, which is undone at once.
fn probe() -> Probes {
    let plan = SamplingPlan {
        eager: true,
        scope: Scope::All,
        trigger: Trigger::CpuClock,
        frequency_hz: 1,
        stack: StackSource::CallChain,
        kernel: true,
        cpus: Vec::new(),
        pid_namespace_inum: 0,
        large_rings: false,
        waits: false,
        quota_period_ns: 0,
    };
    Probes {
        hardware_cycles: Some(can_open(Trigger::HardwareCycles, false)),
        software_event: Some(can_open(Trigger::CpuClock, false)),
        bpf_program: Some(load_filter(&plan).is_ok()),
    }
}

/// The diagnosis for people: verdict, table, remedies.
pub(super) fn text(diagnosis: &Diagnosis) -> String {
    let mut lines = vec![one_line(&diagnosis.host), String::new()];
    lines.extend(plan_lines(&diagnosis.plan));
    lines.push(String::new());
    lines.extend(table(&diagnosis.findings));
    lines.extend(remedies(diagnosis));
    lines.join("\n") + "\n"
}

/// The diagnosis for programs.
pub(super) fn document(diagnosis: &Diagnosis) -> Value {
    let plan = &diagnosis.plan;
    let findings: Vec<Value> = diagnosis.findings.iter().map(finding_json).collect();
    json!({
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "can_record": diagnosis.can_record(),
        "host": diagnosis.host,
        "plan": {
            "sampler": plan.sampler,
            "unwind": plan.unwind,
            "event": plan.event,
            "bpf_available": plan.bpf,
            "kernel_frames": plan.kernel_frames,
            "kernel_symbols": plan.kernel_symbols,
            "system_wide": plan.system_wide,
            "reach": plan.reach,
        },
        "findings": findings,
        "grant": {"shell": diagnosis.grant_shell, "kubernetes": diagnosis.grant_kubernetes},
    })
}

fn finding_json(finding: &Finding) -> Value {
    let lost = (!finding.lost.is_empty()).then_some(&finding.lost);
    json!({
        "id": finding.id,
        "area": finding.area.name(),
        "status": finding.status.name(),
        "value": finding.value,
        "lost": lost,
        "fix": {"shell": finding.fix.shell, "kubernetes": finding.fix.kubernetes},
    })
}

fn plan_lines(plan: &Plan) -> Vec<String> {
    if !plan.can_record {
        return vec!["recording is NOT possible; see the remedies below".to_owned()];
    }
    let kernel = match (plan.kernel_frames, plan.kernel_symbols) {
        (true, true) => "with symbols",
        (true, false) => "without symbols",
        (false, _) => "not visible",
    };
    let yes_no = |b: bool| if b { "available" } else { "not available" };
    [
        ("recording", "possible".to_owned()),
        ("processes", plan.reach.to_owned()),
        (
            "by default",
            format!(
                "{} sampler, {} stacks, {} event",
                plan.sampler, plan.unwind, plan.event
            ),
        ),
        ("BPF sampler", yes_no(plan.bpf).to_owned()),
        ("system-wide", yes_no(plan.system_wide).to_owned()),
        ("kernel frames", kernel.to_owned()),
    ]
    .map(|(what, how)| format!("{what:<14} {how}"))
    .to_vec()
}

/// A line per finding: status, name, value, and below it what is lost.
fn table(findings: &[Finding]) -> Vec<String> {
    let width = |of: fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or(0);
    let area = width(|f| f.area.name().len());
    let id = width(|f| f.id.len());
    let mut lines = Vec::new();
    for finding in findings {
        lines.push(format!(
            "{:<7}  {:<area$}  {:<id$}  {}",
            finding.status.name(),
            finding.area.name(),
            finding.id,
            one_line(&finding.value),
        ));
        if finding.status != Status::Ok {
            lines.push(format!(
                "{:<7}  {:<area$}  lost: {}",
                "",
                "",
                one_line(&finding.lost)
            ));
        }
    }
    lines
}

/// The combined command and manifest first, then what else each finding needs, no command twice.
fn remedies(diagnosis: &Diagnosis) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(command) = &diagnosis.grant_shell {
        lines.push(format!("  {}", one_line(command)));
    }
    for finding in &diagnosis.findings {
        let Some(command) = &finding.fix.shell else {
            continue;
        };
        let line = format!("  {}", one_line(command));
        let covered = command.starts_with("setcap ") && diagnosis.grant_shell.is_some();
        if !covered && !lines.contains(&line) {
            lines.push(line);
        }
    }
    if !lines.is_empty() {
        let title = "As root on this machine (each line grants more; take what you need):";
        lines.splice(0..0, [String::new(), title.to_owned()]);
    }
    if let Some(manifest) = &diagnosis.grant_kubernetes {
        lines.push(String::new());
        lines.push("In the Pod's manifest:".to_owned());
        lines.extend(manifest.lines().map(|line| format!("  {line}")));
    }
    lines
}

/// Host names, kernel releases and paths are others' text: no control character reaches the terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::host::Host;

    fn crippled() -> Diagnosis {
        let mut host = Host {
            hostname: "evil\u{1b}[2J\nhost".into(),
            kernel_version: (6, 1, 0),
            seccomp: Some(2),
            initial_pid_namespace: Some(false),
            ..Host::default()
        };
        host.sysctls.perf_event_paranoid = Some(2);
        Diagnosis::of(&host, "/usr/bin/perfprof")
    }

    #[test]
    fn the_document_is_valid_against_its_schema() {
        let schema: Value = serde_json::from_str(include_str!("../../schemas/doctor.schema.json"))
            .expect("the schema is JSON");
        let validator = jsonschema::validator_for(&schema).expect("the schema is one");
        for diagnosis in [
            crippled(),
            Diagnosis::of(&Host::default(), "p"),
            Diagnosis::of(&Host::inspect(), "p"),
        ] {
            let document = document(&diagnosis);
            let errors: Vec<String> = validator
                .iter_errors(&document)
                .map(|e| e.to_string())
                .collect();
            assert!(errors.is_empty(), "{errors:?}");
        }
        assert!(
            !validator.is_valid(&json!({"schema": SCHEMA})),
            "the schema refuses something"
        );
    }

    #[test]
    fn the_exit_code_follows_whether_recording_is_possible() {
        assert_eq!(exit_of(&crippled()), Exit::Success);
        let nothing = Diagnosis::of(&Host::default(), "p");
        assert_eq!(exit_of(&nothing), Exit::NotPermitted);
    }

    #[test]
    fn the_text_is_aligned_escaped_and_names_each_command_once() {
        let text = text(&crippled());
        assert!(!text.contains('\u{1b}') && text.contains("evil?[2J?host"));
        assert_eq!(text.matches("setcap ").count(), 1, "{text}");
        assert!(
            text.contains("sysctl -w kernel.perf_event_paranoid=-1"),
            "{text}"
        );
        assert!(
            text.contains("seccompProfile: {type: Unconfined}"),
            "{text}"
        );
        let rows: Vec<&str> = text
            .lines()
            .filter(|l| l.contains("  capability  "))
            .collect();
        assert!(rows.len() >= 7 && rows.iter().all(|r| r.find("cap_") == rows[0].find("cap_")));
    }
}
