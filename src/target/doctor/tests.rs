use super::super::capabilities::CapSet;
use super::super::cgroup::Mode;
use super::super::host::{Probes, Sysctls};
use super::*;

/// A root shell on a common virtual machine: everything but a PMU.
fn root_vm() -> Host {
    Host {
        online_cpus: vec![0, 1],
        kernel_release: "6.18.44".into(),
        kernel_version: (6, 18, 44),
        kernel_build: "Linux version 6.18.44".into(),
        capabilities: CapSet::parse("000001fffeffffff"),
        sysctls: Sysctls {
            perf_event_paranoid: Some(2),
            kptr_restrict: Some(0),
            unprivileged_bpf_disabled: Some(2),
            perf_event_mlock_kb: Some(516),
            perf_event_max_sample_rate: Some(100_000),
            perf_event_max_stack: Some(127),
            perf_cpu_time_max_percent: Some(25),
            bpf_stats_enabled: Some(1),
        },
        btf: true,
        uprobe_pmu: true,
        kprobe_pmu: true,
        tracefs: Some("/sys/kernel/tracing".into()),
        kernel_addresses: Some(true),
        cgroup_mode: Mode::V2,
        initial_pid_namespace: Some(true),
        initial_user_namespace: Some(true),
        seccomp: Some(0),
        ..Host::default()
    }
}

fn find<'a>(diagnosis: &'a Diagnosis, id: &str) -> &'a Finding {
    diagnosis
        .findings
        .iter()
        .find(|f| f.id == id)
        .expect("a finding with this id")
}

#[test]
fn a_root_shell_lacks_only_the_pmu() {
    let diagnosis = Diagnosis::of(&root_vm(), "/usr/bin/perfprof");
    let lacking: Vec<&str> = diagnosis
        .findings
        .iter()
        .filter(|f| f.status != Status::Ok)
        .map(|f| f.id)
        .collect();
    assert_eq!(lacking, ["hardware_pmu"]);
    assert!(diagnosis.can_record() && diagnosis.plan.bpf && diagnosis.plan.kernel_symbols);
    assert_eq!(diagnosis.plan.event, "cpu-clock");
    assert_eq!(diagnosis.plan.reach, "every process");
    assert_eq!(
        (diagnosis.grant_shell, diagnosis.grant_kubernetes),
        (None, None)
    );
}

#[test]
fn an_ordinary_user_gets_one_setcap_command_and_one_manifest() {
    let mut host = root_vm();
    host.capabilities = CapSet::default();
    host.kernel_addresses = Some(false);
    let diagnosis = Diagnosis::of(&host, "/opt/my tools/perfprof");
    assert!(diagnosis.can_record(), "own processes can be recorded");
    assert!(!diagnosis.plan.bpf && !diagnosis.plan.kernel_frames && !diagnosis.plan.system_wide);
    assert_eq!(diagnosis.plan.reach, "only your own processes");
    assert_eq!(
        diagnosis.grant_shell.as_deref(),
        Some(
            "setcap cap_perfmon,cap_bpf,cap_sys_ptrace,cap_syslog,cap_checkpoint_restore,\
             cap_dac_read_search,cap_ipc_lock+ep '/opt/my tools/perfprof'"
        )
    );
    let manifest = diagnosis.grant_kubernetes.as_deref().expect("manifest");
    assert!(
        manifest.contains("capabilities: {add: [PERFMON, BPF, SYS_PTRACE, SYSLOG"),
        "{manifest}"
    );
    assert_eq!(
        find(&diagnosis, "perf_event_paranoid").status,
        Status::Limited
    );
}

