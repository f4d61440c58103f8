//! From a configuration to a server that runs. Everything is checked and loaded before a port is opened.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::time::Instant;

use weir_engine::{Change, Durability, Engine, EngineConfig, StoreConfig, StoreError};
use weir_http::{ServeError, Server, Service};
use weir_wasm::{Compiled, Runtime, RuntimeConfig};

use crate::config::{ComponentEntry, Config, Source};
use crate::error::Failure;

/// Starts a server, and answers the engine that it runs on.
pub(crate) fn start(config: Config) -> Result<(Server, Engine), Failure> {
    let engine = match &config.data {
        None if config.durability == Durability::Power => {
            return Err(Failure::usage(anyhow::anyhow!(
                "the durability is `power`, and there is no data directory to write to"
            ))
            .hint("name one: --data DIR (WEIR_DATA, [server] data)"));
        }
        None => {
            tracing::info!(
                "in memory only: leases, rate history and changed rules end with this process (--data DIR keeps them)"
            );
            Engine::new(EngineConfig::default())
        }
        Some(directory) => open(directory, config.durability)?,
    };
    configure(&engine, config.rules)?;
    if config.components.is_empty() {
        tracing::info!("no component: only the lease API and the admin API are served");
    }
    let services = services(&engine, config.components)?;
    let server = Server::start(&config.server, engine.clone(), services).map_err(failure)?;
    Ok((server, engine))
}

fn open(directory: &Path, durability: Durability) -> Result<Engine, Failure> {
    let store = StoreConfig { directory: directory.to_owned(), durability };
    let began = Instant::now();
    let engine = Engine::open(EngineConfig::default(), &store).map_err(|error| {
        let hint = match &error {
            StoreError::InUse { .. } => {
                "end the other server, or name another directory: --data DIR (WEIR_DATA, [server] data)"
            }
            StoreError::Open { .. } => {
                "name a directory that this user can write: --data DIR (WEIR_DATA, [server] data)"
            }
            _ => "nothing was served, and nothing was changed",
        };
        Failure::failed(error).hint(hint)
    })?;
    let (leases, rules) = (engine.metrics().leases, engine.book().len());
    tracing::info!(data = %directory.display(), leases, rules, took = ?began.elapsed(), "what had survived is back");
    Ok(engine)
}

/// An engine in memory, with a rule book.
pub(crate) fn engine(rules: Vec<Change>) -> Result<Engine, Failure> {
    let engine = Engine::new(EngineConfig::default());
    configure(&engine, rules)?;
    Ok(engine)
}

fn configure(engine: &Engine, rules: Vec<Change>) -> Result<(), Failure> {
    let specs = rules.into_iter().filter_map(|change| match change {
        Change::Put { pattern, spec, .. } => Some((pattern, spec)),
        // A configuration says what is, not what changes.
        Change::Patch { .. } | Change::Delete { .. } => None,
    });
    let configured = engine.configure(specs.collect());
    configured.map_err(|error| Failure::usage(anyhow::anyhow!("the rules do not go together: {error}")))?;
    Ok(())
}

/// Loads components.
pub(crate) fn services(engine: &Engine, entries: Vec<ComponentEntry>) -> Result<Vec<Service>, Failure> {
    let runtime = Runtime::new(&RuntimeConfig::default())
        .map_err(|error| Failure::failed(anyhow::anyhow!("cannot start the WebAssembly runtime: {error}")))?;
    // Several components may be of one file.
    let mut compiled = BTreeMap::new();
    entries.into_iter().map(|entry| service(&runtime, engine, entry, &mut compiled)).collect()
}

fn service(
    runtime: &Runtime,
    engine: &Engine,
    entry: ComponentEntry,
    compiled: &mut BTreeMap<String, Compiled>,
) -> Result<Service, Failure> {
    let at = entry.source.to_string();
    let failed = |error| Failure::failed(anyhow::anyhow!("{at}: {error}"));
    let code = match compiled.entry(at.clone()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            let code = match &entry.source {
                Source::Embedded(bytes) => runtime.compile(bytes),
                Source::File(path) => runtime.compile(&read(path)?),
            };
            new.insert(code.map_err(failed)?)
        }
    };
    let component = code.component(engine, entry.config).map_err(failed)?;
    tracing::info!(component = component.name(), route = %entry.route, "loaded {at}");
    Ok(Service { component, route: entry.route, ingress_scope: entry.ingress_scope })
}

/// Reads the file of a component.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        let (what, hint) = if path.is_dir() {
            ("it is a directory".to_owned(), "name the file of the component: FOLDER/NAME.wasm")
        } else {
            (error.to_string(), "build it first: cargo build --release --target wasm32-wasip2")
        };
        Failure::failed(anyhow::anyhow!("{}: cannot read the component: {what}", path.display())).hint(hint)
    })
}

/// What to do about a server that did not start.
pub(crate) fn failure(error: ServeError) -> Failure {
    let hint = match error {
        ServeError::Tokens(error) => return error.into(),
        ServeError::Bind { what: "ingress", .. } => {
            "end the other program, or listen elsewhere: --listen ADDRESS (WEIR_LISTEN, [server] listen)"
        }
        ServeError::Bind { .. } => {
            "end the other program, or listen elsewhere: --admin-listen ADDRESS (WEIR_ADMIN_LISTEN, [server] admin)"
        }
        ServeError::Open { what: "ingress", .. } => {
            "make a token, `weir token create NAME --scope SCOPE --tokens FILE`, and name its file, --tokens FILE (WEIR_TOKENS, \
             [server] tokens); or switch the lease API off: --no-lease-api ([server] lease-api = false)"
        }
        ServeError::Open { .. } => {
            "make a token, `weir token create NAME --right read --right rules --right operate --all-scopes --tokens FILE`, and name \
             its file, --tokens FILE (WEIR_TOKENS, [server] tokens); or listen on 127.0.0.1: --admin-listen ADDRESS"
        }
        ServeError::SameName { .. } | ServeError::Name { .. } => {
            "give each [[component]] a name of its own, of A-Z a-z 0-9 _ . : @ -"
        }
        ServeError::Workers { .. } => {
            "one per core, which is the default, is enough: --workers N (WEIR_WORKERS, [server] workers)"
        }
        ServeError::SameRoute { .. } => "give one of them another `route`",
        _ => return Failure::failed(error),
    };
    match error {
        ServeError::Bind { .. } => Failure::failed(error).hint(hint),
        _ => Failure::usage(error).hint(hint),
    }
}
