//! The SVG: inferno's page and script around boxes of our own.
//!
//! inferno colours a box by the change of its own cost alone and knows no way to give a box a tooltip, so it draws the
//! page for a single tower of the right height, and its tower is replaced. Its script asks of a box no more than a
//! title that ends in parentheses, a rectangle with place and width as whole numbers, and a text.

use std::fmt::Write;
use std::io;

use inferno::flamegraph::color::{BackgroundColor, Color};
use inferno::flamegraph::{Options, TextTruncateDirection, from_lines};

use super::colour::{self, Change, Judge};
use super::layout::{Layout, Part, Placed};
use super::legend;
use super::tree::{Node, Tree};
use super::{DiffPicture, FlameGraphError, Shape, figures};
use crate::profile::Role;
use crate::render::escape::visible;
use crate::render::strip::with_strip;

/// Of inferno's page, in pixels.
const IMAGE_WIDTH: f64 = 1200.0;
const PAD: f64 = 10.0;
const LEVEL_HEIGHT: usize = 16;
const ABOVE_BOXES: usize = 60;
pub(super) const CHAR_WIDTH: f64 = 12.0 * 0.59;
/// Longer names are cut in tooltips too: what a C++ compiler calls a function can be a page long.
const MAX_NAME_CHARS: usize = 300;
/// What a line across the picture holds.
const MAX_LINE_CHARS: usize = 160;

/// The colour of boxes that a search finds.
const SEARCHED: &str = "#ffe100";

const WHITE: Color = Color {
    r: 255,
    g: 255,
    b: 255,
};

/// Everything the drawing is made from.
pub(super) struct Drawing<'a> {
    pub(super) picture: &'a DiffPicture<'a>,
    pub(super) tree: &'a Tree,
    pub(super) judge: &'a Judge<'a>,
    pub(super) layout: &'a Layout,
    pub(super) shape: Shape,
}

