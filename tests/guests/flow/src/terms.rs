//! What a guest says of a lease beside taking it: what the work cost, how it ended, how many it wants; and what it tells its
//! client.

use crate::{
    Asked, Fields, Outcome, Refusal, RequestOptions, Response, leases, reason, refused, respond, respond_with, shown,
    sleep_ms, wasip3,
};

pub async fn answer(asked: &Asked) -> Response {
    match asked.path.as_str() {
        // Works for a while, and releases with an outcome.
        "/release" => respond(match asked.acquire().await {
            Ok(lease) => {
                sleep_ms(asked.number("ms").unwrap_or(0)).await;
                leases::release(lease, outcome(asked));
                "released".to_owned()
            }
            Err(refusal) => refused(&refusal),
        }),
        "/keep" => respond(match asked.acquire().await {
            Ok(lease) => {
                leases::keep(lease);
                "kept".to_owned()
            }
            Err(refusal) => refused(&refusal),
        }),
        // Settles to each `to` in turn, and shows what binds the next after each.
        "/settle" => respond(match asked.acquire().await {
            Ok(lease) => {
                let mut lines = Vec::new();
                for (_, to) in asked.query.iter().filter(|(name, _)| name == "to") {
                    sleep_ms(asked.number("ms").unwrap_or(0)).await;
                    let settled = leases::settle(&lease, to.parse().unwrap_or(0)).await;
                    let settled = settled.map_or_else(
                        |refusal| reason(refusal.reason).to_owned(),
                        |settled| format!("-{} +{}", settled.refunded, settled.overrun),
                    );
                    lines.push(format!("{settled} {}", binding(asked).await));
                }
                lines.join("|")
            }
            Err(refusal) => refused(&refusal),
        }),
        // How many of a batch it gets; holds them for a while.
        "/batch" => {
            let number = |name, otherwise| asked.number(name).map_or(otherwise, |number| number as u32);
            let (cost, count, least) = (number("cost", 1), number("count", 1), number("least", 1));
            let (scope, key) = (asked.text("scope"), asked.text("key"));
            let _first = match asked.number("twice") {
                Some(_) => leases::acquire_batch(scope.clone(), key.clone(), cost, count, least, None).await.ok(),
                None => None,
            };
            respond(match leases::acquire_batch(scope, key, cost, count, least, asked.options()).await {
                Ok(batch) => {
                    let mut fences: Vec<u64> = batch.iter().map(|lease| lease.fence()).collect();
                    fences.dedup();
                    let shown = binding(asked).await;
                    sleep_ms(asked.number("ms").unwrap_or(0)).await;
                    format!("{} {} {shown}", batch.len(), fences.len())
                }
                Err(refusal) => refused(&refusal),
            })
        }
        // Answers with a status and `Retry-After`; is refused before that, if it is told a scope.
        "/status" => {
            if let Some(scope) = asked.text("scope") {
                leases::try_acquire(Some(scope), None, 1, None).await.expect_err("a closed scope");
            }
            let headers = Fields::new();
            if let Some(text) = asked.text("retry-after") {
                headers.append("retry-after", text.as_bytes()).expect("a good header");
            }
            let (trailers, trailers_reader) = wasip3::wit_future::new(|| Ok(None));
            drop(trailers);
            let (response, _sent) = Response::new(headers, None, trailers_reader);
            response.set_status_code(asked.number("status").unwrap_or(200) as u16).expect("a good status");
            response
        }
        // A body of a length that is said before.
        "/sized" => {
            let bytes = asked.number("bytes").unwrap_or(0) as usize;
            let headers = Fields::new();
            headers.append("content-length", bytes.to_string().as_bytes()).expect("a good header");
            let (trailers, trailers_reader) = wasip3::wit_future::new(|| Ok(None));
            drop(trailers);
            let (mut body, reader) = wasip3::wit_stream::new();
            let (response, _sent) = Response::new(headers, Some(reader), trailers_reader);
            spin_sdk::wit_bindgen::spawn(async move {
                body.write_all(vec![b'a'; bytes]).await;
            });
            response
        }
        // Sends its head, and traps while it sends its body.
        "/trap-in-body" => respond_with(async move |mut body| {
            body.write_all(b"a part of it".to_vec()).await;
            sleep_ms(20).await;
            panic!("as asked");
        }),
        // Every setter with the worst there is, on options that nobody uses.
        "/hostile-options" => {
            let options = RequestOptions::new();
            for n in 0..2_000 {
                let name = format!("{}{n}", "x".repeat(1_000));
                options.set_fairness(&name, u16::MAX);
                options.add_target(&name, Some(&name));
                options.add_flow_control(&name, &crate::flow_limits("c:0;w:0/0;s:4294967295/1/0"));
                options.set_priority(255);
            }
            let answer = leases::try_acquire(None, None, 1, Some(options)).await;
            respond(answer.map_or_else(|refusal| refused(&refusal), |_| "granted".to_owned()))
        }
        _ => respond("no such path"),
    }
}

fn outcome(asked: &Asked) -> Outcome {
    match asked.text("outcome").as_deref() {
        Some("failed") => Outcome::Failed,
        Some("pushed-back") => Outcome::PushedBack(asked.number("pause_ms").map(|ms| ms * 1_000_000)),
        Some("pushed-back-forever") => Outcome::PushedBack(Some(u64::MAX)),
        _ => Outcome::Ok,
    }
}

/// What binds one more of the same.
async fn binding(asked: &Asked) -> String {
    let (scope, key) = (asked.text("scope"), asked.text("key"));
    match leases::check(scope, key, 1, asked.options()).await {
        Ok(binding) => shown(&binding),
        Err(Refusal { blocked_on, .. }) => shown(&blocked_on),
    }
}
