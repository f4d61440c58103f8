//! What one store knows about flow control: which component it runs, and which request it serves.
//!
//! A guest cannot claim another's scope: the component's name, its scope and the scopes it may use besides are set by
//! the host, here, and are no argument of any import.
//!
//! # Attribution
//! An instance may serve many requests at once. An import call belongs to the request whose root task stands at the end
//! of the call stack; the runner notes that task when a request starts. Task ids are recycled, so an entry is replaced
//! by the next request with its id, and the list stays short: entries of requests that have ended go when it is full.
//! Where one request runs at a time, the current one is it; then the stack is read only where components are composed, to tell
//! whose lease it is.

use crate::egress::Outgoing;
use crate::request::RequestState;
use crate::view::{Home, Stack};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use wasmtime::component::GuestTaskId;
use weir_engine::{Caller, Engine, NameError, ScopedKey};

/// How many requests are remembered by task before those that have ended are forgotten: twice the requests that run at
/// once in an instance by default.
const MAX_TASKS: usize = 32;

/// How many acquires of one component may wait when the embedder says nothing.
const DEFAULT_MAX_WAITING: usize = 1024;

/// The flow control of one store: which component runs in it, and what it holds.
///
/// Put one into the store's data, and answer it from [`FlowView::flow`](crate::FlowView::flow).
pub struct FlowCtx {
    pub(crate) engine: Engine,
    pub(crate) identity: Arc<Identity>,
    /// One request at a time: waiting in a plain function stalls nobody, and the current request needs no look-up.
    pub(crate) may_block: bool,
    /// Several components may call each other in it.
    composed: bool,
    tasks: Vec<(GuestTaskId, Arc<RequestState>)>,
    current: Option<Arc<RequestState>>,
    background: Arc<RequestState>,
    /// How calls leave; none: by the hooks of the store.
    pub(crate) outgoing: Option<Arc<Outgoing>>,
}

/// Who a component is; one for all its instances.
pub(crate) struct Identity {
    pub(crate) name: String,
    /// The component as the engine knows it: caps of the host are shared out between callers.
    pub(crate) caller: Caller,
    /// The key when neither the guest nor its request names one.
    pub(crate) default_key: ScopedKey,
    allow: Allow,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
    /// Bytes of bodies that calls keep for their retries.
    pub(crate) kept: AtomicUsize,
}

enum Allow {
    Every,
    Only(Vec<String>),
}

/// Room for one acquire that waits.
pub(crate) struct WaitingRoom(Arc<AtomicUsize>);

impl Drop for WaitingRoom {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Identity {
    /// # Errors
    /// [`NameError`] when the scope is not a name.
    pub(crate) fn new(
        (name, caller): (String, Caller),
        scope: &str,
        allow_scopes: &[String],
        max_waiting: usize,
        waiting: Arc<AtomicUsize>,
    ) -> Result<Self, NameError> {
        let default_key = ScopedKey::new(scope, None)?;
        let allow = if allow_scopes.iter().any(|scope| scope == "*") {
            Allow::Every
        } else {
            for scope in allow_scopes {
                ScopedKey::new(scope, None)?;
            }
            Allow::Only(allow_scopes.to_vec())
        };
        Ok(Self { name, caller, default_key, allow, waiting, max_waiting, kept: AtomicUsize::new(0) })
    }

    /// Whether the component may use `scope` by name.
    pub(crate) fn allows(&self, scope: &str) -> bool {
        scope == self.default_key.scope()
            || match &self.allow {
                Allow::Every => true,
                Allow::Only(scopes) => scopes.iter().any(|allowed| allowed == scope),
            }
    }

    /// Takes room for an acquire that stands in line, as its ticket says. One that is granted, and only being written down, holds up
    /// nobody and takes none.
    ///
    /// # Errors
    /// So many wait already.
    pub(crate) fn wait(&self, ticket: Option<u64>) -> Result<Option<WaitingRoom>, usize> {
        if ticket.is_none() {
            return Ok(None);
        }
        let room = WaitingRoom(self.waiting.clone());
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        if before < self.max_waiting { Ok(Some(room)) } else { Err(self.max_waiting) }
    }
}

impl FlowCtx {
    /// Starts a context for a component whose own scope is `scope`.
    ///
    /// Build one context per store from the same builder: they share the count of waiting acquires.
    #[must_use]
    pub fn builder(engine: Engine, scope: impl Into<String>) -> FlowCtxBuilder {
        FlowCtxBuilder {
            engine,
            name: None,
            caller: OnceLock::new(),
            scope: scope.into(),
            allow_scopes: Vec::new(),
            may_block: false,
            max_waiting: DEFAULT_MAX_WAITING,
            waiting: Arc::default(),
        }
    }

