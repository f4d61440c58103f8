//! What survives the end of the process: a copy of the data directory, taken while its engine lives, is what a kill leaves.
#![cfg(not(feature = "shuttle"))]

use futures::executor::block_on;
use futures::future::join_all;
use futures::task::noop_waker_ref;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::future::Future as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use weir_engine::{
    Change, Clock, CounterQuery, CounterSnapshot, Durability, Ended, Engine, EngineConfig, KEPT, LeaseError, Limits,
    ManualClock, Outcome, Precondition, Reason, Refusal, Request, RuleSpec, StoreConfig, StoreError, TimedLease, Verb,
};

const S: Duration = Duration::from_secs(1);

/// An engine over a directory, and the hand of its clock.
struct Life {
    engine: Engine,
    hand: ManualClock,
    directory: TempDir,
}

impl Life {
    fn begin() -> Self {
        Self::go_on(TempDir::new().unwrap(), Duration::ZERO).unwrap()
    }

    /// An engine over this directory whose clock is so far past the start.
    fn go_on(directory: TempDir, at: Duration) -> Result<Self, StoreError> {
        let (clock, hand) = Clock::manual();
        hand.move_on(at);
        let engine = Engine::open(EngineConfig { clock, ..EngineConfig::default() }, &store(directory.path()))?;
        Ok(Self { engine, hand, directory })
    }

    /// What a kill leaves once everything so far is written, and a new life over it, that much after the start.
    fn killed(&self, at: Duration) -> Self {
        Self::go_on(self.remains(), at).unwrap()
    }

    fn remains(&self) -> TempDir {
        block_on(self.engine.saved()).unwrap();
        let copy = TempDir::new().unwrap();
        // The journal first: what is folded meanwhile is then in both, not in neither.
        for name in ["journal.db", "journal.db-wal", "weir.db", "weir.db-wal"] {
            let file = self.directory.path().join(name);
            if file.exists() {
                fs::copy(file, copy.path().join(name)).unwrap();
            }
        }
        copy
    }

    fn rule(&self, pattern: &str, concurrency: Option<&str>, rates: &[&str]) {
        self.engine.apply(&[put(pattern, concurrency, rates)]).unwrap();
    }

    fn timed(&self, request: Request) -> Result<TimedLease, Refusal> {
        block_on(self.engine.acquire_timed(request.max_wait(Duration::ZERO)))
    }

    /// A request whose caller goes while its grant is being written.
    /// None: the disk was quicker, and it is answered.
    fn cut(&self, request: Request) -> Option<()> {
        let mut future = self.engine.acquire_timed_batch(request.max_wait(Duration::ZERO));
        match Pin::new(&mut future).poll(&mut Context::from_waker(noop_waker_ref())) {
            Poll::Pending => Some(()),
            Poll::Ready(Ok(_)) => None,
            Poll::Ready(Err(refusal)) => panic!("{refusal}"),
        }
    }

    fn counter(&self, name: &str) -> CounterSnapshot {
        let counters = self.engine.counters(&CounterQuery::default());
        counters.into_iter().find(|counter| counter.counter == name).unwrap_or_else(|| panic!("no counter {name}"))
    }

    fn used(&self, name: &str) -> Vec<u64> {
        self.counter(name).rates.iter().map(|rate| rate.used).collect()
    }
}

fn store(directory: &Path) -> StoreConfig {
    StoreConfig { directory: directory.to_owned(), durability: Durability::Process }
}

fn limits(concurrency: Option<&str>, rates: &[&str]) -> Limits {
    Limits {
        concurrency: concurrency.map(|text| text.parse().unwrap()),
        rates: rates.iter().map(|rate| rate.parse().unwrap()).collect(),
        ..Limits::default()
    }
}

fn put(pattern: &str, concurrency: Option<&str>, rates: &[&str]) -> Change {
    let spec = RuleSpec { limits: limits(concurrency, rates), ..RuleSpec::default() };
    Change::Put { pattern: pattern.parse().unwrap(), spec, when: Precondition::None }
}

fn ask(key: &str) -> Request {
    Request::new(key.parse().unwrap())
}

fn cost(units: u32) -> NonZeroU32 {
    NonZeroU32::new(units).unwrap()
}

#[test]
fn a_timed_lease_survives_with_its_id_its_end_and_its_number() {
    let life = Life::begin();
    life.rule("s", Some("2"), &[]);
    let lease = life.timed(ask("s/a").lease_time(10 * S)).unwrap();
    let other = life.timed(ask("s/b").lease_time(10 * S)).unwrap();
    life.engine.extend(other.id, 60 * S).unwrap();
    let ended = life.timed(ask("t").lease_time(10 * S)).unwrap();
    life.engine.release(ended.id, Outcome::Ok).unwrap();

    let next = life.killed(4 * S);
    assert_eq!((next.counter("s").calls, next.counter("s/a").calls, next.counter("s/b").calls), (2, 1, 1));
    assert_eq!(next.timed(ask("s")).unwrap_err().reason, Reason::Limited, "what was granted counts");
    assert_eq!(next.engine.release(ended.id, Outcome::Ok), Err(LeaseError::Gone));
    // It ends when it was to end, with nobody arriving.
    next.engine.advance(6 * S - Duration::from_nanos(1));
    assert_eq!(next.counter("s").calls, 2);
    next.engine.advance(Duration::from_nanos(1));
    assert_eq!(next.counter("s").calls, 1);
    assert_eq!(next.engine.extend(lease.id, S), Err(LeaseError::Gone));
    let newer = next.timed(ask("s").lease_time(S)).unwrap();
    assert!(newer.fence > other.fence.max(ended.fence), "{} after {}", newer.fence, other.fence);
    assert_eq!(next.engine.extend(other.id, S).unwrap(), 50 * S, "extended once, it lasts");
    next.engine.release(other.id, Outcome::Ok).unwrap();
    assert_eq!(next.counter("s").calls, 1);
}

#[test]
fn a_lease_that_ended_while_nobody_was_there_is_gone() {
    let life = Life::begin();
    life.rule("s", Some("1"), &[]);
    let lease = life.timed(ask("s").lease_time(10 * S)).unwrap();
    let next = life.killed(10 * S);
    assert_eq!(next.engine.extend(lease.id, S), Err(LeaseError::Gone));
    assert!(next.timed(ask("s").lease_time(S)).is_ok());
}

