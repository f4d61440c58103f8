//! What a response says about how the work under a lease ended: a guest's for the lease of its request, an upstream's for
//! that of a guest's call.

use http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use http::{StatusCode, response};
use std::time::{Duration, SystemTime};
use weir_engine::Outcome;

/// As draft-ietf-httpapi-ratelimit-headers-11 has it: `"policy";r=0;t=20`.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// `passed_on`: the guest was refused something by this host, so that its 429 or 503 is no news from behind the limit.
///
/// `Retry-After` counts in seconds only: a date would need a clock that agrees with the guest's.
pub(crate) fn of(head: &response::Parts, passed_on: bool) -> Outcome {
    ended(head, seconds(&head.headers).filter(|_| !passed_on))
}

/// The pause is the longer of `Retry-After`, in seconds or as a date, and the longest of what `RateLimit` says is used up.
/// A date is read by the upstream's own clock if it says `Date`, else by `now`.
pub(crate) fn upstream(head: &response::Parts, now: SystemTime) -> Outcome {
    ended(head, pause(&head.headers, now))
}

/// How long the upstream asks for a pause, whatever its status is.
pub(crate) fn pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let retry_after = seconds(headers).or_else(|| {
        let now = date(headers, &DATE).unwrap_or(now);
        date(headers, &RETRY_AFTER).map(|then| then.duration_since(now).unwrap_or_default())
    });
    let used_up = headers.get_all(RATE_LIMIT).iter().filter_map(|value| used_up(value.to_str().ok()?)).max();
    retry_after.max(used_up)
}

fn ended(head: &response::Parts, pause: Option<Duration>) -> Outcome {
    let asks = matches!(head.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    match pause.filter(|_| asks) {
        Some(pause) => Outcome::PushedBack(pause),
        None if head.status.is_server_error() => Outcome::Failed,
        None => Outcome::Ok,
    }
}

/// Digits and nothing else. More than fit are as many as fit: whoever asks for longer than anybody allows gets what is allowed.
fn seconds(headers: &HeaderMap) -> Option<Duration> {
    whole(headers.get(RETRY_AFTER)?.to_str().ok()?.trim()).map(Duration::from_secs)
}

fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
}

/// The longest time until something that is used up is there again: `t` of the items with `r=0`.
fn used_up(list: &str) -> Option<Duration> {
    // Names of policies may hold anything in their quotes.
    let mut quoted = false;
    let mut escaped = false;
    let bare: String = list
        .chars()
        .filter(|char| {
            let quote = *char == '"' && !escaped;
            escaped = quoted && !escaped && *char == '\\';
            quoted ^= quote;
            !quoted && !quote
        })
        .collect();
    let parameter = |item: &str, name: &str| -> Option<u64> {
        item.split(';').find_map(|part| whole(part.trim().strip_prefix(name)?.trim()))
    };
    bare.split(',')
        .filter(|item| parameter(item, "r=") == Some(0))
        .filter_map(|item| parameter(item, "t=").map(Duration::from_secs))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, headers: &[(&str, &str)]) -> response::Parts {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    fn pause(seconds: u64) -> Outcome {
        Outcome::PushedBack(Duration::from_secs(seconds))
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_and_by_two_statuses() {
        for (status, retry_after, expected) in [
            (429, Some("20"), pause(20)),
            (503, Some("0"), pause(0)),
            (503, Some("18446744073709551615"), pause(u64::MAX)),
            (503, Some("18446744073709551616"), pause(u64::MAX)),
            (503, Some("99999999999999999999999999999999999999999"), pause(u64::MAX)),
            (503, Some("+5"), Outcome::Failed),
            (503, Some("5.5"), Outcome::Failed),
            (503, Some(""), Outcome::Failed),
            (503, Some("Wed, 21 Oct 2026 07:28:00 GMT"), Outcome::Failed),
            (503, Some("-1"), Outcome::Failed),
            (503, None, Outcome::Failed),
            (429, None, Outcome::Ok),
            (500, Some("20"), Outcome::Failed),
            (404, Some("20"), Outcome::Ok),
            (200, None, Outcome::Ok),
        ] {
            let headers: Vec<_> = retry_after.map(|text| (RETRY_AFTER.as_str(), text)).into_iter().collect();
            let head = head(status, &headers);
            assert_eq!(of(&head, false), expected, "{status} {retry_after:?}");
            assert!(!matches!(of(&head, true), Outcome::PushedBack(_)));
        }
    }

    #[test]
    fn an_upstream_may_say_it_in_other_ways_too() {
        const NOON: &str = "Wed, 21 Oct 2026 12:00:00 GMT";
        const LATER: &str = "Wed, 21 Oct 2026 12:01:30 GMT";
        let noon = httpdate::parse_http_date(NOON).unwrap();
        for (headers, expected) in [
            (&[("retry-after", "20")][..], pause(20)),
            (&[("retry-after", LATER)], pause(90)),
            // Its own clock, which is a day behind.
            (&[("retry-after", "Tue, 20 Oct 2026 12:00:05 GMT"), ("date", "Tue, 20 Oct 2026 12:00:00 GMT")], pause(5)),
            (&[("retry-after", NOON)], pause(0)),
            (&[("retry-after", "Tue, 20 Oct 2026 12:00:00 GMT")], pause(0)),
            (&[("retry-after", "18446744073709551616")], pause(u64::MAX)),
            (&[("ratelimit", "\"default\";r=0;t=7")], pause(7)),
            (&[("ratelimit", "\"default\";r=0;t=18446744073709551616")], pause(u64::MAX)),
            (&[("ratelimit", "\"default\";r=+0;t=7")], Outcome::Failed),
            (&[("ratelimit", "\"a\";r=0;t=7, \"b\"; r=0; t=9,\"c\";r=3;t=60")], pause(9)),
            (&[("ratelimit", "\"a\";r=0;t=7"), ("ratelimit", "\"b\";r=0;t=8")], pause(8)),
            (&[("ratelimit", "\"a, \\\";r=0;t=99\";r=1;t=5, b;r=0;t=3")], pause(3)),
            (&[("retry-after", "20"), ("ratelimit", "\"a\";r=0;t=7")], pause(20)),
            (&[("retry-after", "2"), ("ratelimit", "\"a\";r=0;t=7")], pause(7)),
            (&[("ratelimit", "\"a\";r=1;t=7")], Outcome::Failed),
            (&[("ratelimit", "\"a\";r=0")], Outcome::Failed),
            (&[("ratelimit", "limit=10, remaining=0, reset=7")], Outcome::Failed),
            (&[("retry-after", "soon"), ("ratelimit", "\"\\")], Outcome::Failed),
            (&[], Outcome::Failed),
        ] {
            assert_eq!(upstream(&head(503, headers), noon), expected, "{headers:?}");
            assert_eq!(upstream(&head(200, headers), noon), Outcome::Ok, "{headers:?}");
        }
    }
}
