//! What a run is made of: names, rule books, requests and limits, drawn from its seed.
//!
//! Numbers are small on purpose: limits of 0 to 4 and a handful of names make counters full, lines meet and batches not
//! fit. Each run draws its own mix, so that some are all rates, some all pools, and some change the book all the time.

use fastrand::Rng;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;
use weir_engine::{Change, Concurrency, Counts, Limits, Mode, Precondition, Rate, Request, RuleSpec, ScopedKey};

const SCOPES: [&str; 3] = ["s", "t", "u"];
const KEYS: [&str; 2] = ["a", "b"];
const DEPTHS: [&str; 2] = ["x", "y"];
const INLINE: [&str; 2] = ["k", "l"];

/// How likely each kind of thing is in this run, in percent.
#[derive(Debug)]
pub(crate) struct Mix {
    rates: u8,
    smooth: u8,
    cost: u8,
    inline: u8,
    several: u8,
    pub(crate) batch: u8,
    pub(crate) timed: u8,
    pub(crate) keyed: u8,
    pub(crate) wait: u8,
    pub(crate) book: u8,
    pub(crate) verbs: u8,
    pub(crate) settle: u8,
    pub(crate) pushback: u8,
    pub(crate) crash: u8,
    pub(crate) lend: u8,
    priorities: u8,
    scopes: usize,
    pub(crate) shards: u16,
    pub(crate) small_caps: bool,
    /// Everybody waits for a few slots, and time hardly passes: lines grow, and barriers rise.
    pub(crate) crowd: bool,
    /// Every request brings other numbers to the same inline key.
    kinds: bool,
    /// All counters are compared after each operation, which puts them under the rules in force. Else only where somebody waits,
    /// which few do, and now and then.
    pub(crate) looks: bool,
}

impl Mix {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut some = |most: u8| if rng.bool() { 0 } else { rng.u8(1..=most) };
        let (rates, smooth, cost, inline, several) = (some(90), some(60), some(60), some(40), some(60));
        let (batch, timed, keyed, book, verbs) = (some(30), some(60), some(60), some(15), some(12));
        let (settle, pushback, crash, priorities) = (some(30), some(20), some(4), some(60));
        let lend = some(40);
        let wait = rng.u8(30..=95);
        let scopes = rng.usize(1..=SCOPES.len());
        let shards = [1, 2, 3, 5, 8, 13][rng.usize(..6)];
        let small_caps = rng.u8(..12) == 0;
        let mix = Self {
            rates,
            smooth,
            cost,
            inline,
            several,
            batch,
            timed,
            keyed,
            wait,
            book,
            verbs,
            settle,
            pushback,
            crash,
            lend,
            priorities,
            scopes,
            shards,
            small_caps,
            crowd: false,
            kinds: false,
            looks: true,
        };
        let mix = if rng.u8(..3) == 0 { Self { looks: false, wait: rng.u8(0..=5), ..mix } } else { mix };
        match rng.u8(..12) {
            0 | 1 => {
                let (rates, inline, timed, book, verbs, crash) = (0, 0, 0, 0, 0, 0);
                let crowd = Self { crowd: true, several: 40, wait: 98, small_caps: false, settle: 0, ..mix };
                Self { rates, inline, timed, book, verbs, crash, pushback: 0, ..crowd }
            }
            2 => Self { kinds: true, inline: 100, rates: 100, smooth: 50, cost: 50, ..mix },
            _ => mix,
        }
    }
}

pub(crate) fn one_in_hundred(rng: &mut Rng, percent: u8) -> bool {
    rng.u8(..100) < percent
}

pub(crate) fn key(rng: &mut Rng, mix: &Mix) -> String {
    let scope = SCOPES[rng.usize(..mix.scopes)];
    match rng.u8(..4) {
        0 => scope.to_owned(),
        1 | 2 => format!("{scope}/{}", KEYS[rng.usize(..2)]),
        _ => format!("{scope}/{}/{}", KEYS[rng.usize(..2)], DEPTHS[rng.usize(..2)]),
    }
}

/// Any counter there may be.
pub(crate) fn counter(rng: &mut Rng, mix: &Mix) -> String {
    if one_in_hundred(rng, mix.inline) {
        format!("{}#{}", SCOPES[rng.usize(..mix.scopes)], INLINE[rng.usize(..2)])
    } else {
        key(rng, mix)
    }
}

fn pattern(rng: &mut Rng, mix: &Mix) -> String {
    let parts: Vec<String> = key(rng, mix).split('/').map(str::to_owned).collect();
    let parts: Vec<String> =
        parts.into_iter().map(|part| if rng.u8(..3) == 0 { "*".to_owned() } else { part }).collect();
    parts.join("/")
}

