//! `perfprof evidence`: the manifest of everything in the artifact root, its verification, and the bundle.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::gate::{found, print};
use super::status::Log;
use super::stop::{Exit, Failure};
use super::words;
use super::workflow_args::EvidenceArgs;
use crate::artifacts::{ArtifactRoot, write_atomic};
use crate::evidence::{
    self, Context, EvidenceError, Expected, Finding, MANIFEST, Upstream, write_bundle,
};
use crate::gate::discover::Discovered;
use crate::render::escape::visible;

/// More findings than this are counted, not printed.
const MAX_PRINTED: usize = 200;

pub(super) fn run(args: &EvidenceArgs, log: &Log) -> Result<Exit, Failure> {
    let found = found(
        args.config.as_deref(),
        args.edition,
        args.artifacts.as_deref(),
    )?;
    let dir = found.artifacts.clone();
    if !dir.is_dir() {
        let message = format!("there is no artifact root `{}`", dir.display());
        return Err(Failure::message(Exit::BadInput, message).hint(
            "record something first (`perfprof record`), or name another with --artifacts DIR",
        ));
    }
    if args.verify {
        let exit = verify(args, &dir)?;
        if exit == Exit::Success && args.bundle {
            bundle(&dir, log)?;
        }
        return Ok(exit);
    }
    write(args, &dir, &context(&found)?, log)?;
    if args.bundle {
        bundle(&dir, log)?;
    }
    Ok(Exit::Success)
}

fn write(args: &EvidenceArgs, dir: &Path, context: &Context, log: &Log) -> Result<(), Failure> {
    let root = ArtifactRoot::open(dir).map_err(words::not_written)?;
    // Nobody writes a document while it is hashed.
    let locked = root.lock().map_err(words::not_written)?;
    let manifest = evidence::manifest(dir, context).map_err(failure)?;
    let path = dir.join(MANIFEST);
    let text = format!("{:#}\n", manifest.document);
    write_atomic(&path, text.as_bytes()).map_err(words::not_written)?;
    drop(locked);
    for (path, reason) in &manifest.left_out {
        log.warning(format!("`{path}` is left out: {reason}"));
    }
    for path in &manifest.missing {
        log.warning(format!(
            "`{path}` is asked for by the config, and not there"
        ));
    }
    log.info(format!("wrote {}", path.display()));
    match args.json {
        true => print(&text),
        false => print(&summary(&manifest.document)),
    }
}

fn summary(document: &Value) -> String {
    let summary = &document["summary"];
    let mut out = format!(
        "evidence of protocol {}: {} of {} artifacts, {} bytes; {} of {} gates passed\n",
        visible(document["protocol_id"].as_str().unwrap_or_default()),
        summary["artifacts_present"],
        summary["artifacts_total"],
        summary["total_bytes"],
        summary["validators_passed"],
        summary["validators_total"],
    );
    for validator in document["validators"].as_array().into_iter().flatten() {
        let text = |key: &str| visible(validator[key].as_str().unwrap_or_default());
        let number = |key: &str| validator[key].as_f64();
        let score = number("score").zip(number("threshold"));
        let score = score.map_or(String::new(), |(score, threshold)| {
            let score = ((score + 1e-9) * 100.0).floor() / 100.0;
            format!(", score {score:.2} of at least {threshold:.2}")
        });
        let stale = match text("stale") {
            reason if reason.is_empty() => reason,
            reason => format!(", STALE ({reason}; ask the gate again)"),
        };
        let notes = text("notes");
        let notes = if notes.is_empty() {
            notes
        } else {
            format!(": {notes}")
        };
        out.push_str(&format!(
            "  {} {}{score}{stale}{notes}\n",
            text("name"),
            text("status")
        ));
    }
    out
}

