//! The server's sessions, in which transactions run.
//!
//! The server keeps a transaction of a process that was killed or frozen for a minute, and whoever
//! wants to write the same document waits for it. So each session is noted on the server *before*
//! its first transaction, with the projection and the epoch of its owner, and a new owner first ends
//! the sessions of those it follows on ([`Inner::end_sessions`]). Ending a session is never wrong: it
//! undoes what is not committed, and an owner that is alive does its transaction again.
//!
//! A store keeps one session for each projection. After a failure that says more than "you came
//! second" it takes another one, and notes it.
//!
//! Notes are small and go away by themselves: an owner at work notes its session again now and then,
//! and a claim drops notes that nobody has renewed, by a margin far above what clocks differ.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use conveyor_processors::store::OwnerEpoch;
use futures::TryStreamExt;
use mongodb::ClientSession;
use mongodb::bson::{Bson, DateTime, Document, doc};
use parking_lot::Mutex;

use super::failure::{Failure, lost_a_race};
use super::{Inner, SERVER_LIMIT, check_answer, ledger, pause};

/// The collection of the notes: `_id` is projection and session.
const COLLECTION: &str = "_conveyor_sessions";

/// How often a session in use is noted again.
const NOTED_AGAIN: Duration = Duration::from_mins(10);

/// Age at which a note is of no use to anybody.
const NOTE_AGE_MAX: Duration = Duration::from_hours(1);

/// How long to lose races before it is looked whether anybody wins them.
const STUCK: Duration = Duration::from_secs(2);

/// How long a transaction that lost against others is tried again before the driver hears of it.
const RACING_MAX: Duration = Duration::from_secs(10);

/// Sessions not in use, by projection.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    kept: Mutex<HashMap<String, Noted>>,
}

/// A session that the server knows to be ours.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) session: ClientSession,
    owner_epoch: OwnerEpoch,
    at: Instant,
}

impl Inner {
    /// A session to run a transaction of that owner in.
    pub(super) async fn session(
        &self,
        projection: &str,
        owner_epoch: OwnerEpoch,
    ) -> Result<Noted, Failure> {
        let kept = self.sessions.kept.lock().remove(projection);
        if let Some(noted) = kept {
            if noted.owner_epoch == owner_epoch && noted.at.elapsed() < NOTED_AGAIN {
                return Ok(noted);
            }
            return self.note(projection, noted.session, owner_epoch).await;
        }
        let session = self.client.start_session().await?;
        self.note(projection, session, owner_epoch).await
    }

    /// Keeps a session for the next transaction, unless it is of no more use.
    pub(super) fn keep(&self, projection: &str, noted: Noted) {
        let former = self
            .sessions
            .kept
            .lock()
            .insert(projection.to_owned(), noted);
        drop(former);
    }

    async fn note(
        &self,
        projection: &str,
        session: ClientSession,
        owner_epoch: OwnerEpoch,
    ) -> Result<Noted, Failure> {
        let id = doc! { "projection": projection, "session": session.id().clone() };
        let note = doc! { "_id": &id, "owner_epoch": owner_epoch.0, "at": DateTime::now() };
        let command = doc! {
            "update": COLLECTION,
            "updates": [{ "q": { "_id": id }, "u": note, "upsert": true }],
            "maxTimeMS": SERVER_LIMIT,
        };
        let answer = self.database.run_command(command).await?;
        check_answer(&answer, |_| false)?;
        Ok(Noted {
            session,
            owner_epoch,
            at: Instant::now(),
        })
    }

    /// Ends the sessions of owners with an epoch below `below`, or of everybody else. What cannot be
    /// ended is given up by the server in time.
    pub(super) async fn end_sessions(
        &self,
        projection: &str,
        below: Option<OwnerEpoch>,
        but: Option<&ClientSession>,
    ) -> Result<(), Failure> {
        let mut of_projection = doc! { "_id.projection": projection };
        if let Some(below) = below {
            of_projection.insert("owner_epoch", doc! { "$lt": below.0 });
        }
        let notes = self.database.collection::<Document>(COLLECTION);
        let found = notes.find(of_projection).max_time(limit()).await?;
        let found: Vec<Document> = found.try_collect().await?;
        let others = found.iter().filter_map(|note| {
            let session = note
                .get_document("_id")
                .ok()?
                .get_document("session")
                .ok()?;
            let ours = but.is_some_and(|but| but.id() == session);
            (!ours).then(|| Bson::Document(session.clone()))
        });
        let others: Vec<Bson> = others.collect();
        if others.is_empty() {
            return Ok(());
        }
        let count = others.len();
        let command = doc! { "killSessions": others, "maxTimeMS": SERVER_LIMIT };
        match self.database.run_command(command).await {
            Ok(_) => tracing::debug!(projection, count, "ended sessions of former owners"),
            Err(error) => {
                tracing::warn!(projection, %error, "could not end sessions of former owners");
            }
        }
        Ok(())
    }

    /// Drops the notes that nobody has renewed.
    pub(super) async fn forget_sessions(&self, projection: &str) -> Result<(), Failure> {
        let age_max_ms = i64::try_from(NOTE_AGE_MAX.as_millis()).unwrap_or(i64::MAX);
        let limit = DateTime::from_millis(DateTime::now().timestamp_millis() - age_max_ms);
        let old = doc! { "_id.projection": projection, "at": { "$lt": limit } };
        let command = doc! {
            "delete": COLLECTION,
            "deletes": [{ "q": old, "limit": 0 }],
            "maxTimeMS": SERVER_LIMIT,
        };
        check_answer(&self.database.run_command(command).await?, |_| false)
    }
}

/// The longest that the server may take over one command.
pub(super) fn limit() -> Duration {
    Duration::from_millis(u64::from(SERVER_LIMIT.unsigned_abs()))
}

/// A transaction that is tried until it loses no race.
#[derive(Debug)]
pub(super) struct Racing {
    begun: Instant,
    tries: u32,
    /// The ledger's number when it was last looked at, and when.
    seen: (Option<i64>, Instant),
}

impl Racing {
    pub(super) fn new() -> Self {
        let begun = Instant::now();
        Self {
            begun,
            tries: 0,
            seen: (None, begun),
        }
    }

    /// Waits a little if the failure is a lost race and there is time left; else gives it back.
    /// Where nobody wins, whoever holds the ledger is stuck: its session is ended.
    pub(super) async fn again(
        &mut self,
        inner: &Inner,
        projection: &str,
        failure: Failure,
    ) -> Result<(), Failure> {
        if !lost_a_race(&failure) || self.begun.elapsed() > RACING_MAX {
            return Err(failure);
        }
        self.tries += 1;
        if self.seen.1.elapsed() > STUCK {
            let found = inner.find_ledger(projection).await?;
            let seq = found.and_then(|ledger| ledger.get_i64(ledger::SEQ).ok());
            if seq.is_some() && seq == self.seen.0 {
                inner.end_sessions(projection, None, None).await?;
            }
            self.seen = (seq, Instant::now());
        }
        tokio::time::sleep(pause(self.tries, self.begun)).await;
        Ok(())
    }
}
