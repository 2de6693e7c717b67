//! Turns a workload's source into a program: the first line of the source names the compiler and its flags
//! (`// build: gcc -O2 …`). Used by the tests and by `cargo xtask demo`, so it needs nothing but `std`. A word `SOURCE`
//! in it is where the source's path goes; without, that is right behind the compiler.
//!
//! In: a source in `fixtures/workloads`. Out: the path of a program, made once per content of source, headers and
//! recipe, also when several tests ask for it at the same time.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, process, thread};

/// Compiles `source` below `out_dir`; a message with the compiler's own words when that fails.
///
/// The program stands alone in a folder named by the content's hash, under the source's name without extension, since
/// that is the command name a profile shows.
pub(crate) fn compile(source: &Path, out_dir: &Path) -> Result<PathBuf, String> {
    let text = read(source)?;
    let recipe = recipe(&text).ok_or_else(|| {
        format!(
            "`{}` does not begin with `// build: COMPILER FLAGS`",
            source.display()
        )
    })?;
    let stem = source
        .file_stem()
        .ok_or_else(|| format!("`{}` has no name", source.display()))?;
    compile_as(source, &recipe, stem, out_dir)
}

/// The same by another recipe than the source's own, under another name.
pub(crate) fn compile_as(
    source: &Path,
    recipe: &[&str],
    name: &OsStr,
    out_dir: &Path,
) -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    (
        source.file_name(),
        read(source)?,
        headers_beside(source)?,
        recipe,
    )
        .hash(&mut hasher);
    let folder = out_dir.join(format!("{:016x}", hasher.finish()));
    let program = folder.join(name);
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&folder)
        .map_err(|e| format!("failed to create `{}`: {e}", folder.display()))?;

    // Made aside and renamed: whoever sees the program sees all of it.
    let aside = folder.join(format!(
        "aside-{}-{:?}",
        process::id(),
        thread::current().id()
    ));
    let (compiler, flags) = (recipe[0], &recipe[1..]);
    let at = flags.iter().position(|flag| *flag == "SOURCE");
    let (before, after) = match at {
        Some(at) => (&flags[..at], &flags[at + 1..]),
        None => flags.split_at(0),
    };
    let made = Command::new(compiler)
        .args(before)
        .arg("-o")
        .arg(&aside)
        .arg(source)
        .args(after)
        .output()
        .map_err(|e| format!("failed to run `{compiler}`: {e}"))?;
    if !made.status.success() {
        let words = String::from_utf8_lossy(&made.stderr);
        return Err(format!(
            "`{compiler}` refused `{}`:\n{words}",
            source.display()
        ));
    }
    fs::rename(&aside, &program)
        .map_err(|e| format!("failed to name `{}`: {e}", program.display()))?;
    Ok(program)
}

/// The compiler and flags of a source's first line; `None` when it names none.
pub(crate) fn recipe(text: &str) -> Option<Vec<&str>> {
    let line = text.lines().next()?.strip_prefix("// build:")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    (!words.is_empty()).then_some(words)
}

/// Whether `program` can be run by its bare name.
pub(crate) fn on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// The contents of all headers in the source's folder: it may include any of them.
fn headers_beside(source: &Path) -> Result<Vec<String>, String> {
    let folder = source.parent().unwrap_or(Path::new("."));
    let entries =
        fs::read_dir(folder).map_err(|e| format!("failed to list `{}`: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "h"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("failed to read `{}`: {e}", path.display()))
}
