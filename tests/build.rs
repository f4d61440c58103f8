//! Compiles the test guests and tells the tests where they are.
//!
//! They go into a target directory of their own, next to the workspace's: two cargo processes never wait for each
//! other's lock. The generated `foreach_guest!` names every guest, so that one without a test does not compile.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "wasm32-wasip2";

fn main() {
    if let Err(error) = run() {
        println!("cargo::error={error}");
    }
}

fn run() -> Result<(), String> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let guests = here.join("guests");
    println!("cargo::rerun-if-changed={}", guests.display());
    println!("cargo::rerun-if-changed={}", here.join("../wit").display());

    check_target()?;
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let target_dir = out.ancestors().nth(4).ok_or("OUT_DIR is not where it always was")?.join("guests");
    build(&guests, &target_dir)?;
    // The clients are products, and no test guests: they are named apart.
    let client = here.join("../guest/client");
    println!("cargo::rerun-if-changed={}", client.display());
    let client_dir = target_dir.with_file_name("clients");
    build(&client, &client_dir)?;
    let [built, clients] = [target_dir, client_dir].map(|dir| dir.join(TARGET).join("release"));
    write_list(&guests, &built, &out.join("guests.rs"))?;
    write_clients(&clients, &out.join("clients.rs"))
}

fn check_target() -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("{}: {error}", rustc.display()))?;
    let libdir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if libdir.is_dir() {
        Ok(())
    } else {
        Err(format!("the target {TARGET} is not installed; run: rustup target add {TARGET}"))
    }
}

fn build(guests: &Path, target_dir: &Path) -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(guests)
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(target_dir);
    // What was said to the outer cargo (flags for the native target, clippy as a wrapper) is not meant for the guests.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
    ] {
        command.env_remove(name);
    }
    let output = command.output().map_err(|error| format!("cargo does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    // One line for each line: cargo shows them as they are.
    let text = String::from_utf8_lossy(&output.stderr);
    for line in text.lines() {
        println!("cargo::error={line}");
    }
    Err(format!("the guests in {} do not compile", guests.display()))
}

fn write_clients(built: &Path, file: &Path) -> Result<(), String> {
    let mut text = String::new();
    for (name, about, component) in [
        ("CLIENT", "Meets `weir:flow/leases` over HTTP.", "weir_client.wasm"),
        ("CLIENT_SYNC", "Meets `weir:flow/leases-sync` over HTTP.", "weir_client_sync.wasm"),
    ] {
        writeln!(text, "/// {about}\npub const {name}: &str = {:?};", built.join(component).display().to_string())
            .map_err(|error| error.to_string())?;
    }
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn write_list(guests: &Path, built: &Path, file: &Path) -> Result<(), String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(guests).map_err(|error| format!("{}: {error}", guests.display()))? {
        let entry = entry.map_err(|error| error.to_string())?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let mut text = String::new();
    let mut calls = String::new();
    for name in &names {
        let ident = name.replace('-', "_");
        // A library is named with underscores, a program as it is.
        let path =
            [&ident, name].map(|name| built.join(format!("{name}.wasm"))).into_iter().find(|path| path.is_file());
        let path = path.ok_or_else(|| format!("the guest `{name}` was compiled to no file"))?;
        let upper = ident.to_uppercase();
        write!(text, "/// The guest `{name}`.\npub const {upper}: &str = {:?};\n", path.display().to_string())
            .map_err(|error| error.to_string())?;
        write!(calls, " $each!({ident});").map_err(|error| error.to_string())?;
    }
    write!(text, "/// Calls a macro with the name of each guest.\n#[macro_export]\nmacro_rules! foreach_guest {{ ($each:ident) => {{{calls} }} }}\n").map_err(|error| error.to_string())?;
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
