//! Requests of real guests that end in every way there is, and nothing is left of them: no capacity, no entry, no byte.
//!
//! A server in process, and a runner beside it in the same components. `WEIR_CYCLES` says how many requests there are, half of them
//! through each; without it there are few, to see that it runs. In a release build 100,000 take some minutes:
//!
//! ```text
//! WEIR_CYCLES=100000 cargo test --release --workspace --test leaks -- --nocapture
//! ```
//!
//! After each half everything must have been given back, and the engine must be empty (counters stay 10 s). After the second half as
//! many bytes must be in use as after the first, but for [`SLACK`]. The memory of guests lies in a pool and is not counted.

use std::alloc::System;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weir_http::{Route, Server, ServerConfig, Service};
use weir_tests::{Host, get_as, guests, key, request, until, within};
use weir_wasm::{Call, Runner};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CYCLES: usize = 1_000;
/// Requests that are under way at once.
const AT_ONCE: usize = 32;
/// Bytes that the second half may leave more in use than the first: buffers and tables of the server grow as they are needed, and are
/// kept.
const SLACK: usize = 256 << 10;

/// Bytes that are not given back.
fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// How a client behaves.
#[derive(Clone, Copy)]
enum Client {
    /// It reads the answer to its end.
    Stays,
    /// It leaves while its request waits or works.
    LeavesEarly,
    /// It leaves in the middle of the answer.
    LeavesMidway,
}

use Client::{LeavesEarly, LeavesMidway, Stays};

/// What a guest is asked for, and by whom. `shut` is closed: who acquires there waits until it leaves. At `one` there is one place: a
/// second task of the guest waits for it.
const CYCLE: &[(&str, &str, Client)] = &[
    // Acquires and drops.
    ("flow", "/acquire?scope=free", Stays),
    ("flow", "/turns?scope=free", Stays),
    ("flow", "/batch?scope=free&count=9&least=3", Stays),
    ("flow", "/settle?scope=free&cost=9&to=3&to=20", Stays),
    ("flow", "/try?also=free&flow=plan;c:5;w:100000/1000", Stays),
    ("flow", "/release?scope=pushed&outcome=pushed-back&pause_ms=0", Stays),
    ("sync", "/acquire", Stays),
    // Waits, and is cancelled.
    ("flow", "/acquire?scope=shut", LeavesEarly),
    ("flow", "/acquire?scope=shut&also=free", LeavesEarly),
    ("flow", "/batch?scope=shut&count=9&least=3", LeavesEarly),
    ("flow", "/acquire?scope=shut&wait_ms=1", Stays),
    // Holds, and its client leaves.
    ("flow", "/hold?scope=free&ms=3600000", LeavesEarly),
    ("stream", "/held?scope=free&chunks=1000000&ms=1", LeavesMidway),
    ("stream", "/keep?scope=free&chunks=1000000&ms=1", LeavesMidway),
    // Holds, and traps.
    ("hostile", "/trap?scope=free", Stays),
    ("hostile", "/trap-waiting?scope=one", Stays),
    ("flow", "/trap-in-body", Stays),
    ("sync", "/trap", Stays),
    // Holds, and never gives back.
    ("flow", "/leak?scope=free", Stays),
    ("flow", "/stash?scope=free", Stays),
    ("flow", "/leak?scope=free&lease_ms=100", Stays),
    ("flow", "/after?scope=free&ms=5", Stays),
];

struct World {
    host: Host,
    server: Server,
    runners: Vec<(&'static str, Runner)>,
    done: usize,
}

impl World {
    fn new() -> Self {
        let host = Host::new(&[("shut", "0"), ("one", "1")]);
        let mut services = Vec::new();
        for (name, guest) in
            [("flow", guests::FLOW), ("stream", guests::STREAM), ("hostile", guests::HOSTILE), ("sync", guests::SYNC)]
        {
            let component = host.try_load(guest, |config| {
                config.name = name.to_owned();
                config.scope = name.to_owned();
                config.allow_scopes = vec!["*".into()];
                config.limits.idle_time = Duration::from_millis(50);
            });
            let route: Route = format!("/{name}/...").parse().expect("a route");
            services.push(Service { component: component.expect("a good guest"), route, ingress_scope: None });
        }
        let runners = services.iter().zip(["flow", "stream", "hostile", "sync"]);
        let runners = runners.map(|(service, name)| (name, service.component.runner())).collect();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ServerConfig { ingress: free, admin: free, ..ServerConfig::default() };
        let server = Server::start(&config, host.flow.clone(), services).expect("free ports");
        Self { host, server, runners, done: 0 }
    }

