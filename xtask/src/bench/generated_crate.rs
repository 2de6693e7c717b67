//! A crate for rustc to chew on: some hundred modules of generic code, made here so that it is the same everywhere. It
//! takes rustc about 50 s of CPU without optimization, a quarter of it before any code is generated.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::target_dir;

const MODULES: usize = 700;

pub(super) fn write() -> anyhow::Result<()> {
    let mut text = String::from("//! Made by `cargo xtask bench`.\n#![allow(dead_code)]\n");
    for module in 0..MODULES {
        let _ = write!(text, "{}", TEMPLATE.replace("NUMBER", &module.to_string()));
    }
    fs::create_dir_all(folder()).context("failed to create a folder for a crate")?;
    fs::write(folder().join("lib.rs"), text).context("failed to write a crate")
}

/// The compiler itself, not rustup's proxy, which would be another process.
pub(super) fn rustc() -> anyhow::Result<Command> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("failed to run rustc")?;
    ensure!(output.status.success(), "`rustc --print sysroot` failed");
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let mut command = Command::new(sysroot.join("bin/rustc"));
    command
        .current_dir(folder())
        .args(["--edition", "2021", "--crate-type", "lib"]);
    command.args([
        "-C",
        "opt-level=0",
        "--emit",
        "obj",
        "-o",
        "lib.o",
        "lib.rs",
    ]);
    Ok(command)
}

fn folder() -> PathBuf {
    target_dir().join("bench/crate")
}

const TEMPLATE: &str = r#"
pub mod m_NUMBER {
    use std::collections::{BTreeMap, HashMap};
    use std::fmt::{Debug, Display};
    use std::hash::Hash;

    pub trait Shape { type Unit: Copy + Debug + Into<f64>; fn size(&self) -> Self::Unit; }
    #[derive(Clone, Debug, PartialEq, PartialOrd)] pub struct Square<T>(pub T, pub Vec<T>);
    #[derive(Clone, Debug, PartialEq, PartialOrd)] pub enum Tree<T> { Leaf(T), Node(Box<Tree<T>>, Box<Tree<T>>) }
    impl<T: Copy + Debug + Into<f64>> Shape for Square<T> { type Unit = T; fn size(&self) -> T { self.0 } }
    impl<T: Ord + Clone + Debug> Tree<T> {
        pub fn insert(self, value: T) -> Tree<T> {
            match self {
                Tree::Leaf(old) if old <= value => Tree::Node(Box::new(Tree::Leaf(old)), Box::new(Tree::Leaf(value))),
                Tree::Leaf(old) => Tree::Node(Box::new(Tree::Leaf(value)), Box::new(Tree::Leaf(old))),
                Tree::Node(left, right) => Tree::Node(Box::new(left.insert(value)), right),
            }
        }
        pub fn fold<A, F: Fn(A, &T) -> A + Copy>(&self, start: A, f: F) -> A {
            match self { Tree::Leaf(v) => f(start, v), Tree::Node(l, r) => r.fold(l.fold(start, f), f) }
        }
    }
    pub fn group<K: Hash + Eq + Ord + Clone, V: Clone, I: IntoIterator<Item = (K, V)>>(items: I) -> BTreeMap<K, Vec<V>> {
        let mut map: HashMap<K, Vec<V>> = HashMap::new();
        for (key, value) in items { map.entry(key).or_default().push(value); }
        map.into_iter().filter(|(_, values)| !values.is_empty()).collect()
    }
    pub fn show<T: Display, S: Shape>(items: &[T], shape: &S) -> String {
        items.iter().enumerate().map(|(i, item)| format!("{i}:{item:>8}:{:?}", shape.size())).collect::<Vec<_>>().join(",")
    }
    pub fn run(n: u64) -> String {
        let words: Vec<String> = (0..n).map(|i| format!("w{}", i * NUMBER)).collect();
        let by_length = group(words.iter().map(|word| (word.len(), word.as_str())));
        let by_end = group(words.iter().rev().map(|word| (word.chars().last(), word.clone())));
        let tree = (0..n).fold(Tree::Leaf(NUMBER), Tree::insert);
        let names = words.iter().cloned().fold(Tree::Leaf(String::new()), Tree::insert);
        let total = tree.fold(0u64, |sum, v| sum.wrapping_add(*v)) + names.fold(0, |sum, v| sum + v.len() as u64);
        let mut sizes: Vec<(usize, usize)> = by_length.iter().map(|(k, v)| (*k, v.len())).collect();
        sizes.sort_by(|a, b| b.cmp(a).then_with(|| a.1.cmp(&b.1)));
        show(&words, &Square(total as f32, vec![1.0])) + &show(&[total], &Square(3u8, vec![])) + &format!("{by_end:?}{sizes:?}")
    }
}
"#;
