//! How a call leaves: by the host's own pool of connections, or in somebody else's store by their hooks.

use crate::egress::{Destination, Outgoing};
use crate::view::{Flow, FlowView};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use std::future::ready;
use std::sync::Arc;
use tokio::task::JoinSet;
use wasmtime::AsContextMut as _;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpView};

/// Where a call goes.
pub(super) enum Passage {
    /// To a destination that its component may reach.
    Ours(Arc<Outgoing>, Destination),
    /// Where the hooks of the store send it.
    Theirs,
}

/// How the attempts of a call leave.
pub(super) struct Way<'a, T: 'static> {
    pub(super) passage: Passage,
    pub(super) accessor: &'a Accessor<T, Flow>,
}

impl<T: FlowView + WasiHttpView + 'static> Way<'_, T> {
    /// Sends a request, and answers once the head of the response is there.
    ///
    /// # Cancel safety
    /// The request is given up.
    pub(super) async fn send(
        &self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Error> {
        match &self.passage {
            Passage::Ours(outgoing, to) => outgoing.pass(request, to, options).await,
            Passage::Theirs => {
                let sending = self.accessor.with(|mut access| {
                    let mut store = access.as_context_mut();
                    store.data_mut().http().hooks.send_request(request, options, Box::new(ready(Ok(()))))
                });
                let (response, io) = Box::into_pin(sending).await?;
                // What drives the connection lives as long as the body.
                let mut driver = JoinSet::new();
                driver.spawn(Box::into_pin(io));
                Ok(response.map(|body| {
                    let driven = body.map_frame(move |frame| {
                        let _lives = &driver;
                        frame
                    });
                    driven.boxed_unsync()
                }))
            }
        }
    }
}
