//! `perfprof init`: a gate config to begin with, with every key and what it is for.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};

use super::gate::print;
use super::status::Log;
use super::stop::{Exit, Failure};
use super::workflow_args::InitArgs;
use crate::gate::discover::FOLDER;
use crate::gate::{Edition, Gate};

const TEMPLATE: &str = include_str!("init.yaml");

pub(super) fn run(args: &InitArgs, log: &Log) -> Result<Exit, Failure> {
    let folder = args.dir.join(FOLDER);
    let path = folder.join(format!("{}.yaml", args.edition.number()));
    let failed = |error: std::io::Error| {
        let message = format!("failed to write `{}`", path.display());
        Failure::new(Exit::NotWritten, anyhow::Error::new(error).context(message))
    };
    fs::create_dir_all(&folder).map_err(failed)?;
    // Exclusively: neither a config that is there nor a link in its place is written over.
    let mut file = match File::options().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let message = format!(
                "`{}` is there already, and is left as it is",
                path.display()
            );
            return Err(Failure::message(Exit::NotWritten, message)
                .hint("move it away first, or choose another folder with --dir DIR"));
        }
        result => result.map_err(failed)?,
    };
    let other = Edition::ALL
        .into_iter()
        .filter(|edition| *edition != args.edition)
        .find(|edition| folder.join(format!("{}.yaml", edition.number())).exists());
    let mut text = of(args.edition);
    // With two configs a gate has to be told which.
    let flag = match other {
        Some(_) => format!(" --edition {}", args.edition.number()),
        None => String::new(),
    };
    for gate in Gate::ALL {
        let command = format!("perfprof gate {} --", gate.id());
        let told = format!("perfprof gate {}{flag} --", gate.id());
        text = text.replace(&command, &told);
    }
    file.write_all(text.as_bytes()).map_err(failed)?;
    log.info(format!("wrote {}", path.display()));
    if let Some(other) = other {
        let number = other.number();
        log.warning(format!(
            "there is a config of edition {number}, too: add `--edition {number}` to the commands in {}",
            folder.join(format!("{number}.yaml")).display()
        ));
    }
    print(&format!(
        "next: put your services and load scenarios into {}, record each service (perfprof record --service NAME --artifacts {}),\n\
         then ask: perfprof gate diagnostics{flag} --coverage 0.90\n",
        path.display(),
        args.edition.artifacts(),
    ))?;
    Ok(Exit::Success)
}

fn of(edition: Edition) -> String {
    let critical = match edition {
        Edition::Fourteen => "0",
        Edition::Eighteen => "2",
    };
    TEMPLATE
        .replace("@EDITION@", &edition.number().to_string())
        .replace("@ROOT@", edition.artifacts())
        .replace("@CRITICAL@", critical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Config;
    use serde_json::Value;

    #[test]
    fn the_example_is_a_config_and_says_the_defaults() {
        for edition in Edition::ALL {
            let text = of(edition);
            assert!(!text.contains('@'), "every placeholder is filled in");
            let config = Config::of("x.yaml", text.as_bytes()).expect("a config");
            let own = &config.own;
            assert_eq!(own.edition, Some(edition));
            assert_eq!(own.services.len(), 2);
            assert_eq!(own.artifacts.as_deref(), Some(edition.artifacts().as_ref()));
            let default = Config::default().own;
            assert_eq!(own.diagnostics.coverage, default.diagnostics.coverage);
            assert_eq!(
                own.optimization.improvement_threshold,
                default.optimization.improvement_threshold
            );
            assert_eq!(own.baseline.completeness, default.baseline.completeness);
            assert_eq!(
                own.baseline.required_metrics,
                default.baseline.required_metrics
            );
            assert_eq!(config.artifacts_listed.len(), 8);
        }
    }

    #[test]
    fn the_example_fits_the_schema_and_the_schema_knows_a_mistake() {
        let schema: Value =
            serde_json::from_str(include_str!("../../schemas/gate-config.schema.json"))
                .expect("JSON");
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        for edition in Edition::ALL {
            let document: Value = serde_saphyr::from_str(&of(edition)).expect("YAML");
            let errors: Vec<String> = validator
                .iter_errors(&document)
                .map(|e| e.to_string())
                .collect();
            assert!(errors.is_empty(), "{errors:#?}");
            let mut bad = document.clone();
            bad["perfprof"]["diagnostics"]["covrage"] = serde_json::json!(0.9);
            assert!(!validator.is_valid(&bad));
        }
        let waivers: Value =
            serde_json::from_str(include_str!("../../schemas/gate-waivers.schema.json"))
                .expect("JSON");
        let validator = jsonschema::validator_for(&waivers).expect("a schema");
        let good = serde_json::json!({"schema": "perfprof.waivers", "schema_version": 1, "waivers": [{"gate": "diagnostics",
            "scope": "scenario", "name": "peak", "justification": "j", "approver": "a", "expires": "2026-12-31"}]});
        assert!(validator.is_valid(&good));
        let mut bad = good.clone();
        bad["waivers"][0]["expires"] = serde_json::json!("");
        assert!(!validator.is_valid(&bad));
    }
}
