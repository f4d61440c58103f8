//! Leases and the rule book, checked in every order of events that fits a bound.
//!
//! [`design`] says in small what a limiter must do. Around it stand three clients who acquire (held and timed leases,
//! cost 1 and 2, one counter and two), extend, release, cancel and crash; a network that delays, doubles, reorders and
//! loses what they say about timed leases, past their end too; two operators who read a rule, then close, lower, raise,
//! delete or make it again under the version they read; and a clock that goes on by one tick, or late, by two.
//! `stateright` goes through all states breadth first. A state is a design, what clients and operators know, what is
//! under way, and what may still happen.
//!
//! # The limiter itself
//! Every step is taken by [`weir_limiter::Limiter`] too: [`replay`] takes it from the start to the new state, along the
//! path on which that was found, and compares what everybody was told, usage, waiters, leases and their ends, the
//! version of the book in each grant, fencing numbers, and when something is due next. So what is shown of the design
//! holds for the code, and neither can change without the other.
//!
//! # Bounds
//! Three ticks with faults, then two (the longest wait) without. Each client asks once, for any line of its menu.
//!
//! | part | clients | extends | copies | crashes | reads by operators | states | steps |
//! |---|---|---|---|---|---|---|---|
//! | rules | 3 | 0 | 0 | 0 | 2 | 1,058,317 | 4,375,833 |
//! | messages | 3 | 2 | 1 | 1 | 0 | 329,322 | 1,339,856 |
//! | all of two clients | 2 | 1 | 1 | 1 | 2 | 661,646 | 3,025,945 |
//!
//! Together 2,049,285 states, in about 25 s on two busy cores; a debug build takes smaller parts, some 30,000 states.
//! Every property is asked of every state, and what must be reached sometimes is reached in some part. Who makes the
//! model larger finds the figures in what the test prints.
//!
//! # Not here
//! Rates, lending, several shards and randomly long histories: `tests/reference.rs` and `tests/promises.rs` have them.
//! Answers on their way back: here a client learns at once, or never. Of several paths to one state the limiter is taken
//! along the first that was found, and along every last step.

mod design;
mod replay;

use design::{CLIENTS, Design, Edition, MENU, TICK, WAIT, When, need};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;
use weir_limiter::Reason;

/// When faults stop, and nothing is asked for any more.
const FAULTS_END: u8 = 3 * TICK;
/// When everybody must have an answer.
const SETTLED: u8 = FAULTS_END + WAIT;
/// What operators set: closed, low, high, and no rule at all.
const LIMITS: [Option<u8>; 4] = [Some(0), Some(1), Some(3), None];

const LATE: &str = "late and doubled messages change nothing";
const CANCEL: &str = "a cancelled wait leaves no trace";
const PRECONDITION: &str = "of two writers with one precondition exactly one wins";
const LIMITER: &str = "the limiter does the same";

/// What a client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    Idle,
    Waiting,
    /// As far as it knows.
    Holding(u8),
    Refused(Reason),
    /// Its lease, as an extend told it.
    Lost,
    Dead,
}

impl Client {
    fn learns_of_loss(&mut self, lease: u8) {
        if *self == Self::Holding(lease) {
            *self = Self::Lost;
        }
    }
}

/// What an operator has read: the version of the rule, if there is one, in this version of the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Basis {
    rule: Option<u8>,
    book: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operator {
    Away,
    Ready(Basis),
    Won,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Extend,
    Release,
}

/// A client's word about its timed lease, under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    kind: Kind,
    lease: u8,
    client: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Acquire {
        client: usize,
        ask: usize,
    },
    Cancel {
        client: usize,
    },
    /// Of a held lease, whose owner is in the process.
    Release {
        client: usize,
    },
    Send {
        client: usize,
        kind: Kind,
    },
    /// With a copy, it comes again. One that never comes is lost.
    Deliver {
        message: Message,
        copy: bool,
    },
    Crash {
        client: usize,
    },
    Read {
        operator: usize,
    },
    Write {
        operator: usize,
        limit: Option<u8>,
    },
    Pass {
        to: u8,
    },
    Settle,
}

/// How a state was reached first. It is not part of the state.
#[derive(Debug, Clone, Default)]
struct Trail(Option<Arc<(Action, Trail)>>);

impl Trail {
    fn then(&self, action: Action) -> Self {
        Self(Some(Arc::new((action, self.clone()))))
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions: Vec<Action> = std::iter::successors(self.0.as_deref(), |(_, before)| before.0.as_deref())
            .map(|(action, _)| *action)
            .collect();
        actions.reverse();
        actions
    }
}

