//! Where the time went: books that balance, what was waited for, where, and who ended it.

use super::NAME_CHARS;
use crate::analysis::Analysis;
use crate::analysis::books::{Balance, Books};
use crate::analysis::bottlenecks::{self, Kind};
use crate::analysis::waits::{WaitAnalysis, WaitPath};
use crate::profile::{KERNEL_SUFFIX, Profile, WaitFacts};
use crate::render::escape::{code, code_cell, inline};
use crate::render::table::{Align::Left, Align::Right, Table};
use crate::render::{fit, units};

/// Rows of each list.
const TOP_THREADS: usize = 12;
const TOP_WAITS: usize = 10;
const TOP_BOTTLENECKS: usize = 10;
const TOP_QUOTA: usize = 5;
const TOP_WAKERS: usize = 3;
/// Names of a call chain that are shown.
const CHAIN_NAMES: usize = 6;
/// A larger residual is said to be one.
const LARGE_RESIDUAL: f64 = 0.02;

pub(super) fn time_and_waits(profile: &Profile, analysis: &Analysis) -> String {
    let (Some(books), Some(waits)) = (&analysis.books, &analysis.waits) else {
        return String::new();
    };
    let facts = profile.waits.as_ref().map(|waits| &waits.facts);
    let parts = [
        time(books, facts),
        bottleneck_list(analysis),
        causes(waits, books.all.wall_ns),
        paths(waits),
        quota(waits),
    ];
    let parts: Vec<&str> = parts
        .iter()
        .map(|p| p.trim_end())
        .filter(|p| !p.is_empty())
        .collect();
    parts.join("\n\n")
}

fn time(books: &Books, facts: Option<&WaitFacts>) -> String {
    let head = [
        ("Thread", Left),
        ("TID", Right),
        ("Wall s", Right),
        ("On CPU", Right),
        ("Runnable", Right),
        ("Throttled", Right),
        ("Blocked", Right),
        ("Mostly for", Left),
        ("Residual", Right),
    ];
    let mut table = Table::new(&head);
    let mut row = |name: String, tid: String, balance: &Balance, mostly: String| {
        table.row([
            name,
            tid,
            units::seconds(balance.wall_ns),
            share(balance.on_cpu_ns, balance),
            share(balance.runnable_ns, balance),
            share(balance.throttled_ns, balance),
            share(balance.blocked_ns, balance),
            mostly,
            format!("{:+.2} %", 100.0 * balance.residual_share()),
        ]);
    };
    row("**all**".into(), String::new(), &books.all, String::new());
    for thread in books.threads.iter().take(TOP_THREADS) {
        let mostly = thread.blocked_by.first();
        row(
            code_cell(&thread.name),
            thread.tid.to_string(),
            &thread.balance,
            mostly.map_or_else(String::new, |(cause, _)| cause.id().to_owned()),
        );
    }
    let mut notes = vec![
        "On CPU is the scheduler's count; the other columns come from every switch of every thread. The residual is what they \
         do not explain."
            .to_owned(),
    ];
    let left_out = books.threads.len().saturating_sub(TOP_THREADS);
    if left_out > 0 {
        notes.push(format!(
            "{left_out} more threads are only in the first row."
        ));
    }
    let (residual, uncounted) = (books.all.residual_share(), books.all.uncounted_share());
    if residual.abs() > LARGE_RESIDUAL {
        notes.push(format!(
            "Of its {:+.2} %, {:+.2} points are time at which a thread had a CPU and the scheduler counted none for it: interrupts, or \
             the hypervisor had the CPU.",
            100.0 * residual,
            100.0 * uncounted
        ));
    }
    if (residual - uncounted).abs() > LARGE_RESIDUAL {
        notes.push("**The books do not balance**: part of the time is not accounted for.".into());
    }
    notes.extend(facts.map(how_measured).unwrap_or_default());
    format!(
        "### Where the time goes\n\n{}\n{}\n",
        table.to_markdown(),
        notes.join(" ")
    )
}

/// What limits the figures.
fn how_measured(facts: &WaitFacts) -> Vec<String> {
    let mut notes = Vec::new();
    match facts.throttled_by.as_str() {
        "task" => notes.push("Throttled is what the kernel says of each thread.".into()),
        "queue" => notes.push("Throttled is what the kernel says of the threads' run queue.".into()),
        _ => notes.push(
            "This kernel does not tell throttled from runnable: both stand under runnable, and the capacity section says how \
             long the cgroup was throttled."
                .to_owned(),
        ),
    }
    if facts.without_book > 0 {
        notes.push(format!(
            "{} threads found no room in the books and are missing.",
            units::count(facts.without_book)
        ));
    }
    if facts.lost > 0 {
        notes.push(format!(
            "{} records of waits were lost: their time is in the books, without a stack.",
            units::count(facts.lost)
        ));
    }
    notes
}

