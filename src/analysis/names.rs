//! The functions of a profile as rankings tell them apart.
//!
//! Two functions are one when name, source file and side (user or kernel) are equal. Code without a name is grouped by
//! file and reason, as `[libfoo.so: no-symbol]`: a stripped library that burns half of the CPU under five hundred bare
//! addresses would otherwise not show up in any list of the ten hottest.

use std::collections::HashMap;

use crate::profile::{Frame, FrameIx, FrameKind, Line, Profile, StackEnd};

/// Index into [`Names::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameIx(pub(crate) u32);

/// A function as it is ranked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) name: String,
    /// Source file; empty where unknown.
    pub(crate) file: String,
    /// Path of the binary; empty where unknown.
    pub(crate) module: String,
    pub(crate) kernel: bool,
    /// Stands for all code of a binary that has no name.
    pub(crate) is_group: bool,
}

/// All functions, each once, and per frame the functions found there, innermost first.
#[derive(Debug)]
pub(crate) struct Names {
    functions: Vec<Name>,
    by_identity: HashMap<(String, String, bool), NameIx>,
    of_frame: Vec<Vec<(NameIx, u32)>>,
}

impl Names {
    pub(crate) fn of(profile: &Profile) -> Names {
        let mut names = Names {
            functions: Vec::new(),
            by_identity: HashMap::new(),
            of_frame: Vec::with_capacity(profile.frames.len()),
        };
        for frame in &profile.frames {
            let lines = frame
                .lines
                .iter()
                .map(|line| (names.intern(name_of(profile, frame, line)), line.line))
                .collect();
            names.of_frame.push(lines);
        }
        names
    }

    /// The stand-in for a stack without frames.
    pub(crate) fn no_frames(&mut self, end: StackEnd) -> NameIx {
        self.intern(Name {
            name: end
                .reason_frame()
                .unwrap_or_else(|| "[no frames]".to_owned()),
            file: String::new(),
            module: String::new(),
            kernel: false,
            is_group: true,
        })
    }

    /// Functions at a frame with the line executed in each, innermost first.
    pub(crate) fn at(&self, frame: FrameIx) -> &[(NameIx, u32)] {
        &self.of_frame[frame.0 as usize]
    }

    pub(crate) fn get(&self, ix: NameIx) -> &Name {
        &self.functions[ix.0 as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.functions.len()
    }

    fn intern(&mut self, name: Name) -> NameIx {
        let identity = (name.name.clone(), name.file.clone(), name.kernel);
        *self.by_identity.entry(identity).or_insert_with(|| {
            self.functions.push(name);
            NameIx(self.functions.len() as u32 - 1)
        })
    }
}

fn name_of(profile: &Profile, frame: &Frame, line: &Line) -> Name {
    let mapping = frame.mapping.map(|ix| profile.mapping(ix));
    let function = profile.function(line.function);
    let name = match (frame.unresolved, mapping) {
        (Some(reason), Some(mapping)) => format!("[{}: {}]", mapping.short_name(), reason.id()),
        (Some(reason), None) => format!("[{}]", reason.id()),
        (None, _) => function.name.clone(),
    };
    Name {
        name,
        file: function.file.clone(),
        module: mapping.map_or_else(String::new, |m| m.path.clone()),
        kernel: frame.kind == FrameKind::Kernel,
        is_group: frame.unresolved.is_some(),
    }
}