impl PartialEq for Trail {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Hash for Trail {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// How much may still happen: what makes the model finite, and free of cycles.
#[derive(Debug, Clone, PartialEq, Hash)]
struct Budget {
    asks: [u8; CLIENTS],
    extends: u8,
    copies: u8,
    crashes: u8,
    reads: u8,
}

#[derive(Debug, Clone, PartialEq, Hash)]
struct State {
    design: Design,
    clients: [Client; CLIENTS],
    operators: [Operator; 2],
    /// In no order of their own: any may come next.
    network: Vec<Message>,
    left: Budget,
    /// The property that the last action broke.
    broken: Option<&'static str>,
    trail: Trail,
}

impl State {
    fn tell(&mut self, answers: Vec<design::Answer>) {
        for (client, answer) in answers {
            self.clients[client] = answer.map_or_else(Client::Refused, Client::Holding);
        }
    }

    fn held(&self, id: u8) -> bool {
        self.design.lease(id).is_some_and(|lease| lease.ends_at.is_none())
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Acquire { client, ask } => {
                self.left.asks[client] -= 1;
                let before = self.design.clone();
                match self.design.acquire(client, ask) {
                    Some(answer) => self.tell(vec![(client, answer)]),
                    None => {
                        self.clients[client] = Client::Waiting;
                        let mut cancelled = self.design.clone();
                        cancelled.cancel(client);
                        self.check(CANCEL, cancelled == before);
                    }
                }
            }
            Action::Cancel { client } => {
                self.clients[client] = Client::Idle;
                let answers = self.design.cancel(client);
                self.tell(answers);
            }
            Action::Release { client } => self.release(client),
            Action::Send { client, kind } => {
                let Client::Holding(lease) = self.clients[client] else { unreachable!("only holders send") };
                match kind {
                    Kind::Extend => self.left.extends -= 1,
                    Kind::Release => self.clients[client] = Client::Idle,
                }
                self.network.push(Message { kind, lease, client });
                self.network.sort_unstable();
            }
            Action::Deliver { message, copy } => {
                if copy {
                    self.left.copies -= 1;
                } else {
                    self.network.retain(|other| *other != message);
                }
                self.deliver(message);
            }
            Action::Crash { client } => {
                self.left.crashes -= 1;
                match self.clients[client] {
                    Client::Waiting => {
                        let answers = self.design.cancel(client);
                        self.tell(answers);
                    }
                    Client::Holding(id) if self.held(id) => self.release(client),
                    _ => {}
                }
                self.clients[client] = Client::Dead;
            }
            Action::Read { operator } => {
                self.left.reads -= 1;
                let book = self.design.version();
                let rule = self.design.limit().map(|_| book);
                self.operators[operator] = Operator::Ready(Basis { rule, book });
            }
            Action::Write { operator, limit } => self.write(operator, limit),
            Action::Pass { to } => {
                let answers = self.design.pass(to);
                self.tell(answers);
            }
            Action::Settle => {
                let answers = self.design.pass(SETTLED);
                self.tell(answers);
            }
        }
    }

    fn check(&mut self, property: &'static str, holds: bool) {
        if !holds {
            self.broken = Some(property);
        }
    }

    fn release(&mut self, client: usize) {
        let Client::Holding(id) = self.clients[client] else { unreachable!("only holders release") };
        self.clients[client] = Client::Idle;
        let answers = self.design.release(id).expect("a held lease does not end by itself");
        self.tell(answers);
    }

    fn deliver(&mut self, Message { kind, lease, client }: Message) {
        let late = self.design.ended & 1 << lease != 0;
        let before = late.then(|| self.design.clone());
        match kind {
            Kind::Extend => {
                if !self.design.extend(lease) {
                    self.clients[client].learns_of_loss(lease);
                }
            }
            Kind::Release => {
                let answers = self.design.release(lease).unwrap_or_default();
                self.tell(answers);
            }
        }
        self.check(LATE, before.is_none_or(|before| before == self.design));
    }

