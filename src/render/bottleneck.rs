//! `bottleneck-report.json`: hot paths and wait causes, ranked, for machines. Schema:
//! `schemas/bottleneck-report.schema.json`. Out: the entry of one service.

use serde_json::{Value, json};

use super::coverage::{head, number};
use super::fit;
use crate::analysis::{Analysis, HotPath, Measure};
use crate::profile::Profile;

mod waits;

/// Value of the document's `schema`.
pub const SCHEMA: &str = "perfprof.bottleneck-report";
/// Raised when a reader of the former version would go wrong.
pub const SCHEMA_VERSION: u64 = 1;

/// Names of a call chain kept at each end; deep recursion would otherwise fill the file.
pub(super) const CHAIN_ENDS: usize = 100;
/// Longer names are cut in the middle; the longest of real C++ templates fit.
const NAME_CHARS: usize = 4096;

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
    entry.insert("bottlenecks".to_owned(), waits::ranked(analysis));
    entry.insert("time".to_owned(), waits::time(profile, analysis));
    entry.insert("waits".to_owned(), waits::waits(profile, analysis));
    Value::Object(entry)
}

fn ranked(paths: &[HotPath]) -> Vec<Value> {
    let ranks = paths.iter().enumerate();
    ranks.map(|(i, path)| hot_path(i + 1, path)).collect()
}

pub(super) fn name(name: &str) -> String {
    fit::middle(name, NAME_CHARS)
}

fn hot_path(rank: usize, path: &HotPath) -> Value {
    let (head, left_out, tail) = fit::ends(&path.chain.names, CHAIN_ENDS, CHAIN_ENDS);
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "rank": rank,
        "function": name(&path.name),
        "canonical": name(&path.canonical),
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
        "chain": head.iter().chain(tail).map(|link| name(link)).collect::<Vec<_>>(),
        "chain_left_out": left_out,
        "chain_share": number(Some(path.chain.share)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Thresholds, canned};
    use crate::profile::{Accounting, ProfileBuilder, Recording};
    use crate::render::coverage::validate;
    use crate::render::document;

    const SCHEMA_TEXT: &str = include_str!("../../schemas/bottleneck-report.schema.json");

    fn document_of(profile: &Profile) -> Value {
        document(
            SCHEMA,
            SCHEMA_VERSION,
            vec![entry(
                profile,
                &Analysis::of(profile, &Thresholds::default()),
            )],
        )
    }

    #[test]
    fn real_entries_conform_to_the_schema() {
        let empty = ProfileBuilder::default().build(Recording::default(), Accounting::default());
        let hostile = canned::named_server("x\"\u{1b}\n", ["a\0b", "</script>"]);
        for profile in [
            canned::server(),
            canned::waiting_server(),
            canned::random(3),
            empty,
            hostile,
        ] {
            validate(SCHEMA_TEXT, &document_of(&profile));
        }
    }

    #[test]
    fn endless_recursion_and_names_are_cut_and_counted() {
        let mut profile = canned::server();
        profile.functions[0].name = "x".repeat(1_000_000);
        let mut analysis = Analysis::of(&profile, &Thresholds::default());
        analysis.hot.by_self[0].chain.names = vec!["f".into(); 1000];
        let document = document(SCHEMA, SCHEMA_VERSION, vec![entry(&profile, &analysis)]);
        validate(SCHEMA_TEXT, &document);
        let path = &document["services"][0]["hot_paths"]["by_self"][0];
        assert_eq!(path["chain"].as_array().map(Vec::len), Some(2 * CHAIN_ENDS));
        assert_eq!(path["chain_left_out"], 800);
        assert!(document.to_string().len() < 300_000);
    }

    #[test]
    fn names_for_comparison_stand_beside_those_that_were_recorded() {
        let name = "std::__cxx11::f[abi:cxx11](int) [clone .part.0]";
        let profile = canned::named_server("shop", ["serve", name]);
        let document = document_of(&profile);
        let by_total = &document["services"][0]["hot_paths"]["by_total"];
        let paths = by_total.as_array().expect("a ranking");
        let path = paths.iter().find(|path| path["function"] == name);
        assert_eq!(path.expect("is hot")["canonical"], "std::f(int)");
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
        assert_eq!(by_self[0]["canonical"], "hash_step");
        assert!(by_self[0]["interval"]["low"].is_number());
        assert_eq!(document["services"][0]["waits"]["measured"], false);
    }
}
