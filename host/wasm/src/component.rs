//! A loaded component: what all its instances, in all its runners, share.

use crate::ctx::{FlowCtx, Identity};
use crate::egress::{Counts, Hooks, Outbound, OutboundCounts, Outgoing};
use crate::gate::Gate;
use crate::instance::InstanceState;
use crate::limits::{ComponentConfig, GuestLimits};
use crate::load::LoadError;
use crate::output::Log;
use crate::runner::Runner;
use crate::runtime::Runtime;
use crate::store::GuestData;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wasmtime_wasi_http::handler::ProxyPre;
use weir_engine::Caller;

/// A component that is compiled, linked and ready to be run.
pub struct Component {
    name: Arc<str>,
    runtime: Runtime,
    flow: weir_engine::Engine,
    pre: Arc<ProxyPre<GuestData>>,
    identity: Arc<Identity>,
    gate: Arc<Gate>,
    log: Arc<Log>,
    outgoing: Arc<Outgoing>,
    limits: GuestLimits,
    env: Vec<(String, String)>,
    isolate: bool,
    composed: bool,
    runners: AtomicUsize,
}

impl Component {
    pub(crate) fn new(
        runtime: Runtime,
        flow: weir_engine::Engine,
        pre: Arc<ProxyPre<GuestData>>,
        config: ComponentConfig,
    ) -> Result<Arc<Self>, LoadError> {
        let ComponentConfig {
            name,
            scope,
            allow_scopes,
            allow_outbound,
            egress,
            isolate,
            max_instances,
            max_waiting_in_guest,
            limits,
            env,
        } = config;
        let max_instances = max_instances.unwrap_or_else(|| (runtime.config().pool_instances as usize / 4).max(1));
        for (what, is_zero) in [
            ("max-instances", max_instances == 0),
            ("concurrent-requests", limits.concurrent_requests == 0),
            ("requests-per-instance", limits.requests_per_instance == 0),
            ("memory", limits.memory == 0),
            ("cpu", limits.cpu.is_zero()),
            ("deadline", limits.deadline.is_zero()),
        ] {
            if is_zero {
                return Err(LoadError::Zero { component: name, what });
            }
        }
        let wasm = match &*pre {
            ProxyPre::P2(pre) => pre.instance_pre().component(),
            ProxyPre::P3(pre) => pre.instance_pre().component(),
        };
        // Each component that is compiled by itself has a memory of its own.
        let composed = wasm.resources_required().is_none_or(|required| required.num_memories > 1);
        let at_once = if isolate || matches!(*pre, ProxyPre::P2(_)) { 1 } else { limits.concurrent_requests };
        let max_waiting =
            max_waiting_in_guest.unwrap_or_else(|| (max_instances.saturating_mul(at_once) / 4 * 3).max(1));
        let outbound =
            Outbound::new(&allow_outbound).map_err(|error| LoadError::Outbound { component: name.clone(), error })?;
        let identity =
            Identity::new((name.clone(), flow.caller(&name)), &scope, &allow_scopes, max_waiting, Arc::default())
                .map_err(|error| LoadError::Scope { component: name.clone(), error })?;
        let identity = Arc::new(identity);
        let named = outbound.named();
        let client = runtime.clients().naming(named.clone());
        let outgoing = Outgoing {
            identity: identity.clone(),
            flow: flow.clone(),
            outbound,
            named,
            egress,
            client,
            counts: Counts::default(),
        };
        let name: Arc<str> = name.into();
        Ok(Arc::new(Self {
            log: Log::new(name.clone()),
            name,
            runtime,
            flow,
            pre,
            identity,
            gate: Gate::new(max_instances),
            outgoing: Arc::new(outgoing),
            limits,
            env,
            isolate,
            composed,
            runners: AtomicUsize::new(0),
        }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.identity.default_key.scope()
    }

    /// Who it is to the engine: between callers the caps of the host are shared out.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.identity.caller
    }

    /// What has become of its calls to others.
    #[must_use]
    pub fn outbound_counts(&self) -> OutboundCounts {
        self.outgoing.counts.read()
    }

    /// Makes a runner. Make one per thread (current-thread runtime), or one in all; they share instances' limits.
    #[must_use]
    pub fn runner(self: &Arc<Self>) -> Runner {
        Runner::new(self.clone(), self.runners.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn limits(&self) -> &GuestLimits {
        &self.limits
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(crate) fn env(&self) -> &[(String, String)] {
        &self.env
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn pre(&self) -> &ProxyPre<GuestData> {
        &self.pre
    }

    /// The next request only when nothing of the last is left.
    pub(crate) fn is_isolated(&self) -> bool {
        self.isolate
    }

    /// Requests at once, and in all, of one instance.
    pub(crate) fn reuse(&self) -> (usize, usize) {
        match *self.pre {
            ProxyPre::P2(_) => (1, 1),
            ProxyPre::P3(_) if self.isolate => (1, self.limits.requests_per_instance),
            ProxyPre::P3(_) => (self.limits.concurrent_requests, self.limits.requests_per_instance),
        }
    }

    pub(crate) fn hooks(&self) -> Hooks {
        Hooks::new(self.outgoing.clone())
    }

    pub(crate) fn flow_ctx(&self, instance: &InstanceState) -> FlowCtx {
        let may_block = self.isolate || matches!(*self.pre, ProxyPre::P2(_));
        FlowCtx::new(self.flow.clone(), self.identity.clone(), may_block, instance.background().clone())
            .composed(self.composed)
            .with_outgoing(self.outgoing.clone())
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("name", &self.name).field("scope", &self.scope()).finish_non_exhaustive()
    }
}
