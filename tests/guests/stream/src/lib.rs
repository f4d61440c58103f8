//! Responses that take their time: leases held, kept or trapped beside while the body is written.

include!("../../support.rs");

wasip3::http::service::export!(Guest);

struct Guest;

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let asked = Asked::new(&request);
        drop(request);
        let chunks = asked.number("chunks").unwrap_or(3);
        let ms = asked.number("ms").unwrap_or(10);
        Ok(match asked.path.as_str() {
            // The lease goes to the host, the handler returns, the body follows.
            "/keep" => match asked.acquire().await {
                Ok(lease) => {
                    leases::keep(lease);
                    stream(chunks, ms, None)
                }
                Err(refusal) => respond(refused(&refusal)),
            },
            // The task that writes the body holds the lease.
            "/held" => match asked.acquire().await {
                Ok(lease) => stream(chunks, ms, Some(lease)),
                Err(refusal) => respond(refused(&refusal)),
            },
            "/stream" => stream(chunks, ms, None),
            "/trap" => {
                sleep_ms(ms).await;
                panic!("as asked");
            }
            _ => respond("no such path"),
        })
    }
}

fn stream(chunks: u64, ms: u64, lease: Option<Lease>) -> Response {
    respond_with(async move |mut body| {
        let _lease = lease;
        for chunk in 0..chunks {
            let rest = body.write_all(format!("chunk {chunk}\n").into_bytes()).await;
            if !rest.is_empty() {
                return;
            }
            sleep_ms(ms).await;
        }
    })
}
