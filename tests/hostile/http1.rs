//! HTTP/1.1 that is none, or too much of it, or two things at once.

use futures::future::join_all;

use crate::figure;
use crate::server::Server;
use crate::wire::exchange;

/// How often each is sent at once.
const TIMES: usize = 50;

/// A request and the statuses of all its answers.
struct Sent {
    name: &'static str,
    bytes: Vec<u8>,
    /// The status of the first answer; `4xx`: any of those.
    first: &'static str,
    /// How many answers there are.
    answers: usize,
}

fn sent(name: &'static str, bytes: impl AsRef<[u8]>, first: &'static str) -> Sent {
    Sent { name, bytes: bytes.as_ref().to_vec(), first, answers: 1 }
}

/// A GET with these lines behind its first.
fn with(lines: &str) -> String {
    format!("GET /weir/call/good/plain HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n")
}

/// A POST with these lines and this body.
fn posted(lines: &str, body: &str) -> String {
    format!("POST /weir/call/good/plain HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n\r\n{body}")
}

const SMUGGLED: &str = "GET /weir/scope/smuggled/call/good/plain HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn attacks() -> Vec<Sent> {
    let large = "x".repeat(100_000);
    let get = with("");
    let lengths = |lines: &str| posted(lines, &format!("0\r\n\r\n{SMUGGLED}"));
    vec![
        sent("oversized_field", with(&format!("x: {large}\r\n")), "431"),
        sent("oversized_name", with(&format!("{large}: x\r\n")), "4xx"),
        sent("oversized_path", format!("GET /{large} HTTP/1.1\r\nhost: localhost\r\n\r\n"), "4xx"),
        sent("many_fields", with(&"x: y\r\n".repeat(10_000)), "431"),
        // Refused, or read as chunks and never as a length; what follows is not read as a request.
        sent("both_lengths", lengths("content-length: 5\r\ntransfer-encoding: chunked"), "200"),
        sent("both_lengths_turned_round", lengths("transfer-encoding: chunked\r\ncontent-length: 5"), "200"),
        sent("two_lengths", lengths("content-length: 5\r\ncontent-length: 6"), "400"),
        sent("a_list_of_lengths", lengths("content-length: 5, 6"), "400"),
        sent("negative_length", lengths("content-length: -1"), "400"),
        sent("length_with_a_sign", lengths("content-length: +5"), "400"),
        sent("length_past_u64", lengths("content-length: 18446744073709551616"), "4xx"),
        sent("length_of_u64", lengths("content-length: 18446744073709551615"), "4xx"),
        sent("coding_that_is_not_last", lengths("transfer-encoding: chunked, identity"), "400"),
        sent("coding_that_is_none", lengths("transfer-encoding: xchunked"), "400"),
        sent("space_before_the_colon", lengths("transfer-encoding : chunked"), "400"),
        sent("folded_line", lengths("transfer-encoding:\r\n chunked"), "400"),
        sent(
            "coding_in_http_1_0",
            format!("POST /weir/call/good/plain HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
            "400",
        ),
        sent(
            "chunk_past_u64",
            "POST /weir/v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{",
            "400",
        ),
        sent("nul_in_the_path", "GET /good/\0plain HTTP/1.1\r\nhost: localhost\r\n\r\n", "400"),
        sent("control_byte_in_the_path", "GET /good/\x1bplain HTTP/1.1\r\nhost: localhost\r\n\r\n", "400"),
        sent("nul_in_a_name", with("x\0y: z\r\n"), "400"),
        sent("nul_in_a_value", with("x: y\0z\r\n"), "400"),
        sent("control_byte_in_a_value", with("x: y\x07z\r\n"), "400"),
        sent("return_in_a_value", with("x: y\rz: a\r\n"), "400"),
        sent("garbage", b"\x00\xff\x16\x03\x01garbage\r\n\r\n", "400"),
        Sent { answers: 3, ..sent("pipelined_garbage", format!("{get}{get}\x01\x02garbage\r\n\r\n{SMUGGLED}"), "200") },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_http1() {
    let server = Server::start();
    let attacks = attacks();
    let attack = async {
        for Sent { name, bytes, first, answers } in &attacks {
            let all = join_all((0..TIMES).map(|_| exchange(server.ingress, bytes))).await;
            let mut cut = 0;
            for said in all {
                let said = String::from_utf8_lossy(&said);
                // What is refused before all of it was read may be cut off with its answer.
                if said.is_empty() && bytes.len() > 60_000 {
                    cut += 1;
                    continue;
                }
                let status = said.strip_prefix("HTTP/1.1 ").map_or("", |rest| &rest[..3]);
                assert!(status == *first || *first == "4xx" && status.starts_with('4'), "{name}: {said}");
                assert_eq!(said.matches("HTTP/1.1 ").count(), *answers, "{name}: {said}");
            }
            assert!(cut < TIMES, "{name}: nobody was told anything");
        }
    };
    server.under("http1", attack).await;
    figure("http1_attacks", attacks.len());
    // Only the neighbour's calls had a scope: nothing that was smuggled in was ever served.
    assert_eq!(server.counters("smuggled").await, 0);
}
