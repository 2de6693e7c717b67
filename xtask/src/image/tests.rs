//! The image's bytes, judged by `tar` and by what the specification says of them.

use std::process::Command;

use super::oci::tar::{Entry, archive};
use super::oci::{Image, Layout};
use super::*;

fn layout() -> Layout {
    let image = Image {
        name: "localhost/perfprof:test".into(),
        layer: contents::layer(b"no program".to_vec()),
        entrypoint: contents::entrypoint(),
        labels: contents::labels("1.2.3"),
        created: Some("2026-01-02T03:04:05Z".into()),
        compression: 1,
    };
    image.layout().expect("a good image")
}

#[test]
fn options_are_understood_or_refused_by_name() {
    let options = Options::parse(&["--profile", "dev", "--out", "/a"]).expect("good");
    assert_eq!(
        (options.profile.as_str(), options.out),
        ("dev", PathBuf::from("/a"))
    );
    for (words, named) in [
        (&["--profile", "fast"][..], "fast"),
        (&["--out"], "--out"),
        (&["--push", "x"], "--push"),
    ] {
        let error = Options::parse(words).expect_err("refused");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn the_library_is_the_one_that_cargo_names() {
    let ours =
        r#"{"target":{"name":"perfprof","kind":["lib"]},"filenames":["/t/a.rlib","/t/a.rmeta"]}"#;
    assert_eq!(library_in(ours), Some(PathBuf::from("/t/a.rlib")));
    for other in [
        r#"{"target":{"name":"perfprof","kind":["bin"]},"filenames":["/t/perfprof"]}"#,
        r#"{"target":{"name":"serde","kind":["lib"]},"filenames":["/t/s.rlib"]}"#,
        "warning: not JSON",
    ] {
        assert_eq!(library_in(other), None, "{other}");
    }
}

#[test]
fn a_layer_lists_as_its_entries_and_nothing_else() {
    let folder = std::env::temp_dir().join(format!("perfprof-tar-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("writable");
    let file = folder.join("layer.tar");
    let bytes = archive(contents::layer(vec![7; 1000])).expect("good entries");
    assert_eq!(bytes.len() % 512, 0);
    fs::write(&file, bytes).expect("writable");
    let listed = Command::new("tar")
        .args(["--numeric-owner", "--full-time", "--utc", "-tvf"])
        .arg(&file)
        .output()
        .expect("tar can be run");
    fs::remove_dir_all(&folder).expect("ours");
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(listed.status.success() && said.is_empty(), "{said}");
    let listed = String::from_utf8_lossy(&listed.stdout);
    let lines: Vec<String> = listed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "-rwxr-xr-x 0/0 1000 1970-01-01 00:00:00 perfprof",
            "drwxrwxrwt 0/0 0 1970-01-01 00:00:00 tmp/",
            "drwxr-xr-x 0/0 0 1970-01-01 00:00:00 var/",
            "drwxr-xr-x 0/0 0 1970-01-01 00:00:00 var/lib/",
            "drwx------ 0/0 0 1970-01-01 00:00:00 var/lib/perfprof/",
        ]
    );
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let named = |path: &str| Entry::Directory {
        path: path.into(),
        mode: 0o755,
    };
    assert!(archive(vec![named(&"x".repeat(100))]).is_err());
    assert!(archive(vec![named("/etc")]).is_err());
    assert!(archive(vec![named("a"), named("a")]).is_err());
}

#[test]
fn the_same_content_gives_the_same_image() {
    assert_eq!(layout().digest, layout().digest);
    assert!(layout().digest.starts_with("sha256:"));
}
