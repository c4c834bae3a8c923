//! Transactions of the server's: short, and never begun for nothing.
//!
//! Ledger and rows are read before; every transaction of the projection changes the ledger's number,
//! so rows that were read with it are still the same if it is. They are read at read concern
//! `majority`: a number that was rolled back with its rows was then never seen.

use conveyor_processors::build::BuildName;
use conveyor_processors::record::TopicPartition;
use conveyor_processors::store::{Outcome, OwnerEpoch, Position, Unit};
use mongodb::ClientSession;
use mongodb::bson::{Document, doc};

use super::documents::SEQ;
use super::failure::{Failure, leaves_doubt};
use super::ledger::{self, Ledger, Write};
use super::sessions::{Noted, limit};
use super::{DOCUMENTS_PER_COMMAND, Inner, by_table, check_answer, working_set, writes_of};
use crate::fence;

impl Inner {
    /// One transaction of a unit; whether it wrote.
    pub(super) async fn transact_once(&self, unit: &mut Unit) -> Result<bool, Failure> {
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
        let writes = writes_of(unit, &build, &changes)?;
        let before = ledger.seq;
        ledger.advance(&unit.advances);
        ledger.seq += 1;
        let owner_epoch = unit
            .advances
            .iter()
            .map(|advance| advance.owner_epoch)
            .max();
        let owner_epoch = owner_epoch.unwrap_or(OwnerEpoch(0));
        self.doubts.note(projection, &unit.advances);
        self.commit(projection, owner_epoch, before, &ledger, &writes)
            .await?;
        self.doubts.clear(projection);
        Ok(true)
    }

    /// Gives partitions to an owner, after those it follows on have been made to let go.
    pub(super) async fn claim_once(
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
        let below = (!take_over).then_some(owner_epoch);
        self.end_sessions(projection, below, None).await?;
        let before = ledger.seq;
        ledger.give(partitions, owner_epoch);
        ledger.seq += 1;
        self.commit(projection, owner_epoch, before, &ledger, &[])
            .await?;
        self.forget_sessions(projection).await?;
        Ok(ledger.positions_of(partitions))
    }

    /// Writes a ledger that follows on number `before`, and rows.
    pub(super) async fn commit(
        &self,
        projection: &str,
        owner_epoch: OwnerEpoch,
        before: i64,
        ledger: &Ledger,
        writes: &[Write],
    ) -> Result<(), Failure> {
        let mut noted = self.session(projection, owner_epoch).await?;
        let session = &mut noted.session;
        session.start_transaction().max_commit_time(limit()).await?;
        let written = self
            .write_all(projection, before, ledger, writes, session)
            .await;
        if let Err(failure) = written {
            // What cannot be aborted is given up by the server, or ended by whoever comes next.
            let aborted = noted.session.abort_transaction().await;
            if aborted.is_ok() && failure.leaves_session_sound() {
                self.keep(projection, noted);
            }
            return Err(failure);
        }
        self.finish(projection, noted).await
    }

    async fn finish(&self, projection: &str, mut noted: Noted) -> Result<(), Failure> {
        let mut committed = noted.session.commit_transaction().await;
        if committed.as_ref().is_err_and(leaves_doubt) {
            // The server answers the second time as it would have the first.
            committed = noted.session.commit_transaction().await;
        }
        committed?;
        self.keep(projection, noted);
        Ok(())
    }

    async fn write_all(
        &self,
        projection: &str,
        before: i64,
        ledger: &Ledger,
        writes: &[Write],
        session: &mut ClientSession,
    ) -> Result<(), Failure> {
        let unchanged = doc! { "_id": projection, ledger::SEQ: before, "pending": null };
        let change = doc! { "$set": ledger.fields() };
        let command = doc! {
            "update": ledger::COLLECTION,
            "updates": [{ "q": unchanged, "u": change }],
        };
        let answer = self.in_transaction(command, session).await?;
        if answer.get_i32("n").unwrap_or_default() == 0 {
            return Err(Failure::Race);
        }
        for (table, writes) in by_table(writes) {
            self.write_rows(table, &writes, ledger.seq, session).await?;
        }
        Ok(())
    }

    async fn write_rows(
        &self,
        table: &str,
        writes: &[&Write],
        seq: i64,
        session: &mut ClientSession,
    ) -> Result<(), Failure> {
        let (mut updates, mut deletes) = (Vec::new(), Vec::new());
        for write in writes {
            match &write.document {
                Some(document) => {
                    let mut document = document.clone();
                    document.insert(SEQ, seq);
                    updates.push(doc! { "q": { "_id": &write.id }, "u": document, "upsert": true });
                }
                None => deletes.push(doc! { "q": { "_id": &write.id }, "limit": 1 }),
            }
        }
        for updates in updates.chunks(DOCUMENTS_PER_COMMAND) {
            let command = doc! { "update": table, "updates": updates.to_vec() };
            let answer = self.in_transaction(command, session).await?;
            check_all_written(&answer, table, updates.len())?;
        }
        for deletes in deletes.chunks(DOCUMENTS_PER_COMMAND) {
            let command = doc! { "delete": table, "deletes": deletes.to_vec() };
            self.in_transaction(command, session).await?;
        }
        Ok(())
    }

    /// Runs a write as part of the session's transaction.
    async fn in_transaction(
        &self,
        mut command: Document,
        session: &mut ClientSession,
    ) -> Result<Document, Failure> {
        command.insert("maxTimeMS", super::SERVER_LIMIT);
        let answer = self.database.run_command(command).session(session).await?;
        check_answer(&answer, |_| false)?;
        Ok(answer)
    }
}

/// Each row is matched or inserted; a server that says otherwise of one must not commit the position
/// past it.
fn check_all_written(answer: &Document, table: &str, asked: usize) -> Result<(), Failure> {
    let written = answer.get_i32("n").unwrap_or_default();
    if usize::try_from(written) == Ok(asked) {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the server has written {written} of {asked} rows of {table} and names no error"
    )))
}
