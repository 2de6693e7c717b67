//! A container image without a registry and without a program that makes images: an OCI image layout, as a folder or as
//! one tar archive (`podman load`, `ctr images import`, `skopeo copy oci-archive:`).
//!
//! In: the entries of the only layer, what the container runs, a name. Out: bytes that depend on these alone.
//! Source: OCI image specification 1.1, `image-layout.md`, `manifest.md`, `config.md`, `annotations.md`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) mod tar;

use tar::Entry;

#[derive(Debug)]
pub(crate) struct Image {
    /// With registry and tag, such as `localhost/perfprof:0.1.0`.
    pub(crate) name: String,
    pub(crate) layer: Vec<Entry>,
    pub(crate) entrypoint: Vec<String>,
    /// Set in the image and, as annotations, in its manifest: `org.opencontainers.image.*`.
    pub(crate) labels: BTreeMap<String, String>,
    /// ISO 8601; without it, tools show an image as very old.
    pub(crate) created: Option<String>,
    /// Of gzip, 0 to 9.
    pub(crate) compression: u32,
}

/// The files of a layout, by path.
#[derive(Debug)]
pub(crate) struct Layout {
    files: BTreeMap<String, Vec<u8>>,
    /// `sha256:…` of the manifest: what a registry calls the image's digest.
    pub(crate) digest: String,
}

const GZIP_OF_NO_SYSTEM: u8 = 255;

impl Image {
    pub(crate) fn layout(self) -> Result<Layout, String> {
        let mut blobs = Blobs::default();
        let archive = tar::archive(self.layer)?;
        let unpacked = digest_of(&archive);
        let layer = blobs.add(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            gzip(&archive, self.compression)?,
        );
        let mut config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "WorkingDir": "/",
                "StopSignal": "SIGTERM",
                "Labels": self.labels,
            },
            "rootfs": { "type": "layers", "diff_ids": [unpacked] },
            "history": [{ "created_by": "cargo xtask image" }],
        });
        if let Some(created) = &self.created {
            config["created"] = json!(created);
            config["history"][0]["created"] = json!(created);
        }
        let config = blobs.add(
            "application/vnd.oci.image.config.v1+json",
            bytes_of(&config),
        );
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
            "annotations": self.labels,
        });
        let mut manifest = blobs.add(
            "application/vnd.oci.image.manifest.v1+json",
            bytes_of(&manifest),
        );
        let digest = manifest["digest"].as_str().unwrap_or_default().to_string();
        // The first is the specification's (podman, skopeo), the second what containerd and Docker go by.
        manifest["annotations"] = json!({
            "org.opencontainers.image.ref.name": self.name,
            "io.containerd.image.name": self.name,
        });
        manifest["platform"] = json!({ "architecture": "amd64", "os": "linux" });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        });
        let mut files = blobs.files;
        files.insert("index.json".into(), bytes_of(&index));
        files.insert(
            "oci-layout".into(),
            b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec(),
        );
        Ok(Layout { files, digest })
    }
}

impl Layout {
    /// Writes the layout into `folder`, which is made; blobs of other images in it stay.
    pub(crate) fn write_folder(&self, folder: &Path) -> Result<(), String> {
        for (name, bytes) in &self.files {
            let path = folder.join(name);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent)
                .map_err(|e| format!("failed to create `{}`: {e}", parent.display()))?;
            write(&path, bytes)?;
        }
        Ok(())
    }

    /// Writes the same as one file (an `oci-archive`).
    pub(crate) fn write_archive(self, path: &Path) -> Result<(), String> {
        let folders = ["blobs", "blobs/sha256"].map(|path| Entry::Directory {
            path: path.into(),
            mode: 0o755,
        });
        let files = self.files.into_iter().map(|(path, bytes)| Entry::File {
            path,
            mode: 0o644,
            bytes,
        });
        write(path, &tar::archive(files.chain(folders).collect())?)
    }
}

#[derive(Default)]
struct Blobs {
    files: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    /// Keeps `bytes` under their hash; the descriptor by which others refer to them.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest_of(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        let name = digest.replace("sha256:", "blobs/sha256/");
        self.files.insert(name, bytes);
        descriptor
    }
}

fn digest_of(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn bytes_of(document: &Value) -> Vec<u8> {
    document.to_string().into_bytes()
}

/// Without time and system in its head, so that the bytes depend on the content alone.
fn gzip(bytes: &[u8], level: u32) -> Result<Vec<u8>, String> {
    let builder = GzBuilder::new()
        .mtime(0)
        .operating_system(GZIP_OF_NO_SYSTEM);
    let mut packer = builder.write(Vec::new(), Compression::new(level));
    let packed = packer.write_all(bytes).and_then(|()| packer.finish());
    packed.map_err(|e| format!("failed to pack the layer: {e}"))
}

/// To a name beside it, then renamed: nobody loads half an image.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let fail = |e| format!("failed to write `{}`: {e}", path.display());
    let aside = path.with_extension(format!("aside-{}", std::process::id()));
    fs::write(&aside, bytes).map_err(fail)?;
    fs::rename(&aside, path).map_err(fail)
}
