//! The outputs of the canned profile are those in `fixtures/golden`. `PERFPROF_BLESS=1` rewrites them; the difference is
//! then reviewed like code.

use std::path::Path;

use perfprof::profile::{Profile, canned, canned_with_waits};
use perfprof::render::{flamegraph, speedscope};
use perfprof::store::{self, folded, pprof};

fn assert_golden(name: &str, text: &str) {
    let path = Path::new("fixtures/golden").join(name);
    if std::env::var_os("PERFPROF_BLESS").is_some() {
        std::fs::write(&path, text).expect("fixtures/golden is writable");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let line = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        golden == text,
        "{} is not what is written now (first difference in line {:?} or at the end); PERFPROF_BLESS=1 rewrites it",
        path.display(),
        line.map(|i| i + 1),
    );
}

#[test]
fn every_output_of_the_canned_profile_is_the_golden_one() {
    assert_golden("canned.folded", &folded::encode(&canned(), false));
    assert_golden("canned.per-thread.folded", &folded::encode(&canned(), true));
    assert_golden("canned.speedscope.json", &speedscope::render(&canned()));
    assert_golden(
        "canned.svg",
        &flamegraph::render(&canned()).expect("has samples"),
    );
}

/// The waits of a profile, of which the first is idle.
fn waits_of(profile: &Profile) -> Profile {
    let view = profile.off_cpu_view(|ix| ix == 0);
    view.expect("it has waits")
}

#[test]
fn waits_are_drawn_and_folded_as_the_golden_ones_also_when_read_back() {
    let bytes = pprof::encode(&canned_with_waits());
    let read = store::from_bytes(&bytes, "canned.pb.gz").expect("our own");
    for view in [waits_of(&canned_with_waits()), waits_of(&read)] {
        assert_golden("canned.off-cpu.folded", &folded::encode(&view, false));
        let svg = flamegraph::render_waits(&view).expect("has waits");
        assert_golden("canned.off-cpu.svg", &svg);
    }
}

#[test]
fn a_profile_read_back_from_pprof_gives_the_same_outputs() {
    let read = store::from_bytes(&pprof::encode(&canned()), "canned.pb.gz").expect("our own");
    assert_golden("canned.folded", &folded::encode(&read, false));
    assert_golden("canned.per-thread.folded", &folded::encode(&read, true));
    assert_golden("canned.speedscope.json", &speedscope::render(&read));
    assert_golden(
        "canned.svg",
        &flamegraph::render(&read).expect("has samples"),
    );
}
