//! Calls out under keys of their own, with the SDK.

include!("../../support.rs");

use std::future::{IntoFuture, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use wasip3::http::client;
use wasip3::http::types::{Method, Scheme};
use weir_guest::{Call, CallError, RetryDelay, call};

wasip3::http::service::export!(Guest);

struct Guest;

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let asked = Asked::new(&request);
        drop(request);
        Ok(respond(match asked.path.as_str() {
            // What came back, as `status|body`; under a lease on the scope `under`, where that is asked for.
            "/call" => {
                let _lease = match asked.text("under") {
                    None => None,
                    Some(scope) => match leases::acquire(Some(scope), None, 1, None).await {
                        Ok(lease) => Some(lease),
                        Err(refusal) => return Ok(respond(refused(&refusal))),
                    },
                };
                match described(&asked)?.await {
                    Ok(response) => format!("{}|{}", response.get_status_code(), text(response).await),
                    Err(error) => failed(error),
                }
            }
            // The head alone, and then nothing for a while.
            "/hold" => {
                let response = described(&asked)?.await;
                sleep_ms(u64::from(u32::MAX)).await;
                drop(response);
                String::new()
            }
            // The form of the documentation.
            "/short" => {
                let request = to(&asked, "url", None)?;
                let response =
                    call(request).key("provider").rate(3, Duration::from_secs(3600)).parallelism(2).retries(3).await;
                match response {
                    Ok(response) => response.get_status_code().to_string(),
                    Err(error) => failed(error),
                }
            }
            // Gives the call up when something else has answered, and then does nothing for a while.
            "/give-up" => {
                {
                    let mut calling = described(&asked)?.into_future();
                    let mut until = pin!(client::send(to(&asked, "until", None)?));
                    poll_fn(|cx| match until.as_mut().poll(cx) {
                        Poll::Ready(_) => Poll::Ready(()),
                        Poll::Pending => calling.as_mut().poll(cx).map(drop),
                    })
                    .await;
                }
                sleep_ms(u64::from(u32::MAX)).await;
                String::new()
            }
            // Writes what it has read only, piece by piece, while the call runs.
            "/piecewise" => {
                let (mut writer, reader) = wasip3::wit_stream::new();
                let response = match call(to(&asked, "url", Some(reader))?).key("k").await {
                    Ok(response) => response,
                    Err(error) => return Ok(respond(failed(error))),
                };
                let mut body = contents(response);
                let mut pieces = Vec::new();
                for piece in ["one", "two", "three"] {
                    writer.write_all(piece.into()).await;
                    let (_, read) = body.read(Vec::with_capacity(16)).await;
                    pieces.push(String::from_utf8_lossy(&read).into_owned());
                }
                pieces.join(" ")
            }
            // Keeps its instance.
            "/idle" => {
                sleep_ms(u64::from(u32::MAX)).await;
                String::new()
            }
            _ => "no such path".to_owned(),
        }))
    }
}

/// The call that a query describes; times in nanoseconds.
fn described(asked: &Asked) -> Result<Call<Request>, ErrorCode> {
    let duration = |name| asked.number(name).map(Duration::from_nanos);
    let small = |name| asked.number(name).map(|number| u32::try_from(number).expect("32 bits"));
    let mut call = call(to(asked, "url", asked.number("body").map(written))?);
    if let Some(key) = asked.text("key") {
        call = call.key(key);
    }
    if let Some(rate) = asked.text("rate") {
        let (limit, period) = rate.split_once('/').expect("a rate");
        let period = Duration::from_nanos(period.parse().expect("nanoseconds"));
        call = call.rate(limit.parse().expect("a limit"), period);
    }
    if let Some(calls) = small("parallelism") {
        call = call.parallelism(calls);
    }
    if let Some(scope) = asked.text("scope") {
        call = call.scope(scope);
    }
    if let Some(limit_key) = asked.text("limit-key") {
        call = call.limit_key(limit_key);
    }
    if let Some(cost) = small("cost") {
        call = call.cost(cost);
    }
    if let Some(priority) = asked.number("priority") {
        call = call.priority(priority as u8);
    }
    if let Some(max_wait) = duration("max-wait") {
        call = call.max_wait(max_wait);
    }
    if let Some(retries) = small("retries") {
        call = call.retries(retries);
    }
    if let Some(delay) = duration("delay") {
        call = call.retry_delay(RetryDelay::Fixed(delay));
    }
    if let Some(first) = duration("first") {
        let factor = asked.text("factor").map_or(2.0, |factor| factor.parse().expect("a factor"));
        call = call.retry_delay(RetryDelay::Exponential { first, factor });
    }
    if let Some(longest) = duration("longest") {
        call = call.longest_delay(longest);
    }
    if let Some(timeout) = duration("timeout") {
        call = call.attempt_timeout(timeout);
    }
    Ok(call)
}

/// A request to the URL of that name: a GET, or a POST with a body.
fn to(asked: &Asked, name: &str, body: Option<spin_sdk::wit_bindgen::StreamReader<u8>>) -> Result<Request, ErrorCode> {
    let url = asked.text(name).unwrap_or_default();
    let (authority, path) = url.split_once('/').unwrap_or((&url, ""));
    let method = if body.is_some() { Method::Post } else { Method::Get };
    let (trailers, trailers_reader) = wasip3::wit_future::new(|| Ok(None));
    drop(trailers);
    let (request, _sent) = Request::new(Fields::new(), body, trailers_reader, None);
    request.set_method(&method).expect("a method");
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    Ok(request)
}

/// So many bytes, as they are asked for.
fn written(bytes: u64) -> spin_sdk::wit_bindgen::StreamReader<u8> {
    let (mut writer, reader) = wasip3::wit_stream::new();
    spin_sdk::wit_bindgen::spawn(async move {
        let mut left = usize::try_from(bytes).expect("a size");
        while left > 0 {
            let piece = left.min(64 << 10);
            if !writer.write_all(vec![7; piece]).await.is_empty() {
                return;
            }
            left -= piece;
        }
    });
    reader
}

fn contents(response: Response) -> spin_sdk::wit_bindgen::StreamReader<u8> {
    let (done, done_reader) = wasip3::wit_future::new(|| Ok(()));
    drop(done);
    Response::consume_body(response, done_reader).0
}

async fn text(response: Response) -> String {
    String::from_utf8_lossy(&contents(response).collect().await).into_owned()
}

fn failed(error: CallError) -> String {
    match error {
        CallError::Invalid(wrong) => format!("invalid|{wrong}"),
        CallError::Refused(refused) => format!("refused|{}|{refused}", refused.reason.as_str()),
        CallError::BodyTooLarge { most } => format!("body-too-large|{most}"),
        CallError::Transport(code) => format!("transport|{code:?}"),
        other => format!("{other}"),
    }
}
