//! Names of kernel functions, from `/proc/kallsyms`.

use std::fs::File;
use std::io::{BufRead, BufReader};

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Kernel, Source};
use blazesym::symbolize::{Input, Symbolizer};

use crate::profile::{ElfAddr, Unresolved};

use super::{Found, FoundFunction};

/// How far into `/proc/kallsyms` one has to look to know whether addresses are hidden: hidden ones are all zero.
const LINES_TO_CHECK: usize = 100;

/// Whether and how the kernel can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelNames {
    Visible,
    /// `kernel.kptr_restrict` or a missing CAP_SYSLOG makes all addresses zero.
    Hidden,
}

impl KernelNames {
    pub fn inspect() -> KernelNames {
        let Ok(file) = File::open("/proc/kallsyms") else {
            return KernelNames::Hidden;
        };
        let shows_address = |line: &String| !line.starts_with("0000000000000000");
        let lines = BufReader::new(file).lines().take(LINES_TO_CHECK);
        if lines.map_while(Result::ok).any(|line| shows_address(&line)) {
            KernelNames::Visible
        } else {
            KernelNames::Hidden
        }
    }

    pub(super) fn look_up(self, addrs: &[ElfAddr]) -> Vec<Found> {
        if self == KernelNames::Hidden {
            return vec![Found::Nothing(Unresolved::KernelHidden); addrs.len()];
        }
        let kernel = Kernel {
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..Kernel::default()
        };
        let absolute: Vec<u64> = addrs.iter().map(|addr| addr.0).collect();
        let symbolizer = Symbolizer::builder().enable_demangling(false).build();
        match symbolizer.symbolize(&Source::Kernel(kernel), Input::AbsAddr(&absolute)) {
            // kallsyms has no sizes: the next symbol bounds each.
            Ok(results) => results.iter().map(|r| found(r.as_sym())).collect(),
            Err(_) => vec![Found::Nothing(Unresolved::NoSymbol); addrs.len()],
        }
    }
}

fn found(sym: Option<&blazesym::symbolize::Sym>) -> Found {
    let Some(sym) = sym else {
        return Found::Nothing(Unresolved::NoSymbol);
    };
    let function = FoundFunction::bare(sym.name.clone().into_owned());
    Found::Functions(vec![function])
}
