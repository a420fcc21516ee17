//! Builds the BPF program with the toolchain that `cargo xtask setup` has found, and embeds it.
//!
//! Not `aya-build`: that one finds its compiler through rustup or not at all and forces `build-std` on Debian's
//! (docs/decisions.md). What it passes to the compiler is passed here too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

/// Where `cargo xtask setup` writes what it has found, at the workspace's root.
const TOOLCHAIN: &str = ".bpf-toolchain";
/// The crates that use unstable features, for a compiler that is not a nightly.
const UNSTABLE: &str = "weir_bpf,lb_ebpf,aya_ebpf,aya_ebpf_bindings,aya_ebpf_cty,core";
const TARGET: &str = "bpfel-unknown-none";

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = manifest.parent().context("the package lies in the workspace")?;
    for input in ["lb-ebpf/src", "lb-ebpf/Cargo.toml", "lb-ebpf/build.rs", "lb-common/src", "Cargo.lock", TOOLCHAIN] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    let toolchain = toolchain(&root.join(TOOLCHAIN))?;
    let object = build(root, &toolchain)?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("weir_bpf");
    fs::copy(&object, &out).with_context(|| format!("copying {}", object.display()))?;
    Ok(())
}

/// The `key = value` lines of the file.
fn toolchain(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("{}: no BPF toolchain is set up; run: cargo xtask setup", path.display()))?;
    let entries = text.lines().filter_map(|line| line.split_once('='));
    Ok(entries.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect())
}

/// Builds the program; where it lies.
fn build(root: &Path, toolchain: &BTreeMap<String, String>) -> Result<PathBuf> {
    let entry =
        |key: &str| toolchain.get(key).with_context(|| format!("{TOOLCHAIN} has no {key:?}; run: cargo xtask setup"));
    let target_directory = PathBuf::from(env::var("OUT_DIR")?).join("bpf");
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        // 32-bit arithmetic and jumps, and atomic operations that return what was there: kernels from 5.12 on have them.
        "-Ctarget-cpu=v3".into(),
        // The linker makes BTF of debug info.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        format!("-Clinker={}", entry("linker")?),
    ];
    let mut command = Command::new(entry("cargo")?);
    command
        .current_dir(root)
        .args(["build", "--package", "lb-ebpf", "--bin", "weir_bpf", "--release", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_directory)
        .env("RUSTC", entry("rustc")?)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    for inherited in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "RUSTUP_TOOLCHAIN", "CARGO"] {
        command.env_remove(inherited);
    }
    if entry("build_std")? == "true" {
        command.args(["-Z", "build-std=core"]);
    } else {
        command.env("RUSTC_BOOTSTRAP", UNSTABLE);
    }
    if env::var_os("CARGO_FEATURE_TRACE").is_some() {
        command.args(["--features", "trace"]);
    }
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("building the BPF program failed; {command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let object = target_directory.join(TARGET).join("release/weir_bpf");
    ensure!(object.exists(), "the build made no {}", object.display());
    Ok(object)
}
