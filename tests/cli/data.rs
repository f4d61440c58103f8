//! `weir serve --data`: what was answered before a kill holds after it, and a directory that cannot be used is left alone.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{HANG, Serving, file, run, signal, weir};

/// Rules and nothing else: what the lease API needs.
const RULES: &str = "
[[rule]]
pattern = \"slots\"
concurrency = 4
[[rule]]
pattern = \"starts\"
rates = [\"20/5s\"]
";

fn serve(config: &str, data: &Path) -> Serving {
    Serving::new(&["-c", config, "--data", data.to_str().expect("text")])
}

/// A client that says what went wrong, and when.
struct Client {
    agent: ureq::Agent,
}

impl Client {
    fn new() -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(HANG)).build();
        Self { agent: agent.new_agent() }
    }

    /// `None`: no answer has come.
    fn post(&self, server: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.agent.post(format!("{server}/weir/v1/{path}")).content_type("application/json");
        let mut response = request.send(body.to_string()).ok()?;
        let text = response.body_mut().read_to_string().ok()?;
        Some((response.status().as_u16(), serde_json::from_str(&text).expect("JSON")))
    }

    fn release(&self, server: &str, id: &str) -> Option<u16> {
        Some(self.agent.delete(format!("{server}/weir/v1/leases/{id}")).call().ok()?.status().as_u16())
    }
}

fn id(granted: &Value) -> String {
    granted["leases"][0]["id"].as_str().expect("an id").to_owned()
}

fn held(serving: &Serving, counter: &str) -> u64 {
    let shown = serving.run(&["counters", counter, "--json"]).json();
    let counters = shown["counters"].as_array().expect("counters").clone();
    counters.iter().find(|found| found["counter"] == counter).map_or(0, |found| found["calls"].as_u64().expect("calls"))
}

#[test]
fn power_wants_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "weir.toml", RULES);
    run(&["serve", "-c", &config, "--durability", "power"]).fails(2, &["durability is `power`", "--data"]);
    let config = file(folder.path(), "weir.toml", format!("[server]\ndurability = \"power\"\n{RULES}"));
    run(&["serve", "-c", &config]).fails(2, &["durability is `power`", "--data"]);
}

/// Clients go on while the server is killed at any moment, again and again. At no time do they hold more than the limit, in no
/// window have more started than the rate allows, and a request that is repeated under its key is one lease.
#[test]
fn kill_after_kill_nothing_is_over_and_nothing_answered_is_lost() {
    const CLIENTS: usize = 6;
    const KILLS: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "weir.toml", RULES);
    let data = folder.path().join("data");
    let server = Mutex::new(serve(&config, &data));
    let done = AtomicBool::new(false);
    let (alive, most, unanswered) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    // Of each start: no earlier than, no later than.
    let starts: Mutex<Vec<(Instant, Instant)>> = Mutex::default();
    let address = || server.lock().unwrap().ingress.clone();

    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (done, alive, most, unanswered, starts, address) =
                (&done, &alive, &most, &unanswered, &starts, &address);
            scope.spawn(move || {
                let http = Client::new();
                // Repeats a request under its key until there is an answer, and says when the one was sent that got it.
                let acquire = |body: &Value| loop {
                    let sent = Instant::now();
                    match http.post(&address(), "leases", body) {
                        Some((201, granted)) => return Some((sent, id(&granted))),
                        Some((429 | 503, _)) => return None,
                        Some(other) => panic!("{other:?}"),
                        None => {
                            unanswered.fetch_add(1, Ordering::Relaxed);
                            thread::sleep(Duration::from_millis(5));
                        }
                    }
                };
                for round in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("{client}-{round}");
                    let slot = acquire(
                        &json!({"scope": "slots", "lease-time": "1h", "max-wait": "20ms", "idempotency-key": key}),
                    );
                    if let Some((_, id)) = slot {
                        let now = alive.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(3));
                        alive.fetch_sub(1, Ordering::SeqCst);
                        // Once more until it is answered: a release that is lost would hold the slot for an hour.
                        while http.release(&address(), &id) != Some(200) {
                            thread::sleep(Duration::from_millis(5));
                        }
                    }
                    // Not under a key, so that it is not known which of two tries has started: any of them.
                    let to = address();
                    // As late as can be: what is before it would hide starts that are too close.
                    let began = Instant::now();
                    let start =
                        http.post(&to, "leases", &json!({"scope": "starts", "lease-time": "1s", "max-wait": "0s"}));
                    if let Some((201, _)) = start {
                        starts.lock().unwrap().push((began, Instant::now()));
                    }
                }
            });
        }
        for kill in 0..KILLS {
            thread::sleep(Duration::from_millis(300 + 37 * kill as u64));
            // With the lock held: who asks meanwhile waits for the next server, or has no answer from the last.
            let mut serving = server.lock().unwrap();
            signal(serving.child.id(), Signal::KILL);
            serving.child.wait().unwrap();
            *serving = serve(&config, &data);
        }
        thread::sleep(Duration::from_millis(300));
        done.store(true, Ordering::Relaxed);
    });

    let most = most.load(Ordering::SeqCst);
    assert!(most <= 4 && most > 1, "{most} held slots at once");
    assert!(unanswered.load(Ordering::Relaxed) > 0, "no kill has met a request");
    let mut starts = starts.into_inner().unwrap();
    starts.sort_by_key(|(_, answered)| *answered);
    assert!(starts.len() >= 20, "{} starts", starts.len());
    for window in starts.windows(21) {
        let (first, last) = (window[0].0, window[20].1);
        assert!(last - first >= Duration::from_secs(5), "21 starts within {:?}", last - first);
    }
    assert_eq!(held(&server.lock().unwrap(), "slots"), 0, "every lease was found again and given back");
}

