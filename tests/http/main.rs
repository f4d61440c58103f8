//! Ingress and admin API, over real sockets, with real guests.
//!
//! Each test has a server of its own on free ports. Nearly every one ends with `settles`: whatever a client did, no
//! capacity is lost.

mod admin;
mod bad_input;
mod book;
mod bounds;
mod calls;
mod client;
mod explaining;
mod flood;
mod leases;
mod leaving;
mod operating;
mod order;
mod outcome;
mod refusals;
mod shutdown;
mod tokens;

use std::net::{Ipv4Addr, SocketAddr};

use weir_http::{Route, Server, ServerConfig, Service};
use weir_tests::{Host, guests};

/// A server on free ports, with the guests `flow` (as `app`, on every path) and `stream`.
pub(crate) struct Served {
    pub(crate) host: Host,
    pub(crate) server: Option<Server>,
    pub(crate) ingress: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Served {
    /// Serves under rules `(pattern, concurrency)`.
    pub(crate) fn new(rules: &[(&str, &str)]) -> Self {
        Self::with_ingress_scope(rules, None)
    }

    /// The same, with the plain requests of `app` under a scope.
    pub(crate) fn with_ingress_scope(rules: &[(&str, &str)], ingress_scope: Option<&str>) -> Self {
        Self::with(rules, ingress_scope, &free_ports())
    }

    /// The same, as `config` says.
    pub(crate) fn with(rules: &[(&str, &str)], ingress_scope: Option<&str>, config: &ServerConfig) -> Self {
        let host = Host::new(rules);
        let app = host.try_load(guests::FLOW, |_| {}).expect("a good guest");
        let stream = host
            .try_load(guests::STREAM, |config| {
                config.name = "stream".to_owned();
                config.scope = "stream".to_owned();
            })
            .expect("a good guest");
        let services = vec![
            Service { component: app, route: Route::all(), ingress_scope: ingress_scope.map(str::to_owned) },
            Service { component: stream, route: "/stream/...".parse().expect("a route"), ingress_scope: None },
        ];
        let server = Server::start(config, host.flow.clone(), services).expect("free ports");
        let (ingress, admin) = (server.ingress(), server.admin());
        Self { host, server: Some(server), ingress, admin }
    }
}

/// Listens on ports that nobody has.
pub(crate) fn free_ports() -> ServerConfig {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    ServerConfig { ingress: free, admin: free, ..ServerConfig::default() }
}
