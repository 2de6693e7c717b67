//! The answer to a selection, again and again: which processes are meant now.
//!
//! In: a [`Selection`], and who knows names. Out: PIDs, each with its container. Between calls it keeps the table of
//! processes, what names stood for, and who was of the family.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::target::cgroup;
use crate::target::container::{self, ContainerIdentity};
use crate::target::container_names::{Named, Names};
use crate::target::mountinfo::Mount;

use super::table::{Known, Table};
use super::{OwnPod, Selection, sees_other_pods};

/// The kernel cuts a command name here: `TASK_COMM_LEN` without its zero.
const COMM_BYTES: usize = 15;
/// What names stand for is asked again after this: a restarted container has another ID.
const NAMES_EVERY: Duration = Duration::from_secs(5);
/// Mounts of cgroup hierarchies hardly ever change.
const MOUNTS_EVERY: Duration = Duration::from_secs(30);
/// Candidates that an error names.
const MAX_CANDIDATES: usize = 8;

/// A process that is meant, and its container, if it is in one.
pub type Selected = BTreeMap<u32, Option<Arc<ContainerIdentity>>>;

/// Answers which processes are meant now. To be asked about twice a second; keeps what it has read.
#[derive(Debug)]
pub struct Selector {
    selection: Selection,
    names: Vec<Arc<dyn Names>>,
    own: OwnPod,
    sees_other_pods: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    table: Table,
    /// Processes that were descendants once, with their start times.
    family: BTreeMap<u32, u64>,
    mounts: Option<(Instant, Vec<Mount>)>,
    resolved: Option<(Instant, Vec<Named>)>,
}

impl Selector {
    /// `names` are asked for names of containers and pods, all of them; `own` is what is known of the pod around
    /// perfprof.
    ///
    /// # Errors
    /// When "this pod" is asked for and cannot be told: perfprof sees other processes than its pod's, and knows no UID.
    pub fn new(
        selection: Selection,
        names: Vec<Arc<dyn Names>>,
        own: OwnPod,
    ) -> io::Result<Selector> {
        let own = own.completed();
        let sees_other_pods = sees_other_pods(&own);
        if selection == Selection::Pod(None) && sees_other_pods && own.uid.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "perfprof is not in a pod, or cannot tell in which",
            ));
        }
        Ok(Selector {
            selection,
            names,
            own,
            sees_other_pods,
            state: Mutex::default(),
        })
    }

    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// See [`Selection::describe`].
    pub fn describe(&self) -> String {
        self.selection.describe()
    }

    /// Files of processes read so far: what this costs, without a clock.
    pub fn files_read(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.table.files_read
    }

    /// The processes that are meant now.
    ///
    /// # Errors
    /// When `/proc` cannot be listed, and when a name could mean several things: it lists them.
    pub fn pids_now(&self) -> io::Result<BTreeSet<u32>> {
        Ok(self.processes_now()?.into_keys().collect())
    }

    /// The same, with each one's container.
    ///
    /// # Errors
    /// As [`Selector::pids_now`].
    pub fn processes_now(&self) -> io::Result<Selected> {
        self.processes_at(Instant::now())
    }

    /// The same, where it is already `now`: what is looked at again after some time is looked at when that is over.
    ///
    /// # Errors
    /// As [`Selector::pids_now`].
    pub fn processes_at(&self, now: Instant) -> io::Result<Selected> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        state.table.refresh(now)?;
        let own = state.table.descendants([std::process::id()]);
        let others = |(pid, known): &(u32, &Known)| !known.is_kernel_thread && !own.contains(pid);
        let selected: Vec<(u32, &Known)> = match &self.selection {
            Selection::Pids {
                pids,
                and_descendants,
            } => {
                let family = match and_descendants {
                    true => state.family_of(pids),
                    false => pids.iter().copied().collect(),
                };
                let known = family
                    .iter()
                    .filter_map(|pid| Some((*pid, state.table.get(*pid)?)));
                known.filter(|(_, known)| !known.has_ended).collect()
            }
            Selection::Comm(comm) => {
                let comm = cut_comm(comm);
                let all = state.table.living().filter(others);
                all.filter(|(_, known)| known.comm == comm).collect()
            }
            Selection::Cgroup(path) => {
                let pids = state.pids_in_cgroup(path, now);
                let known = pids
                    .iter()
                    .filter_map(|pid| Some((*pid, state.table.get(*pid)?)));
                let living = known.filter(|(_, known)| !known.has_ended);
                living.filter(others).collect()
            }
            Selection::Container(asked) => {
                let Some(id) = self.container_id(asked, state, now)? else {
                    return Ok(Selected::new());
                };
                let all = state.table.living().filter(others);
                all.filter(|(_, known)| is_inside(known, &id)).collect()
            }
            Selection::Pod(asked) => {
                let Some(pod) = self.pod(asked.as_deref(), state, now)? else {
                    return Ok(Selected::new());
                };
                let all = state.table.living().filter(others);
                let members = all.filter(|(_, known)| !known.is_pause);
                members
                    .filter(|(_, known)| self.is_of(known, &pod))
                    .collect()
            }
            Selection::All => {
                let all = state.table.living();
                all.filter(|(pid, _)| !own.contains(pid)).collect()
            }
        };
        let with_container = |(pid, known): (u32, &Known)| (pid, known.container.clone());
        Ok(selected.into_iter().map(with_container).collect())
    }

    /// The ID of the container that is meant; `None` while there is none.
    fn container_id(
        &self,
        asked: &str,
        state: &mut State,
        now: Instant,
    ) -> io::Result<Option<String>> {
        let visible: BTreeSet<String> = state
            .table
            .living()
            .filter_map(|(_, known)| known.container.as_deref())
            .flat_map(|identity| identity.ids().map(str::to_owned))
            .collect();
        if visible.contains(asked) {
            return Ok(Some(asked.to_owned()));
        }
        let mut candidates: Vec<Named> = Vec::new();
        if container::is_id_prefix(asked) {
            let begun = visible.iter().filter(|id| id.starts_with(asked));
            candidates.extend(begun.map(|id| Named::unnamed(id)));
        }
        if candidates.is_empty() {
            let named = state.resolve(now, || self.ask(|names| names.containers_named(asked)));
            // Stopped containers keep their names.
            candidates = named
                .iter()
                .filter(|named| visible.contains(&named.id))
                .cloned()
                .collect();
        }
        only("container", asked, candidates)
    }

    /// The pod that is meant; `None` while nobody knows its name.
    fn pod(&self, asked: Option<&str>, state: &mut State, now: Instant) -> io::Result<Option<Pod>> {
        let Some(asked) = asked else {
            return Ok(Some(self.own_pod()));
        };
        let uid = container::pod_uid(asked);
        let is_own = match &uid {
            Some(uid) => self.own.uid.as_ref() == Some(uid),
            None => self.own.is_named(asked),
        };
        if is_own {
            return Ok(Some(self.own_pod()));
        }
        if let Some(uid) = uid {
            return Ok(Some(Pod::Uid(uid)));
        }
        let named = state.resolve(now, || self.ask(|names| names.pods_named(asked)));
        Ok(only("pod", asked, named.to_vec())?.map(Pod::Uid))
    }

    /// Where no other pods can be seen, whoever can be seen is of this one.
    fn own_pod(&self) -> Pod {
        match (&self.own.uid, self.sees_other_pods) {
            (Some(uid), true) => Pod::Uid(uid.clone()),
            _ => Pod::Visible,
        }
    }

    fn is_of(&self, known: &Known, pod: &Pod) -> bool {
        let Pod::Uid(uid) = pod else {
            return true;
        };
        let Some(identity) = known.container.as_deref() else {
            return false;
        };
        match &identity.pod_uid {
            Some(of) => of == uid,
            None if identity.is_beside_reader && self.own.uid.as_ref() == Some(uid) => true,
            None => self
                .names
                .iter()
                .any(|names| names.pod_of(identity).as_deref() == Some(uid.as_str())),
        }
    }

    fn ask(&self, question: impl Fn(&dyn Names) -> Vec<Named>) -> Vec<Named> {
        let mut answers: Vec<Named> = self
            .names
            .iter()
            .flat_map(|names| question(names.as_ref()))
            .collect();
        answers.sort();
        answers.dedup_by(|a, b| a.id == b.id);
        answers
    }
}

