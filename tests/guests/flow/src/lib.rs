//! Acquires and gives back in every way there is.

include!("../../support.rs");
include!("../../exact.rs");

mod terms;

use std::cell::RefCell;
use wasip3::http::{client, types::Scheme};

wasip3::http::service::export!(Guest);

struct Guest;

thread_local! {
    /// What a guest hides from one request to the next. The host is to take it back all the same.
    static STASH: RefCell<Vec<Lease>> = const { RefCell::new(Vec::new()) };
}

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let asked = Asked::new(&request);
        drop(request);
        Ok(match asked.path.as_str() {
            "/plain" => respond("plain"),
            "/exact" => respond(exactly!(leases, &Exact::new(&asked.raw), [], [.await])),
            "/error" => return Err(ErrorCode::InternalError(Some("as asked".into()))),
            "/fetch" => respond(match fetch(&asked.text("to").unwrap_or_default()).await {
                Ok(response) => response.get_status_code().to_string(),
                Err(code) => format!("{code:?}"),
            }),
            // A lease, and so many calls while it is held: `status|weir-refused|` of each.
            "/under" => {
                let _lease = match asked.acquire().await {
                    Ok(lease) => lease,
                    Err(refusal) => return Ok(respond(refused(&refusal))),
                };
                let mut answers = Vec::new();
                for _ in 0..asked.number("times").unwrap_or(1) {
                    let response = fetch(&asked.text("url").unwrap_or_default()).await?;
                    let refused = response.get_headers().get("weir-refused");
                    let refused = refused.first().map(|reason| String::from_utf8_lossy(reason)).unwrap_or_default();
                    answers.push(format!("{}|{refused}|", response.get_status_code()));
                }
                respond(answers.join(","))
            }
            "/print" => {
                println!("a line on stdout\u{1b}[31m");
                eprint!("no line end on stderr");
                respond("printed")
            }
            // Acquires, and drops the lease before it answers.
            "/acquire" => respond(match asked.acquire().await {
                Ok(lease) => format!("granted|{}|{}", lease.id(), lease.fence()),
                Err(refusal) => refused(&refusal),
            }),
            // Acquires and drops, again and again, within one request.
            "/turns" => {
                let mut granted = 0;
                for _ in 0..3 {
                    let lease = leases::try_acquire(asked.text("scope"), asked.text("key"), 1, None).await;
                    granted += u32::from(lease.is_ok());
                }
                respond(granted.to_string())
            }
            "/try" => {
                respond(match leases::try_acquire(asked.text("scope"), asked.text("key"), 1, asked.options()).await {
                    Ok(_) => "granted".to_owned(),
                    Err(refusal) => refused(&refusal),
                })
            }
            "/check" => {
                respond(match leases::check(asked.text("scope"), asked.text("key"), 1, asked.options()).await {
                    Ok(binding) => format!("would be granted|{}", shown(&binding)),
                    Err(refusal) => refused(&refusal),
                })
            }
            // Acquires with a lease time, extends, lets it run out.
            "/timed" => respond(match asked.acquire().await {
                Ok(lease) => {
                    let before = lease.remaining();
                    let extended = leases::extend(&lease, 200_000_000).await;
                    sleep_ms(400).await;
                    let after = lease.remaining();
                    let late = leases::extend(&lease, 200_000_000).await;
                    format!(
                        "{}|{}|{after:?}|{}",
                        before.is_some(),
                        extended.is_ok(),
                        late.map_or_else(|refusal| reason(refusal.reason), |_| "extended")
                    )
                }
                Err(refusal) => refused(&refusal),
            }),
            // Acquires, and works before it answers.
            "/hold" => respond(match asked.acquire().await {
                Ok(_lease) => {
                    sleep_ms(asked.number("ms").unwrap_or(0)).await;
                    "held".to_owned()
                }
                Err(refusal) => refused(&refusal),
            }),
            // Answers at once, and goes on holding a lease.
            "/after" => {
                let lease = asked.acquire().await;
                let ms = asked.number("ms").unwrap_or(0);
                spin_sdk::wit_bindgen::spawn(async move {
                    sleep_ms(ms).await;
                    drop(lease);
                });
                respond("answered")
            }
            // Acquires when its response has long ended.
            "/acquire-after" => {
                let ms = asked.number("ms").unwrap_or(0);
                let scope = asked.text("scope");
                spin_sdk::wit_bindgen::spawn(async move {
                    sleep_ms(20).await;
                    let lease = leases::acquire(scope, None, 1, None).await;
                    sleep_ms(ms).await;
                    drop(lease);
                });
                respond("answered")
            }
            "/leak" => {
                let granted = asked.acquire().await.map(std::mem::forget).is_ok();
                respond(format!("{granted}"))
            }
            "/stash" => {
                let lease = asked.acquire().await;
                let granted = lease.is_ok();
                STASH.with_borrow_mut(|stash| stash.extend(lease));
                respond(format!("{granted}"))
            }
            "/stashed" => {
                let lease = STASH.with_borrow_mut(Vec::pop);
                respond(match lease {
                    Some(lease) => format!(
                        "{:?}|{}",
                        lease.remaining(),
                        leases::extend(&lease, 1_000_000_000)
                            .await
                            .map_or_else(|refusal| reason(refusal.reason), |_| "extended")
                    ),
                    None => "nothing".to_owned(),
                })
            }
            // Two at once: the second one while the first is held.
            "/twice" => {
                let first = asked.acquire().await;
                let second = leases::try_acquire(asked.text("scope"), asked.text("key"), 1, None).await;
                respond(format!(
                    "{}|{}",
                    first.map_or_else(|refusal| reason(refusal.reason), |_| "granted"),
                    second.map_or_else(|refusal| reason(refusal.reason), |_| "granted")
                ))
            }
            _ => terms::answer(&asked).await,
        })
    }
}

/// Sends a request to `authority[/path]`.
async fn fetch(url: &str) -> Result<Response, ErrorCode> {
    let (authority, path) = url.split_once('/').unwrap_or((url, ""));
    let (trailers, trailers_reader) = wasip3::wit_future::new(|| Ok(None));
    drop(trailers);
    let (outbound, _sent) = Request::new(Fields::new(), None, trailers_reader, None);
    let set = outbound
        .set_scheme(Some(&Scheme::Http))
        .and_then(|()| outbound.set_authority(Some(authority)))
        .and_then(|()| outbound.set_path_with_query(Some(&format!("/{path}"))));
    set.expect("a good address");
    client::send(outbound).await
}
