//! `/ask/{model}` asks a model provider under the key `provider/{model}`. It does not know where it runs: on Weir's own host the
//! host is the limiter, on Spin a client composed with it asks a Weir server.

use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::http::{IntoResponse, Request, Response, StatusCode};
use spin_sdk::http_service;
use weir_guest::{acquire, limit_key};

#[http_service]
async fn ask(request: Request) -> impl IntoResponse {
    let Some(model) = request.uri().path().strip_prefix("/ask/") else {
        return answer(StatusCode::NOT_FOUND, "try /ask/small\n".to_owned());
    };
    match acquire("provider").limit_key(limit_key(&[model])).await {
        Ok(_lease) => match thoughts(model).await {
            Ok(text) => answer(StatusCode::OK, text),
            Err(problem) => answer(StatusCode::BAD_GATEWAY, problem),
        },
        Err(refused) => refused.into_http(),
    }
}

/// Ends when the whole answer is here: until then the provider counts the call as running.
async fn thoughts(model: &str) -> Result<String, String> {
    let provider = std::env::var("PROVIDER").map_err(|_| "PROVIDER is not set\n".to_owned())?;
    let response = spin_sdk::http::get(format!("{provider}/v1/chat/{model}")).await;
    let response = response.map_err(|error| format!("the provider does not answer: {error}\n"))?;
    if response.status() != StatusCode::OK {
        return Err(format!("the provider answered {}\n", response.status()));
    }
    let body = response.into_body().bytes().await;
    let body = body.map_err(|error| format!("the provider broke off: {error}\n"))?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn answer(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response
}
