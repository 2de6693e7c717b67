//! The flame graph: one interactive SVG file that needs nothing else, drawn by inferno.
//!
//! In: a profile. Out: SVG whose widths are ticks, or time that was waited. What code a box stands for can be told by its colour (see `hues`),
//! named in a legend; within one hue the shade is a hash of the name, so a function keeps its colour in every graph.
//! Names are escaped by inferno; what its line format would misread is replaced here first (see `drawable`).

use std::collections::{BTreeMap, HashMap};
use std::io;

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{Options, TextTruncateDirection, from_lines};

use super::strip::with_strip;
use crate::profile::{DisplayFrame, Profile, Role, StackEnd, Why};
use crate::store::folded::foldable;

#[derive(Debug, thiserror::Error)]
pub enum FlameGraphError {
    #[error("no flame graph can be drawn of a profile without samples")]
    NoSamples,
    #[error("failed to draw the flame graph")]
    Draw(#[from] io::Error),
}

/// What widths stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Widths {
    /// Ticks: time on a CPU.
    Samples,
    /// Microseconds waited.
    Waited,
}

/// `profile` as SVG.
pub fn render(profile: &Profile) -> Result<String, FlameGraphError> {
    draw(profile, Widths::Samples)
}

/// [`Profile::off_cpu_view`] as SVG.
pub fn render_waits(view: &Profile) -> Result<String, FlameGraphError> {
    draw(view, Widths::Waited)
}

fn draw(profile: &Profile, widths: Widths) -> Result<String, FlameGraphError> {
    if profile.total_count() == 0 {
        return Err(FlameGraphError::NoSamples);
    }
    let mut names = Names::default();
    let mut stacks: BTreeMap<Vec<u32>, u64> = BTreeMap::new();
    for sample in profile.merged_samples(false) {
        let stack = profile.display_stack(&sample, false);
        let stack = stack.iter().map(|frame| names.intern(frame)).collect();
        *stacks.entry(stack).or_default() += sample.count;
    }
    let lines = names.lines(stacks);
    let mut palette = names.palette();
    let mut options = options(profile, widths);
    options.palette_map = Some(&mut palette);
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    Ok(with_legend(&String::from_utf8_lossy(&svg), &names))
}

fn options<'a>(profile: &Profile, widths: Widths) -> Options<'a> {
    let mut options = Options::default();
    options.title = title(profile, widths);
    options.subtitle = Some(subtitle(profile, widths));
    options.deterministic = true;
    options.count_name = match widths {
        Widths::Samples => "samples".into(),
        Widths::Waited => "µs".into(),
    };
    options.bgcolors = Some(BackgroundColor::Flat(WHITE));
    options.font_type = "monospace".into(); // inferno cuts names by a fixed width per character
    options.text_truncate_direction = TextTruncateDirection::Right;
    // Lines come in the order we want; inferno's own sorting tears `f` apart when `f+1` sorts between `f` and `f;g`.
    options.flame_chart = true;
    options
}

fn title(profile: &Profile, widths: Widths) -> String {
    let graph = match widths {
        Widths::Samples => "Flame graph",
        Widths::Waited => "Off-CPU flame graph",
    };
    match profile.recording.service.as_str() {
        "" => graph.into(),
        service => format!("{graph} of {}", service.replace(char::is_control, "?")),
    }
}

/// How many samples of how long, and how far the stacks can be trusted.
fn subtitle(profile: &Profile, widths: Widths) -> String {
    let total = profile.total_count();
    let mut facts = vec![match widths {
        Widths::Samples => format!("{} samples", grouped(total)),
        Widths::Waited => format!("{:.1} s waited by all threads", total as f64 / 1e6),
    }];
    if profile.recording.duration_ns > 0 {
        let seconds = profile.recording.duration_ns as f64 / 1e9;
        facts.push(format!("{seconds:.1} s"));
    }
    let ended = |end| {
        let samples = profile.samples.iter().filter(|sample| sample.end == end);
        samples.map(|sample| sample.count).sum::<u64>()
    };
    let stated = total - ended(StackEnd::Truncated(Why::NotStated));
    facts.push(match stated {
        0 => "completeness of stacks not stated".into(),
        _ => format!(
            "{} of stacks complete",
            percent(ended(StackEnd::Root), total)
        ),
    });
    facts.join(" · ")
}

/// With a comma between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Never rounded up to 100 %.
fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 / whole as f64;
    match part == whole {
        true => "100 %".into(),
        false => format!("{:.1} %", (share * 1000.0).floor() / 10.0),
    }
}