    fn write(&mut self, operator: usize, limit: Option<u8>) {
        let Operator::Ready(basis) = self.operators[operator] else { unreachable!("who writes has read") };
        let rule = self.design.limit().map(|_| self.design.version());
        if rule == basis.rule {
            let when = basis.rule.map_or(When::MustNotExist, When::Version);
            self.operators[operator] = Operator::Won;
            let answers = self.design.publish(Edition { limit, when });
            self.tell(answers);
        } else {
            self.operators[operator] = Operator::Lost;
            self.check(PRECONDITION, self.design.version() > basis.book);
        }
    }
}

/// The design, its clients, its operators and the network between them.
struct World {
    budget: Budget,
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            design: Design::new(),
            clients: [Client::Idle; CLIENTS],
            operators: [Operator::Away; 2],
            network: Vec::new(),
            left: self.budget.clone(),
            broken: None,
            trail: Trail::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            // What comes after a disagreement says nothing.
            return;
        }
        let now = state.design.now;
        if now >= FAULTS_END {
            if now < SETTLED {
                actions.push(Action::Settle);
            }
            return;
        }
        // A clock that is late skips a tick.
        actions.extend(
            [now + TICK, now + 2 * TICK].into_iter().filter(|to| *to <= FAULTS_END).map(|to| Action::Pass { to }),
        );
        for (client, menu) in MENU.iter().enumerate() {
            match state.clients[client] {
                Client::Idle | Client::Refused(_) | Client::Lost if state.left.asks[client] > 0 => {
                    actions.extend((0..menu.len()).map(|ask| Action::Acquire { client, ask }));
                }
                Client::Waiting => actions.push(Action::Cancel { client }),
                Client::Holding(id) if state.held(id) => actions.push(Action::Release { client }),
                Client::Holding(lease) => {
                    let extend = Message { kind: Kind::Extend, lease, client };
                    if state.left.extends > 0 && !state.network.contains(&extend) {
                        actions.push(Action::Send { client, kind: Kind::Extend });
                    }
                    actions.push(Action::Send { client, kind: Kind::Release });
                }
                _ => {}
            }
            if state.left.crashes > 0 && matches!(state.clients[client], Client::Waiting | Client::Holding(_)) {
                actions.push(Action::Crash { client });
            }
        }
        for &message in &state.network {
            actions.push(Action::Deliver { message, copy: false });
            if state.left.copies > 0 {
                actions.push(Action::Deliver { message, copy: true });
            }
        }
        for operator in 0..2 {
            match state.operators[operator] {
                Operator::Away | Operator::Lost if state.left.reads > 0 => actions.push(Action::Read { operator }),
                Operator::Ready(basis) => {
                    let known = state.design.limits(basis.book)[0];
                    let new = LIMITS.into_iter().filter(|limit| *limit != known);
                    actions.extend(new.map(|limit| Action::Write { operator, limit }));
                }
                _ => {}
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.trail = last.trail.then(action);
        next.act(action);
        let agrees = replay::agrees(&next.trail.actions(), &next).is_ok();
        next.check(LIMITER, agrees);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            always("no grant goes above the limits of the book it names", |_, state| {
                state.design.leases.iter().all(|lease| {
                    let limits = state.design.limits(lease.version);
                    limits.iter().zip(lease.used).all(|(limit, used)| limit.is_none_or(|limit| used <= limit))
                })
            }),
            always("what is used is what living leases hold", |_, state| {
                let asks = || state.design.leases.iter().map(|lease| &MENU[lease.client][lease.ask]);
                (0..2).all(|counter| {
                    let holds = asks().filter(|ask| ask.at.contains(&counter)).map(|ask| need(ask, counter));
                    state.design.used[counter] == holds.sum::<u8>()
                })
            }),
            always("no lease outlives its end", |_, state| {
                state.design.leases.iter().all(|lease| lease.ends_at.is_none_or(|end| end > state.design.now))
            }),
            always("a lease that ended never comes back, and none is forgotten", |_, state| {
                let living = state.design.leases.iter().fold(0, |bits, lease| bits | 1 << lease.id);
                living & state.design.ended == 0 && living | state.design.ended == (1 << state.design.granted) - 1
            }),
            always("fencing numbers grow", |_, state| state.design.leases.is_sorted_by(|one, next| one.id < next.id)),
            always(LATE, |_, state| state.broken != Some(LATE)),
            always(CANCEL, |_, state| state.broken != Some(CANCEL)),
            always("those wait who think so", |_, state| {
                (0..CLIENTS).all(|client| {
                    let entries = state.design.waiters.iter().filter(|waiter| waiter.client == client).count();
                    entries == usize::from(state.clients[client] == Client::Waiting)
                })
            }),
            always("no waiter could start", |_, state| {
                (0..state.design.waiters.len()).all(|place| !state.design.could_start(place))
            }),
            always("no waiter outlives its deadline", |_, state| {
                state.design.waiters.iter().all(|waiter| waiter.deadline > state.design.now)
            }),
            always(PRECONDITION, |_, state| {
                let whens = state.design.book.iter().map(|edition| edition.when);
                let mut versions: Vec<When> = whens.filter(|when| *when != When::MustNotExist).collect();
                let all = versions.len();
                versions.dedup();
                all == versions.len() && state.broken != Some(PRECONDITION)
            }),
            always(LIMITER, |_, state| state.broken != Some(LIMITER)),
            // Sound here: every path ends, and all that this asks of is in its last state.
            Property::eventually("everybody has an answer", |_, state: &State| {
                state.design.now == SETTLED && state.design.waiters.is_empty()
            }),
            sometimes("usage is above a lowered limit", |_, state| {
                state.design.limit().is_some_and(|limit| limit > 0 && state.design.used[0] > limit)
            }),
            sometimes("somebody waits at a closed counter", |_, state| {
                state.design.limit() == Some(0) && !state.design.waiters.is_empty()
            }),
            sometimes("somebody waits behind another", |_, state| {
                let parked = |counter| state.design.waiters.iter().filter(|waiter| waiter.parked == counter).count();
                parked(0) > 1
            }),
            sometimes("a rule is made again after it was deleted", |_, state| {
                state.design.book.iter().any(|edition| edition.when == When::MustNotExist)
            }),
            sometimes("a writer is too late", |_, state| {
                state.operators.contains(&Operator::Lost) && state.operators.contains(&Operator::Won)
            }),
            sometimes("a waiter timed out", |_, state| state.clients.contains(&Client::Refused(Reason::TimedOut))),
            sometimes("a cost is too large", |_, state| state.clients.contains(&Client::Refused(Reason::TooLarge))),
            sometimes("a waitlist is full", |_, state| state.clients.contains(&Client::Refused(Reason::Overloaded))),
            sometimes("who does not wait is refused", |_, state| {
                state.clients.contains(&Client::Refused(Reason::Limited))
            }),
            sometimes("a lease has expired and its client does not know", |_, state| {
                let ended =
                    |client: &Client| matches!(client, Client::Holding(id) if state.design.ended & 1 << id != 0);
                state.clients.iter().any(ended)
            }),
            sometimes("a late extend is refused", |_, state| state.clients.contains(&Client::Lost)),
            sometimes("a release is late", |_, state| {
                let late = |message: &Message| state.design.ended & 1 << message.lease != 0;
                state.network.iter().any(|message| message.kind == Kind::Release && late(message))
            }),
            sometimes("a dead client's lease is still held", |_, state| {
                state.design.leases.iter().any(|lease| state.clients[lease.client] == Client::Dead)
            }),
        ]
    }
}

