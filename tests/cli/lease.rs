//! `weir lease` and `weir run`, against a server that runs.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::operate::shows;
use crate::{Run, Serving, WASM, end, run, signal, weir};

/// A server with one rule on the scope `s`.
fn serving(concurrency: &str) -> Serving {
    let serving = Serving::demo();
    run(&["rules", "set", "s", "--concurrency", concurrency, "--admin", &serving.admin]).ok();
    serving
}

/// Runs a command that speaks to ingress.
fn at(serving: &Serving, arguments: &[&str]) -> Run {
    let mut command = weir(arguments);
    command.env("WEIR_URL", &serving.ingress);
    end(command)
}

fn held(serving: &Serving, counter: &str) -> u64 {
    let shown = run(&["counters", counter, "--json", "--admin", &serving.admin]).json();
    let counters = shown["counters"].as_array().expect("counters");
    let found = counters.iter().find(|found| found["counter"] == counter);
    found.map_or(0, |found| found["calls"].as_u64().expect("a number"))
}

#[test]
fn a_script_takes_extends_settles_and_releases() {
    let serving = serving("1");
    let id = at(&serving, &["lease", "acquire", "s", "--cost", "4000"]).ok().trim().to_owned();
    assert_eq!((id.len(), held(&serving, "s")), (36, 1));
    at(&serving, &["lease", "acquire", "s", "--max-wait", "0s"]).fails(4, &["limited", "concurrency at `s` (1/1)"]);
    let refused = at(&serving, &["lease", "acquire", "s", "--max-wait", "0s", "--json"]);
    refused.fails(4, &["limited"]);
    let problem: serde_json::Value = serde_json::from_str(&refused.out).expect("JSON");
    assert_eq!(
        (&problem["reason"], &problem["constraints"][0]["counter"]),
        (&"limited".into(), &"s".into()),
        "{problem}"
    );
    let checked = at(&serving, &["lease", "check", "s"]);
    assert_eq!(checked.code, Some(4), "{checked:?}");
    assert!(checked.out.contains("concurrency"), "{checked:?}");

    let extended = at(&serving, &["lease", "extend", &id, "--lease-time", "1h"]).ok();
    assert!(extended.starts_with("59m") || extended.starts_with("1h"), "{extended}");
    assert_eq!(at(&serving, &["lease", "settle", &id, "1250"]).ok(), "refunded 2750, overrun 0\n");
    assert_eq!(at(&serving, &["lease", "release", &id]).ok(), "released\n");
    assert_eq!(held(&serving, "s"), 0);
    assert_eq!(at(&serving, &["lease", "release", &id, "--json"]).json(), serde_json::json!({"released": false}));
    at(&serving, &["lease", "extend", &id]).fails(1, &["the lease is gone"]);
    assert_eq!(at(&serving, &["lease", "check", "s"]).ok(), "granted\n");
}

