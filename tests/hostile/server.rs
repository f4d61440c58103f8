//! The server under attack, and its neighbour.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weir_tests::guests;

use crate::wire::{get, get_until};
use crate::{HANG, figure};

/// Between two calls of the neighbour.
const PAUSE: Duration = Duration::from_millis(20);

/// `good` is the neighbour's, `bad` is hostile, `late` too, and has little time. `shut` is closed: who acquires there waits. At `one`
/// there is one place.
const CONFIG: &str = r#"
[[component]]
name = "good"
path = "FLOW"
allow-scopes = ["*"]
[[component]]
name = "bad"
path = "HOSTILE"
allow-scopes = ["*"]
cpu = "200ms"
[[component]]
name = "late"
path = "HOSTILE"
deadline = "300ms"
[[component]]
name = "waits"
path = "FLOW"
allow-scopes = ["*"]
[[rule]]
pattern = "shut"
concurrency = 0
max-waiters = 20000
[[rule]]
pattern = "one"
concurrency = 1
[[rule]]
pattern = "neighbour"
concurrency = 1
"#;

/// A server that runs until this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) ingress: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<String>>,
    _folder: TempDir,
}

/// The slowest answers of the neighbour's calls, and how many there were.
#[derive(Debug, Default)]
struct Neighbour {
    call: Duration,
    admin: Duration,
    rounds: usize,
}

impl Neighbour {
    /// Calls a component and asks the admin API.
    async fn round(&mut self, ingress: SocketAddr, admin: SocketAddr) {
        let began = Instant::now();
        let answer = get(ingress, "/weir/scope/neighbour/call/good/plain").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.call = self.call.max(began.elapsed());
        let began = Instant::now();
        let answer = get(admin, "/v1/counters?prefix=neighbour").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.admin = self.admin.max(began.elapsed());
        self.rounds += 1;
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_weir")))
    }

    /// The same, with no more than so many open files.
    pub(crate) fn with_files(files: usize) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_weir")]);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("weir.toml");
        let text = CONFIG.replace("FLOW", guests::FLOW).replace("HOSTILE", guests::HOSTILE);
        std::fs::write(&config, text).expect("a file");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(name);
            }
        }
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "-c"]).arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().expect("piped")).lines(), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writeln!(kept.lock().expect("no panic"), "{line}").expect("it is memory");
            }
        });
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = |name: &str| {
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            let address = line.strip_prefix(name).and_then(|rest| rest.trim().strip_prefix("http://"));
            address.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {name}: {line}: {log:?}"))
        };
        let (ingress, admin) = (address("ingress"), address("admin"));
        Self { child, ingress, admin, log, _folder: folder }
    }

    /// Runs an attack beside the neighbour, and sees that nothing is left of it.
    pub(crate) async fn under<F: Future>(&self, name: &str, attack: F) -> F::Output {
        let over = Arc::new(AtomicBool::new(false));
        let (ingress, admin, ends) = (self.ingress, self.admin, Arc::clone(&over));
        let neighbour = tokio::spawn(async move {
            let mut neighbour = Neighbour::default();
            loop {
                // One more when the attack is over: so there always was one.
                let last = ends.load(Ordering::Relaxed);
                neighbour.round(ingress, admin).await;
                if last {
                    return neighbour;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        let output = tokio::time::timeout(HANG, attack).await.unwrap_or_else(|_| panic!("hangs: {name}"));
        over.store(true, Ordering::Relaxed);
        let neighbour = neighbour.await.expect("the neighbour is answered");
        self.shows(&["weir_leases 0", "weir_waiting 0", "weir_http_connections 0"]).await;
        self.no_panic();
        figure(&format!("{name}_calls"), neighbour.rounds);
        figure(&format!("{name}_call_ms"), neighbour.call.as_millis());
        figure(&format!("{name}_admin_ms"), neighbour.admin.as_millis());
        figure(&format!("{name}_rss_mb"), self.megabytes());
        output
    }

    /// Waits until the server's figures have these lines.
    pub(crate) async fn shows(&self, lines: &[&str]) {
        let all = |figures: &str| lines.iter().all(|line| figures.lines().any(|shown| shown == *line));
        get_until(self.admin, "/metrics", all).await;
    }

    /// A figure of the server.
    pub(crate) async fn figure(&self, name: &str) -> u64 {
        let figures = get(self.admin, "/metrics").await.body;
        let line = figures.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {figures}"))
    }

    /// How many counters begin with this.
    pub(crate) async fn counters(&self, prefix: &str) -> usize {
        let shown = get(self.admin, &format!("/v1/counters?prefix={prefix}")).await.json();
        shown["counters"].as_array().expect("counters").len()
    }

    /// How many calls a counter holds.
    pub(crate) async fn held(&self, counter: &str) -> u64 {
        let shown = get(self.admin, &format!("/v1/counters?prefix={counter}")).await.json();
        let counters = shown["counters"].as_array().expect("counters");
        counters.iter().filter_map(|shown| shown["calls"].as_u64()).sum()
    }

    /// How many connections it has room for, as far as its limit on open files makes it fewer than it would take: each needs two.
    pub(crate) fn room(&self) -> Option<usize> {
        let log = self.log.lock().expect("no panic");
        let line = log.lines().find(|line| line.contains("leaves room for fewer connections"))?;
        line.split_whitespace().find_map(|word| word.strip_prefix("room=")?.parse().ok())
    }

    /// How often the log has this text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log.lock().expect("no panic").matches(text).count()
    }

    fn no_panic(&self) {
        let log = self.log.lock().expect("no panic");
        // What a guest says of its own panic stands behind a time.
        assert!(!log.lines().any(|line| line.starts_with("thread '")), "{log}");
    }

    /// The memory that the server has, where that can be told.
    fn megabytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// Ends it, once it has forgotten all that was asked for.
    pub(crate) async fn end(self) {
        self.shows(&["weir_leases 0", "weir_waiting 0", "weir_counters 0", "weir_log_entries 0"]).await;
        self.no_panic();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
