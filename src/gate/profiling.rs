//! The profiling part of the diagnostic gate: was each service profiled, well enough, with a flame graph to look at?
//!
//! In: `coverage.json`, `profiling-report.md` and the files it links to. Out: a check per service. A service without a
//! flame graph counts for nothing; one whose profile is below a threshold of its coverage is inconclusive, and counts
//! for its part: what the weakest metric reached of its threshold.

use std::path::Path;

use serde_json::Value;

use super::check::{Check, Status, percent};
use super::command;
use super::documents::BadInput;
use super::load::Scored;
use super::waiver::{Scope, Waivers};
use super::{Setting, config};
use crate::artifacts::{InsideError, read_inside, section, slug};
use crate::render::coverage::{SCHEMA, SCHEMA_VERSION};

const COVERAGE: &str = "coverage.json";
const REPORT: &str = "profiling-report.md";
/// Flame graphs of the largest programs have some ten megabytes.
const MAX_SVG_BYTES: u64 = 256 << 20;

/// What the artifact root tells of profiles.
#[derive(Debug)]
pub(super) struct Profiles {
    /// Entries of `coverage.json`; `None` when there is none.
    entries: Option<Vec<Value>>,
    report: Option<String>,
}

/// One service's standing.
#[derive(Debug)]
pub(super) struct Profiled {
    pub service: String,
    pub critical: bool,
    pub check: Check,
    /// What it counts for, 0 to 1.
    pub part: f64,
}

impl Profiled {
    /// Profiled as the count of critical services asks for it.
    pub fn is_whole(&self) -> bool {
        self.check.status == Status::Pass
    }
}

impl Profiles {
    pub fn read(setting: &Setting) -> Result<Profiles, BadInput> {
        let documents = &setting.documents;
        Ok(Profiles {
            entries: documents.services(COVERAGE, SCHEMA, SCHEMA_VERSION)?,
            report: documents.text(REPORT)?,
        })
    }

    /// The services that were recorded, in the order of the document.
    pub fn recorded(&self) -> Vec<String> {
        let entries = self.entries.iter().flatten();
        entries
            .filter_map(|e| e["service"].as_str().map(str::to_owned))
            .collect()
    }

    fn entry(&self, service: &str) -> Option<&Value> {
        self.entries
            .iter()
            .flatten()
            .find(|e| e["service"] == service)
    }

    /// The file that the service's section of the report links to, from the artifact root.
    pub fn linked(&self, service: &str, extension: &str) -> Option<String> {
        let section = section(self.report.as_deref()?, &slug(service))?;
        let links = section.match_indices("](diagnostics/");
        links
            .filter_map(|(at, _)| section[at + 2..].split_once(')').map(|(path, _)| path))
            .find(|path| of_kind(path, extension))
            .map(str::to_owned)
    }

    pub fn judge(&self, setting: &Setting, service: &str, waivers: &mut Waivers) -> Profiled {
        let own = &setting.config.own;
        let named = own.services.iter().find(|s| s.name.value.0 == service);
        // Without a config every service counts as one that matters.
        let critical = named.map_or(own.services.is_empty(), |s| s.critical);
        let kind = if critical {
            "critical service"
        } else {
            "service"
        };
        let check = Check::new(
            format!("profiling:{service}"),
            format!("profile of {kind} `{service}`"),
        )
        .of_score()
        .expected(
            "recorded, flame graph attached, every coverage metric at or above its threshold",
        );
        let (check, part) = self.judged(setting, service, check, waivers);
        Profiled {
            service: service.to_owned(),
            critical,
            check,
            part,
        }
    }

