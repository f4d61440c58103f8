//! The design in small: what a limiter must do, in lists that are searched.
//!
//! Two counters: `a` counts cost, under a rule that operators change; `b` counts calls, one at a time, one waiter. Time
//! is in quarters of a tick. Every client's leases last a quarter less than the one's before, so that no two leases end
//! at one instant, and those of the first end exactly on a tick, when much else happens.

use weir_limiter::Reason;

pub(crate) const CLIENTS: usize = 3;
pub(crate) const TICK: u8 = 4;
/// How long every waiter waits.
pub(crate) const WAIT: u8 = 2 * TICK;
/// What `b` allows, for good.
pub(crate) const LIMIT_B: u8 = 1;
pub(crate) const WAITERS_B: usize = 1;
/// What `a` allows at first.
pub(crate) const FIRST_LIMIT: u8 = 2;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) at: &'static [usize],
    pub(crate) cost: u8,
    pub(crate) timed: bool,
    pub(crate) waits: bool,
}

const fn ask(at: &'static [usize], cost: u8, timed: bool, waits: bool) -> Ask {
    Ask { at, cost, timed, waits }
}

/// What each client may ask for: every cost, both kinds of lease, one counter and two.
pub(crate) const MENU: [&[Ask]; CLIENTS] = [
    &[ask(&[0, 1], 1, true, true), ask(&[0], 2, true, true)],
    &[ask(&[0], 1, true, true), ask(&[0, 1], 2, false, true)],
    &[ask(&[0], 1, false, true), ask(&[1], 1, true, true), ask(&[0], 2, true, false)],
];

pub(crate) fn lease_time(client: usize) -> u8 {
    2 * TICK - client as u8
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    /// Its fencing number: how many were granted before it.
    pub(crate) id: u8,
    pub(crate) client: usize,
    pub(crate) ask: usize,
    pub(crate) ends_at: Option<u8>,
    /// The version of the book that decided.
    pub(crate) version: u8,
    /// What was used at its counters when it had been granted; 0 at others.
    pub(crate) used: [u8; 2],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Waiter {
    pub(crate) client: usize,
    pub(crate) ask: usize,
    pub(crate) deadline: u8,
    /// The counter that is in its way.
    pub(crate) parked: usize,
}

/// What a change of the book was made under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum When {
    First,
    Version(u8),
    MustNotExist,
}

/// One version of the book, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Edition {
    /// What `a` allows; absent: there is no rule.
    pub(crate) limit: Option<u8>,
    pub(crate) when: When,
}

/// What a client is told.
pub(crate) type Answer = (usize, Result<u8, Reason>);

enum Standing {
    Fits,
    Blocked(usize),
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Design {
    pub(crate) now: u8,
    /// When what is being taken was due; `now` between two steps.
    as_of: u8,
    pub(crate) used: [u8; 2],
    pub(crate) granted: u8,
    /// In the order of their grants.
    pub(crate) leases: Vec<Lease>,
    /// The numbers of all that ended, as bits.
    pub(crate) ended: u32,
    /// In the order of their arrival.
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) book: Vec<Edition>,
}

