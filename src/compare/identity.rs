//! Functions of all runs in one numbering: by canonical name and side of the kernel border.
//!
//! Source files are no part of it: a function that was moved to another file or library is the same function. Pieces and
//! copies of one function fall together (`profile/canonical.rs`).

use std::collections::HashMap;

use foldhash::quality::RandomState;

use crate::analysis::names::{NameIx, Names};
use crate::analysis::weight::StackKey;
use crate::profile::{Profile, StackEnd, canonical_name};

/// Index into [`Functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FnIx(pub(super) u32);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FunctionName {
    pub(super) name: String,
    pub(super) kernel: bool,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Function,
    /// All nameless code of a binary.
    Nameless,
    /// Why a stack ends short of its root: shown in pictures, never a path of its own.
    Reason,
}

/// All functions of all runs.
#[derive(Debug, Default)]
pub(super) struct Functions {
    names: Vec<FunctionName>,
    modules: Vec<String>,
    index: HashMap<FunctionName, FnIx, RandomState>,
}

impl Functions {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn get(&self, ix: FnIx) -> &FunctionName {
        &self.names[ix.0 as usize]
    }

    /// Path of the binary it was first seen in; empty where unknown.
    pub(super) fn module(&self, ix: FnIx) -> &str {
        &self.modules[ix.0 as usize]
    }

    fn intern(&mut self, name: FunctionName, module: &str) -> FnIx {
        if let Some(ix) = self.index.get(&name) {
            return *ix;
        }
        let ix = FnIx(self.names.len() as u32);
        self.names.push(name.clone());
        self.modules.push(module.to_owned());
        self.index.insert(name, ix);
        ix
    }
}

/// The functions of one profile, in the common numbering.
#[derive(Debug)]
pub(super) struct ProfileFunctions {
    /// Per frame, innermost first.
    of_frame: Vec<Vec<FnIx>>,
    reasons: HashMap<StackEnd, FnIx>,
}

impl ProfileFunctions {
    pub(super) fn of(profile: &Profile, functions: &mut Functions) -> ProfileFunctions {
        let names = Names::of(profile);
        let mut known: Vec<Option<FnIx>> = vec![None; names.len()];
        let mut common = |ix: NameIx, functions: &mut Functions| {
            *known[ix.0 as usize].get_or_insert_with(|| {
                let name = names.get(ix);
                let canonical = canonical_name(&name.name, &name.file).into_owned();
                let function = FunctionName {
                    name: canonical,
                    kernel: name.kernel,
                    kind: match name.is_group {
                        true => Kind::Nameless,
                        false => Kind::Function,
                    },
                };
                functions.intern(function, &name.module)
            })
        };
        let of_frame = (0..profile.frames.len() as u32)
            .map(|frame| {
                let lines = names.at(crate::profile::FrameIx(frame)).iter();
                lines.map(|(ix, _)| common(*ix, functions)).collect()
            })
            .collect();
        let mut reasons = HashMap::new();
        for sample in &profile.samples {
            let reason = match StackKey::from(sample) {
                StackKey::NoFrames(end) => end
                    .reason_frame()
                    .unwrap_or_else(|| "[no frames]".to_owned()),
                StackKey::Frames(_) => match sample.end.shown_reason_frame() {
                    Some(reason) => reason,
                    None => continue,
                },
            };
            reasons.entry(sample.end).or_insert_with(|| {
                let name = FunctionName {
                    name: reason,
                    kernel: false,
                    kind: Kind::Reason,
                };
                functions.intern(name, "")
            });
        }
        ProfileFunctions { of_frame, reasons }
    }

    /// Functions at a frame, innermost first.
    pub(super) fn at(&self, frame: crate::profile::FrameIx) -> &[FnIx] {
        &self.of_frame[frame.0 as usize]
    }

    /// What stands at the root of stacks that ended like this; `None` for complete ones.
    pub(super) fn reason(&self, end: StackEnd) -> Option<FnIx> {
        self.reasons.get(&end).copied()
    }
}
