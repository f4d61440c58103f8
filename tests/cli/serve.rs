//! `weir serve`.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::{Serving, WASM, end, file, run, weir};

#[test]
fn a_component_alone_is_served_on_every_path() {
    let serving = Serving::demo();
    assert_eq!(serving.get("/work?ms=1"), (200, "worked 1 ms\n".to_owned()));
    assert_eq!(serving.get("/weir/scope/s/call/weir_demo/work?ms=2"), (200, "worked 2 ms\n".to_owned()));
    let (status, err) = serving.end_with(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(err.contains("stopped"), "{err}");
}

#[test]
fn a_configuration_is_served_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(WASM, folder.path().join("hello.wasm")).unwrap();
    let config = file(
        folder.path(),
        "weir.toml",
        r#"
[server]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
workers = 1

[[component]]
name = "hello"
path = "hello.wasm"
route = "/work"
ingress-scope = "closed"

[[component]]
name = "other"
path = "hello.wasm"

[[rule]]
pattern = "closed"
concurrency = 0
max-wait = "0s"
"#,
    );
    let serving = Serving::start(weir(&["serve", "-c", &config, "--log-format", "json"]));
    assert_eq!(serving.get("/work").0, 503);
    assert_eq!(serving.get("/other/x").0, 404);
    assert_eq!(serving.get("/weir/call/other/work?ms=1").0, 200);
    assert_eq!(serving.run(&["rules", "list", "--json"]).json()["rules"][0]["pattern"], "closed");
    let (status, err) = serving.end_with(Signal::INT);
    assert_eq!(status.code(), Some(0), "{err}");
    for line in err.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

/// A component that knows nothing of flow control calls out, under the limits that the file has for whom it calls.
#[test]
fn calls_to_outside_come_under_the_limits_of_the_file() {
    let upstream = Serving::demo();
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[component]]\nname = \"app\"\npath = {:?}\nroute = \"/...\"\nallow-outbound = [\"127.0.0.1\"]\n\
         [[egress]]\nhost = \"127.0.0.1\"\nrates = [\"1/1h\"]\nmax-wait = \"0s\"\n",
        weir_tests::guests::EGRESS
    );
    let serving = Serving::new(&["-c", &file(folder.path(), "weir.toml", config)]);
    let call = format!("/call?url={}/healthz", upstream.admin.trim_start_matches("http://"));
    assert_eq!(serving.get(&call), (200, "200|||{\"status\":\"ok\"}".to_owned()));
    let (status, answer) = serving.get(&call);
    let parts: Vec<&str> = answer.splitn(4, '|').collect();
    assert_eq!((status, parts.len()), (200, 4), "{answer}");
    assert_eq!((parts[0], parts[1]), ("429", "limited"), "{answer}");
    let seconds: u64 = parts[2].parse().unwrap();
    assert!((3_000..=3_600).contains(&seconds) && parts[3].contains("at `127.0.0.1`"), "{answer}");
    let rules = serving.run(&["rules", "list", "--json"]).json();
    assert_eq!((&rules["rules"][0]["pattern"], &rules["rules"][0]["rates"][0]), (&"127.0.0.1".into(), &"1/1h".into()));
}

#[test]
fn the_environment_beats_the_file_and_options_beat_both() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(
        folder.path(),
        "weir.toml",
        format!(
            "[server]\nlisten = \"192.0.2.1:1\"\nadmin = \"192.0.2.1:2\"\n[[component]]\nname = \"a\"\npath = {WASM:?}\n"
        ),
    );
    let mut command = weir(&["serve", "--admin-listen", "127.0.0.1:0"]);
    command.env("WEIR_CONFIG", config).env("WEIR_LISTEN", "127.0.0.1:0").env("WEIR_ADMIN_LISTEN", "192.0.2.1:3");
    let serving = Serving::start(command);
    assert_eq!(serving.get("/weir/call/a/work?ms=1").0, 200);
}

#[test]
fn without_anything_to_serve_it_says_what_to_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = weir(&["serve"]);
    command.current_dir(folder.path());
    end(command).fails(2, &["nothing to serve", "weir serve hello.wasm", "weir demo"]);
}

#[test]
fn a_bad_configuration_is_2_with_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    for (text, parts) in [
        ("[server]\nlisen = \"127.0.0.1:1\"\n", ["bad.toml:2:1: ", "unknown field `lisen`"]),
        ("[[component]]\nname = \"a\"\npath = \"none.wasm\"\n", ["bad.toml:3:8: ", "path: there is no file"]),
        ("[[rule]]\npattern = \"a/b/c/d\"\n", ["bad.toml:2:11: ", "parts"]),
        ("not toml", ["bad.toml:1:", ""]),
        ("", ["bad.toml: no component and no rule", "--data DIR"]),
    ] {
        let config = file(folder.path(), "bad.toml", text);
        let run = run(&["serve", "-c", &config]);
        run.fails(2, &parts);
        assert_eq!(run.out, "", "nothing is served");
    }
    run(&["serve", "-c", "no-such.toml"]).fails(2, &["no-such.toml", "-c FILE"]);
}

#[test]
fn what_is_no_component_is_1_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "text.wasm", "hello");
    let module = file(folder.path(), "module.wasm", b"\0asm\x01\0\0\0");
    let empty = file(folder.path(), "empty.wasm", "");
    let cut = file(folder.path(), "cut.wasm", &std::fs::read(WASM).unwrap()[..1000]);
    for (path, part) in [
        (&text, "not a WebAssembly component"),
        (&module, "core module"),
        (&empty, "not a WebAssembly component"),
        (&cut, "does not compile"),
    ] {
        let run = run(&["serve", path, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        run.fails(1, &[path, part]);
        assert_eq!(run.out, "", "nothing is served");
    }
    run(&["serve", "no-such.wasm"]).fails(1, &["no-such.wasm", "cannot read"]);
}

#[test]
fn a_port_in_use_is_1_with_its_address_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run(&["serve", WASM, "--listen", &address, "--admin-listen", "127.0.0.1:0"])
        .fails(1, &["ingress", &address, "another program", "--listen", "WEIR_LISTEN"]);
    run(&["serve", WASM, "--listen", "127.0.0.1:0", "--admin-listen", &address])
        .fails(1, &["admin", &address, "another program", "--admin-listen"]);
    run(&["demo", "--seconds", "1", "--listen", &address]).fails(1, &[&address]);
}

#[test]
fn one_address_for_both_listeners_is_2_and_blames_no_other_program() {
    let folder = tempfile::tempdir().unwrap();
    let of_file = "[server]\nlisten = \"127.0.0.1:18099\"\nadmin = \"127.0.0.1:18099\"\n[[rule]]\npattern = \"a\"\nconcurrency = 1\n";
    let config = file(folder.path(), "weir.toml", of_file);
    for arguments in [
        &["serve", WASM, "--listen", "127.0.0.1:18099", "--admin-listen", "127.0.0.1:18099"][..],
        &["serve", WASM, "--listen", "127.0.0.1:9070"],
        &["serve", "-c", &config],
    ] {
        let run = run(arguments);
        run.fails(2, &["ingress and the admin API cannot both listen on 127.0.0.1:", "--listen", "--admin-listen"]);
        assert!(!run.err.contains("program") && run.out.is_empty(), "{run:?}");
    }
}