#[test]
fn perfmon_and_bpf_suffice_on_an_upstream_kernel_but_not_on_debian_with_paranoid_3() {
    let mut host = root_vm();
    host.capabilities = CapSet::of(&[Capability::Perfmon, Capability::Bpf]);
    host.sysctls.perf_event_paranoid = Some(3);
    let upstream = Diagnosis::of(&host, "perfprof");
    assert!(upstream.can_record() && upstream.plan.bpf && upstream.plan.kernel_frames);

    host.kernel_build = "Linux version 6.1.0-28-amd64 (debian-kernel@lists.debian.org)".into();
    let debian = Diagnosis::of(&host, "perfprof");
    assert!(!debian.can_record() && !debian.plan.bpf);
    assert_eq!(debian.plan.reach, "no process");
    let finding = find(&debian, "perf_event_paranoid");
    assert_eq!(finding.status, Status::Missing);
    assert!(finding.lost.contains("refuse even CAP_PERFMON"));
    assert_eq!(
        finding.fix.shell.as_deref(),
        Some("sysctl -w kernel.perf_event_paranoid=2")
    );
    let manifest = debian.grant_kubernetes.as_deref().expect("manifest");
    assert!(manifest.contains("privileged: true"));

    host.probes = Probes {
        software_event: Some(true),
        ..Probes::default()
    };
    assert!(
        Diagnosis::of(&host, "perfprof").can_record(),
        "the kernel's own answer wins"
    );
}

#[test]
fn a_sidecar_is_told_about_seccomp_and_the_shared_namespace() {
    let mut host = root_vm();
    host.capabilities = CapSet::of(&[Capability::Perfmon, Capability::Bpf, Capability::SysPtrace]);
    host.initial_pid_namespace = Some(false);
    host.seccomp = Some(2);
    host.tracefs = None;
    host.probes.bpf_program = Some(false);
    let alone = Diagnosis::of(&host, "perfprof");
    assert!(!alone.plan.bpf && alone.can_record());
    assert_eq!(find(&alone, "seccomp").status, Status::Limited);
    let manifest = alone.grant_kubernetes.as_deref().expect("manifest");
    assert!(manifest.contains("shareProcessNamespace: true"));
    assert!(manifest.contains("seccompProfile: {type: Unconfined}"));

    host.init_comm = Some("pause".into());
    let shared = Diagnosis::of(&host, "perfprof");
    assert_eq!(find(&shared, "pid_namespace").status, Status::Ok);
}

#[test]
fn capabilities_of_a_child_user_namespace_do_not_count() {
    let mut host = root_vm();
    host.initial_user_namespace = Some(false);
    let diagnosis = Diagnosis::of(&host, "perfprof");
    assert!(!diagnosis.plan.bpf && !diagnosis.plan.kernel_frames);
    assert_eq!(find(&diagnosis, "cap_perfmon").status, Status::Missing);
    assert_eq!(diagnosis.grant_shell, None, "setcap would not help");
}

#[test]
fn without_btf_or_on_an_old_kernel_the_perf_sampler_is_left() {
    let mut host = root_vm();
    host.btf = false;
    let diagnosis = Diagnosis::of(&host, "perfprof");
    assert!(!diagnosis.plan.bpf && diagnosis.can_record());
    assert_eq!(find(&diagnosis, "btf").status, Status::Missing);

    let mut host = root_vm();
    host.kernel_version = (5, 4, 0);
    host.capabilities = CapSet::default();
    let old = Diagnosis::of(&host, "perfprof");
    let fix = find(&old, "cap_bpf").fix.shell.as_deref();
    assert_eq!(fix, Some("setcap cap_sys_admin+ep perfprof"));
    assert_eq!(find(&old, "cap_sys_resource").status, Status::Missing);
    let all = old.grant_shell.as_deref().expect("a command");
    assert!(
        all.starts_with("setcap cap_sys_admin,cap_sys_ptrace,"),
        "{all}"
    );
}

#[test]
fn a_machine_of_which_nothing_is_known_cannot_record() {
    let diagnosis = Diagnosis::of(&Host::default(), "perfprof");
    assert!(!diagnosis.can_record());
    assert_eq!(
        find(&diagnosis, "perf_event_paranoid").status,
        Status::Missing
    );
}

#[test]
fn everything_that_is_lost_is_named() {
    for host in [root_vm(), Host::default()] {
        for finding in Diagnosis::of(&host, "perfprof").findings {
            assert_eq!(
                finding.lost.is_empty(),
                finding.status == Status::Ok,
                "{}",
                finding.id
            );
        }
    }
}