#[test]
fn held_leases_die_with_the_process() {
    let life = Life::begin();
    life.rule("s", Some("1"), &[]);
    let _held = life.engine.try_acquire(&ask("s")).unwrap();
    assert!(life.killed(S).engine.try_acquire(&ask("s")).is_ok());
}

#[test]
fn a_lease_over_several_scopes_pools_and_inline_keys_holds_all_of_them() {
    let life = Life::begin();
    let pool = RuleSpec { limits: limits(Some("9"), &[]), total: true, ..RuleSpec::default() };
    let wide = Change::Put { pattern: "*".parse().unwrap(), spec: pool, when: Precondition::None };
    life.engine.apply(&[wide, put("a", Some("3:cost"), &[])]).unwrap();
    let request = ask("a/x").also("b".parse().unwrap()).unwrap().cost(cost(3)).lease_time(60 * S);
    let request = request.inline("c", "plan", limits(Some("2"), &["5/1m"])).unwrap();
    let lease = life.timed(request).unwrap();

    let next = life.killed(S);
    for (name, calls, cost) in [("a", 1, 3), ("a/x", 1, 3), ("b", 1, 3), ("c#plan", 1, 3), ("*", 1, 3)] {
        let counter = next.counter(name);
        assert_eq!((counter.calls, counter.cost), (calls, cost), "{name}");
    }
    next.engine.release(lease.id, Outcome::Ok).unwrap();
    assert!(next.engine.counters(&CounterQuery::default()).iter().all(|counter| counter.calls == 0));

    // The pool's rule is gone before the restart: the lease is found by its id all the same.
    life.engine.apply(&[Change::Delete { pattern: "*".parse().unwrap(), when: Precondition::None }]).unwrap();
    let next = life.killed(S);
    next.engine.release(lease.id, Outcome::Ok).unwrap();
    assert_eq!(next.counter("a").calls, 0);
}

#[test]
fn what_a_lease_was_settled_at_survives() {
    let life = Life::begin();
    life.rule("s", Some("10:cost"), &["100/1m:cost"]);
    let lease = life.timed(ask("s").cost(cost(8)).lease_time(60 * S)).unwrap();
    life.engine.settle(lease.id, 3).unwrap();
    let over = life.timed(ask("s").cost(cost(2)).lease_time(60 * S)).unwrap();
    life.engine.settle(over.id, 12).unwrap();
    let next = life.killed(S);
    assert_eq!(next.counter("s").cost, 15);
    assert_eq!(next.used("s"), [15], "refunds and overruns of a window survive");
    assert_eq!(next.engine.settle(over.id, 12).unwrap(), weir_engine::Settled::default());
    next.engine.release(over.id, Outcome::Ok).unwrap();
    assert_eq!(next.counter("s").cost, 3);
}

#[test]
fn rate_history_survives_to_the_nanosecond() {
    let life = Life::begin();
    life.rule("s", None, &["3/1m", "2/10s:smooth:burst=2"]);
    for _ in 0..2 {
        life.timed(ask("s").lease_time(S)).unwrap();
        life.engine.advance(5 * S);
    }
    life.timed(ask("s").lease_time(S)).unwrap();
    let next = life.killed(10 * S);
    assert_eq!((next.used("s"), life.used("s")), (vec![3, 1], vec![3, 1]));
    let refusal = next.timed(ask("s")).unwrap_err();
    assert_eq!(refusal.retry_after, Some(50 * S), "the first leaves the window then");
    next.engine.advance(50 * S - Duration::from_nanos(1));
    assert_eq!(next.timed(ask("s")).unwrap_err().reason, Reason::Limited);
    next.engine.advance(Duration::from_nanos(1));
    next.timed(ask("s").lease_time(S)).unwrap();
    // And all of it once more, over what the second life has written.
    let third = next.killed(60 * S);
    assert_eq!(third.used("s")[0], 3);
}

#[test]
fn a_change_of_pace_survives() {
    let life = Life::begin();
    life.rule("s", None, &["60/1h:smooth:burst=10"]);
    for _ in 0..10 {
        life.timed(ask("s")).unwrap();
    }
    life.engine.advance(S);
    life.rule("s", None, &["1/1h:smooth:burst=10"]);
    life.engine.advance(700 * S);
    assert_eq!(life.used("s"), [10], "it drains one an hour now");
    let next = life.killed(S);
    assert_eq!(next.used("s"), [10]);
    next.timed(ask("s")).unwrap_err();
    // Nobody needs to look.
    let life = Life::begin();
    life.rule("s", None, &["60/1h:smooth:burst=10"]);
    for _ in 0..10 {
        life.timed(ask("s")).unwrap();
    }
    life.rule("s", None, &["1/1h:smooth:burst=10"]);
    life.engine.advance(700 * S);
    assert_eq!(life.killed(S).used("s"), [10]);
    // One that the end has followed at once holds from the restart on, and is not forgotten by the next.
    let life = Life::begin();
    life.rule("s", None, &["60/1h:smooth:burst=10"]);
    for _ in 0..10 {
        life.timed(ask("s")).unwrap();
    }
    life.rule("s", None, &["1/1h:smooth:burst=10"]);
    let third = life.killed(S).killed(700 * S);
    assert_eq!(third.used("s"), [10]);
    third.rule("s", None, &["3600/1h:smooth:burst=10"]);
    third.engine.advance(20 * S);
    assert_eq!(third.used("s"), [0]);
}

#[test]
fn starts_of_held_leases_are_booked_ahead_never_over_and_at_most_a_block_under() {
    for (rate, block) in [("160/1m", 10), ("15/1m", 0), ("1/1m", 0), ("160/1m:smooth:burst=160", 10)] {
        for starts in [1, 9, 10, 11, 25] {
            let life = Life::begin();
            life.rule("s", None, &[rate]);
            let granted = (0..starts).filter(|_| life.engine.try_acquire(&ask("s")).is_ok()).count() as u64;
            let next = life.killed(S);
            let (real, shown) = (life.used("s")[0], next.used("s")[0]);
            assert_eq!(real, granted);
            // A smooth rate has drained a little meanwhile.
            let drained = if rate.contains("smooth") { 3 } else { 0 };
            assert!(
                (granted - drained.min(granted)..=granted + block).contains(&shown),
                "{rate}: {shown} of {granted}"
            );
            // A third life has it all, and what the second has started, if there was room.
            let more = (0..10).filter(|_| next.engine.try_acquire(&ask("s")).is_ok()).count() as u64;
            let third = next.killed(2 * S);
            let shown = third.used("s")[0];
            assert!(shown + 2 * drained >= granted + more, "{rate}: {shown} of {granted} and {more}");
        }
    }
}

