//! `/chat/{model}` asks a model provider, which allows each model so many requests a minute and so many in parallel.
//!
//! The call out has a key of its own, `provider/{model}`, whatever scope this request came under. What is too much waits here;
//! the provider never sees it. Where the provider is, the environment says: `PROVIDER`.

use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::http::{IntoResponse, Request, Response, StatusCode};
use spin_sdk::http_service;
use weir_guest::{acquire, limit_key};

#[http_service]
async fn edge(request: Request) -> impl IntoResponse {
    let Some(model) = request.uri().path().strip_prefix("/chat/") else {
        return answer(StatusCode::NOT_FOUND, "try /chat/small\n");
    };
    let ask = ask(model);
    match acquire("provider").limit_key(limit_key(&[model])).run(ask).await {
        Ok(Ok(text)) => answer(StatusCode::OK, &text),
        Ok(Err(problem)) => answer(StatusCode::BAD_GATEWAY, &problem),
        Err(refused) => refused.into_http(),
    }
}

/// Ends when the whole answer is here: until then the provider counts the call as running.
async fn ask(model: &str) -> Result<String, String> {
    let provider = std::env::var("PROVIDER").unwrap_or_else(|_| "http://127.0.0.1:9321".to_owned());
    let response = spin_sdk::http::get(format!("{provider}/v1/chat/{model}"))
        .await
        .map_err(|error| format!("the provider at {provider} does not answer: {error}\n"))?;
    let status = response.status();
    let body = response.into_body().bytes().await.map_err(|error| format!("the provider broke off: {error}\n"))?;
    if status != StatusCode::OK {
        return Err(format!("the provider answered {status}\n"));
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn answer(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response
}
