//! Values that are text in JSON and TOML: durations, rates, concurrency limits, patterns.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weir_engine::{Concurrency, Counts, Mode, Pattern, Rate};

/// A duration such as `"250ms"` or `"1m 30s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl DurationText {
    /// What is left of a lease, in whole milliseconds: no more than there is.
    pub(crate) fn left(time: Duration) -> Self {
        Self(Duration::new(time.as_secs(), time.subsec_millis() * 1_000_000))
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        weir_engine::format_duration(self.0).fmt(f)
    }
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;
        impl Visitor<'_> for DurationVisitor {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"250ms\" or \"1m 30s\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<DurationText, E> {
                weir_engine::parse_duration(text).map(DurationText).map_err(|error| {
                    let write = "write it like \"250ms\" or \"1m 30s\"";
                    E::custom(format_args!("`{text}` is not a duration: {error}; {write}"))
                })
            }
        }
        deserializer.deserialize_str(DurationVisitor)
    }
}

/// A rule's pattern, such as `"tenant/*"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternText(pub Pattern);

impl Serialize for PatternText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PatternText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A rate: text such as `"3/1m:smooth:burst=2"`, or an object with the same parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateText(pub Rate);

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum ModeName {
    #[default]
    Window,
    Smooth,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum CountsName {
    #[default]
    Calls,
    Cost,
}

impl From<CountsName> for Counts {
    fn from(name: CountsName) -> Self {
        match name {
            CountsName::Calls => Self::Calls,
            CountsName::Cost => Self::Cost,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RateObject {
    limit: NonZeroU32,
    period: DurationText,
    #[serde(default)]
    mode: ModeName,
    burst: Option<NonZeroU32>,
    #[serde(default)]
    counts: CountsName,
}

impl Serialize for RateText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RateVisitor;
        impl<'de> Visitor<'de> for RateVisitor {
            type Value = RateText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate such as \"3/1m:smooth\", or an object with limit and period")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RateText, E> {
                text.parse().map(RateText).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateText, A::Error> {
                let object = RateObject::deserialize(MapAccessDeserializer::new(map))?;
                let rate = Rate {
                    limit: object.limit,
                    period: object.period.0,
                    mode: match object.mode {
                        ModeName::Window => Mode::Window,
                        ModeName::Smooth => Mode::Smooth,
                    },
                    burst: object.burst,
                    counts: object.counts.into(),
                };
                rate.validate().map_err(A::Error::custom)?;
                Ok(RateText(rate))
            }
        }
        deserializer.deserialize_any(RateVisitor)
    }
}

/// A concurrency limit: the number `5`, text such as `"5:cost"`, or an object `{ "limit": 5, "counts": "cost" }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencyText(pub Concurrency);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ConcurrencyObject {
    limit: u32,
    #[serde(default)]
    counts: CountsName,
}

impl Serialize for ConcurrencyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.counts {
            Counts::Calls => serializer.serialize_u32(self.0.limit),
            Counts::Cost => serializer.collect_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ConcurrencyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ConcurrencyVisitor;
        impl<'de> Visitor<'de> for ConcurrencyVisitor {
            type Value = ConcurrencyText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a concurrency limit: a number from 0 to 4294967295, or text such as \"5:cost\"")
            }

            fn visit_u64<E: Error>(self, limit: u64) -> Result<ConcurrencyText, E> {
                let limit = u32::try_from(limit).map_err(|_| {
                    E::custom(format_args!("{limit} is not a concurrency limit: the most is {}", u32::MAX))
                })?;
                Ok(ConcurrencyText(Concurrency { limit, counts: Counts::Calls }))
            }

            fn visit_i64<E: Error>(self, limit: i64) -> Result<ConcurrencyText, E> {
                let limit = u64::try_from(limit)
                    .map_err(|_| E::custom(format_args!("{limit} is not a concurrency limit: the least is 0")))?;
                self.visit_u64(limit)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ConcurrencyText, E> {
                text.parse().map(ConcurrencyText).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ConcurrencyText, A::Error> {
                let object = ConcurrencyObject::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ConcurrencyText(Concurrency { limit: object.limit, counts: object.counts.into() }))
            }
        }
        deserializer.deserialize_any(ConcurrencyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(json: &str) -> Result<RateText, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_is_said_in_whole_milliseconds_and_never_more_than_it_is() {
        for (nanos, text) in [(0, "0s"), (999_999, "0s"), (1_999_999_999, "1s 999ms"), (30_000_000_000, "30s")] {
            assert_eq!(DurationText::left(Duration::from_nanos(nanos)).to_string(), text);
        }
    }

    #[test]
    fn a_rate_is_text_or_an_object() {
        let text = rate(r#""100/1s:smooth:burst=10:cost""#).unwrap();
        let object = rate(r#"{"limit":100,"period":"1s","mode":"smooth","burst":10,"counts":"cost"}"#).unwrap();
        assert_eq!(text, object);
        assert_eq!(serde_json::to_string(&text).unwrap(), r#""100/1s:smooth:burst=10:cost""#);
    }

    #[test]
    fn bad_rates_name_the_problem() {
        for (json, part) in [
            (r#""3""#, "no `/`"),
            ("3", "expected a rate"),
            (r#"{"limit":0,"period":"1m"}"#, "nonzero"),
            (r#"{"limit":3}"#, "missing field `period`"),
            (r#"{"limit":3,"period":"1m","per":1}"#, "unknown field `per`"),
            (r#"{"limit":3,"period":"soon"}"#, "`soon` is not a duration"),
            (r#"{"limit":3,"period":"1m","burst":2}"#, "smooth rates only"),
        ] {
            let shown = rate(json).unwrap_err();
            assert!(shown.contains(part), "{json}: {shown}");
        }
    }

    #[test]
    fn concurrency_is_a_number_text_or_an_object() {
        let parse = |json: &str| serde_json::from_str::<ConcurrencyText>(json).map_err(|error| error.to_string());
        assert_eq!(parse("5"), parse(r#""5""#));
        assert_eq!(parse(r#""5:cost""#), parse(r#"{"limit":5,"counts":"cost"}"#));
        assert_eq!(serde_json::to_string(&parse("5").unwrap()).unwrap(), "5");
        assert_eq!(serde_json::to_string(&parse(r#""5:cost""#).unwrap()).unwrap(), r#""5:cost""#);
        assert!(parse("-1").unwrap_err().contains("the least is 0"));
        assert!(parse("4294967296").unwrap_err().contains("the most is 4294967295"));
    }
}