#[test]
fn who_asks_brings_limits_of_an_inline_key() {
    let serving = serving("9");
    let plan = ["--flow-control", "plan:7:concurrency=1,rate=100/1h"];
    let two = [&plan[..], &["--flow-control", "batch:rate=1/1h"]].concat();
    let acquire = |more: &[&str]| at(&serving, &[&["lease", "acquire", "s", "--max-wait", "0s"], more].concat());
    let id = acquire(&two).ok();
    assert_eq!(["s", "s#plan:7", "s#batch"].map(|counter| held(&serving, counter)), [1, 1, 1]);
    acquire(&plan).fails(4, &["concurrency at `s#plan:7` (1/1)"]);
    let checked = at(&serving, &[&["lease", "check", "s"], &plan[..]].concat());
    assert_eq!(checked.code, Some(4), "{checked:?}");
    // Who brings more is let in beside it.
    let other = acquire(&["--flow-control", "plan:7:concurrency=2"]).ok();
    assert_eq!(["s", "s#plan:7"].map(|counter| held(&serving, counter)), [2, 2]);
    for id in [id, other] {
        at(&serving, &["lease", "release", id.trim()]).ok();
    }
    acquire(&two).fails(4, &["s#batch"]);
    let ran = at(&serving, &[&["run", "--scope", "s"], &plan[..], &["--", "echo", "done"]].concat());
    assert_eq!(ran.ok(), "done\n");
    let wrong = [&plan[..], &["--flow-control", "plan:7:concurrency=2"]].concat();
    acquire(&wrong).fails(2, &["the inline key `s#plan:7` comes twice, with other numbers"]);
    let many: Vec<String> = (0..16).map(|n| format!("--flow-control=k{n}:concurrency=1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    acquire(&many).fails(2, &["16 further keys: at most 15"]);
    run(&["lease", "acquire", "s", "--flow-control", "plan"]).fails(2, &["--flow-control", "KEY:concurrency=N"]);
    assert_eq!(held(&serving, "s"), 0);
}

/// Nobody could release a lease whose id was never printed.
#[test]
#[cfg(target_os = "linux")]
fn a_lease_that_cannot_be_printed_is_not_kept() {
    let serving = serving("2");
    let untold = |more: &[&str]| {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
        let mut command = weir(&[&["lease", "acquire", "s", "--count", "2", "--max-wait", "0s"], more].concat());
        let output = command.env("WEIR_URL", &serving.ingress).stdout(full).output().expect("an end");
        let err = String::from_utf8(output.stderr).expect("text");
        Run { code: output.status.code(), out: String::new(), err }
    };
    for form in [&[][..], &["--json"]] {
        untold(form).fails(1, &["error: No space left on device", "could not be printed were released"]);
        assert_eq!(held(&serving, "s"), 0);
    }
    // Under a key of its own it is not lost.
    let key = ["--idempotency-key", "k"];
    untold(&key).fails(1, &["No space left", "the same request under its --idempotency-key"]);
    assert_eq!(held(&serving, "s"), 2);
    let again = at(&serving, &[&["lease", "acquire", "s", "--count", "2", "--max-wait", "0s"], &key[..]].concat()).ok();
    assert_eq!((again.lines().count(), held(&serving, "s")), (2, 2), "{again}");
}

#[test]
fn what_can_never_be_granted_is_not_to_be_tried_again() {
    let serving = serving("5:cost");
    assert_eq!(at(&serving, &["lease", "check", "s", "--cost", "5"]).code, Some(0));
    assert_eq!(at(&serving, &["lease", "check", "s", "--cost", "6"]).code, Some(1));
    assert_eq!(at(&serving, &["lease", "acquire", "s", "--cost", "6"]).code, Some(1));
}

#[test]
fn a_batch_a_repetition_and_a_pushback() {
    let serving = serving("3");
    let arguments = ["lease", "acquire", "s", "--count", "5", "--least", "1", "--idempotency-key", "k", "--json"];
    let granted = at(&serving, &arguments).json();
    let ids = |granted: &Value| -> Vec<String> {
        let leases = granted["leases"].as_array().expect("leases");
        leases.iter().map(|lease| lease["id"].as_str().expect("an id").to_owned()).collect()
    };
    let first = ids(&granted);
    assert_eq!(first.len(), 3);
    assert_eq!(ids(&at(&serving, &arguments).json()), first, "the same request gets the same leases");
    assert_eq!(at(&serving, &["lease", "release", "--pushed-back", &first[1]]).ok(), "released\n");
    at(&serving, &["lease", "release", &first[0], "--pushed-back=1h"]).ok();
    at(&serving, &["lease", "acquire", "s", "--max-wait", "0s"]).fails(4, &["pushed-back"]);
}

#[test]
fn a_command_runs_under_its_lease_and_its_code_passes_through() {
    let serving = serving("1");
    let seen = at(
        &serving,
        &["run", "--scope", "s", "--", "sh", "-c", "echo $WEIR_LEASE_ID $WEIR_LEASE_FENCE; echo talk >&2; exit 7"],
    );
    assert_eq!(seen.code, Some(7), "{seen:?}");
    let words: Vec<&str> = seen.out.split_whitespace().collect();
    assert_eq!((words.len(), words[0].len()), (2, 36), "{seen:?}");
    assert!(words[1].parse::<u64>().is_ok() && seen.err == "talk\n", "{seen:?}");
    assert_eq!(held(&serving, "s"), 0);
    at(&serving, &["run", "--scope", "s", "--", "true"]).ok();
    assert_eq!(at(&serving, &["run", "--scope", "s", "--", "sh", "-c", "kill -9 $$"]).code, Some(137));

    let lease = at(&serving, &["lease", "acquire", "s"]).ok();
    let refused = at(&serving, &["run", "--scope", "s", "--wait", "1ms", "--", "echo", "never"]);
    refused.fails(75, &["concurrency"]);
    assert_eq!(refused.out, "");
    at(&serving, &["lease", "release", lease.trim()]).ok();
    at(&serving, &["run", "--scope", "s", "--", "/no/such/command"]).fails(127, &["/no/such/command"]);
    at(&serving, &["run", "--scope", "s", "--", "/"]).fails(126, &["cannot start `/`"]);
    assert_eq!(held(&serving, "s"), 0, "a command that does not start holds nothing");
}

#[test]
fn a_command_holds_its_cost_at_its_limit_key() {
    let serving = serving("9:cost");
    let script = format!("{} counters s --json --admin {}", env!("CARGO_BIN_EXE_weir"), serving.admin);
    let arguments = ["run", "--scope", "s", "--limit-key", "k", "--cost", "4", "--", "sh", "-c", &script];
    let shown = at(&serving, &arguments).json();
    let counters = shown["counters"].as_array().expect("counters");
    let seen: Vec<Value> =
        counters.iter().map(|found| json!([found["counter"], found["calls"], found["cost"]])).collect();
    assert_eq!(seen, [json!(["s", 1, 4]), json!(["s/k", 1, 4])]);
    assert_eq!((held(&serving, "s"), held(&serving, "s/k")), (0, 0));
}

#[test]
fn a_command_whose_server_is_killed_is_ended() {
    let serving = serving("1");
    let script = format!("kill -KILL {}; sleep 3600", serving.child.id());
    let began = std::time::Instant::now();
    let ended = at(&serving, &["run", "--scope", "s", "--lease-time", "2s", "--", "sh", "-c", &script]);
    ended.fails(124, &["the lease was lost", "ending the command"]);
    let took = began.elapsed();
    assert!(!ended.err.contains("not given back") && took < Duration::from_secs(60), "{took:?}: {ended:?}");
}

#[test]
fn a_command_that_outlasts_its_lease_time_keeps_its_lease() {
    let serving = serving("1");
    // Long enough that a busy machine does not keep it from extending.
    let arguments = ["run", "--scope", "s", "--lease-time", "2s", "--", "sh", "-c", "sleep 5; echo done"];
    assert_eq!(at(&serving, &arguments).ok(), "done\n");
    assert_eq!(held(&serving, "s"), 0);
}

#[test]
fn a_command_whose_lease_is_lost_is_ended() {
    let serving = serving("1");
    // It gives its own lease away, and would then run on for an hour.
    let script =
        format!("{} lease release $WEIR_LEASE_ID --url {}; sleep 3600", env!("CARGO_BIN_EXE_weir"), serving.ingress);
    let arguments = ["run", "--scope", "s", "--lease-time", "200ms", "--", "sh", "-c", &script];
    let ended = at(&serving, &arguments);
    ended.fails(124, &["the lease was lost", "ending the command"]);
    // One that does not listen is killed.
    let script = format!("trap '' TERM; {script}; sleep 3600");
    let arguments =
        ["run", "--scope", "s", "--lease-time", "200ms", "--kill-after", "100ms", "--", "sh", "-c", &script];
    at(&serving, &arguments).fails(124, &["the lease was lost"]);
    // One that leaves somebody behind who does not listen: nobody of it works on.
    let folder = tempfile::tempdir().expect("a folder");
    let alive = folder.path().join("alive");
    let script = format!(
        "(trap '' TERM; while sleep 0.05; do date +%s%N >{}; done) & {} lease release $WEIR_LEASE_ID --url {}; wait",
        alive.display(),
        env!("CARGO_BIN_EXE_weir"),
        serving.ingress
    );
    let arguments =
        ["run", "--scope", "s", "--lease-time", "200ms", "--kill-after", "300ms", "--", "sh", "-c", &script];
    at(&serving, &arguments).fails(124, &["the lease was lost"]);
    let last = std::fs::read_to_string(&alive).expect("it worked");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(std::fs::read_to_string(&alive).expect("it worked"), last, "it works on");
    assert_eq!(held(&serving, "s"), 0);
}

#[test]
fn a_lease_that_is_lost_to_a_server_that_stands_still_is_not_given_back() {
    let serving = serving("1");
    let pid = serving.child.id();
    let script = format!("kill -STOP {pid}; sleep 3600");
    let arguments = ["run", "--scope", "s", "--lease-time", "1s", "--", "sh", "-c", &script];
    let began = std::time::Instant::now();
    let ended = at(&serving, &arguments);
    let took = began.elapsed();
    signal(pid, Signal::CONT);
    ended.fails(124, &["the lease was lost", "ending the command"]);
    assert!(!ended.err.contains("not given back") && took < Duration::from_secs(10), "{took:?}: {ended:?}");
}

#[test]
fn a_signal_reaches_the_command_and_the_lease_is_given_back() {
    use std::io::{BufRead, BufReader};
    let serving = serving("1");
    let mut command = weir(&["run", "--scope", "s", "--", "sh", "-c", "echo started; sleep 3600"]);
    command.env("WEIR_URL", &serving.ingress).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!((line.as_str(), held(&serving, "s")), ("started\n", 1));
    signal(child.id(), Signal::TERM);
    let began = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("an end") {
            break status;
        }
        assert!(began.elapsed() < crate::HANG, "hangs");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((status.code(), held(&serving, "s")), (Some(143), 0));
}

#[test]
fn who_waits_outlasts_a_restart_of_the_server() {
    let serving = serving("0");
    let ingress = serving.ingress.clone();
    let mut command = weir(&["run", "--scope", "s", "--wait", "90s", "--", "echo", "done"]);
    command.env("WEIR_URL", &ingress);
    let waits = std::thread::spawn(move || end(command));
    shows(&serving, "s", 0, 1);
    drop(serving);
    let address = ingress.trim_start_matches("http://");
    let serving = Serving::start(weir(&["serve", WASM, "--listen", address, "--admin-listen", "127.0.0.1:0"]));
    assert_eq!(waits.join().expect("an end").ok(), "done\n");
    assert_eq!(held(&serving, "s"), 0);
}

#[test]
fn a_server_that_never_answers_is_not_waited_for_longer_than_was_said() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| run(&["run", "--scope", "s", "--wait", "1s", "--url", &url, "--", "true"]));
        let acquired = run(&["lease", "acquire", "s", "--max-wait", "0s", "--url", &url]);
        acquired.fails(1, &["no server answers at", "nothing came in time"]);
        waits.join().expect("an end").fails(125, &["no server answers at", "nothing came in time"]);
    });
    assert!(began.elapsed() < Duration::from_secs(60), "it waited for {:?}", began.elapsed());
}

