//! Transactions on a server that has none: one update of the ledger's document is the commit, and
//! holds the rows until they are written.

use conveyor_processors::build::BuildName;
use conveyor_processors::record::TopicPartition;
use conveyor_processors::store::{Outcome, OwnerEpoch, Position, Unit};
use mongodb::bson::{Bson, Document, doc};

use super::documents::{GONE, SEQ};
use super::failure::{Failure, is_duplicate_code};
use super::ledger::{self, Ledger, Write};
use super::{
    DOCUMENTS_PER_COMMAND, Inner, SERVER_LIMIT, by_table, check_answer, working_set, writes_of,
};
use crate::fence;

/// Bytes of the rows that one ledger's document can hold; a document ends at 16 MiB.
const PENDING_BYTES_MAX: usize = 15 << 20;

impl Inner {
    /// Gives partitions to an owner.
    pub(super) async fn claim_by_update(
        &self,
        build: &BuildName,
        is_live: bool,
        owner_epoch: OwnerEpoch,
        partitions: &[TopicPartition],
        take_over: bool,
    ) -> Result<Vec<Position>, Failure> {
        let projection = build.as_str();
        let mut ledger = self.ledger_to_claim(projection).await?;
        if ledger.has_switched(is_live) {
            return Err(Failure::Race);
        }
        let held = ledger.held_of_all(partitions);
        fence::check_claim(projection, &held, owner_epoch, take_over)?;
        let before = ledger.seq;
        ledger.give(partitions, owner_epoch);
        ledger.seq += 1;
        self.update_ledger(projection, before, &ledger).await?;
        Ok(ledger.positions_of(partitions))
    }

    /// Writes a ledger that follows on number `before`.
    pub(super) async fn update_ledger(
        &self,
        projection: &str,
        before: i64,
        ledger: &Ledger,
    ) -> Result<(), Failure> {
        let unchanged = doc! { "_id": projection, ledger::SEQ: before, "pending": null };
        let change = doc! { "$set": ledger.fields() };
        let updated = self.ledgers().update_one(unchanged, change).await?;
        if updated.matched_count == 0 {
            return Err(Failure::Race);
        }
        Ok(())
    }

    /// The same on a server without transactions.
    pub(super) async fn journal_once(&self, unit: &mut Unit) -> Result<bool, Failure> {
        let build = self.build_to_write(&unit.declaration).await?;
        let projection = build.as_str();
        let Some(mut ledger) = self.settled_ledger(projection).await? else {
            return Err(Self::unclaimed(unit));
        };
        if self.doubts.settle(projection, &ledger.held, &unit.advances) {
            return Ok(true);
        }
        fence::check(projection, &ledger.held, &unit.advances)?;
        let found = self.load(unit, &build).await?;
        let loaded = working_set(unit, found);
        let Outcome::Commit(changes) = (unit.fold)(loaded) else {
            return Ok(false);
        };
        let unchanged = doc! { "_id": projection, "seq": ledger.seq, "pending": null };
        ledger.pending = writes_of(unit, &build, &changes)?;
        ledger.advance(&unit.advances);
        ledger.seq += 1;
        let commit = commit_document(&ledger)?;
        self.doubts.note(projection, &unit.advances);
        let updated = self.ledgers().update_one(unchanged, commit).await?;
        if updated.matched_count == 0 {
            // Unless it was ourselves: the driver sends a write again when a connection breaks.
            return Err(Failure::Race);
        }
        // It is committed. If this fails, whoever comes next writes what is left of it.
        self.write_pending(projection, &ledger).await?;
        self.doubts.clear(projection);
        Ok(true)
    }

    /// Writes what a ledger has pending, each row unless it is newer, and clears it.
    pub(super) async fn write_pending(
        &self,
        projection: &str,
        ledger: &Ledger,
    ) -> Result<(), Failure> {
        for (table, writes) in by_table(&ledger.pending) {
            for writes in writes.chunks(DOCUMENTS_PER_COMMAND) {
                let updates = writes.iter().map(|write| {
                    let gone = || doc! { "_id": &write.id, GONE: true };
                    let mut document = write.document.clone().unwrap_or_else(gone);
                    document.insert(SEQ, ledger.seq);
                    let older = doc! { "_id": &write.id, SEQ: { "$lt": ledger.seq } };
                    doc! { "q": older, "u": document, "upsert": true }
                });
                let command = doc! {
                    "update": table,
                    "updates": updates.collect::<Vec<_>>(),
                    "ordered": false,
                    "writeConcern": { "w": "majority", "j": true },
                    "maxTimeMS": SERVER_LIMIT,
                };
                let answer = self.database.run_command(command).await?;
                // A newer row is in the way of the upsert: that is what the guard is for.
                check_answer(&answer, is_duplicate_code)?;
            }
        }
        let this = doc! { "_id": projection, "seq": ledger.seq };
        let cleared = doc! { "$set": { "pending": null } };
        self.ledgers().update_one(this, cleared).await?;
        Ok(())
    }
}

/// The update that commits a ledger with its pending rows.
fn commit_document(ledger: &Ledger) -> Result<Document, Failure> {
    let pending: Vec<_> = ledger.pending.iter().map(Write::to_document).collect();
    let pending = if pending.is_empty() {
        Bson::Null
    } else {
        pending.into()
    };
    let commit = doc! {
        "$set": { "seq": ledger.seq, "positions": ledger.positions(), "pending": pending }
    };
    let bytes = mongodb::bson::serialize_to_vec(&commit)
        .map_err(|error| Failure::Failed(error.to_string()))?
        .len();
    if bytes > PENDING_BYTES_MAX {
        return Err(Failure::Failed(format!(
            "a batch changes rows of {bytes} bytes, and a server without transactions can commit \
             {PENDING_BYTES_MAX} at a time: read fewer records at a time, or make the server a \
             replica set (of one member, if need be)"
        )));
    }
    Ok(commit)
}
