//! The report: what the tallies say of each key, as it is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use weir_http::api::{ConcurrencyText, DurationText, PatternText, RateText};
use weir_limiter::{Binding, Counts, Mode, Pattern, Rate, Reason, Rule, RuleBook};

use super::tally::{Place, Places, Tally, Units, keys};
use super::waits::Waits;

/// What came of a simulation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Report {
    /// How long it was.
    pub(crate) seconds: f64,
    /// What the load was drawn from; none: it came from a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// Every key that somebody named, and every scope or key above one, by name.
    pub(crate) keys: Vec<KeyReport>,
    /// Every pool that one of them takes from, by its pattern.
    pub(crate) pools: Vec<KeyReport>,
    /// None: no rule of theirs has shadow limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shadow: Option<ShadowReport>,
}

/// What came of those who named a key, or one below it; or of those who take from a pool, whose key is its pattern.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct KeyReport {
    pub(crate) key: String,
    /// The rule that binds it; none: nothing does.
    pub(crate) pattern: Option<PatternText>,
    /// As many as were granted, refused, and wait at the end.
    pub(crate) arrivals: u64,
    pub(crate) granted: u64,
    pub(crate) refused: u64,
    /// Those refused, by reason.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    /// Who waits at the end.
    pub(crate) waiting: u64,
    /// Of those granted.
    pub(crate) wait: WaitReport,
    pub(crate) granted_per_second: f64,
    pub(crate) in_use: UseReport,
    pub(crate) rates: Vec<RateReport>,
    /// Jain's index of what each fairness key was served per weight: 1 is the same for all, 1/n is all for one. None:
    /// nobody was served.
    pub(crate) fairness_index: Option<f64>,
    pub(crate) fairness: Vec<FairnessReport>,
}

/// What shadow limits would have done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ShadowReport {
    /// The rules that have them.
    pub(crate) patterns: Vec<PatternText>,
    /// Grants that they would have refused, all together; one that two of them would have refused counts twice.
    pub(crate) would_refuse: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct WaitReport {
    pub(crate) mean: DurationText,
    pub(crate) p50: DurationText,
    pub(crate) p95: DurationText,
    pub(crate) p99: DurationText,
    pub(crate) max: DurationText,
}