/// Every shown name once, as inferno takes it.
#[derive(Default)]
struct Names {
    drawable: Vec<String>,
    roles: Vec<Role>,
    index: HashMap<(String, Role), u32>,
}

impl Names {
    fn intern(&mut self, frame: &DisplayFrame<'_>) -> u32 {
        let key = (frame.name.clone().into_owned(), frame.role);
        if let Some(ix) = self.index.get(&key) {
            return *ix;
        }
        let ix = self.drawable.len() as u32;
        // inferno takes these suffixes off again before it draws; they keep boxes of two hues apart.
        let suffix = match frame.role {
            Role::Kernel => "_[k]",
            Role::Inlined => "_[i]",
            _ => "",
        };
        self.drawable.push(drawable(&frame.name) + suffix);
        self.roles.push(frame.role);
        self.index.insert(key, ix);
        ix
    }

    /// Folded lines in the order of their names, frame by frame; last first, as inferno's `flame_chart` wants them.
    fn lines(&self, stacks: BTreeMap<Vec<u32>, u64>) -> Vec<String> {
        let name = |ix: &u32| self.drawable[*ix as usize].as_str();
        let mut stacks: Vec<(Vec<&str>, u64)> = stacks
            .into_iter()
            .map(|(stack, count)| (stack.iter().map(name).collect(), count))
            .collect();
        stacks.sort_unstable();
        let lines = stacks.iter().rev();
        lines
            .map(|(stack, count)| format!("{} {count}", stack.join(";")))
            .collect()
    }

    fn palette(&self) -> PaletteMap {
        let mut palette = PaletteMap::default();
        palette.insert("", ALL_COLOUR);
        for (name, role) in self.drawable.iter().zip(&self.roles).rev() {
            palette.insert(name, colour(name, *role));
        }
        palette
    }

    /// The roles that occur, in a fixed order.
    fn roles(&self) -> impl Iterator<Item = Role> {
        LEGEND
            .iter()
            .map(|(role, _)| *role)
            .filter(|role| self.roles.contains(role))
    }
}

/// `name` without what inferno's line format would take for something else: separators, blanks at either end, a comment
/// mark, and a number behind the last space (a second count).
fn drawable(name: &str) -> String {
    let name: String = name.trim().chars().map(foldable).collect();
    let name = name.trim();
    let name = match name {
        "" => "[unnamed]".into(),
        _ if name.starts_with('#') => format!("\u{200b}{name}"),
        _ => name.to_owned(),
    };
    let last = name.rsplit(' ').next().unwrap_or_default();
    match last
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        true => name.replace(' ', "\u{a0}"),
        false => name,
    }
}

const WHITE: Color = Color {
    r: 255,
    g: 255,
    b: 255,
};

/// The box that holds all others.
const ALL_COLOUR: Color = Color {
    r: 224,
    g: 224,
    b: 224,
};

/// Roles in the order of the legend, and their names there.
const LEGEND: [(Role, &str); 7] = [
    (Role::Process, "process"),
    (Role::User, "function"),
    (Role::Inlined, "inlined function"),
    (Role::Kernel, "kernel"),
    (Role::Unresolved, "no symbol"),
    (Role::Truncated, "incomplete stack"),
    (Role::Wait, "what is waited for"),
];

/// Lightest and darkest shade of each role; black text is readable on all of them.
fn hues(role: Role) -> (Color, Color) {
    let [light, dark] = match role {
        Role::Process | Role::Thread => [[196, 226, 184], [170, 206, 156]],
        Role::User => [[255, 196, 128], [240, 140, 80]],
        Role::Inlined => [[255, 236, 158], [247, 217, 110]],
        Role::Kernel => [[176, 208, 246], [138, 180, 234]],
        Role::Unresolved => [[226, 210, 194], [208, 188, 168]],
        Role::Truncated => [[196, 196, 196], [196, 196, 196]],
        Role::Wait => [[205, 190, 240], [178, 158, 226]],
    };
    let color = |[r, g, b]: [u8; 3]| Color { r, g, b };
    (color(light), color(dark))
}

/// The shade of `name` within its role's hue.
fn colour(name: &str, role: Role) -> Color {
    let (light, dark) = hues(role);
    let hash = fnv1a(name.as_bytes());
    let mix = |light: u8, dark: u8| {
        let span = u64::from(light.abs_diff(dark));
        let step = (span * (hash % 256) / 255) as u8;
        light.max(dark) - step
    };
    Color {
        r: mix(light.r, dark.r),
        g: mix(light.g, dark.g),
        b: mix(light.b, dark.b),
    }
}