impl Drawing<'_> {
    pub(super) fn svg(&self) -> Result<String, FlameGraphError> {
        let boxes = &self.layout.boxes;
        let depths = boxes.iter().map(|placed| self.node(placed).depth as usize);
        let levels = depths.max().unwrap_or(0).max(1) + 1;
        let page = self.page(levels)?;
        let (head, tail) = around_boxes(&page).ok_or_else(|| {
            FlameGraphError::Draw(io::Error::other("inferno's page has an unknown form"))
        })?;
        let mut svg = String::with_capacity(page.len() + boxes.len() * 400);
        svg += head;
        let (width, units) = (IMAGE_WIDTH - 2.0 * PAD, self.layout.width);
        svg +=
            &format!("<svg id=\"frames\" x=\"{PAD}\" width=\"{width}\" total_samples=\"{units}\">");
        let floor = ABOVE_BOXES + levels * LEVEL_HEIGHT;
        for placed in boxes {
            self.write_box(&mut svg, placed, floor);
        }
        svg += tail;
        Ok(with_strip(&svg, legend::HEIGHT, |top| {
            legend::swatches(self.shape, top) + &legend::remark(self, top)
        }))
    }

    fn node(&self, placed: &Placed) -> &Node {
        &self.tree.nodes[placed.node]
    }

    /// inferno's page for one tower of so many levels.
    fn page(&self, levels: usize) -> Result<String, FlameGraphError> {
        let tower = vec!["-"; levels - 1].join(";") + " 1";
        let mut options = Options::default();
        options.title = visible(self.picture.title);
        options.subtitle = Some(self.subtitle());
        options.deterministic = true;
        options.bgcolors = Some(BackgroundColor::Flat(WHITE));
        options.font_type = "monospace".into();
        options.text_truncate_direction = TextTruncateDirection::Right;
        // inferno's magenta looks like a new path.
        options.search_color = SEARCHED.parse().map_err(io::Error::other)?;
        let mut svg = Vec::new();
        from_lines(&mut options, [tower.as_str()], &mut svg)?;
        Ok(String::from_utf8_lossy(&svg).into_owned())
    }

    /// What was compared, whose shape this is, and what became of everything.
    fn subtitle(&self) -> String {
        let Node { before, after, .. } = *self.tree.root();
        let all = format!(
            "widths: {} · all: {} → {} {} ({})",
            self.shape.id(),
            figures::cost(before),
            figures::cost(after),
            visible(self.picture.unit),
            figures::ratio(before, after)
        );
        match visible(self.picture.subtitle).trim() {
            "" => all,
            given => {
                let room = MAX_LINE_CHARS.saturating_sub(all.chars().count() + 3);
                format!("{} · {all}", cut(given, room.max(20)))
            }
        }
    }

    fn write_box(&self, svg: &mut String, placed: &Placed, floor: usize) {
        let name = self.shown_name(placed);
        let y = floor - (self.node(placed).depth as usize + 1) * LEVEL_HEIGHT + 1;
        let percent = |units: u64| units as f64 * 100.0 / self.layout.width as f64;
        let (x, width) = (percent(placed.x), percent(placed.width));
        let pixels = width / 100.0 * (IMAGE_WIDTH - 2.0 * PAD);
        let label = match (pixels / CHAR_WIDTH) as usize {
            0..3 => String::new(),
            fitting => xml(&cut_short(&name, fitting)),
        };
        write!(
            svg,
            "<g><title>{} ({})</title><rect x=\"{x:.4}%\" y=\"{y}\" width=\"{width:.4}%\" height=\"{}\" \
             fill=\"{}\" fg:x=\"{}\" fg:w=\"{}\"/><text x=\"{:.4}%\" y=\"{}.5\">{label}</text></g>",
            xml(&cut(&name, MAX_NAME_CHARS)),
            xml(&self.tooltip(placed)),
            LEVEL_HEIGHT - 1,
            self.fill(placed),
            placed.x,
            placed.width,
            x + 100.0 * 3.0 / IMAGE_WIDTH,
            y + 10,
        )
        .expect("writing to a String does not fail");
    }

    fn shown_name(&self, placed: &Placed) -> String {
        if placed.node == 0 {
            return match placed.part {
                Part::Shape => "all".into(),
                _ => format!("only {}", other(self.shape).id()),
            };
        }
        let name = self.picture.names[self.node(placed).name as usize].text;
        match shown(name).trim() {
            "" => "[unnamed]".into(),
            name => name.to_owned(),
        }
    }

    fn fill(&self, placed: &Placed) -> String {
        let [r, g, b] = match placed.part {
            Part::Context => colour::CONTEXT,
            Part::Shape if placed.node == 0 => colour::ALL,
            Part::Shape => self.judge.change(self.node(placed)).colour(),
            Part::Elsewhere => return legend::hatch(self.aside_change(placed)).into(),
        };
        format!("rgb({r},{g},{b})")
    }

    /// Of a box of the other side's: whether it is seen as changed.
    fn aside_change(&self, placed: &Placed) -> Change {
        match (placed.node, self.shape) {
            (0, Shape::After) => Change::Gone,
            (0, Shape::Before) => Change::New,
            _ => self.judge.change(self.node(placed)),
        }
    }

    /// What stands in the tooltip's parentheses; no other parenthesis may open there.
    fn tooltip(&self, placed: &Placed) -> String {
        let node = self.node(placed);
        let unit = visible(self.picture.unit).replace('(', "[");
        if placed.part == Part::Context {
            let what = match self.shape {
                Shape::Before => "is new here",
                Shape::After => "vanished from here",
            };
            return format!("{} {unit} {what}", figures::cost(placed.cost));
        }
        let mut words = format!(
            "before {}, after {} {unit}",
            figures::cost(node.before),
            figures::cost(node.after)
        );
        words += &match (node.before > 0.0, node.after > 0.0) {
            (true, true) => format!(
                ": {}, {}",
                figures::difference(node.before, node.after),
                figures::ratio(node.before, node.after)
            ),
            _ => format!(": {}", figures::ratio(node.before, node.after)),
        };
        if placed.node > 0 {
            words += &self.remarks(node);
        }
        words
    }

    fn remarks(&self, node: &Node) -> String {
        let mut remarks = String::new();
        if self.judge.change(node) == Change::None {
            remarks += match self.judge.exceeds_chance(node) {
                true => ", not significant",
                false => ", may be chance",
            };
        }
        remarks += match self.picture.names[node.name as usize].role {
            Role::Kernel => "; kernel",
            Role::Inlined => "; inlined",
            Role::Process => "; process",
            Role::Thread => "; thread",
            Role::Unresolved => "; no symbol",
            Role::Truncated => "; incomplete stack",
            Role::Wait => "; what is waited for",
            Role::User => "",
        };
        remarks
    }
}

pub(super) fn other(shape: Shape) -> Shape {
    match shape {
        Shape::Before => Shape::After,
        Shape::After => Shape::Before,
    }
}

/// Before and behind inferno's own boxes.
fn around_boxes(page: &str) -> Option<(&str, &str)> {
    let start = page.find("<svg id=\"frames\"")?;
    let end = page.rfind("</svg></svg>")?;
    Some((page.get(..start)?, &page[end..]))
}

/// With nothing that acts, and nothing XML has no place for.
fn shown(name: &str) -> String {
    visible(name).replace(['\u{fffe}', '\u{ffff}'], "?")
}

/// `text`, or so many characters of it and a mark.
fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// As inferno's script does it when the window's width changes.
fn cut_short(name: &str, chars: usize) -> String {
    match name.chars().nth(chars) {
        None => name.to_owned(),
        Some(_) => name.chars().take(chars - 2).chain("..".chars()).collect(),
    }
}

pub(super) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c => escaped.push(c),
        }
    }
    escaped
}
