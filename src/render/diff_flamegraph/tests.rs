//! Pictures of stacks whose costs are known, read back box by box.

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

fn of<'a>(boxes: &'a [Box<'a>], name: &str) -> Vec<&'a Box<'a>> {
    let start = format!("{name} (");
    boxes
        .iter()
        .filter(|b| b.title.starts_with(&start))
        .collect()
}

/// Widths of the shape's own boxes, in hundredths of what everything in that shape is wide.
fn width(boxes: &[Box<'_>], name: &str) -> u64 {
    let all = of(boxes, "all")[0].width;
    (of(boxes, name)[0].width as f64 * 100.0 / all as f64).round() as u64
}

#[test]
fn widths_are_the_costs_of_the_side_whose_shape_it_is() {
    let stacks = stacks();
    let (before, after) = (svg(&stacks, Shape::Before), svg(&stacks, Shape::After));
    let (before, after) = (boxes(&before), boxes(&after));
    for (name, in_before, in_after) in [("main", 100, 100), ("parse", 20, 10), ("render", 30, 45)] {
        assert_eq!(width(&before, name), in_before, "{name}");
        assert_eq!(width(&after, name), in_after, "{name}");
    }
    let title = |name| of(&after, name)[0].title;
    assert_eq!(
        title("parse"),
        "parse (before 20.00, after 10.00 µs per request: −10.00, −50.0 %)"
    );
    assert_eq!(
        title("copy_page"),
        "copy_page (before 20.00, after 35.00 µs per request: +15.00, +75.0 %; kernel)"
    );
    assert_eq!(
        title("main"),
        "main (before 100.0, after 100.0 µs per request: +0, ±0 %, may be chance)"
    );
}

#[test]
fn boxes_stand_within_their_callers_whatever_the_rounding() {
    let stacks: Vec<DiffStack> = (0..300)
        .map(|i| {
            stack(
                &[i % 2, 2 + i % 3, 5 - i % 4],
                f64::from(i).sqrt(),
                1.0 / 3.0,
            )
        })
        .collect();
    for shape in Shape::BOTH {
        let svg = svg(&stacks, shape);
        let boxes = boxes(&svg);
        for inner in boxes.iter().filter(|b| !b.title.starts_with("all (")) {
            let around = |b: &&Box<'_>| {
                b.y == inner.y + 16 && b.x <= inner.x && inner.x + inner.width <= b.x + b.width
            };
            assert_eq!(boxes.iter().filter(around).count(), 1, "{inner:?}");
        }
    }
}

#[test]
fn what_one_side_only_has_is_hatched_in_the_others_shape_below_its_callers() {
    let stacks = stacks();
    for (shape, name, title, pattern, caller) in [
        (
            Shape::After,
            "old_hash",
            "old_hash (before 20.00, after 0 µs per request: vanished)",
            "url(#hatched-gone)",
            "main (20.00 µs per request vanished from here)",
        ),
        (
            Shape::Before,
            "new_hash",
            "new_hash (before 0, after 15.00 µs per request: new; inlined)",
            "url(#hatched-new)",
            "main (15.00 µs per request is new here)",
        ),
    ] {
        let svg = svg(&stacks, shape);
        let boxes = boxes(&svg);
        let all = of(&boxes, "all")[0];
        let [lone] = of(&boxes, name)[..] else {
            panic!("one {name} in {boxes:?}");
        };
        assert_eq!((lone.title, lone.fill), (title, pattern));
        assert!(lone.x > all.x + all.width, "{lone:?} beside {all:?}");
        let share = lone.width as f64 / all.width as f64;
        let expected = if shape == Shape::After { 0.20 } else { 0.15 };
        assert!((share - expected).abs() < 1e-6, "same scale: {share}");
        let caller = boxes.iter().find(|b| b.title == caller).expect("there");
        assert_eq!((caller.x, caller.width), (lone.x, lone.width));
        assert!(svg.contains("in the same scale"));
    }
    let after = svg(&stacks, Shape::After);
    assert!(
        after.contains("Vanished paths (20.00 µs per request, 20.0 % of before) stand hatched")
    );
    let (after, new) = (boxes(&after), "rgb(226,120,214)");
    assert_eq!(of(&after, "new_hash")[0].fill, new, "solid where it is");
}

#[test]
fn colours_are_kept_for_changes_that_count() {
    let grey = "rgb(222,222,222)";
    let stacks = stacks();
    let fill = |picture: &DiffPicture<'_>, name: &str| {
        let svg = render(picture, Shape::After).expect("has samples");
        of(&boxes(&svg), name)[0].fill.to_owned()
    };
    let untested = picture(&stacks, &NAMES);
    assert_ne!(fill(&untested, "parse"), grey);
    assert_ne!(fill(&untested, "render"), fill(&untested, "parse"));
    assert_eq!(fill(&untested, "main"), grey);

    let parse_only = [false, false, true, false, false, false, false];
    let tested = DiffPicture {
        significant: Some(&parse_only),
        ..untested
    };
    assert_eq!(fill(&tested, "parse"), fill(&untested, "parse"));
    assert_eq!(fill(&tested, "render"), grey);

    // 20 → 10 is 10 apart with a deviation of √30 · tick^½: 5.5 at one a sample, 1.7 at a tenth.
    let counted = |tick| DiffPicture {
        tick: Some(Tick {
            before: tick,
            after: tick,
        }),
        ..untested
    };
    assert_eq!(fill(&counted(1.0), "parse"), grey);
    assert_eq!(fill(&counted(0.1), "parse"), fill(&untested, "parse"));
}