#[test]
fn leases_rules_pauses_and_keys_are_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "weir.toml", RULES);
    let data = folder.path().join("deep/data");
    let serving = serve(&config, &data);
    let http = Client::new();
    let body = json!({"scope": "slots", "limit-key": "a/b", "lease-time": "1h", "idempotency-key": "k"});
    let (_, granted) = http.post(&serving.ingress, "leases", &body).unwrap();
    serving.run(&["rules", "set", "slots", "--concurrency", "9"]).ok();
    serving.run(&["rules", "set", "new/*", "--rate", "3/1m"]).ok();
    serving.run(&["counters", "pause", "starts"]).ok();
    let (_, err) = serving.end_with(Signal::KILL);
    assert!(!err.contains("memory only"), "{err}");

    let serving = serve(&config, &data);
    assert_eq!(held(&serving, "slots/a/b"), 1);
    let (status, again) = http.post(&serving.ingress, "leases", &body).unwrap();
    assert_eq!((status, id(&again)), (201, id(&granted)));
    let rules = serving.run(&["rules", "list", "--json"]).json();
    let shown: Vec<(&str, u64)> = rules["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["pattern"].as_str().unwrap(), rule["concurrency"].as_u64().unwrap_or_default()))
        .collect();
    assert_eq!(shown, [("new/*", 0), ("slots", 9), ("starts", 0)], "what was changed live wins over the same old file");
    let (status, refused) =
        http.post(&serving.ingress, "leases", &json!({"scope": "starts", "max-wait": "0s"})).unwrap();
    assert_eq!((status, refused["reason"].as_str()), (503, Some("paused")), "{refused}");
    assert_eq!(http.release(&serving.ingress, &id(&granted)), Some(200));
    serving.end_with(Signal::TERM);
    let serving = serve(&config, &data);
    assert_eq!(held(&serving, "slots/a/b"), 0);
    let (_, ended) = http.post(&serving.ingress, "leases", &body).unwrap();
    assert_eq!(ended["reason"], "ended");
}

#[test]
fn a_directory_that_has_the_rules_needs_none_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "weir.toml", "");
    let data = folder.path().join("data");
    let serving = serve(&config, &data);
    serving.run(&["rules", "set", "slots", "--concurrency", "1"]).ok();
    serving.end_with(Signal::KILL);
    let serving = serve(&config, &data);
    assert_eq!(serving.run(&["rules", "list", "--json"]).json()["rules"][0]["pattern"], "slots");
}

#[test]
fn without_a_directory_it_says_that_it_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "weir.toml", RULES);
    let (status, err) = Serving::new(&["-c", &config]).end_with(Signal::TERM);
    assert!(status.success() && err.contains("in memory only") && err.contains("--data DIR"), "{err}");
}