    fn judged(
        &self,
        setting: &Setting,
        service: &str,
        check: Check,
        waivers: &mut Waivers,
    ) -> (Check, f64) {
        let record = command::record(service, setting.documents.root());
        let graph = match self.entry(service) {
            Some(_) => self.flame_graph(setting, service),
            None => Err((
                COVERAGE.to_owned(),
                match &self.entries {
                    None => format!("nothing was recorded: there is no `{COVERAGE}`"),
                    Some(_) => format!("`{service}` was not recorded"),
                },
            )),
        };
        let graph = match graph {
            Ok(graph) => graph,
            Err((looked_in, why)) => {
                let check = check.evidence(setting.documents.shown(&looked_in));
                return (missing(check, service, why, record, waivers), 0.0);
            }
        };
        let entry = self.entry(service).unwrap_or(&Value::Null);
        let faults = faults(entry, &setting.config.own.diagnostics);
        if faults.is_empty() {
            let actual = format!("recorded at {}, flame graph attached", recorded_at(entry));
            let check = check.evidence(setting.documents.shown(&graph));
            return (check.pass(actual), 1.0);
        }
        let part = faults.iter().map(|f| f.part).fold(1.0, f64::min);
        let sentences: Vec<&str> = faults.iter().map(|f| f.sentence.as_str()).collect();
        let actual = format!("{} (counts for {})", sentences.join("; "), percent(part));
        let remedy = faults.iter().find_map(|f| f.remedy.clone());
        let check = check
            .found(Status::Inconclusive, actual)
            .evidence(setting.documents.shown(COVERAGE))
            .remedy(remedy.map_or(record.clone(), |r| format!("{r}; then {record}")));
        (check, part)
    }

    /// The service's flame graph, or where it was looked for and what is wrong with it.
    fn flame_graph(&self, setting: &Setting, service: &str) -> Result<String, (String, String)> {
        if self.report.is_none() {
            let why = format!("there is no `{REPORT}` that a flame graph could be attached to");
            return Err((REPORT.into(), why));
        }
        let Some(path) = self.linked(service, "svg") else {
            let why = format!("the flame graph of `{service}` is not attached to `{REPORT}`");
            return Err((REPORT.into(), why));
        };
        let read = read_inside(setting.documents.root(), Path::new(&path), MAX_SVG_BYTES);
        let wrong = |why: &str| {
            let text = format!("the flame graph of `{service}` {why}");
            Err((path.clone(), text))
        };
        match read {
            Ok(None) => wrong("is missing"),
            Ok(Some(bytes)) => match svg_fault(&bytes) {
                None => Ok(path),
                Some(fault) => wrong(fault),
            },
            Err(InsideError::Io(error)) => wrong(&format!("cannot be read: {error}")),
            Err(error) => wrong(&error.to_string()),
        }
    }
}

fn missing(
    check: Check,
    service: &str,
    why: String,
    record: String,
    waivers: &mut Waivers,
) -> Check {
    if let Some(waiver) = waivers.excuse(Scope::Service, service) {
        let actual = format!(
            "{why}, waived by {} until {}",
            waiver.approver, waiver.expires
        );
        return check.found(Status::Waived, actual);
    }
    match waivers.refusal(Scope::Service, service) {
        Some(refusal) => check.fail(format!("{why}; its waiver {refusal}"), record),
        None => check.fail(why, record),
    }
}

/// `x-20260101T000000Z.svg` is of kind `svg`, `x….off-cpu.svg` is not.
fn of_kind(path: &str, extension: &str) -> bool {
    let Some(stem) = path
        .strip_suffix(extension)
        .and_then(|stem| stem.strip_suffix('.'))
    else {
        return false;
    };
    let name = stem.rsplit('/').next().unwrap_or(stem);
    !name.ends_with(".off-cpu") && !name.ends_with(".capacity")
}

