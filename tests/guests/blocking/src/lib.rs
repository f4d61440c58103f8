//! A WASI 0.3 guest that uses the plain functions of `leases-sync`.

use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};

spin_sdk::wit_bindgen::generate!({
    path: "../../../wit",
    world: "weir:flow/guest-sync",
    runtime_path: "::spin_sdk::wit_bindgen::rt",
    generate_all,
});

use weir::flow::leases_sync;

wasip3::http::service::export!(Guest);

struct Guest;

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(_: Request) -> Result<Response, ErrorCode> {
        let text = match leases_sync::acquire(None, None, 1, None) {
            Ok(_) => "granted".to_owned(),
            Err(refusal) => format!("{:?}|{}", refusal.reason, refusal.message),
        };
        let (mut writer, reader) = wasip3::wit_stream::new();
        let (trailers, trailers_reader) = wasip3::wit_future::new(|| Ok(None));
        drop(trailers);
        let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers_reader);
        spin_sdk::wit_bindgen::spawn(async move {
            writer.write_all(text.into_bytes()).await;
        });
        Ok(response)
    }
}