fn share(ns: u64, of: &Balance) -> String {
    match of.wall_ns {
        0 => "–".to_owned(),
        wall_ns => units::percent(ns as f64 / wall_ns as f64),
    }
}

fn bottleneck_list(analysis: &Analysis) -> String {
    let head = [
        ("#", Right),
        ("What", Left),
        ("Where", Left),
        ("Thread s", Right),
        ("Share", Right),
    ];
    let mut table = Table::new(&head);
    let list = bottlenecks::ranked(analysis);
    for (ix, entry) in list.iter().take(TOP_BOTTLENECKS).enumerate() {
        let what = match entry.kind {
            Kind::Code => "runs".to_owned(),
            Kind::Wait(cause) => format!("waits: {}", cause.id()),
            Kind::RunQueue => "runnable, no CPU free".to_owned(),
            Kind::Throttled => "throttled by the CPU quota".to_owned(),
        };
        table.row([
            (ix + 1).to_string(),
            what,
            match entry.function.as_str() {
                "" => "all threads".to_owned(),
                function => code_cell(&fit::middle(function, NAME_CHARS)),
            },
            units::seconds(entry.ns),
            entry.share.map_or_else(|| "–".to_owned(), units::percent),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "### Code and waits, ranked\n\n{}\nShares are of the time of all threads, less what they waited for work to come.\n",
        table.to_markdown()
    )
}

fn causes(waits: &WaitAnalysis, wall_ns: u64) -> String {
    let head = [
        ("Waited for", Left),
        ("Thread s", Right),
        ("Of wall", Right),
        ("Idle", Right),
        ("Waits", Right),
    ];
    let mut table = Table::new(&head);
    for total in &waits.causes {
        table.row([
            format!("{}: {}", total.cause.id(), total.cause.explain()),
            units::seconds(total.ns),
            match wall_ns {
                0 => "–".to_owned(),
                wall_ns => units::percent(total.ns as f64 / wall_ns as f64),
            },
            units::percent(total.idle_ns as f64 / total.ns.max(1) as f64),
            units::count(total.waits),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "### What threads wait for\n\n{}\nIdle is waiting for work to come: a wait straight below the function that all of the thread's work \
         stands in.\n",
        table.to_markdown()
    )
}

fn paths(waits: &WaitAnalysis) -> String {
    let busy: Vec<&WaitPath> = waits.paths.iter().filter(|path| !path.idle).collect();
    let mut out = String::new();
    for (ix, path) in busy.iter().take(TOP_WAITS).enumerate() {
        out.push_str(&format!(
            "{}. {} for {} in {} (n = {}{}): {}\n",
            ix + 1,
            units::duration_ns(path.ns),
            path.cause.id(),
            code(&fit::middle(&path.function, NAME_CHARS)),
            units::count(path.stacks),
            match path.waits > path.stacks {
                true => format!(" stacks for {} waits", units::count(path.waits)),
                false => String::new(),
            },
            chain(&path.chain)
        ));
        for waker in path.wakers.iter().take(TOP_WAKERS) {
            out.push_str(&format!(
                "   - {} ended by thread {}: {}\n",
                units::duration_ns(waker.ns),
                inline(&waker.thread),
                chain(&waker.chain)
            ));
        }
    }
    if out.is_empty() {
        return String::new();
    }
    let all = waits.with_stack_ns + waits.without_stack_ns;
    let complete = units::coverage(waits.complete_ns as f64 / all.max(1) as f64);
    let without = units::percent(waits.without_stack_ns as f64 / all.max(1) as f64);
    format!(
        "### Longest waits\n\n{out}\nOf the waited time, {complete} has a complete stack, and for {without} no stack was taken. The files \
         ending in `off-cpu` show all of it.\n"
    )
}

/// The innermost names of the program's side; of the kernel's, where there is no other.
fn chain(names: &[String]) -> String {
    let user: Vec<&String> = names
        .iter()
        .filter(|name| !name.ends_with(KERNEL_SUFFIX))
        .collect();
    let names: Vec<&String> = match user.is_empty() {
        true => names.iter().collect(),
        false => user,
    };
    if names.is_empty() {
        return "no stack was taken".to_owned();
    }
    let from = names.len().saturating_sub(CHAIN_NAMES);
    let shown = names[from..].iter();
    let shown: Vec<String> = shown
        .map(|name| code(&fit::middle(name, NAME_CHARS)))
        .collect();
    let dots = if from > 0 { "… " } else { "" };
    format!("{dots}{}", shown.join(" → "))
}

fn quota(waits: &WaitAnalysis) -> String {
    let head = [("Function", Left), ("Share", Right), ("Ticks", Right)];
    let mut table = Table::new(&head);
    for path in waits.quota.iter().take(TOP_QUOTA) {
        table.row([
            code_cell(&fit::middle(&path.function, NAME_CHARS)),
            units::percent(path.share),
            units::count(path.ticks),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "### What used the CPU quota up\n\n{}\nOf the ticks in periods that ended with the service throttled.\n",
        table.to_markdown()
    )
}