/// Why bytes are no picture that somebody could look at. Not a validator: it tells a flame graph from anything else.
fn svg_fault(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("is empty");
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Some("is not SVG: it is no text");
    };
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    // The XML declaration, the document type, comments.
    while let Some((end, skip)) = [("<?", "?>"), ("<!--", "-->"), ("<!DOCTYPE", ">")]
        .iter()
        .find(|(begin, _)| rest.starts_with(begin))
        .map(|(_, end)| (rest.find(end), end.len()))
    {
        let end = end?;
        rest = rest[end + skip..].trim_start();
    }
    let is_svg = rest
        .strip_prefix("<svg")
        .is_some_and(|after| after.starts_with(|c: char| c.is_whitespace() || c == '>'));
    if !is_svg {
        return Some("is not SVG: no `<svg` element begins it");
    }
    if !rest.trim_end().ends_with("</svg>") {
        return Some("is not whole: it does not end in `</svg>`");
    }
    let drawn = ["<rect", "<path", "<polygon"]
        .iter()
        .any(|shape| rest.contains(shape));
    (!drawn).then_some("shows nothing: no shape is drawn in it")
}

/// A coverage metric that is not as good as it has to be.
struct Fault {
    sentence: String,
    /// What was reached of the threshold.
    part: f64,
    remedy: Option<String>,
}

fn faults(entry: &Value, plan: &config::Diagnostics) -> Vec<Fault> {
    let metrics = entry["metrics"].as_object();
    let mut faults: Vec<Fault> = metrics
        .into_iter()
        .flatten()
        .filter_map(|(id, metric)| fault(id, metric, plan.coverage_thresholds.get(id).map(|t| t.0)))
        .collect();
    for id in plan.coverage_thresholds.keys() {
        if metrics.is_none_or(|metrics| !metrics.contains_key(id)) {
            faults.push(unmeasured(id, "it is no metric of `coverage.json`"));
        }
    }
    let overridden = !plan.coverage_thresholds.is_empty();
    if faults.is_empty() && !overridden && entry["verdict"] != "trusted" {
        faults.push(unmeasured(
            "verdict",
            "the recording does not say that it can be trusted",
        ));
    }
    faults
}

fn unmeasured(id: &str, why: &str) -> Fault {
    Fault {
        sentence: format!("`{id}`: {why}"),
        part: 0.0,
        remedy: None,
    }
}

fn fault(id: &str, metric: &Value, own_threshold: Option<f64>) -> Option<Fault> {
    let value = metric["value"].as_f64();
    let threshold = own_threshold.or(metric["threshold"].as_f64());
    let less_is_better = id == "confidence";
    let ok = match (own_threshold, value) {
        (Some(bound), Some(value)) if less_is_better => value <= bound,
        (Some(bound), Some(value)) => value >= bound - metric["tolerance"].as_f64().unwrap_or(0.0),
        (Some(_), None) => false,
        (None, _) => metric["gating"] != true || metric["ok"] == true,
    };
    if ok {
        return None;
    }
    let (Some(value), Some(threshold)) = (value, threshold) else {
        let why = metric["not_measured"]
            .as_str()
            .unwrap_or("it was not measured");
        return Some(unmeasured(id, why));
    };
    let ratio = match (less_is_better, value > threshold) {
        (true, _) => threshold / value,
        (false, false) => value / threshold,
        // Samples that stand for more time than there was are as wrong as too few.
        (false, true) => 1.0 / value,
    };
    Some(Fault {
        sentence: format!(
            "`{id}` is {} of at least {}",
            percent(value),
            percent(threshold)
        )
        .replace(
            "at least",
            if less_is_better {
                "at most"
            } else {
                "at least"
            },
        ),
        part: if ratio.is_finite() {
            ratio.clamp(0.0, 1.0)
        } else {
            0.0
        },
        remedy: metric["remedy"].as_str().map(str::to_owned),
    })
}

fn recorded_at(entry: &Value) -> &str {
    entry["recorded_at"].as_str().unwrap_or("an unknown time")
}

