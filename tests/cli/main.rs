//! The program as its users run it: arguments, files, exit codes, standard output and standard error.

mod apply;
mod bounds;
mod compose;
mod composed;
mod counters;
mod data;
mod demo;
mod elsewhere;
mod explain;
mod lease;
mod operate;
mod plain;
mod rules;
mod serve;
mod simulate;
mod spin;
mod template;
#[path = "../support/texts.rs"]
#[expect(unreachable_pub, reason = "it is public where it is a library's")]
mod texts;
mod tokens;
mod usage;
mod watch;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Only a hang takes so long: the program compiles a component when it starts, and tests run side by side.
const HANG: Duration = Duration::from_secs(120);

/// A component to serve: the one of the demo.
const WASM: &str = env!("WEIR_DEMO_WASM");

/// What a run of the program left behind.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

/// The program, without the settings of whoever runs the tests.
fn weir(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEIR_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
fn run(arguments: &[&str]) -> Run {
    end(weir(arguments))
}

/// Runs a command to its end.
fn end(mut command: Command) -> Run {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let id = child.id();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(HANG) else {
        signal(id, Signal::KILL);
        panic!("hangs: {command:?}");
    };
    let output = output.expect("an end");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn signal(id: u32, signal: Signal) {
    let pid = Pid::from_raw(id.cast_signed()).expect("a process");
    kill_process(pid, signal).expect("it is ours");
}

impl Run {
    /// Asserts its end, and that standard error says all of `parts`.
    #[track_caller]
    fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is missing in:\n{}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    /// Asserts that it ended well, and answers its standard output.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The same, as JSON.
    #[track_caller]
    fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

/// A server that runs until its end is asked for, or this is dropped.
struct Serving {
    child: Child,
    ingress: String,
    admin: String,
}

impl Serving {
    /// Serves on free ports.
    fn new(arguments: &[&str]) -> Self {
        let mut command = weir(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(arguments);
        Self::start(command)
    }

    /// The component of the demo, alone.
    fn demo() -> Self {
        Self::new(&[WASM])
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = |name: &str| match lines.next() {
            Some(Ok(line)) => line.strip_prefix(name).unwrap_or_else(|| panic!("no {name}: {line}")).trim().to_owned(),
            _ => {
                let mut err = String::new();
                child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
                panic!("it does not serve: {err}");
            }
        };
        let (ingress, admin) = (address("ingress"), address("admin"));
        Self { child, ingress, admin }
    }

    /// Runs a command of a client against it.
    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = weir(arguments);
        command.env("WEIR_ADMIN", &self.admin);
        end(command)
    }

    fn get(&self, path: &str) -> (u16, String) {
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(HANG)).build().new_agent();
        let mut response = agent.get(format!("{}{path}", self.ingress)).call().expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
    }

    /// Sends a signal, and answers how it ended and what it said on standard error.
    fn end_with(mut self, by: Signal) -> (ExitStatus, String) {
        signal(self.child.id(), by);
        let mut err = String::new();
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("ours") {
                break status;
            }
            assert!(began.elapsed() < HANG, "it does not end");
            thread::sleep(Duration::from_millis(10));
        };
        self.child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
        (status, err)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Writes a file into a folder.
fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a file");
    path.to_str().expect("text").to_owned()
}
