//! What wit-bindgen makes of the contract in `wit/`, exported, and nothing else.
#![allow(unsafe_code, reason = "generated code")]

use crate::Component;

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package weir:client;
        world client-sync {
            export weir:flow/types@0.1.0-draft.2;
            export weir:flow/leases-sync@0.1.0-draft.2;
        }
    ",
    world: "weir:client/client-sync",
    generate_all,
});

export!(Component);
