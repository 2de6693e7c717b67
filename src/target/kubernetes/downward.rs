//! What Kubernetes tells a container about its own pod: the downward API, by environment and by files.
//!
//! In: variables, and a folder that a `downwardAPI` volume is mounted at. Out: the [`OwnPod`], node, container, and the
//! pod's labels. It reads regular files of known names only, and follows no link out of that folder (the kubelet's own
//! lead through `..data`). Annotations are left alone: they are long, and others keep secrets in them.
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/downward-api/>.

use std::io::{self, Read};
use std::path::Path;

use crate::target::labels::Labels;
use crate::target::root::Root;
use crate::target::selection::OwnPod;

/// All labels of a pod together; the API server allows annotations 256 KiB, and labels come nowhere near.
const MAX_FILE_BYTES: u64 = 256 << 10;

/// What is known of the pod around perfprof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downward {
    pub pod: OwnPod,
    pub node: Option<String>,
    /// The container that is meant where nothing else tells; there is no field for it, so somebody has written it.
    pub container: Option<String>,
    /// The pod's own.
    pub labels: Labels,
}

impl Downward {
    /// Of `POD_NAME`, `POD_NAMESPACE`, `POD_UID`, `NODE_NAME` and `CONTAINER_NAME`. `var` looks one up.
    pub fn of_environment(var: impl Fn(&str) -> Option<String>) -> Downward {
        let told = |name: &str| var(name).and_then(|value| one_value(&value));
        Downward {
            pod: OwnPod {
                uid: told("POD_UID"),
                name: told("POD_NAME"),
                namespace: told("POD_NAMESPACE"),
            },
            node: told("NODE_NAME"),
            container: told("CONTAINER_NAME"),
            labels: Labels::default(),
        }
    }

    /// Adds what a folder tells, which is believed more. Known files: `labels`; `namespace`, `name`, `uid`, `node` and
    /// `container`, or with `pod_` or `_name` around, in any usual spelling (`pod-name`, `nodeName`).
    ///
    /// # Errors
    /// When the folder cannot be opened or listed, or `labels` cannot be read.
    pub fn add_folder(&mut self, folder: &Path) -> io::Result<()> {
        let root = Root::at(folder)?;
        for entry in std::fs::read_dir(folder)?.take(1024).flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with("..")) else {
                continue;
            };
            if name == "labels" {
                self.labels = parse_labels(&read(&root, name)?);
            } else if let Some(field) = self.field(name)
                && let Some(value) = read(&root, name).ok().and_then(|text| one_value(&text))
            {
                *field = Some(value);
            }
        }
        Ok(())
    }

    fn field(&mut self, name: &str) -> Option<&mut Option<String>> {
        let letters = name.chars().filter(char::is_ascii_alphabetic);
        let plain: String = letters.map(|c| c.to_ascii_lowercase()).collect();
        match plain.as_str() {
            "namespace" | "podnamespace" => Some(&mut self.pod.namespace),
            "name" | "pod" | "podname" => Some(&mut self.pod.name),
            "uid" | "poduid" => Some(&mut self.pod.uid),
            "node" | "nodename" => Some(&mut self.node),
            "container" | "containername" => Some(&mut self.container),
            _ => None,
        }
    }
}

