//! What was typed for comparisons: of recordings, of commands in continuous integration, and for planning them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{amount, percentage};

#[derive(Debug, Args)]
pub(in crate::cli) struct CompareArgs {
    /// Profiles of the runs before the change: pprof (also of Go, py-spy, …), folded stacks or `perf script` text; one or
    /// several, repeatable
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub before: Vec<PathBuf>,
    /// Profiles of the runs after it
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub after: Vec<PathBuf>,
    /// Units of work (requests, iterations) that each before run did; once for all of them, or once for each in their order
    #[arg(long, value_name = "N", value_parser = amount, conflicts_with = "load_before", requires = "work_after")]
    pub work_before: Vec<f64>,
    /// Units of work that each after run did
    #[arg(long, value_name = "N", value_parser = amount, conflicts_with = "load_after", requires = "work_before")]
    pub work_after: Vec<f64>,
    /// Load-test results of the before runs, once for all of them or once for each: throughput gives the units of work
    #[arg(long, value_name = "FILE", requires = "load_after")]
    pub load_before: Vec<PathBuf>,
    /// Load-test results of the after runs
    #[arg(long, value_name = "FILE", requires = "load_before")]
    pub load_after: Vec<PathBuf>,
    #[command(flatten)]
    pub judging: JudgingArgs,
    /// Compare although both sides were recorded differently
    #[arg(long)]
    pub force: bool,
    /// Print `performance-comparison.json` to standard output, too
    #[arg(long)]
    pub json: bool,
}

/// What counts as a change, and where its documents go.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct JudgingArgs {
    /// Gate config whose `optimization` part gives tolerance and improvement threshold [default: the one in
    /// config/protocol_gates, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Relative change of a path that matters: less is never told, and an interval within it is `unchanged` [default: of
    /// the config, else 5%]
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    pub tolerance: Option<f64>,
    /// Paths below this share of the profile on both sides are not tested [default: 0.5%]
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    pub min_share: Option<f64>,
    /// Function that was to be improved, by the name in the report; repeatable [default: the whole]
    #[arg(long, value_name = "FUNCTION")]
    pub target: Vec<String>,
    /// How much the targeted figures must improve [default: of the config, else 15%]
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    pub improvement_threshold: Option<f64>,
    /// Name of what is compared [default: the service of the profiles]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Folder for what is written
    #[arg(long, value_name = "DIR", default_value = ".artifacts/performance")]
    pub artifacts: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PlanArgs {
    /// Share of the path that may change: 3% or 0.03
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    pub share: f64,
    /// Relative change that is to be found: 5% finds growth and shrinking
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    pub change: f64,
    /// Cores the service uses [default: as in --profile, else 1]
    #[arg(long, value_name = "CORES", value_parser = amount)]
    pub cores: Option<f64>,
    /// Samples per second of CPU time [default: as in --profile, else 199]
    #[arg(long, short = 'F', value_name = "HZ", value_parser = amount)]
    pub frequency: Option<f64>,
    /// Share of such changes that are to be found
    #[arg(long, value_name = "SHARE", default_value = "80%", value_parser = percentage)]
    pub power: f64,
    /// Paths tested together [default: as many as --profile has, else 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub paths: Option<u32>,
    /// Runs a side that take turns, over which the samples are spread; one run cannot show how runs differ
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// A profile of the service: how its samples come in bursts, how many paths it has, its rate and cores
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Print JSON to standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CiArgs {
    /// Record two commands in turns and compare them
    Run(CiRunArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CiRunArgs {
    /// Command of the old build, for the shell
    #[arg(long, value_name = "CMD")]
    pub before: String,
    /// Command of the new build
    #[arg(long, value_name = "CMD")]
    pub after: String,
    /// Runs of each
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Samples per second of CPU time
    #[arg(long, short = 'F', value_name = "HZ", default_value_t = 499, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub frequency: u32,
    /// Units of work that one run of either command does [default: 1, as both commands do the same]
    #[arg(long, value_name = "N", value_parser = amount)]
    pub work: Option<f64>,
    /// The commands run for a fixed time instead of doing fixed work: compare CPU per second
    #[arg(long, conflicts_with = "work")]
    pub fixed_time: bool,
    #[command(flatten)]
    pub judging: JudgingArgs,
    /// Print `performance-comparison.json` to standard output, too
    #[arg(long)]
    pub json: bool,
}
