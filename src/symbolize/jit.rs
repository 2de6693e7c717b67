//! Names of generated code, as its runtime tells them, and the file and line that some put into a name.
//!
//! In: what the maps of generated code say of an address. Out: a function. The runtime's own marks stay, since they say
//! how the code was made (`JS:*` is optimised, `JS:~` interpreted).

use crate::profile::{ElfAddr, FileOffset, Mapping, MappingKind};
use crate::target::jit::{CodeNames, Known, PlaceIx};

use super::{Found, FoundFunction};

/// Where no file tells of the code.
const NO_FILE: &str = "[anon]";

/// CPython's trampolines. Source: CPython, `Python/perf_trampoline.c`: `py::NAME:FILE`.
const PYTHON: &str = "py::";

/// Kinds of V8's code that end in ` FILE:LINE:COLUMN`. Source: V8, `src/logging/log.cc`, `CodeEventLogger`.
const V8_KINDS: [&str; 6] = [
    "JS:",
    "LazyCompile:",
    "Function:",
    "Script:",
    "Eval:",
    "Callback:",
];

/// Looks up addresses in one place; one result each, in order.
pub(super) fn look_up(generated: &CodeNames, place: PlaceIx, addrs: &[ElfAddr]) -> Vec<Found> {
    let found = |addr: &ElfAddr| match generated.look_up(place, addr.0) {
        Ok(known) => Found::Functions(vec![function(known)]),
        Err(reason) => Found::Nothing(reason),
    };
    addrs.iter().map(found).collect()
}

/// The map that names the code stands for the file it would be in.
pub(super) fn mapping(generated: &CodeNames, place: PlaceIx, addr: ElfAddr) -> Mapping {
    let path = generated.source(place, addr.0).unwrap_or(NO_FILE);
    Mapping {
        kind: MappingKind::Anonymous,
        path: path.to_owned(),
        build_id: None,
        start: ElfAddr(0),
        end: ElfAddr(u64::MAX),
        file_offset: FileOffset(0),
    }
}

fn function(known: &Known) -> FoundFunction {
    let told = told_by_name(&known.name);
    let (file, line) = match known.file.is_empty() {
        true => (told.file.to_owned(), told.line),
        false => (known.file.clone(), known.line),
    };
    FoundFunction {
        name: told.name,
        linkage_name: known.name.clone(),
        file,
        line,
    }
}

/// What a runtime's name for code says.
#[derive(Debug, PartialEq, Eq)]
struct Told<'a> {
    name: String,
    file: &'a str,
    line: u32,
}

fn told_by_name(name: &str) -> Told<'_> {
    python(name).or_else(|| v8(name)).unwrap_or(Told {
        name: name.to_owned(),
        file: "",
        line: 0,
    })
}

/// `py::NAME:FILE`. Names of modules and lambdas say nothing without their file.
fn python(name: &str) -> Option<Told<'_>> {
    let (function, file) = name.strip_prefix(PYTHON)?.split_once(':')?;
    let short = file.rsplit('/').next().unwrap_or(file);
    let name = match function.ends_with('>') && !file.starts_with('<') {
        true => format!("{PYTHON}{function} ({short})"),
        false => format!("{PYTHON}{function}"),
    };
    Some(Told {
        name,
        file,
        line: 0,
    })
}

/// `KIND:NAME FILE:LINE:COLUMN`, where the name may be missing, and in older versions the column. The line is where the
/// function begins.
fn v8(name: &str) -> Option<Told<'_>> {
    let kind = V8_KINDS.iter().find(|kind| name.starts_with(**kind))?;
    let (place, last) = name.rsplit_once(':')?;
    let last: u32 = last.parse().ok()?;
    let (place, line) = match place.rsplit_once(':') {
        Some((before, line)) => line
            .parse()
            .map_or((place, last), |line: u32| (before, line)),
        None => (place, last),
    };
    let marks = name[kind.len()..]
        .find(|c: char| !"~*^+-'".contains(c))
        .unwrap_or(0);
    let begin = kind.len() + marks;
    let (function, file) = match place.get(begin..)?.split_once(' ') {
        Some(split) => split,
        None => ("", place.get(begin..)?),
    };
    let name = match function.is_empty() {
        true => {
            let short = file.rsplit('/').next().unwrap_or(file);
            format!("{}(anonymous {short}:{line})", &name[..begin])
        }
        false => format!("{}{function}", &name[..begin]),
    };
    Some(Told { name, file, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_lines_are_taken_out_of_names_that_carry_them() {
        for (text, name, file, line) in [
            ("py::outer:/srv/app.py", "py::outer", "/srv/app.py", 0),
            (
                "py::<module>:/srv/app.py",
                "py::<module> (app.py)",
                "/srv/app.py",
                0,
            ),
            (
                "py::_load:<frozen importlib._bootstrap>",
                "py::_load",
                "<frozen importlib._bootstrap>",
                0,
            ),
            (
                "JS:*fib /srv/a b/x.js:12:13",
                "JS:*fib",
                "/srv/a b/x.js",
                12,
            ),
            (
                "LazyCompile:~fib /srv/x.js:7",
                "LazyCompile:~fib",
                "/srv/x.js",
                7,
            ),
            (
                "JS:~ /srv/x.js:1:1",
                "JS:~(anonymous x.js:1)",
                "/srv/x.js",
                1,
            ),
            (
                "JS:^A.method file:///srv/x.mjs:3:9",
                "JS:^A.method",
                "file:///srv/x.mjs",
                3,
            ),
            ("JS:*x", "JS:*x", "", 0),
            ("JS:", "JS:", "", 0),
            ("JS:1:2", "JS:1:2", "", 0),
            ("RegExp:a(b+)c", "RegExp:a(b+)c", "", 0),
            ("BytecodeHandler:Add", "BytecodeHandler:Add", "", 0),
            ("long Spin.work(long)", "long Spin.work(long)", "", 0),
            ("é:é", "é:é", "", 0),
        ] {
            let expected = Told {
                name: name.to_owned(),
                file,
                line,
            };
            assert_eq!(told_by_name(text), expected);
        }
    }
}