#[test]
fn lone_paths_that_may_be_chance_are_summed_up_in_words() {
    let mut stacks = stacks();
    stacks.push(stack(&[0, 1, 4, 4], 0.05, 0.0));
    let svg = svg(&stacks, Shape::After);
    assert!(
        svg.contains(" Not drawn, as each may be chance: 0.05000 µs per request, 0.0 % of before.")
    );
    let same = [stack(&[0], 1.0, 1.0)];
    let svg = render(&picture(&same, &NAMES), Shape::After).expect("has samples");
    assert!(svg.contains("Vanished paths: none that can be told from chance."));
    assert!(!svg.contains("Not drawn"));
}

#[test]
fn equal_stacks_are_added_up_in_any_order_to_the_same_bytes() {
    let mut stacks: Vec<DiffStack> = stacks().into_iter().chain(stacks()).collect();
    stacks.push(stack(&[0, 1, 2], 0.1, 0.7));
    let one = svg(&stacks, Shape::Before);
    stacks.reverse();
    assert_eq!(one, svg(&stacks, Shape::Before));
    assert!(one.contains("parse (before 40.10, after 20.70 "));
    // Another index of the same name is the same box; another role is not.
    let names = [NAMES[0], NAMES[1], NAMES[1], name("main", Role::Kernel)];
    let stacks = [1, 2, 3].map(|ix| stack(&[0, ix], 1.0, 1.0));
    let svg = render(&picture(&stacks, &names), Shape::After).expect("has samples");
    let widths: Vec<u64> = of(&boxes(&svg), "main")
        .iter()
        .map(|b| b.width / 1_000_000_000)
        .collect();
    assert_eq!(widths, [6, 3]);
}

#[test]
fn sides_without_anything_are_drawn_or_refused() {
    let gone = [stack(&[0, 1], 3.0, 0.0)];
    let svg = svg(&gone, Shape::After);
    let boxes = boxes(&svg);
    let titles: Vec<&str> = boxes.iter().map(|b| b.title).collect();
    assert!(
        titles[0].starts_with("only before (before 3.000, after 0"),
        "{titles:?}"
    );
    assert_eq!(boxes.len(), 3);
    for none in [
        vec![],
        vec![stack(&[0], f64::NAN, -1.0), stack(&[0], f64::INFINITY, 0.0)],
    ] {
        let error = render(&picture(&none, &NAMES), Shape::Before).expect_err("nothing");
        assert!(matches!(error, FlameGraphError::NoSamples));
    }
}

#[test]
fn hostile_text_is_shown_and_does_nothing() {
    let long = "x".repeat(100_000);
    let names = [
        name("</title><script>alert(1)</script>", Role::User),
        name("]]>\"'&amp;(\u{1b}[31m\u{202e}\u{ffff}", Role::Kernel),
        name("", Role::User),
        name(&long, Role::User),
    ];
    let stacks = [stack(&[0, 1, 2, 3], 1.0, 2.0)];
    let picture = DiffPicture {
        title: "</text><script>\u{7}",
        subtitle: &long,
        unit: "<b>(\n",
        names: &names,
        stacks: &stacks,
        significant: None,
        tick: None,
    };
    for shape in Shape::BOTH {
        let svg = render(&picture, shape).expect("has samples");
        assert_eq!(svg.matches("<script").count(), 1, "inferno's own");
        assert!(svg.len() < 40_000, "{}", svg.len());
        let forbidden = |c: char| {
            c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}' || c == '\u{ffff}'
        };
        assert!(!svg.chars().any(forbidden));
        for b in boxes(&svg) {
            let (_, facts) = b.title.rsplit_once(" (").expect("has facts");
            assert!(facts.ends_with(')') && !facts.contains('('), "{facts}");
        }
        assert!(svg.contains("[unnamed] ("));
    }
}

#[test]
fn many_and_deep_stacks_make_a_picture_that_can_be_opened() {
    let texts: Vec<String> = (0..400).map(|i| format!("function_{i}")).collect();
    let names: Vec<DiffName<'_>> = texts.iter().map(|text| name(text, Role::User)).collect();
    let mut stacks: Vec<DiffStack> = (0..20_000u32)
        .map(|i| {
            let frames: Vec<u32> = (0..30).map(|level| (i >> (level / 2)) % 400).collect();
            stack(&frames, f64::from(i % 7), f64::from(i % 5))
        })
        .collect();
    stacks.push(stack(&vec![399; 60_000], 5000.0, 5000.0));
    let svg = render(&picture(&stacks, &names), Shape::Before).expect("has samples");
    let boxes = boxes(&svg);
    assert!(
        boxes.len() > 500 && boxes.len() <= 20_000,
        "{}",
        boxes.len()
    );
    let heights = || boxes.iter().map(|b| b.y);
    assert_eq!(heights().min(), Some(61), "below the header");
    assert_eq!(heights().max(), Some(61 + 500 * 16), "500 levels and all");
}
