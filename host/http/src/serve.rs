//! The server: its configuration, its threads, its end.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use std::{fmt, io, thread};

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use weir_engine::{Engine, NameError, ScopedKey};
use weir_wasm::Component;

use crate::access::Door;
use crate::admin::{self, Admin};
use crate::api::{ComponentView, ComponentsView};
use crate::ingress::{Served, Shared, authority};
use crate::metrics::Metrics;
use crate::route::{Route, RouteTable};
use crate::tokens::{Timestamp, TokenFileError, Tokens};
use crate::{listen, worker};

/// Where ingress listens unless told otherwise.
pub const DEFAULT_INGRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where the admin API listens unless told otherwise.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9070);
/// The most connections of ingress. A call that waits holds one, and a counter has room for 10,000 waiters by default:
/// one full waitlist must not use up the connections of everybody else.
pub const MAX_CONNECTIONS: usize = 16_384;
/// The most worker threads: more than machines have cores, and each has files and memory of its own.
pub const MAX_WORKERS: usize = 1_024;
/// The most connections of the admin API: operators, scrapers and their tools.
const MAX_ADMIN_CONNECTIONS: usize = 256;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where ingress listens; port 0 takes a free one.
    pub ingress: SocketAddr,
    /// Where the admin API listens; port 0 takes a free one.
    pub admin: SocketAddr,
    /// Worker threads, at most [`MAX_WORKERS`]; absent: one per core.
    pub workers: Option<NonZeroUsize>,
    /// The most connections of ingress.
    pub max_connections: usize,
    /// How long requests may still run once the server shuts down.
    pub shutdown_timeout: Duration,
    /// The file of tokens, which may still be missing; absent: there are no tokens.
    pub tokens: Option<PathBuf>,
    /// Whether ingress serves the lease API.
    pub lease_api: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            ingress: DEFAULT_INGRESS,
            admin: DEFAULT_ADMIN,
            workers: None,
            max_connections: MAX_CONNECTIONS,
            shutdown_timeout: Duration::from_secs(10),
            tokens: None,
            lease_api: true,
        }
    }
}

/// A component to serve.
#[derive(Clone)]
pub struct Service {
    /// The component; its name is what calls name.
    pub component: Arc<Component>,
    /// Where plain requests reach it.
    pub route: Route,
    /// The scope that plain requests are under; absent: they are free.
    pub ingress_scope: Option<String>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("component", &self.component.name())
            .field("route", &self.route)
            .field("ingress_scope", &self.ingress_scope)
            .finish()
    }
}

/// Why a server did not start. Nothing is served then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A port could not be had.
    #[error("cannot listen for {what} on {address}: {}", reason(source))]
    Bind {
        /// `ingress` or `admin`.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// Two components have one name.
    #[error("two components are named `{name}`: a call could not tell them apart")]
    SameName {
        /// The name.
        name: String,
    },
    /// Two components have one route.
    #[error("the components `{first}` and `{second}` have the same route `{route}`")]
    SameRoute {
        /// The route.
        route: Route,
        /// Who has it.
        first: String,
        /// Who wants it too.
        second: String,
    },
    /// A component's name or scope cannot be one.
    #[error("component `{name}`: {field}: {error}")]
    Name {
        /// The component.
        name: String,
        /// `name` or `ingress-scope`.
        field: &'static str,
        /// What is wrong.
        error: NameError,
    },
    /// More worker threads than there may be.
    #[error("{given} worker threads: the most is {MAX_WORKERS}")]
    Workers {
        /// How many were asked for.
        given: usize,
    },
    /// The file of tokens is not well.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// Others than this machine would reach what nobody has a token for.
    #[error("{what} on {address} is open to others than this machine, and nobody has a token for {}", guarded(what))]
    Open {
        /// `ingress` or `admin`.
        what: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// A thread or its runtime could not be started.
    #[error("cannot start the thread {thread}: {source}")]
    Thread {
        /// The thread.
        thread: String,
        /// The system's answer.
        source: io::Error,
    },
}

fn guarded(what: &str) -> &'static str {
    if what == "ingress" { "its lease API" } else { "the admin API" }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted (ports below 1024 need privileges)".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// How far the server's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    Draining,
    Stopped,
}

