//! What the tables hold after a restart.

use super::database::{sql, unsql};
use super::fold::RING;
use super::forms::{LimitsForm, Problem, RequestForm, RuleForm};
use super::journal::Found;
use crate::callers::Callers;
use crate::keys::KEPT;
use rusqlite::types::FromSql;
use rusqlite::{Row, Transaction};
use std::collections::HashMap;
use std::time::Duration;
use weir_limiter::{
    CounterName, Counts, Ended, GrantedLease, HandState, Limits, MAX_PERIOD, MIN_PERIOD, Mode, Pattern, RateKind, Rule,
    RuleBook, RuleSpec, SmoothState,
};

/// What has survived.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) shards: u16,
    pub(crate) seed: u64,
    /// The last instant that was seen.
    pub(crate) time: u64,
    /// Above all fencing numbers that were given.
    pub(crate) fence: u64,
    pub(crate) book: RuleBook,
    /// The rules that the configuration named last.
    pub(crate) file_rules: HashMap<Pattern, RuleSpec>,
    pub(crate) hands: Vec<(CounterName, HandState)>,
    pub(crate) histories: Vec<SavedHistory>,
    pub(crate) leases: Vec<SavedLease>,
}

#[derive(Debug)]
pub(crate) struct SavedHistory {
    pub(crate) counter: CounterName,
    pub(crate) kind: RateKind,
    pub(crate) starts: Vec<(u64, u64)>,
    pub(crate) smooth: Option<SmoothState>,
    pub(crate) booked: u32,
}

#[derive(Debug)]
pub(crate) struct SavedLease {
    pub(crate) lease: GrantedLease,
    /// How it has ended, and when; only leases under idempotency keys are kept beyond that.
    pub(crate) ended: Option<(Ended, u64)>,
}

/// More units than all starts of a sub-period can be: as many of these as a window has sub-periods are within 64 bits.
pub(super) const MAX_UNITS: u64 = 1 << 53;
/// No instant, version or number is above this: the year 2262, in nanoseconds.
pub(super) const MAX_NUMBER: u64 = i64::MAX.cast_unsigned();
/// The most shards of an engine.
const MAX_SHARDS: u16 = 1_024;

/// Reads the tables within a transaction.
pub(super) struct Loader<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) callers: &'a Callers,
}

