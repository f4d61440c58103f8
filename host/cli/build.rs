//! Compiles the demo component, so that `weir demo` needs no file.
//!
//! It goes into a target directory of its own, which debug and release builds share: cargo holds a lock on the one it
//! works in, so building into the outer one from within would wait for itself.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "wasm32-wasip2";

fn main() -> ExitCode {
    match build() {
        Ok(wasm) => {
            println!("cargo::rustc-env=WEIR_DEMO_WASM={}", wasm.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            for line in problem.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"));
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let guest = here.join("demo");
    for file in ["demo/src", "demo/Cargo.toml", "demo/Cargo.lock", "../../wit"] {
        println!("cargo::rerun-if-changed={file}");
    }
    has_target(Path::new(&variable("RUSTC")?))?;

    // OUT_DIR is TARGET_DIR/PROFILE/build/PACKAGE/out.
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target_dir = out.ancestors().nth(4).unwrap_or(&out).join("weir-demo");
    let status = Command::new(variable("CARGO")?)
        .args(["build", "--release", "--locked", "--target", TARGET, "--manifest-path"])
        .arg(guest.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        // What the outer build was told about its own target and tools does not hold for the guest.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .map_err(|error| format!("cannot run cargo for the demo component: {error}"))?;
    if !status.success() {
        return Err(format!("the demo component in {} does not compile: see above", guest.display()));
    }
    Ok(target_dir.join(TARGET).join("release/weir_demo.wasm"))
}

fn has_target(rustc: &Path) -> Result<(), String> {
    let printed = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("cannot run {}: {error}", rustc.display()))?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    if printed.status.success() && libraries.is_dir() {
        return Ok(());
    }
    Err(format!(
        "the demo component is compiled for {TARGET}, and this toolchain cannot.\nRun: rustup target add {TARGET}"
    ))
}
