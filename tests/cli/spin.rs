//! What Spin makes of `examples/spin-throttled/spin.toml` when it loads the app, in the same steps, with the test guest `flow` as
//! the component; and that it runs on a host without Weir. What Spin allows whom is not part of it.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use toml::Table;
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};
use weir_tests::{guests, text};

use crate::elsewhere::{Weir, get};
use crate::plain::Compiled;
use crate::run;

const HANDLER: &str = "wasi:http/handler@0.3.0";

static MANIFEST: LazyLock<Table> =
    LazyLock::new(|| include_str!("../../examples/spin-throttled/spin.toml").parse().expect("a manifest"));

/// What the manifest says of the component.
fn component() -> &'static Table {
    let trigger = MANIFEST["trigger"]["http"][0].as_table().unwrap();
    MANIFEST["component"][trigger["component"].as_str().unwrap()].as_table().unwrap()
}

/// A component in a graph.
struct Part {
    package: PackageId,
    instance: NodeId,
}

impl Part {
    fn new(graph: &mut CompositionGraph, name: &str, bytes: Vec<u8>) -> Self {
        let package = Package::from_bytes(name, None, bytes, graph.types_mut()).expect("a component");
        let package = graph.register_package(package).unwrap();
        Self { package, instance: graph.instantiate(package) }
    }

    fn imports(&self, graph: &CompositionGraph) -> Vec<String> {
        graph.types()[graph[self.package].ty()].imports.keys().cloned().collect()
    }
}

/// The file of a dependency, as `weir parts` has written it, once it may do what it needs.
fn file(dependency: &toml::Value) -> Vec<u8> {
    static PARTS: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("parts");
        run(&["parts", folder.to_str().unwrap()]).ok();
        folder
    });
    let inherited = dependency["inherit_configuration"].as_array().unwrap();
    assert!(["allowed_outbound_hosts", "environment"].iter().all(|name| inherited.contains(&(*name).into())));
    let path = PathBuf::from(dependency["path"].as_str().unwrap());
    fs::read(PARTS.join(path.file_name().unwrap())).expect("one of the parts")
}

/// First the dependencies of the component, each of which meets every import of its package.
fn with_dependencies(app: Vec<u8>) -> Vec<u8> {
    let mut graph = CompositionGraph::new();
    let app = Part::new(&mut graph, "app", app);
    for (name, dependency) in component()["dependencies"].as_table().unwrap() {
        let dependency = Part::new(&mut graph, name, file(dependency));
        let wanted: Vec<_> =
            app.imports(&graph).into_iter().filter(|import| import.starts_with(&format!("{name}/"))).collect();
        assert_ne!(wanted, [""; 0], "{name} meets nothing");
        for import in wanted {
            let met = graph.alias_instance_export(dependency.instance, &import).expect("it exports it");
            graph.set_instantiation_argument(app.instance, &import, met).expect("it fits");
        }
    }
    export(graph, &app)
}

/// Then the middlewares of the trigger, from the innermost out.
fn with_middlewares(mut app: Vec<u8>) -> Vec<u8> {
    for middleware in MANIFEST["trigger"]["http"][0]["dependencies"]["middleware"].as_array().unwrap().iter().rev() {
        let mut graph = CompositionGraph::new();
        let inner = Part::new(&mut graph, "inner", app);
        let outer = Part::new(&mut graph, "outer", file(middleware));
        let handler = graph.alias_instance_export(inner.instance, HANDLER).expect("a handler");
        graph.set_instantiation_argument(outer.instance, HANDLER, handler).expect("a middleware");
        app = export(graph, &outer);
    }
    app
}

fn export(mut graph: CompositionGraph, part: &Part) -> Vec<u8> {
    let handler = graph.alias_instance_export(part.instance, HANDLER).expect("a handler");
    graph.export(handler, HANDLER).unwrap();
    graph.encode(EncodeOptions::default()).unwrap()
}

#[tokio::test]
async fn the_manifest_of_the_example_makes_what_runs_anywhere() {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("spin.wasm");
    fs::write(&out, with_middlewares(with_dependencies(fs::read(guests::FLOW).unwrap()))).unwrap();
    // Nothing but WASI is left to import, or this would not link.
    let compiled = Compiled::new(&out);

    let environment = component()["environment"].as_table().unwrap();
    assert!(environment.contains_key("WEIR_URL"));
    let scope = environment["WEIR_SCOPE"].as_str().unwrap();
    let weir = Weir::new(&[(scope, "1"), ("s", "1"), ("closed", "0")]);
    let app = weir.plain(&compiled, &[("WEIR_SCOPE", scope), ("WEIR_MAX_WAIT", "0s")]);
    let granted = text(get(&app, "/acquire?scope=s").await).await;
    assert!(granted.starts_with("granted|"), "{granted}");
    // What the client gives back is on its way still when the body has ended, and the next is not to wait.
    weir.settles(&[&app]).await;
    let refused = text(get(&app, "/try?scope=closed").await).await;
    assert!(refused.starts_with("limited|"), "{refused}");
    weir.settles(&[&app]).await;
    // Around each request by the middleware, and inside of one by the component.
    let granted = [scope, "s"].map(|counter| weir.host.counter(counter).unwrap().granted);
    assert_eq!(granted, [2, 1]);
}
