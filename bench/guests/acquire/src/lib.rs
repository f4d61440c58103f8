//! Says hello under one lease: acquired before, released after.

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_service;
use weir_guest::Refused;

#[http_service]
async fn hello(_request: Request) -> impl IntoResponse {
    let greet = async { Response::new("hello\n".to_owned()) };
    weir_guest::here().run(greet).await.unwrap_or_else(Refused::into_http)
}
