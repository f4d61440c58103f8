//! Compiles the components inside `weir`: that of the demo, so that `weir demo` needs no file, the middleware and the client of
//! `weir compose`, and the client for WASI 0.2 that `weir parts` writes.
//!
//! They go into a target directory of their own, which debug and release builds share: cargo holds a lock on the one it
//! works in, so building into the outer one from within would wait for itself.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "wasm32-wasip2";

/// A component inside the program.
struct Guest {
    /// Where it is, from here.
    folder: &'static str,
    /// What is compiled from beside its own sources, from here.
    beside: &'static [&'static str],
    /// What cargo makes of it.
    file: &'static str,
    /// The variable with the path of that.
    variable: &'static str,
}

const GUESTS: [Guest; 4] = [
    Guest {
        folder: "demo",
        beside: &["demo/Cargo.lock", "../../wit"],
        file: "weir_demo.wasm",
        variable: "WEIR_DEMO_WASM",
    },
    Guest {
        folder: "../../guest/middleware",
        beside: &[
            "../../guest/middleware/Cargo.lock",
            "../../guest/middleware/wit",
            "../../wit",
            "../../guest/sdk/src",
            "../../guest/sdk/Cargo.toml",
        ],
        file: "weir_middleware.wasm",
        variable: "WEIR_MIDDLEWARE_WASM",
    },
    Guest {
        folder: "../../guest/client/async",
        beside: &[
            "../../guest/client/Cargo.lock",
            "../../guest/client/Cargo.toml",
            "../../guest/client/core",
            "../../guest/client/shared",
        ],
        file: "weir_client.wasm",
        variable: "WEIR_CLIENT_WASM",
    },
    // What it is compiled from beside its own sources is the same.
    Guest {
        folder: "../../guest/client/sync",
        beside: &[],
        file: "weir_client_sync.wasm",
        variable: "WEIR_CLIENT_SYNC_WASM",
    },
];

fn main() -> ExitCode {
    match GUESTS.iter().try_for_each(build) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            for line in problem.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build(guest: &Guest) -> Result<(), String> {
    let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"));
    let folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join(guest.folder);
    for file in ["src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}/{file}", guest.folder);
    }
    for path in guest.beside {
        println!("cargo::rerun-if-changed={path}");
    }
    has_target(Path::new(&variable("RUSTC")?))?;

    // OUT_DIR is TARGET_DIR/PROFILE/build/PACKAGE/out.
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target_dir = out.ancestors().nth(4).unwrap_or(&out).join("weir-guests");
    let status = Command::new(variable("CARGO")?)
        .args(["build", "--release", "--locked", "--target", TARGET, "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
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
        .map_err(|error| format!("cannot run cargo for {}: {error}", guest.folder))?;
    if !status.success() {
        return Err(format!("the component in {} does not compile: see above", folder.display()));
    }
    let wasm = target_dir.join(TARGET).join("release").join(guest.file);
    println!("cargo::rustc-env={}={}", guest.variable, wasm.display());
    Ok(())
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
        "components inside `weir` are compiled for {TARGET}, and this toolchain cannot.\nRun: rustup target add {TARGET}"
    ))
}
