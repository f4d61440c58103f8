//! What a guest's calls to outside cost: under a rule, through the host's pool, beside a pooled client that the host would use by itself.
//!
//! Sixteen tasks call one upstream in this process, each of them one call after the other, and read each answer whole. Three sides take turns;
//! a figure is the median of nine.
//! - The client, in this program: no guest, no allow list, no rule.
//! - A WASI 0.3 component that knows nothing of it, through the same sort of client, under no rule: what a guest's call costs by itself, by
//!   the dozen crossings that making a request and reading a response take.
//! - The same under a rule: URI, allow list, rule, acquire, lease and its end besides.
//!
//! `cargo bench -p weir-tests --bench egress` prints `name value` lines.

#![expect(clippy::print_stdout, reason = "the figures of a bench are its output")]

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;
use tokio::net::TcpListener;
use weir_tests::{Host, get, guests};
use weir_wasm::{Egress, EgressRule, Runner};

const TASKS: usize = 16;
const CALLS: usize = 150;
const ROUNDS: usize = 9;

fn main() {
    let upstream = upstream();
    let host = Host::new(&[("upstream", "1000")]);
    let rule = EgressRule::new("127.0.0.1", Some("upstream")).expect("a rule");
    let guest = |rules: Vec<EgressRule>| {
        host.run(guests::EGRESS, |config| {
            config.allow_outbound = vec!["127.0.0.1".to_owned()];
            config.egress = Egress::new(rules).expect("at most one rule");
        })
    };
    let (free, limited) = (guest(Vec::new()), guest(vec![rule]));
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");

    let by_client = async |calls: usize| {
        let uri: http::Uri = format!("http://{upstream}/").parse().expect("a URI");
        let task = async || {
            for _ in 0..calls {
                let response = client.get(uri.clone()).await.expect("an answer");
                assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "ok");
            }
        };
        join_all((0..TASKS).map(|_| task())).await;
    };
    let by_guest = async |runner: &Runner, calls: usize| {
        let path = format!("/loop?url={upstream}/&times={calls}");
        for answer in join_all((0..TASKS).map(|_| get(runner, &path))).await {
            assert_eq!(answer.expect("an answer"), format!("{calls} of {calls}"));
        }
    };
    let mut times: [Vec<f64>; 3] = Default::default();
    runtime.block_on(async {
        by_client(10).await;
        by_guest(&free, 10).await;
        by_guest(&limited, 10).await;
        for _ in 0..ROUNDS {
            for (side, times) in times.iter_mut().enumerate() {
                let began = Instant::now();
                match side {
                    0 => by_client(CALLS).await,
                    1 => by_guest(&free, CALLS).await,
                    _ => by_guest(&limited, CALLS).await,
                }
                times.push(began.elapsed().as_secs_f64());
            }
        }
    });
    let ratio = |to: usize, of: usize| median(times[to].iter().zip(&times[of]).map(|(to, of)| to / of).collect());
    let a_second = |side: usize| (TASKS * CALLS) as f64 / median(times[side].clone());
    println!("egress_client_calls_per_second {:.0}", a_second(0));
    println!("egress_guest_calls_per_second {:.0}", a_second(1));
    println!("egress_limited_guest_calls_per_second {:.0}", a_second(2));
    println!("egress_limited_to_guest {:.3}", ratio(1, 2));
    println!("egress_limited_to_client {:.3}", ratio(0, 2));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server on a thread of its own that says ok.
fn upstream() -> SocketAddr {
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            sender.send(listener.local_addr().expect("its address")).expect("the bench waits for it");
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("an option");
                let ok = service_fn(async |_: http::Request<Incoming>| {
                    Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"ok"))))
                });
                let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), ok);
                tokio::task::spawn(async move { drop(serve.await) });
            }
        });
    });
    address.recv().expect("it listens")
}
