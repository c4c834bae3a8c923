//! Objects in S3 (or a folder), with each record in exactly one of them.
//!
//! ```text
//! PREFIX/topic=orders/dt=2026-11-23/hour=04/partition=3/00000000000000001234-00000000000000002233.jsonl.zst
//! PREFIX/_conveyor/topic=orders/partition=3.json        where partition 3 stands, and who owns it
//! ```
//!
//! A part is a range of offsets of one partition. It is written in three steps, each of which can be
//! repeated:
//!
//! 1. the position says which part is about to be written, and in which format;
//! 2. the part's objects are written, one for each hour that its events happened in. Their names and
//!    what is in them depend on the part alone, so writing them again changes nothing;
//! 3. the position moves behind the part.
//!
//! Whoever goes on after a crash finds the part that was begun and writes exactly that one again,
//! whatever the settings are by then. Positions change by conditional writes and hold the epoch of
//! their owner: an instance that has lost its partition cannot begin another part, and the one that
//! it had begun has the same objects for both. The position wins over the group's offset.

mod json_lines;
mod lines;
mod parquet;
mod position;
mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_processors::TopicPartition;
use conveyor_processors::applier::BatchError;
use conveyor_processors::store::{OwnerEpoch, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use self::lines::{Line, hour_of, read};
use self::position::{Held, Position, Writing};
use self::storage::Storage;
use crate::buffer::{Grouping, Part};
use crate::settings::{Decode, S3Settings};
use crate::target::{Rejects, Start, Target};

/// Bytes that wait in all partitions together, before the largest part is written early.
const WAITING_BYTES_MAX: usize = 256 << 20;

/// Writes objects under one prefix.
#[derive(Debug)]
pub struct S3Target {
    sink: String,
    storage: Arc<Storage>,
    decode: Decode,
    encoding: position::Encoding,
    take_over: bool,
    held: Mutex<BTreeMap<TopicPartition, Held>>,
}

impl S3Target {
    /// A target for one sink. A server that is away is no error. `take_over`: own partitions even if
    /// a newer owner is known.
    pub fn open(
        sink: &str,
        settings: &S3Settings,
        decode: Decode,
        take_over: bool,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            sink: sink.to_owned(),
            storage: Arc::new(Storage::open(settings)?),
            decode,
            encoding: position::Encoding {
                format: settings.format,
                compression: settings.compression,
            },
            take_over,
            held: Mutex::default(),
        })
    }

    async fn claim_all(
        &self,
        owner_epoch: OwnerEpoch,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Start>, StoreError> {
        let mut starts = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let held = self.claim_one(owner_epoch, partition).await?;
            starts.push(Start {
                topic_partition: partition.clone(),
                next_offset: held.position.next_offset.map(Into::into),
                redo_until: held
                    .position
                    .writing
                    .as_ref()
                    .map(|writing| writing.to.into()),
            });
            self.held.lock().insert(partition.clone(), held);
        }
        Ok(starts)
    }

    async fn claim_one(
        &self,
        owner_epoch: OwnerEpoch,
        partition: &TopicPartition,
    ) -> Result<Held, StoreError> {
        loop {
            let found = self.storage.read_position(partition).await?;
            let mut position = match &found {
                Some(held) => held.position.clone(),
                None => Position::begin(&self.sink, partition),
            };
            if position.sink != self.sink {
                return Err(self.storage.failed(&format!(
                    "sink {} writes under s3.url already: give each sink a prefix of its own",
                    position.sink
                )));
            }
            if position.owner_epoch > owner_epoch.0 && !self.take_over {
                return Err(self.fenced(partition, position.owner_epoch, owner_epoch));
            }
            position.owner_epoch = owner_epoch.0;
            // Somebody else may claim or write meanwhile: look again.
            if let Some(held) = self
                .storage
                .swap(partition, found.as_ref(), position)
                .await?
            {
                return Ok(held);
            }
        }
    }

    fn fenced(&self, partition: &TopicPartition, stored: i64, offered: OwnerEpoch) -> StoreError {
        StoreError::Fenced {
            projection: self.sink.clone(),
            topic_partition: partition.clone(),
            stored: OwnerEpoch(stored),
            offered,
        }
    }

    /// Changes the position of a partition that is ours.
    async fn advance(&self, part: &Part, change: impl Fn(&mut Position)) -> Result<(), StoreError> {
        let partition = &part.topic_partition;
        let held = self.held.lock().get(partition).cloned();
        let Some(held) = held.filter(|held| held.position.owner_epoch == part.owner_epoch.0) else {
            return Err(self.fenced(partition, part.owner_epoch.0, part.owner_epoch));
        };
        let mut wanted = held.position.clone();
        change(&mut wanted);
        if wanted == held.position {
            return Ok(());
        }
        let now = match self
            .storage
            .swap(partition, Some(&held), wanted.clone())
            .await?
        {
            Some(now) => now,
            None => self.after_refusal(part, &wanted).await?,
        };
        self.held.lock().insert(partition.clone(), now);
        Ok(())
    }

    /// The position was not what it was known to be: an answer of ours got lost, or it is somebody
    /// else's now.
    async fn after_refusal(&self, part: &Part, wanted: &Position) -> Result<Held, StoreError> {
        let partition = &part.topic_partition;
        let found = self.storage.read_position(partition).await?;
        match found {
            Some(found) if found.position == *wanted => Ok(found),
            Some(found) if found.position.owner_epoch > part.owner_epoch.0 => {
                let stored = found.position.owner_epoch;
                Err(self.fenced(partition, stored, part.owner_epoch))
            }
            found => Err(StoreError::NotAtPosition {
                projection: self.sink.clone(),
                topic_partition: partition.clone(),
                found: found.and_then(|held| held.position.next_offset.map(Into::into)),
                expected: part.from,
            }),
        }
    }

    async fn write_part(&self, part: &mut Part, rejects: &Rejects<'_>) -> Result<(), BatchError> {
        let first = part.records.first().map(|record| record.source.offset);
        let (lines, rejected) = read(self.decode, &part.records);
        rejects.publish(part, rejected).await?;
        let from = part.from.or(first).unwrap_or(part.to);
        let writing = self.begun(part).unwrap_or_else(|| Writing {
            from: from.value(),
            to: part.to.value(),
            encoding: self.encoding,
        });
        let begin = writing.clone();
        self.advance(part, |position| position.writing = Some(begin.clone()))
            .await?;
        self.write_objects(part, lines, &writing).await?;
        let to = part.to.value();
        self.advance(part, |position| {
            position.next_offset = Some(to);
            position.writing = None;
        })
        .await?;
        part.records.clear();
        Ok(())
    }

    /// The part that the position says was begun, if it is this one.
    fn begun(&self, part: &Part) -> Option<Writing> {
        let held = self.held.lock();
        let writing = held.get(&part.topic_partition)?.position.writing.clone()?;
        (writing.to == part.to.value()).then_some(writing)
    }

    async fn write_objects(
        &self,
        part: &Part,
        lines: Vec<Line>,
        writing: &Writing,
    ) -> Result<(), StoreError> {
        let mut hours: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for line in lines {
            hours.entry(hour_of(line.time_ms)).or_default().push(line);
        }
        for (hour, lines) in hours {
            let name = writing.object_name(&part.topic_partition, &hour);
            let encoding = writing.encoding;
            let encoded = tokio::task::spawn_blocking(move || encoding.encode(&lines)).await;
            let encoded = encoded.map_err(|error| self.storage.failed(&error.to_string()))?;
            let encoded = encoded.map_err(|reason| self.storage.failed(&reason))?;
            self.storage.put(&name, encoded).await?;
        }
        Ok(())
    }
}

impl Target for S3Target {
    fn describe(&self) -> String {
        self.storage.name().to_owned()
    }

    fn grouping(&self) -> Grouping {
        Grouping::Apart {
            bytes_max: WAITING_BYTES_MAX,
        }
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.storage.look().boxed()
    }

    fn claim<'a>(
        &'a self,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, Result<Option<Vec<Start>>, StoreError>> {
        async move { self.claim_all(owner_epoch, partitions).await.map(Some) }.boxed()
    }

    fn write<'a>(
        &'a self,
        parts: &'a mut [Part],
        rejects: &'a Rejects<'a>,
    ) -> BoxFuture<'a, Result<(), BatchError>> {
        async move {
            for part in parts {
                self.write_part(part, rejects).await?;
            }
            Ok(())
        }
        .boxed()
    }
}
