//! Components one behind the other.
//!
//! With the app `hello` and the middlewares `a`, `b`: the handler that `b` imports is the one that `hello` exports, `a`
//! imports that of `b`, and what is exported is that of `a`. All other imports stay imports; those of one name become one.
//! A client is behind all of them: what `a`, `b` and `hello` import of `weir:flow` is its own, the same instance for each.
//!
//! # Invariants
//! - An import that one layer is to meet is met, or nothing is made: what does not fit is named on both sides.
//! - What is answered was read from the bytes that were made, not from what went into them.
//!
//! # Not handled here
//! Whether a host has what is left to import: `weir serve` says so of each component that it loads.

use wac_graph::types::{Package, Types, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};
use weir_wasm::{LoadError, check_component};

use crate::error::Failure;

/// What every layer exports, and every one but the app imports, in any version.
const HANDLER: &str = "wasi:http/handler";
/// The interfaces that a client meets.
const FLOW: &str = "weir:flow/";
/// The one of them that is for WASI 0.2, which a client of WASI 0.3 does not have.
const FLOW_SYNC: &str = "weir:flow/leases-sync";
/// What no client meets. Its types are those of `weir:flow`, which would stay imports along with it.
const CALLS: &str = "weir:calls/";
/// The handler in WASI 0.2.
const OLD_HANDLER: &str = "wasi:http/incoming-handler";

/// What to do about an app of WASI 0.2.
const SERVE_IT: &str = "serve it as it is: call it under a scope (`/weir/scope/SCOPE/call/NAME/...`), or give its [[component]] an \
     `ingress-scope`; or build it for WASI 0.3 (spin-sdk 7)";
/// The same for a host without Weir.
const PLUG_IT: &str = "there is no middleware for WASI 0.2; what it imports of weir:flow is met by hand, with \
     weir-client-sync.wasm, which `weir parts DIR` writes: `wac plug APP.wasm --plug DIR/weir-client-sync.wasm -o OUT.wasm` \
     (docs/design.md, `From another host`); or build it for WASI 0.3 (spin-sdk 7)";
/// And about a middleware of WASI 0.2.
const BUILD_IT: &str = "a middleware is a component of WASI 0.3: it exports and imports wasi:http/handler@0.3.0";

/// One component, and what messages call it.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// What was made.
#[derive(Debug)]
pub(crate) struct Composed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
    /// What the app exports besides its handler.
    pub(crate) dropped: Vec<String>,
}

/// Why layers do not go together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("{name}: {error}")]
    NotAComponent { name: String, error: LoadError },
    #[error("{name}: the component is damaged: {message}")]
    Damaged { name: String, message: String },
    #[error("{name}: a WASI 0.2 component: it exports `{export}`, and only `{HANDLER}@0.3.0` can be composed")]
    Old { name: String, export: String, hint: &'static str },
    #[error("{name}: it exports no HTTP handler: it needs `{HANDLER}@0.3.0`, and exports {exports}")]
    NoHandler { name: String, exports: String },
    #[error("{name}: it is a middleware itself: it imports `{import}`, which nothing would meet")]
    AppIsMiddleware { name: String, import: String },
    #[error("{name}: it is no middleware: it must import `{HANDLER}@0.3.0`, and imports {imports}")]
    NoMiddleware { name: String, imports: String },
    #[error("nothing imports `{FLOW}..`, so there is nothing for a client to meet: {layers}")]
    NoFlow { layers: String },
    #[error("{outer} imports `{import}`, and {inner} exports `{export}`: {why}")]
    Mismatch { outer: String, import: String, inner: String, export: String, why: String },
    #[error("{outer} imports `{import}`, and {inner} exports nothing of it")]
    Unmet { outer: String, import: String, inner: String },
    #[error("{name} imports `{import}`, which is for WASI 0.2, and {client} exports what is for WASI 0.3")]
    Sync { name: String, import: String, client: String },
    #[error("{name} imports `{import}`, and {client} offers no `weir:calls`: only Weir's own host makes such calls")]
    Calls { name: String, import: String, client: String },
    #[error("they do not go together: {0}")]
    Graph(String),
    #[error("the result is not what it should be: {0}")]
    Result(String),
}

