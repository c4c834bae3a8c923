//! Builds of a projection beside each other, and which of them is live.
//!
//! Every build has collections of its own, `atp__1`, and what is known of it under its own name,
//! `atp@1`. Readers use views, `atp`, on the collections of the live build. One document of
//! `_conveyor_projections`, the *pointer*, named like the projection, says which build that is:
//! changing it is the switch. What follows from it is done afterwards, by whoever made the switch or,
//! if that one dies, by whoever comes next ([`Inner::settled_pointer`]), in this order:
//!
//! 1. The former build's ledger is retired: no owner of the live build can claim it or write to it.
//! 2. The incoming build's ledger gets an epoch above all that the former one has seen.
//! 3. The views are turned over, each in one step.
//!
//! So a reader of one view never sees none or half of a build; of two views one may be turned over
//! some milliseconds before the other.

use conveyor_processors::build::{Build, BuildName, FIRST_TAG};
use conveyor_processors::store::OwnerEpoch;
use conveyor_processors::{Declaration, TopicPartition};
use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};

use super::failure::{Failure, is_duplicate};
use super::ledger::Ledger;
use super::schema::{self, PROJECTIONS};
use super::sessions::Racing;
use super::{Inner, check_answer, views};
use crate::declared;
use crate::fence::Held;

/// Which build of a projection is live, and what is under way.
#[derive(Clone, Debug)]
pub(super) struct Pointer {
    /// `None`: no build is live yet.
    pub(super) tag: Option<String>,
    /// Number of the last switch.
    number: i64,
    /// The tag of the build that it replaced, until all that follows from it is done.
    leaving: Option<String>,
    /// Tags of builds that are being removed.
    dropping: Vec<String>,
}

impl Pointer {
    fn from_document(document: &Document) -> Self {
        let text = |name| document.get_str(name).ok().map(str::to_owned);
        let dropping = document.get_array("dropping").map(Vec::as_slice);
        let texts = dropping.unwrap_or_default().iter().filter_map(Bson::as_str);
        Self {
            tag: text("tag"),
            number: document.get_i64("number").unwrap_or_default(),
            leaving: text("leaving"),
            dropping: texts.map(str::to_owned).collect(),
        }
    }
}

impl Inner {
    /// The build that a declaration fills: its own, or the live one. `None`: none is live yet.
    pub(super) async fn build_of(
        &self,
        declaration: &Declaration,
    ) -> Result<Option<BuildName>, Failure> {
        if let Some(build) = declaration.build() {
            return Ok(Some(build.clone()));
        }
        let pointer = self.settled_pointer(declaration.name()).await?;
        let tag = pointer.and_then(|pointer| pointer.tag);
        tag.map(|tag| name_of(declaration.name(), &tag)).transpose()
    }

    /// Refuses to fill a build under its own name that is live, or that is being removed.
    pub(super) async fn refuse_live(&self, declaration: &Declaration) -> Result<(), Failure> {
        let Some(build) = declaration.build() else {
            return Ok(());
        };
        let Some(pointer) = self.settled_pointer(build.projection()).await? else {
            return Ok(());
        };
        if pointer.tag.as_deref() == Some(build.tag()) {
            return Err(Failure::Schema(declared::is_live(build)));
        }
        if pointer.dropping.iter().any(|tag| tag == build.tag()) {
            return Err(Failure::Schema(declared::is_dropped(build)));
        }
        Ok(())
    }

    /// The projection's pointer, after all that the last switch asks for has been done.
    pub(super) async fn settled_pointer(
        &self,
        projection: &str,
    ) -> Result<Option<Pointer>, Failure> {
        let Some(pointer) = self.find_pointer(projection).await? else {
            return Ok(None);
        };
        if pointer.leaving.is_some() {
            self.finish_switch(projection, &pointer).await?;
        }
        Ok(Some(pointer))
    }

    async fn find_pointer(&self, projection: &str) -> Result<Option<Pointer>, Failure> {
        let found = schema::find(self, projection).await?;
        Ok(found.as_ref().map(Pointer::from_document))
    }

    /// The projection's pointer, made if it is missing.
    pub(super) async fn make_pointer(&self, projection: &str) -> Result<Pointer, Failure> {
        let pointers = self.collection(PROJECTIONS);
        let empty = doc! {
            "_id": projection, "tag": Bson::Null, "number": 0i64, "leaving": Bson::Null,
            "dropping": [],
        };
        if self.find_pointer(projection).await?.is_none() {
            match pointers.insert_one(empty).await {
                Err(error) if !is_duplicate(&error) => return Err(error.into()),
                _ => {}
            }
        }
        self.settled_pointer(projection).await?.ok_or(Failure::Race)
    }