impl Design {
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            as_of: 0,
            used: [0; 2],
            granted: 0,
            leases: Vec::new(),
            ended: 0,
            waiters: Vec::new(),
            book: vec![Edition { limit: Some(FIRST_LIMIT), when: When::First }],
        }
    }

    pub(crate) fn version(&self) -> u8 {
        self.book.len() as u8
    }

    /// The limit of `a` now.
    pub(crate) fn limit(&self) -> Option<u8> {
        self.limits(self.version())[0]
    }

    /// What a version of the book allows at each counter.
    pub(crate) fn limits(&self, version: u8) -> [Option<u8>; 2] {
        [self.book[usize::from(version) - 1].limit, Some(LIMIT_B)]
    }

    pub(crate) fn lease(&self, id: u8) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.id == id)
    }

    /// Whether the waiter at this place in the list could start now.
    pub(crate) fn could_start(&self, place: usize) -> bool {
        let Waiter { client, ask, .. } = self.waiters[place];
        self.is_head(place) && matches!(self.stand(&MENU[client][ask]), Standing::Fits)
    }

    fn parked(&self, counter: usize) -> impl Iterator<Item = usize> {
        let all = self.waiters.iter().enumerate();
        all.filter(move |(_, waiter)| waiter.parked == counter).map(|(place, _)| place)
    }

    /// The first of those who ask for the same counters: they wait in one line.
    fn head_of(&self, ask: &Ask) -> Option<usize> {
        self.waiters.iter().position(|waiter| MENU[waiter.client][waiter.ask].at == ask.at)
    }

    fn is_head(&self, place: usize) -> bool {
        let Waiter { client, ask, .. } = self.waiters[place];
        self.head_of(&MENU[client][ask]) == Some(place)
    }

    fn stand_at(&self, ask: &Ask, counter: usize) -> Standing {
        let need = need(ask, counter);
        match self.limits(self.version())[counter] {
            Some(limit) if limit > 0 && need > limit => Standing::Never,
            Some(limit) if self.used[counter] + need > limit => Standing::Blocked(counter),
            _ => Standing::Fits,
        }
    }

    fn is_closed(&self, counter: usize) -> bool {
        self.limits(self.version())[counter] == Some(0)
    }

    /// Asks every counter. Of those in the way it tells the first that is closed, else the first.
    fn stand(&self, ask: &Ask) -> Standing {
        let mut standing = Standing::Fits;
        for &counter in ask.at {
            match (self.stand_at(ask, counter), &standing) {
                (Standing::Never, _) => return Standing::Never,
                (Standing::Blocked(_), Standing::Fits) => standing = Standing::Blocked(counter),
                (Standing::Blocked(_), Standing::Blocked(other))
                    if self.is_closed(counter) && !self.is_closed(*other) =>
                {
                    standing = Standing::Blocked(counter);
                }
                _ => {}
            }
        }
        standing
    }

    fn grant(&mut self, client: usize, ask: usize) -> Answer {
        let wanted = &MENU[client][ask];
        let mut used = [0; 2];
        for &counter in wanted.at {
            self.used[counter] += need(wanted, counter);
            used[counter] = self.used[counter];
        }
        let id = self.granted;
        self.granted += 1;
        let ends_at = wanted.timed.then(|| self.now + lease_time(client));
        self.leases.push(Lease { id, client, ask, ends_at, version: self.version(), used });
        (client, Ok(id))
    }

    /// Absent: it waits.
    pub(crate) fn acquire(&mut self, client: usize, ask: usize) -> Option<Result<u8, Reason>> {
        let wanted = &MENU[client][ask];
        let standing = match (self.stand(wanted), self.head_of(wanted)) {
            (Standing::Never, _) => Standing::Never,
            // Nobody overtakes in a line.
            (_, Some(head)) => Standing::Blocked(self.waiters[head].parked),
            (standing, None) => standing,
        };
        match standing {
            Standing::Fits => Some(self.grant(client, ask).1),
            Standing::Never => Some(Err(Reason::TooLarge)),
            Standing::Blocked(_) if !wanted.waits => Some(Err(Reason::Limited)),
            Standing::Blocked(1) if self.parked(1).count() >= WAITERS_B => Some(Err(Reason::Overloaded)),
            Standing::Blocked(parked) => {
                self.waiters.push(Waiter { client, ask, deadline: self.now + WAIT, parked });
                None
            }
        }
    }

    pub(crate) fn cancel(&mut self, client: usize) -> Vec<Answer> {
        let mut answers = Vec::new();
        if let Some(place) = self.waiters.iter().position(|waiter| waiter.client == client) {
            let waiter = self.waiters.remove(place);
            self.serve(waiter.parked, &mut answers);
        }
        answers
    }

    /// Absent: there is no such lease any more.
    pub(crate) fn release(&mut self, id: u8) -> Option<Vec<Answer>> {
        let place = self.leases.iter().position(|lease| lease.id == id)?;
        let lease = self.leases.remove(place);
        self.ended |= 1 << id;
        let ask = &MENU[lease.client][lease.ask];
        for &counter in ask.at {
            self.used[counter] -= need(ask, counter);
        }
        let mut answers = Vec::new();
        for &counter in ask.at {
            self.serve(counter, &mut answers);
        }
        Some(answers)
    }

    /// False: there is no such lease any more.
    pub(crate) fn extend(&mut self, id: u8) -> bool {
        let now = self.now;
        let Some(lease) = self.leases.iter_mut().find(|lease| lease.id == id) else { return false };
        lease.ends_at = Some(now + lease_time(lease.client));
        true
    }

    /// A new edition: who can never fit ends, who fits starts.
    pub(crate) fn publish(&mut self, edition: Edition) -> Vec<Answer> {
        self.book.push(edition);
        let mut answers = Vec::new();
        let clients: Vec<usize> = self.waiters.iter().map(|waiter| waiter.client).collect();
        for client in clients {
            let Some(place) = self.waiters.iter().position(|waiter| waiter.client == client) else { continue };
            let Waiter { ask, parked, .. } = self.waiters[place];
            if matches!(self.stand(&MENU[client][ask]), Standing::Never) {
                self.waiters.remove(place);
                answers.push((client, Err(Reason::TooLarge)));
                self.serve(parked, &mut answers);
            }
        }
        // Where a line is parked is another counter, if that will be in its way for longer.
        let before = [0, 1].map(|counter| self.parked(counter).next().is_some());
        for place in 0..self.waiters.len() {
            let Waiter { client, ask, .. } = self.waiters[place];
            if self.is_head(place)
                && let Standing::Blocked(parked) = self.stand(&MENU[client][ask])
            {
                self.move_line(MENU[client][ask].at, parked);
            }
        }
        // Who moves to a counter where nobody waited is blocked there.
        let parked = [0, 1].map(|counter| before[counter] || self.parked(counter).next().is_some());
        for counter in (0..2).filter(|counter| parked[*counter]) {
            self.serve(counter, &mut answers);
        }
        answers
    }

    /// Time passes, and what is due comes in order: at one instant, leases end before waiters give up.
    pub(crate) fn pass(&mut self, to: u8) -> Vec<Answer> {
        self.now = to;
        let mut answers = Vec::new();
        loop {
            let ends = self.leases.iter().filter_map(|lease| Some((lease.ends_at?, 0, usize::from(lease.id))));
            let deadlines = self.waiters.iter().enumerate().map(|(place, waiter)| (waiter.deadline, 1, place));
            let due = ends.chain(deadlines).min();
            self.as_of = due.map_or(to, |(at, ..)| at.min(to));
            match due {
                Some((at, 0, id)) if at <= to => answers.extend(self.release(id as u8).into_iter().flatten()),
                Some((at, _, place)) if at <= to => {
                    let waiter = self.waiters.remove(place);
                    answers.push((waiter.client, Err(Reason::TimedOut)));
                    self.serve(waiter.parked, &mut answers);
                }
                _ => return answers,
            }
        }
    }

    fn move_line(&mut self, at: &[usize], parked: usize) {
        for waiter in self.waiters.iter_mut().filter(|waiter| MENU[waiter.client][waiter.ask].at == at) {
            waiter.parked = parked;
        }
    }

    /// Looks at the heads of the lines at a counter that fit there, in the order of their arrival, until none is left that
    /// does: each starts, moves its line to where it is blocked, can never fit, or has waited too long already.
    fn serve(&mut self, counter: usize, answers: &mut Vec<Answer>) {
        loop {
            let fits_here = |place: &usize| {
                let Waiter { client, ask, .. } = self.waiters[*place];
                self.is_head(*place) && !matches!(self.stand_at(&MENU[client][ask], counter), Standing::Blocked(_))
            };
            let Some(place) = self.parked(counter).find(fits_here) else { return };
            let Waiter { client, ask, deadline, .. } = self.waiters[place];
            let wanted = &MENU[client][ask];
            let standing = self.stand(wanted);
            if deadline < self.as_of {
                self.waiters.remove(place);
                answers.push((client, Err(Reason::TimedOut)));
                continue;
            }
            match standing {
                Standing::Blocked(parked) => self.move_line(wanted.at, parked),
                Standing::Fits => {
                    self.waiters.remove(place);
                    let answer = self.grant(client, ask);
                    answers.push(answer);
                }
                Standing::Never => {
                    self.waiters.remove(place);
                    answers.push((client, Err(Reason::TooLarge)));
                }
            }
        }
    }
}

pub(crate) fn need(ask: &Ask, counter: usize) -> u8 {
    if counter == 0 { ask.cost } else { 1 }
}