impl Loader<'_> {
    /// Reads what has survived, with what the journal says of time.
    pub(super) fn load(&self, journal: &Found, clock: u64) -> Result<Saved, Problem> {
        let (shards, seed, book_version): (u16, u64, u64) =
            self.transaction.query_row("SELECT shards, seed, book_version FROM meta", [], |row| {
                Ok((row.get(0)?, row.get(1).map(unsql)?, row.get(2).map(unsql)?))
            })?;
        if !(1..=MAX_SHARDS).contains(&shards) {
            return Err(format!("{shards} shards").into());
        }
        let book_version = within(book_version, "a rule book of version")?;
        let Found { time, fence, .. } = *journal;
        let now = clock.max(time);
        let rules = self.rules()?;
        Ok(Saved {
            shards,
            seed,
            time,
            fence,
            book: RuleBook::restored(book_version, rules),
            file_rules: self.file_rules()?,
            hands: self.hands(now)?,
            histories: self.histories(now)?,
            leases: self.leases(now, shards)?,
        })
    }

    /// All rows of a query, each made into something.
    fn all<T>(&self, query: &str, mut each: impl FnMut(&Row<'_>) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
        let mut statement = self.transaction.prepare(query)?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(each(row)?);
        }
        Ok(found)
    }

    fn rules(&self) -> Result<Vec<Rule>, Problem> {
        self.all("SELECT pattern, spec, version, last_modified FROM rule", |row| {
            Ok(Rule {
                pattern: text(row, 0)?.parse()?,
                spec: spec(&text(row, 1)?)?,
                version: within(number(row, 2)?, "a rule of version")?,
                last_modified: number(row, 3)?,
            })
        })
    }

    fn file_rules(&self) -> Result<HashMap<Pattern, RuleSpec>, Problem> {
        let rules =
            self.all("SELECT pattern, spec FROM file_rule", |row| Ok((text(row, 0)?.parse()?, spec(&text(row, 1)?)?)))?;
        Ok(rules.into_iter().collect())
    }

    fn hands(&self, now: u64) -> Result<Vec<(CounterName, HandState)>, Problem> {
        let hands = self.all("SELECT counter, paused, draining, pinned, pushed_back_until FROM hand", |row| {
            let pinned: Option<String> = row.get(3)?;
            let hand = HandState {
                paused: row.get(1)?,
                draining: row.get(2)?,
                pinned: pinned.map(|text| limits(&text)).transpose()?,
                pushed_back_until: number(row, 4)?,
            };
            Ok((text(row, 0)?.parse()?, hand))
        })?;
        Ok(hands.into_iter().filter(|(_, hand)| !hand.is_empty(now)).collect())
    }

    fn histories(&self, now: u64) -> Result<Vec<SavedHistory>, Problem> {
        let mut starts: HashMap<i64, Vec<(u64, u64)>> = HashMap::new();
        self.all("SELECT history, at, units FROM start ORDER BY history, at", |row| {
            let units = number(row, 2)?;
            if units > MAX_UNITS {
                return Err(format!("a start of {units} units").into());
            }
            let of_history = starts.entry(row.get(0)?).or_default();
            if of_history.len() as u64 == RING {
                return Err("a history of more sub-periods than a window has".into());
            }
            of_history.push((number(row, 1)?, units));
            Ok(())
        })?;
        let query = "SELECT id, counter, mode, period, counts, pace, arrival, interval, beyond, booked FROM history";
        let all = self.all(query, |row| {
            let id: i64 = row.get(0)?;
            let mode = match row.get::<_, i64>(2)? {
                0 => Mode::Window,
                1 => Mode::Smooth,
                other => return Err(format!("a history of mode {other}").into()),
            };
            let counts = match row.get::<_, i64>(4)? {
                0 => Counts::Calls,
                1 => Counts::Cost,
                other => return Err(format!("a history that counts {other}").into()),
            };
            let period = number(row, 3)?;
            if !(MIN_PERIOD..=MAX_PERIOD).contains(&Duration::from_nanos(period)) {
                return Err(format!("a history of a period of {period} ns").into());
            }
            let mut starts = starts.remove(&id).unwrap_or_default();
            starts.retain(|(at, units)| *units > 0 && at.saturating_add(period) > now);
            let smooth = SmoothState { arrival: number(row, 6)?, interval: number(row, 7)?, beyond: number(row, 8)? };
            let history = SavedHistory {
                counter: text(row, 1)?.parse()?,
                kind: RateKind { mode, period, counts, pace: number(row, 5)? },
                starts,
                smooth: (mode == Mode::Smooth).then_some(smooth),
                booked: row.get(9)?,
            };
            let lives = history.booked > 0
                || !history.starts.is_empty()
                || history.smooth.is_some_and(|smooth| smooth.arrival > now);
            Ok((id, lives.then_some(history)))
        })?;
        for (id, _) in all.iter().filter(|(_, history)| history.is_none()) {
            self.transaction.prepare_cached("DELETE FROM start WHERE history = ?")?.execute([id])?;
            self.transaction.prepare_cached("DELETE FROM history WHERE id = ?")?.execute([id])?;
        }
        Ok(all.into_iter().filter_map(|(_, history)| history).collect())
    }

    fn leases(&self, now: u64, shards: u16) -> Result<Vec<SavedLease>, Problem> {
        // What has ended while nobody was there.
        self.transaction.execute("DELETE FROM lease WHERE ends_at <= ? AND key IS NULL", [sql(now)])?;
        self.transaction.execute(
            "UPDATE lease SET ended = 'expired', ended_at = ends_at WHERE ends_at <= ? AND ended IS NULL",
            [sql(now)],
        )?;
        let kept = now.saturating_sub(crate::clock::nanos(KEPT));
        self.transaction.execute("DELETE FROM lease WHERE ended_at <= ?", [sql(kept)])?;
        let query = "SELECT secret, shard, fence, caller, key, request, cost, granted_at, ends_at, ended, ended_at FROM lease ORDER BY fence";
        self.all(query, |row| {
            let secret: [u8; 16] = row.get(0)?;
            let (caller, key): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
            let caller = caller.map(|name| self.callers.caller(&name)).unwrap_or_default();
            let form: RequestForm = serde_json::from_str(&text(row, 5)?)?;
            let request = form.request(caller, key.as_deref())?;
            let ended: Option<String> = row.get(9)?;
            let ended = match ended {
                None => None,
                Some(text) => {
                    let how = Ended::parse(&text).ok_or_else(|| format!("a lease that has ended as `{text}`"))?;
                    Some((how, number(row, 10)?))
                }
            };
            let shard = row.get(1)?;
            if shard >= shards {
                return Err(format!("a lease in shard {shard} of {shards}").into());
            }
            let lease = GrantedLease {
                secret: u128::from_be_bytes(secret),
                shard,
                fence: number(row, 2)?,
                request,
                settled: row.get(6)?,
                granted_at: number(row, 7)?,
                ends_at: number(row, 8)?,
            };
            Ok(SavedLease { lease, ended })
        })
    }
}

fn get<T: FromSql>(row: &Row<'_>, index: usize) -> Result<T, Problem> {
    Ok(row.get(index)?)
}

fn text(row: &Row<'_>, index: usize) -> Result<String, Problem> {
    get(row, index)
}

fn number(row: &Row<'_>, index: usize) -> Result<u64, Problem> {
    get(row, index).map(unsql)
}

/// A number that others are counted on from.
pub(super) fn within(number: u64, what: &str) -> Result<u64, Problem> {
    if number > MAX_NUMBER { Err(format!("{what} {number}").into()) } else { Ok(number) }
}

fn limits(text: &str) -> Result<Limits, Problem> {
    serde_json::from_str::<LimitsForm>(text)?.try_into()
}

fn spec(text: &str) -> Result<RuleSpec, Problem> {
    serde_json::from_str::<RuleForm>(text)?.try_into()
}