    /// Runs so many requests, and answers the bytes in use when nothing is left of them.
    async fn run(&mut self, cycles: usize) -> usize {
        let mut under_way = JoinSet::new();
        for n in self.done..self.done + cycles {
            while under_way.len() >= AT_ONCE {
                within("a request", under_way.join_next()).await.expect("one").expect("no panic");
            }
            let (component, path, client) = CYCLE[n / 2 % CYCLE.len()];
            // Every third comes under a scope, and so with a lease of its own.
            let scope = (n % 3 == 0).then(|| format!("tenant-{}", n % 101));
            if n % 2 == 0 {
                under_way.spawn(over_a_socket(self.server.ingress(), scope, component, path, client));
            } else {
                let runner = self.runners.iter().find(|(name, _)| *name == component).expect("a component").1.clone();
                let key = scope.as_deref().map(key);
                let lease = scope.as_deref().map(|scope| self.host.take(scope));
                under_way.spawn(in_process(runner, Call { key, lease }, path, client));
            }
        }
        self.done += cycles;
        while let Some(ended) = within("a request", under_way.join_next()).await {
            ended.expect("no panic");
        }
        drop(under_way);
        self.host.settles().await;
        until("the engine is empty", || self.host.flow.is_empty()).await;
        in_use()
    }
}

/// How long a client waits before it leaves: long enough to be inside most of the time.
const PATIENCE: Duration = Duration::from_millis(5);

async fn in_process(runner: Runner, call: Call, path: &'static str, client: Client) {
    match client {
        // A trap is an answer too, also that of a neighbour in the same instance.
        Stays => drop(get_as_far_as_it_goes(&runner, call, path).await),
        LeavesEarly => drop(tokio::time::timeout(PATIENCE, get_as(&runner, call, path)).await),
        LeavesMidway => {
            if let Ok(response) = within(path, runner.handle(call, request(path))).await {
                let mut body = response.into_body();
                drop(within("a part of the body", body.frame()).await);
            }
        }
    }
}

/// Reads what there is of the answer.
async fn get_as_far_as_it_goes(runner: &Runner, call: Call, path: &str) -> Option<usize> {
    let response = within(path, runner.handle(call, request(path))).await.ok()?;
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(Ok(frame)) = within("the body", body.frame()).await {
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
    Some(bytes)
}

async fn over_a_socket(ingress: SocketAddr, scope: Option<String>, component: &str, path: &str, client: Client) {
    let scope = scope.map(|scope| format!("/scope/{scope}")).unwrap_or_default();
    let head = format!("GET /weir{scope}/call/{component}{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let mut socket = TcpStream::connect(ingress).await.expect("a server");
    socket.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 1024];
    match client {
        // A body that is cut off ends with an error.
        Stays => while within(path, socket.read(&mut answer)).await.is_ok_and(|bytes| bytes > 0) {},
        LeavesEarly => drop(tokio::time::timeout(PATIENCE, socket.read(&mut answer)).await),
        LeavesMidway => drop(within(path, socket.read(&mut answer)).await),
    }
}

#[tokio::test]
async fn nothing_is_left_of_requests_that_end_in_every_way() {
    let cycles = std::env::var("WEIR_CYCLES").map_or(CYCLES, |text| text.parse().expect("WEIR_CYCLES is a number"));
    let mut world = World::new();
    let first = world.run(cycles / 2).await;
    let second = world.run(cycles / 2).await;
    println!("leak_guests_cycles {cycles}");
    println!("leak_guests_granted {}", world.host.flow.metrics().granted);
    println!("leak_guests_first_half_bytes {first}");
    println!("leak_guests_second_half_bytes {second}");
    assert!(second <= first + SLACK, "{second} bytes are in use, and were {first} after the first half");
}