type Condition = fn(&World, &State) -> bool;

fn always(name: &'static str, condition: Condition) -> Property<World> {
    Property::always(name, condition)
}

fn sometimes(name: &'static str, condition: Condition) -> Property<World> {
    Property::sometimes(name, condition)
}

/// A part of the whole: what may happen in it.
type Part = (&'static str, Budget);

const fn part(name: &'static str, asks: [u8; CLIENTS], [extends, copies, crashes, reads]: [u8; 4]) -> Part {
    (name, Budget { asks, extends, copies, crashes, reads })
}

/// A debug build takes a small share: it is four times slower, and is asked for more often.
const PARTS: &[Part] = if cfg!(debug_assertions) {
    &[
        part("all of one client", [1, 0, 0], [1, 1, 1, 2]),
        part("messages of two clients", [1, 0, 1], [1, 1, 0, 0]),
        part("clients", [1, 1, 1], [0, 0, 0, 0]),
    ]
} else {
    &[
        part("rules", [1, 1, 1], [0, 0, 0, 2]),
        part("messages", [1, 1, 1], [2, 1, 1, 0]),
        part("all of two clients", [0, 1, 1], [1, 1, 1, 2]),
    ]
};
const LEAST_STATES: usize = if cfg!(debug_assertions) { 30_000 } else { 2_000_000 };

#[test]
fn every_path_keeps_the_promises() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let mut states = 0;
    let mut seen = BTreeSet::new();
    for (name, budget) in PARTS {
        let began = Instant::now();
        let world = World { budget: budget.clone() };
        let checker = world.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        for property in checker.model().properties() {
            let Some(path) = checker.discovery(property.name) else { continue };
            if property.expectation.discovery_is_failure() {
                let last = path.last_state();
                let actions = last.trail.actions();
                let limiter = replay::agrees(&actions, last);
                panic!("not so: {}\nafter {actions:#?}\n{last:#?}\nthe limiter: {limiter:?}", property.name);
            }
            seen.insert(property.name);
        }
        let (distinct, steps) = (checker.unique_state_count(), checker.state_count());
        println!("{name}: {distinct} states, {steps} steps, each taken by the limiter too, in {:.1?}", began.elapsed());
        states += distinct;
    }
    println!("model_states {states}");
    let sometimes = World { budget: PARTS[0].1.clone() }.properties();
    for property in sometimes.iter().filter(|property| property.expectation == Expectation::Sometimes) {
        assert!(seen.contains(property.name), "never reached: {}", property.name);
    }
    assert!(states >= LEAST_STATES, "{states} states are too few");
}
