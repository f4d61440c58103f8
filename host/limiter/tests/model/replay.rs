//! The same actions against the limiter itself, from the start, and the question whether it stands as the design does.

use crate::design::{CLIENTS, FIRST_LIMIT, LIMIT_B, MENU, WAITERS_B, lease_time};
use crate::{Action, Basis, Client, Kind, Message, Operator, State};
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use weir_limiter::{
    Change, Concurrency, CounterSnapshot, Counts, Effect, Grant, IDLE_KEEP, Input, LeaseId, LeaseRef, Limiter, Limits,
    Outcome, Output, Pattern, Precondition, Request, RuleBook, RuleSpec, ScopedKey, ShardLimits, WaiterId,
};

/// A quarter of a tick: four make the shortest lease time.
const QUARTER: u64 = 25_000_000;
const START: u64 = 1_000_000_000_000;
const NAMES: [&str; 2] = ["a", "b"];

/// What is the same in every run.
struct Fixed {
    requests: Vec<Vec<Request>>,
    book: Arc<RuleBook>,
    a: Pattern,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let request = |client: usize, ask: &crate::design::Ask| {
        let mut keys = ask.at.iter().map(|at| ScopedKey::new(NAMES[*at], None).unwrap());
        let mut request = Request::new(keys.next().unwrap());
        for key in keys {
            request = request.also(key).unwrap();
        }
        request = request.cost(NonZeroU32::new(ask.cost.into()).unwrap()).max_wait(quarters(crate::design::WAIT));
        if ask.timed { request.lease_time(quarters(lease_time(client))) } else { request }
    };
    let requests =
        MENU.iter().enumerate().map(|(client, menu)| menu.iter().map(|ask| request(client, ask)).collect()).collect();
    let b = Limits {
        concurrency: Some(Concurrency::calls(LIMIT_B.into())),
        max_waiters: Some(WAITERS_B as u32),
        ..Limits::default()
    };
    let b = RuleSpec { limits: b, ..RuleSpec::default() };
    let first = [
        put(FIRST_LIMIT, Precondition::None),
        Change::Put { pattern: pattern("b"), spec: b, when: Precondition::None },
    ];
    Fixed { requests, book: Arc::new(RuleBook::default().apply(&first, 0).unwrap()), a: pattern("a") }
});

fn quarters(count: u8) -> Duration {
    Duration::from_nanos(u64::from(count) * QUARTER)
}