impl From<ChainError> for Failure {
    fn from(error: ChainError) -> Self {
        let hint = match &error {
            ChainError::Old { hint, .. } => Some(*hint),
            ChainError::Sync { .. } => Some(PLUG_IT),
            ChainError::Calls { .. } => Some(
                "leave --client out, and serve it with `weir serve`; or let it call by wasi:http, under a lease that it acquires by \
                 weir:flow",
            ),
            ChainError::AppIsMiddleware { .. } => Some("name it with --middleware, and the component behind it first"),
            ChainError::NoMiddleware { .. } => Some("leave --middleware out for Weir's own"),
            ChainError::NoFlow { .. } => Some("leave --client out, or --no-middleware for Weir's own middleware"),
            _ => None,
        };
        let failure = Self::failed(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// A layer in the graph.
struct Part<'a> {
    name: &'a str,
    package: PackageId,
    instance: NodeId,
}

/// Puts middlewares, outermost first, in front of an app, and a client behind all of them.
pub(crate) fn compose(app: &Layer, middlewares: &[Layer], client: Option<&Layer>) -> Result<Composed, ChainError> {
    let mut graph = CompositionGraph::new();
    let client = client.map(|client| add(&mut graph, client)).transpose()?;
    let mut asks = 0;
    let behind = add(&mut graph, app)?;
    let offered = exports(&graph, &behind);
    handler_of(app, &offered, if client.is_some() { PLUG_IT } else { SERVE_IT })?;
    if let Some(import) = imports(&graph, &behind).into_iter().find(|name| is(name, HANDLER)) {
        return Err(ChainError::AppIsMiddleware { name: app.name.clone(), import });
    }
    let dropped = offered.into_iter().filter(|name| !is(name, HANDLER)).collect();
    asks += meet_flow(&mut graph, &behind, client.as_ref())?;

    let mut inner = behind;
    for middleware in middlewares.iter().rev() {
        let outer = add(&mut graph, middleware)?;
        handler_of(middleware, &exports(&graph, &outer), BUILD_IT)?;
        if !meet(&mut graph, &outer, &inner, HANDLER)? {
            let imports = listed(&imports(&graph, &outer));
            return Err(ChainError::NoMiddleware { name: middleware.name.clone(), imports });
        }
        asks += meet_flow(&mut graph, &outer, client.as_ref())?;
        inner = outer;
    }
    if client.is_some() && asks == 0 {
        let layers: Vec<_> = middlewares.iter().chain([app]).map(|layer| layer.name.clone()).collect();
        return Err(ChainError::NoFlow { layers: listed(&layers) });
    }
    finish(graph, &inner, dropped, |import| is(import, HANDLER) || client.is_some() && import.starts_with(FLOW))
}

/// Puts a client into a middleware, which goes on importing the handler behind it: for hosts that put it in front themselves.
pub(crate) fn with_client(middleware: &Layer, client: &Layer) -> Result<Composed, ChainError> {
    let mut graph = CompositionGraph::new();
    let client = add(&mut graph, client)?;
    let part = add(&mut graph, middleware)?;
    handler_of(middleware, &exports(&graph, &part), BUILD_IT)?;
    if meet_flow(&mut graph, &part, Some(&client))? == 0 {
        return Err(ChainError::NoFlow { layers: middleware.name.clone() });
    }
    finish(graph, &part, Vec::new(), |import| import.starts_with(FLOW))
}

/// Exports the handler of the outermost layer, and checks that no import is left which must be met: those that are `unmet`.
fn finish(
    mut graph: CompositionGraph,
    outermost: &Part<'_>,
    dropped: Vec<String>,
    unmet: impl Fn(&str) -> bool,
) -> Result<Composed, ChainError> {
    let handlers: Vec<_> = exports(&graph, outermost).into_iter().filter(|name| is(name, HANDLER)).collect();
    for export in handlers {
        let handler = graph.alias_instance_export(outermost.instance, &export).map_err(graph_error)?;
        graph.export(handler, &export).map_err(graph_error)?;
    }
    let bytes = graph.encode(EncodeOptions::default()).map_err(graph_error)?;
    read_back(bytes, dropped, unmet)
}

/// Meets all that a layer imports of `weir:flow`, if there is a client, and answers how much that is.
fn meet_flow(graph: &mut CompositionGraph, layer: &Part<'_>, client: Option<&Part<'_>>) -> Result<usize, ChainError> {
    let Some(client) = client else { return Ok(0) };
    let (name, client_name) = (layer.name.to_owned(), client.name.to_owned());
    let imported = imports(graph, layer);
    if let Some(import) = imported.iter().find(|name| name.starts_with(CALLS)) {
        return Err(ChainError::Calls { name, import: import.clone(), client: client_name });
    }
    if let Some(import) = imported.iter().find(|name| is(name, FLOW_SYNC)) {
        return Err(ChainError::Sync { name, import: import.clone(), client: client_name });
    }
    let wanted: Vec<_> = imported.into_iter().filter(|name| name.starts_with(FLOW)).collect();
    for import in &wanted {
        meet(graph, layer, client, base(import))?;
    }
    Ok(wanted.len())
}

fn add<'a>(graph: &mut CompositionGraph, layer: &'a Layer) -> Result<Part<'a>, ChainError> {
    let name = layer.name.clone();
    check_component(&layer.bytes).map_err(|error| ChainError::NotAComponent { name: name.clone(), error })?;
    // Packages are told apart by name, and one file may be two layers.
    let key = format!("layer-{}", graph.packages().count());
    let package = Package::from_bytes(&key, None, layer.bytes.clone(), graph.types_mut())
        .map_err(|error| ChainError::Damaged { name, message: format!("{error:#}") })?;
    let package = graph.register_package(package).map_err(graph_error)?;
    Ok(Part { name: &layer.name, package, instance: graph.instantiate(package) })
}

