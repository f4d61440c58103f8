//! `weir parts`: what `weir compose` puts around a component, as files, for hosts that compose themselves.
//!
//! Spin reads in `spin.toml` what meets a component's imports and which middlewares stand in front of it, and puts all of it
//! together when it loads the app. So it takes the pieces and not the whole; and what is of WASI 0.2 is plugged by hand:
//!
//! | File | In `spin.toml` | |
//! |---|---|---|
//! | `weir-client.wasm` | `[component.NAME.dependencies]`, as `"weir:flow"` | meets what the component acquires itself |
//! | `weir-client-sync.wasm` | the same, or `wac plug` | the same for a component of WASI 0.2 |
//! | `weir-middleware.wasm` | `dependencies.middleware` of a trigger | acquires around each request, with a client of its own inside |
//!
//! The middleware has its own because a dependency meets the imports of its component, and not those of what stands in front.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{CLIENT_SYNC, chain, client, middleware, write};
use crate::error::Failure;
use crate::output;

/// Write the clients and the middleware as files, for hosts that compose themselves, as Spin does
#[derive(Debug, Args)]
#[command(after_help = "\
All of them reach a Weir server over wasi:http and read where it is from the environment, as after `weir compose --client`:

  weir-client.wasm       exports weir:flow, for a component that acquires for itself
  weir-client-sync.wasm  the same for one of WASI 0.2
  weir-middleware.wasm   acquires around each request, with a client inside

Examples:
  weir parts target                          the files into the folder `target`
  wac plug app.wasm --plug target/weir-client-sync.wasm -o anywhere.wasm

In spin.toml (Spin 4.1):
  [[trigger.http]]
  route = \"/...\"
  component = \"app\"
  dependencies.middleware = [
      { path = \"target/weir-middleware.wasm\", inherit_configuration = [\"allowed_outbound_hosts\", \"environment\"] },
  ]

  [component.app.dependencies]
  \"weir:flow\" = { path = \"target/weir-client.wasm\", inherit_configuration = [\"allowed_outbound_hosts\", \"environment\"] }")]
pub(crate) struct PartsArgs {
    /// The folder to write them into; it is made if need be
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One file, as JSON.
#[derive(Debug, Serialize)]
struct Part {
    file: String,
    bytes: usize,
}

pub(super) fn run(args: &PartsArgs) -> Result<(), Failure> {
    let folder = &args.folder;
    fs::create_dir_all(folder)
        .map_err(|error| Failure::failed(anyhow::anyhow!("{}: cannot make this folder: {error}", folder.display())))?;
    let client = client();
    let middleware = chain::with_client(&middleware(), &client)?.bytes;
    let mut parts = Vec::new();
    let files = [
        ("weir-client.wasm", client.bytes),
        ("weir-client-sync.wasm", CLIENT_SYNC.to_vec()),
        ("weir-middleware.wasm", middleware),
    ];
    for (name, bytes) in files {
        let path = folder.join(name);
        write(&path, &bytes)?;
        parts.push(Part { file: path.display().to_string(), bytes: bytes.len() });
    }
    if args.json {
        return output::json(&parts);
    }
    let mut table = output::table(&["FILE", "BYTES"]);
    for part in parts {
        table.add_row([part.file, part.bytes.to_string()]);
    }
    output::print(&table)
}