#[test]
fn what_is_said_wrongly_is_named() {
    let nobody = "http://127.0.0.1:1";
    run(&["lease", "acquire", "s", "--url", nobody]).fails(1, &["no server answers", "weir serve", "--url URL"]);
    run(&["run", "--scope", "s", "--url", nobody, "--", "true"]).fails(125, &["no server answers"]);
    run(&["run", "--scope", "s"]).fails(2, &["COMMAND"]);
    run(&["run", "--scope", "a b", "--", "true"]).fails(2, &["byte 0x20"]);
    run(&["lease", "acquire", "a//b"]).fails(2, &["a//b"]);
    run(&["lease", "acquire", "s", "--cost", "0"]).fails(2, &["--cost", "it is a number from 1 to 4294967295"]);
    run(&["lease", "acquire", "s", "--weight", "1001"]).fails(2, &["1 to 1000"]);
    run(&["lease", "acquire", "s", "--count", "0"]).fails(2, &["--count", "a batch is a number from 1 to 1000"]);
    run(&["lease", "acquire", "s", "--least", "1001"]).fails(2, &["--least", "a batch is a number from 1 to 1000"]);
    run(&["lease", "acquire", "s", "--url", "ftp://x"]).fails(2, &["is not an http URL", "http://127.0.0.1:8080"]);
    let serving = Serving::demo();
    at(&serving, &["lease", "acquire", "s", "--lease-time", "1ms"]).fails(2, &["lease-time", "100ms to 1h"]);
    at(&serving, &["lease", "acquire", "s", "--count", "2", "--least", "3"]).fails(2, &["batch of 2", "(least)"]);
    at(&serving, &["lease", "extend", "../../v1/check"]).fails(1, &["the lease is gone"]);
    run(&["lease", "check", "s", "--url", &serving.admin]).fails(1, &["does not answer like the lease API", "--url"]);
    run(&["rules", "list", "--admin", &serving.ingress]).fails(1, &["does not answer like the admin API", "--admin"]);
}
