//! What the tests stand on: workloads with a known truth, recordings of them, and an honest way to skip.

pub(crate) mod agent;
pub(crate) mod backend;
pub(crate) mod compile;
pub(crate) mod contained;
pub(crate) mod debuginfod;
pub(crate) mod folded;
pub(crate) mod need;
pub(crate) mod orphan;
pub(crate) mod pod;
pub(crate) mod postgres;
pub(crate) mod pprof;
pub(crate) mod proc;
pub(crate) mod recording;
pub(crate) mod spent;
pub(crate) mod stacks;
pub(crate) mod verifier_counts;
pub(crate) mod web;
pub(crate) mod workload;

pub(crate) use contained::Contained;
pub(crate) use folded::Folded;
pub(crate) use need::{Need, missing};
pub(crate) use orphan::Orphan;
pub(crate) use postgres::Postgres;
pub(crate) use recording::Record;
pub(crate) use spent::Spent;
pub(crate) use stacks::KnownStacks;
pub(crate) use web::Nginx;
pub(crate) use workload::{Workload, build};
