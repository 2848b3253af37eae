//! Says from what the program is built, and links it for Linux to a fixed address.

#![expect(clippy::disallowed_methods, reason = "fs_err is not worth building twice")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=CISTAGE_BUILD=blake3:{}", build());
    if let Some(commit) = commit() {
        println!("cargo::rustc-env=CISTAGE_COMMIT={commit}");
    }
    // A position-independent program has some thirty thousand pointers moved at each start: a tenth or more of the
    // time that `cistage --version` takes, paid again by the worker process of every stage.
    let is = |variable: &str, value: &str| std::env::var(variable).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        compile_kernels("src/model/device/cuda/kernels.cu");
    }
}

/// Compiles GPU kernels to PTX, of which the driver makes machine code for the GPU that it finds.
fn compile_kernels(source: &str) {
    for variable in ["CUDA_HOME", "CUDA_COMPUTE_CAP", "NVCC"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let installed = variable("CUDA_HOME").map(|home| format!("{home}/bin/nvcc"));
    let compiler = variable("NVCC").or(installed).unwrap_or_else(|| "nvcc".to_owned());
    // The oldest that nvcc 13 knows with bfloat16: its PTX runs on all later GPUs.
    let capability = variable("CUDA_COMPUTE_CAP").unwrap_or_else(|| "80".to_owned());
    let out = format!("{}/kernels.ptx", std::env::var("OUT_DIR").expect("cargo sets it"));
    let arch = format!("-arch=compute_{capability}");
    let done = Command::new(&compiler).args(["--ptx", "-O3", &arch, source, "-o", &out]).status();
    match done {
        Ok(status) if status.success() => {}
        Ok(_) => panic!("{compiler} could not compile {source}: its messages stand above"),
        Err(error) => panic!(
            "the feature `cuda` needs nvcc of the CUDA toolkit, and {compiler} can't be started: {error}; CUDA_HOME or NVCC \
             say where it is"
        ),
    }
}

/// Digest of the sources, the locked dependencies, the compiler and what it was told.
fn build() -> String {
    let mut parts = BTreeMap::new();
    for file in ["Cargo.toml", "Cargo.lock", "build.rs"] {
        println!("cargo::rerun-if-changed={file}");
        parts.insert(file.to_owned(), std::fs::read(file).unwrap_or_default());
    }
    println!("cargo::rerun-if-changed=src");
    read(Path::new("src"), &mut parts);
    for name in ["TARGET", "PROFILE", "OPT_LEVEL", "DEBUG", "CARGO_ENCODED_RUSTFLAGS"] {
        parts.insert(name.to_owned(), std::env::var(name).unwrap_or_default().into_bytes());
    }
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_FEATURE_")) {
        parts.insert(name, Vec::new());
    }
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    parts.insert("compiler".to_owned(), said(&compiler, &["-vV"]).unwrap_or_default().into_bytes());
    let mut hasher = blake3::Hasher::new_derive_key("cistage build 1");
    for (name, bytes) in parts {
        for part in [name.as_bytes(), &bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn read(folder: &Path, parts: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(&path, parts);
        } else {
            parts.insert(path.to_string_lossy().replace('\\', "/"), std::fs::read(&path).unwrap_or_default());
        }
    }
}

/// The commit of the checkout, marked where what is built has other bytes; whoever packs the program may name it.
fn commit() -> Option<String> {
    println!("cargo::rerun-if-env-changed=CISTAGE_COMMIT");
    if let Ok(commit) = std::env::var("CISTAGE_COMMIT") {
        return Some(commit).filter(|commit| !commit.is_empty());
    }
    // A checkout that lies in another repository is not that one's.
    let log = said("git", &["rev-parse", "--git-path", "logs/HEAD"])?;
    if !said("git", &["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    println!("cargo::rerun-if-changed={log}");
    let commit = said("git", &["rev-parse", "HEAD"])?;
    let changed = said("git", &["status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock", "build.rs"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}, with changes") })
}

/// What a program prints, where it succeeds.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
