//! `/chat/{model}` asks a model provider, which allows each model so many requests a minute and so many in parallel.
//!
//! The call out has a key of its own, `provider/{model}`, whatever scope this request came under. What is too much waits here;
//! the provider never sees it. Where the provider is, the environment says: `PROVIDER`. If the provider asks for a pause all the
//! same, the lease says so when it is given back, and nobody else runs into it.

use std::time::Duration;

use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::http::{IntoResponse, Request, Response, StatusCode};
use spin_sdk::http_service;
use weir_guest::{Outcome, acquire, limit_key};

#[http_service]
async fn edge(request: Request) -> impl IntoResponse {
    let Some(model) = request.uri().path().strip_prefix("/chat/") else {
        return answer(StatusCode::NOT_FOUND, "try /chat/small\n");
    };
    let lease = match acquire("provider").limit_key(limit_key(&[model])).await {
        Ok(lease) => lease,
        Err(refused) => return refused.into_http(),
    };
    match ask(model).await {
        Ok(text) => answer(StatusCode::OK, &text),
        Err((outcome, problem)) => {
            lease.release(outcome);
            answer(StatusCode::BAD_GATEWAY, &problem)
        }
    }
}

/// Ends when the whole answer is here: until then the provider counts the call as running.
async fn ask(model: &str) -> Result<String, (Outcome, String)> {
    let provider = std::env::var("PROVIDER").unwrap_or_else(|_| "http://127.0.0.1:9321".to_owned());
    let response = spin_sdk::http::get(format!("{provider}/v1/chat/{model}"))
        .await
        .map_err(|error| failed(format!("the provider at {provider} does not answer: {error}\n")))?;
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let pause = response.headers().get("retry-after").and_then(|text| text.to_str().ok()?.parse().ok());
        let outcome = Outcome::PushedBack(pause.map(Duration::from_secs));
        return Err((outcome, "the provider asks for a pause\n".to_owned()));
    }
    let body = response.into_body().bytes().await;
    let body = body.map_err(|error| failed(format!("the provider broke off: {error}\n")))?;
    if status != StatusCode::OK {
        return Err(failed(format!("the provider answered {status}\n")));
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn failed(problem: String) -> (Outcome, String) {
    (Outcome::Failed, problem)
}

fn answer(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response
}