    /// Changes a pointer that is as `unchanged` says; whether it was.
    async fn change_pointer(
        &self,
        projection: &str,
        mut unchanged: Document,
        change: Document,
    ) -> Result<bool, Failure> {
        unchanged.insert("_id", projection);
        let pointers = self.collection(PROJECTIONS);
        let updated = pointers.update_one(unchanged, change).await?;
        Ok(updated.matched_count > 0)
    }

    /// Makes a projection's first build the live one, unless another is.
    pub(super) async fn make_first_live(&self, projection: &str) -> Result<(), Failure> {
        let change = doc! { "$set": { "tag": FIRST_TAG } };
        self.change_pointer(projection, doc! { "tag": Bson::Null }, change)
            .await?;
        Ok(())
    }

    pub(super) async fn builds(&self) -> Result<Vec<Build>, Failure> {
        self.has_transactions().await?;
        let found = self.collection(PROJECTIONS).find(doc! {}).await?;
        let found: Vec<Document> = found.try_collect().await?;
        let (mut builds, mut live) = (Vec::new(), Vec::new());
        for noted in &found {
            let name = noted.get_str("_id").unwrap_or_default();
            let Ok(build) = name.parse::<BuildName>() else {
                let tag = Pointer::from_document(noted).tag;
                live.extend(tag.map(|tag| (name.to_owned(), tag)));
                continue;
            };
            let ledger = self.settled_ledger(name).await?;
            let held = ledger.map(|ledger| ledger.held).unwrap_or_default();
            let mut positions: Vec<_> = held.iter().filter_map(Held::position).collect();
            positions.sort_by(|left, right| left.topic_partition.cmp(&right.topic_partition));
            let (version, text) = schema::noted(noted);
            let tag = build.tag().to_owned();
            builds.push(declared::build_of(name, tag, version, text, positions));
        }
        for build in &mut builds {
            let this =
                |(name, tag): &(String, String)| *name == build.projection && *tag == build.tag;
            build.is_live = live.iter().any(this);
        }
        declared::sort(&mut builds);
        Ok(builds)
    }

    pub(super) async fn switch(&self, incoming: &BuildName) -> Result<(), Failure> {
        self.has_transactions().await?;
        let projection = incoming.projection();
        let pointer = self.settled_pointer(projection).await?;
        let live_tag = pointer.as_ref().and_then(|pointer| pointer.tag.as_deref());
        let is_there = schema::find(self, incoming.as_str()).await?.is_some();
        if !is_there || live_tag == Some(incoming.tag()) {
            return declared::missing(incoming, live_tag).map_err(Failure::Schema);
        }
        let Some(pointer) = pointer else {
            return declared::missing(incoming, None).map_err(Failure::Schema);
        };
        if pointer.dropping.iter().any(|tag| tag == incoming.tag()) {
            return Err(Failure::Schema(declared::is_dropped(incoming)));
        }
        // With no live build before, what follows is still to be done.
        let leaving = pointer.tag.clone().unwrap_or_default();
        let unchanged = doc! {
            "tag": pointer.tag.clone(), "number": pointer.number, "leaving": Bson::Null,
            "dropping": { "$ne": incoming.tag() },
        };
        let number = pointer.number + 1;
        let change = doc! {
            "$set": { "tag": incoming.tag(), "number": number, "leaving": leaving.clone() }
        };
        if !self.change_pointer(projection, unchanged, change).await? {
            return Err(Failure::Race);
        }
        let pointer = Pointer {
            tag: Some(incoming.tag().to_owned()),
            number,
            leaving: Some(leaving),
            dropping: Vec::new(),
        };
        self.finish_switch(projection, &pointer).await
    }

    /// Does what follows from a switch. May be done by several at once, and again.
    async fn finish_switch(&self, projection: &str, pointer: &Pointer) -> Result<(), Failure> {
        let (Some(leaving), Some(tag)) = (&pointer.leaving, &pointer.tag) else {
            return Ok(());
        };
        let incoming = name_of(projection, tag)?;
        let mut former = Vec::new();
        if !leaving.is_empty() {
            let kept = name_of(projection, leaving)?;
            former = self.retire(&kept, pointer.number).await?;
        }
        self.adopt(&incoming, pointer.number, &former).await?;
        views::turn_over(self, &incoming).await?;
        let unchanged = doc! { "number": pointer.number };
        let change = doc! { "$set": { "leaving": Bson::Null } };
        self.change_pointer(projection, unchanged, change).await?;
        Ok(())
    }

