//! What was typed about names, and what it means: folders that exist, servers that can be asked.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::SymbolArgs;
use super::stop::{Exit, Failure};
use crate::symbolize::options::{DebuginfodOptions, SymbolOptions};

/// `debuginfod-find(1)`: a list separated by spaces. `sudo` drops it.
const URLS_VARIABLE: &str = "DEBUGINFOD_URLS";
/// Where distributions keep what their login shells put into that variable: files that end in `.urls`.
const URLS_FOLDER: &str = "/etc/debuginfod";
/// A list of servers has a few hundred bytes.
const MAX_LIST_BYTES: u64 = 64 << 10;
/// Each is asked for each file that is missing.
const MAX_SERVERS: usize = 16;

/// The options, and what the user must know about them in whole sentences.
pub(super) fn options(args: &SymbolArgs) -> Result<(SymbolOptions, Vec<String>), Failure> {
    let mut warnings = Vec::new();
    let debuginfod = match args.debuginfod.is_empty() {
        true => None,
        false => Some(DebuginfodOptions {
            urls: servers(&args.debuginfod, &mut warnings)?,
            timeout: Duration::from_secs_f64(args.debuginfod_timeout),
        }),
    };
    let options = SymbolOptions {
        debug_dirs: debug_dirs(&args.debug_dir)?,
        debuginfod,
        memory_bytes: u64::from(args.symbol_memory) << 20,
        worker_timeout: Duration::from_secs_f64(args.symbol_timeout),
        use_cache: !args.no_symbol_cache,
    };
    Ok((options, warnings))
}

fn debug_dirs(typed: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    for folder in typed {
        let refused = |why: String| {
            let message = format!("cannot use `--debug-dir {}`: {why}", folder.display());
            Failure::message(Exit::Usage, message)
        };
        match std::fs::metadata(folder) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(refused("it is no folder".into())),
            Err(error) => return Err(refused(error.to_string())),
        }
    }
    Ok(typed.to_vec())
}

/// The servers that were typed, and where `--debuginfod` stands alone, those that are configured.
fn servers(typed: &[String], warnings: &mut Vec<String>) -> Result<Vec<String>, Failure> {
    let mut lists: Vec<String> = Vec::new();
    for list in typed {
        match list.trim() {
            "" => lists.push(configured()),
            list => lists.push(list.to_owned()),
        }
    }
    let list = parse(&lists.join(" ")).map_err(|bad| {
        Failure::message(Exit::Usage, bad)
            .hint("debuginfod servers are named by http:// or https:// URLs")
    })?;
    if list.urls.is_empty() {
        return Err(Failure::message(
            Exit::Usage,
            format!("`--debuginfod` names no server, and neither do ${URLS_VARIABLE} and {URLS_FOLDER}/*.urls"),
        )
        .hint("name one: `--debuginfod=https://debuginfod.debian.net`"));
    }
    if list.wants_signatures {
        warnings.push(
            "The list of debuginfod servers asks for signatures to be checked (`ima:enforcing`); perfprof checks the \
             build ID of what it fetches, and no signature."
                .into(),
        );
    }
    Ok(list.urls)
}

/// A list of servers, read.
#[derive(Debug, Default, PartialEq, Eq)]
struct ServerList {
    /// Each once, in the order they were named.
    urls: Vec<String>,
    /// `ima:enforcing` precedes a server; debuginfod-find(1) since elfutils 0.192.
    wants_signatures: bool,
}

fn parse(list: &str) -> Result<ServerList, String> {
    let mut out = ServerList::default();
    for word in list.split_whitespace() {
        match word {
            "ima:enforcing" => out.wants_signatures = true,
            "ima:ignore" | "ima:permissive" => {}
            _ => {
                let url = checked(word)?;
                if !out.urls.contains(&url) {
                    out.urls.push(url);
                }
            }
        }
    }
    match out.urls.len() {
        0..=MAX_SERVERS => Ok(out),
        many => Err(format!(
            "{many} debuginfod servers are too many; at most {MAX_SERVERS} are asked"
        )),
    }
}

