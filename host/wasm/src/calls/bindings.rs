//! What `bindgen!` makes of `wit/calls/`, and nothing else.
//!
//! Requests, responses and error codes are those of the `wasi:http` that the host has already.

wasmtime::component::bindgen!({
    path: ["../../wit", "../../wit/calls"],
    world: "weir:calls/calling",
    imports: { default: trappable },
    with: {
        "wasi:clocks/types": wasmtime_wasi_http::p3::bindings::clocks::types,
        "wasi:http/types": wasmtime_wasi_http::p3::bindings::http::types,
        "weir:flow/types": crate::bindings::weir::flow::types,
        "weir:calls/calls.call-options": crate::calls::options::CallOptionsEntry,
    },
    require_store_data_send: true,
});
