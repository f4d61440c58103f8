//! The host by WASI 0.3: every wait suspends the task that waits.

use futures::future::{Either, join, select};
use std::future::Future;
use std::pin::pin;
use wasip3::clocks::monotonic_clock;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::random::random;
use wasip3::wit_bindgen::StreamResult;
use wasip3::{wit_future, wit_stream};
use weir_client_core::{Exchange, Host, Reply};

/// How much of an answer is read at once.
const CHUNK: usize = 16 << 10;

/// WASI 0.3.
#[derive(Debug)]
pub(crate) struct Wasi;

impl Host for Wasi {
    fn now(&self) -> u64 {
        monotonic_clock::now()
    }

    fn random(&self) -> u64 {
        random::get_random_u64()
    }

    fn sleep(&self, nanoseconds: u64) -> impl Future<Output = ()> {
        monotonic_clock::wait_for(nanoseconds)
    }

    async fn send(&self, exchange: Exchange) -> Result<Reply, String> {
        let timeout = pin!(monotonic_clock::wait_for(exchange.timeout));
        match select(pin!(send(exchange)), timeout).await {
            Either::Left((reply, _)) => reply,
            Either::Right(_) => Err("no answer in time".to_owned()),
        }
    }
}

async fn send(exchange: Exchange) -> Result<Reply, String> {
    let (request, body) = request(exchange)?;
    let (response, ()) = join(client::send(request), body).await;
    read(response.map_err(said)?).await
}

/// The request, and what writes its body while it is sent.
fn request(exchange: Exchange) -> Result<(Request, impl Future<Output = ()>), String> {
    let headers: Vec<_> =
        exchange.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes())).collect();
    let headers = Fields::from_list(&headers).map_err(|error| format!("its headers are refused: {error:?}"))?;
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (writer, contents) = if exchange.body.is_empty() {
        (None, None)
    } else {
        let (writer, reader) = wit_stream::new();
        (Some(writer), Some(reader))
    };
    let (request, sent) = Request::new(headers, contents, trailers_reader, None);
    drop(sent);
    let method = match exchange.method {
        http::Method::DELETE => Method::Delete,
        http::Method::POST => Method::Post,
        _ => Method::Get,
    };
    let scheme = if exchange.https { Scheme::Https } else { Scheme::Http };
    request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(&exchange.authority)))
        .and_then(|()| request.set_path_with_query(Some(&exchange.path)))
        .map_err(|()| format!("this host refuses `{}{}`", exchange.authority, exchange.path))?;
    let body = async move {
        if let Some(mut writer) = writer {
            // What is left over says that the request has ended early, and that is said by its answer.
            drop(writer.write_all(exchange.body).await);
        }
    };
    Ok((request, body))
}

async fn read(response: Response) -> Result<Reply, String> {
    let status = response.get_status_code();
    let (done, done_reader) = wit_future::new(|| Ok(()));
    drop(done);
    let (mut stream, trailers) = Response::consume_body(response, done_reader);
    let mut body = Vec::new();
    loop {
        let (result, chunk) = stream.read(Vec::with_capacity(CHUNK)).await;
        body.extend_from_slice(&chunk);
        if body.len() > Reply::MAX_BODY {
            return Err("its answer is too long".to_owned());
        }
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
    drop(stream);
    trailers.await.map_err(said)?;
    Ok(Reply { status, body })
}

/// An error of the transport in words.
fn said(error: ErrorCode) -> String {
    format!("{error}")
}
