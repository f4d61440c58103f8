//! Responses that take their time: leases held, kept or trapped beside while the body is written.

include!("../../support.rs");

wasip3::http::service::export!(Guest);

struct Guest;

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let asked = Asked::new(&request);
        if asked.path == "/echo" {
            return Ok(echo(request));
        }
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

/// Answers what came: the body as it is, the fields that begin with `x-`, the method and the target.
fn echo(request: Request) -> Response {
    let fields = Fields::new();
    for (name, value) in request.get_headers().copy_all() {
        if name.starts_with("x-") {
            fields.append(&name, &value).expect("a field that came in can go out");
        }
    }
    let method = format!("{:?}", request.get_method());
    let target = request.get_path_with_query().unwrap_or_default();
    fields.append("echo-method", method.as_bytes()).expect("a legal field");
    fields.append("echo-target", target.as_bytes()).expect("a legal field");
    let (done, done_reader) = wasip3::wit_future::new(|| Ok(()));
    drop(done);
    let (body, trailers) = Request::consume_body(request, done_reader);
    Response::new(fields, Some(body), trailers).0
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
