//! `weir serve`: components under flow control, until a signal.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use weir_engine::Durability;
use weir_http::MAX_WORKERS;

use crate::config::{self, Config, DEFAULT_FILE, DurabilityName};
use crate::error::Failure;
use crate::log::{self, LogArgs};
use crate::{launch, output, signals};

/// Serve components under flow control
#[derive(Debug, Args)]
#[command(after_help = "\
Once it serves, it prints two lines: `ingress http://ADDRESS` and `admin http://ADDRESS`. Port 0 takes a free port.

Ctrl-C or SIGTERM: accepts nothing more, sends away what waits, lets finish what runs; a second one leaves at once.
Options beat the environment, the environment beats the file.

Examples:
  weir serve hello.wasm                       one component, on every path
  weir serve                                  what ./weir.toml says
  weir serve -c prod.toml --listen 0.0.0.0:80 --tokens tokens.json

weir.toml:
  [server]
  listen = \"127.0.0.1:8080\"
  [[component]]
  name = \"hello\"
  path = \"hello.wasm\"
  route = \"/hello/...\"
  [[rule]]
  pattern = \"tenant/*\"
  concurrency = 5
  rates = [\"3/1m\"]")]
pub(crate) struct ServeArgs {
    /// The configuration; without APP.wasm the default is ./weir.toml
    #[arg(short, long, env = "WEIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// A component to serve on every path
    #[arg(value_name = "APP.wasm")]
    app: Option<PathBuf>,

    #[command(flatten)]
    server: ServerArgs,
}

/// What beats the file.
#[derive(Debug, Args)]
struct ServerArgs {
    /// Where ingress listens [default: 127.0.0.1:8080]
    #[arg(long, env = "WEIR_LISTEN", value_name = "ADDRESS", value_parser = config::address)]
    listen: Option<SocketAddr>,

    /// Where the admin API listens [default: 127.0.0.1:9070]
    #[arg(long, env = "WEIR_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = config::address)]
    admin_listen: Option<SocketAddr>,

    /// How long requests may still run once it shuts down [default: 10s]
    #[arg(long, env = "WEIR_SHUTDOWN_TIMEOUT", value_name = "DURATION", value_parser = weir_engine::parse_duration)]
    shutdown_timeout: Option<Duration>,

    /// Worker threads [default: one per core]
    #[arg(long, env = "WEIR_WORKERS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_WORKERS as u64))]
    workers: Option<u64>,

    /// Keep what must survive this process in a directory [default: memory only]
    ///
    /// Timed leases, idempotency keys, rate history, the rule book, pauses and pins come back from it after a kill.
    #[arg(long, env = "WEIR_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    /// What a grant that was answered survives [default: process]
    #[arg(long, env = "WEIR_DURABILITY", value_name = "WHAT", value_parser = durability())]
    durability: Option<DurabilityName>,

    /// The file of tokens, which `weir token` writes [default: none]
    #[arg(long, env = "WEIR_TOKENS", value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// Serve no lease API: ingress then needs no tokens, wherever it listens
    #[arg(long, env = "WEIR_NO_LEASE_API", value_parser = FalseyValueParser::new())]
    no_lease_api: bool,
}

fn durability() -> impl TypedValueParser<Value = DurabilityName> {
    PossibleValuesParser::new(["process", "power"]).map(|name| match name.as_str() {
        "power" => DurabilityName::Power,
        _ => DurabilityName::Process,
    })
}

pub(crate) fn run(args: ServeArgs, log: &LogArgs) -> Result<(), Failure> {
    log::start(log, "warn,weir=info,weir_http=info,weir_wasm=info,guest=info")?;
    let mut config = read(&args)?;
    if let Some(app) = args.app {
        config.components.push(config::sole(app));
    }
    let server = &mut config.server;
    let ServerArgs { listen, admin_listen, shutdown_timeout, workers, data, durability, tokens, no_lease_api } =
        args.server;
    server.ingress = listen.unwrap_or(server.ingress);
    server.admin = admin_listen.unwrap_or(server.admin);
    server.shutdown_timeout = shutdown_timeout.unwrap_or(server.shutdown_timeout);
    // A number up to `MAX_WORKERS` is one of any width.
    let workers = workers.and_then(|workers| NonZeroUsize::new(usize::try_from(workers).ok()?));
    server.workers = workers.or(server.workers);
    server.tokens = tokens.or(server.tokens.take());
    server.lease_api &= !no_lease_api;
    config.data = data.or(config.data);
    config.durability = durability.map_or(config.durability, Durability::from);
    if config.components.is_empty() && config.rules.is_empty() && config.data.is_none() {
        return Err(nothing(args.config.as_deref().unwrap_or(DEFAULT_FILE.as_ref())));
    }

    let (ingress, admin) = (config.server.ingress, config.server.admin);
    if ingress == admin && ingress.port() != 0 {
        return Err(Failure::usage(anyhow::anyhow!("ingress and the admin API cannot both listen on {ingress}")).hint(
            "give one of them another address: --listen ADDRESS (WEIR_LISTEN, [server] listen) or --admin-listen ADDRESS \
             (WEIR_ADMIN_LISTEN, [server] admin)",
        ));
    }

    let (server, _engine) = launch::start(config)?;
    let stop = server.stop_handle();
    signals::on_first(move || {
        tracing::info!("shutting down: requests that run may finish; a second signal leaves at once");
        stop.stop();
    })?;
    let (ingress, admin) = (server.ingress(), server.admin());
    tracing::info!(%ingress, %admin, "serving");
    output::data(&format!("ingress http://{ingress}"))?;
    output::data(&format!("admin http://{admin}"))?;
    server.wait();
    tracing::info!("stopped");
    Ok(())
}

/// Nothing would ever be asked of it. With a data directory there may be rules in that, or some to come.
fn nothing(file: &Path) -> Failure {
    Failure::usage(anyhow::anyhow!("{}: no component and no rule: there is nothing to serve", file.display())).hint(
        "add a [[component]] with name and path, or a [[rule]] for the lease API; or name a directory that keeps rules: --data DIR \
         (WEIR_DATA, [server] data)",
    )
}

fn read(args: &ServeArgs) -> Result<Config, Failure> {
    match &args.config {
        Some(file) => config::read(file),
        None if args.app.is_some() => Ok(Config::default()),
        None if PathBuf::from(DEFAULT_FILE).exists() => config::read(DEFAULT_FILE.as_ref()),
        None => Err(Failure::usage(anyhow::anyhow!("nothing to serve: there is no {DEFAULT_FILE} here")).hint(
            "name a component (`weir serve hello.wasm`) or a configuration (`weir serve -c FILE`), or try `weir demo`",
        )),
    }
}
