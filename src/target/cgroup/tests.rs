use super::*;

fn place(version: Version, top: &Path, below: &str) -> Place {
    Place {
        version,
        path: format!("/{below}"),
        dir: top.join(below),
        top: top.to_owned(),
    }
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    }
    dir
}

const HYBRID: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
    33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n\
    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
const JOINT: &str =
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:8 - cgroup cgroup rw,cpu,cpuacct";

#[test]
fn separate_and_joint_v1_mounts_are_both_found() {
    let members = parse_memberships("2:cpuacct:/svc\n1:cpu:/svc\n0::/other");
    let mounts = mountinfo::parse(HYBRID);
    assert_eq!(Mode::of(&mounts), Mode::Hybrid);
    let found =
        |controller| locate(&members, &mounts, Path::new("/"), controller).map(|place| place.dir);
    assert_eq!(found(Some("cpu")), Some("/sys/fs/cgroup/cpu/svc".into()));
    assert_eq!(
        found(Some("cpuacct")),
        Some("/sys/fs/cgroup/cpuacct/svc".into())
    );
    assert_eq!(found(None), Some("/sys/fs/cgroup/unified/other".into()));
    assert_eq!(found(Some("memory")), None);

    let members = parse_memberships("4:cpu,cpuacct:/system.slice/a b:c.service");
    let mounts = mountinfo::parse(JOINT);
    assert_eq!(Mode::of(&mounts), Mode::V1);
    for controller in ["cpu", "cpuacct"] {
        let place = locate(&members, &mounts, Path::new("/"), Some(controller)).expect("place");
        let expected = "/sys/fs/cgroup/cpu,cpuacct/system.slice/a b:c.service";
        assert_eq!(place.dir, Path::new(expected));
    }
}

#[test]
fn inside_a_container_the_mount_root_is_taken_off() {
    // Docker on v1 without a cgroup namespace: paths of the host, mounted from the container's own directory.
    let members = parse_memberships("1:cpu:/docker/abc/sub");
    let mounts =
        mountinfo::parse("9 8 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu");
    let place = locate(&members, &mounts, Path::new("/"), Some("cpu")).expect("place");
    assert_eq!(place.dir, Path::new("/sys/fs/cgroup/cpu/sub"));
    assert_eq!(place.top, Path::new("/sys/fs/cgroup/cpu"));

    // A private namespace on v2: the container's own cgroup is called `/`.
    let members = parse_memberships("0::/");
    let mounts = mountinfo::parse("9 8 0:29 / /sys/fs/cgroup ro - cgroup2 cgroup rw");
    let place = locate(&members, &mounts, Path::new("/"), None).expect("place");
    assert_eq!(place.dir, Path::new("/sys/fs/cgroup/"));
}

#[test]
fn a_neighbour_in_the_pod_is_reached_through_its_own_root() {
    let members = parse_memberships("0::/../libpod-x");
    let own = mountinfo::parse("9 8 0:29 / /sys/fs/cgroup ro - cgroup2 cgroup rw");
    assert_eq!(locate(&members, &own, Path::new("/"), None), None);
    let theirs = mountinfo::parse("9 8 0:29 /../libpod-x /sys/fs/cgroup ro - cgroup2 cgroup rw");
    let place = locate(&members, &theirs, Path::new("/proc/12/root"), None).expect("place");
    assert_eq!(place.dir, Path::new("/proc/12/root/sys/fs/cgroup"));
}

#[test]
fn a_hostile_path_never_climbs() {
    let mounts = mountinfo::parse("9 8 0:29 / /sys/fs/cgroup ro - cgroup2 cgroup rw");
    for path in ["/../../etc", "/a/../../etc", "relative"] {
        let members = parse_memberships(&format!("0::{path}"));
        assert_eq!(
            locate(&members, &mounts, Path::new("/"), None),
            None,
            "{path}"
        );
    }
    assert_eq!(parse_memberships("garbage\n1\n:\n").len(), 0);
}

