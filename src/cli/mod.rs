//! The command line: what was typed, what it means, one file per command, and how an end is told.
//!
//! This is the only room that joins the recording side with the reading side, and the only one that prints. Status
//! goes to standard error, data to standard output.
#![forbid(unsafe_code)]

mod agent;
mod args;
mod arm;
mod artifact_root;
mod baseline;
mod capacity;
mod choose;
mod ci;
mod compare;
mod doctor;
mod evidence;
mod gate;
mod gate_text;
mod init;
mod load_test;
mod plan;
mod plan_comparison;
mod planning;
mod publish;
mod record;
mod report;
mod selecting;
mod show;
mod status;
mod stdout;
mod stop;
mod symbolize;
mod symbols;
mod trend;
mod waiting;
mod watch;
mod words;
mod workflow_args;

use clap::Parser;

use crate::cli::args::{CiArgs, Cli, Command};
use crate::symbolize::worker;

pub use stop::{Exit, Failure};

/// Runs the command of this process and says how it ended.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed to standard output and are no errors.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            let _ = error.print();
            return exit;
        }
    };
    let log = status::Log::new(&cli.verbosity);
    let result = match cli.command {
        Command::Record(args) => record::run(*args, &log),
        Command::Report(args) => report::run(args, &log),
        Command::Symbolize(args) => symbolize::run(args, &log),
        Command::Capacity(args) => capacity::run(&args, &log),
        Command::LoadTest(args) => load_test::run(&args, &log),
        Command::Baseline(args) => baseline::run(&args, &log),
        Command::Trend(args) => trend::run(&args, &log),
        Command::Compare(args) => compare::run(&args, &log),
        Command::Plan(args) => plan_comparison::run(&args),
        Command::Ci(CiArgs::Run(args)) => ci::run(&args, &log),
        Command::Gate(args) => gate::run(&args, &log),
        Command::Evidence(args) => evidence::run(&args, &log),
        Command::Init(args) => init::run(&args, &log),
        Command::Agent(args) => agent::run(*args, &log),
        Command::Doctor(args) => doctor::run(args.json),
        Command::Show(args) => show::run(&args),
        Command::SymbolWorker(args) => worker::serve(args.memory_bytes)
            .map(|()| Exit::Success)
            .map_err(|error| Failure::new(Exit::Failed, error)),
    };
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            log.failure(&failure);
            failure.exit
        }
    }
}
