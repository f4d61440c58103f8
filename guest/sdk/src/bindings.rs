//! What wit-bindgen makes of the contract in `wit/`, and nothing else.
//!
//! Both flavours stand in one world. A component imports only the functions that its code reaches, so a WASI 0.2 guest that
//! uses `sync` alone has no async import.
#![expect(clippy::mem_forget, reason = "generated code")]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package weir:sdk;
        world sdk {
            include weir:flow/guest@0.1.0-draft.2;
            include weir:flow/guest-sync@0.1.0-draft.2;
        }
    ",
    world: "weir:sdk/sdk",
    generate_all,
});
