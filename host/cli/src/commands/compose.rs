//! `weir compose`: flow control in front of a component, by composition.
//!
//! The result is one component with the app inside. Its requests go through the middlewares, the first named first, and the
//! app is as it was: it keeps its imports, and its handler is what the innermost middleware calls. With `--client` the
//! imports of `weir:flow` of all of them are met as well, so that the result runs on hosts without Weir. What was written is
//! what was read back and checked: see [`chain`]. Hosts that compose themselves get the pieces: see [`parts`].

mod chain;
mod parts;

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use self::chain::{Composed, Layer};
pub(crate) use self::parts::PartsArgs;
use crate::error::Failure;
use crate::{launch, output};

/// What stands in front where nothing is named.
const MIDDLEWARE: &[u8] = include_bytes!(env!("WEIR_MIDDLEWARE_WASM"));
/// What meets `weir:flow` by a server over HTTP.
const CLIENT: &[u8] = include_bytes!(env!("WEIR_CLIENT_WASM"));
/// The same for components of WASI 0.2, which are composed by hand.
const CLIENT_SYNC: &[u8] = include_bytes!(env!("WEIR_CLIENT_SYNC_WASM"));

/// Put flow control in front of a WASI 0.3 HTTP component, without a change to it
#[derive(Debug, Args)]
#[command(after_help = "\
Each request waits for its turn before the component sees it, and holds it until the body of the response has ended. What
it asks for stands in the environment of the composed component (`environment` of a [[component]] in weir.toml):

  WEIR_SCOPE        the scope; default: that of the request, else the component's own
  WEIR_LIMIT_KEY    the limit key: one or two names, with / between
  WEIR_COST         its cost, a number; default: 1
  WEIR_PRIORITY     who is served first, a number: 0 to 255; default: 128
  WEIR_MAX_WAIT     the longest wait, such as 250ms; default: the rule's, else 60s

Scope and limit key may have places: {header:NAME}, {path:N}, {method}, {host}; {header:NAME|DEFAULT} where it may be
missing. So may cost and priority, of headers and path alone: {header:x-cost|1}. A request that has no such thing, or one
that is no name or no such number, is answered 400; one that is refused 429 or 503. A header is the word of whoever sends
it: take cost and priority from one only behind a gateway that sets it, whatever the client sent.

With --client the result runs on any host of WASI 0.3 (`wasmtime serve`, Spin) and takes its leases from a Weir server:

  WEIR_URL          the server: http://HOST:PORT, or https://; it must be set
  WEIR_TOKEN        sent as `Authorization: Bearer`
  WEIR_LEASE_TIME   after how long a lease ends that nobody extends any more; default: 30s
  WEIR_ON_FAILURE   while it does not answer: closed, open or budget:N/PERIOD, and SCOPE=POLICY; default: closed

Printed is what the result imports and exports. It is served like any other: `weir serve OUT.wasm`.

Examples:
  weir compose hello.wasm -o limited.wasm
  weir compose hello.wasm --middleware auth.wasm --middleware cache.wasm -o out.wasm
  weir compose hello.wasm --client -o anywhere.wasm
  weir compose hello.wasm -o limited.wasm --json | jq -r '.imports[]'")]
pub(crate) struct ComposeArgs {
    /// The component: it exports wasi:http/handler@0.3
    #[arg(value_name = "APP.wasm")]
    app: PathBuf,

    /// A middleware, outermost first; instead of Weir's own
    #[arg(long = "middleware", value_name = "FILE")]
    middlewares: Vec<PathBuf>,

    /// Meet weir:flow by a Weir server over HTTP, for hosts without Weir
    #[arg(long)]
    client: bool,

    /// Nothing in front: only meet what the component imports itself
    #[arg(long, requires = "client", conflicts_with = "middlewares")]
    no_middleware: bool,

    /// Where to write it
    #[arg(short, long, value_name = "OUT.wasm")]
    out: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was made, as JSON.
#[derive(Debug, Serialize)]
struct Made<'a> {
    file: String,
    bytes: usize,
    /// Outermost first; the app is the last, but for the client.
    layers: Vec<&'a str>,
    imports: &'a [String],
    exports: &'a [String],
}

/// Writes the pieces for hosts that compose themselves.
pub(crate) fn run_parts(args: &PartsArgs) -> Result<(), Failure> {
    parts::run(args)
}

pub(crate) fn run(args: &ComposeArgs) -> Result<(), Failure> {
    for input in args.middlewares.iter().chain([&args.app]) {
        if is_same(input, &args.out) {
            let error = anyhow::anyhow!("{}: would be overwritten by what is made of it", input.display());
            return Err(Failure::usage(error).hint("name another file with -o"));
        }
    }
    let app = layer(&args.app)?;
    let mut middlewares = args.middlewares.iter().map(|path| layer(path)).collect::<Result<Vec<_>, _>>()?;
    if middlewares.is_empty() && !args.no_middleware {
        middlewares.push(middleware());
    }
    let client = args.client.then(client);
    let composed = chain::compose(&app, &middlewares, client.as_ref())?;
    write(&args.out, &composed.bytes)?;
    if !composed.dropped.is_empty() {
        let dropped = composed.dropped.join(", ");
        output::talk(&format!("note: only the HTTP handler is reached from outside: not exported any more: {dropped}"));
    }
    let layers = middlewares.iter().chain([&app]).chain(&client).map(|layer| layer.name.as_str()).collect();
    print(args, &composed, layers)
}

fn print(args: &ComposeArgs, composed: &Composed, layers: Vec<&str>) -> Result<(), Failure> {
    let Composed { bytes, imports, exports, .. } = composed;
    let file = args.out.display().to_string();
    if args.json {
        return output::json(&Made { file, bytes: bytes.len(), layers, imports, exports });
    }
    output::talk(&format!("{file}: {} bytes: {}", bytes.len(), layers.join(" -> ")));
    let mut table = output::table(&["WHAT", "INTERFACE"]);
    for (what, names) in [("export", exports), ("import", imports)] {
        for name in names {
            table.add_row([what, name]);
        }
    }
    output::print(&table)
}

fn middleware() -> Layer {
    Layer { name: "weir-middleware".to_owned(), bytes: MIDDLEWARE.to_vec() }
}

fn client() -> Layer {
    Layer { name: "weir-client".to_owned(), bytes: CLIENT.to_vec() }
}

fn layer(path: &Path) -> Result<Layer, Failure> {
    Ok(Layer { name: path.display().to_string(), bytes: launch::read(path)? })
}

/// Whether two paths lead to one file. One that does not exist is nobody's.
fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// All of it or nothing: whoever reads the file meanwhile sees the old one. What is no file but a link, a pipe or a device stays, and
/// is written into.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error| Failure::failed(anyhow::anyhow!("{}: cannot write it: {error}", path.display()));
    let is_other = fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
    if is_other { fs::write(path, bytes) } else { replace(path, bytes) }.map_err(failed)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The mode of a file that is simply created; the umask is taken off it.
    let mode = Permissions::from_mode(0o666);
    // Its errors name the temporary file, which tells nobody anything.
    let file = tempfile::Builder::new().prefix(".weir-").permissions(mode).tempfile_in(folder);
    let mut file = file.map_err(|error| io::Error::from(error.kind()))?;
    file.as_file_mut().write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
