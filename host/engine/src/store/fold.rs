//! Folding: what the journal holds comes into the tables, and each row is written once, however often it has changed meanwhile.

use super::Entry;
use super::database::{code_of_counts, code_of_mode, sql};
use super::forms::{LimitsForm, RequestForm, RuleForm, json};
use crate::callers::Callers;
use crate::keys::KEPT;
use hashbrown::{HashMap, HashSet};
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeMap;
use weir_limiter::{GrantedLease, HandState, Mode, RateKind, Record, SmoothState};

/// A window's starts are kept by sub-period, in a ring that is longer than any window.
const SUB_PERIODS: u64 = 1_024;
pub(super) const RING: u64 = SUB_PERIODS + 4;

/// What has become of one history.
#[derive(Debug, Default)]
struct Change {
    smooth: Option<SmoothState>,
    booked: Option<u32>,
    /// By sub-period: the last instant, and how many units.
    starts: BTreeMap<u64, (u64, u64)>,
}

/// What has become of histories, by counter.
type Changes<'a> = HashMap<&'a str, BTreeMap<RateKind, Change>>;

/// Brings entries into the tables, up to row `last` of the journal.
pub(super) fn fold(
    transaction: &Transaction<'_>,
    entries: &[Entry],
    callers: &Callers,
    now: u64,
    last: i64,
) -> rusqlite::Result<()> {
    let brief = brief(entries);
    let mut changes = Changes::new();
    for entry in entries {
        match entry {
            entry if concerns(entry).is_some_and(|secret| brief.contains(&secret)) => {}
            Entry::Record(record) => fold_record(transaction, record, callers, &mut changes)?,
            Entry::Unanswered(secret) => unanswered(transaction, *secret)?,
            Entry::Book { version, put, deleted } => {
                for rule in put {
                    let values = params![
                        rule.pattern.as_str(),
                        json(&RuleForm::from(&rule.spec)),
                        sql(rule.version),
                        sql(rule.last_modified)
                    ];
                    transaction.prepare_cached("INSERT OR REPLACE INTO rule VALUES (?, ?, ?, ?)")?.execute(values)?;
                }
                for pattern in deleted {
                    transaction.prepare_cached("DELETE FROM rule WHERE pattern = ?")?.execute([pattern.as_str()])?;
                }
                transaction.execute("UPDATE meta SET book_version = ?", [sql(*version)])?;
            }
            Entry::FileRules(rules) => {
                transaction.execute("DELETE FROM file_rule", [])?;
                for (pattern, spec) in rules {
                    let values = params![pattern.as_str(), json(&RuleForm::from(spec))];
                    transaction.prepare_cached("INSERT INTO file_rule VALUES (?, ?)")?.execute(values)?;
                }
            }
        }
    }
    for (counter, changes) in &changes {
        write_changes(transaction, counter, changes)?;
    }
    let kept = now.saturating_sub(crate::clock::nanos(KEPT));
    transaction.prepare_cached("DELETE FROM lease WHERE ended_at <= ?")?.execute([sql(kept)])?;
    let silent = "DELETE FROM hand WHERE NOT paused AND NOT draining AND pinned IS NULL AND pushed_back_until <= ?";
    transaction.prepare_cached(silent)?.execute([sql(now)])?;
    transaction.prepare_cached("UPDATE meta SET folded = ?")?.execute([last]).map(drop)
}

/// The leases that begin and end within a batch: but for their starts, nothing of them needs to be written.
fn brief(entries: &[Entry]) -> HashSet<u128> {
    let ended = entries.iter().filter_map(|entry| match entry {
        Entry::Record(Record::Ended { secret, .. }) => Some(*secret),
        _ => None,
    });
    let ended: HashSet<u128> = ended.collect();
    let unanswered = entries.iter().filter_map(|entry| match entry {
        Entry::Unanswered(secret) => Some(*secret),
        _ => None,
    });
    let unanswered: HashSet<u128> = unanswered.collect();
    let granted = entries.iter().filter_map(|entry| match entry {
        Entry::Record(Record::Granted(lease)) => {
            let no_key = lease.request.idempotency_key.is_none() || unanswered.contains(&lease.secret);
            no_key.then_some(lease.secret)
        }
        _ => None,
    });
    granted.filter(|secret| ended.contains(secret)).collect()
}

/// The lease that an entry is about.
fn concerns(entry: &Entry) -> Option<u128> {
    match entry {
        Entry::Record(Record::Granted(lease)) => Some(lease.secret),
        Entry::Record(
            Record::Extended { secret, .. } | Record::Settled { secret, .. } | Record::Ended { secret, .. },
        )
        | Entry::Unanswered(secret) => Some(*secret),
        _ => None,
    }
}

/// Its key is as if it had never been granted; if it still lives, it ends by itself.
fn unanswered(connection: &Connection, secret: u128) -> rusqlite::Result<()> {
    let secret = secret.to_be_bytes();
    let mut delete = connection.prepare_cached("DELETE FROM lease WHERE secret = ? AND ended IS NOT NULL")?;
    if delete.execute([secret])? == 0 {
        connection.prepare_cached("UPDATE lease SET key = NULL WHERE secret = ?")?.execute([secret])?;
    }
    Ok(())
}

