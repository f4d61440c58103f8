//! `weir compose`: what it makes, what it refuses, and that it leaves nothing half done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use wac_graph::types::{Package, Types};
use wac_graph::{CompositionGraph, EncodeOptions};
use weir_tests::guests;

use crate::{Run, Serving, WASM, file, run, weir};

/// Weir's own middleware, as a file.
pub(crate) const MIDDLEWARE: &str = env!("WEIR_MIDDLEWARE_WASM");

/// A component that is nothing but an export of one name, and no handler at all.
fn hollow(export: &str) -> Vec<u8> {
    wat::parse_str(format!(r#"(component (instance $nothing) (export "{export}" (instance $nothing)))"#)).unwrap()
}

/// Composes into a file of a folder of its own, and answers whether there is one then.
fn compose(app: &str, arguments: &[&str]) -> (Run, bool) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.wasm");
    let run = run(&[&["compose", app, "-o", out.to_str().unwrap()], arguments].concat());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.len() <= 1, "a temporary file stays: {left:?}");
    (run, out.exists())
}

#[test]
fn the_result_is_the_app_behind_the_middleware() {
    let (run, made) = compose(WASM, &["--json"]);
    assert!(made);
    let made = run.json();
    assert_eq!(made["layers"], serde_json::json!(["weir-middleware", WASM]));
    assert_eq!(made["exports"], serde_json::json!(["wasi:http/handler@0.3.0"]));
    let imports: Vec<_> = made["imports"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for import in ["weir:flow/leases@0.1.0-draft.2", "weir:flow/types@0.1.0-draft.2", "wasi:http/types@0.3.0"] {
        assert_eq!(imports.iter().filter(|name| **name == import).count(), 1, "{import}: {imports:?}");
    }
    assert!(!imports.iter().any(|name| name.starts_with("wasi:http/handler")), "{imports:?}");
    let (run, _) = compose(WASM, &[]);
    assert!(run.err.contains(&format!("weir-middleware -> {WASM}")), "{}", run.err);
    let out = run.ok();
    assert!(out.contains("export  wasi:http/handler@0.3.0\n"), "{out}");
    assert!(out.contains("import  weir:flow/leases@0.1.0-draft.2\n"), "{out}");
}

#[test]
fn with_a_client_nothing_of_weir_is_left_to_import() {
    for (app, arguments, layers) in [
        (WASM, &["--client"][..], &["weir-middleware", WASM, "weir-client"][..]),
        (WASM, &["--client", "--no-middleware"], &[WASM, "weir-client"]),
        // Acquires nothing for itself.
        (guests::EGRESS, &["--client"], &["weir-middleware", guests::EGRESS, "weir-client"]),
    ] {
        let (run, made) = compose(app, &[&["--json"], arguments].concat());
        assert!(made);
        let made = run.json();
        assert_eq!(made["layers"], serde_json::json!(layers));
        assert_eq!(made["exports"], serde_json::json!(["wasi:http/handler@0.3.0"]));
        let imports: Vec<_> = made["imports"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(imports.contains(&"wasi:http/client@0.3.0"), "{imports:?}");
        assert!(imports.iter().all(|name| name.starts_with("wasi:")), "{imports:?}");
    }
}

#[test]
fn the_parts_are_the_clients_and_a_middleware_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("made/if/need/be");
    let parts = run(&["parts", target.to_str().unwrap(), "--json"]).json();
    let names: Vec<_> = parts.as_array().unwrap().iter().map(|part| part["file"].as_str().unwrap()).collect();
    let [client, client_sync, middleware] =
        ["weir-client.wasm", "weir-client-sync.wasm", "weir-middleware.wasm"].map(|name| target.join(name));
    assert_eq!(names, [&client, &client_sync, &middleware].map(|path| path.to_str().unwrap()));
    // Behind the middleware that has a client already, the component alone is left to ask for one, or nobody.
    let (run, made) = compose(guests::EGRESS, &["--json", "--middleware", middleware.to_str().unwrap()]);
    assert!(made);
    let made = run.json();
    let imports: Vec<_> = made["imports"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(imports.iter().all(|name| name.starts_with("wasi:")), "{imports:?}");
    // What is of WASI 0.2 gets its client from `wac plug`.
    let mut graph = CompositionGraph::new();
    let [app, client] = [("app", Path::new(guests::SYNC)), ("client", client_sync.as_path())].map(|(name, file)| {
        let package = Package::from_file(name, None, file, graph.types_mut()).expect("a component");
        graph.register_package(package).expect("a name of its own")
    });
    wac_graph::plug(&mut graph, vec![client], app).expect("it fits");
    let plugged = graph.encode(EncodeOptions::default()).expect("a component");
    let mut types = Types::default();
    let package = Package::from_bytes("plugged", None, plugged, &mut types).expect("a component");
    let imports: Vec<_> = types[package.ty()].imports.keys().cloned().collect();
    assert!(!imports.iter().any(|name| name.starts_with("weir:")), "{imports:?}");
}

#[test]
fn layers_stand_in_the_order_in_which_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let own = file(folder.path(), "own.wasm", fs::read(MIDDLEWARE).unwrap());
    let (run, made) = compose(WASM, &["--json", "--middleware", MIDDLEWARE, "--middleware", &own]);
    assert!(made);
    assert_eq!(run.json()["layers"], serde_json::json!([MIDDLEWARE, own, WASM]));
}

#[test]
fn a_composed_component_is_served_under_its_environment() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("limited.wasm");
    run(&["compose", WASM, "--out", out.to_str().unwrap()]).ok();
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o600, 0o600, "as any file");
    let config = file(
        folder.path(),
        "weir.toml",
        r#"
[[component]]
name = "limited"
path = "limited.wasm"
route = "/..."
allow-scopes = ["provider"]
environment = { WEIR_SCOPE = "limited", WEIR_LIMIT_KEY = "{path:1}", WEIR_MAX_WAIT = "0s" }
[[rule]]
pattern = "limited/closed"
concurrency = 0
[[rule]]
pattern = "limited/once"
rates = ["1/1h"]
"#,
    );
    let serving = Serving::new(&["-c", &config]);
    let (status, body) = serving.get("/ask");
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("the request has no path segment 1"), "{body}");
    assert_eq!(serving.get("/ask/small?ms=1").0, 200);
    assert_eq!(serving.get("/ask/closed?ms=1").0, 503);
    assert_eq!((serving.get("/ask/once?ms=1").0, serving.get("/ask/once?ms=1").0), (200, 429));
}