    /// Takes a build that is no longer live from its owners; returns what it held.
    async fn retire(&self, build: &BuildName, number: i64) -> Result<Vec<Held>, Failure> {
        self.change_ledger(build, |ledger| {
            if ledger.retired_by != number {
                let epoch = above(&ledger.held);
                ledger
                    .held
                    .iter_mut()
                    .for_each(|held| held.owner_epoch = epoch);
                ledger.retired_by = number;
            }
        })
        .await
    }

    /// Gives a build that has become live an epoch that nobody has reached.
    async fn adopt(&self, build: &BuildName, number: i64, former: &[Held]) -> Result<(), Failure> {
        // All of the former one's have the same since it was retired.
        let epoch = former.iter().map(|held| held.owner_epoch).max();
        let epoch = epoch.unwrap_or(OwnerEpoch(0));
        let partitions: Vec<TopicPartition> = former
            .iter()
            .map(|held| held.topic_partition.clone())
            .collect();
        self.change_ledger(build, |ledger| {
            if ledger.adopted_by != number {
                ledger.give(&partitions, epoch);
                ledger
                    .held
                    .iter_mut()
                    .for_each(|held| held.owner_epoch = epoch);
                ledger.adopted_by = number;
                ledger.retired_by = 0;
            }
        })
        .await?;
        Ok(())
    }

    /// Changes a build's ledger, whoever else is at work on it; returns what it then holds.
    async fn change_ledger(
        &self,
        build: &BuildName,
        change: impl Fn(&mut Ledger),
    ) -> Result<Vec<Held>, Failure> {
        let mut racing = Racing::new();
        loop {
            match self.change_ledger_once(build, &change).await {
                Err(failure) => racing.again(self, build.as_str(), failure).await?,
                done => return done,
            }
        }
    }

    async fn change_ledger_once(
        &self,
        build: &BuildName,
        change: impl Fn(&mut Ledger),
    ) -> Result<Vec<Held>, Failure> {
        let mut before = self.ledger_to_claim(build.as_str()).await?;
        let changed = |before: &Ledger| {
            let mut ledger = before.clone();
            change(&mut ledger);
            ledger
        };
        if changed(&before) == before {
            return Ok(before.held);
        }
        let has_transactions = self.has_transactions().await?;
        if has_transactions {
            // Ended before the ledger is read: to end a session can take longer than its owner needs
            // for the next transaction, and what was read before would be old each time.
            self.end_sessions(build.as_str(), None, None).await?;
            before = self.ledger_to_claim(build.as_str()).await?;
        }
        let mut ledger = changed(&before);
        ledger.seq += 1;
        if has_transactions {
            let highest = above(&ledger.held);
            self.commit(build.as_str(), highest, before.seq, &ledger, &[])
                .await?;
        } else {
            self.update_ledger(build.as_str(), before.seq, &ledger)
                .await?;
        }
        Ok(ledger.held)
    }

    pub(super) async fn drop_build(&self, build: &BuildName) -> Result<(), Failure> {
        self.has_transactions().await?;
        let Some(noted) = schema::find(self, build.as_str()).await? else {
            return Ok(());
        };
        let projection = build.projection();
        let unchanged = doc! { "tag": { "$ne": build.tag() }, "leaving": Bson::Null };
        let mark = doc! { "$addToSet": { "dropping": build.tag() } };
        self.settled_pointer(projection).await?;
        if !self.change_pointer(projection, unchanged, mark).await? {
            return Err(Failure::Schema(declared::is_live(build)));
        }
        let (_, text) = schema::noted(&noted);
        for table in declared::tables_of(text) {
            let table = build.stored_table(&table);
            self.collection(&table).drop().await?;
            self.delete(schema::TABLES, doc! { "_id": &table }).await?;
        }
        self.delete(super::ledger::COLLECTION, doc! { "_id": build.as_str() })
            .await?;
        self.delete(PROJECTIONS, doc! { "_id": build.as_str() })
            .await?;
        let unmark = doc! { "$pull": { "dropping": build.tag() } };
        self.change_pointer(projection, doc! {}, unmark).await?;
        Ok(())
    }

    async fn delete(&self, collection: &str, what: Document) -> Result<(), Failure> {
        let command = doc! {
            "delete": collection,
            "deletes": [{ "q": what, "limit": 1 }],
            "maxTimeMS": super::SERVER_LIMIT,
        };
        check_answer(&self.database.run_command(command).await?, |_| false)
    }
}

/// An epoch above all of those held.
fn above(held: &[Held]) -> OwnerEpoch {
    let highest = held.iter().map(|held| held.owner_epoch.0).max();
    OwnerEpoch(highest.map_or(0, |epoch| epoch + 1))
}

pub(super) fn name_of(projection: &str, tag: &str) -> Result<BuildName, Failure> {
    BuildName::new(projection, tag).map_err(|error| Failure::Schema(error.to_string()))
}
