//! What lies in the store of one instance, and how it is limited.

use crate::component::Component;
use crate::cpu::CpuMeter;
use crate::ctx::FlowCtx;
use crate::egress::Hooks;
use crate::instance::InstanceState;
use crate::output::GuestOutput;
use crate::view::{FlowCtxView, FlowView};
use std::fmt;
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// The data of one instance's store.
pub(crate) struct GuestData {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) hooks: Hooks,
    bounds: Bounds,
    pub(crate) flow: FlowCtx,
    pub(crate) cpu: CpuMeter,
}

impl fmt::Debug for GuestData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestData").field("flow", &self.flow).finish_non_exhaustive()
    }
}

impl WasiView for GuestData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for GuestData {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

impl FlowView for GuestData {
    fn flow(&mut self) -> FlowCtxView<'_> {
        FlowCtxView { ctx: &mut self.flow, table: &mut self.table }
    }
}

/// The limits of a store, and when its instance has grown enough.
///
/// An instance serves a thousand requests. One that keeps some memory of each would run into its limit, and fail the
/// requests that it serves then; so it is replaced while half of it is left.
struct Bounds {
    limits: StoreLimits,
    enough: usize,
    instance: Arc<InstanceState>,
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // What it has from the start says nothing about a leak.
        if current > 0 && desired > self.enough {
            self.instance.retire();
        }
        self.limits.memory_growing(current, desired, maximum)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}

/// Makes a store for a new instance.
pub(crate) fn new_store(component: &Component, instance: &Arc<InstanceState>) -> Store<GuestData> {
    let limits = component.limits();
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.resources);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(limits.http_fields);
    let mut wasi = WasiCtx::builder();
    // No arguments, no files, no sockets, no name look-up: WASI's defaults. Clocks and random numbers are given.
    wasi.stdout(GuestOutput::new(component.log().clone(), "stdout"));
    wasi.stderr(GuestOutput::new(component.log().clone(), "stderr"));
    wasi.envs(component.env());
    let store_limits = StoreLimitsBuilder::new()
        .memory_size(limits.memory)
        .table_elements(limits.table_elements)
        .memories(limits.parts)
        .tables(limits.parts)
        .instances(limits.parts)
        .build();
    let (ticks, tick) = component.runtime().ticks();
    let data = GuestData {
        table,
        wasi: wasi.build(),
        http,
        hooks: component.hooks(),
        bounds: Bounds { limits: store_limits, enough: limits.memory / 2, instance: instance.clone() },
        flow: component.flow_ctx(instance),
        cpu: CpuMeter::new(ticks, tick, limits.cpu),
    };
    let mut store = Store::new(component.runtime().engine(), data);
    store.limiter(|data| &mut data.bounds);
    store.set_hostcall_fuel(limits.hostcall_fuel);
    store.set_max_component_handles(limits.handles);
    if let Some(tasks) = store.concurrent_resource_table() {
        tasks.set_max_capacity(limits.handles);
    }
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| Ok(store.data_mut().cpu.tick()?));
    store
}