/// A server's URL without the slash at its end; some lists also carry the path that every request begins with.
fn checked(word: &str) -> Result<String, String> {
    let refused = || format!("`{}` names no debuginfod server", word.escape_debug());
    let (scheme, rest) = word.split_once("://").ok_or_else(refused)?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.trim_end_matches('/');
    let rest = rest
        .strip_suffix("/buildid")
        .unwrap_or(rest)
        .trim_end_matches('/');
    let plain = rest
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}?#".contains(&b));
    let has_host = !rest.is_empty() && !rest.starts_with(['/', ':']);
    match (scheme.as_str(), plain && has_host) {
        ("http" | "https", true) => Ok(format!("{scheme}://{rest}")),
        _ => Err(refused()),
    }
}

/// What the machine's owner has configured: the variable, or what would be in it after a login.
fn configured() -> String {
    let variable = std::env::var(URLS_VARIABLE).unwrap_or_default();
    match variable.trim() {
        "" => lists_in(Path::new(URLS_FOLDER)),
        list => list.to_owned(),
    }
}

fn lists_in(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "urls") && path.is_file());
    paths.sort();
    let lists: Vec<String> = paths.iter().filter_map(|path| read_list(path)).collect();
    lists.join(" ")
}

fn read_list(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(MAX_LIST_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    fn typed(words: &[&str]) -> SymbolArgs {
        let line = ["perfprof", "record", "--pid", "1"].iter().chain(words);
        match Cli::try_parse_from(line).expect("accepted").command {
            Command::Record(args) => args.symbols,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn by_default_nobody_is_asked() {
        let (options, warnings) = options(&typed(&[])).expect("valid");
        assert_eq!(options, SymbolOptions::default());
        assert!(warnings.is_empty());
    }

    #[test]
    fn servers_are_separated_by_spaces_and_named_once() {
        let args = typed(&[
            "--debuginfod=http://a/ https://B:8002/x//",
            "--debuginfod=http://a/buildid/",
            "--debuginfod-timeout=1.5",
        ]);
        let (options, _) = options(&args).expect("valid");
        let debuginfod = options.debuginfod.expect("asked for");
        assert_eq!(debuginfod.urls, ["http://a", "https://B:8002/x"]);
        assert_eq!(debuginfod.timeout, Duration::from_millis(1500));
    }

    #[test]
    fn a_flag_without_url_takes_no_word_that_follows_it() {
        let args = typed(&["--debuginfod", "--no-symbol-cache", "--symbol-memory", "64"]);
        assert_eq!(args.debuginfod, [""]);
        assert!(args.no_symbol_cache && args.symbol_memory == 64);
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for bad in [
            "a",
            "file:///srv",
            "http://",
            "http:///x",
            "ftp://a",
            "http://a?b",
            "http://:80",
            "http://a/\u{1b}[31m",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..=MAX_SERVERS)
            .map(|i| format!("http://{i}.example"))
            .collect();
        assert!(parse(&many.join(" ")).is_err());
    }

    #[test]
    fn a_wish_for_signatures_is_not_passed_over_in_silence() {
        let list = parse("ima:enforcing https://a ima:ignore https://b").expect("a list of Fedora");
        assert_eq!(list.urls, ["https://a", "https://b"]);
        assert!(list.wants_signatures);
    }

    #[test]
    fn configured_lists_are_read_in_order() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let write =
            |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        write("b.urls", "https://b\n");
        write("a.urls", "https://a\n");
        write("c.txt", "https://c\n");
        let list = parse(&lists_in(dir.path())).expect("valid");
        assert_eq!(list.urls, ["https://a", "https://b"]);
        assert_eq!(lists_in(Path::new("/nonexistent")), "");
    }

    #[test]
    fn a_folder_that_is_none_is_found_before_the_recording() {
        let args = typed(&["--debug-dir", "/nonexistent"]);
        assert!(options(&args).is_err());
        let args = typed(&["--debug-dir", "/dev/null"]);
        assert!(options(&args).is_err());
    }
}
