//! `bottleneck-report.json`: hot paths and wait causes, ranked, for machines. Schema:
//! `schemas/bottleneck-report.schema.json`. Out: the entry of one service, and the document around entries.

use serde_json::{Value, json};

use super::coverage::{head, number};
use crate::analysis::{Analysis, HotPath, Measure};
use crate::profile::Profile;

/// Value of the document's `schema`.
pub const SCHEMA: &str = "perfprof.bottleneck-report";
/// Raised when a reader of the former version would go wrong.
pub const SCHEMA_VERSION: u64 = 1;

/// One service's entry.
pub fn entry(profile: &Profile, analysis: &Analysis) -> Value {
    let mut entry = head(profile, &analysis.coverage.verdict);
    let measure = match Measure::of(profile) {
        Measure::CpuTime => "cpu_time",
        Measure::Ticks => "ticks",
    };
    entry.insert("shares_of".to_owned(), json!(measure));
    entry.insert("functions".to_owned(), json!(analysis.hot.functions));
    entry.insert(
        "hot_paths".to_owned(),
        json!({
            "by_self": ranked(&analysis.hot.by_self),
            "by_total": ranked(&analysis.hot.by_total),
        }),
    );
    entry.insert(
        "waits".to_owned(),
        json!({
            "measured": false,
            "reason": "only time on a CPU was recorded",
            "causes": [],
        }),
    );
    Value::Object(entry)
}

/// The document around entries made by [`entry`].
pub fn document(services: Vec<Value>) -> Value {
    json!({ "schema": SCHEMA, "schema_version": SCHEMA_VERSION, "services": services })
}

fn ranked(paths: &[HotPath]) -> Vec<Value> {
    let ranks = paths.iter().enumerate();
    ranks.map(|(i, path)| hot_path(i + 1, path)).collect()
}

fn hot_path(rank: usize, path: &HotPath) -> Value {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "rank": rank,
        "function": path.name,
        "kernel": path.kernel,
        "module": known(&path.module),
        "file": known(&path.file),
        "line": (path.line > 0).then_some(path.line),
        "share": number(Some(path.share.value)),
        "interval": path.share.interval,
        "n": path.share.n,
        "blocks": path.share.blocks,
        "design_effect": number(path.share.design_effect),
        "self_ticks": path.self_weight.ticks,
        "self_cpu_ns": path.self_weight.cpu_ns,
        "total_ticks": path.total_weight.ticks,
        "total_cpu_ns": path.total_weight.cpu_ns,
        "chain": path.chain.names,
        "chain_share": number(Some(path.chain.share)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Thresholds, canned};
    use crate::profile::{Accounting, ProfileBuilder, Recording};
    use crate::render::coverage::validate;

    const SCHEMA_TEXT: &str = include_str!("../../schemas/bottleneck-report.schema.json");

    fn document_of(profile: &Profile) -> Value {
        document(vec![entry(
            profile,
            &Analysis::of(profile, &Thresholds::default()),
        )])
    }

    #[test]
    fn real_entries_conform_to_the_schema() {
        let empty = ProfileBuilder::default().build(Recording::default(), Accounting::default());
        let hostile = canned::named_server("x\"\u{1b}\n", ["a\0b", "</script>"]);
        for profile in [canned::server(), canned::random(3), empty, hostile] {
            validate(SCHEMA_TEXT, &document_of(&profile));
        }
    }

    #[test]
    fn the_ranking_is_that_of_the_profile() {
        let document = document_of(&canned::server());
        let by_self = &document["services"][0]["hot_paths"]["by_self"];
        assert_eq!(by_self[0]["function"], "hash_step");
        assert_eq!(by_self[0]["self_ticks"], canned::HASH_STEP_TICKS);
        assert_eq!(
            (&by_self[0]["file"], &by_self[0]["line"]),
            (&json!("src/hash.c"), &json!(42))
        );
        assert!(by_self[0]["interval"]["low"].is_number());
        assert_eq!(document["services"][0]["waits"]["measured"], false);
    }
}
