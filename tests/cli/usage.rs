//! What is said wrongly: exit code 2, and a text that says what to write.

use std::process::Stdio;

use crate::{Serving, end, run, weir};

#[test]
fn help_has_examples_and_environment() {
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["demo", "--help"],
        &["compose", "--help"],
        &["parts", "--help"],
        &["rules", "--help"],
        &["rules", "set", "--help"],
        &["rules", "list", "--help"],
        &["rules", "apply", "--help"],
        &["rules", "watch", "--help"],
        &["counters", "--help"],
        &["counters", "pause", "--help"],
        &["counters", "pin", "--help"],
        &["counters", "drain", "--help"],
        &["explain", "--help"],
        &["run", "--help"],
        &["lease", "--help"],
        &["lease", "acquire", "--help"],
        &["token", "--help"],
        &["token", "create", "--help"],
        &["simulate", "--help"],
    ] {
        let help = run(arguments).ok();
        assert!(help.contains("Examples:"), "{arguments:?}: {help}");
    }
    let help = run(&["serve", "--help"]).ok();
    for name in [
        "WEIR_CONFIG",
        "WEIR_LISTEN",
        "WEIR_ADMIN_LISTEN",
        "WEIR_SHUTDOWN_TIMEOUT",
        "WEIR_WORKERS",
        "WEIR_TOKENS",
        "WEIR_NO_LEASE_API",
        "WEIR_LOG",
        "WEIR_LOG_FORMAT",
    ] {
        assert!(help.contains(name), "{name}");
    }
    assert!(run(&["--version"]).ok().starts_with("weir "));
}

#[test]
fn wrong_usage_is_2() {
    for (arguments, part) in [
        (&[][..], "Usage"),
        (&["flow"], "flow"),
        (&["compose"], "<APP.wasm>"),
        (&["compose", "a.wasm"], "--out"),
        (&["compose", "a.wasm", "-o", "b.wasm", "-o", "c.wasm"], "multiple times"),
        (&["rules", "set", "a/b/c/d", "--unlimited"], "parts"),
        (&["rules", "set", "a b", "--unlimited"], "0x20"),
        (&["rules", "set", "a", "--rate", "3"], "no `/`"),
        (&["rules", "set", "a", "--rate", "0/1m"], "`0` is not a number"),
        (&["rules", "set", "a", "--rate", "3/1m", "--rate", "4/1m"], "two rates"),
        (&["rules", "set", "a", "--concurrency", "-1"], "-1"),
        (&["rules", "set", "a", "--concurrency", "1", "--unlimited"], "cannot be used with"),
        (&["rules", "set", "a", "--max-wait", "soon"], "soon"),
        (&["rules", "set", "a"], "--concurrency"),
        (&["rules", "delete", ""], "empty"),
        (&["rules", "set", "a", "--max-pushback", "2days"], "at most 1day"),
        (&["rules", "set", "a", "--total", "--no-total"], "cannot be used with"),
        (&["rules", "set", "a", "--shadow-rate", "1/1s", "--no-shadow"], "cannot be used with"),
        (&["rules", "set", "a", "--shadow-rate", "1/1s", "--shadow-rate", "2/1s"], "two rates"),
        (&["rules", "apply"], "<FILE>"),
        (&["rules", "apply", "a.toml", "--yes", "--dry-run"], "cannot be used with"),
        (&["counters", "--limit", "0"], "--limit"),
        (&["counters", "pause"], "<COUNTER>"),
        (&["counters", "pause", ""], "empty"),
        (&["counters", "pause", "a b"], "0x20"),
        (&["counters", "pause", "a/b/c/d"], "parts"),
        (&["counters", "pause", "a#b#c"], "`#`"),
        (&["counters", "pin", "a"], "--concurrency"),
        (&["counters", "pin", "a", "--rate", "3"], "no `/`"),
        (&["counters", "pin", "a", "--max-waiters", "1000001"], "too many"),
        (&["counters", "drain", "a", "--timeout", "1s"], "--wait"),
        (&["counters", "a", "pause", "b"], "b"),
        (&["explain"], "SCOPE"),
        (&["explain", "a/*"], "`*`"),
        (&["explain", "a", "--cost", "0"], "--cost"),
        (&["explain", "a", "--priority", "256"], "--priority"),
        (&["explain", "a", "--weight", "1001"], "--weight"),
        (&["counters", "--admin", "nowhere"], "is not an http URL"),
        (&["demo", "--seconds", "0"], "--seconds"),
        (&["serve", "--listen", "localhost"], "--listen"),
        (&["serve", "--shutdown-timeout", "soon", "a.wasm"], "soon"),
        (&["serve", "--log", "a=b=c", "a.wasm"], "is not a filter"),
    ] {
        run(arguments).fails(2, &[part]);
    }
}

/// Nobody finds a value that is not in the line.
#[test]
fn a_wrong_value_from_the_environment_is_blamed_on_its_variable() {
    for (arguments, name, value) in [
        (&["serve", "a.wasm"][..], "WEIR_LISTEN", "localhost"),
        (&["serve", "a.wasm"], "WEIR_WORKERS", "0"),
        (&["serve", "a.wasm"], "WEIR_SHUTDOWN_TIMEOUT", "soon"),
        (&["demo"], "WEIR_ADMIN_LISTEN", "x"),
        (&["rules", "list"], "WEIR_LOG_FORMAT", "xml"),
        (&["rules", "list"], "WEIR_ADMIN", "nowhere"),
        (&["lease", "extend", "a"], "WEIR_URL", "nowhere"),
    ] {
        let mut command = weir(arguments);
        command.env(name, value);
        let said = end(command);
        said.fails(2, &[name, value]);
    }
    // The line goes before, and is blamed for itself.
    let mut command = weir(&["serve", "a.wasm", "--workers=0"]);
    command.env("WEIR_WORKERS", "0");
    let said = end(command);
    said.fails(2, &["for '--workers"]);
    assert!(!said.err.contains("WEIR_WORKERS"), "{}", said.err);
}

#[test]
fn without_a_server_it_says_how_to_start_one() {
    // Port 1 is nobody's.
    for arguments in [
        &["rules", "list"][..],
        &["rules", "set", "a", "--unlimited"],
        &["rules", "enable", "a"],
        &["rules", "delete", "a"],
        &["rules", "watch"],
        &["counters"],
        &["counters", "pause", "a"],
        &["counters", "drain", "a", "--wait"],
        &["explain", "a"],
    ] {
        let run = run(&[arguments, &["--admin", "http://127.0.0.1:1"]].concat());
        run.fails(1, &["no server answers at http://127.0.0.1:1", "weir serve", "--admin"]);
        assert_eq!(run.out, "");
    }
}

#[test]
fn a_stranger_is_told_from_an_admin_api() {
    let serving = Serving::demo();
    run(&["rules", "list", "--admin", &serving.ingress]).fails(1, &["does not answer like the admin API", "--admin"]);
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "a", "--concurrency", "1"]).ok();
    let mut child =
        weir(&["rules", "list", "--admin", &serving.admin]).stdout(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}
