//! CPU use over time as a small picture: SVG, 800 by 220, for a browser, a pull request or a slide.
//!
//! In: the analysis and the readings. Out: the file's text, the same bytes for the same readings. The line is the
//! service's use, behind it stands red where the quota stopped it; straight lines are limit, target and p95. Nothing in it
//! moves or is fetched, and the one text from outside, the service's name, is escaped.

use super::{Capacity, usage};
use crate::profile::CapacityPoint;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 220.0;
/// The plot's edges; labels of lines stand to its right.
const LEFT: f64 = 44.0;
const RIGHT: f64 = 646.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 186.0;
/// More steps than this could not be told apart.
const MAX_STEPS: u64 = 300;
/// A limit further above the use than this would press the line flat; it is named instead.
const LIMIT_IN_SIGHT: f64 = 3.0;
const LABEL_HEIGHT: f64 = 14.0;
const MAX_NAME_CHARS: usize = 48;

const INK: &str = "#333";
const USE: &str = "#1f5fa8";
const STOPPED: &str = "#d9442f";
const TARGET: &str = "#2b7d3a";

/// A step of the line: from, to (seconds), cores, share of the periods in which the quota stopped the service.
struct Step {
    from: f64,
    to: f64,
    cores: f64,
    stopped: f64,
}

/// A horizontal line with its label.
struct Mark {
    cores: f64,
    label: String,
    colour: &'static str,
    dashes: &'static str,
}

/// The picture; `None` without at least two intervals.
pub fn chart(capacity: &Capacity, points: &[CapacityPoint]) -> Option<String> {
    let steps = steps(points);
    let (first, last) = (steps.first()?, steps.last()?);
    let (begin, end) = (first.from, last.to);
    if steps.len() < 2 || end <= begin {
        return None;
    }
    let most = steps.iter().map(|step| step.cores).fold(0.0, f64::max);
    let marks = marks(capacity, most);
    let shown = marks.iter().map(|mark| mark.cores).fold(most, f64::max);
    let (tick, ticks) = scale(shown * 1.05);
    let highest = tick * f64::from(ticks);
    let x = |seconds: f64| LEFT + (seconds - begin) / (end - begin) * (RIGHT - LEFT);
    let y = |cores: f64| BOTTOM - cores.clamp(0.0, highest) / highest * (BOTTOM - TOP);

    let mut out = head(capacity);
    for step in steps.iter().filter(|step| step.stopped > 0.0) {
        // On whole pixels, so that neighbours neither overlap nor leave a gap.
        let (from, to) = (x(step.from).round(), x(step.to).round());
        out += &format!(
            "<rect x=\"{from}\" y=\"{TOP}\" width=\"{}\" height=\"{}\" fill=\"{STOPPED}\" fill-opacity=\"{:.2}\"/>\n",
            to - from,
            BOTTOM - TOP,
            0.06 + 0.24 * step.stopped.min(1.0)
        );
    }
    out += &axes(tick, ticks, &y, end - begin);
    out += &line(&steps, &x, &y);
    for (mark, label_y) in marks.iter().zip(label_positions(&marks, &y)) {
        let (at, colour) = (y(mark.cores), mark.colour);
        out += &format!(
            "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"{colour}\" stroke-width=\"1.5\" stroke-dasharray=\"{}\" fill=\"none\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>\n",
            mark.dashes,
            RIGHT + 8.0,
            label_y + 4.0,
            mark.label
        );
    }
    out += "</g>\n</svg>\n";
    Some(out)
}

fn head(capacity: &Capacity) -> String {
    let name = escape(&capacity.service);
    let limit = capacity.ceiling_cores.map_or(String::new(), |cores| {
        format!(", {} {cores:.2} cores", capacity.ceiling_kind.words())
    });
    let stopped = capacity.throttling.map_or(String::new(), |t| {
        format!(
            ", red: stopped by the quota in {:.0} % of the periods",
            t.share * 100.0
        )
    });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\">\n<title>CPU use of {name} over time</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <g font-family=\"sans-serif\" font-size=\"11\" fill=\"{INK}\">\n\
         <text x=\"{LEFT}\" y=\"17\"><tspan font-weight=\"bold\">{name}</tspan>: cores used{limit}{stopped}</text>\n"
    )
}

fn axes(tick: f64, ticks: u32, y: &dyn Fn(f64) -> f64, seconds: f64) -> String {
    let mut out = String::new();
    let digits = (-tick.log10().floor()).clamp(0.0, 4.0) as usize;
    for ix in 0..=ticks {
        let cores = tick * f64::from(ix);
        let at = y(cores);
        let colour = if ix == 0 { "#888" } else { "#ddd" };
        out += &format!(
            "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"{colour}\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{cores:.digits$}</text>\n",
            LEFT - 6.0,
            at + 4.0
        );
    }
    let (step, steps) = scale(seconds);
    let digits = usize::from(step < 1.0);
    for ix in 0..=steps {
        let at = step * f64::from(ix);
        if at > seconds * 1.001 {
            break;
        }
        let x = LEFT + at / seconds * (RIGHT - LEFT);
        out += &format!(
            "<path d=\"M{x:.1} {BOTTOM}v4\" stroke=\"#888\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{at:.digits$} s</text>\n",
            BOTTOM + 17.0
        );
    }
    out
}

