//! What wit-bindgen makes of the contract in `wit/`, exported, and nothing else.
#![allow(unsafe_code, reason = "generated code")]

use crate::Component;

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package weir:client;
        world client {
            export weir:flow/types@0.1.0-draft.2;
            export weir:flow/leases@0.1.0-draft.2;
        }
    ",
    world: "weir:client/client",
    generate_all,
});

export!(Component);
