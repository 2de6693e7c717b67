//! From the flags that name a target by its container, pod, cgroup or name to a list of processes that is kept up to date.

use std::path::Path;
use std::sync::Arc;

use super::args::RunningArgs;
use super::stop::{Exit, Failure};
use crate::sampling::PidList;
use crate::target::container::{ContainerIdentity, is_id_prefix, short};
use crate::target::container_names::{Names, StateFiles};
use crate::target::host::is_in_initial_pid_namespace;
use crate::target::kubernetes::Downward;
use crate::target::selection::{OwnPod, Selection, Selector};

/// All flags that name a target that runs.
pub(super) const FLAGS: &str =
    "`--pid PID`, `--comm NAME`, `--cgroup PATH`, `--container ID|NAME`, `--pod`, `--all`";

/// What to look at when nothing is found.
pub(super) fn what_is_seen() -> &'static str {
    match is_in_initial_pid_namespace() {
        Some(true) => "`cat /proc/PID/cgroup` shows a process's container and cgroup",
        _ => {
            "processes of other containers are seen with `shareProcessNamespace: true` or `hostPID: true` only; \
             `cat /proc/PID/cgroup` shows a process's container and cgroup"
        }
    }
}

/// That a list is empty, as a sentence.
pub(super) fn there_are_none(list: &PidList) -> String {
    match list.what.strip_prefix("all ") {
        Some(what) => format!("there are no {what}"),
        None => format!("nothing is left of {}", list.what),
    }
}

/// What the service is called where its processes are chosen by cgroup, container or pod.
pub(super) fn service(args: &RunningArgs, list: &PidList) -> Option<String> {
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    if let Some(path) = &args.cgroup {
        return named(&path.file_name()?.to_string_lossy());
    }
    if let Some(container) = &args.container {
        return match is_id_prefix(container) {
            true => Some(name_of_container(container, list)),
            false => named(container),
        };
    }
    match args.pod.as_deref()? {
        "" => own_pod().name,
        pod => named(pod),
    }
}

/// A container's name, or its short ID.
fn name_of_container(id: &str, list: &PidList) -> String {
    let full = list.pids().into_iter().find_map(|pid| {
        let identity = ContainerIdentity::of(pid).ok()??;
        let full = identity.ids().find(|its| its.starts_with(id))?;
        Some(full.to_owned())
    });
    let files = StateFiles::below(Path::new("/")).ok();
    let name = full.and_then(|full| files?.container_name(&full));
    name.unwrap_or_else(|| short(id).to_owned())
}

/// What is meant by `--cgroup`, `--container` and `--pod`.
pub(super) fn selection(args: &RunningArgs) -> Option<Selection> {
    if let Some(path) = &args.cgroup {
        return Some(Selection::Cgroup(path.clone()));
    }
    if let Some(container) = &args.container {
        return Some(Selection::Container(container.clone()));
    }
    let pod = args.pod.as_ref()?;
    Some(Selection::Pod((!pod.is_empty()).then(|| pod.clone())))
}

/// The same, or what the other flags mean, for a list that outlives its processes.
pub(super) fn any_selection(args: &RunningArgs) -> Option<Selection> {
    if let Some(selection) = selection(args) {
        return Some(selection);
    }
    if let Some(name) = &args.comm {
        return Some(Selection::Comm(name.clone()));
    }
    let pids = || Selection::Pids {
        pids: args.pids.clone(),
        and_descendants: true,
    };
    (!args.pids.is_empty()).then(pids)
}

/// Whoever can say which processes are meant. `names` know containers and pods, `own` is what is known of the own pod.
pub(super) fn selector(
    selection: Selection,
    names: Vec<Arc<dyn Names>>,
    own: OwnPod,
) -> Result<Arc<Selector>, Failure> {
    // Engines of a machine whose files are not at hand tell no names.
    let files = StateFiles::below(Path::new("/")).ok();
    let files = files.map(|files| Arc::new(files) as Arc<dyn Names>);
    let names = names.into_iter().chain(files).collect();
    let selector = Selector::new(selection, names, own)
        .map_err(|error| Failure::new(Exit::NoTarget, error).hint(what_is_seen()))?;
    // An ambiguous name is found out now.
    selector
        .pids_now()
        .map_err(|error| Failure::new(Exit::NoTarget, error))?;
    Ok(Arc::new(selector))
}

/// What the environment tells of the own pod.
pub(super) fn own_pod() -> OwnPod {
    Downward::of_environment(|name| std::env::var(name).ok()).pod
}

/// A list that is empty while it cannot be made.
pub(super) fn list(selector: &Arc<Selector>) -> PidList {
    let what = selector.describe();
    let selector = selector.clone();
    PidList::new(what, move || {
        let pids = selector.pids_now().unwrap_or_default();
        pids.into_iter().collect()
    })
}
