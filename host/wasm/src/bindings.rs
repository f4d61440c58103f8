//! What `bindgen!` makes of the contract in `wit/`, and nothing else.
//!
//! Both worlds are one here, so that `types.lease` is one resource behind `leases` and `leases-sync`, and libraries
//! of both kinds can hand leases to each other inside one component.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package weir:host;
        world host {
            include weir:flow/guest@0.1.0-draft.2;
            include weir:flow/guest-sync@0.1.0-draft.2;
        }
    ",
    world: "weir:host/host",
    imports: {
        // The guest is blocked, the host is not. `store`: an acquire is attributed to its request by the call stack.
        "weir:flow/leases-sync.acquire": async | store | trappable,
        "weir:flow/leases-sync.acquire-batch": async | store | trappable,
        "weir:flow/leases-sync.try-acquire": store | trappable,
        "weir:flow/leases-sync.check": store | trappable,
        default: trappable,
    },
    with: {
        "weir:flow/types.lease": crate::lease::LeaseEntry,
        "weir:flow/types.request-options": crate::options::OptionsEntry,
    },
    require_store_data_send: true,
});
