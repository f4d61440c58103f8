//! What a component is allowed: its configuration as the runner needs it.
//!
//! The defaults are for a host that runs components of many owners: enough for a service, and no single one can starve
//! its neighbours. Every number can be changed for a component that is trusted with more.

use crate::egress::Egress;
use std::time::Duration;

/// How one component is run.
#[derive(Debug, Clone)]
pub struct ComponentConfig {
    /// Its name, in logs and messages.
    pub name: String,
    /// Its own scope: the default of its acquires, and always allowed.
    pub scope: String,
    /// The scopes it may use by name besides: exact names, or `*` for every scope.
    pub allow_scopes: Vec<String>,
    /// The hosts it may call: `host` (any port), `host:port`, `*.host` (any name below it), `10.1.0.0/16`. None: it may call
    /// nobody. Addresses that are not open to the whole world must be named themselves, or as `localhost`.
    pub allow_outbound: Vec<String>,
    /// What its calls wait for. Give the same to all components. Default: nothing.
    pub egress: Egress,
    /// One request at a time per instance, the next one only when nothing of the last is left: stopping one request is
    /// immediate always, and no request sees another's memory while it runs.
    pub isolate: bool,
    /// How many instances it may have at once. Default: a quarter of the pool.
    pub max_instances: Option<usize>,
    /// How many acquires of its guests may wait at once. Default: three quarters of its slots (instances times requests
    /// at a time), so that it can always answer.
    pub max_waiting_in_guest: Option<usize>,
    /// What each instance and each request may use.
    pub limits: GuestLimits,
    /// Environment variables of the guest.
    pub env: Vec<(String, String)>,
}

impl ComponentConfig {
    /// A component with the scope of its name and default limits.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            scope: name.clone(),
            name,
            allow_scopes: Vec::new(),
            allow_outbound: Vec::new(),
            egress: Egress::default(),
            isolate: false,
            max_instances: None,
            max_waiting_in_guest: None,
            limits: GuestLimits::default(),
            env: Vec::new(),
        }
    }
}

/// What one instance, and one request in it, may use.
#[derive(Debug, Clone)]
pub struct GuestLimits {
    /// Bytes of one linear memory. Default: 64 MiB.
    pub memory: usize,
    /// Linear memories, tables and core instances of one instance; composed components need several. Default: 100 each.
    pub parts: usize,
    /// Elements of one table. Default: 100,000.
    pub table_elements: usize,
    /// CPU time of one request, to the epoch tick. Where several requests run in an instance they share it, counted from
    /// the start of the last. Default: 5 s.
    pub cpu: Duration,
    /// Wall time of one request, from when the runner takes it until its response body has ended. Default: 2 min, which
    /// is above the default wait of an acquire.
    pub deadline: Duration,
    /// Component-model handles open at once. Default: 10,000.
    pub handles: usize,
    /// Host resources open at once (leases, streams, headers). Default: 4,096.
    pub resources: usize,
    /// Bytes that a guest may pass in one host call. Default: 4 MiB.
    pub hostcall_fuel: usize,
    /// Bytes of one set of HTTP fields. Default: 64 KiB.
    pub http_fields: usize,
    /// Requests that run in one instance at once (WASI 0.3). Default: 16.
    pub concurrent_requests: usize,
    /// Requests that one instance serves in all (WASI 0.3); one that has grown to half of its memory serves no more.
    /// Default: 1,000.
    pub requests_per_instance: usize,
    /// How long an idle instance is kept. Default: 1 s.
    pub idle_time: Duration,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            parts: 100,
            table_elements: 100_000,
            cpu: Duration::from_secs(5),
            deadline: Duration::from_secs(120),
            handles: 10_000,
            resources: 4096,
            hostcall_fuel: 4 << 20,
            http_fields: 64 << 10,
            concurrent_requests: 16,
            requests_per_instance: 1000,
            idle_time: Duration::from_secs(1),
        }
    }
}
