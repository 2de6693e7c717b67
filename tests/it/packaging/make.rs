//! Makes a packaging: runs its recipe, a shell script, in a folder of its own.
//!
//! In: a recipe. Out: the folder with a `program` in it, made once per content of recipe and sources, also when several
//! tests or test runs ask for it at the same time. Folders keep their names, since debug information holds them.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::support::workload::{programs, repository};

/// What every recipe can say: `$ALL` compiles both units in one go, `$CFLAGS` and `$SRC` for those that do it in steps.
const PRELUDE: &str = r#"
set -e
CFLAGS="-O2 -fno-optimize-sibling-calls -DPACKAGING=\"$NAME\""
ALL="$CFLAGS $SRC/packaged.c $SRC/packaged_part.c"
debug_file() { objcopy --only-keep-debug program program.debug; }
units() { for unit in packaged packaged_part; do "$@" $CFLAGS -c $SRC/$unit.c -o $unit.o; done; }
build_id() { readelf -n "$1" | awk '/Build ID/ { print $3 }'; }
by_build_id() { id=$(build_id program); echo .build-id/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-).debug; }
install_debug() { mkdir -p "$(dirname "$2")"; mv "$1" "$2"; }
"#;

/// Where the sources of the packaged program are.
pub(crate) fn sources() -> PathBuf {
    repository().join("fixtures/packaged")
}

/// The folder of a packaging, made at need; the tool's own words when that fails.
pub(crate) fn make(name: &str, recipe: &str) -> Result<PathBuf, String> {
    let folder = programs()
        .join("packaged")
        .join(format!("{name}-{:016x}", key(name, recipe)));
    fs::create_dir_all(&folder).map_err(|e| format!("`{}`: {e}", folder.display()))?;
    let _lock = lock(&folder)?;
    let done = folder.join("made");
    if done.exists() {
        return Ok(folder);
    }
    empty(&folder);
    let output = Command::new("sh")
        .args(["-c", &format!("{PRELUDE}\n{recipe}")])
        .current_dir(&folder)
        .env("NAME", name)
        .env("SRC", sources())
        .output()
        .map_err(|e| format!("failed to run `sh`: {e}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the recipe of `{name}` failed:\n{recipe}\n{words}"));
    }
    File::create(done).map_err(|e| format!("`{}`: {e}", folder.display()))?;
    Ok(folder)
}

fn key(name: &str, recipe: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Debug information holds the path of the sources.
    (PRELUDE, name, recipe, sources()).hash(&mut hasher);
    let entries = fs::read_dir(sources()).expect("the sources can be listed");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        fs::read(path)
            .expect("a source can be read")
            .hash(&mut hasher);
    }
    hasher.finish()
}

/// Held until it is dropped; beside the folder, which is emptied.
fn lock(folder: &Path) -> Result<Flock<File>, String> {
    let path = folder.with_extension("lock");
    let file = File::create(&path).map_err(|e| format!("`{}`: {e}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, e)| format!("`{}`: {e}", path.display()))
}

/// Takes away what a recipe that failed has left.
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let gone = match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        gone.expect("what a test made can be removed");
    }
}