fn fold_record<'a>(
    connection: &Connection,
    record: &'a Record,
    callers: &Callers,
    changes: &mut Changes<'a>,
) -> rusqlite::Result<()> {
    match record {
        Record::Granted(lease) => granted(connection, lease, callers),
        Record::Extended { secret, ends_at } => {
            let mut statement = connection.prepare_cached("UPDATE lease SET ends_at = ? WHERE secret = ?")?;
            statement.execute(params![sql(*ends_at), secret.to_be_bytes()]).map(drop)
        }
        Record::Settled { secret, cost } => {
            let mut statement = connection.prepare_cached("UPDATE lease SET cost = ? WHERE secret = ?")?;
            statement.execute(params![cost, secret.to_be_bytes()]).map(drop)
        }
        Record::Ended { secret, how, at } => {
            let secret = secret.to_be_bytes();
            let mut delete = connection.prepare_cached("DELETE FROM lease WHERE secret = ? AND key IS NULL")?;
            if delete.execute([secret])? == 0 {
                // Its idempotency key goes on saying how it has ended.
                let mut update =
                    connection.prepare_cached("UPDATE lease SET ended = ?, ended_at = ? WHERE secret = ?")?;
                update.execute(params![how.as_str(), sql(*at), secret])?;
            }
            Ok(())
        }
        Record::Started { counter, kind, at, units, smooth, booked } => {
            let change = changes.entry(counter).or_default().entry(*kind).or_default();
            change.smooth = smooth.or(change.smooth);
            change.booked = booked.or(change.booked);
            if kind.mode == Mode::Window && *units > 0 {
                let (last, sum) = change.starts.entry(bucket(*kind, *at)).or_default();
                (*last, *sum) = ((*last).max(*at), sum.saturating_add(*units));
            }
            Ok(())
        }
        Record::Refunded { counter, kind, at, units, smooth } => {
            let of_counter = changes.entry(counter).or_default();
            of_counter.entry(*kind).or_default().smooth = *smooth;
            if kind.mode == Mode::Smooth {
                return Ok(());
            }
            // What has started first is there to be taken back from.
            write_changes(connection, counter, of_counter)?;
            of_counter.clear();
            let bucket = bucket(*kind, *at);
            let mut refund = connection.prepare_cached(
                "UPDATE start SET units = max(0, units - ?5) WHERE slot = ?4 AND bucket = ?6 AND history = (SELECT id
                    FROM history WHERE counter = ?1 AND mode = 0 AND period = ?2 AND counts = ?3 AND pace = 0)",
            )?;
            let values = params![
                counter,
                sql(kind.period),
                code_of_counts(kind.counts),
                sql(bucket % RING),
                sql(*units),
                sql(bucket)
            ];
            refund.execute(values).map(drop)
        }
        Record::Hand { counter, hand } => write_hand(connection, counter, hand),
        Record::Forgotten { counter } => {
            changes.remove(counter.as_str());
            let mut starts = connection
                .prepare_cached("DELETE FROM start WHERE history IN (SELECT id FROM history WHERE counter = ?)")?;
            starts.execute([counter])?;
            connection.prepare_cached("DELETE FROM history WHERE counter = ?")?.execute([counter]).map(drop)
        }
    }
}

fn write_changes(connection: &Connection, counter: &str, changes: &BTreeMap<RateKind, Change>) -> rusqlite::Result<()> {
    for (kind, change) in changes {
        let history = history(connection, counter, *kind, change.smooth, change.booked)?;
        for (bucket, (at, units)) in &change.starts {
            let mut upsert = connection.prepare_cached(
                "INSERT INTO start VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
                    units = CASE WHEN bucket = excluded.bucket THEN units + excluded.units ELSE excluded.units END,
                    at = CASE WHEN bucket = excluded.bucket THEN max(at, excluded.at) ELSE excluded.at END,
                    bucket = excluded.bucket",
            )?;
            upsert.execute([history, sql(bucket % RING), sql(*bucket), sql(*at), sql(*units)])?;
        }
    }
    Ok(())
}

fn granted(connection: &Connection, lease: &GrantedLease, callers: &Callers) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO lease (secret, shard, fence, caller, key, request, granted_at, ends_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let caller = callers.name(lease.request.caller);
    let values = params![
        lease.secret.to_be_bytes(),
        lease.shard,
        sql(lease.fence),
        caller.as_deref(),
        lease.request.idempotency_key.as_deref(),
        json(&RequestForm::from(&lease.request)),
        sql(lease.granted_at),
        sql(lease.ends_at),
    ];
    insert.execute(values).map(drop)
}

/// The row of a history as it stands now.
fn history(
    connection: &Connection,
    counter: &str,
    kind: RateKind,
    smooth: Option<SmoothState>,
    booked: Option<u32>,
) -> rusqlite::Result<i64> {
    let smooth = smooth.unwrap_or_default();
    let mut upsert = connection.prepare_cached(
        "INSERT INTO history (counter, mode, period, counts, pace, arrival, interval, beyond, booked)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ifnull(?9, 0)) ON CONFLICT DO UPDATE SET arrival = excluded.arrival,
            interval = excluded.interval, beyond = excluded.beyond, booked = ifnull(?9, booked) RETURNING id",
    )?;
    let values = params![
        counter,
        code_of_mode(kind.mode),
        sql(kind.period),
        code_of_counts(kind.counts),
        sql(kind.pace),
        sql(smooth.arrival),
        sql(smooth.interval),
        sql(smooth.beyond),
        booked
    ];
    upsert.query_row(values, |row| row.get(0))
}

fn bucket(kind: RateKind, at: u64) -> u64 {
    at / (kind.period / SUB_PERIODS).max(1)
}

fn write_hand(connection: &Connection, counter: &str, hand: &HandState) -> rusqlite::Result<()> {
    if *hand == HandState::default() {
        return connection.prepare_cached("DELETE FROM hand WHERE counter = ?")?.execute([counter]).map(drop);
    }
    let pinned = hand.pinned.as_ref().map(|limits| json(&LimitsForm::from(limits)));
    let values = params![counter, hand.paused, hand.draining, pinned, sql(hand.pushed_back_until)];
    connection.prepare_cached("INSERT OR REPLACE INTO hand VALUES (?, ?, ?, ?, ?)")?.execute(values).map(drop)
}
