//! `bpf/verifier-counts.txt`: how many instructions each kernel's verifier looks at to accept each BPF program, so that
//! growth is seen in review. Used by the tests and by `cargo xtask kernels`, so it needs nothing but `std`.
//!
//! In: what `perfprof show programs` prints. Out: whether that is what the file says, or the file with it.

use std::fmt::Write as _;

const HEAD: &str = "\
# Instructions that the kernel's verifier looks at to accept each BPF program, each as often as it does; a million are
# allowed. Written by `cargo xtask kernels --bless` and, for the kernel at hand, `PERFPROF_BLESS=1 cargo test verifier`.
";

/// All kernels of the file, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    kernels: Vec<KernelCounts>,
}

/// What one kernel says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelCounts {
    /// What `uname -r` says there.
    pub(crate) release: String,
    pub(crate) compiler: String,
    /// Program and instructions.
    pub(crate) programs: Vec<(String, u64)>,
}

/// How a kernel's figures stand to those in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Same,
    /// A line per difference.
    Differs(Vec<String>),
    /// The file has none of this kernel and compiler; why.
    NotListed(String),
}

impl KernelCounts {
    /// Reads what `perfprof show programs` prints.
    pub(crate) fn of_show_programs(text: &str) -> Result<KernelCounts, String> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_string())
                .ok_or_else(|| format!("no `{name}` in `{text}`"))
        };
        let table = text
            .lines()
            .skip_while(|line| !line.starts_with("program "));
        let programs: Vec<(String, u64)> = table.skip(1).filter_map(program).collect();
        if programs.is_empty() {
            return Err(format!("no programs in `{text}`"));
        }
        Ok(KernelCounts {
            release: field("kernel ")?,
            compiler: field("compiler ")?,
            programs,
        })
    }

    pub(crate) fn instructions(&self, program: &str) -> Option<u64> {
        let found = self.programs.iter().find(|(name, _)| name == program);
        found.map(|(_, instructions)| *instructions)
    }
}

/// A line that begins with a program's name and its number.
fn program(line: &str) -> Option<(String, u64)> {
    let mut words = line.split_whitespace();
    Some((words.next()?.to_string(), words.next()?.parse().ok()?))
}

impl Counts {
    /// Reads the file; a message with the line that is wrong.
    pub(crate) fn parse(text: &str) -> Result<Counts, String> {
        let mut counts = Counts::default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for line in lines.filter(|line| !line.is_empty()) {
            let wrong = || format!("`{line}` is neither `RELEASE, COMPILER` nor a program's count");
            if line.starts_with(' ') {
                let kernel = counts.kernels.last_mut().ok_or_else(wrong)?;
                kernel.programs.push(program(line).ok_or_else(wrong)?);
            } else {
                let (release, compiler) = line.split_once(", ").ok_or_else(wrong)?;
                counts.kernels.push(KernelCounts {
                    release: release.to_string(),
                    compiler: compiler.to_string(),
                    programs: Vec::new(),
                });
            }
        }
        Ok(counts)
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = HEAD.to_string();
        for kernel in &self.kernels {
            let _ = writeln!(text, "\n{}, {}", kernel.release, kernel.compiler);
            for (name, instructions) in &kernel.programs {
                let _ = writeln!(text, "    {name:<12} {instructions:>7}");
            }
        }
        text
    }

    pub(crate) fn compare(&self, found: &KernelCounts) -> Comparison {
        let (release, compiler) = (&found.release, &found.compiler);
        let Some(listed) = self.kernels.iter().find(|one| one.release == *release) else {
            return Comparison::NotListed(format!("kernel {release} is not listed"));
        };
        if listed.compiler != *compiler {
            let why = format!("listed is `{}`, this is `{compiler}`", listed.compiler);
            return Comparison::NotListed(why);
        }
        let all = listed.programs.iter().chain(&found.programs);
        let mut names: Vec<&str> = all.map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let figure = |counts: &KernelCounts, name: &str| {
            let figure = counts.instructions(name);
            figure.map_or("none".to_string(), |instructions| instructions.to_string())
        };
        let differences: Vec<String> = names
            .into_iter()
            .map(|name| (name, figure(listed, name), figure(found, name)))
            .filter(|(_, listed, found)| listed != found)
            .map(|(name, listed, found)| format!("{name} on {release}: {listed} is now {found}"))
            .collect();
        if differences.is_empty() {
            Comparison::Same
        } else {
            Comparison::Differs(differences)
        }
    }

    /// Takes a kernel's figures in the place of those of the same series.
    pub(crate) fn set(&mut self, found: KernelCounts) {
        let key = series(&found.release);
        self.kernels.retain(|one| series(&one.release) != key);
        self.kernels.push(found);
        self.kernels.sort_by_key(|one| series(&one.release));
    }
}

/// The first two numbers of a kernel's version: what makes its verifier the same one, give or take a mended fault.
fn series(release: &str) -> (u64, u64) {
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
