//! Says under which key the host sees each of its calls: before and after its head, in tasks and after waits.

include!("../../support.rs");

wasip3::http::service::export!(Guest);

struct Guest;

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let asked = Asked::new(&request);
        drop(request);
        let ms = asked.number("ms").unwrap_or(1);
        let first = whoami().await;
        sleep_ms(ms).await;
        let second = whoami().await;
        Ok(respond_with(async move |mut body| {
            body.write_all(format!("{first} {second} ").into_bytes()).await;
            sleep_ms(ms).await;
            let third = whoami().await;
            body.write_all(third.into_bytes()).await;
        }))
    }
}

/// The counter in the way of a call that can never fit: it names the key that the host takes for the request's.
async fn whoami() -> String {
    match leases::try_acquire(None, None, 1_000_000, None).await {
        Ok(_) => "nobody".to_owned(),
        Err(refusal) => {
            refusal.blocked_on.first().map_or_else(|| refused(&refusal), |constraint| constraint.counter.clone())
        }
    }
}
