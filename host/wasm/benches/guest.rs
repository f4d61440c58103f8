//! What an acquire costs a guest: acquire + drop in a loop, beside a host function that makes a resource and does
//! nothing else, in the same guest and the same run. The floor is 1.5 times of that.
//!
//! `cargo bench -p weir-wasm --bench guest`

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::{Duration, Instant};
use wasmtime::component::{Accessor, Component, HasSelf, Linker, Resource, ResourceTable, ResourceType, TypedFunc};
use wasmtime::{Config, Engine, Store, StoreContextMut};
use weir_engine::{Change, EngineConfig, Limits, Precondition, RuleSpec};
use weir_wasm::{FlowCtx, FlowCtxView, FlowView};

struct Data {
    table: ResourceTable,
    flow: FlowCtx,
}

impl FlowView for Data {
    fn flow(&mut self) -> FlowCtxView<'_> {
        FlowCtxView { ctx: &mut self.flow, table: &mut self.table }
    }
}

/// What the bare call makes.
struct Token;

struct Guest {
    store: Store<Data>,
    flow: TypedFunc<(u32,), ()>,
    bare: TypedFunc<(u32,), ()>,
    runtime: tokio::runtime::Runtime,
}

impl Guest {
    fn new() -> wasmtime::Result<Self> {
        let limiter = weir_engine::Engine::new(EngineConfig::default());
        let limits = Limits { concurrency: Some("10".parse()?), ..Limits::default() };
        limiter.apply(&[Change::Put {
            pattern: "bench".parse()?,
            spec: RuleSpec { limits, ..RuleSpec::default() },
            when: Precondition::None,
        }])?;

        let mut config = Config::new();
        config.wasm_component_model_async(true);
        config.epoch_interruption(true);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::<Data>::new(&engine);
        weir_wasm::add_to_linker(&mut linker)?;
        let mut bare = linker.instance("bench:bare/calls")?;
        bare.resource("token", ResourceType::host::<Token>(), |mut store: StoreContextMut<'_, Data>, rep| {
            store.data_mut().table.delete(Resource::<Token>::new_own(rep))?;
            Ok(())
        })?;
        bare.func_wrap_concurrent("make", |accessor: &Accessor<Data, HasSelf<Data>>, (): ()| {
            Box::pin(async move { Ok((accessor.with(|mut access| access.get().table.push(Token))?,)) })
        })?;

        let wasm = wat::parse_file(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guest.wat"))?;
        let component = Component::new(&engine, wasm)?;
        let mut store = Store::new(
            &engine,
            Data { table: ResourceTable::new(), flow: FlowCtx::builder(limiter, "bench").build()? },
        );
        store.set_epoch_deadline(u64::MAX / 2);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let instance = runtime.block_on(linker.instantiate_async(&mut store, &component))?;
        let flow = instance.get_typed_func(&mut store, "flow")?;
        let bare = instance.get_typed_func(&mut store, "bare")?;
        Ok(Self { store, flow, bare, runtime })
    }

    fn run(&mut self, function: fn(&Self) -> &TypedFunc<(u32,), ()>, iterations: u64) -> Duration {
        let function = *function(self);
        let iterations = u32::try_from(iterations).expect("a few million at most");
        let began = Instant::now();
        self.runtime.block_on(function.call_async(&mut self.store, (iterations,))).expect("nothing is refused");
        began.elapsed()
    }
}

fn guest(criterion: &mut Criterion) {
    let mut guest = Guest::new().expect("the guest is good");
    let mut group = criterion.benchmark_group("guest");
    group.bench_function("acquire_drop", |bencher| {
        bencher.iter_custom(|iterations| guest.run(|guest| &guest.flow, iterations))
    });
    group.bench_function("bare_call_drop", |bencher| {
        bencher.iter_custom(|iterations| guest.run(|guest| &guest.bare, iterations))
    });
    group.finish();
    ratio(&mut guest);
}

/// The figure itself: medians of interleaved rounds.
#[expect(clippy::print_stdout, reason = "a bench prints its figure")]
fn ratio(guest: &mut Guest) {
    const ROUNDS: usize = 31;
    const CALLS: u64 = 20_000;
    let mut rounds: Vec<(Duration, Duration)> =
        (0..ROUNDS).map(|_| (guest.run(|guest| &guest.flow, CALLS), guest.run(|guest| &guest.bare, CALLS))).collect();
    rounds.sort_by(|a, b| (a.0.as_secs_f64() / a.1.as_secs_f64()).total_cmp(&(b.0.as_secs_f64() / b.1.as_secs_f64())));
    let (flow, bare) = rounds[ROUNDS / 2];
    let nanos = |time: Duration| time.as_secs_f64() * 1e9 / CALLS as f64;
    println!("guest_acquire_drop_ns {:.0}", nanos(flow));
    println!("guest_bare_call_drop_ns {:.0}", nanos(bare));
    println!("guest_acquire_drop_ratio {:.2}", flow.as_secs_f64() / bare.as_secs_f64());
}

criterion_group!(benches, guest);
criterion_main!(benches);
