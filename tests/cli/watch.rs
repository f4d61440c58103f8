//! `weir rules watch`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::Signal;

use crate::{HANG, Serving, WASM, run, signal, weir};

/// A watcher, and its lines as they come.
struct Watching {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Watching {
    fn new(serving: &Serving, arguments: &[&str]) -> Self {
        let mut command = weir(&[&["rules", "watch", "--admin", &serving.admin], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = lines(child.stdout.take().expect("piped"));
        let err = lines(child.stderr.take().expect("piped"));
        let watching = Self { child, out, err };
        // From here on it sees every change.
        assert!(watching.says().starts_with("book version "));
        watching
    }

    fn shows(&self) -> String {
        self.out.recv_timeout(HANG).expect("a line")
    }

    fn says(&self) -> String {
        self.err.recv_timeout(HANG).expect("a line")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

#[test]
fn every_change_of_another_is_a_line() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "a", "--concurrency", "1"]).ok();
    let watching = Watching::new(&serving, &[]);
    let json = Watching::new(&serving, &["--json"]);
    for (arguments, line) in [
        (&["set", "b/*", "--rate", "3/1m", "--total"][..], "2 added b/*: concurrency unlimited, rates 3/1m, total"),
        (&["set", "a", "--concurrency", "2"], "3 changed a: concurrency 1 -> 2"),
        (&["disable", "a"], "4 disabled a: state enabled -> disabled"),
        (&["enable", "a"], "5 enabled a: state disabled -> enabled"),
        (&["delete", "a"], "6 removed a: concurrency 2"),
    ] {
        serving.run(&[&["rules"], arguments].concat()).ok();
        assert_eq!(watching.shows(), line);
        let shown: serde_json::Value = serde_json::from_str(&json.shows()).expect("one object a line");
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(shown["book-version"].to_string(), words[0]);
        assert_eq!((&shown["kind"], &shown["pattern"]), (&words[1].into(), &words[2].trim_end_matches(':').into()));
    }
}

#[test]
fn it_outlives_a_restart_and_ends_with_ctrl_c() {
    let serving = Serving::demo();
    serving.run(&["rules", "set", "gone", "--concurrency", "1"]).ok();
    let mut watching = Watching::new(&serving, &[]);
    let admin = serving.admin.trim_start_matches("http://").to_owned();
    drop(serving);
    assert!(watching.says().contains("trying again"));
    let again = weir(&["serve", WASM, "--listen", "127.0.0.1:0", "--admin-listen", &admin]);
    let serving = Serving::start(again);
    while watching.says() != "the server answers again" {}
    assert_eq!(watching.shows(), "0 removed gone: concurrency 1");
    serving.run(&["rules", "set", "new", "--concurrency", "1"]).ok();
    assert_eq!(watching.shows(), "1 added new: concurrency 1");
    signal(watching.child.id(), Signal::INT);
    assert!(!watching.child.wait().expect("an end").success());
}

#[test]
fn without_a_server_it_does_not_begin() {
    run(&["rules", "watch", "--admin", "http://127.0.0.1:1"]).fails(1, &["no server answers"]);
}
