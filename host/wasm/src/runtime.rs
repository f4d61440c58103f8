//! The wasmtime engine that all components share, and the clock by which they are interrupted.
//!
//! Instances come from a pool: memory, tables and stacks are mapped once and reused. The pool wants some 6 GiB of
//! address space an instance; where the machine does not give that, instances are made on demand, which is slower and
//! otherwise the same.

use crate::egress::Clients;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Core instances, and tables, of one component in the pool, on average: a component of today's tools has three (its
/// code, and two that tie it together); composed ones have three for each part.
const PARTS_PER_INSTANCE: u32 = 8;

/// What a free slot of the pool keeps in memory, of each kind: what a usual guest touches, so that the next instance in it
/// asks the kernel for nothing. The pool has at most 100 free slots that keep anything.
const KEEP_MEMORY: usize = 1 << 20;
const KEEP_TABLE: usize = 64 << 10;
const KEEP_STACK: usize = 64 << 10;

/// The address space that a memory takes, and grows by, where there is no pool.
const SMALL_RESERVATION: u64 = 4 << 20;

/// How the shared engine is set up.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// How many instances there may be at once, of all components. Default: 1,000.
    pub pool_instances: u32,
    /// How often a running guest is interrupted, to yield and to be charged. Default: 1 ms.
    pub epoch_tick: Duration,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { pool_instances: 1000, epoch_tick: Duration::from_millis(1) }
    }
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// wasmtime does not run with this configuration on this machine.
    #[error("the WebAssembly engine does not start: {message}")]
    Engine {
        /// What it says.
        message: String,
    },
    /// The ticker thread could not be started.
    #[error("the interrupt thread does not start: {0}")]
    Thread(#[from] std::io::Error),
    /// TLS for outbound calls does not start.
    #[error("TLS for outbound calls does not start: {message}")]
    Tls {
        /// What it says.
        message: String,
    },
    /// A number of the configuration is 0.
    #[error("`{what}` is 0: it must be at least 1")]
    Zero {
        /// Which.
        what: &'static str,
    },
}

/// The shared wasmtime engine, and the connections to outside that its guests share. Cloning is a reference count; the last clone joins the ticker.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    ticker: Ticker,
    clients: Clients,
    config: RuntimeConfig,
}

impl Runtime {
    /// Starts the engine and its ticker.
    ///
    /// # Errors
    /// [`RuntimeError`] when the machine does not let it.
    pub fn new(config: &RuntimeConfig) -> Result<Self, RuntimeError> {
        if config.pool_instances == 0 {
            return Err(RuntimeError::Zero { what: "pool_instances" });
        }
        if config.epoch_tick.is_zero() {
            return Err(RuntimeError::Zero { what: "epoch_tick" });
        }
        let engine = match Engine::new(&engine_config(Some(config.pool_instances))) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(target: "weir_wasm", "no pool of instances, they are made on demand: {error:#}");
                Engine::new(&engine_config(None))
                    .map_err(|error| RuntimeError::Engine { message: format!("{error:#}") })?
            }
        };
        let ticker = Ticker::start(&engine, config.epoch_tick)?;
        let clients = Clients::new().map_err(|error| RuntimeError::Tls { message: error.to_string() })?;
        Ok(Self { inner: Arc::new(Inner { engine, ticker, clients, config: config.clone() }) })
    }

    /// The wasmtime engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn config(&self) -> &RuntimeConfig {
        &self.inner.config
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.inner.clients
    }

    pub(crate) fn ticks(&self) -> (Arc<AtomicU64>, Duration) {
        (self.inner.ticker.ticks.clone(), self.inner.config.epoch_tick)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

fn engine_config(pool: Option<u32>) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    // Off in each build: what a component may be does not hang on which features of wasmtime others have switched on.
    config.gc_support(false);
    config.epoch_interruption(true);
    config.parallel_compilation(true);
    if let Some(instances) = pool {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(instances);
        pool.total_memories(instances);
        pool.total_stacks(instances.saturating_mul(2));
        pool.total_core_instances(instances.saturating_mul(PARTS_PER_INSTANCE));
        pool.total_tables(instances.saturating_mul(PARTS_PER_INSTANCE));
        pool.linear_memory_keep_resident(KEEP_MEMORY);
        pool.table_keep_resident(KEEP_TABLE);
        pool.async_stack_keep_resident(KEEP_STACK);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    } else {
        // A machine that has no room for the pool may have none for 4 GiB a memory either.
        config.memory_reservation(SMALL_RESERVATION);
        config.memory_reservation_for_growth(SMALL_RESERVATION);
        config.memory_guard_size(0);
    }
    config
}

/// Advances the epoch. Joined on drop.
struct Ticker {
    ticks: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &Engine, tick: Duration) -> std::io::Result<Self> {
        let ticks = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (engine, ticks, stop) = (engine.weak(), ticks.clone(), stop.clone());
            std::thread::Builder::new().name("weir-epoch".into()).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::park_timeout(tick);
                    let Some(engine) = engine.upgrade() else { return };
                    ticks.fetch_add(1, Ordering::Relaxed);
                    engine.increment_epoch();
                }
            })?
        };
        Ok(Self { ticks, stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot have panicked in a way that matters now.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::Module;

    #[test]
    fn a_guest_that_needs_a_collector_is_refused_in_each_build() {
        let runtime = Runtime::new(&RuntimeConfig { pool_instances: 1, ..RuntimeConfig::default() }).unwrap();
        let compile = |text: &str| Module::new(runtime.engine(), wat::parse_str(text).unwrap());
        assert!(compile("(module (func))").is_ok());
        assert!(compile("(module (type (struct)) (func (drop (struct.new 0))))").is_err());
    }
}