#[test]
fn a_directory_that_cannot_be_used_is_1_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "weir.toml", RULES);
    let fails = |data: &Path, parts: &[&str]| {
        let data = data.to_str().unwrap();
        let run =
            run(&["serve", "-c", &config, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", data]);
        run.fails(1, parts);
        assert_eq!(run.out, "", "nothing is served");
    };
    let data = folder.path().join("data");
    let serving = serve(&config, &data);
    fails(&data, &["weir.db is in use by another process", "--data DIR"]);
    serving.end_with(Signal::TERM);

    let bytes = b"this is not what it should be ".repeat(500);
    let damaged = folder.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("weir.db"), &bytes).unwrap();
    fails(&damaged, &["damaged/weir.db cannot be read", "Nothing was changed"]);
    assert_eq!(fs::read(damaged.join("weir.db")).unwrap(), bytes);
    fails(Path::new(&config), &["weir.toml", "cannot open"]);
}

/// The disk is full, as far as the server can tell: its files may grow no further. It refuses what must survive, goes on
/// with the rest, and has lost nothing that it had answered.
#[test]
fn a_full_disk_refuses_what_must_survive_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "weir.toml", "[[rule]]\npattern = \"*\"\nconcurrency = 100000\n");
    let data = folder.path().join("data");
    let weir = weir(&["serve", "-c", &config, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\""]);
    limited.arg(weir.get_program()).args(weir.get_args()).arg(&data);
    for (name, value) in weir.get_envs() {
        if value.is_none() {
            limited.env_remove(name);
        }
    }
    let mut serving = Serving::start(limited);
    let http = Client::new();
    let mut granted = Vec::new();
    let refused = loop {
        let body = json!({"scope": "s", "limit-key": format!("k{}", granted.len()), "lease-time": "1h"});
        match http.post(&serving.ingress, "leases", &body).expect("an answer") {
            (201, lease) => granted.push(id(&lease)),
            (503, problem) => break problem,
            other => panic!("{other:?}"),
        }
        assert!(granted.len() < 100_000, "the disk is never full");
    };
    assert_eq!(refused["reason"], "unavailable", "{refused}");
    assert!(granted.len() > 10);
    // It still answers: the admin API, releases, and what needs no disk.
    assert_eq!(held(&serving, "s"), granted.len() as u64, "what was refused is given back");
    let last = granted.pop().unwrap();
    assert_eq!(http.release(&serving.ingress, &last), Some(200));
    // What else must survive is refused, and nothing is changed.
    let changed = |answer: Option<(u16, serde_json::Value)>| {
        let (status, problem) = answer.expect("an answer");
        assert_eq!((status, &problem["reason"]), (503, &json!("unavailable")), "{problem}");
        assert_eq!(problem["detail"], "the data directory cannot be written, so nothing was changed");
    };
    let rules = serving.run(&["rules", "list", "--json"]).json();
    serving
        .run(&["rules", "set", "slots", "--concurrency", "9"])
        .fails(4, &["cannot be written, so nothing was changed"]);
    assert_eq!(serving.run(&["rules", "list", "--json"]).json(), rules);
    // But for an operator's word, which holds until the server ends.
    serving.run(&["counters", "pause", "s"]).fails(4, &["cannot be written: it is in force"]);
    serving.run(&["counters", "resume", "s"]).fails(4, &["cannot be written: it is in force"]);
    changed(http.post(&serving.ingress, &format!("leases/{}/extend", granted[0]), &json!({"lease-time": "2h"})));
    changed(http.post(&serving.ingress, &format!("leases/{}/settle", granted[0]), &json!({"cost": 5})));
    assert_eq!(held(&serving, "s"), granted.len() as u64);
    signal(serving.child.id(), Signal::KILL);
    serving.child.wait().unwrap();
    let mut err = String::new();
    serving.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.contains("cannot be written") && err.contains("journal.db") && !err.contains("panicked"), "{err}");
    drop(serving);

    // With room again. The release could not be written: that lease lives on until its time, and no other is missing.
    let serving = serve(&config, &data);
    for id in granted.iter().chain([&last]) {
        let extended = http.post(&serving.ingress, &format!("leases/{id}/extend"), &json!({"lease-time": "1h"}));
        assert_eq!(extended.map(|(status, _)| status), Some(200), "{id}");
    }
    assert_eq!(held(&serving, "s"), granted.len() as u64 + 1);
}