fn line(steps: &[Step], x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let mut path = String::new();
    for (ix, step) in steps.iter().enumerate() {
        let (from, to, at) = (x(step.from), x(step.to), y(step.cores));
        path += &match ix {
            0 => format!("M{from:.1} {at:.1}H{to:.1}"),
            _ => format!("V{at:.1}H{to:.1}"),
        };
    }
    let begin = steps.first().map_or(LEFT, |step| x(step.from));
    let area = path.replacen('M', &format!("M{begin:.1} {BOTTOM}L"), 1);
    format!(
        "<path d=\"{area}V{BOTTOM}H{begin:.1}Z\" fill=\"{USE}\" fill-opacity=\"0.15\"/>\n\
         <path d=\"{path}\" fill=\"none\" stroke=\"{USE}\" stroke-width=\"1.5\" stroke-linejoin=\"round\"/>\n"
    )
}

/// Use between readings, a few hundred steps at most; in steps of several periods where there is a quota, because a
/// shorter one holds two refills or none.
fn steps(points: &[CapacityPoint]) -> Vec<Step> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Vec::new();
    };
    let whole_ns = last.at_ns.saturating_sub(first.at_ns);
    let has_quota = first.nr_periods.is_some() && first.nr_throttled.is_some();
    let shortest_ns = if has_quota {
        super::QUOTA_INTERVAL_NS
    } else {
        0
    };
    let joined = usage::joined(points, shortest_ns.max(whole_ns / MAX_STEPS));
    let grown = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?) as f64);
    let seconds = |ns: u64| ns as f64 / 1e9;
    let steps = joined.map(|(from, to)| {
        let periods = grown(from.nr_periods, to.nr_periods).unwrap_or(0.0);
        let stopped = grown(from.nr_throttled, to.nr_throttled).unwrap_or(0.0);
        let used = to.service_cpu_ns.saturating_sub(from.service_cpu_ns);
        Step {
            from: seconds(from.at_ns),
            to: seconds(to.at_ns),
            cores: used as f64 / to.at_ns.saturating_sub(from.at_ns).max(1) as f64,
            stopped: if periods > 0.0 {
                stopped / periods
            } else {
                0.0
            },
        }
    });
    steps.collect()
}

fn marks(capacity: &Capacity, most: f64) -> Vec<Mark> {
    let mut marks = Vec::new();
    let p95 = capacity.cpu_cores.as_ref().map(|cores| cores.p95);
    if let Some(p95) = p95 {
        marks.push(Mark {
            cores: p95,
            label: format!("p95 {p95:.3} cores"),
            colour: USE,
            dashes: "2 3",
        });
    }
    let in_sight = |cores: f64| cores <= LIMIT_IN_SIGHT * most.max(p95.unwrap_or(0.0));
    let Some(ceiling) = capacity.ceiling_cores else {
        return marks;
    };
    let target = ceiling * capacity.target_utilization;
    if in_sight(target) {
        marks.push(Mark {
            cores: target,
            label: format!(
                "target {:.0} %: {target:.3}",
                capacity.target_utilization * 100.0
            ),
            colour: TARGET,
            dashes: "7 4",
        });
    }
    if in_sight(ceiling) {
        marks.push(Mark {
            cores: ceiling,
            label: format!("limit {ceiling:.2} cores"),
            colour: STOPPED,
            dashes: "none",
        });
    }
    marks
}

/// Where labels stand so that none covers another: at their lines, or pushed up by the one below.
fn label_positions(marks: &[Mark], y: &dyn Fn(f64) -> f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..marks.len()).collect();
    order.sort_by(|a, b| marks[*a].cores.total_cmp(&marks[*b].cores));
    let mut positions = vec![0.0; marks.len()];
    let mut free_below = f64::INFINITY;
    for ix in order {
        let at = y(marks[ix].cores).min(free_below);
        positions[ix] = at;
        free_below = at - LABEL_HEIGHT;
    }
    positions
}

/// A round step and how many of them cover `most`: four to eight.
fn scale(most: f64) -> (f64, u32) {
    let most = if most > 0.0 { most } else { 1.0 };
    let power = 10f64.powf((most / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| most / step <= 6.0)
        .unwrap_or(most);
    (step, (most / step - 1e-9).ceil().max(1.0) as u32)
}

/// As text of an XML document; control characters are not allowed in one.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(MAX_NAME_CHARS) {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    if text.chars().nth(MAX_NAME_CHARS).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_cover_everything() {
        for (most, step, steps) in [
            (1.0, 0.2, 5),
            (0.31, 0.1, 4),
            (60.0, 10.0, 6),
            (7.3, 2.0, 4),
        ] {
            let (found, count) = scale(most);
            assert!(
                (found - step).abs() < 1e-9 && count == steps,
                "{most}: {found} × {count}"
            );
        }
        assert!(scale(0.0).1 >= 1);
    }

    #[test]
    fn a_name_cannot_leave_its_element() {
        assert_eq!(
            escape("</text>&\"\u{1}"),
            "&lt;/text&gt;&amp;&quot;\u{fffd}"
        );
        assert!(escape(&"x".repeat(100)).chars().count() == MAX_NAME_CHARS + 1);
    }

    #[test]
    fn labels_of_near_lines_do_not_cover_each_other() {
        let mark = |cores| Mark {
            cores,
            label: String::new(),
            colour: USE,
            dashes: "none",
        };
        let marks = [mark(0.30), mark(0.29), mark(0.195)];
        let positions = label_positions(&marks, &|cores| 186.0 - cores * 100.0);
        assert!(positions[1] - positions[0] >= LABEL_HEIGHT, "{positions:?}");
        assert_eq!(positions[2], 166.5);
    }
}
