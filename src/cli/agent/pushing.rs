//! Where profiles are sent.

use std::io;
use std::time::Duration;

use crate::agent::metrics::SinkFigures;
use crate::agent::{Offer, Outlet};
use crate::cli::args::AgentArgs;
use crate::cli::stop::Failure;

pub(super) struct Pushing;

pub(super) fn start(_args: &AgentArgs) -> Result<Pushing, Failure> {
    Ok(Pushing)
}

impl Pushing {
    pub fn figures(&self) -> Box<dyn Fn() -> Vec<SinkFigures> + Send + Sync> {
        Box::new(Vec::new)
    }
}

impl Outlet for Pushing {
    fn offer(&mut self, _: &Offer<'_>) -> io::Result<()> {
        Ok(())
    }

    fn waiting_bytes(&self) -> u64 {
        0
    }

    fn finish(self: Box<Self>, _: Duration) {}
}