/// What was booked ahead under a limit does not close a lower one.
#[test]
fn a_block_of_a_higher_limit_ends_when_a_lower_one_has_its_first_start() {
    let life = Life::begin();
    life.rule("s", None, &["1600/1h"]);
    drop(life.engine.try_acquire(&ask("s")).unwrap());
    life.rule("s", None, &["50/1h"]);
    drop(life.engine.try_acquire(&ask("s")).unwrap());
    let bring = |rate: &str| Request::unscoped().inline("s", "k", limits(None, &[rate])).unwrap();
    drop(life.engine.try_acquire(&bring("1600/1h")).unwrap());
    drop(life.engine.try_acquire(&bring("50/1h")).unwrap());
    let next = life.killed(S);
    let used = next.used("s")[0];
    assert!((2..=2 + 50 / 16).contains(&used), "{used} of two");
    drop(next.engine.try_acquire(&ask("s")).unwrap());
    drop(next.engine.try_acquire(&bring("50/1h")).unwrap());
}

/// Nothing that was only booked ahead is held against anybody after an end in order; after a kill, under a smooth rate, for a second.
#[test]
fn what_is_booked_ahead_closes_nothing_after_an_end_in_order_nor_a_smooth_rate_for_long() {
    for (kill, rate) in [(true, "86400/1day:smooth"), (false, "86400/1day:smooth"), (false, "1600/1day")] {
        let life = Life::begin();
        life.rule("s", None, &[rate]);
        drop(life.engine.try_acquire(&ask("s")).unwrap());
        let next = if kill {
            life.killed(60 * S)
        } else {
            let Life { engine, directory, .. } = life;
            drop(engine);
            Life::go_on(directory, 60 * S).unwrap()
        };
        // What has drained is not there any more.
        let counters = next.engine.counters(&CounterQuery::default());
        let used: u64 = counters.iter().map(|counter| counter.rates[0].used).sum();
        assert_eq!(used, if rate.contains("smooth") { 0 } else { 1 }, "{rate}, killed {kill}");
        drop(next.engine.try_acquire(&ask("s")).unwrap());
    }
}

/// An end in order writes down what was taken out of blocks, of windows that have passed too, and a life over that begins the same.
#[test]
fn an_end_in_order_forgets_no_start() {
    let mut directory = TempDir::new().unwrap();
    let mut granted = 0;
    for life in 0..5 {
        let Life { engine, hand, directory: own } = Life::go_on(directory, life * 10 * S).unwrap();
        engine.apply(&[put("s", None, &["160/1h", "160/1s", "160/1h:smooth:burst=160"])]).unwrap();
        for _ in 0..25 {
            drop(engine.try_acquire(&ask("s")).unwrap());
            hand.move_on(S / 100);
        }
        granted += 25;
        drop(engine);
        directory = own;
    }
    let last = Life::go_on(directory, 50 * S).unwrap();
    let used = last.used("s");
    // One of the smooth ones has drained for each 22.5 s.
    assert_eq!((used[0], used[1], granted - used[2]), (granted, 0, 2));
}

/// The first start books a block and waits until that is written. Those that are taken out of it say nothing by themselves, so they wait
/// for the same.
#[test]
fn what_is_taken_of_a_block_is_told_to_nobody_before_the_block_is_written() {
    let life = Life::begin();
    life.rule("s", None, &["160/1h"]);
    let mut context = Context::from_waker(Waker::noop());
    let mut seen = 0;
    for round in 0..10_000 {
        let key = format!("s{round}");
        life.rule(&key, None, &["160/1h"]);
        let [mut first, mut second] = [0, 1].map(|_| Box::pin(life.engine.acquire(ask(&key))));
        if first.as_mut().poll(&mut context).is_ready() {
            continue;
        }
        let told = second.as_mut().poll(&mut context).is_ready();
        // Only where the block is not written even now is it certain that it was not then.
        if first.as_mut().poll(&mut context).is_pending() {
            assert!(!told, "round {round}");
            seen += 1;
        }
        if seen == 20 {
            return;
        }
    }
    panic!("the disk was quicker than this test in all but {seen} rounds");
}

#[test]
fn what_operators_said_survives_and_a_pushback_until_its_time() {
    let life = Life::begin();
    life.rule("s", Some("5"), &["9/1h"]);
    for verb in [Verb::Pause, Verb::Pin(limits(Some("7"), &["1/1s"]))] {
        life.engine.operate(&"s".parse().unwrap(), &verb).unwrap();
    }
    life.engine.operate(&"d#k".parse().unwrap(), &Verb::Drain).unwrap();
    life.engine.operate(&"gone".parse().unwrap(), &Verb::Pause).unwrap();
    life.engine.operate(&"gone".parse().unwrap(), &Verb::Resume).unwrap();
    let pushed = life.timed(ask("p").lease_time(60 * S)).unwrap();
    life.engine.release(pushed.id, Outcome::PushedBack(20 * S)).unwrap();

    let next = life.killed(5 * S);
    let s = next.counter("s");
    assert!(s.paused && s.pinned == Some(limits(Some("7"), &["1/1s"])));
    assert!(next.counter("d#k").draining);
    assert_eq!(next.counter("p").pushed_back_for, Some(15 * S));
    assert!(next.engine.counters(&CounterQuery::default()).iter().all(|counter| counter.counter != "gone"));
    next.engine.operate(&"s".parse().unwrap(), &Verb::Resume).unwrap();
    next.engine.operate(&"s".parse().unwrap(), &Verb::Unpin).unwrap();
    let third = next.killed(20 * S);
    let named: Vec<_> = third.engine.counters(&CounterQuery::default()).into_iter().map(|c| c.counter).collect();
    assert_eq!(named, ["d#k"]);
}

