//! Rules of the house that no other tool checks. Each is a function from a file's path and text to complaints, so each
//! is tested with a sample that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::repository;
use crate::rust_code::code_only;

/// Touches the kernel and the disk.
const RECORDING_SIDE: &[&str] = &[
    "arch",
    "sys",
    "target",
    "sampling",
    "unwind",
    "recorder",
    "symbolize",
];
/// Computes values or bytes from a profile.
const READING_SIDE: &[&str] = &[
    "analysis",
    "store",
    "render",
    "capacity",
    "compare",
    "artifacts",
    "load_test",
    "baseline",
    "history",
    "gate",
    "evidence",
    "push",
];
/// Plain data that both sides share.
const WAIST: &str = "profile";
/// Join the two sides.
const TOP: &[&str] = &["cli", "agent", "main", "lib"];

/// Markers of unfinished work and paths of one machine; split, so that this file keeps its own rules.
const UNFINISHED: &[&str] = &[concat!("FIX", "ME"), concat!("XX", "X:")];
const MACHINE_PATH: &str = concat!("/wo", "rk/");

/// Folders without anything of ours.
const SKIPPED_FOLDERS: &[&str] = &["target", ".git", ".artifacts", "node_modules"];

pub(crate) fn run() -> anyhow::Result<()> {
    let mut files = Vec::new();
    list_files(repository(), &mut files)?;
    files.sort();
    let mut complaints = Vec::new();
    for file in &files {
        let bytes =
            fs::read(file).with_context(|| format!("failed to read `{}`", file.display()))?;
        let Ok(text) = String::from_utf8(bytes) else {
            continue; // not a text
        };
        let path = file.strip_prefix(repository()).unwrap_or(file);
        complaints.extend(check(&path.to_string_lossy(), &text));
    }
    if !complaints.is_empty() {
        bail!("tidy:\n  {}", complaints.join("\n  "));
    }
    println!("tidy: {} files", files.len());
    Ok(())
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list `{}`", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("failed to list `{}`", folder.display()))?;
        let kind = entry
            .file_type()
            .context("failed to ask for a file's type")?;
        let skipped = SKIPPED_FOLDERS
            .iter()
            .any(|name| entry.file_name() == *name);
        if kind.is_dir() && !skipped {
            list_files(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// All complaints about one file; `path` is relative to the repository.
fn check(path: &str, text: &str) -> Vec<String> {
    let mut complaints = unfinished_work(text);
    complaints.extend(machine_paths(text));
    if path.starts_with("fixtures/workloads/") {
        complaints.extend(no_recipe(path, text));
    } else if path.ends_with(".rs") && !path.starts_with("fixtures/") {
        let code = code_only(text);
        complaints.extend(no_head(text));
        complaints.extend(unsafe_code(path, &code));
        complaints.extend(unfinished_code(&code));
        if let Some(file) = path.strip_prefix("src/") {
            complaints.extend(not_forbidding_unsafe(file, &code));
            complaints.extend(printing(file, &code));
            complaints.extend(wrong_imports(file, &code));
        }
    }
    complaints
        .into_iter()
        .map(|complaint| format!("{path}: {complaint}"))
        .collect()
}

fn unfinished_work(text: &str) -> Vec<String> {
    let found = UNFINISHED.iter().filter(|marker| text.contains(**marker));
    found
        .map(|marker| format!("`{marker}` is left in it"))
        .collect()
}

/// A path counts only where it begins: the same letters inside a longer path are no complaint.
fn machine_paths(text: &str) -> Option<String> {
    let begins = |at: usize| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_-./".contains(c))
    };
    let found = text.match_indices(MACHINE_PATH).any(|(at, _)| begins(at));
    found.then(|| format!("names `{MACHINE_PATH}`, a path of one machine"))
}

fn no_recipe(path: &str, text: &str) -> Option<String> {
    let source = [".c", ".cpp", ".rs"].iter().any(|end| path.ends_with(end));
    (source && crate::compile::recipe(text).is_none())
        .then(|| "does not begin with `// build: COMPILER FLAGS`".to_string())
}

fn no_head(text: &str) -> Option<String> {
    (!text.starts_with("//!")).then(|| "does not open with `//!`".to_string())
}

fn unsafe_code(path: &str, code: &str) -> Option<String> {
    if path.starts_with("src/sys/") {
        return None;
    }
    words(code)
        .any(|word| word == "unsafe")
        .then(|| "`unsafe` outside src/sys".to_string())
}

fn unfinished_code(code: &str) -> Vec<String> {
    let found = ["todo!", "unimplemented!", "dbg!"]
        .into_iter()
        .filter(|name| calls(code, name));
    found
        .map(|name| format!("`{name}` is left in it"))
        .collect()
}

/// `file` is relative to `src/`: only the file that opens a room is looked at.
fn not_forbidding_unsafe(file: &str, code: &str) -> Option<String> {
    let room = room_of(file);
    let opens_a_room = file == format!("{room}/mod.rs") || file == format!("{room}.rs");
    let exempt = room == "sys" || room == "lib";
    (opens_a_room && !exempt && !code.contains("#![forbid(unsafe_code)]"))
        .then(|| "has no `#![forbid(unsafe_code)]`".to_string())
}

fn printing(file: &str, code: &str) -> Vec<String> {
    if matches!(room_of(file), "cli" | "main") {
        return Vec::new();
    }
    let found = ["println!", "eprintln!", "print!", "eprint!"]
        .into_iter()
        .filter(|name| calls(code, name));
    found
        .map(|name| format!("`{name}` outside src/cli"))
        .collect()
}

/// Holds the hourglass: the waist imports nothing, the two sides do not import each other, nobody imports the top.
fn wrong_imports(file: &str, code: &str) -> Vec<String> {
    let room = room_of(file);
    let own_side = [RECORDING_SIDE, READING_SIDE]
        .into_iter()
        .find(|side| side.contains(&room));
    let may_import = |other: &str| match own_side {
        _ if other == room => true,
        Some(side) => other == WAIST || side.contains(&other),
        None => room != WAIST,
    };
    if own_side.is_none() && room != WAIST && !TOP.contains(&room) {
        return vec![format!(
            "room `{room}` is on no side; name it in xtask/src/tidy.rs"
        )];
    }
    let rooms = [RECORDING_SIDE, READING_SIDE, TOP, &[WAIST]].concat();
    let mut found: Vec<String> = imported_names(code)
        .into_iter()
        .filter(|name| rooms.contains(&name.as_str()) && !may_import(name))
        .collect();
    found.sort();
    found.dedup();
    found
        .into_iter()
        .map(|other| format!("`{room}` must not import `{other}`"))
        .collect()
}

/// The first path segment of a file below `src/`, without `.rs`.
fn room_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Every name that stands directly after `crate::` or `super::`, also in a braced list.
fn imported_names(code: &str) -> Vec<String> {
    let code: String = code
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(":: ", "::");
    let mut names = Vec::new();
    for prefix in ["crate::", "super::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(list) => names.extend(heads_of_list(list)),
                None => names.extend(words(rest).next().map(str::to_string)),
            }
        }
    }
    names
}

