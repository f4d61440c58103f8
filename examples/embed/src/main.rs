//! A plain wasmtime program that offers `weir:flow` to its guests: four of them, and two may work at a time.

use futures::future::try_join_all;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::error::Context;
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use weir_engine::{Change, EngineConfig, Limits, Precondition, RuleSpec};
use weir_wasm::{FlowCtx, FlowCtxView, FlowView};

struct Guest {
    flow: FlowCtx,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl FlowView for Guest {
    fn flow(&mut self) -> FlowCtxView<'_> {
        FlowCtxView { ctx: &mut self.flow, table: &mut self.table }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("usage: weir-example-embed GUEST.wasm")?;
    // The limiter: one handle, shared by everything in this process.
    let limiter = weir_engine::Engine::new(EngineConfig::default());
    let limits = Limits { concurrency: Some("2".parse()?), ..Limits::default() };
    let spec = RuleSpec { limits, ..RuleSpec::default() };
    limiter.apply(&[Change::Put { pattern: "worker".parse()?, spec, when: Precondition::None }])?;

    let engine = Engine::default();
    let mut linker = Linker::<Guest>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    weir_wasm::add_to_linker(&mut linker)?;
    let component = Component::from_file(&engine, file)?;
    // Each store runs one command, so a plain function of the guest may wait.
    let flow = FlowCtx::builder(limiter, "worker").may_block(true);
    try_join_all((0..4).map(|_| async {
        let wasi = WasiCtx::builder().inherit_stdio().build();
        let guest = Guest { flow: flow.build()?, wasi, table: ResourceTable::new() };
        let mut store = Store::new(&engine, guest);
        let command = Command::instantiate_async(&mut store, &component, &linker).await?;
        command.wasi_cli_run().call_run(&mut store).await?.map_err(|()| wasmtime::Error::msg("the guest failed"))
    }))
    .await?;
    Ok(())
}