#[test]
fn a_wasi_0_2_component_is_refused_with_what_to_do() {
    let (run, made) = compose(guests::SYNC, &[]);
    run.fails(1, &[guests::SYNC, "WASI 0.2", "wasi:http/incoming-handler@0.2", "ingress-scope", "/weir/scope/"]);
    assert!(!made);
    // On a host without Weir it cannot be served as it is.
    let (run, made) = compose(guests::SYNC, &["--client"]);
    run.fails(1, &[guests::SYNC, "WASI 0.2", "weir-client-sync.wasm", "wac plug"]);
    assert!(!made && !run.err.contains("ingress-scope"), "{}", run.err);
    let (run, made) = compose(WASM, &["--middleware", guests::SYNC]);
    run.fails(1, &[guests::SYNC, "WASI 0.2", "wasi:http/incoming-handler@0.2", "a middleware is"]);
    assert!(!made && !run.err.contains("ingress-scope"), "{}", run.err);
}

#[test]
fn what_cannot_be_composed_is_1_and_said_for_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "text.wasm", "hello");
    let module = file(folder.path(), "module.wasm", b"\0asm\x01\0\0\0");
    let cut = file(folder.path(), "cut.wasm", &fs::read(WASM).unwrap()[..1000]);
    let nothing = file(folder.path(), "nothing.wasm", wat::parse_str("(component)").unwrap());
    let newer = file(folder.path(), "newer.wasm", hollow("wasi:http/handler@0.4.0"));
    let hollow = file(folder.path(), "hollow.wasm", hollow("wasi:http/handler@0.3.0"));
    let sync = r#"(component (import "weir:flow/leases-sync@0.1.0-draft.2" (instance))
        (instance $nothing) (export "wasi:http/handler@0.3.0" (instance $nothing)))"#;
    let sync = file(folder.path(), "sync.wasm", wat::parse_str(sync).unwrap());
    let alone = ["--client", "--no-middleware"];
    for (app, arguments, parts) in [
        ("no-such.wasm", &[][..], &["no-such.wasm", "cannot read"][..]),
        (&text, &[], &[&text, "not a WebAssembly component"]),
        (&module, &[], &[&module, "core module"]),
        (&cut, &[], &[&cut, "damaged"]),
        (&nothing, &[], &[&nothing, "no HTTP handler", "exports nothing"]),
        (guests::NO_HANDLER, &[], &["no HTTP handler", "wasi:cli/run"]),
        (MIDDLEWARE, &[], &["a middleware itself", "wasi:http/handler@0.3.0", "--middleware"]),
        (&newer, &[], &["weir-middleware imports `wasi:http/handler@0.3.0`", "exports `wasi:http/handler@0.4.0`"]),
        (&hollow, &[], &["weir-middleware imports `wasi:http/handler@0.3.0`", &hollow, "missing"]),
        (guests::EGRESS, &alone, &["nothing imports `weir:flow/..`", guests::EGRESS, "leave --client out"]),
        (&sync, &alone, &[&sync, "imports `weir:flow/leases-sync@0.1.0-draft.2`", "weir-client-sync.wasm", "wac plug"]),
        (
            guests::CALLS,
            &alone,
            &[guests::CALLS, "imports `weir:calls/calls@", "weir-client offers no `weir:calls`", "weir serve"],
        ),
        (guests::CALLS, &["--client"], &[guests::CALLS, "imports `weir:calls/calls@", "weir serve"]),
        (folder.path().to_str().unwrap(), &[], &["it is a directory", "name the file"]),
        (WASM, &["--middleware", WASM], &[WASM, "no middleware", "must import `wasi:http/handler@0.3.0`"]),
        (WASM, &["--middleware", &module], &[&module, "core module"]),
        (WASM, &["--middleware", "no-such.wasm"], &["no-such.wasm", "cannot read"]),
    ] {
        let (run, made) = compose(app, arguments);
        run.fails(1, parts);
        assert_eq!((run.out.as_str(), made), ("", false), "{app}");
    }
    let nowhere = run(&["compose", WASM, "-o", "/no/such/folder/out.wasm"]);
    nowhere.fails(1, &["/no/such/folder/out.wasm", "cannot write"]);
    assert!(!nowhere.err.contains(".weir-"), "{}", nowhere.err);
    run(&["compose", WASM, "-o", folder.path().to_str().unwrap()]).fails(1, &["cannot write"]);
    run(&["compose", WASM, "-o", "out.wasm", "--no-middleware"]).fails(2, &["--client"]);
}