/// A pushback that has run out leaves no row, whether it ran out in this life or between two.
#[test]
fn a_pushback_that_has_run_out_is_forgotten_on_disk_too() {
    let hands = |directory: &TempDir| -> i64 {
        let tables = rusqlite::Connection::open(directory.path().join("weir.db")).unwrap();
        tables.query_row("SELECT count(*) FROM hand", [], |row| row.get(0)).unwrap()
    };
    let close = |life: Life| {
        let Life { engine, hand: _, directory } = life;
        drop(engine);
        directory
    };
    let life = Life::begin();
    life.engine.operate(&"paused".parse().unwrap(), &Verb::Pause).unwrap();
    for index in 0..20 {
        let pushed = life.timed(ask(&format!("p{index}")).lease_time(60 * S)).unwrap();
        life.engine.release(pushed.id, Outcome::PushedBack(20 * S)).unwrap();
    }
    let mut directory = close(life);
    assert_eq!(hands(&directory), 21);
    // It ends while the next life goes on; and then before another begins.
    let life = Life::go_on(directory, 10 * S).unwrap();
    assert_eq!(life.counter("p0").pushed_back_for, Some(10 * S));
    life.engine.advance(30 * S);
    life.timed(ask("other").lease_time(60 * S)).unwrap();
    directory = close(life);
    assert_eq!(hands(&directory), 1);
    let life = Life::go_on(directory, 50 * S).unwrap();
    assert!(life.counter("paused").paused);
    let pushed = life.timed(ask("p").lease_time(60 * S)).unwrap();
    life.engine.release(pushed.id, Outcome::PushedBack(20 * S)).unwrap();
    directory = close(life);
    assert_eq!(hands(&directory), 2);
    assert_eq!(hands(&close(Life::go_on(directory, 100 * S).unwrap())), 1);
}

#[test]
fn a_reset_history_stays_reset() {
    let life = Life::begin();
    life.rule("s", None, &["3/1h", "100/1h:cost"]);
    for _ in 0..3 {
        life.timed(ask("s").lease_time(S)).unwrap();
    }
    life.engine.operate(&"s".parse().unwrap(), &Verb::Reset).unwrap();
    life.timed(ask("s").lease_time(S)).unwrap();
    assert_eq!(life.killed(2 * S).used("s"), [1, 1]);
}

#[test]
fn the_rule_book_survives_with_its_versions() {
    let life = Life::begin();
    life.rule("s", Some("5"), &["9/1h:cost", "1/1s:smooth:burst=4"]);
    life.rule("t/*", Some("0"), &[]);
    life.rule("t/*", Some("1:cost"), &[]);
    life.engine.apply(&[Change::Delete { pattern: "s".parse().unwrap(), when: Precondition::None }]).unwrap();
    let next = life.killed(S);
    let (before, after) = (life.engine.book(), next.engine.book());
    assert_eq!(after.version(), 4);
    assert!(before.rules().eq(after.rules()), "{before:?} {after:?}");
    next.rule("u", Some("1"), &[]);
    assert_eq!(next.engine.book().version(), 5);
}

#[test]
fn a_configuration_changes_what_it_has_changed_itself_and_nothing_else() {
    let spec = |concurrency| RuleSpec { limits: limits(Some(concurrency), &[]), ..RuleSpec::default() };
    let rule = |pattern: &str, concurrency| (pattern.parse().unwrap(), spec(concurrency));
    let shown = |life: &Life| -> Vec<String> {
        let rules = life.engine.book();
        rules.rules().map(|rule| format!("{}={}", rule.pattern, rule.spec.limits.concurrency.unwrap())).collect()
    };
    let life = Life::begin();
    let first = vec![rule("a", "1"), rule("b", "1"), rule("c", "1"), rule("d", "1"), rule("e", "1")];
    life.engine.configure(first).unwrap();
    // Live: a and b are changed, c is deleted.
    life.engine.apply(&[put("a", Some("9"), &[]), put("b", Some("9"), &[])]).unwrap();
    life.engine.apply(&[Change::Delete { pattern: "c".parse().unwrap(), when: Precondition::None }]).unwrap();
    let next = life.killed(S);
    // The file: a as before, b no longer there, c as before, d no longer there, e another number, f new.
    next.engine.configure(vec![rule("a", "1"), rule("c", "1"), rule("e", "2"), rule("f", "1")]).unwrap();
    assert_eq!(shown(&next), ["a=9", "b=9", "e=2", "f=1"]);
    // The same file once more, in another life: nothing.
    let version = next.engine.book().version();
    let third = next.killed(2 * S);
    third.engine.configure(vec![rule("a", "1"), rule("c", "1"), rule("e", "2"), rule("f", "1")]).unwrap();
    assert_eq!((shown(&third), third.engine.book().version()), (shown(&next), version));
}

#[test]
fn a_request_repeated_after_the_restart_gets_its_lease_or_hears_how_it_ended() {
    let life = Life::begin();
    life.rule("s", Some("3"), &[]);
    let caller = life.engine.caller("client");
    let keyed = |key: &str| ask("s").lease_time(10 * S).caller(caller).idempotency_key(key).unwrap();
    let lease = life.timed(keyed("alive")).unwrap();
    let ended = life.timed(keyed("ended")).unwrap();
    life.engine.release(ended.id, Outcome::Failed).unwrap();
    let batch = keyed("batch").batch(cost(2), cost(2)).unwrap().max_wait(Duration::ZERO);
    let batch: Vec<TimedLease> = block_on(life.engine.acquire_timed_batch(batch)).unwrap().to_vec();

    let next = life.killed(4 * S);
    let caller = next.engine.caller("client");
    let keyed = |key: &str| ask("s").lease_time(10 * S).caller(caller).idempotency_key(key).unwrap();
    let again = next.timed(keyed("alive")).unwrap();
    assert_eq!((again.id, again.fence, again.remaining), (lease.id, lease.fence, 6 * S));
    assert_eq!(next.timed(keyed("ended")).unwrap_err().ended, Some(Ended::Failed));
    assert_eq!(next.timed(keyed("alive").cost(cost(2))).unwrap_err().reason, Reason::Conflict);
    let repeated = keyed("batch").batch(cost(2), cost(2)).unwrap().max_wait(Duration::ZERO);
    let repeated = block_on(next.engine.acquire_timed_batch(repeated)).unwrap();
    assert!(repeated.iter().map(|lease| lease.id).eq(batch.iter().map(|lease| lease.id)));
    let stranger = ask("s").lease_time(10 * S).caller(next.engine.caller("stranger")).idempotency_key("alive").unwrap();
    assert_eq!(next.timed(stranger).unwrap_err().reason, Reason::Limited, "a key is its caller's");
    // Expired while nobody was there, and remembered for five minutes; then forgotten.
    let third = next.killed(100 * S);
    let caller = third.engine.caller("client");
    let keyed = |key: &str| ask("s").lease_time(10 * S).caller(caller).idempotency_key(key).unwrap();
    assert_eq!(third.timed(keyed("alive")).unwrap_err().ended, Some(Ended::Expired));
    third.engine.advance(310 * S);
    assert!(third.timed(keyed("alive")).is_ok());
    assert!(third.killed(411 * S).timed(keyed("ended")).is_ok(), "not there any more either");
}