fn verify(args: &EvidenceArgs, dir: &Path) -> Result<Exit, Failure> {
    let (findings, compared) = evidence::verify(dir).map_err(|error| {
        failure(error).hint(format!(
            "`perfprof evidence --artifacts {}` writes it",
            dir.display()
        ))
    })?;
    match args.json {
        true => print(&format!("{:#}\n", findings_json(&findings, compared)))?,
        false => print(&findings_text(&findings, compared, dir))?,
    }
    match findings.is_empty() {
        true => Ok(Exit::Success),
        false => Ok(Exit::Failed),
    }
}

fn findings_json(findings: &[Finding], compared: usize) -> Value {
    let finding = |f: &Finding| json!({"kind": f.kind.id(), "path": f.path, "detail": f.detail});
    json!({
        "schema": "perfprof.evidence-verification",
        "schema_version": 1,
        "verified": findings.is_empty(),
        "compared": compared,
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn findings_text(findings: &[Finding], compared: usize, dir: &Path) -> String {
    if findings.is_empty() {
        return format!(
            "verified: {compared} files are as the manifest says, and there are no others\n"
        );
    }
    let mut out = format!(
        "not verified: {} of {compared} listed files and others differ\n",
        findings.len()
    );
    for finding in findings.iter().take(MAX_PRINTED) {
        let (path, detail) = (visible(&finding.path), visible(&finding.detail));
        out.push_str(&format!("  {}: {path}: {detail}\n", finding.kind.id()));
    }
    if findings.len() > MAX_PRINTED {
        out.push_str(&format!("  and {} more\n", findings.len() - MAX_PRINTED));
    }
    out.push_str(&format!(
        "  do: restore the files; or, when the change is meant, write the manifest anew: perfprof evidence --artifacts {}\n",
        visible(&dir.display().to_string())
    ));
    out
}

fn bundle(dir: &Path, log: &Log) -> Result<(), Failure> {
    let root = ArtifactRoot::open(dir).map_err(words::not_written)?;
    let _locked = root.lock().map_err(words::not_written)?;
    let (path, count) = write_bundle(dir).map_err(failure)?;
    log.info(format!("wrote {} with {count} files", path.display()));
    Ok(())
}

/// What the config and the environment say.
fn context(found: &Discovered) -> Result<Context, Failure> {
    let config = &found.config;
    let number = found.edition.number();
    let (mut expected, mut upstream) = (Vec::new(), Vec::new());
    for listed in &config.artifacts_listed {
        let (path, description) = (Path::new(&listed.path), listed.description.clone());
        match inside(path, &found.artifacts) {
            // Made of the rest: it cannot list itself.
            Some(path) if path == MANIFEST || path == evidence::BUNDLE => {}
            Some(path) => expected.push(Expected { path, description }),
            None => upstream.push(Upstream {
                path: path.to_owned(),
                description,
            }),
        }
    }
    upstream.extend(config.own.upstream.iter().map(|input| Upstream {
        path: input.path.clone(),
        description: input.description.clone(),
    }));
    Ok(Context {
        protocol_id: config
            .protocol_id
            .clone()
            .unwrap_or_else(|| number.to_string()),
        protocol_name: config.protocol_title.clone(),
        edition: number,
        expected,
        upstream,
        epoch: source_date_epoch()?,
    })
}

/// The path below the root, with `/`; `None` when it is not below it.
fn inside(path: &Path, root: &Path) -> Option<String> {
    let plain = |path: &Path| -> PathBuf {
        path.components()
            .filter(|part| *part != std::path::Component::CurDir)
            .collect()
    };
    let below = plain(path);
    let below = below.strip_prefix(plain(root)).ok()?;
    below
        .to_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn source_date_epoch() -> Result<Option<i64>, Failure> {
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    match text.trim().parse::<i64>() {
        Ok(seconds) => Ok(Some(seconds)),
        Err(_) => Err(Failure::message(
            Exit::Usage,
            format!("`SOURCE_DATE_EPOCH` is `{text}`, which is no number of seconds"),
        )),
    }
}

fn failure(error: EvidenceError) -> Failure {
    let exit = match error.is_output() {
        true => Exit::NotWritten,
        false => Exit::BadInput,
    };
    Failure::new(exit, error)
}
