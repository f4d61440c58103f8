//! A guest whose import of `weir:flow` is met by another component.

use wac_graph::types::{Package, Types};
use wac_graph::{CompositionGraph, EncodeOptions};

/// The guest with the client plugged in. The host's own `weir:flow` is not asked for any more.
pub(crate) fn plugged(guest: &str, client: &str) -> Vec<u8> {
    let mut graph = CompositionGraph::new();
    let [socket, plug] = [("test:guest", guest), ("weir:client", client)].map(|(name, file)| {
        let package = Package::from_file(name, None, file, graph.types_mut()).expect("a component");
        graph.register_package(package).expect("a name of its own")
    });
    wac_graph::plug(&mut graph, vec![plug], socket).expect("it fits");
    let bytes = graph.encode(EncodeOptions::default()).expect("a component");
    // What does not fit is left out by `plug` without a word.
    let left = imports(&bytes);
    assert!(!left.iter().any(|name| name.starts_with("weir:")), "{left:?}");
    bytes
}

/// What a component imports.
pub(crate) fn imports(component: &[u8]) -> Vec<String> {
    let mut types = Types::default();
    let package = Package::from_bytes("test:component", None, component, &mut types).expect("a component");
    types[package.ty()].imports.keys().cloned().collect()
}