#[test]
fn nothing_that_goes_in_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (app, own) = (folder.path().join("app.wasm"), folder.path().join("own.wasm"));
    fs::copy(WASM, &app).unwrap();
    fs::copy(MIDDLEWARE, &own).unwrap();
    std::os::unix::fs::symlink(&app, folder.path().join("link.wasm")).unwrap();
    let before = (fs::read(&app).unwrap(), fs::read(&own).unwrap());
    for out in ["app.wasm", "./app.wasm", "link.wasm", "own.wasm"] {
        let mut command = weir(&["compose", "app.wasm", "--middleware", "own.wasm", "-o", out]);
        command.current_dir(folder.path());
        crate::end(command).fails(2, &["overwritten", "-o"]);
    }
    assert!(before == (fs::read(&app).unwrap(), fs::read(&own).unwrap()));
    // What is no input is: whole or not at all.
    let out = file(folder.path(), "out.wasm", "old");
    run(&["compose", "no-such.wasm", "-o", &out]).fails(1, &["no-such.wasm"]);
    assert_eq!(fs::read(&out).unwrap(), b"old");
    run(&["compose", app.to_str().unwrap(), "-o", &out]).ok();
    assert!(fs::read(&out).unwrap().starts_with(b"\0asm"));
    // A link stays one, and so does a device.
    let target = file(folder.path(), "target.wasm", "old");
    let link = folder.path().join("to-target.wasm");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    run(&["compose", app.to_str().unwrap(), "-o", link.to_str().unwrap()]).ok();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&target).unwrap(), fs::read(&out).unwrap());
}
