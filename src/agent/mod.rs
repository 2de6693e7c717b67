//! The agent: the same rooms, run for ever, beside a service.
//!
//! In: [`Settings`], and a [`Recorder`] that can arm a sampler. Out: a directory of finished windows ([`windows`]), figures and
//! profiles over HTTP ([`http`]), and what `push` sends on. One thread records ([`session`]), one names and writes what was
//! recorded ([`finishing`]), one serves. Whatever fails is counted in [`metrics`] and said in the log; only what makes it
//! impossible to begin ends the agent.
#![forbid(unsafe_code)]

pub mod budget;
mod deep;
mod finishing;
mod http;
pub mod metrics;
mod run;
mod services;
mod session;
mod settings;
mod state;
mod upkeep;
pub mod windows;

pub use deep::DeepWords;
pub use finishing::{Offer, Outlet, SinkNews};
pub use run::{End, Lasting, Signals, Staff, StartError, run};
pub use services::{Owners, Service};
pub use settings::Settings;

use crate::profile::Recording;
use crate::recorder::Recorded;
use crate::sampling::{Sampler, SamplingPlan};

/// What a session is to be recorded with: what the budget leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    pub frequency_hz: u32,
    /// Memory for unwind tables in the kernel.
    pub unwind_bytes: u64,
    /// Memory that reading debug information may take.
    pub symbol_bytes: u64,
}

/// How to record here; what it takes is planned by whoever knows what was asked for.
pub trait Recorder {
    /// Arms a sampler. The error is a sentence for the log.
    fn arm(&mut self, effort: Effort) -> Result<(Box<dyn Sampler>, SamplingPlan), String>;

    /// How the window was recorded, but for its service and its time.
    fn describe(&self, sampling: &SamplingPlan, recorded: &Recorded) -> Recording;
}

/// What the agent has to say: lines for the log.
pub trait Say: Sync {
    fn info(&self, message: String);
    fn warning(&self, message: String);
}