/// Scores the services.
pub(super) fn score(profiled: &[Profiled]) -> Scored {
    let asked: Vec<&Profiled> = profiled
        .iter()
        .filter(|p| p.check.status != Status::Waived)
        .collect();
    let sum: f64 = asked.iter().map(|p| p.part).sum();
    Scored {
        score: (!asked.is_empty()).then(|| sum / asked.len() as f64),
        checks: profiled.iter().map(|p| p.check.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_picture_is_told_from_what_only_has_its_name() {
        let good = "<?xml version=\"1.0\"?>\n<!DOCTYPE svg PUBLIC \"x\">\n<!-- a -->\n<svg w=\"1\"><rect/></svg>\n";
        assert_eq!(svg_fault(good.as_bytes()), None);
        assert_eq!(svg_fault(b"<svg><path/></svg>"), None);
        for (bytes, words) in [
            (&b""[..], "is empty"),
            (b"<svg width=\"1\"><rect/>", "not whole"),
            (b"<html><svg></svg></html>", "not SVG"),
            (b"<svgx><rect/></svg>", "not SVG"),
            (b"<svg></svg>", "shows nothing"),
            (b"\xff\xd8\xff", "no text"),
            (b"<!-- never ends <svg><rect/></svg>", ""),
        ] {
            let fault = svg_fault(bytes);
            assert!(
                words.is_empty() || fault.is_some_and(|f| f.contains(words)),
                "{words}: {fault:?}"
            );
        }
        assert!(of_kind("diagnostics/a-1.svg", "svg") && of_kind("diagnostics/a.pb.gz", "pb.gz"));
        assert!(
            !of_kind("diagnostics/a.off-cpu.svg", "svg")
                && !of_kind("diagnostics/a.capacity.svg", "svg")
        );
    }

    fn entry() -> Value {
        json!({"service": "a", "verdict": "trusted", "metrics": {
            "cpu_time": {"value": 0.98, "threshold": 0.95, "tolerance": 0.0, "gating": true, "ok": true},
            "stacks": {"value": 0.9, "threshold": 0.95, "tolerance": 0.06, "gating": true, "ok": true},
            "source_lines": {"value": 0.1, "threshold": null, "tolerance": 0.0, "gating": false, "ok": null},
            "confidence": {"value": 0.02, "threshold": 0.01, "tolerance": 0.0, "gating": false, "ok": false},
        }})
    }

    #[test]
    fn a_service_counts_for_what_its_weakest_metric_reached() {
        let plan = config::Diagnostics::default();
        assert!(faults(&entry(), &plan).is_empty());
        let mut bad = entry();
        bad["metrics"]["cpu_time"]["value"] = json!(0.475);
        bad["metrics"]["cpu_time"]["ok"] = json!(false);
        let found = faults(&bad, &plan);
        assert!(found.len() == 1 && (found[0].part - 0.5).abs() < 1e-9);
        assert_eq!(found[0].sentence, "`cpu_time` is 47.5 % of at least 95 %");
        bad["metrics"]["cpu_time"]["value"] = Value::Null;
        assert_eq!(faults(&bad, &plan)[0].part, 0.0);
        let mut unsaid = entry();
        unsaid["verdict"] = json!("inconclusive");
        assert_eq!(faults(&unsaid, &plan)[0].part, 0.0);
        assert_eq!(faults(&json!({}), &plan).len(), 1);
    }

    #[test]
    fn thresholds_of_the_config_take_the_place_of_the_recordings() {
        let mut plan = config::Diagnostics::default();
        let thresholds = &mut plan.coverage_thresholds;
        thresholds.insert("source_lines".into(), config::Share(0.5));
        thresholds.insert("confidence".into(), config::Share(0.03));
        let found = faults(&entry(), &plan);
        assert!(found.len() == 1 && found[0].sentence.contains("source_lines"));
        assert!((found[0].part - 0.2).abs() < 1e-9);
        plan.coverage_thresholds
            .insert("no-such".into(), config::Share(0.5));
        assert_eq!(faults(&entry(), &plan).len(), 2);
    }
}
