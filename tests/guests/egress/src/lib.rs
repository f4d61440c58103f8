//! Calls out, as a component does that knows nothing of flow control.

include!("../../support.rs");

use wasip3::http::types::{Method, Scheme};

wasip3::http::service::export!(Guest);

struct Guest;

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let asked = Asked::new(&request);
        drop(request);
        match asked.path.as_str() {
            // What came back, as `status|weir-refused|retry-after|body`.
            "/call" => Ok(respond(call(&asked).await)),
            // So many calls, one after the other; how many were answered 200.
            "/loop" => {
                let times = asked.number("times").unwrap_or(1);
                let mut good = 0;
                for _ in 0..times {
                    good += u64::from(call(&asked).await.starts_with("200|"));
                }
                Ok(respond(format!("{good} of {times}")))
            }
            // The response as it came.
            "/pass" => send(&asked).await,
            // The head alone, and then nothing for a while.
            "/hold" => {
                let response = send(&asked).await?;
                sleep_ms(asked.number("ms").unwrap_or(u64::from(u32::MAX))).await;
                drop(response);
                Ok(respond("dropped"))
            }
            _ => Ok(respond("no such path")),
        }
    }
}

async fn call(asked: &Asked) -> String {
    let response = match send(asked).await {
        Ok(response) => response,
        Err(error) => return format!("error|{error:?}"),
    };
    let status = response.get_status_code();
    let fields = response.get_headers();
    let field = |name: &str| {
        fields.get(name).first().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    let (refused, retry_after) = (field("weir-refused"), field("retry-after"));
    let (done, done_reader) = wasip3::wit_future::new(|| Ok(()));
    drop(done);
    let (body, _trailers) = Response::consume_body(response, done_reader);
    let body = body.collect().await;
    format!("{status}|{refused}|{retry_after}|{}", String::from_utf8_lossy(&body))
}

async fn send(asked: &Asked) -> Result<Response, ErrorCode> {
    let url = asked.text("url").unwrap_or_default();
    let (authority, path) = url.split_once('/').unwrap_or((&url, ""));
    let fields = Fields::new();
    for name in ["x-key", "x-cost"] {
        if let Some(value) = asked.text(name) {
            fields.append(name, value.as_bytes()).expect("a legal field");
        }
    }
    let (trailers, trailers_reader) = wasip3::wit_future::new(|| Ok(None));
    drop(trailers);
    let (request, _sent) = Request::new(fields, None, trailers_reader, None);
    request.set_method(&Method::Get).expect("a method");
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    wasip3::http::client::send(request).await
}