/// Meets what `outer` imports of an interface with what `inner` exports. Answers whether it imports it at all.
fn meet(graph: &mut CompositionGraph, outer: &Part<'_>, inner: &Part<'_>, interface: &str) -> Result<bool, ChainError> {
    let wanted: Vec<_> = imports(graph, outer).into_iter().filter(|name| is(name, interface)).collect();
    let offered = exports(graph, inner);
    for import in &wanted {
        let fits = |export: &&String| *export == import || are_semver_compatible(export, import);
        let same = |export: &&String| base(export) == base(import);
        let export = offered.iter().find(fits).or_else(|| offered.iter().find(same));
        let mismatch = |export: &str, why: String| ChainError::Mismatch {
            outer: outer.name.to_owned(),
            import: import.clone(),
            inner: inner.name.to_owned(),
            export: export.to_owned(),
            why,
        };
        let Some(export) = export else {
            let (outer, inner) = (outer.name.to_owned(), inner.name.to_owned());
            return Err(ChainError::Unmet { outer, import: import.clone(), inner });
        };
        if !fits(&export) {
            return Err(mismatch(export, "these versions do not go together".to_owned()));
        }
        let met = graph.alias_instance_export(inner.instance, export).map_err(graph_error)?;
        graph
            .set_instantiation_argument(outer.instance, import, met)
            .map_err(|error| mismatch(export, format!("{:#}", anyhow::Error::from(error))))?;
    }
    Ok(!wanted.is_empty())
}

/// Refuses a layer without a handler, for what it is. `hint`: what to do about one of WASI 0.2.
fn handler_of(layer: &Layer, exports: &[String], hint: &'static str) -> Result<(), ChainError> {
    if exports.iter().any(|export| is(export, HANDLER)) {
        return Ok(());
    }
    let name = layer.name.clone();
    Err(match exports.iter().find(|export| is(export, OLD_HANDLER)) {
        Some(export) => ChainError::Old { name, export: export.clone(), hint },
        None => ChainError::NoHandler { name, exports: listed(exports) },
    })
}

/// Reads the world of what was made: its handler is there, and nothing that a layer or the client was to meet is left.
fn read_back(bytes: Vec<u8>, dropped: Vec<String>, unmet: impl Fn(&str) -> bool) -> Result<Composed, ChainError> {
    let mut types = Types::default();
    let package = Package::from_bytes("composed", None, bytes.clone(), &mut types)
        .map_err(|error| ChainError::Result(format!("{error:#}")))?;
    let world = &types[package.ty()];
    let imports: Vec<String> = world.imports.keys().cloned().collect();
    let exports: Vec<String> = world.exports.keys().cloned().collect();
    if let Some(import) = imports.iter().find(|import| unmet(import)) {
        return Err(ChainError::Result(format!("the import `{import}` is not met")));
    }
    if !exports.iter().any(|export| is(export, HANDLER)) {
        return Err(ChainError::Result(format!("it exports no `{HANDLER}`, but {}", listed(&exports))));
    }
    Ok(Composed { bytes, imports, exports, dropped })
}

fn imports(graph: &CompositionGraph, part: &Part<'_>) -> Vec<String> {
    graph.types()[graph[part.package].ty()].imports.keys().cloned().collect()
}

fn exports(graph: &CompositionGraph, part: &Part<'_>) -> Vec<String> {
    graph.types()[graph[part.package].ty()].exports.keys().cloned().collect()
}

/// Whether a name is of an interface, in any version.
fn is(name: &str, interface: &str) -> bool {
    base(name) == interface
}

fn base(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn graph_error(error: impl Into<anyhow::Error>) -> ChainError {
    ChainError::Graph(format!("{:#}", error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLES: &str = r#"(instance $nothing) (export "wasi:http/handler@0.3.0" (instance $nothing))"#;

    fn component(parts: &[&str]) -> Vec<u8> {
        wat::parse_str(format!("(component {})", parts.concat())).unwrap()
    }

    /// No component that was really put together ends so: it is the last look before it is written.
    #[test]
    fn what_is_left_in_the_result_is_found_there() {
        let asks = component(&[r#"(import "weir:flow/leases@0.1.0-draft.2" (instance))"#, HANDLES]);
        let error = read_back(asks.clone(), Vec::new(), |import| import.starts_with(FLOW)).unwrap_err();
        let says = "the result is not what it should be: the import `weir:flow/leases@0.1.0-draft.2` is not met";
        assert_eq!(error.to_string(), says);
        // Where no client is to meet it, it is its host's.
        let made = read_back(asks, Vec::new(), |import| is(import, HANDLER)).unwrap();
        assert_eq!(made.imports, ["weir:flow/leases@0.1.0-draft.2"]);
        assert_eq!(made.exports, ["wasi:http/handler@0.3.0"]);

        let error = read_back(component(&[]), Vec::new(), |_| false).unwrap_err();
        assert!(error.to_string().ends_with("it exports no `wasi:http/handler`, but nothing"), "{error}");
        let error = read_back(b"\0asm".to_vec(), Vec::new(), |_| false).unwrap_err();
        assert!(error.to_string().starts_with("the result is not what it should be: "), "{error}");
    }
}
