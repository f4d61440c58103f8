//! Imports what no Weir host has.

use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};

spin_sdk::wit_bindgen::generate!({
    path: "wit",
    world: "stranger",
    runtime_path: "::spin_sdk::wit_bindgen::rt",
});

wasip3::http::service::export!(Guest);

struct Guest;

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(_: Request) -> Result<Response, ErrorCode> {
        if other::platform::kettle::boil(1) {
            other::platform::toaster::toast();
        }
        let (trailers, trailers_reader) = wasip3::wit_future::new(|| Ok(None));
        drop(trailers);
        let (response, _sent) = Response::new(Fields::new(), None, trailers_reader);
        Ok(response)
    }
}
