//! What stayed unnamed, and the command that names it.

use super::PATH_CHARS;
use crate::analysis::debug_packages;
use crate::analysis::unnamed::Unnamed;
use crate::profile::Unresolved;
use crate::render::escape::{code_cell, prose, prose_cell};
use crate::render::table::{Align::Left, Align::Right, Table};
use crate::render::{fit, units};

/// Rows shown.
const TOP: usize = 10;
/// Less is not worth anybody's time.
const MIN_SHARE: f64 = 0.001;

pub(super) fn to_do(rows: &[Unnamed]) -> String {
    let worth: Vec<&Unnamed> = rows
        .iter()
        .filter(|row| row.total_share >= MIN_SHARE)
        .collect();
    if worth.is_empty() {
        return String::new();
    }
    let shown = &worth[..worth.len().min(TOP)];
    let head = [
        ("Binary", Left),
        ("Build ID", Left),
        ("Self", Right),
        ("Total", Right),
        ("Why", Left),
        ("What helps", Left),
    ];
    let mut table = Table::new(&head);
    for row in shown {
        table.row([
            code_cell(&fit::end(&row.module, PATH_CHARS)),
            row.build_id
                .map_or_else(|| "–".to_owned(), |id| format!("`{id}`")),
            units::percent(row.self_share),
            units::percent(row.total_share),
            row.reason.id().to_owned(),
            prose_cell(&row.remedy),
        ]);
    }
    let mut notes = Vec::new();
    if worth.len() > shown.len() {
        notes.push(format!(
            "{} more binaries have less.",
            worth.len() - shown.len()
        ));
    }
    notes.extend(archives(shown));
    notes.extend(afterwards(shown));
    format!(
        "### What stayed unnamed\n\nFrames that are only addresses, by the share of CPU time that ran in them (self) and in or \
         below them (total).\n\n{}\n{}",
        table.to_markdown(),
        prose(&notes.join(" "))
    )
}

/// Each archive that is needed, once.
fn archives(rows: &[&Unnamed]) -> Vec<String> {
    let origins = rows.iter().filter_map(|row| row.origin.as_ref());
    let mut archives: Vec<String> = origins.filter_map(debug_packages::archive).collect();
    archives.sort();
    archives.dedup();
    archives
}

/// How names get into a profile that is already there.
fn afterwards(rows: &[&Unnamed]) -> Option<String> {
    let mut rows = rows.iter();
    let row = rows.find(|row| row.build_id.is_some() && row.reason == Unresolved::NoSymbol)?;
    let request = debug_packages::request_path(row.build_id?);
    let server = debug_packages::server(row.origin.as_ref());
    Some(format!(
        "Then `perfprof symbolize PROFILE` names them in the profile of this recording; no new one is needed. With \
         `--debug-dir DIR` it takes debug files from a folder, and with `--debuginfod={server}` it fetches them by build ID \
         (`{request}`)."
    ))
}
