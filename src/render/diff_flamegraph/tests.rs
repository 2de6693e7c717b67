use super::*;

const NAMES: [DiffName<'static>; 7] = [
    name("shop", Role::Process),
    name("main", Role::User),
    name("parse", Role::User),
    name("old_hash", Role::User),
    name("new_hash", Role::Inlined),
    name("render", Role::User),
    name("copy_page", Role::Kernel),
];

const fn name(text: &str, role: Role) -> DiffName<'_> {
    DiffName { text, role }
}

fn stack(frames: &[u32], before: f64, after: f64) -> DiffStack {
    DiffStack {
        frames: frames.to_vec(),
        before,
        after,
    }
}

/// `parse` halves, `old_hash` gives way to `new_hash`, `render` grows with what it calls, `main` stays.
fn stacks() -> Vec<DiffStack> {
    vec![
        stack(&[0, 1, 2], 20.0, 10.0),
        stack(&[0, 1, 3], 20.0, 0.0),
        stack(&[0, 1, 4], 0.0, 15.0),
        stack(&[0, 1, 5], 10.0, 10.0),
        stack(&[0, 1, 5, 6], 20.0, 35.0),
        stack(&[0, 1], 30.0, 30.0),
    ]
}

fn picture<'a>(stacks: &'a [DiffStack], names: &'a [DiffName<'a>]) -> DiffPicture<'a> {
    DiffPicture {
        title: "Shop",
        subtitle: "5 runs a side",
        unit: "µs per request",
        names,
        stacks,
        significant: None,
        tick: None,
    }
}

fn svg(stacks: &[DiffStack], shape: Shape) -> String {
    render(&picture(stacks, &NAMES), shape).expect("has samples")
}

/// A box as it is in the SVG.
#[derive(Debug, PartialEq)]
struct Box<'a> {
    title: &'a str,
    x: u64,
    width: u64,
    y: u64,
    fill: &'a str,
}

fn boxes(svg: &str) -> Vec<Box<'_>> {
    let groups = svg.split("<g><title>").skip(1);
    let between = |text: &'static str, group: &'static str| (text, group);
    let _ = between;
    groups
        .map(|group| {
            let (title, rest) = group.split_once("</title>").expect("ends");
            let value = |key: &str| {
                let (_, rest) = rest.split_once(&format!(" {key}=\"")).expect("is there");
                rest.split_once('"').expect("ends").0
            };
            let number = |key: &str| value(key).parse().expect("whole");
            Box {
                title,
                x: number("fg:x"),
                width: number("fg:w"),
                y: number("y"),
                fill: value("fill"),
            }
        })
        .collect()
}
