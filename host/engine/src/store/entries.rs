//! Entries as JSON: what a row of the journal holds.
//!
//! Short names and numbers in their order: a row is read by nobody but this file, and is gone after the next fold.

use super::Entry;
use super::forms::{LimitsForm, Problem, RequestForm, RuleForm};
use super::load::MAX_UNITS;
use crate::callers::Callers;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use weir_limiter::{Counts, Ended, GrantedLease, HandState, Limits, Mode, RateKind, Record, Rule, SmoothState};

#[derive(Serialize, Deserialize)]
enum Form<'a> {
    #[serde(rename = "g", borrow)]
    Granted(Box<GrantedForm<'a>>),
    /// Secret, end.
    #[serde(rename = "x")]
    Extended(u128, u64),
    /// Secret, cost.
    #[serde(rename = "c")]
    Settled(u128, u32),
    /// Secret, how, when.
    #[serde(rename = "e")]
    Ended(u128, Cow<'a, str>, u64),
    /// Counter, rate, when, units, how it stands if it is smooth, booked.
    #[serde(rename = "s")]
    Started(Cow<'a, str>, KindForm, u64, u64, Option<SmoothForm>, Option<u32>),
    /// Counter, rate, when, units, how it stands if it is smooth.
    #[serde(rename = "r")]
    Refunded(Cow<'a, str>, KindForm, u64, u64, Option<SmoothForm>),
    /// Counter, paused, draining, pinned, pushed back until.
    #[serde(rename = "h")]
    Hand(Cow<'a, str>, bool, bool, Option<LimitsForm>, u64),
    #[serde(rename = "f")]
    Forgotten(Cow<'a, str>),
    /// Version; pattern, what it says, version and date of each rule put; those deleted.
    #[serde(rename = "b")]
    Book(u64, Vec<(String, RuleForm, u64, u64)>, Vec<String>),
    #[serde(rename = "l")]
    FileRules(Vec<(String, RuleForm)>),
    /// Secret.
    #[serde(rename = "u")]
    Unanswered(u128),
}

/// Smooth, period, counts cost, pace.
type KindForm = (bool, u64, bool, u64);

/// Arrival, interval, beyond.
type SmoothForm = (u64, u64, u64);

#[derive(Serialize, Deserialize)]
struct GrantedForm<'a> {
    secret: u128,
    shard: u16,
    fence: u64,
    caller: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    request: RequestForm,
    from: u64,
    to: u64,
}

fn kind_form(kind: RateKind) -> KindForm {
    (kind.mode == Mode::Smooth, kind.period, kind.counts == Counts::Cost, kind.pace)
}

fn kind((smooth, period, cost, pace): KindForm) -> RateKind {
    RateKind {
        mode: if smooth { Mode::Smooth } else { Mode::Window },
        period,
        counts: if cost { Counts::Cost } else { Counts::Calls },
        pace,
    }
}

fn smooth_form(smooth: Option<SmoothState>) -> Option<SmoothForm> {
    smooth.map(|smooth| (smooth.arrival, smooth.interval, smooth.beyond))
}

fn smooth(form: Option<SmoothForm>) -> Option<SmoothState> {
    form.map(|(arrival, interval, beyond)| SmoothState { arrival, interval, beyond })
}

/// The rows of a batch: each ends with the entry that makes it longer than `most` bytes.
pub(super) fn rows(entries: &[Entry], callers: &Callers, most: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut entries = entries.iter().peekable();
    std::iter::from_fn(move || {
        entries.peek()?;
        // As much as an entry takes mostly.
        let mut row = Vec::with_capacity((entries.len() * 128).min(most));
        while row.len() <= most
            && let Some(entry) = entries.next()
        {
            row.push(if row.is_empty() { b'[' } else { b',' });
            let name = name(entry, callers);
            // Texts and numbers always have a JSON form, and a vector takes it.
            let _written = serde_json::to_writer(&mut row, &form(entry, name.as_deref()));
        }
        row.push(b']');
        Some(row)
    })
}

fn name(entry: &Entry, callers: &Callers) -> Option<std::sync::Arc<str>> {
    match entry {
        Entry::Record(Record::Granted(lease)) => callers.name(lease.request.caller),
        _ => None,
    }
}

fn form<'a>(entry: &'a Entry, caller: Option<&'a str>) -> Form<'a> {
    match entry {
        Entry::Record(record) => record_form(record, caller),
        Entry::Unanswered(secret) => Form::Unanswered(*secret),
        Entry::Book { version, put, deleted } => {
            let put = put
                .iter()
                .map(|rule| (rule.pattern.to_string(), RuleForm::from(&rule.spec), rule.version, rule.last_modified));
            Form::Book(*version, put.collect(), deleted.iter().map(ToString::to_string).collect())
        }
        Entry::FileRules(rules) => {
            Form::FileRules(rules.iter().map(|(pattern, spec)| (pattern.to_string(), RuleForm::from(spec))).collect())
        }
    }
}

fn record_form<'a>(record: &'a Record, caller: Option<&'a str>) -> Form<'a> {
    match record {
        Record::Granted(lease) => Form::Granted(Box::new(GrantedForm {
            secret: lease.secret,
            shard: lease.shard,
            fence: lease.fence,
            caller: caller.map(Cow::Borrowed),
            key: lease.request.idempotency_key.as_deref().map(Cow::Borrowed),
            request: RequestForm::from(&lease.request),
            from: lease.granted_at,
            to: lease.ends_at,
        })),
        Record::Extended { secret, ends_at } => Form::Extended(*secret, *ends_at),
        Record::Settled { secret, cost } => Form::Settled(*secret, *cost),
        Record::Ended { secret, how, at } => Form::Ended(*secret, Cow::Borrowed(how.as_str()), *at),
        Record::Started { counter, kind, at, units, smooth, booked } => {
            Form::Started(Cow::Borrowed(counter), kind_form(*kind), *at, *units, smooth_form(*smooth), *booked)
        }
        Record::Refunded { counter, kind, at, units, smooth } => {
            Form::Refunded(Cow::Borrowed(counter), kind_form(*kind), *at, *units, smooth_form(*smooth))
        }
        Record::Hand { counter, hand } => Form::Hand(
            Cow::Borrowed(counter),
            hand.paused,
            hand.draining,
            hand.pinned.as_ref().map(LimitsForm::from),
            hand.pushed_back_until,
        ),
        Record::Forgotten { counter } => Form::Forgotten(Cow::Borrowed(counter)),
    }
}

/// The entries of a row.
pub(super) fn entries(row: &[u8], callers: &Callers) -> Result<Vec<Entry>, Problem> {
    let forms: Vec<Form<'_>> = serde_json::from_slice(row)?;
    forms.into_iter().map(|form| entry(form, callers)).collect()
}

fn entry(form: Form<'_>, callers: &Callers) -> Result<Entry, Problem> {
    let record = match form {
        Form::Granted(form) => {
            let caller = form.caller.map(|name| callers.caller(&name)).unwrap_or_default();
            Record::Granted(Box::new(GrantedLease {
                secret: form.secret,
                shard: form.shard,
                fence: form.fence,
                request: form.request.request(caller, form.key.as_deref())?,
                settled: None,
                granted_at: form.from,
                ends_at: form.to,
            }))
        }
        Form::Extended(secret, ends_at) => Record::Extended { secret, ends_at },
        Form::Settled(secret, cost) => Record::Settled { secret, cost },
        Form::Ended(secret, how, at) => {
            let how = Ended::parse(&how).ok_or_else(|| format!("a lease that has ended as `{how}`"))?;
            Record::Ended { secret, how, at }
        }
        Form::Started(counter, form, at, units, state, booked) => Record::Started {
            counter: counter.into_owned(),
            kind: kind(form),
            at,
            units: of_a_start(units)?,
            smooth: smooth(state),
            booked,
        },
        Form::Refunded(counter, form, at, units, state) => {
            let units = of_a_start(units)?;
            Record::Refunded { counter: counter.into_owned(), kind: kind(form), at, units, smooth: smooth(state) }
        }
        Form::Hand(counter, paused, draining, pinned, pushed_back_until) => {
            let pinned = pinned.map(Limits::try_from).transpose()?;
            let hand = HandState { paused, draining, pinned, pushed_back_until };
            Record::Hand { counter: counter.into_owned(), hand }
        }
        Form::Forgotten(counter) => Record::Forgotten { counter: counter.into_owned() },
        Form::Unanswered(secret) => return Ok(Entry::Unanswered(secret)),
        Form::Book(version, put, deleted) => {
            let rule =
                |(pattern, spec, version, last_modified): (String, RuleForm, u64, u64)| -> Result<Rule, Problem> {
                    Ok(Rule { pattern: pattern.parse()?, spec: spec.try_into()?, version, last_modified })
                };
            let put = put.into_iter().map(rule).collect::<Result<_, _>>()?;
            let deleted = deleted.iter().map(|pattern| pattern.parse()).collect::<Result<_, _>>()?;
            return Ok(Entry::Book { version, put, deleted });
        }
        Form::FileRules(rules) => {
            let rules = rules.into_iter().map(|(pattern, spec)| Ok((pattern.parse()?, spec.try_into()?)));
            return Ok(Entry::FileRules(rules.collect::<Result<_, Problem>>()?));
        }
    };
    Ok(Entry::Record(record))
}

fn of_a_start(units: u64) -> Result<u64, Problem> {
    if units > MAX_UNITS { Err(format!("a start of {units} units").into()) } else { Ok(units) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use std::time::Duration;
    use weir_limiter::{Concurrency, Request, RuleSpec};

    #[test]
    fn whatever_is_written_is_read() {
        let callers = Callers::default();
        let limits = Limits {
            concurrency: Some(Concurrency { limit: 0, counts: Counts::Cost }),
            rates: vec!["3/366days:cost".parse().unwrap(), "9/1ms:smooth:burst=4".parse().unwrap()],
            max_waiters: Some(0),
            max_wait: Some(Duration::from_nanos(1)),
            max_pushback: Some(Duration::MAX.min(Duration::from_secs(86_400))),
        };
        let request = Request::new("s/a/b".parse().unwrap()).caller(callers.caller("client \"1\""));
        let request = request.cost(NonZeroU32::MAX).lease_time(Duration::from_secs(3_600)).priority(255);
        let request = request.inline("s", "k", limits.clone()).unwrap().idempotency_key("key").unwrap();
        let kind = RateKind { mode: Mode::Smooth, period: u64::MAX, counts: Counts::Cost, pace: 1 };
        let state = SmoothState { arrival: u64::MAX, interval: 1, beyond: u64::MAX };
        let lease = GrantedLease {
            secret: u128::MAX,
            shard: u16::MAX,
            fence: u64::MAX,
            request,
            settled: None,
            granted_at: 0,
            ends_at: u64::MAX,
        };
        let counter = || "s/a".to_owned();
        let spec = RuleSpec {
            limits: limits.clone(),
            shadow_limits: Some(limits.clone()),
            total: true,
            description: "a \n line".into(),
            disabled: true,
        };
        let rule = Rule { pattern: "*/a".parse().unwrap(), spec: spec.clone(), version: 7, last_modified: u64::MAX };
        let written = vec![
            Entry::Record(Record::Granted(Box::new(lease))),
            Entry::Record(Record::Extended { secret: 1 << 127, ends_at: 2 }),
            Entry::Record(Record::Settled { secret: 0, cost: u32::MAX }),
            Entry::Record(Record::Ended { secret: 5, how: Ended::PushedBack, at: 6 }),
            Entry::Record(Record::Started {
                counter: counter(),
                kind,
                at: 1,
                units: 2,
                smooth: Some(state),
                booked: Some(3),
            }),
            Entry::Record(Record::Refunded { counter: counter(), kind, at: 1, units: 2, smooth: None }),
            Entry::Record(Record::Hand {
                counter: counter(),
                hand: HandState { paused: true, draining: true, pinned: Some(limits), pushed_back_until: 9 },
            }),
            Entry::Record(Record::Forgotten { counter: counter() }),
            Entry::Book { version: u64::MAX, put: vec![rule], deleted: vec!["s/*/b".parse().unwrap()] },
            Entry::FileRules(vec![("*".parse().unwrap(), spec)]),
            Entry::Unanswered(u128::MAX),
        ];
        for (most, expected) in [(usize::MAX, 1), (600, 3), (0, written.len())] {
            let rows: Vec<_> = rows(&written, &callers, most).collect();
            assert_eq!(rows.len(), expected, "{most}");
            let read: Vec<Entry> = rows.iter().flat_map(|row| entries(row, &callers).unwrap()).collect();
            assert_eq!(format!("{read:?}"), format!("{written:?}"));
        }
    }
}
