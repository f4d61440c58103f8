//! What wit-bindgen makes of the contract in `wit/`, and nothing else.
//!
//! Both flavours, and calls, stand in one world. A component imports only the functions that its code reaches, so a WASI 0.2 guest that
//! uses `sync` alone has no async import.
#![expect(clippy::mem_forget, reason = "generated code")]

wit_bindgen::generate!({
    path: ["../../wit", "../../wit/calls"],
    inline: "
        package weir:sdk;
        world sdk {
            include weir:flow/guest@0.1.0-draft.2;
            include weir:flow/guest-sync@0.1.0-draft.2;
            include weir:calls/calling@0.1.0-draft.1;
        }
    ",
    world: "weir:sdk/sdk",
    with: {
        "wasi:clocks/types@0.3.0": wasip3::clocks::types,
        "wasi:http/types@0.3.0": wasip3::http::types,
    },
    generate_all,
});