/// First words of the members of a braced list, up to its closing brace; nested lists are passed over.
fn heads_of_list(list: &str) -> Vec<String> {
    let (mut depth, mut outermost) = (0, String::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ if depth == 0 => outermost.push(c),
            _ => {}
        }
    }
    let members = outermost
        .split(',')
        .filter_map(|member| words(member).next());
    members.map(str::to_string).collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Whether the macro is called by exactly this name.
fn calls(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "//! What it is for.\n#![forbid(unsafe_code)]\n";

    fn sample(path: &str, line: &str) -> Vec<String> {
        check(path, &format!("{GOOD}{line}\n"))
    }

    #[track_caller]
    fn breaks(path: &str, line: &str, complaint: &str) {
        let found = sample(path, line);
        assert_eq!(found.len(), 1, "{path} with `{line}`: {found:?}");
        assert!(found[0].contains(complaint), "{found:?}");
    }

    #[track_caller]
    fn keeps(path: &str, line: &str) {
        assert_eq!(
            sample(path, line),
            Vec::<String>::new(),
            "{path} with `{line}`"
        );
    }

    #[test]
    fn the_waist_imports_no_room_and_the_sides_not_each_other() {
        breaks(
            "src/profile/mod.rs",
            "use crate::render::X;",
            "must not import `render`",
        );
        breaks(
            "src/profile/mod.rs",
            "use super::sys;",
            "must not import `sys`",
        );
        breaks(
            "src/unwind/walk.rs",
            "use crate::analysis::X;",
            "must not import `analysis`",
        );
        breaks(
            "src/render/svg.rs",
            "use crate::{profile::P, sys::{perf, ring}};",
            "must not import `sys`",
        );
        breaks(
            "src/render/svg.rs",
            "use crate::{\n    profile::{A, B},\n    target,\n};",
            "`target`",
        );
        breaks(
            "src/store/a/b.rs",
            "fn f() { super::super::super::symbolize::x() }",
            "`symbolize`",
        );
        breaks(
            "src/sampling/perf.rs",
            "use crate::cli::args;",
            "must not import `cli`",
        );
        keeps(
            "src/render/svg.rs",
            "use crate::{profile::Profile, analysis::{self, sys_total}};",
        );
        keeps(
            "src/render/svg.rs",
            "// not crate::sys, and no \"crate::sys\" either",
        );
        keeps(
            "src/unwind/walk.rs",
            "use crate::sys::perf; use super::table;",
        );
        keeps("src/cli/record.rs", "use crate::{sampling, render};");
    }

    #[test]
    fn a_new_room_takes_a_side() {
        breaks("src/helpers/mod.rs", "", "on no side");
    }

    #[test]
    fn unsafe_stays_in_sys() {
        breaks(
            "src/unwind/walk.rs",
            "fn f() { unsafe { g() } }",
            "`unsafe` outside",
        );
        breaks("tests/it/x.rs", "unsafe fn f() {}", "`unsafe` outside");
        keeps("src/sys/perf.rs", "fn f() { unsafe { g() } }");
        keeps("src/unwind/walk.rs", "// unsafe in prose is fine");
        let missing = check("src/unwind/mod.rs", "//! Head.\n");
        assert!(
            missing.len() == 1 && missing[0].contains("forbid"),
            "{missing:?}"
        );
        assert_eq!(check("src/sys/mod.rs", "//! Head.\n"), Vec::<String>::new());
        assert_eq!(
            check("src/unwind/row.rs", "//! Head.\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_file_has_a_head() {
        let found = check("src/unwind/row.rs", "use std::fs;\n");
        assert!(found.len() == 1 && found[0].contains("//!"), "{found:?}");
    }

    #[test]
    fn only_cli_and_main_print() {
        for call in ["println!(\"x\")", "eprint!(\"x\")"] {
            assert!(!sample("src/store/pprof.rs", call).is_empty(), "{call}");
            keeps("src/cli/record.rs", call);
            keeps("src/main.rs", call);
            keeps("xtask/src/demo.rs", call);
        }
        keeps("src/store/pprof.rs", "my_println!(\"x\")");
    }

    #[test]
    fn nothing_unfinished_is_left() {
        breaks("src/unwind/row.rs", "fn f() { todo!() }", "`todo!`");
        for marker in UNFINISHED {
            breaks(
                "src/unwind/row.rs",
                &format!("// {marker} later"),
                "is left in it",
            );
            breaks("README.md", marker, "is left in it");
        }
    }

    #[test]
    fn no_path_of_one_machine_is_named() {
        for text in [
            format!("see {MACHINE_PATH}x"),
            format!("`{MACHINE_PATH}`"),
            MACHINE_PATH.to_string(),
        ] {
            breaks("README.md", &text, "a path of one machine");
        }
        keeps(
            "README.md",
            &format!("my{MACHINE_PATH}x and ../a{MACHINE_PATH}x"),
        );
    }

    #[test]
    fn every_workload_says_how_it_is_built() {
        let found = check("fixtures/workloads/x.c", "int main(void) {}\n");
        assert!(found.len() == 1 && found[0].contains("build"), "{found:?}");
        let good = check(
            "fixtures/workloads/x.c",
            "// build: gcc -O2\nint main(void) {}\n",
        );
        assert_eq!(good, Vec::<String>::new());
    }
}