/// The client was cut off while its grant was being written: its key is as if it had never come.
#[test]
fn a_grant_that_was_given_up_before_its_answer_is_no_answer_of_its_key() {
    for folded in [false, true] {
        assert!((0..50).any(|_| given_up(folded).is_some()), "the disk was always quicker");
    }
}

fn given_up(folded: bool) -> Option<()> {
    let life = Life::begin();
    life.rule("s", Some("9"), &[]);
    let keyed = |key: &str| ask("s").lease_time(60 * S).idempotency_key(key).unwrap();
    let pair = |key: &str| keyed(key).batch(cost(2), cost(2)).unwrap().max_wait(Duration::ZERO);
    let restarted = |life: Life| {
        let directory = if folded {
            let Life { engine, hand: _, directory } = life;
            drop(engine);
            directory
        } else {
            life.remains()
        };
        Life::go_on(directory, S).unwrap()
    };
    // Nobody came again.
    life.cut(keyed("cut"))?;
    life.cut(pair("pair"))?;
    // The same came again, thrice before it stayed.
    for _ in 0..3 {
        life.cut(keyed("again"))?;
        life.cut(pair("both"))?;
    }
    let again = life.timed(keyed("again")).unwrap();
    let both = block_on(life.engine.acquire_timed_batch(pair("both"))).unwrap();
    // Another came under the key.
    life.cut(keyed("other"))?;
    let other = life.timed(keyed("other").cost(cost(2))).unwrap();
    assert_eq!(life.counter("s").calls, 4);

    let next = restarted(life);
    assert_eq!(next.counter("s").calls, 4);
    let same = block_on(next.engine.acquire_timed_batch(keyed("again"))).unwrap();
    assert!(same.iter().map(|lease| lease.id).eq([again.id]), "{same:?}");
    let same = block_on(next.engine.acquire_timed_batch(pair("both"))).unwrap();
    assert!(same.iter().map(|lease| lease.id).eq(both.iter().map(|lease| lease.id)), "{same:?}");
    assert_eq!(next.timed(keyed("other").cost(cost(2))).unwrap().id, other.id);
    assert_eq!(next.timed(keyed("other")).unwrap_err().reason, Reason::Conflict);
    assert_eq!(next.counter("s").calls, 4);
    next.timed(keyed("cut").cost(cost(3))).unwrap();
    assert_eq!(block_on(next.engine.acquire_timed_batch(pair("pair"))).unwrap().len(), 2);
    assert_eq!(next.counter("s").calls, 7);
    Some(())
}

