//! `weir:flow/types`: the methods of the two resources.

use crate::bindings::weir::flow::types;
use crate::convert::nanoseconds;
use crate::lease::LeaseEntry;
use crate::options::OptionsEntry;
use crate::view::FlowCtxView;
use std::time::Duration;
use wasmtime::component::Resource;

impl types::Host for FlowCtxView<'_> {}

impl types::HostLease for FlowCtxView<'_> {
    fn id(&mut self, lease: Resource<LeaseEntry>) -> wasmtime::Result<String> {
        Ok(self.table.get(&lease)?.id().to_string())
    }

    fn fence(&mut self, lease: Resource<LeaseEntry>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&lease)?.fence())
    }

    fn remaining(&mut self, lease: Resource<LeaseEntry>) -> wasmtime::Result<Option<u64>> {
        let remaining = self.table.get(&lease)?.with(weir_engine::Lease::remaining);
        Ok(match remaining {
            Some(remaining) => remaining.map(nanoseconds),
            None => Some(0),
        })
    }

    fn drop(&mut self, lease: Resource<LeaseEntry>) -> wasmtime::Result<()> {
        self.table.delete(lease)?;
        Ok(())
    }
}

impl types::HostRequestOptions for FlowCtxView<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<OptionsEntry>> {
        // A constructor has no way to refuse: past the table's capacity this is a trap.
        Ok(self.table.push(OptionsEntry::default())?)
    }

    fn set_max_wait(&mut self, options: Resource<OptionsEntry>, max_wait: u64) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.max_wait = Some(Duration::from_nanos(max_wait));
        Ok(())
    }

    fn set_lease_time(&mut self, options: Resource<OptionsEntry>, lease_time: u64) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.lease_time = Some(Duration::from_nanos(lease_time));
        Ok(())
    }

    fn add_target(
        &mut self,
        options: Resource<OptionsEntry>,
        scope: String,
        limit_key: Option<String>,
    ) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.add_target(&scope, limit_key.as_deref());
        Ok(())
    }

    fn set_priority(&mut self, options: Resource<OptionsEntry>, priority: u8) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.priority = Some(priority);
        Ok(())
    }

    fn set_fairness(&mut self, options: Resource<OptionsEntry>, key: String, weight: u16) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.set_fairness(&key, weight);
        Ok(())
    }

    fn add_flow_control(
        &mut self,
        options: Resource<OptionsEntry>,
        key: String,
        limits: types::FlowLimits,
    ) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.add_flow_control(key, &limits);
        Ok(())
    }

    fn drop(&mut self, options: Resource<OptionsEntry>) -> wasmtime::Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}
