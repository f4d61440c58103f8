//! The host by WASI 0.2: every wait blocks the instance, in `wasi:io/poll`. So its futures are ready at once.

use std::future::{Future, ready};
use std::io::{Read as _, Write as _};
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::poll::poll;
use wasip2::random::random;
use weir_client_core::{Exchange, Host, Reply};

/// WASI 0.2.
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
        monotonic_clock::subscribe_duration(nanoseconds).block();
        ready(())
    }

    fn send(&self, exchange: Exchange) -> impl Future<Output = Result<Reply, String>> {
        ready(send(&exchange))
    }
}

fn send(exchange: &Exchange) -> Result<Reply, String> {
    let request = request(exchange)?;
    let body = request.body().map_err(|()| "its body is taken")?;
    let options = RequestOptions::new();
    // Bounds for a host that knows them; the poll below holds for any.
    for set in [RequestOptions::set_connect_timeout, RequestOptions::set_between_bytes_timeout] {
        let _ = set(&options, Some(exchange.timeout));
    }
    let response = outgoing_handler::handle(request, Some(options)).map_err(|code| said(&code))?;
    write(body, &exchange.body)?;
    read(&response, exchange.timeout)
}

fn request(exchange: &Exchange) -> Result<OutgoingRequest, String> {
    let headers: Vec<_> =
        exchange.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes())).collect();
    let headers = Fields::from_list(&headers).map_err(|error| format!("its headers are refused: {error:?}"))?;
    let request = OutgoingRequest::new(headers);
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
    Ok(request)
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), String> {
    if !bytes.is_empty() {
        let mut stream = body.write().map_err(|()| "its body is taken")?;
        // A request that ended early says why in its answer.
        let _ = stream.write_all(bytes).is_ok() && stream.flush().is_ok();
    }
    // As above.
    let _ = OutgoingBody::finish(body, None);
    Ok(())
}

fn read(response: &FutureIncomingResponse, timeout: u64) -> Result<Reply, String> {
    let (answered, late) = (response.subscribe(), monotonic_clock::subscribe_duration(timeout));
    let ready = poll(&[&answered, &late]);
    drop(answered);
    if !ready.contains(&0) {
        return Err("no answer in time".to_owned());
    }
    let response = match response.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Err(said(&code)),
        Some(Err(())) | None => return Err("it has no answer".to_owned()),
    };
    let status = response.status();
    let incoming = response.consume().map_err(|()| "its answer is taken")?;
    let stream = incoming.stream().map_err(|()| "its answer is taken")?;
    let mut body = Vec::new();
    let read = stream.take(Reply::MAX_BODY as u64 + 1).read_to_end(&mut body);
    drop(IncomingBody::finish(incoming));
    read.map_err(|error| format!("its answer ends early: {error}"))?;
    if body.len() > Reply::MAX_BODY {
        return Err("its answer is too long".to_owned());
    }
    Ok(Reply { status, body })
}

fn said(code: &ErrorCode) -> String {
    code.to_string()
}