/// Nothing else is there that would wake the timer thread.
#[test]
fn a_key_that_has_survived_is_dropped_in_its_time_with_nothing_arriving() {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    // Its lease ended five minutes ago, but for a second.
    let at = since_epoch + S - KEPT - Duration::from_nanos(Clock::MANUAL_START);
    let Life { engine, hand: _, directory } = Life::go_on(TempDir::new().unwrap(), at).unwrap();
    let lease = block_on(engine.acquire_timed(ask("s").idempotency_key("k").unwrap())).unwrap();
    engine.release(lease.id, Outcome::Ok).unwrap();
    drop(engine);
    let engine = Engine::open(EngineConfig::default(), &store(directory.path())).unwrap();
    assert!(!engine.is_empty());
    let deadline = Instant::now() + 20 * S;
    while !engine.is_empty() {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A repetition that would not wait meets a grant that is only being written: that is no wait.
#[test]
fn who_joins_a_grant_that_is_being_written_gets_it() {
    let life = Life::begin();
    let mut context = Context::from_waker(noop_waker_ref());
    // Where the disk was quicker, there is nothing to see.
    for round in 0..1_000 {
        let keyed =
            || ask("s").lease_time(60 * S).idempotency_key(&format!("k{round}")).unwrap().max_wait(Duration::ZERO);
        let (mut first, mut second) = (life.engine.acquire_timed(keyed()), life.engine.acquire_timed(keyed()));
        if Pin::new(&mut first).poll(&mut context).is_pending() && Pin::new(&mut second).poll(&mut context).is_pending()
        {
            assert_eq!(block_on(second).unwrap().id, block_on(first).unwrap().id);
            return;
        }
    }
    panic!("the disk was always quicker");
}

#[test]
fn time_goes_on_where_it_was_if_the_clock_was_set_back() {
    let life = Life::begin();
    life.rule("s", Some("1"), &["2/1m"]);
    life.engine.advance(3_600 * S);
    let lease = life.timed(ask("s").lease_time(30 * S)).unwrap();
    let next = life.killed(Duration::ZERO);
    assert_eq!(next.engine.extend(lease.id, S).unwrap(), 30 * S, "an hour back, and no second is added to it");
    next.engine.release(lease.id, Outcome::Ok).unwrap();
    let newer = next.timed(ask("s").lease_time(S)).unwrap();
    assert!(newer.fence > lease.fence + 30_000_000_000, "beyond all that may have been given meanwhile");
    assert_eq!(
        next.timed(ask("s").lease_time(S)).unwrap_err().reason,
        Reason::Limited,
        "both starts are in the window"
    );
}

/// Of lives that follow each other within the time that is reserved, each starts above all that the one before has given, held leases
/// and those that nothing was written of among them.
#[test]
fn fencing_numbers_never_repeat_however_short_a_life_is() {
    let first = Life::begin();
    let mut last = first.timed(ask("s").lease_time(S)).unwrap().fence;
    let mut directory = first.remains();
    for life in 1..6 {
        let life = Life::go_on(directory, life * Duration::from_millis(1)).unwrap();
        for _ in 0..20 {
            let lease = life.engine.try_acquire(&ask("s")).unwrap();
            assert!(lease.fence() > last, "{} after {last}", lease.fence());
            last = lease.fence();
        }
        // Killed before anything but the start is written.
        directory = life.remains();
    }
}

#[test]
fn an_end_without_a_kill_keeps_the_same() {
    let Life { engine, hand: _, directory } = Life::begin();
    engine.apply(&[put("s", Some("1"), &[])]).unwrap();
    let lease = block_on(engine.acquire_timed(ask("s").lease_time(60 * S))).unwrap();
    drop(engine);
    let next = Life::go_on(directory, S).unwrap();
    assert_eq!(next.counter("s").calls, 1);
    next.engine.release(lease.id, Outcome::Ok).unwrap();
}

#[test]
fn a_directory_that_cannot_be_used_is_named_and_left_as_it_is() {
    let open = |directory: &Path| match Engine::open(EngineConfig::default(), &store(directory)) {
        Err(error) => error,
        Ok(_) => panic!("{} was opened", directory.display()),
    };
    // In use by another.
    let life = Life::begin();
    let error = open(life.directory.path());
    assert!(matches!(error, StoreError::InUse { .. }) && error.to_string().contains("weir.db"), "{error}");

    // A file where the directory should be.
    let other = TempDir::new().unwrap();
    let file = other.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(open(&file), StoreError::Open { .. }));

    // Not a database; cut off; a page overwritten; another program's; a later version's.
    let whole = life.remains();
    let checkpoint = rusqlite::Connection::open(whole.path().join("weir.db")).unwrap();
    checkpoint.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    drop(checkpoint);
    let bytes = fs::read(whole.path().join("weir.db")).unwrap();
    let mut torn = bytes.clone();
    torn[4_096 * 3..4_096 * 6].fill(0xA5);
    for damaged in
        [b"not a database, but longer than a hundred bytes".repeat(9), bytes[..bytes.len() / 2].to_vec(), torn]
    {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("weir.db");
        fs::write(&file, &damaged).unwrap();
        let error = open(directory.path());
        assert!(matches!(error, StoreError::Corrupt { .. }) && error.to_string().contains("weir.db"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), damaged, "{error}");
    }
    for (script, newer) in [("CREATE TABLE other (x)", false), ("PRAGMA user_version = 99", true)] {
        let directory = TempDir::new().unwrap();
        let foreign = rusqlite::Connection::open(directory.path().join("weir.db")).unwrap();
        foreign.execute_batch(script).unwrap();
        drop(foreign);
        let error = open(directory.path());
        assert_eq!(matches!(error, StoreError::OtherForm { found: 99, .. }), newer, "{error}");
        assert_eq!(matches!(error, StoreError::Corrupt { .. }), !newer, "{error}");
    }
}

#[test]
fn a_journal_that_is_not_whole_is_named_and_left_as_it_is() {
    let life = Life::begin();
    life.rule("s", Some("100"), &[]);
    for _ in 0..40 {
        life.timed(ask("s").lease_time(60 * S)).unwrap();
    }
    let other = Life::begin();
    let settled = |life: &Life| {
        let copy = life.remains();
        let journal = rusqlite::Connection::open(copy.path().join("journal.db")).unwrap();
        journal.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
        (copy, journal)
    };
    let refused = |copy: TempDir, why: &str| refused(&copy, "journal.db", why);

    let (copy, journal) = settled(&life);
    let rows: i64 = journal.query_row("SELECT count(*) FROM journal", [], |row| row.get(0)).unwrap();
    assert!(rows >= 40, "{rows}");
    journal.execute_batch("DELETE FROM journal WHERE batch = (SELECT max(batch) / 2 FROM journal)").unwrap();
    drop(journal);
    refused(copy, "is missing");

    let (copy, journal) = settled(&life);
    journal
        .execute_batch("UPDATE journal SET entries = x'5b7b' WHERE batch = (SELECT max(batch) FROM journal)")
        .unwrap();
    drop(journal);
    refused(copy, "EOF");

    let (copy, journal) = settled(&life);
    drop(journal);
    let mut torn = fs::read(copy.path().join("journal.db")).unwrap();
    let half = torn.len() / 2;
    torn[half..].fill(0xA5);
    fs::write(copy.path().join("journal.db"), &torn).unwrap();
    refused(copy, "Nothing was changed");

    let (copy, journal) = settled(&life);
    drop(journal);
    let path = copy.path().to_owned();
    fs::copy(settled(&other).0.path().join("journal.db"), path.join("journal.db")).unwrap();
    refused(copy, "does not belong to the weir.db");

    let (copy, journal) = settled(&life);
    drop(journal);
    for name in ["journal.db", "journal.db-wal"] {
        let _absent = fs::remove_file(copy.path().join(name));
    }
    refused(copy, "it is not there");
}

/// All files of a directory.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

/// A directory is refused for this file and this reason, and left as it is.
fn refused(directory: &TempDir, name: &str, why: &str) {
    let before = files(directory.path());
    for _ in 0..2 {
        let config = EngineConfig { clock: Clock::manual().0, ..EngineConfig::default() };
        let Err(error) = Engine::open(config, &store(directory.path())) else { panic!("it was opened") };
        let StoreError::Corrupt { path, .. } = &error else { panic!("{error}") };
        assert_eq!(path, &directory.path().join(name), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(files(directory.path()) == before, "{error}: something was changed");
    }
}

#[test]
fn a_directory_that_lacks_a_part_is_refused_for_that_part_and_no_byte_is_changed() {
    let young = Life::begin();
    young.rule("s", Some("100"), &[]);
    // One that has been closed once, so that its files hold something without their logs.
    let old = {
        let Life { engine, hand: _, directory } = Life::begin();
        engine.apply(&[put("s", Some("100"), &[])]).unwrap();
        for _ in 0..3 {
            block_on(engine.acquire_timed(ask("s").lease_time(3_600 * S))).unwrap();
        }
        drop(engine);
        Life::go_on(directory, S).unwrap()
    };
    for (life, is_old) in [(&young, false), (&old, true)] {
        for _ in 0..20 {
            life.timed(ask("s").lease_time(3_600 * S)).unwrap();
        }
        let without = |names: &[&str]| {
            let copy = life.remains();
            for name in names {
                fs::remove_file(copy.path().join(name)).unwrap();
            }
            copy
        };
        let emptied = |name: &str| {
            let copy = life.remains();
            fs::write(copy.path().join(name), "").unwrap();
            copy
        };
        refused(&without(&["weir.db"]), "weir.db", "it is not there");
        refused(&without(&["weir.db", "weir.db-wal"]), "weir.db", "it is not there");
        refused(&without(&["journal.db"]), "journal.db", "it is not there");
        refused(&without(&["journal.db", "journal.db-wal"]), "journal.db", "it is not there");
        refused(&without(&["weir.db", "journal.db"]), "weir.db", "it is not there");
        // Of the old one all is folded, and its log is empty.
        refused(&emptied("weir.db"), "weir.db", if is_old { "it holds nothing" } else { "it is empty" });
        refused(&emptied("journal.db"), "journal.db", "it is empty");
        if is_old {
            let whole = Life::go_on(life.remains(), S).unwrap();
            assert_eq!(whole.counter("s").calls, 23);
        } else {
            refused(&without(&["weir.db-wal"]), "weir.db", "is its -wal missing?");
            refused(&without(&["journal.db-wal"]), "journal.db", "is its -wal missing?");
        }
        for name in if is_old { &["journal.db-wal"][..] } else { &["weir.db-wal", "journal.db-wal"] } {
            let copy = life.remains();
            let mut log = fs::read(copy.path().join(name)).unwrap();
            log[17] ^= 1;
            fs::write(copy.path().join(name), log).unwrap();
            refused(&copy, name, "its header is damaged");
        }
    }
}

/// A number that nobody can have written is said, and nobody panics over it.
#[test]
fn numbers_that_cannot_be_are_refused_for_the_file_they_are_in() {
    let life = Life::begin();
    life.rule("s", Some("100"), &["100/1h"]);
    life.timed(ask("s").lease_time(3_600 * S)).unwrap();
    let Life { engine, hand: _, directory } = life;
    drop(engine);
    let whole = files(directory.path());
    let most = i64::MAX;
    for (name, change, why) in [
        ("weir.db", "UPDATE lease SET shard = 64", "a lease in shard 64 of 64"),
        ("weir.db", "UPDATE lease SET shard = 65536", ""),
        ("weir.db", "UPDATE meta SET shards = 0", "0 shards"),
        ("weir.db", "UPDATE meta SET shards = 1025", "1025 shards"),
        ("weir.db", "UPDATE meta SET book_version = -1", "a rule book of version"),
        ("weir.db", &format!("UPDATE meta SET folded = {most}"), "folded up to row"),
        ("weir.db", "UPDATE meta SET folded = -1", "folded up to row"),
        ("weir.db", "UPDATE rule SET version = -1", "a rule of version"),
        ("weir.db", "UPDATE history SET period = 0", "a history of a period of 0 ns"),
        ("weir.db", "UPDATE history SET period = -1", "a history of a period of"),
        ("weir.db", "UPDATE start SET units = -1", "a start of"),
        ("journal.db", "UPDATE meta SET time = -1", "the instant 18446744073709551615"),
        ("journal.db", "UPDATE meta SET fence = -1", "the fencing number"),
    ] {
        let copy = TempDir::new().unwrap();
        for (file, bytes) in &whole {
            fs::write(copy.path().join(file), bytes).unwrap();
        }
        let file = rusqlite::Connection::open(copy.path().join(name)).unwrap();
        assert!(file.execute(change, []).unwrap() > 0, "{change}");
        drop(file);
        refused(&copy, name, why);
    }
    // Two starts whose units are more than there can be, in one sub-period that is still to be folded.
    let started = r#"{"s":["s",[false,3600000000000,false,0],1,9007199254740992,null,null]}"#;
    let copy = TempDir::new().unwrap();
    for (file, bytes) in &whole {
        fs::write(copy.path().join(file), bytes).unwrap();
    }
    let file = rusqlite::Connection::open(copy.path().join("journal.db")).unwrap();
    let row = format!("[{}]", vec![started; 3_000].join(","));
    file.execute("INSERT INTO journal SELECT max(batch) + 1, CAST(? AS BLOB) FROM journal", [row]).unwrap();
    drop(file);
    refused(&copy, "weir.db", "a start of");
}

/// What was folded and is gone from the journal is in the tables alone, and the other way about.
#[test]
fn files_of_different_ages_are_refused_for_the_older_one() {
    let open = |directory: TempDir, at| Life::go_on(directory, at).unwrap();
    let close = |life: Life| {
        let Life { engine, hand: _, directory } = life;
        drop(engine);
        directory
    };
    let more = |life: &Life| {
        for _ in 0..20 {
            life.timed(ask("s").lease_time(3_600 * S)).unwrap();
        }
    };
    let life = Life::begin();
    more(&life);
    let directory = close(life);
    let before = files(directory.path());
    assert_eq!(before.keys().collect::<Vec<_>>(), ["journal.db", "weir.db"]);
    let mut directory = directory;
    // Each end folds, and the writes of the next life delete what is folded.
    for life in 1..=3 {
        let next = open(directory, life * S);
        more(&next);
        directory = close(next);
    }
    for name in ["journal.db", "weir.db"] {
        let mixed = TempDir::new().unwrap();
        for (file, bytes) in files(directory.path()) {
            fs::write(mixed.path().join(&file), if file == name { &before[name] } else { &bytes }).unwrap();
        }
        refused(&mixed, name, "it is older than");
    }
}

/// A log is read up to its first bad frame. What is lost is in the last commit, or it is said.
#[test]
fn a_damaged_log_never_loses_more_than_its_last_commit_without_a_word() {
    let life = Life::begin();
    life.rule("s", Some("100"), &["100/1h"]);
    for _ in 0..12 {
        life.timed(ask("s").lease_time(3_600 * S)).unwrap();
    }
    let copy = life.remains();
    let whole = files(copy.path());
    let (mut refusals, mut starts) = (0, 0);
    for name in ["journal.db-wal", "weir.db-wal"] {
        let log = &whole[name];
        let steps = (0..32).step_by(5).chain((32..log.len()).step_by(log.len() / 40)).chain([log.len() - 1]);
        for at in steps {
            let damaged = TempDir::new().unwrap();
            for (file, bytes) in &whole {
                fs::write(damaged.path().join(file), bytes).unwrap();
            }
            let mut bytes = log.clone();
            bytes[at] ^= 0x04;
            fs::write(damaged.path().join(name), bytes).unwrap();
            match Life::go_on(damaged, S) {
                Ok(next) => {
                    starts += 1;
                    let (calls, used) = (next.counter("s").calls, next.used("s")[0]);
                    assert!(calls >= 11 && used >= 11, "byte {at} of {name}: {calls} and {used} of 12");
                }
                Err(error) => {
                    refusals += 1;
                    let named = matches!(&error, StoreError::Corrupt { path, .. } if path.ends_with(name));
                    let empty = error.to_string().contains("is its -wal missing?");
                    assert!(named || empty, "byte {at} of {name}: {error}");
                }
            }
        }
    }
    assert!(refusals > 40 && starts > 0, "{refusals} refused, {starts} started");
}

/// More than the journal holds before it is folded, so that both it and the tables have some of them.
#[test]
fn many_leases_are_back() {
    let life = Life::begin();
    let many = 70_000;
    let acquire = |index: u64| {
        let request = ask(&format!("s{}/k{index}", index % 97)).lease_time(3_600 * S);
        life.engine.acquire_timed(request)
    };
    let mut last = None;
    for thousand in 0..many / 1_000 {
        let granted = block_on(join_all((0..1_000).map(|index| acquire(1_000 * thousand + index))));
        let granted: Vec<TimedLease> = granted.into_iter().map(Result::unwrap).collect();
        last = granted.last().copied();
    }
    let held = |life: &Life| -> u64 {
        let counters = life.engine.counters(&CounterQuery::default());
        counters.iter().filter(|counter| !counter.counter.contains('/')).map(|counter| counter.calls).sum()
    };
    let next = life.killed(S);
    assert_eq!(held(&next), many);
    next.engine.release(last.unwrap().id, Outcome::Ok).unwrap();
    assert_eq!(held(&next.killed(S)), many - 1);
    // Meanwhile the first has folded most of them.
    life.engine.release(last.unwrap().id, Outcome::Ok).unwrap();
    assert_eq!(held(&life.killed(S)), many - 1);
}

/// What is done to an engine, in no order in particular.
#[derive(Debug, Clone)]
enum Act {
    Timed { key: usize, cost: u32 },
    Held { key: usize, cost: u32 },
    Extend(usize),
    Settle(usize, u32),
    Release(usize),
    Wait(u64),
    Limit { rule: usize, concurrency: u32, rate: u32 },
    Kill,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..4usize, 1..6u32).prop_map(|(key, cost)| Act::Timed { key, cost }),
        4 => (0..4usize, 1..6u32).prop_map(|(key, cost)| Act::Held { key, cost }),
        1 => (0..8usize).prop_map(Act::Extend),
        2 => (0..8usize, 0..9u32).prop_map(|(lease, cost)| Act::Settle(lease, cost)),
        3 => (0..8usize).prop_map(Act::Release),
        3 => (0..7_000u64).prop_map(Act::Wait),
        1 => (0..3usize, 1..9u32, 1..80u32).prop_map(|(rule, concurrency, rate)| Act::Limit { rule, concurrency, rate }),
        2 => Just(Act::Kill),
    ];
    prop::collection::vec(act, 1..60)
}