fn at(quarters: u8) -> u64 {
    START + u64::from(quarters) * QUARTER
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

fn put(limit: u8, when: Precondition) -> Change {
    let concurrency = Some(Concurrency { limit: limit.into(), counts: Counts::Cost });
    let spec = RuleSpec { limits: Limits { concurrency, ..Limits::default() }, ..RuleSpec::default() };
    Change::Put { pattern: pattern("a"), spec, when }
}

/// A lease that was granted, whatever became of it.
#[derive(Debug)]
struct Granted {
    id: Option<LeaseId>,
    ends_at: Option<u64>,
    grant: Grant,
}

struct Replay {
    limiter: Limiter,
    book: Arc<RuleBook>,
    now: u64,
    effects: Vec<Effect>,
    secrets: u128,
    /// By their numbers in the design.
    leases: Vec<Granted>,
    clients: [Client; CLIENTS],
    waiters: [Option<(WaiterId, Option<LeaseId>)>; CLIENTS],
    operators: [Operator; 2],
}

/// Whether the limiter, taken through these actions, stands as `state` says.
pub(crate) fn agrees(actions: &[Action], state: &State) -> Result<(), String> {
    let mut replay = Replay::new();
    let (last, before) = match actions.split_last() {
        Some((last, before)) => (Some(last), before),
        None => (None, actions),
    };
    for action in before {
        replay.act(action)?;
    }
    if let Some(last) = last {
        let earlier = matches!(last, Action::Acquire { .. }).then(|| replay.counters());
        replay.act(last)?;
        replay.compare(state)?;
        match (last, earlier) {
            (Action::Acquire { client, .. }, Some(earlier)) if replay.clients[*client] == Client::Waiting => {
                replay.cancel(*client)?;
                same("the counters after a wait that was cancelled at once", &replay.counters(), &earlier)?;
            }
            (Action::Settle, _) => replay.end()?,
            _ => {}
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, should be {expected:?}")) }
}

impl Replay {
    fn new() -> Self {
        let mut replay = Self {
            limiter: Limiter::new(1, ShardLimits::default()),
            book: Arc::clone(&FIXED.book),
            now: START,
            effects: Vec::new(),
            secrets: 0,
            leases: Vec::new(),
            clients: [Client::Idle; CLIENTS],
            waiters: [None; CLIENTS],
            operators: [Operator::Away; 2],
        };
        replay.step(Input::SetBook { book: Arc::clone(&FIXED.book) });
        replay
    }

    /// One step; those that it answers besides are told.
    fn step(&mut self, input: Input<'_>) -> Output {
        let output = self.limiter.step(self.now, input, &mut self.effects);
        for effect in std::mem::take(&mut self.effects) {
            let (Effect::Granted { waiter, .. } | Effect::Refused { waiter, .. } | Effect::Retry { waiter, .. }) =
                effect
            else {
                unreachable!("nothing here is a pool")
            };
            let told = self.waiters.iter().position(|found| found.is_some_and(|(id, _)| id == waiter));
            let client = told.expect("only who waits is told");
            let id = self.waiters[client].take().and_then(|(_, id)| id);
            self.clients[client] = match effect {
                Effect::Granted { grant, .. } => self.granted(id, grant),
                Effect::Refused { refusal, .. } => Client::Refused(refusal.reason),
                Effect::Retry { .. } | Effect::Release { .. } => unreachable!("all shards are at hand"),
            };
        }
        output
    }

    fn granted(&mut self, id: Option<LeaseId>, grant: Grant) -> Client {
        self.leases.push(Granted { id, ends_at: grant.ends_at, grant });
        Client::Holding(self.leases.len() as u8 - 1)
    }

    fn act(&mut self, action: &Action) -> Result<(), String> {
        match *action {
            Action::Acquire { client, ask } => {
                let ask_for = &MENU[client][ask];
                self.secrets += 1;
                let secret = ask_for.timed.then_some(self.secrets);
                let request = &FIXED.requests[client][ask];
                let id = secret.map(|secret| LeaseId { shard: 0, secret });
                self.clients[client] =
                    match self.step(Input::Acquire { request, wait: ask_for.waits, secrets: secret.as_slice() }) {
                        Output::Granted(grant) => self.granted(id, grant),
                        Output::Refused(refusal) => Client::Refused(refusal.reason),
                        Output::Waiting(waiter) => {
                            self.waiters[client] = Some((waiter, id));
                            Client::Waiting
                        }
                        other => return Err(format!("an acquire is answered {other:?}")),
                    };
            }
            Action::Cancel { client } => self.cancel(client)?,
            Action::Release { client } => self.release(client)?,
            Action::Send { kind, client } => {
                if kind == Kind::Release {
                    self.clients[client] = Client::Idle;
                }
            }
            Action::Deliver { message, .. } => self.deliver(message)?,
            Action::Crash { client } => {
                match self.clients[client] {
                    Client::Waiting => self.cancel(client)?,
                    Client::Holding(id) if self.leases[usize::from(id)].id.is_none() => self.release(client)?,
                    _ => {}
                }
                self.clients[client] = Client::Dead;
            }
            Action::Read { operator } => {
                let rule = self.book.get(&FIXED.a).map(|rule| rule.version as u8);
                self.operators[operator] = Operator::Ready(Basis { rule, book: self.book.version() as u8 });
            }
            Action::Write { operator, limit } => self.write(operator, limit),
            Action::Pass { to } => {
                self.now = at(to);
                same("the answer to a tick", &self.step(Input::Tick), &Output::Done)?;
            }
            Action::Settle => {
                self.now = at(crate::SETTLED);
                same("the answer to a tick", &self.step(Input::Tick), &Output::Done)?;
            }
        }
        Ok(())
    }

    fn cancel(&mut self, client: usize) -> Result<(), String> {
        let (waiter, _) = self.waiters[client].take().ok_or("who cancels does not wait")?;
        self.clients[client] = Client::Idle;
        same("a cancel", &self.step(Input::Cancel { waiter }), &Output::Done)
    }

    fn release(&mut self, client: usize) -> Result<(), String> {
        let Client::Holding(id) = self.clients[client] else { return Err("who releases holds nothing".into()) };
        self.clients[client] = Client::Idle;
        for lease in self.leases[usize::from(id)].grant.parts.clone() {
            same("a release", &self.step(Input::Release { lease, outcome: Outcome::Ok }), &Output::Done)?;
        }
        Ok(())
    }

    fn deliver(&mut self, message: Message) -> Result<(), String> {
        let number = usize::from(message.lease);
        let id = self.leases[number].id.ok_or("a held lease has no name")?;
        match self.step(Input::Find { id, caller: None }) {
            Output::Found(parts) => {
                same("what is found", &parts, &self.leases[number].grant.parts)?;
                for part in parts {
                    match self.send(message, part) {
                        Output::Extended(end) => self.leases[number].ends_at = end,
                        Output::Done => {}
                        other => return Err(format!("{message:?}, whose lease was found, is answered {other:?}")),
                    }
                }
            }
            // Nor is it there by its reference of old, whose slot may have another lease.
            Output::Gone => {
                for part in self.leases[number].grant.parts.clone() {
                    same("a late message", &self.send(message, part), &Output::Gone)?;
                }
                if message.kind == Kind::Extend {
                    self.clients[message.client].learns_of_loss(message.lease);
                }
            }
            other => return Err(format!("a find is answered {other:?}")),
        }
        Ok(())
    }

    fn send(&mut self, Message { kind, client, .. }: Message, lease: LeaseRef) -> Output {
        match kind {
            Kind::Extend => self.step(Input::Extend { lease, lease_time: quarters(lease_time(client)) }),
            Kind::Release => self.step(Input::Release { lease, outcome: Outcome::Ok }),
        }
    }

    fn write(&mut self, operator: usize, limit: Option<u8>) {
        let Operator::Ready(basis) = self.operators[operator] else { unreachable!("who writes has read") };
        let when = basis.rule.map_or(Precondition::MustNotExist, |version| Precondition::Version(version.into()));
        let change = match limit {
            Some(limit) => put(limit, when),
            None => Change::Delete { pattern: FIXED.a.clone(), when },
        };
        self.operators[operator] = match self.book.apply(&[change], 0) {
            Ok(book) => {
                self.book = Arc::new(book);
                self.step(Input::SetBook { book: Arc::clone(&self.book) });
                Operator::Won
            }
            Err(_) => Operator::Lost,
        };
    }

    fn counters(&mut self) -> Vec<CounterSnapshot> {
        let Output::Counters(mut counters) = self.step(Input::Counters { prefix: "" }) else { return Vec::new() };
        // One that equals a fresh one may stay for a while.
        counters.retain(|counter| counter.waiting > 0 || counter.granted > 0 || counter.refused > 0);
        counters.sort_by(|one, other| one.counter.cmp(&other.counter));
        counters
    }

    fn compare(&mut self, state: &State) -> Result<(), String> {
        let design = &state.design;
        same("what clients know", &self.clients, &state.clients)?;
        same("what operators know", &self.operators, &state.operators)?;
        same("the version of the book", &self.book.version(), &design.version().into())?;
        let mut found: [_; 2] = [0, 1].map(|counter| (0, 0, design.limits(design.version())[counter].map(u32::from)));
        let expected = [0, 1].map(|counter| {
            let waiting = design.waiters.iter().filter(|waiter| waiter.parked == counter).count();
            (u64::from(design.used[counter]), waiting, found[counter].2)
        });
        for CounterSnapshot { counter, calls, cost, waiting, concurrency, .. } in self.counters() {
            let limit = concurrency.map(|concurrency| concurrency.limit);
            match counter.as_str() {
                "a" => found[0] = (cost, waiting, limit),
                _ => found[1] = (calls, waiting, limit),
            }
        }
        same("use, waiters and limits", &found, &expected)?;
        same("leases", &(self.limiter.shards()[0].metrics().leases as usize), &design.leases.len())?;
        same("grants", &self.leases.len(), &design.granted.into())?;
        let fences = self.leases.iter().map(|lease| lease.grant.fence);
        if !fences.is_sorted_by(|one, next| one < next) {
            return Err("fencing numbers do not grow".into());
        }
        for (number, granted) in self.leases.iter().enumerate() {
            let lease = design.lease(number as u8);
            if let Some(lease) = lease {
                same("the end of a lease", &granted.ends_at, &lease.ends_at.map(at))?;
                same("the book of a grant", &granted.grant.book_version, &lease.version.into())?;
            }
            if let Some(id) = granted.id {
                let found =
                    self.limiter.step(self.now, Input::Find { id, caller: None }, &mut self.effects) != Output::Gone;
                same("whether a lease lives", &found, &lease.is_some())?;
            }
        }
        let ends = design.leases.iter().filter_map(|lease| lease.ends_at);
        let due = ends.chain(design.waiters.iter().map(|waiter| waiter.deadline)).min().map(at);
        // Idle counters are swept long after everything here.
        let next_due = self.limiter.next_due().filter(|due| *due < START + IDLE_KEEP);
        same("when something is due", &next_due, &due)
    }

    /// Everything ends, and nothing is left.
    fn end(&mut self) -> Result<(), String> {
        for client in 0..CLIENTS {
            match self.clients[client] {
                Client::Holding(id) if self.leases[usize::from(id)].id.is_none() => self.release(client)?,
                _ => {}
            }
        }
        for _ in 0..3 {
            self.now += IDLE_KEEP;
            self.step(Input::Tick);
        }
        same("whether nothing is left", &self.limiter.shards()[0].is_empty(), &true)
    }
}
