//! Compiles the BPF programs with clang and generates their skeleton into `OUT_DIR`.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

fn main() {
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target architecture");
    let define = match arch.as_str() {
        "x86_64" => "-D__TARGET_ARCH_x86",
        other => panic!("perfprof runs on x86_64 only so far, not on {other}"),
    };
    // Debian keeps `asm/types.h` in a folder that clang does not search when the target is bpf.
    let include = format!("-I/usr/include/{arch}-linux-gnu");
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    println!("cargo:rustc-env=PERFPROF_CLANG={}", version_of(&clang));
    let result = SkeletonBuilder::new()
        .clang(&clang)
        .source("bpf/sample.bpf.c")
        .clang_args(["-Wall", "-Werror", "-Ibpf", define, &include])
        .build_and_generate(out.join("sample.skel.rs"));
    if let Err(error) = result {
        panic!("failed to compile `bpf/sample.bpf.c` (clang and libelf-dev needed): {error:?}");
    }
}

/// The first line of `--version`; what the verifier has to do depends on it.
fn version_of(clang: &OsStr) -> String {
    let output = Command::new(clang).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.ok()
        .and_then(|text| Some(text.lines().next()?.trim().to_string()))
        .unwrap_or_default()
}
