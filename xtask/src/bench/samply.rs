//! What is asked of samply's files: how many samples there are, and where their stacks begin.
//!
//! The profile is the Firefox Profiler's "processed" format, gzipped; names stand in a file beside it, by address.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

#[derive(Debug)]
pub(super) struct Profile {
    profile: Value,
    /// Empty unless samply was asked for names.
    names: Names,
}

/// (name of the library, address in it) -> function.
type Names = HashMap<(String, u64), String>;

pub(super) fn read(folder: &Path) -> anyhow::Result<Profile> {
    let output = Command::new("gzip")
        .args(["-dc"])
        .arg(folder.join("samply.json.gz"))
        .output()
        .context("failed to run gzip")?;
    ensure!(output.status.success(), "samply has written no profile");
    let profile = serde_json::from_slice(&output.stdout).context("samply's profile is no JSON")?;
    let names = match fs::read(folder.join("samply.json.syms.json")) {
        Ok(bytes) => read_names(&serde_json::from_slice(&bytes)?),
        Err(_) => Names::default(),
    };
    Ok(Profile { profile, names })
}

fn read_names(symbols: &Value) -> Names {
    let mut names = Names::default();
    let text = |index: &Value| symbols["string_table"][index.as_u64()? as usize].as_str();
    for library in list(&symbols["data"]) {
        let called = library["debug_name"].as_str().unwrap_or_default();
        for known in list(&library["known_addresses"]) {
            let (Some(addr), Some(index)) = (known[0].as_u64(), known[1].as_u64()) else {
                continue;
            };
            if let Some(name) = text(&library["symbol_table"][index as usize]["symbol"]) {
                names.insert((called.to_string(), addr), name.to_string());
            }
        }
    }
    names
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

impl Profile {
    pub(super) fn samples(&self) -> f64 {
        let threads = list(&self.profile["threads"]).iter();
        threads
            .flat_map(|thread| list(&thread["samples"]["weight"]))
            .filter_map(Value::as_f64)
            .sum()
    }

    /// Samples whose outermost frames satisfy `is_complete`, given as names, outermost first, at most three.
    pub(super) fn samples_where(&self, is_complete: impl Fn(&[&str]) -> bool) -> f64 {
        let threads = list(&self.profile["threads"]).iter();
        threads
            .map(|thread| self.complete_of_thread(thread, &is_complete))
            .sum()
    }

    fn complete_of_thread(&self, thread: &Value, is_complete: impl Fn(&[&str]) -> bool) -> f64 {
        let prefixes = list(&thread["stackTable"]["prefix"]);
        let mut sum = 0.0;
        let samples = list(&thread["samples"]["stack"]).iter();
        for (stack, weight) in samples.zip(list(&thread["samples"]["weight"])) {
            let mut path = Vec::new();
            let mut at = stack.as_u64();
            while let Some(index) = at {
                path.push(index as usize);
                at = prefixes.get(index as usize).and_then(Value::as_u64);
            }
            let outermost = path.iter().rev().take(3);
            let names: Vec<&str> = outermost.map(|stack| self.name(thread, *stack)).collect();
            if is_complete(&names) {
                sum += weight.as_f64().unwrap_or(0.0);
            }
        }
        sum
    }

    /// The function of a stack's innermost frame; empty when it has no name.
    fn name(&self, thread: &Value, stack: usize) -> &str {
        let index = |value: &Value| value.as_u64().map(|index| index as usize);
        let found = || {
            let frame = index(&thread["stackTable"]["frame"][stack])?;
            let addr = thread["frameTable"]["address"][frame].as_u64()?;
            let func = index(&thread["frameTable"]["func"][frame])?;
            let resource = index(&thread["funcTable"]["resource"][func])?;
            let library = index(&thread["resourceTable"]["lib"][resource])?;
            let called = self.profile["libs"][library]["debugName"].as_str()?;
            self.names
                .get(&(called.to_string(), addr))
                .map(String::as_str)
        };
        found().unwrap_or_default()
    }
}
