//! An inline key on the command line, with the limits that the request brings along: `plan:concurrency=5,rate=3/1m`.
//!
//! Limits have the names and the form of `weir rules set`, with commas between. A key may have colons and never a `=`, so the last
//! colon before the first `=` is where it ends: `a:b:rate=3/1m` is the key `a:b`.

use weir_engine::{CounterName, LimitError, Limits};
use weir_http::api::{ConcurrencyText, FlowControlBody, RateText};

/// For those who have written something else.
const FORM: &str = "write KEY:concurrency=N, KEY:rate=LIMIT/PERIOD, or several limits with commas between";

pub(super) fn flow_control(text: &str) -> Result<FlowControlBody, String> {
    let form = || FORM.to_owned();
    let (head, _) = text.split_once('=').ok_or_else(form)?;
    let (key, _) = head.rsplit_once(':').ok_or_else(form)?;
    // It is a name by itself, under whatever scope.
    CounterName::inline("scope", key).map_err(|error| error.to_string())?;
    let wrong = |error: LimitError| error.to_string();
    let mut limits = Limits::default();
    for field in text[key.len() + 1..].split(',') {
        match field.split_once('=') {
            Some(("concurrency", limit)) if limits.concurrency.is_none() => {
                limits.concurrency = Some(limit.parse().map_err(wrong)?);
            }
            Some(("concurrency", _)) => return Err("it has two concurrency limits".to_owned()),
            Some(("rate", rate)) => limits.rates.push(rate.parse().map_err(wrong)?),
            _ => return Err(format!("`{}` is no limit: {FORM}", field.chars().take(64).collect::<String>())),
        }
    }
    limits.validate().map_err(wrong)?;
    Ok(FlowControlBody {
        key: key.to_owned(),
        concurrency: limits.concurrency.map(ConcurrencyText),
        rates: limits.rates.into_iter().map(RateText).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_limits_are_taken_apart() {
        for (text, json) in [
            ("plan:concurrency=5", r#"{"key":"plan","concurrency":5}"#),
            ("plan:concurrency=0", r#"{"key":"plan","concurrency":0}"#),
            (
                "t:7:rate=3/1m,concurrency=5:cost,rate=100/1s:smooth:burst=10:cost",
                r#"{"key":"t:7","concurrency":"5:cost","rates":["3/1m","100/1s:smooth:burst=10:cost"]}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&flow_control(text).unwrap()).unwrap(), json, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_named() {
        for (text, says) in [
            ("", "write KEY:concurrency=N"),
            ("plan", "write KEY:concurrency=N"),
            ("plan:", "write KEY:concurrency=N"),
            ("concurrency=5", "write KEY:concurrency=N"),
            (":concurrency=5", "the inline key is empty"),
            ("a b:concurrency=5", "0x20"),
            ("a/b:concurrency=5", "has the byte `/`"),
            ("plan:speed=5", "`speed=5` is no limit: write KEY:"),
            ("plan:concurrency=5,", "`` is no limit"),
            ("plan:concurrency=5,concurrency=6", "two concurrency limits"),
            ("plan:concurrency=", "write a number from 0 to 4294967295"),
            ("plan:concurrency=-1", "write a number from 0 to 4294967295"),
            ("plan:rate=0/1m", "is not a number from 1 to 4294967295"),
            ("plan:rate=1/999us", "out of bounds: 1ms to 366days"),
            ("plan:rate=1/1s,rate=1/2s,rate=1/3s,rate=1/4s,rate=1/5s", "5 rates"),
            ("plan:rate=1/1s,rate=2/1s", "two rates with the same mode, period and counting"),
        ] {
            let error = flow_control(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