/// What was held, on the mean over all the time.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct UseReport {
    /// In what the limit counts; calls where there is none.
    pub(crate) mean: f64,
    pub(crate) limit: Option<ConcurrencyText>,
    /// Of the limit; none where that is 0 or absent.
    pub(crate) share: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RateReport {
    pub(crate) rate: RateText,
    /// Units started.
    pub(crate) started: u64,
    /// Of the most that could have started in that time.
    pub(crate) share: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FairnessReport {
    /// None: the limit key where there is none.
    pub(crate) key: Option<String>,
    pub(crate) weight: u16,
    pub(crate) arrivals: u64,
    pub(crate) granted: u64,
    /// The cost of those granted.
    pub(crate) cost: u64,
    /// Of the cost served to all.
    pub(crate) share: f64,
}

impl Report {
    pub(crate) fn new(
        length: Duration,
        seed: Option<u64>,
        book: &RuleBook,
        places: &Places,
        tallies: &[Tally],
        would_refuse: u64,
    ) -> Self {
        let report = |key: &str, members: Vec<usize>, rule: Option<Arc<Rule>>| {
            let members: Vec<(&Place, &Tally)> =
                members.into_iter().map(|place| (&places.get()[place], &tallies[place])).collect();
            key_report(key, &members, length, rule.as_deref())
        };
        let keys = keys(places).into_iter().map(|(key, members)| report(key, members, book.binding(key).rule));
        let bound = Bound::of(places, book);
        let pool = |(pattern, (rule, members)): (Pattern, (Arc<Rule>, Vec<usize>))| {
            report(pattern.as_str(), members, Some(rule))
        };
        let shadows: Vec<PatternText> = bound.shadows.into_iter().map(PatternText).collect();
        Self {
            seconds: length.as_secs_f64(),
            seed,
            keys: keys.collect(),
            pools: bound.pools.into_iter().map(pool).collect(),
            shadow: (!shadows.is_empty()).then_some(ShadowReport { patterns: shadows, would_refuse }),
        }
    }
}

/// What binds the places besides the rules of their keys.
#[derive(Debug, Default)]
struct Bound {
    /// The rule of each pool, and the places that take from it.
    pools: BTreeMap<Pattern, (Arc<Rule>, Vec<usize>)>,
    /// The rules that have shadow limits.
    shadows: BTreeSet<Pattern>,
}

impl Bound {
    fn of(places: &Places, book: &RuleBook) -> Self {
        let mut bound = Self::default();
        for (index, place) in places.get().iter().enumerate() {
            for depth in 1..=place.key.depth() {
                let Binding { shadow, totals, .. } = book.binding(place.key.prefix(depth));
                let with_shadow = shadow.iter().chain(&totals).filter(|rule| rule.spec.shadow_limits.is_some());
                bound.shadows.extend(with_shadow.map(|rule| rule.pattern.clone()));
                // The patterns of two depths differ, so no place comes twice.
                for rule in totals {
                    let pattern = rule.pattern.clone();
                    bound.pools.entry(pattern).or_insert_with(|| (rule, Vec::new())).1.push(index);
                }
            }
        }
        bound
    }
}

fn key_report(key: &str, members: &[(&Place, &Tally)], length: Duration, rule: Option<&Rule>) -> KeyReport {
    let mut waits = Waits::default();
    let (mut used, mut started) = (Units::default(), Units::default());
    for (_, tally) in members {
        waits.add(&tally.waits);
        used.add(tally.used, 1);
        started.add(tally.started, 1);
    }
    let sum = |of: fn(&Tally) -> u64| members.iter().map(|(_, tally)| of(tally)).sum();
    let by_reason = Reason::ALL
        .into_iter()
        .enumerate()
        .map(|(index, reason)| (reason.as_str(), members.iter().map(|(_, tally)| tally.refused[index]).sum::<u64>()));
    let reasons: BTreeMap<&'static str, u64> = by_reason.filter(|(_, count)| *count > 0).collect();
    let limits = rule.map(|rule| &rule.spec.limits);
    let limit = limits.and_then(|limits| limits.concurrency);
    let mean = counted(used, limit.map_or(Counts::Calls, |limit| limit.counts)) as f64 / length.as_nanos() as f64;
    let fairness = fairness(members);
    KeyReport {
        key: key.to_owned(),
        pattern: rule.map(|rule| PatternText(rule.pattern.clone())),
        arrivals: sum(|tally| tally.arrivals),
        granted: waits.granted,
        refused: reasons.values().sum(),
        reasons,
        waiting: sum(|tally| tally.waiting),
        wait: wait(&waits),
        granted_per_second: waits.granted as f64 / length.as_secs_f64(),
        in_use: UseReport {
            mean,
            limit: limit.map(ConcurrencyText),
            share: limit.filter(|limit| limit.limit > 0).map(|limit| mean / f64::from(limit.limit)),
        },
        rates: limits.map_or_else(Vec::new, |limits| {
            let report = |rate: &Rate| {
                let started = counted(started, rate.counts) as u64;
                RateReport { rate: RateText(rate.clone()), started, share: started as f64 / most(rate, length) }
            };
            limits.rates.iter().map(report).collect()
        }),
        fairness_index: jain(&fairness),
        fairness,
    }
}

fn wait(waits: &Waits) -> WaitReport {
    let text = |nanos| DurationText(Duration::from_nanos(nanos));
    WaitReport {
        mean: text(waits.mean()),
        p50: text(waits.quantile(0.5)),
        p95: text(waits.quantile(0.95)),
        p99: text(waits.quantile(0.99)),
        max: text(waits.max),
    }
}

pub(crate) fn counted(units: Units, counts: Counts) -> i128 {
    match counts {
        Counts::Calls => units.calls,
        Counts::Cost => units.cost,
    }
}

/// The most units that a rate could have let start in so long: a window begins again with every period, a smooth rate has
/// its burst and then one unit after the other.
fn most(rate: &Rate, length: Duration) -> f64 {
    let limit = f64::from(rate.limit.get());
    let periods = length.as_nanos() as f64 / rate.period.as_nanos() as f64;
    match rate.mode {
        Mode::Window => limit * periods.ceil(),
        Mode::Smooth => f64::from(rate.largest_cost()) + (limit * periods).floor(),
    }
}

/// Each fairness key, and each of its weights if it came with several.
fn fairness(members: &[(&Place, &Tally)]) -> Vec<FairnessReport> {
    let mut keys: BTreeMap<(Option<&str>, u16), FairnessReport> = BTreeMap::new();
    for (place, tally) in members {
        let key = (place.fairness.as_deref(), place.weight);
        let entry = keys.entry(key).or_insert_with(|| FairnessReport {
            key: place.fairness.as_deref().map(str::to_owned),
            weight: place.weight,
            arrivals: 0,
            granted: 0,
            cost: 0,
            share: 0.0,
        });
        entry.arrivals += tally.arrivals;
        entry.granted += tally.waits.granted;
        entry.cost += tally.started.cost as u64;
    }
    let mut entries: Vec<FairnessReport> = keys.into_values().collect();
    let all: u64 = entries.iter().map(|entry| entry.cost).sum();
    for entry in &mut entries {
        entry.share = entry.cost as f64 / all.max(1) as f64;
    }
    entries
}

/// `(sum x)^2 / (n * sum x^2)` (Jain, Chiu and Hawe, 1984), where x is the cost served per weight.
fn jain(entries: &[FairnessReport]) -> Option<f64> {
    let came = entries.iter().filter(|entry| entry.arrivals > 0);
    let served: Vec<f64> = came.map(|entry| entry.cost as f64 / f64::from(entry.weight)).collect();
    let (sum, squares) = served.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    (squares > 0.0).then(|| sum * sum / (served.len() as f64 * squares))
}