fn read(root: &Root, name: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = root.open(Path::new(name))?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Names and UIDs are one word.
fn one_value(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = (1..=253).contains(&text.len());
    let is_word = text.bytes().all(|b| b.is_ascii_graphic());
    (fits && is_word).then(|| text.to_owned())
}

/// Lines of `key="value"`, as the kubelet's `FormatMap` writes them. A line of another shape is left out.
fn parse_labels(text: &str) -> Labels {
    let mut labels = Labels::default();
    for line in text.lines() {
        if let Some((key, quoted)) = line.split_once('=')
            && let Some(value) = unquote(quoted)
        {
            labels.set(key.trim(), &value);
        }
    }
    labels
}

/// Undoes Go's `%q`. Source: `strconv.Quote`.
fn unquote(quoted: &str) -> Option<String> {
    let inner = quoted.trim().strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let escaped = match c {
            '"' => return None,
            '\\' => chars.next()?,
            c => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        let digits = match escaped {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other => {
                bytes.push(simple_escape(other)?);
                continue;
            }
        };
        let hex: String = chars.by_ref().take(digits).collect();
        let is_hex = hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_hex.then(|| u32::from_str_radix(&hex, 16).ok())??;
        match escaped {
            'x' => bytes.push(number as u8),
            _ => {
                bytes.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut [0; 4]).as_bytes())
            }
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn simple_escape(letter: char) -> Option<u8> {
    Some(match letter {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '"' | '\'' => letter as u8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A volume as the kubelet's atomic writer lays it out.
    fn volume() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary folder");
        let data = dir.path().join("..2026_11_29_02_15_00.123456789");
        fs::create_dir(&data).expect("made");
        symlink("..2026_11_29_02_15_00.123456789", dir.path().join("..data")).expect("linked");
        let files = [
            (
                "labels",
                "app=\"api\"\napp.kubernetes.io/name=\"the \\\"api\\\"\"\nno line\npod-template-hash=\"7f9c6d5b8\"",
            ),
            ("annotations", "secret=\"x\""),
            ("namespace", "shop"),
            ("pod-name", "api-7f9c6d5b8-x2x4q\n"),
            ("podUID", "73dc8baf-43a0-413e-aac2-5eb0868f6c1a"),
            ("cpu_limit", "2"),
        ];
        for (name, text) in files {
            fs::write(data.join(name), text).expect("written");
            symlink(format!("..data/{name}"), dir.path().join(name)).expect("linked");
        }
        dir
    }

    #[test]
    fn a_volume_of_the_kubelet_is_read_through_its_links() {
        let environment = |name: &str| match name {
            "POD_NAME" => Some("weaker".to_owned()),
            "NODE_NAME" => Some("node-1".to_owned()),
            "CONTAINER_NAME" => Some(" \n".to_owned()),
            _ => None,
        };
        let mut own = Downward::of_environment(environment);
        assert_eq!(own.pod.name.as_deref(), Some("weaker"));
        let dir = volume();
        own.add_folder(dir.path()).expect("readable");
        assert_eq!(own.pod.name.as_deref(), Some("api-7f9c6d5b8-x2x4q"));
        assert_eq!(own.pod.namespace.as_deref(), Some("shop"));
        assert_eq!(
            own.pod.uid.as_deref(),
            Some("73dc8baf-43a0-413e-aac2-5eb0868f6c1a")
        );
        assert_eq!((own.node.as_deref(), own.container), (Some("node-1"), None));
        let labels: Vec<(&str, &str)> = own.labels.iter().collect();
        let expected = [
            ("app", "api"),
            ("app_kubernetes_io_name", "the \"api\""),
            ("pod_template_hash", "7f9c6d5b8"),
        ];
        assert_eq!(labels, expected);
    }

    #[test]
    fn no_link_leads_out_of_the_folder_and_nothing_blocks() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let outside = tempfile::NamedTempFile::new().expect("temporary file");
        fs::write(outside.path(), "stolen").expect("written");
        symlink(outside.path(), dir.path().join("namespace")).expect("linked");
        nix::unistd::mkfifo(&dir.path().join("name"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        let mut own = Downward::default();
        own.add_folder(dir.path()).expect("nothing is read");
        assert_eq!(own, Downward::default());
        symlink(outside.path(), dir.path().join("labels")).expect("linked");
        assert!(own.add_folder(dir.path()).is_err());
        assert!(own.add_folder(&dir.path().join("none")).is_err());
    }

    #[test]
    fn every_escape_of_go_is_undone_and_others_are_refused() {
        assert_eq!(
            unquote(r#""a\tb\x41\u00e9\U0001f600\\\"""#).as_deref(),
            Some("a\tbAé😀\\\"")
        );
        // Go writes a byte that is no UTF-8 as `\x`.
        assert_eq!(unquote(r#""\xff""#).as_deref(), Some("\u{fffd}"));
        for bad in [
            "",
            "\"",
            "a",
            r#""a"b""#,
            r#""\"#,
            r#""\q""#,
            r#""\x4""#,
            r#""\ud800""#,
            r#""\u+123""#,
        ] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
        let endless = format!("a=\"{}", "\\x41".repeat(100_000));
        assert!(parse_labels(&endless).is_empty());
    }
}