    pub(crate) fn new(engine: Engine, identity: Arc<Identity>, may_block: bool, background: Arc<RequestState>) -> Self {
        Self {
            engine,
            identity,
            may_block,
            composed: false,
            tasks: Vec::new(),
            current: None,
            background,
            outgoing: None,
        }
    }

    /// Several components may call each other in it.
    pub(crate) fn composed(mut self, composed: bool) -> Self {
        self.composed = composed;
        self
    }

    /// Calls leave by the host's own connections, under its rules.
    pub(crate) fn with_outgoing(mut self, outgoing: Arc<Outgoing>) -> Self {
        self.outgoing = Some(outgoing);
        self
    }

    /// Notes the root task of a request that starts.
    pub(crate) fn request_starts(&mut self, task: GuestTaskId, request: Arc<RequestState>) {
        if self.may_block {
            self.current = Some(request);
            return;
        }
        if let Some((_, entry)) = self.tasks.iter_mut().find(|(id, _)| *id == task) {
            *entry = request;
            return;
        }
        if self.tasks.len() >= MAX_TASKS {
            self.tasks.retain(|(_, request)| !request.has_ended());
        }
        self.tasks.push((task, request));
    }

    /// Where a call belongs, if that is known without its call stack: reading that costs about as much as the rest of a call.
    pub(crate) fn known_home(&self) -> Option<Home> {
        let current = self.current.as_ref();
        let known = current.filter(|_| !self.composed).or_else(|| {
            let nobody = current.is_none() && self.tasks.is_empty();
            nobody.then_some(&self.background)
        })?;
        Some(Home { request: known.clone(), stack: Stack::new() })
    }

    /// Where a call with this stack belongs: to the current request, or to the one whose root task the last is.
    pub(crate) fn home(&self, stack: Stack) -> Home {
        let of_task = |root| self.tasks.iter().find(|(id, _)| id == root).map(|(_, request)| request);
        let request = self.current.as_ref().or_else(|| stack.last().and_then(of_task)).unwrap_or(&self.background);
        Home { request: request.clone(), stack }
    }

    pub(crate) fn background(&self) -> &Arc<RequestState> {
        &self.background
    }
}

impl Drop for FlowCtx {
    fn drop(&mut self) {
        // What was kept in somebody else's store ends with it: there was no response to tie it to.
        self.background.clear();
    }
}

impl fmt::Debug for FlowCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowCtx")
            .field("component", &self.identity.name)
            .field("scope", &self.identity.default_key.scope())
            .finish_non_exhaustive()
    }
}

/// Builds [`FlowCtx`]s.
#[derive(Clone)]
pub struct FlowCtxBuilder {
    engine: Engine,
    name: Option<String>,
    /// Asked for by the first context that is built.
    caller: OnceLock<Caller>,
    scope: String,
    allow_scopes: Vec<String>,
    may_block: bool,
    max_waiting: usize,
    waiting: Arc<AtomicUsize>,
}

impl FlowCtxBuilder {
    /// The component's name, for messages, and between which the caps of the engine are shared out. Default: its scope.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self.caller = OnceLock::new();
        self
    }

    /// Lets the component use `scope` by name besides its own; `*`: every scope.
    #[must_use]
    pub fn allow_scope(mut self, scope: impl Into<String>) -> Self {
        self.allow_scopes.push(scope.into());
        self
    }

    /// Lets `leases-sync.acquire` wait. Say so only where an instance serves one request at a time. Default: no.
    #[must_use]
    pub fn may_block(mut self, may_block: bool) -> Self {
        self.may_block = may_block;
        self
    }

    /// How many acquires may wait at once, over all contexts of this builder; more are `overloaded`. Default: 1,024.
    #[must_use]
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.max_waiting = max_waiting;
        self
    }

    /// Builds the context of one store.
    ///
    /// # Errors
    /// [`NameError`] when the component's scope, or one it is allowed, is not a name.
    pub fn build(&self) -> Result<FlowCtx, NameError> {
        let name = self.name.clone().unwrap_or_else(|| self.scope.clone());
        let caller = *self.caller.get_or_init(|| self.engine.caller(&name));
        let identity =
            Identity::new((name, caller), &self.scope, &self.allow_scopes, self.max_waiting, self.waiting.clone())?;
        Ok(FlowCtx::new(self.engine.clone(), Arc::new(identity), self.may_block, RequestState::background()))
    }
}

impl fmt::Debug for FlowCtxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowCtxBuilder")
            .field("name", &self.name)
            .field("scope", &self.scope)
            .field("allow_scopes", &self.allow_scopes)
            .finish_non_exhaustive()
    }
}
