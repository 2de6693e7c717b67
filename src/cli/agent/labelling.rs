//! What profiles are labelled with: what was typed, the downward API, and the Kubernetes API where it is allowed.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::saying::Saying;
use crate::agent::Say;
use crate::cli::args::AgentArgs;
use crate::cli::stop::{Exit, Failure};
use crate::target::container_names::StateFiles;
use crate::target::kubernetes::{Api, Downward, Index};
use crate::target::labels::Labels;

/// Labels that were typed.
pub(super) fn own(args: &AgentArgs) -> Labels {
    let mut labels = Labels::default();
    for (name, value) in &args.labels.label {
        labels.set(name, value);
    }
    labels
}

/// Whoever knows names of containers and pods.
pub(super) fn index(args: &AgentArgs, saying: &Saying<'_>) -> Result<Arc<Index>, Failure> {
    let var = |name: &str| std::env::var(name).ok();
    let mut own = Downward::of_environment(var);
    if let Some(folder) = &args.labels.labels_dir {
        own.add_folder(folder)
            .with_context(|| format!("failed to read labels in `{}`", folder.display()))
            .map_err(|error| Failure::new(Exit::BadInput, error))?;
    }
    if let Some(node) = &args.labels.node_name {
        own.node = Some(node.clone());
    }
    let node = own.node.clone();
    let files = StateFiles::below(Path::new("/")).ok().map(Arc::new);
    let index = Index::new(own, files);
    let api = match args.labels.kubernetes_api.as_str() {
        "off" => return Ok(Arc::new(index)),
        "in-cluster" => Api::in_cluster(var, node.as_deref()),
        url => Api::at(url, node.as_deref()),
    };
    let api = api.map_err(|error| {
        let hint = error
            .hint()
            .unwrap_or("set NODE_NAME by the downward API, or `--node-name`");
        Failure::new(Exit::Usage, error).hint(hint)
    })?;
    saying.info(format!("asking the Kubernetes API at {}", api.url()));
    index
        .follow(api)
        .context("failed to start a thread")
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    Ok(Arc::new(index))
}
