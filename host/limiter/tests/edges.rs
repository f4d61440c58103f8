//! Each end of a bound and each arm of a choice, where a slip would change what somebody is told rather than who is let
//! in: the reference and the simulator judge the latter.

mod bench;

use bench::{Bench, S, costing, limits, request, rule, total};
use weir_limiter::{
    Change, Constraint, ConstraintKind, Effect, Input, Limiter, MAX_CHANGES, MAX_DESCRIPTION_BYTES, MAX_RULES, Output,
    Precondition, Reason, Refusal, Request, RuleBook, RuleError, RulePatch, RuleSpec, RuleStanding, ShardLimits, Verb,
};

fn put(pattern: &str, spec: RuleSpec) -> Change {
    Change::Put { pattern: pattern.parse().unwrap(), spec, when: Precondition::None }
}

fn shown(constraints: &[Constraint]) -> Vec<(ConstraintKind, &str)> {
    constraints.iter().map(|constraint| (constraint.kind, constraint.counter.as_str())).collect()
}

fn check(bench: &mut Bench, request: &Request) -> Result<Vec<Constraint>, Refusal> {
    match bench.step(Input::Check { request }) {
        Output::WouldGrant(constraints) => Ok(constraints),
        Output::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

/// A limiter of one shard with these caps.
fn capped(caps: ShardLimits, rules: &[(&str, RuleSpec)]) -> Bench {
    let mut bench = Bench::new(&[]);
    bench.limiter = Limiter::new(1, caps);
    bench.put(rules);
    bench
}

#[test]
fn a_check_foretells_the_answer() {
    let mut bench = Bench::new(&[("s", "2", &["5/1m"]), ("closed", "0", &[])]);
    bench.put(&[("costly", RuleSpec { limits: limits("3:cost", &[]), ..RuleSpec::default() })]);
    bench.take("s/a");
    bench.take("s/b");
    for asked in [
        request("s"),
        request("s/a"),
        request("closed/x"),
        costing("costly", 4),
        request("s/c").also("free".parse().unwrap()).unwrap(),
    ] {
        let foretold = check(&mut bench, &asked).unwrap_err();
        assert_eq!(foretold, bench.try_acquire(&asked).unwrap_err(), "{asked:?}");
    }
    assert_eq!(check(&mut bench, &costing("costly", 4)).unwrap_err().reason, Reason::TooLarge);
    // Who would be granted learns every limit at every counter.
    let free = check(&mut bench, &costing("costly", 3)).unwrap();
    assert_eq!(shown(&free), [(ConstraintKind::Concurrency, "costly")]);
}

#[test]
fn who_rides_may_wait_for_the_rest_while_its_counter_drains() {
    let mut bench = Bench::new(&[("s", "1", &[]), ("t", "1", &[])]);
    let outer = bench.take("s");
    let other = bench.take("t");
    bench.operate("s", &Verb::Drain);
    let nested = request("s").also("t".parse().unwrap()).unwrap().lend_from(outer.parts[0]);
    let waiter = bench.wait(&nested);
    bench.release(&other);
    assert_eq!(bench.let_in(), [waiter]);
    // Whoever needs anything of it, even one call or one unit, does not wait.
    for asked in [request("s"), costing("s", 2).lend_from(outer.parts[0])] {
        let output = bench.step(Input::Acquire { request: &asked, wait: true, secrets: &[] });
        let Output::Refused(refusal) = output else { panic!("{output:?}") };
        assert_eq!(refusal.reason, Reason::Paused);
    }
}

#[test]
fn who_can_never_fit_any_more_ends_even_behind_a_head_that_can() {
    let mut bench = Bench::new(&[("s", "5:cost", &[])]);
    let holder = bench.try_acquire(&costing("s", 5)).unwrap();
    let head = bench.wait(&costing("s", 2));
    let large = bench.wait(&costing("s", 5));
    let last = bench.wait(&costing("s", 1));
    bench.set(&[("s", "3:cost", &[])]);
    let [Effect::Refused { waiter, refusal }] = bench.effects.as_slice() else { panic!("{:?}", bench.effects) };
    assert_eq!((*waiter, refusal.reason), (large, Reason::TooLarge));
    assert_eq!(shown(&refusal.blocked_on), [(ConstraintKind::Concurrency, "s")]);
    bench.release(&holder);
    assert_eq!(bench.let_in(), [head, last]);
}

#[test]
fn who_times_out_learns_of_each_counter_in_its_way_once() {
    let mut bench = Bench::new(&[("s", "3", &[]), ("s/*", "1", &[])]);
    bench.take("s/b");
    let held: Vec<_> = ["s/a", "s"].into_iter().map(|key| bench.take(key)).collect();
    let both = request("s/a").also("s/b".parse().unwrap()).unwrap();
    bench.wait(&both.max_wait(std::time::Duration::from_secs(1)));
    bench.at(bench.now + 2 * S);
    let [Effect::Refused { refusal, .. }] = bench.effects.as_slice() else { panic!("{:?}", bench.effects) };
    assert_eq!(refusal.reason, Reason::TimedOut);
    use ConstraintKind::Concurrency;
    assert_eq!(shown(&refusal.blocked_on), [(Concurrency, "s"), (Concurrency, "s/a"), (Concurrency, "s/b")]);
    drop(held);
}

#[test]
fn a_full_log_stops_whoever_would_start_one_and_nobody_else() {
    let caps = ShardLimits { max_log_entries: 2, ..ShardLimits::default() };
    let rated = |rates: &[&str]| Request::unscoped().inline("i", "k", limits("", rates)).unwrap();
    let mut bench = capped(caps, &[("full", rule("", &["2/1h"])), ("plain", rule("9", &[]))]);
    let lender = bench.take("plain");
    let inline = bench.try_acquire(&rated(&["9/1m"])).unwrap();
    bench.take("full");
    let reason = |bench: &mut Bench, request: &Request| bench.try_acquire(request).map_err(|refusal| refusal.reason);
    // A log that is there goes on; a new one does not begin, under a rule or with one's own numbers.
    assert!(reason(&mut bench, &request("full")).is_ok());
    assert!(reason(&mut bench, &rated(&["9/1m"])).is_ok());
    let fresh = |key: &str, rates: &[&str]| Request::unscoped().inline("i", key, limits("3", rates)).unwrap();
    assert_eq!(reason(&mut bench, &fresh("new", &["9/1m"])).unwrap_err(), Reason::Overloaded);
    assert!(reason(&mut bench, &fresh("new", &[])).is_ok());
    // What is spread evenly keeps no log.
    assert!(reason(&mut bench, &fresh("even", &["9/1m:smooth"])).is_ok());
    bench.put(&[("plain", rule("9", &["5/1h:smooth"]))]);
    assert!(reason(&mut bench, &request("plain")).is_ok());
    bench.put(&[("plain", rule("9", &["5/1h"]))]);
    assert_eq!(reason(&mut bench, &request("plain")).unwrap_err(), Reason::Overloaded);
    // Who rides on a lease starts nothing; who brings as much as one call or one unit more does.
    assert!(reason(&mut bench, &request("plain").lend_from(lender.parts[0])).is_ok());
    let more = costing("plain", 2).lend_from(inline.parts[0]);
    assert_eq!(reason(&mut bench, &more).unwrap_err(), Reason::Overloaded);
}

#[test]
fn a_refusal_is_remembered_by_the_counter_that_refused() {
    let mut bench = Bench::new(&[("s", "0", &[])]);
    bench.try_acquire(&request("s/a")).unwrap_err();
    assert_eq!(bench.counter("s").unwrap().refused, 1);
    assert!(bench.counter("s/a").is_none(), "it did not refuse, and nothing was used");
    bench.try_acquire(&request("s/a")).unwrap_err();
    assert_eq!(bench.counter("s").unwrap().refused, 2);
    assert!(bench.is_empty_after(3_600 * S));
}

#[test]
fn a_book_takes_as_much_as_it_says_and_no_more() {
    let full: Vec<Change> = (0..MAX_RULES).map(|n| put(&format!("s{n}"), rule("1", &[]))).collect();
    let book = RuleBook::default().apply(&full, 0).unwrap();
    assert_eq!((book.len(), book.is_empty(), RuleBook::default().is_empty()), (MAX_RULES, false, true));
    let one = [put("one-more", rule("1", &[]))];
    assert_eq!(book.apply(&one, 0).unwrap_err(), RuleError::TooManyRules { given: MAX_RULES + 1 });
    let swap = [one[0].clone(), Change::Delete { pattern: "s0".parse().unwrap(), when: Precondition::None }];
    assert_eq!(book.apply(&swap, 0).unwrap().len(), MAX_RULES);
    let many: Vec<Change> = full.into_iter().chain(one).collect();
    assert_eq!(RuleBook::default().apply(&many, 0).unwrap_err(), RuleError::TooManyRules { given: MAX_CHANGES + 1 });
    for (bytes, fits) in [(MAX_DESCRIPTION_BYTES, true), (MAX_DESCRIPTION_BYTES + 1, false)] {
        let spec = RuleSpec { description: "x".repeat(bytes), ..rule("1", &[]) };
        let outcome = RuleBook::default().apply(&[put("s", spec)], 0);
        assert_eq!(outcome.is_ok(), fits, "{bytes}");
    }
}

#[test]
fn every_rule_that_matches_is_shown_with_how_it_stands() {
    use RuleStanding::{Binds, BindsPool, Disabled, Outranked, Shadow};
    let shadow = |spec: RuleSpec| RuleSpec { shadow_limits: Some(limits("9", &[])), ..spec };
    let only_shadow = || shadow(RuleSpec::default());
    let off = |spec| RuleSpec { disabled: true, ..spec };
    type Case<'a> = (&'a [(&'a str, RuleSpec)], &'a [RuleStanding]);
    let cases: [Case<'_>; 6] = [
        (&[("s/a", rule("1", &[])), ("s/*", rule("2", &[])), ("*/a", only_shadow())], &[Binds, Outranked, Shadow]),
        (&[("s/a", shadow(rule("1", &[]))), ("s/*", only_shadow())], &[Binds, Outranked]),
        (&[("s/a", off(shadow(rule("1", &[])))), ("s/*", only_shadow())], &[Disabled, Shadow]),
        (&[("s/*", shadow(total("1", &[]))), ("*/a", only_shadow())], &[BindsPool, Shadow]),
        (&[("s/a", only_shadow()), ("s/*", only_shadow())], &[Shadow, Outranked]),
        (&[("s/a", rule("1", &[])), ("s/*", total("2", &[]))], &[Binds, BindsPool]),
    ];
    for (rules, expected) in cases {
        let changes: Vec<Change> = rules.iter().map(|(pattern, spec)| put(pattern, spec.clone())).collect();
        let book = RuleBook::default().apply(&changes, 0).unwrap();
        let found: Vec<RuleStanding> = book.matching("s/a").into_iter().map(|(_, standing)| standing).collect();
        assert_eq!(found, expected, "{rules:?}");
    }
    // The best shadow reports, whatever binds; a rule without one takes nothing from it.
    let rules = [put("s/a", shadow(rule("1", &[]))), put("s/*", rule("2", &[]))];
    let binding = RuleBook::default().apply(&rules, 0).unwrap().binding("s/a");
    assert_eq!(binding.shadow.map(|rule| rule.pattern.to_string()), Some("s/a".to_owned()));
}

#[test]
fn a_pool_that_is_disabled_or_no_longer_one_lets_go_of_who_waits_there() {
    for after in [RuleSpec { disabled: true, ..total("1", &[]) }, rule("1", &[])] {
        let mut bench = Bench::new(&[]);
        bench.put(&[("s/*", total("1", &[]))]);
        bench.take("s/a");
        let waiter = bench.wait(&request("s/b"));
        bench.put(&[("s/*", after)]);
        assert_eq!(bench.let_in(), [waiter]);
        assert!(bench.counter("s/*").is_none_or(|pool| pool.pattern.is_none()));
    }
}

#[test]
fn two_rates_in_the_way_are_looked_at_again_when_both_are_free() {
    for rates in [["1/1s", "1/10s"], ["1/10s", "1/1s"]] {
        let mut bench = Bench::new(&[("s", "", &rates)]);
        bench.take("s");
        let waiter = bench.wait(&request("s"));
        bench.at(bench.now + 9 * S);
        assert_eq!(bench.limiter.next_due(), Some(bench.now + S), "one timer, for the later of the two");
        bench.at(bench.now + S);
        assert_eq!(bench.let_in(), [waiter]);
    }
}

#[test]
fn a_patch_keeps_what_it_does_not_name() {
    let book = RuleBook::default().apply(&[put("s", RuleSpec { description: "d".into(), ..rule("3", &["1/1s"]) })], 7);
    let patch = RulePatch { disabled: Some(true), ..RulePatch::default() };
    let change = Change::Patch { pattern: "s".parse().unwrap(), patch, when: Precondition::None };
    let book = book.unwrap().apply(&[change], 8).unwrap();
    let kept = book.get(&"s".parse().unwrap()).unwrap();
    assert_eq!((kept.spec.disabled, kept.spec.description.as_str(), kept.last_modified), (true, "d", 8));
    assert_eq!(kept.spec.limits, limits("3", &["1/1s"]));
}

#[test]
fn a_book_of_another_version_is_another_book() {
    let book = RuleBook::default().apply(&[put("s", rule("1", &[]))], 0).unwrap();
    let seen = [0, 1, 2, u64::MAX].map(|version| book.expect_version(version));
    let other = |expected| Err(RuleError::BookVersionMismatch { expected, found: 1 });
    assert_eq!(seen, [other(0), Ok(()), other(2), other(u64::MAX)]);
}

/// A key at which as many kinds of rates live as may, the first for a minute from now.
fn all_kinds(bench: &mut Bench) -> impl Fn(usize) -> Request + use<> {
    let asked = |minutes: usize| {
        let rate = format!("9/{minutes}m");
        Request::unscoped().inline("s", "k", limits("", &[&rate])).unwrap()
    };
    for minutes in 1..=weir_limiter::MAX_KINDS {
        bench.try_acquire(&asked(minutes)).unwrap();
    }
    asked
}

#[test]
fn a_further_kind_of_rate_comes_in_when_the_first_has_aged_out() {
    let mut bench = Bench::new(&[]);
    let start = bench.now;
    let asked = all_kinds(&mut bench);
    let refusal = bench.try_acquire(&asked(9)).unwrap_err();
    assert_eq!((refusal.blocked_on[0].used, refusal.blocked_on[0].limit), (8, 8));
    // What others start counts for the first too, but its place is its own only as long as what it has seen itself counts.
    bench.at(start + 30 * S);
    bench.try_acquire(&asked(8)).unwrap();
    bench.at(start + 60 * S - 1);
    let refusal = bench.try_acquire(&asked(9)).unwrap_err();
    assert_eq!(refusal.retry_after, Some(std::time::Duration::from_nanos(1)));
    bench.at(start + 60 * S);
    bench.try_acquire(&asked(9)).unwrap();
    let refusal = bench.try_acquire(&asked(1)).unwrap_err();
    assert_eq!(refusal.blocked_on[0].used, 8, "one has gone and one has come");
}

#[test]
fn who_waits_with_a_further_kind_of_rate_waits_until_one_has_aged_out() {
    let mut bench = Bench::new(&[]);
    let with = |concurrency, rates: &[&str]| {
        let numbers = limits(concurrency, rates);
        Request::unscoped().inline("s", "k", numbers).unwrap().max_wait(std::time::Duration::from_secs(90))
    };
    let holder = bench.try_acquire(&with("9", &[])).unwrap();
    let waiter = bench.wait(&with("1", &["9/9m"]));
    // Others, who fit under their own numbers, pass it, and take up all the room that there is.
    let start = bench.now;
    for minutes in 1..=weir_limiter::MAX_KINDS {
        let passing = bench.try_acquire(&with("9", &[&format!("9/{minutes}m")])).unwrap();
        bench.release(&passing);
    }
    bench.release(&holder);
    assert_eq!(bench.let_in(), []);
    bench.at(start + 60 * S - 1);
    assert_eq!(bench.let_in(), []);
    bench.at(start + 60 * S);
    assert_eq!(bench.let_in(), [waiter]);
}

#[test]
fn a_line_that_has_moved_is_asked_by_the_numbers_of_where_it_stands() {
    let mut bench = Bench::new(&[]);
    let own = |request: Request| request.inline("i", "k", limits("1", &[])).unwrap();
    let holder = bench.try_acquire(&own(Request::unscoped())).unwrap();
    let others = [bench.take("s"), bench.take("s")];
    let waiter = bench.wait(&own(request("s")));
    bench.operate("s", &Verb::Pause);
    bench.release(&holder);
    assert_eq!(bench.let_in(), [], "from its key it has moved to what is paused, which has two holders and no limit");
    bench.operate("s", &Verb::Resume);
    assert_eq!(bench.let_in(), [waiter]);
    others.iter().for_each(|other| bench.release(other));
}

#[test]
fn pinned_numbers_ask_for_no_room_among_the_kinds() {
    let mut bench = Bench::new(&[]);
    let asked = all_kinds(&mut bench);
    bench.operate("s#k", &Verb::Pin(limits("", &["2/9h"])));
    bench.try_acquire(&asked(1)).unwrap();
    bench.try_acquire(&asked(9)).unwrap();
    let refusal = bench.try_acquire(&asked(1)).unwrap_err();
    assert_eq!(shown(&refusal.blocked_on), [(ConstraintKind::Rate, "s#k")]);
    bench.operate("s#k", &Verb::Pin(limits("0", &["2/10h"])));
    let refusal = bench.try_acquire(&asked(1)).unwrap_err();
    assert_eq!(shown(&refusal.blocked_on), [(ConstraintKind::Closed, "s#k")]);
}

/// More counters than lie in one page, kept by nothing but who waits there.
#[test]
fn what_was_waited_for_is_gone_after_a_close() {
    let mut bench = Bench::new(&[("s/*", "0", &[])]);
    for key in 0..600 {
        bench.wait(&request(&format!("s/{key}")));
    }
    bench.step(Input::Close);
    assert!(bench.is_empty_after(60 * S));
}