/// Tells a thread about the phases.
#[derive(Debug, Clone)]
pub(crate) struct Phases(watch::Receiver<Phase>);

impl Phases {
    pub(crate) fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Ends when `phase` is reached, or the server is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn reached(&mut self, phase: Phase) {
        let _gone = self.0.wait_for(|now| *now >= phase).await;
    }
}

/// A server that runs. Dropping it shuts it down and waits for its end.
pub struct Server {
    ingress: SocketAddr,
    admin: SocketAddr,
    engine: Engine,
    phase: Arc<watch::Sender<Phase>>,
    ingress_threads: Vec<JoinHandle<()>>,
    admin_thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("ingress", &self.ingress).field("admin", &self.admin).finish_non_exhaustive()
    }
}

/// Begins a server's end from another thread, such as the one that waits for signals.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<Phase>>);

impl Stop {
    /// Stops accepting; sends away what waits; lets finish what runs. Does not wait for it.
    pub fn stop(&self) {
        self.0.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining;
            }
            serving
        });
    }
}

impl Server {
    /// Binds both ports and starts every thread. It serves when this returns.
    ///
    /// # Errors
    /// A port is taken, two components clash, there are too many workers, a thread cannot be started, the file of tokens is not
    /// well, or a listener that others reach has no token. Then nothing is served.
    pub fn start(config: &ServerConfig, engine: Engine, services: Vec<Service>) -> Result<Self, ServeError> {
        let workers = config.workers.map_or_else(|| cores().min(MAX_WORKERS), NonZeroUsize::get);
        if workers > MAX_WORKERS {
            return Err(ServeError::Workers { given: workers });
        }
        let (routes, view) = survey(&services)?;
        let tokens = Arc::new(Tokens::open(config.tokens.clone())?);
        guard(config, tokens.any(Timestamp::of_unix_millis(engine.unix_millis())))?;
        let door = |address: SocketAddr| Door { tokens: Arc::clone(&tokens), loopback: address.ip().is_loopback() };
        let ingress_listener = listen::bind("ingress", config.ingress)?;
        let admin_listener = listen::bind("admin", config.admin)?;
        let local = |listener: &std::net::TcpListener, what, address| {
            listener.local_addr().map_err(|source| ServeError::Bind { what, address, source })
        };
        let ingress = local(&ingress_listener, "ingress", config.ingress)?;
        let admin = local(&admin_listener, "admin", config.admin)?;
        let max_connections = listen::make_room_for(config.max_connections).clamp(1, Semaphore::MAX_PERMITS);

        let known: Vec<String> = view.components.iter().map(|component| component.name.clone()).collect();
        let metrics = Arc::new(Metrics::new(known.iter().map(String::as_str)));
        let components = services.iter().map(|service| Arc::clone(&service.component)).collect();
        let served = services
            .into_iter()
            .map(|service| Served { component: service.component, ingress_scope: service.ingress_scope })
            .collect();
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            metrics: Arc::clone(&metrics),
            routes,
            served,
            known,
            authority: authority(ingress),
            door: door(ingress),
            lease_api: config.lease_api,
        });
        let permits = Arc::new(Semaphore::new(max_connections));

        let (phase, phases) = watch::channel(Phase::Serving);
        let phases = Phases(phases);
        // From here on a failure drops the server, and with it every thread that already runs.
        let mut server = Self {
            ingress,
            admin,
            engine: engine.clone(),
            phase: Arc::new(phase),
            ingress_threads: Vec::new(),
            admin_thread: None,
        };

        let mut senders = Vec::new();
        for index in 0..workers {
            // Every connection in it holds a permit, so it never fills.
            let (sender, receiver) = mpsc::channel(max_connections);
            senders.push(sender);
            let work = worker::run(
                Arc::clone(&shared),
                receiver,
                Arc::clone(&permits),
                phases.clone(),
                config.shutdown_timeout,
            );
            server.ingress_threads.push(spawn(&format!("weir-worker-{index}"), work)?);
        }
        let accept = accept(ingress_listener, Arc::clone(&permits), phases.clone(), senders);
        server.ingress_threads.push(spawn("weir-accept", accept)?);

        let watchers = Semaphore::new(admin::rules::MAX_WATCHERS);
        let state = Admin {
            engine,
            door: door(admin),
            metrics,
            components: view,
            served: components,
            phases: phases.clone(),
            permits,
            max_connections,
            watchers,
        };
        let serve = admin::serve(admin_listener, Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS)), state, phases);
        server.admin_thread = Some(spawn("weir-admin", serve)?);
        Ok(server)
    }

    /// Where ingress listens.
    #[must_use]
    pub fn ingress(&self) -> SocketAddr {
        self.ingress
    }

    /// Where the admin API listens.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A handle that begins the end.
    #[must_use]
    pub fn stop_handle(&self) -> Stop {
        Stop(Arc::clone(&self.phase))
    }

    /// Waits until somebody has stopped the server and all of it has ended.
    pub fn wait(mut self) {
        self.join();
    }

    /// Stops, and waits for the end.
    pub fn shut_down(self) {
        self.stop_handle().stop();
        self.wait();
    }

    fn join(&mut self) {
        for thread in self.ingress_threads.drain(..) {
            joined(thread);
        }
        // Nothing of ingress is left to hold a lease or to wait; what others hold of the engine ends here.
        self.engine.shut_down();
        self.phase.send_replace(Phase::Stopped);
        if let Some(thread) = self.admin_thread.take() {
            joined(thread);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_handle().stop();
        self.join();
    }
}

