//! Which processes are meant: those of a container, a pod, a cgroup, a name, or all.
//!
//! In: a [`Selection`], what was asked for. Out: a [`Selector`], which says again and again which processes that are
//! now, and in which container each is. Names of containers and pods come from whoever knows them
//! ([`super::container_names`]). It opens, attaches to and changes nothing.
//!
//! perfprof's own processes are never among them unless named by PID; kernel threads only in [`Selection::All`]; the
//! process that merely holds a pod's namespaces ("pause") never in a pod. What does not exist yet is no error: it is
//! found when it appears. A name that could mean several things is.

use std::path::PathBuf;

mod own;
mod selector;
mod table;

pub use own::{OwnPod, sees_other_pods};
pub use selector::{Selected, Selector};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These, perfprof itself included if named.
    Pids {
        pids: Vec<u32>,
        /// And those that they start, as long as they live, whatever becomes of their parents.
        and_descendants: bool,
    },
    /// All whose command name this is; longer ones than the kernel keeps are cut as it does.
    Comm(String),
    /// All in it and below: a directory of a mounted hierarchy, or a path as in `/proc/PID/cgroup`.
    Cgroup(PathBuf),
    /// By its ID, at least 12 digits of it, or by its name: `NAME`, `POD/NAME` or `NAMESPACE/POD/NAME`. With all
    /// containers inside of it.
    Container(String),
    /// By its UID or its name (`NAME` or `NAMESPACE/NAME`), or the one that perfprof runs in.
    Pod(Option<String>),
    All,
}

impl Selection {
    /// In words, as the object of "profiling".
    pub fn describe(&self) -> String {
        match self {
            Selection::Pids {
                pids,
                and_descendants,
            } => {
                let list: Vec<String> = pids.iter().map(u32::to_string).collect();
                let noun = if pids.len() == 1 {
                    "process"
                } else {
                    "processes"
                };
                let more = match (and_descendants, pids.len()) {
                    (false, _) => "",
                    (true, 1) => " and what it starts",
                    (true, _) => " and what they start",
                };
                format!("{noun} {}{more}", list.join(", "))
            }
            Selection::Comm(comm) => format!("all processes called `{comm}`"),
            Selection::Cgroup(path) => format!("all processes in cgroup `{}`", path.display()),
            Selection::Container(name) => format!("all processes of container `{name}`"),
            Selection::Pod(None) => "all processes of this pod".to_owned(),
            Selection::Pod(Some(pod)) => format!("all processes of pod `{pod}`"),
            Selection::All => "all processes".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