fn rate(rng: &mut Rng, mix: &Mix) -> Rate {
    let counts = if one_in_hundred(rng, mix.cost) { Counts::Cost } else { Counts::Calls };
    let smooth = one_in_hundred(rng, mix.smooth);
    // Short ones, so that many come and go in a run; and at times one that stays for the whole of it.
    let period = [1_000_000, 7_000_000, 10_000_000, 60_000_000_000, 86_400_000_000_000];
    let period = period[if mix.kinds { rng.usize(2..5) } else { rng.usize(..5) }];
    let limit = rng.u32(if mix.kinds { 30..=60 } else { 1..=6 });
    Rate {
        limit: NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN),
        period: Duration::from_nanos(period),
        mode: if smooth { Mode::Smooth } else { Mode::Window },
        burst: smooth
            .then(|| NonZeroU32::new(rng.u32(if mix.kinds { 20..=30 } else { 1..=5 })).unwrap_or(NonZeroU32::MIN)),
        counts,
    }
}

pub(crate) fn limits(rng: &mut Rng, mix: &Mix) -> Limits {
    let mut limits = Limits::default();
    if mix.crowd {
        limits.concurrency = Some(Concurrency::calls(rng.u32(1..=2)));
        return limits;
    }
    if rng.u8(..4) > 0 {
        let limit = [0, 1, 1, 2, 2, 3, 4][rng.usize(..7)];
        let counts = if one_in_hundred(rng, mix.cost) { Counts::Cost } else { Counts::Calls };
        limits.concurrency = Some(Concurrency { limit, counts });
    }
    while limits.rates.len() < 3 && one_in_hundred(rng, mix.rates / 2) {
        let rate = rate(rng, mix);
        let kind = |rate: &Rate| (rate.mode, rate.period, rate.counts);
        if limits.rates.iter().all(|other| kind(other) != kind(&rate)) && rate.validate().is_ok() {
            limits.rates.push(rate);
        }
    }
    if rng.u8(..8) == 0 {
        limits.max_wait = Some(Duration::from_millis(rng.u64(0..40)));
    }
    if rng.u8(..10) == 0 {
        limits.max_waiters = Some(rng.u32(0..4));
    }
    if rng.u8(..6) == 0 {
        limits.max_pushback = Some(Duration::from_millis(rng.u64(0..10)));
    }
    limits
}

/// Some changes of the book, of patterns that are each named once.
pub(crate) fn changes(rng: &mut Rng, mix: &Mix, known: &[String]) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    if mix.crowd {
        let spec = RuleSpec { limits: limits(rng, mix), ..RuleSpec::default() };
        let pattern = "*".parse().expect("a pattern");
        return vec![Change::Put { pattern, spec, when: Precondition::None }];
    }
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..rng.usize(1..4) {
        let pattern =
            if !known.is_empty() && rng.bool() { known[rng.usize(..known.len())].clone() } else { pattern(rng, mix) };
        if seen.contains(&pattern) {
            continue;
        }
        seen.push(pattern.clone());
        let Ok(parsed) = pattern.parse() else { continue };
        if known.contains(&pattern) && rng.u8(..4) == 0 {
            changes.push(Change::Delete { pattern: parsed, when: Precondition::None });
            continue;
        }
        let shadow = rng.u8(..6) == 0;
        let spec = RuleSpec {
            limits: if shadow && rng.bool() { Limits::default() } else { limits(rng, mix) },
            shadow_limits: shadow.then(|| limits(rng, mix)),
            total: pattern.contains('*') && rng.u8(..3) == 0,
            description: String::new(),
            disabled: rng.u8(..10) == 0,
        };
        changes.push(Change::Put { pattern: parsed, spec, when: Precondition::None });
    }
    changes
}

/// A request, and whether it is to wait at all.
pub(crate) fn request(rng: &mut Rng, mix: &Mix) -> Request {
    let inline = one_in_hundred(rng, mix.inline);
    let mut request = if inline && rng.bool() {
        Request::unscoped()
    } else {
        Request::new(key(rng, mix).parse::<ScopedKey>().expect("the names are names"))
    };
    if inline {
        let (scope, key) = (SCOPES[rng.usize(..mix.scopes)], INLINE[if mix.kinds { 0 } else { rng.usize(..2) }]);
        request = request.inline(scope, key, limits(rng, mix)).expect("one inline key");
    }
    if one_in_hundred(rng, mix.several) {
        for _ in 0..rng.usize(1..3) {
            request = request.also(key(rng, mix).parse().expect("the names are names")).expect("a few keys");
        }
    }
    let cost = if one_in_hundred(rng, mix.cost) { rng.u32(1..=5) } else { 1 };
    request = request.cost(NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN));
    if one_in_hundred(rng, mix.priorities) {
        request = request.priority([0, 127, 128, 255][rng.usize(..4)]);
        let weight = NonZeroU16::new(rng.u16(1..4)).unwrap_or(NonZeroU16::MIN);
        request = request.fairness(["p", "q"][rng.usize(..2)], weight).expect("a fairness key");
    }
    if rng.u8(..3) > 0 && !mix.crowd {
        request = request.max_wait(Duration::from_nanos(rng.u64(0..30_000_000)));
    }
    request
}
