//! Spaces, with maps of this very process.

use std::fs;

use super::*;

const HERE: RuntimeAddr = RuntimeAddr(0x5000);

fn name(code: &GeneratedCode, place: PlaceIx) -> Result<String, Unresolved> {
    code.look_up(place, HERE.0).map(|known| known.name)
}

/// The spaces of a parent and a child, both of which look for the map of this process.
#[test]
fn a_child_begins_with_what_its_parent_had_said_and_places_keep_their_meaning() {
    let own = std::process::id();
    let path = format!("/tmp/perf-{own}.map");
    let mut code = GeneratedCode::default();
    let look = |code: &mut GeneratedCode| {
        code.looked_ns = 0;
        for space in &mut code.spaces {
            space.search_at_ns = 0;
        }
        code.look();
        monotonic_ns()
    };
    let parent = code.begin(own, 0).expect("followed");
    let now = look(&mut code);
    let before = code.place(parent, HERE, now);
    assert_eq!(name(&code, before), Err(Unresolved::Jit));

    fs::write(&path, "5000 10 first\nnonsense\n").expect("written");
    let now = look(&mut code);
    let first = code.place(parent, HERE, now);
    assert_eq!(name(&code, first).as_deref(), Ok("first"));
    assert_eq!(name(&code, before).as_deref(), Ok("first"), "told late");
    let state = code.state(parent, now);
    assert!(state.is_some());

    let child = code.fork(parent, 1 << 30, monotonic_ns());
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&path, "5000 10 other\n6000 10 more\n").expect("written");
    let now = look(&mut code);
    let other = code.place(parent, HERE, now);
    assert_eq!(name(&code, other).as_deref(), Ok("other"));
    assert_eq!(name(&code, first).as_deref(), Ok("first"), "as it was then");
    assert_ne!(code.state(parent, now), state);
    assert_eq!(code.state(parent, 1), None, "it depends on the moment");
    let in_child = code.place(child, HERE, now);
    assert_eq!(name(&code, in_child).as_deref(), Ok("first"));
    assert_eq!(code.source(in_child, HERE.0), Some(path.as_str()));

    let unnamed = code.place(parent, RuntimeAddr(0x9000), now);
    assert_eq!(code.look_up(unnamed, 0x9000), Err(Unresolved::NotInJitMap));
    assert_eq!(code.problems().bad_lines.first().map(|bad| bad.2), Some(1));
    assert_eq!(code.problems().refused.len(), 0);

    // Its name is gone, and what stands there now must not be read.
    fs::remove_file(&path).expect("removed");
    nix::unistd::mkfifo(path.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("made");
    look(&mut code);
    fs::remove_file(&path).expect("removed");
    let refused = code.problems().refused;
    assert_eq!(refused, [(own, path, Refusal::Fifo.to_string())]);
    assert_eq!(
        code.look_up(unnamed, 0x9000),
        Err(Unresolved::JitMapRefused)
    );
    assert_eq!(name(&code, other).as_deref(), Ok("other"));
    code.end(parent, own);
    code.look_for_the_last_time();
}
