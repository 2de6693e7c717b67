//! The parts of `bottleneck-report.json` that are about time off the CPU: books, waits, and both ranked with code.

use serde_json::{Value, json};

use super::{CHAIN_ENDS, name};
use crate::analysis::Analysis;
use crate::analysis::books::Balance;
use crate::analysis::bottlenecks::{self, Kind};
use crate::analysis::waits::{WaitAnalysis, WaitPath, WakerPath};
use crate::profile::{Origin, Profile};
use crate::render::coverage::number;
use crate::render::fit;

/// Threads that are listed, the busiest first.
const MAX_THREADS: usize = 1000;

/// Code and waits in one list.
pub(super) fn ranked(analysis: &Analysis) -> Value {
    let entries = bottlenecks::ranked(analysis).into_iter().enumerate();
    let entries = entries.map(|(ix, entry)| {
        json!({
            "rank": ix + 1,
            "kind": entry.kind.id(),
            "cause": match entry.kind {
                Kind::Wait(cause) => Some(cause.id()),
                _ => None,
            },
            "function": (!entry.function.is_empty()).then(|| name(&entry.function)),
            "thread_seconds": seconds(entry.ns),
            "share": number(entry.share),
        })
    });
    entries.collect()
}

/// Why there are no waits.
fn reason(profile: &Profile) -> &str {
    let recording = &profile.recording;
    match (&recording.origin, recording.waits_reason.as_str()) {
        (Origin::Foreign { .. }, _) => {
            "another tool recorded it, and does not say what its weights are"
        }
        (Origin::Perfprof, "") => "only time on a CPU was recorded",
        (Origin::Perfprof, reason) => reason,
    }
}

/// The books.
pub(super) fn time(profile: &Profile, analysis: &Analysis) -> Value {
    let facts = profile.waits.as_ref().map(|waits| &waits.facts);
    let (Some(books), Some(facts)) = (&analysis.books, facts) else {
        return json!({"measured": false, "reason": reason(profile), "threads": []});
    };
    let mut entry = balance(&books.all);
    let threads = books.threads.iter().take(MAX_THREADS).map(|thread| {
        let mut entry = balance(&thread.balance);
        entry["pid"] = json!(thread.pid);
        entry["tid"] = json!(thread.tid);
        entry["name"] = json!(name(&thread.name));
        let causes = thread.blocked_by.iter();
        entry["blocked_by"] = causes
            .map(|(cause, ns)| (cause.id().to_owned(), seconds(*ns)))
            .collect();
        entry
    });
    entry["threads"] = threads.collect();
    entry["measured"] = json!(true);
    entry["reason"] = Value::Null;
    entry["source"] =
        json!("every switch and wake-up of every thread; on CPU by the scheduler's count");
    entry["throttled_by"] = json!(facts.throttled_by);
    entry["threads_left_out"] = json!(books.threads.len().saturating_sub(MAX_THREADS));
    entry["threads_without_book"] = json!(facts.without_book);
    entry
}

fn balance(balance: &Balance) -> Value {
    json!({
        "wall_seconds": seconds(balance.wall_ns),
        "on_cpu_seconds": seconds(balance.on_cpu_ns),
        "runnable_seconds": seconds(balance.runnable_ns),
        "throttled_seconds": seconds(balance.throttled_ns),
        "blocked_seconds": seconds(balance.blocked_ns),
        "residual_seconds": balance.residual_ns as f64 / 1e9,
        "residual_share": number(Some(balance.residual_share())),
        "uncounted_seconds": balance.uncounted_ns as f64 / 1e9,
    })
}

/// Causes, the longest waits, and what used a quota up.
pub(super) fn waits(profile: &Profile, analysis: &Analysis) -> Value {
    let facts = profile.waits.as_ref().map(|waits| &waits.facts);
    let (Some(waits), Some(facts)) = (&analysis.waits, facts) else {
        return json!({
            "measured": false,
            "reason": reason(profile),
            "causes": [],
            "stacks": [],
            "quota_burners": [],
        });
    };
    let causes = waits.causes.iter().map(|total| {
        json!({
            "cause": total.cause.id(),
            "seconds": seconds(total.ns),
            "idle_seconds": seconds(total.idle_ns),
            "intervals": total.waits,
        })
    });
    let quota = waits.quota.iter().enumerate().map(|(ix, path)| {
        json!({
            "rank": ix + 1,
            "function": name(&path.function),
            "share": number(Some(path.share)),
            "ticks": path.ticks,
            "cpu_seconds": seconds(path.cpu_ns),
        })
    });
    let stacks = waits.paths.iter().enumerate();
    json!({
        "measured": true,
        "reason": null,
        "causes": causes.collect::<Vec<_>>(),
        "stacks": stacks.map(|(ix, path)| stack(ix + 1, path)).collect::<Vec<_>>(),
        "quota_burners": quota.collect::<Vec<_>>(),
        "coverage": coverage(waits),
        "stacks_taken": facts.stacks_taken,
        "wakers_taken": facts.wakers_taken,
        "records_lost": facts.lost,
    })
}

fn coverage(waits: &WaitAnalysis) -> Value {
    json!({
        "with_stack_seconds": seconds(waits.with_stack_ns),
        "complete_seconds": seconds(waits.complete_ns),
        "without_stack_seconds": seconds(waits.without_stack_ns),
    })
}

fn stack(rank: usize, path: &WaitPath) -> Value {
    let (shown, left_out) = chain(&path.chain);
    json!({
        "rank": rank,
        "cause": path.cause.id(),
        "idle": path.idle,
        "seconds": seconds(path.ns),
        "intervals": path.waits,
        "samples": path.stacks,
        "function": name(&path.function),
        "chain": shown,
        "chain_left_out": left_out,
        "stack_end": path.end.id(),
        "wakers": path.wakers.iter().map(waker).collect::<Vec<_>>(),
    })
}

fn waker(waker: &WakerPath) -> Value {
    let (shown, left_out) = chain(&waker.chain);
    json!({
        "seconds": seconds(waker.ns),
        "intervals": waker.waits,
        "thread": name(&waker.thread),
        "chain": shown,
        "chain_left_out": left_out,
    })
}

fn chain(names: &[String]) -> (Vec<String>, usize) {
    let (head, left_out, tail) = fit::ends(names, CHAIN_ENDS, CHAIN_ENDS);
    let shown = head.iter().chain(tail).map(|link| name(link)).collect();
    (shown, left_out)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