/// Fowler–Noll–Vo, 64 bit, 1a: small, and the same on every machine.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash ^ (hash >> 32)
}

/// Height of the strip below inferno's picture that the legend is drawn in, pixels.
const LEGEND_HEIGHT: usize = 22;

/// `svg`, made higher by a strip with the hues that occur in it. inferno has no legend of its own.
fn with_legend(svg: &str, names: &Names) -> String {
    with_strip(svg, LEGEND_HEIGHT, |top| legend(names, top))
}

fn legend(names: &Names, top: usize) -> String {
    let mut legend = String::new();
    let mut x = 10;
    for role in names.roles() {
        let label = LEGEND
            .iter()
            .find(|(r, _)| *r == role)
            .map_or("", |(_, label)| label);
        let (light, dark) = hues(role);
        let swatch = [
            light.r.midpoint(dark.r),
            light.g.midpoint(dark.g),
            light.b.midpoint(dark.b),
        ];
        let [r, g, b] = swatch;
        legend += &format!(
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"rgb({r},{g},{b})\"/>\
             <text x=\"{}\" y=\"{}\">{label}</text>",
            top,
            x + 17,
            top + 10
        );
        x += 17 + label.len() * LEGEND_CHAR_WIDTH + 20;
    }
    legend
}

/// Pixels a character of the legend takes at most.
const LEGEND_CHAR_WIDTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Accounting, ProfileBuilder, Recording, canned};
    use crate::store;

    fn of_folded(lines: &str) -> Profile {
        store::from_bytes(lines.as_bytes(), "x.folded").expect("readable")
    }

    /// Names and counts of all boxes, as their tooltips say.
    fn boxes(svg: &str) -> Vec<&str> {
        let titles = svg.split("<title>").skip(1);
        titles
            .filter_map(|rest| rest.split("</title>").next())
            .collect()
    }

    #[test]
    fn widths_are_ticks_and_the_header_says_how_much_was_seen() {
        let svg = render(&canned()).expect("has samples");
        let boxes = boxes(&svg);
        for expected in [
            "all (100 samples, 100%)",
            "shop (95 samples, 95.00%)",
            "mix (40 samples, 40.00%)",
            "hash (60 samples, 60.00%)",
            "copy_page (20 samples, 20.00%)",
            "[truncated: no-unwind-info] (15 samples, 15.00%)",
        ] {
            assert!(boxes.contains(&expected), "{expected} in {boxes:?}");
        }
        assert!(svg.contains("100 samples · 1.0 s · 85.0 % of stacks complete"));
        assert!(svg.contains("<g id=\"legend\">"));
        assert_eq!(svg, render(&canned()).expect("has samples"));
    }

    #[test]
    fn a_profile_without_samples_gives_no_picture() {
        let empty = ProfileBuilder::default().build(Recording::default(), Accounting::default());
        let error = render(&empty).expect_err("nothing to draw");
        assert!(matches!(error, FlameGraphError::NoSamples));
    }

    #[test]
    fn hostile_names_are_shown_and_do_nothing() {
        let lines = "# p;<script>alert(1)</script> 1\n# p;]]>\"'&amp; 2\n# p;\u{1b}[31m\u{ffff} 3\n-;--;f 12 4\n";
        let mut profile = of_folded(lines);
        profile.recording.service = "</text><script>\u{7}".into();
        let svg = render(&profile).expect("has samples");
        assert_eq!(svg.matches("<script").count(), 1, "inferno's own");
        let boxes = boxes(&svg);
        for expected in [
            "\u{200b}# p (6 samples, 60.00%)",
            "&lt;script&gt;alert(1)&lt;/script&gt; (1 samples, 10.00%)",
            "?[31m? (3 samples, 30.00%)",
            "f\u{a0}12 (4 samples, 40.00%)",
        ] {
            assert!(boxes.contains(&expected), "{expected} in {boxes:?}");
        }
        assert!(boxes.iter().any(|b| b.starts_with("]]&gt;")), "{boxes:?}");
        assert!(
            !svg.chars()
                .any(|c| c.is_control() && c != '\n' && c != '\t')
        );
    }

    #[test]
    fn a_function_stays_one_box_when_other_names_sort_between_its_lines() {
        let svg = render(&of_folded("p;f 1\np;f(int) 1\np;f;g 1\np;f+1 1\n")).expect("has samples");
        assert!(boxes(&svg).contains(&"f (2 samples, 50.00%)"));
    }

    #[test]
    fn nothing_short_of_all_is_a_hundred_percent() {
        assert_eq!(percent(99_999, 100_000), "99.9 %");
        assert_eq!(percent(7, 7), "100 %");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
    }
}
