//! The profiling part of the diagnostic gate: was each service profiled, well enough, with a flame graph to look at?
//!
//! In: `coverage.json`, `profiling-report.md` and the files it links to. Out: a check per service. A service without a
//! flame graph counts for nothing; one whose profile is below a threshold of its coverage is inconclusive, and counts
//! for its part: what the weakest metric reached of its threshold.

use std::path::Path;

use serde_json::Value;

use super::Setting;
use super::check::{Check, Status, percent};
use super::command;
use super::documents::BadInput;
use super::load::Scored;
use super::shortfall::faults;
use super::svg;
use super::waiver::{Scope, Waivers};
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
        let links = self.links(service, extension);
        links.into_iter().find(|path| is_of(path, &slug(service)))
    }

    /// All that the service's section links to, whosesoever they are.
    fn links(&self, service: &str, extension: &str) -> Vec<String> {
        let report = self.report.as_deref();
        let Some(section) = report.and_then(|report| section(report, &slug(service))) else {
            return Vec::new();
        };
        let links = section.match_indices("](diagnostics/");
        links
            .filter_map(|(at, _)| section[at + 2..].split_once(')').map(|(path, _)| path))
            .filter(|path| of_kind(path, extension))
            .map(str::to_owned)
            .collect()
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
            let why = match self.links(service, "svg").first() {
                Some(other) => {
                    format!("the flame graph in the section of `{service}` is another's: `{other}`")
                }
                None => format!("the flame graph of `{service}` is not attached to `{REPORT}`"),
            };
            return Err((REPORT.into(), why));
        };
        let read = read_inside(setting.documents.root(), Path::new(&path), MAX_SVG_BYTES);
        let wrong = |why: &str| {
            let text = format!("the flame graph of `{service}` {why}");
            Err((path.clone(), text))
        };
        match read {
            Ok(None) => wrong("is missing"),
            Ok(Some(bytes)) => match svg::fault(&bytes) {
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

/// `cart-20260101T000000Z.svg` is of `cart`. The stamp right after it keeps `cart-api`'s apart, so that no file serves two.
fn is_of(path: &str, slug: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let rest = name
        .strip_prefix(slug)
        .and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| {
        let mut rest = rest.bytes();
        rest.by_ref().take(8).filter(u8::is_ascii_digit).count() == 8 && rest.next() == Some(b'T')
    })
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

    #[test]
    fn a_flame_graph_is_of_the_service_that_its_name_begins_with() {
        assert!(is_of("diagnostics/cart-20260101T000000Z.svg", "cart"));
        assert!(is_of("diagnostics/cart-20260101T000000Z-2.svg", "cart"));
        for other in [
            "db-20260101T000000Z.svg",
            "cart-api-20260101T000000Z.svg",
            "cart.svg",
        ] {
            assert!(!is_of(&format!("diagnostics/{other}"), "cart"), "{other}");
        }
    }

    #[test]
    fn flame_graphs_are_told_from_other_pictures() {
        assert!(of_kind("diagnostics/a-1.svg", "svg") && of_kind("diagnostics/a.pb.gz", "pb.gz"));
        assert!(
            !of_kind("diagnostics/a.off-cpu.svg", "svg")
                && !of_kind("diagnostics/a.capacity.svg", "svg")
        );
    }
}