#[test]
fn the_tightest_limit_up_the_tree_counts() {
    let v2 = tree(&[
        ("pod/cpu.max", "50000 100000"),
        ("pod/memory.max", "1000000"),
        ("pod/app/cpu.max", "max 100000"),
        ("pod/app/memory.max", "max"),
        ("pod/app/cgroup.type", "domain"),
        ("pod/app/cpu.weight", "79"),
    ]);
    let app = place(Version::V2, v2.path(), "pod/app");
    let limit = app.cpu_limit().expect("limit");
    assert_eq!(limit.cores, 0.5);
    assert_eq!(
        limit.dir,
        v2.path().join("pod"),
        "throttling is counted at the pod"
    );
    assert_eq!(app.memory_limit().map(|l| l.bytes), Some(1_000_000));
    assert_eq!(app.cpu_weight(), Some(79));
    assert!(!app.is_root() && !app.hides_parents());

    let v1 = tree(&[
        ("cpu.cfs_quota_us", "-1"),
        ("cpu.cfs_period_us", "100000"),
        ("memory.limit_in_bytes", "9223372036854771712"),
        ("cgroup.sane_behavior", "0"),
        ("app/cpu.cfs_quota_us", "20000"),
        ("app/cpu.cfs_period_us", "100000"),
        ("app/memory.limit_in_bytes", "67108864"),
    ]);
    let app = place(Version::V1, v1.path(), "app");
    assert_eq!(app.cpu_limit().expect("limit").cores, 0.2);
    assert_eq!(app.memory_limit().map(|l| l.bytes), Some(64 << 20));
    let root = place(Version::V1, v1.path(), "");
    assert!(root.is_root() && !app.is_root());
    assert_eq!((root.cpu_limit(), root.memory_limit()), (None, None));
}

#[test]
fn the_files_of_both_versions_give_the_same_units() {
    let v1 =
        parse_cpu_stat("nr_periods 45\nnr_throttled 44\nthrottled_time 3182544774\nnr_bursts 0");
    assert_eq!(v1.throttled_ns, Some(3_182_544_774));
    assert_eq!(
        (v1.usage_ns, v1.nr_periods, v1.nr_throttled),
        (None, Some(45), Some(44))
    );
    let v2 = parse_cpu_stat("usage_usec 900\nuser_usec 1\nnr_periods 46\nthrottled_usec 3522166");
    assert_eq!(v2.usage_ns, Some(900_000));
    assert_eq!(v2.throttled_ns, Some(3_522_166_000));
    assert_eq!(v2.nr_throttled, None);
    assert_eq!(parse_cpu_stat(""), CpuStat::default());
    assert_eq!(
        parse_cpu_stat("usage_usec 18446744073709551615").usage_ns,
        Some(u64::MAX)
    );
}

#[test]
fn limits_and_pressure_refuse_nonsense() {
    assert_eq!(parse_cpu_max("150000 100000\n"), Some((1.5, 100_000_000)));
    for text in ["max 100000", "", "5", "5 0", "-1 100000"] {
        assert_eq!(parse_cpu_max(text), None, "{text}");
    }
    let psi = "some avg10=0.98 avg60=0.59 avg300=1.55 total=22777259\nfull avg10=0.00 total=7";
    assert_eq!(parse_psi_some_us(psi), Some(22_777_259));
    assert_eq!(parse_psi_full_us(psi), Some(7));
    assert_eq!(parse_psi_some_us("full avg10=0.00 total=7"), None);
}

#[test]
fn memory_counters_of_both_versions() {
    let dir = tree(&[
        ("v2/memory.peak", "900"),
        (
            "v2/memory.events",
            "low 0\noom 2\noom_kill 1\noom_group_kill 0",
        ),
        ("v1/memory.max_usage_in_bytes", "800"),
        (
            "v1/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3",
        ),
    ]);
    let v2 = place(Version::V2, dir.path(), "v2").memory();
    assert_eq!((v2.peak_bytes, v2.events.oom_kills), (Some(900), Some(1)));
    let v1 = place(Version::V1, dir.path(), "v1").memory();
    assert_eq!((v1.peak_bytes, v1.events.oom_kills), (Some(800), Some(3)));
}

#[test]
fn a_directory_and_a_path_name_the_same_cgroup() {
    let mounts = mountinfo::parse(HYBRID);
    let named = |path: &str| path_in_hierarchy(Path::new(path), &mounts);
    for path in [
        "/sys/fs/cgroup/cpu/a/b",
        "/sys/fs/cgroup/unified/a/b/",
        "/a/b",
    ] {
        assert_eq!(named(path).as_deref(), Some("/a/b"), "{path}");
    }
    assert_eq!(named("/sys/fs/cgroup/cpu").as_deref(), Some("/"));
    for path in ["a/b", "/a/../b", "/sys/fs/cgroup/cpu/../x", "/a\nb"] {
        assert_eq!(named(path), None, "{path}");
    }
}
