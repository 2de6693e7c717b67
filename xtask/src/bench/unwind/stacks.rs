//! Which share of a recording's stacks is complete.
//!
//! perfprof's own measure is strict: the outermost function's return address is undefined by its rules. Of a peer's
//! output only names can be asked, so it is judged leniently: one of the three outermost frames is a function that a
//! thread or program begins with. Where such functions have no names (stripped), a peer is judged too low; it is said.

use std::path::Path;

use anyhow::ensure;

use super::perf_script;
use super::recorder::{Taken, Tool, stacks_metric};
use crate::bench::samply;

const FIRST_FUNCTIONS: &[&str] = &[
    "_start",
    "main",
    "clone",
    "clone3",
    "start_thread",
    "thread_start",
];

/// From 0 to 1; an error where a tool's output does not tell.
pub(super) fn complete_share(tool: Tool, taken: &Taken) -> anyhow::Result<f64> {
    match tool {
        Tool::Perfprof => {
            let of = |field| stacks_metric(&taken.folder, field);
            Ok(of("numerator")? / of("denominator")?)
        }
        Tool::SamplyNamed => {
            let profile = samply::read(&taken.folder)?;
            Ok(profile.samples_where(begins_a_thread) / profile.samples())
        }
        _ => of_perf(&taken.folder),
    }
}

fn of_perf(folder: &Path) -> anyhow::Result<f64> {
    let (mut stacks, mut complete) = (0.0, 0.0);
    let mut stack: Vec<String> = Vec::new();
    let mut end_of_stack = |stack: &mut Vec<String>| {
        if !stack.is_empty() {
            let outermost: Vec<&str> = stack.iter().rev().take(3).map(String::as_str).collect();
            stacks += 1.0;
            complete += f64::from(u8::from(begins_a_thread(&outermost)));
            stack.clear();
        }
    };
    perf_script::lines(folder, "ip,sym", |line| match line.trim().split_once(' ') {
        Some((_, name)) => stack.push(name.to_string()),
        None => end_of_stack(&mut stack),
    })?;
    end_of_stack(&mut stack);
    ensure!(stacks > 0.0, "`perf script` shows no stacks");
    Ok(complete / stacks)
}

/// Whether one of these names is of a function that a thread or program begins with. glibc's carry prefixes and versions.
fn begins_a_thread(outermost: &[&str]) -> bool {
    outermost.iter().any(|name| {
        let name = name.split('@').next().unwrap_or(name);
        let bare = name.trim_start_matches('_');
        FIRST_FUNCTIONS
            .iter()
            .any(|first| bare == first.trim_start_matches('_'))
            || bare.starts_with("libc_start_")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_complete_that_begins_where_threads_begin() {
        assert!(begins_a_thread(&["__clone3", "start_thread", "run"]));
        assert!(begins_a_thread(&[
            "[unknown]",
            "__libc_start_main@@GLIBC_2.34"
        ]));
        assert!(!begins_a_thread(&["[unknown]", "descend", "descend"]));
        assert!(!begins_a_thread(&[]));
    }
}
