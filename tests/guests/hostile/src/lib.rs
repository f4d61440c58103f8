//! Everything that a guest should not do.

include!("../../support.rs");

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

wasip3::http::service::export!(Guest);

struct Guest;

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let asked = Asked::new(&request);
        drop(request);
        let _lease = match asked.path.as_str() {
            "/plain" | "/leak" | "/flood" | "/options" | "/huge-name" | "/many-targets" => None,
            _ => asked.acquire().await.ok(),
        };
        Ok(match asked.path.as_str() {
            "/plain" => respond("plain"),
            "/trap" => panic!("as asked"),
            // Traps while another task of it waits for a lease.
            "/trap-waiting" => {
                let scope = asked.text("scope");
                spin_sdk::wit_bindgen::spawn(async move {
                    let _never = leases::acquire(scope, None, 1, None).await;
                });
                sleep_ms(30).await;
                panic!("as asked");
            }
            "/loop" => {
                let mut n = 0u64;
                loop {
                    n = black_box(n.wrapping_add(1));
                }
            }
            "/sleep" => {
                sleep_ms(3_600_000).await;
                respond("never")
            }
            "/bomb" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1u8; 1 << 20]);
                    black_box(&hoard);
                }
            }
            // Memory that no request gives back; says which request of this instance it is.
            "/leak" => {
                let leak = vec![1u8; asked.number("bytes").unwrap_or(0) as usize];
                black_box(leak.leak());
                static SERVED: AtomicU32 = AtomicU32::new(0);
                respond(SERVED.fetch_add(1, Ordering::Relaxed).to_string())
            }
            // Leases without end: a typed answer at some point, never a harm.
            "/flood" => {
                let mut hoard = Vec::new();
                let why = loop {
                    match asked.acquire().await {
                        Ok(lease) => hoard.push(lease),
                        Err(refusal) => break refused(&refusal),
                    }
                };
                respond(format!("{}|{why}", hoard.len()))
            }
            "/options" => loop {
                std::mem::forget(RequestOptions::new());
            },
            "/huge-name" => {
                let name = "x".repeat(asked.number("bytes").unwrap_or(1) as usize);
                respond(match leases::acquire(Some(name), None, 1, None).await {
                    Ok(_) => "granted".to_owned(),
                    Err(refusal) => refused(&refusal),
                })
            }
            "/many-targets" => {
                let options = RequestOptions::new();
                for target in 0..asked.number("targets").unwrap_or(0) {
                    options.add_target(&format!("s{target}"), None);
                }
                for key in 0..asked.number("keys").unwrap_or(0) {
                    options.add_flow_control(&format!("k{key}"), &flow_limits("c:9;w:9/1000"));
                }
                respond(match leases::acquire(None, None, 1, Some(options)).await {
                    Ok(_) => "granted".to_owned(),
                    Err(refusal) => refused(&refusal),
                })
            }
            _ => respond("no such path"),
        })
    }
}
