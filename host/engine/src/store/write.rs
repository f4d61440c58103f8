//! One batch of entries, as one row of the journal: what a commit costs does not depend on where its entries belong.
//!
//! Every [`FOLD`] entries the journal is folded into the tables, and empty again; so is what a restart finds in it.

use super::Entry;
use super::database::{Database, sql};
use super::entries::row;
use super::fold::fold;
use crate::callers::Callers;
use rusqlite::params;
use std::time::Duration;

/// After so many entries the journal is folded: that takes some tens of milliseconds, twice a second under full load, and whoever waits for a commit meanwhile waits that long.
const FOLD: usize = 65_536;
/// Where folding fails, so many entries are kept before writing fails with it.
const MAX_UNFOLDED: usize = 16 * FOLD;

impl Database {
    /// Writes entries in their order, all or none, and that `now` was seen. What was written is taken out of `batch`.
    pub(super) fn write(
        &mut self,
        batch: &mut Vec<Entry>,
        callers: &Callers,
        now: u64,
        reserve: Duration,
    ) -> rusqlite::Result<()> {
        if self.unfolded.len() >= MAX_UNFOLDED {
            self.fold(callers, now)?;
        }
        let transaction = self.connection.transaction()?;
        if !batch.is_empty() {
            let mut insert = transaction.prepare_cached("INSERT INTO journal (entries) VALUES (?)")?;
            insert.execute(params![row(batch, callers)])?;
        }
        let reserved = now.saturating_add(crate::clock::nanos(reserve));
        let values = [sql(now), sql(reserved)];
        transaction.prepare_cached("UPDATE meta SET time = ?, fence = ?")?.execute(values)?;
        transaction.commit()?;
        let idle = batch.is_empty();
        self.unfolded.append(batch);
        if self.unfolded.len() >= FOLD || idle {
            // What is written is written: a fold that fails is tried again after the next batch.
            if let Err(error) = self.fold(callers, now) {
                tracing::debug!(%error, "the journal is not folded");
            }
        }
        Ok(())
    }

    /// Brings what the journal holds into the tables.
    pub(super) fn fold(&mut self, callers: &Callers, now: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        fold(&transaction, &self.unfolded, callers, now)?;
        transaction.commit()?;
        self.unfolded.clear();
        Ok(())
    }
}