const KEYS: [&str; 4] = ["s", "s/a", "s/a/b", "t/c"];
const RULES: [&str; 3] = ["s", "s/*", "t/*"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// One engine lives through, another is killed again and again. What the second grants the first would have granted:
    /// after a restart at most a block more counts as used, and never less than was.
    #[test]
    fn whoever_is_killed_grants_no_more_than_one_who_lives(acts in acts()) {
        let through = Life::begin();
        let mut killed = Life::begin();
        let mut at = Duration::ZERO;
        // Each lease in both lives.
        let mut leases: Vec<(TimedLease, TimedLease)> = Vec::new();
        for act in acts {
            match act {
                Act::Timed { key, cost: units } => {
                    let request = ask(KEYS[key]).cost(cost(units)).lease_time(20 * S);
                    // First where it is stricter: what that grants, the other must.
                    if let Ok(lease) = killed.timed(request.clone()) {
                        let other = through.timed(request);
                        prop_assert!(other.is_ok(), "{other:?}");
                        leases.push((lease, other.unwrap()));
                    }
                }
                Act::Held { key, cost: units } => {
                    let request = ask(KEYS[key]).cost(cost(units));
                    if killed.engine.try_acquire(&request).is_ok() {
                        let other = through.engine.try_acquire(&request);
                        prop_assert!(other.is_ok(), "{other:?}");
                    }
                }
                Act::Extend(index) => {
                    if let Some((lease, other)) = leases.get(index) {
                        prop_assert_eq!(killed.engine.extend(lease.id, 30 * S), through.engine.extend(other.id, 30 * S));
                    }
                }
                Act::Settle(index, units) => {
                    if let Some((lease, other)) = leases.get(index) {
                        let settled = killed.engine.settle(lease.id, units);
                        prop_assert_eq!(settled, through.engine.settle(other.id, units));
                    }
                }
                Act::Release(index) => {
                    if index < leases.len() {
                        let (lease, other) = leases.swap_remove(index);
                        let ended = killed.engine.release(lease.id, Outcome::Ok);
                        prop_assert_eq!(ended, through.engine.release(other.id, Outcome::Ok));
                    }
                }
                Act::Wait(millis) => {
                    let by = Duration::from_millis(millis);
                    at += by;
                    killed.engine.advance(by);
                    through.engine.advance(by);
                }
                Act::Limit { rule, concurrency, rate } => {
                    let rates = [format!("{rate}/10s"), format!("{}/30s:cost", 2 * rate), format!("{rate}/5s:smooth:burst={rate}")];
                    let rates: Vec<&str> = rates.iter().map(String::as_str).collect();
                    let change = put(RULES[rule], Some(&format!("{concurrency}:cost")), &rates);
                    killed.engine.apply(std::slice::from_ref(&change)).unwrap();
                    through.engine.apply(&[change]).unwrap();
                }
                Act::Kill => killed = killed.killed(at),
            }
            for snapshot in through.engine.counters(&CounterQuery::default()) {
                let found = killed.engine.counters(&CounterQuery::default());
                let Some(other) = found.iter().find(|other| other.counter == snapshot.counter) else {
                    prop_assert!(snapshot.calls == 0 && snapshot.rates.iter().all(|rate| rate.used == 0), "{snapshot:?}");
                    continue;
                };
                prop_assert_eq!((other.calls, other.cost), (snapshot.calls, snapshot.cost));
                for (rate, real) in other.rates.iter().zip(&snapshot.rates) {
                    prop_assert!(rate.used >= real.used, "{:?} has {}, and {} were started", rate.rate, rate.used, real.used);
                }
            }
        }
        let _ = killed.hand;
    }
}
