//! CPU time by thread and by binary.

use super::PATH_CHARS;
use crate::analysis::split::{ModuleSplit, ThreadSplit};
use crate::profile::Profile;
use crate::render::escape::code_cell;
use crate::render::table::{Align::Left, Align::Right, Table};
use crate::render::{fit, units};

/// Threads and binaries per list.
const TOP_SPLIT: usize = 12;

pub(super) fn threads(profile: &Profile, threads: &[ThreadSplit]) -> String {
    let head = [
        ("Thread", Left),
        ("Process", Left),
        ("PID", Right),
        ("TID", Right),
        ("CPU s (kernel)", Right),
        ("CPU s (sampled)", Right),
        ("Share", Right),
    ];
    let mut table = Table::new(&head);
    let name = |name: &str| match name {
        "" => "not sampled".to_owned(),
        name => code_cell(&fit::middle(name, PATH_CHARS)),
    };
    for row in threads.iter().take(TOP_SPLIT) {
        table.row([
            name(&row.name),
            name(&row.process),
            row.pid.to_string(),
            row.tid.to_string(),
            row.kernel_cpu_ns
                .map_or_else(|| "–".to_owned(), units::seconds),
            units::seconds(row.sampled.cpu_ns),
            units::percent(row.share),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    let rest = &threads[threads.len().min(TOP_SPLIT)..];
    let mut notes = Vec::new();
    if !rest.is_empty() {
        let share: f64 = rest.iter().map(|row| row.share).sum();
        notes.push(format!(
            "{} more threads have {}.",
            rest.len(),
            units::percent(share)
        ));
    }
    let unattributed = profile.accounting.unattributed_cpu_ns;
    if unattributed > 0 {
        let time = units::duration_ns(unattributed);
        notes.push(format!(
            "{time} of CPU time belong to threads that ended unseen."
        ));
    }
    format!(
        "### Threads\n\n{}\n{}",
        table.to_markdown(),
        notes.join(" ")
    )
}

pub(super) fn modules(modules: &[ModuleSplit]) -> String {
    let head = [
        ("Binary", Left),
        ("Self time", Right),
        ("CPU s", Right),
        ("With a name", Right),
        ("Build ID", Left),
    ];
    let mut table = Table::new(&head);
    for row in modules.iter().take(TOP_SPLIT) {
        table.row([
            code_cell(&fit::end(&row.path, PATH_CHARS)),
            units::percent(row.share),
            units::seconds(row.weight.cpu_ns),
            units::coverage(row.named),
            row.build_id
                .map_or_else(|| "–".to_owned(), |id| format!("`{id}`")),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    let rest = &modules[modules.len().min(TOP_SPLIT)..];
    let note = match rest.is_empty() {
        true => String::new(),
        false => {
            let share: f64 = rest.iter().map(|row| row.share).sum();
            format!(
                "{} more binaries have {}.",
                rest.len(),
                units::percent(share)
            )
        }
    };
    format!("### Binaries\n\n{}\n{note}", table.to_markdown())
}