impl State {
    /// `pids` and whoever descends from them, or once did and lives.
    fn family_of(&mut self, pids: &[u32]) -> BTreeSet<u32> {
        let table = &self.table;
        let start_of = |pid: u32| table.get(pid).map(|known| known.start_ticks);
        self.family
            .retain(|pid, start| start_of(*pid) == Some(*start));
        let roots = pids.iter().chain(self.family.keys()).copied();
        let family = table.descendants(roots);
        self.family = family
            .iter()
            .filter_map(|pid| Some((*pid, start_of(*pid)?)))
            .collect();
        family
    }

    fn pids_in_cgroup(&mut self, path: &Path, now: Instant) -> BTreeSet<u32> {
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < MOUNTS_EVERY;
        if !self.mounts.as_ref().is_some_and(|(at, _)| is_fresh(at)) {
            self.mounts = Some((now, cgroup::own_mounts()));
        }
        let mounts = self.mounts.as_ref().map_or(&[][..], |(_, mounts)| mounts);
        let dirs = cgroup::directories(path, mounts);
        dirs.iter()
            .flat_map(|dir| cgroup::pids_below(dir))
            .collect()
    }

    /// What a name stands for, asked for at most every few seconds.
    fn resolve(&mut self, now: Instant, ask: impl FnOnce() -> Vec<Named>) -> &[Named] {
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < NAMES_EVERY;
        if !self.resolved.as_ref().is_some_and(|(at, _)| is_fresh(at)) {
            self.resolved = Some((now, ask()));
        }
        self.resolved.as_ref().map_or(&[], |(_, named)| named)
    }
}

/// A pod, as its processes are found.
#[derive(Debug, PartialEq, Eq)]
enum Pod {
    Uid(String),
    /// All that this process sees.
    Visible,
}

fn is_inside(known: &Known, id: &str) -> bool {
    let identity = known.container.as_deref();
    identity.is_some_and(|identity| identity.ids().any(|of| of == id))
}

/// As a command name is read where the kernel has cut it, which may be within a character.
pub(super) fn cut_comm(comm: &str) -> Cow<'_, str> {
    let bytes = comm.as_bytes();
    String::from_utf8_lossy(bytes.get(..COMM_BYTES).unwrap_or(bytes))
}

/// The one candidate.
pub(super) fn only(
    what: &str,
    asked: &str,
    mut candidates: Vec<Named>,
) -> io::Result<Option<String>> {
    match candidates.len() {
        0 | 1 => Ok(candidates.pop().map(|named| named.id)),
        count => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{what} `{asked}` could be {}",
                Candidates(&candidates, count)
            ),
        )),
    }
}

/// A list for people.
struct Candidates<'a>(&'a [Named], usize);

impl fmt::Display for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().take(MAX_CANDIDATES).map(Named::to_string);
        f.write_str(&shown.collect::<Vec<_>>().join(", "))?;
        match self.1.saturating_sub(MAX_CANDIDATES) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
