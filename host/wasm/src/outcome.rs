//! What a response says about how the work under the request's lease ended.

use http::header::{HeaderMap, RETRY_AFTER};
use http::{StatusCode, response};
use std::time::Duration;
use weir_engine::Outcome;

/// `passed_on`: the guest was refused something by this host, so that its 429 or 503 is no news from behind the limit.
pub(crate) fn of(head: &response::Parts, passed_on: bool) -> Outcome {
    let asks = matches!(head.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) && !passed_on;
    match retry_after(&head.headers).filter(|_| asks) {
        Some(pause) => Outcome::PushedBack(pause),
        None if head.status.is_server_error() => Outcome::Failed,
        None => Outcome::Ok,
    }
}

/// `Retry-After` in seconds. Its other form, a date, would need a clock that agrees with the guest's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_and_by_two_statuses() {
        let pause = |seconds| Outcome::PushedBack(Duration::from_secs(seconds));
        for (status, retry_after, expected) in [
            (429, Some("20"), pause(20)),
            (503, Some("0"), pause(0)),
            (503, Some("18446744073709551615"), pause(u64::MAX)),
            (503, Some("18446744073709551616"), Outcome::Failed),
            (503, Some("Wed, 21 Oct 2026 07:28:00 GMT"), Outcome::Failed),
            (503, Some("-1"), Outcome::Failed),
            (503, None, Outcome::Failed),
            (429, None, Outcome::Ok),
            (500, Some("20"), Outcome::Failed),
            (404, Some("20"), Outcome::Ok),
            (200, None, Outcome::Ok),
        ] {
            let mut response = http::Response::builder().status(status);
            if let Some(text) = retry_after {
                response = response.header(RETRY_AFTER, text);
            }
            let (head, ()) = response.body(()).unwrap().into_parts();
            assert_eq!(of(&head, false), expected, "{status} {retry_after:?}");
            assert!(!matches!(of(&head, true), Outcome::PushedBack(_)));
        }
    }
}