fn joined(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "a thread of the server panicked");
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// A listener that others reach wants tokens, but where it serves calls alone.
fn guard(config: &ServerConfig, tokens: bool) -> Result<(), ServeError> {
    let listeners = [("admin", config.admin, true), ("ingress", config.ingress, config.lease_api)];
    let open = listeners.into_iter().find(|(_, address, guarded)| *guarded && !tokens && !address.ip().is_loopback());
    open.map_or(Ok(()), |(what, address, _)| Err(ServeError::Open { what, address }))
}

/// Checks that names and routes are all different, and writes down what is served.
fn survey(services: &[Service]) -> Result<(RouteTable, ComponentsView), ServeError> {
    let mut routes = RouteTable::default();
    let mut names = HashMap::new();
    let mut components = Vec::new();
    for (index, service) in services.iter().enumerate() {
        let name = service.component.name();
        let check = |field, text: &str| {
            ScopedKey::new(text, None).map_err(|error| ServeError::Name { name: name.to_owned(), field, error })
        };
        check("name", name)?;
        if let Some(scope) = &service.ingress_scope {
            check("ingress-scope", scope)?;
        }
        if names.insert(name, index).is_some() {
            return Err(ServeError::SameName { name: name.to_owned() });
        }
        routes.insert(&service.route, index).map_err(|other| ServeError::SameRoute {
            route: service.route.clone(),
            first: services[other].component.name().to_owned(),
            second: name.to_owned(),
        })?;
        components.push(ComponentView {
            name: name.to_owned(),
            route: service.route.to_string(),
            scope: service.component.scope().to_owned(),
            ingress_scope: service.ingress_scope.clone(),
        });
    }
    Ok((routes, ComponentsView { components }))
}

async fn accept(
    listener: std::net::TcpListener,
    permits: Arc<Semaphore>,
    phases: Phases,
    workers: Vec<mpsc::Sender<worker::Handed>>,
) {
    let mut turns = workers.iter().cycle();
    let hand_over = |accepted| {
        let Some(worker) = turns.next() else { return };
        // A worker that drains takes nothing more: the connection is closed, as those in the backlog will be.
        match worker::Handed::try_from(accepted) {
            Ok(handed) => drop(worker.try_send(handed)),
            Err(error) => tracing::warn!(%error, "could not hand a connection to its worker"),
        }
    };
    if let Err(error) = listen::accept(listener, permits, phases, Phase::Draining, hand_over).await {
        tracing::error!(%error, "ingress cannot accept");
    }
}

/// Runs `work` on a thread and a current-thread runtime of its own.
fn spawn(name: &str, work: impl Future<Output = ()> + Send + 'static) -> Result<JoinHandle<()>, ServeError> {
    let failed = |source| ServeError::Thread { thread: name.to_owned(), source };
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work)).map_err(failed)
}
