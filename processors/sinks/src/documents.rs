//! A target that keeps documents: what all of them have in common.
//!
//! Such a target keeps no positions. Documents say where they came from, and the server itself
//! refuses to let an older record replace a younger one, so records may come again and late writers
//! change nothing.

use conveyor_processors::applier::BatchError;
use conveyor_processors::store::{OwnerEpoch, StoreError};
use conveyor_processors::{DecodeError, TopicPartition};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::buffer::{Grouping, Part};
use crate::document::{Document, Mapping};
use crate::target::{Rejects, Start, Target, take_out};

/// What became of one document.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is there, or a younger one is.
    Done,
    /// It can never be written.
    Rejected(DecodeError),
    /// Not now.
    Later(String),
}

/// A server that takes documents.
pub trait DocumentWriter: Send + Sync + 'static {
    /// What it is and where, for people, without secrets.
    fn describe(&self) -> String;

    /// Looks whether it is there.
    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Writes documents; an outcome for each, in their order. An error: nothing is known of any.
    fn write<'a>(
        &'a self,
        documents: &'a [Document],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>>;
}

/// A target made of a server and a mapping.
#[derive(Debug)]
pub struct Documents<W> {
    writer: W,
    mapping: Mapping,
}

impl<W: DocumentWriter> Documents<W> {
    /// Writes what `mapping` makes of records.
    pub const fn new(writer: W, mapping: Mapping) -> Self {
        Self { writer, mapping }
    }

    async fn write_parts(
        &self,
        parts: &mut [Part],
        rejects: &Rejects<'_>,
    ) -> Result<(), BatchError> {
        let mut documents = Vec::new();
        for part in &mut *parts {
            let mapped = self.map(part);
            rejects.publish(part, mapped.rejected).await?;
            take_out(&mut part.records, mapped.silent.into_iter());
            documents.extend(mapped.documents);
        }
        if documents.is_empty() {
            return Ok(());
        }
        let outcomes = self.writer.write(&documents).await?;
        drop(documents);
        let mut outcomes = outcomes.into_iter();
        let mut later = None;
        for part in parts {
            let (mut done, mut rejected, mut left) = (Vec::new(), Vec::new(), 0);
            for (index, outcome) in outcomes.by_ref().take(part.records.len()).enumerate() {
                match outcome {
                    Outcome::Done => done.push(index),
                    // Its index once the others are out.
                    Outcome::Rejected(error) => {
                        rejected.push((index - done.len(), error));
                        left += 1;
                    }
                    Outcome::Later(reason) => {
                        later.get_or_insert((reason, 0)).1 += 1;
                        left += 1;
                    }
                }
            }
            take_out(&mut part.records, done.into_iter());
            debug_assert_eq!(part.records.len(), left);
            rejects.publish(part, rejected).await?;
        }
        later.map_or(Ok(()), |(reason, count)| {
            Err(BatchError::Store(StoreError::Unavailable {
                store: self.writer.describe(),
                reason: format!("{count} documents have to wait: {reason}"),
            }))
        })
    }

    /// The documents of a part.
    fn map(&self, part: &Part) -> Mapped {
        let mut mapped = Mapped::default();
        for (index, record) in part.records.iter().enumerate() {
            match self.mapping.document(record) {
                Ok(Some(document)) => mapped.documents.push(document),
                // Its index once the rejected ones are out.
                Ok(None) => mapped.silent.push(index - mapped.rejected.len()),
                Err(error) => mapped.rejected.push((index, error)),
            }
        }
        mapped
    }
}

/// What the records of a part are.
#[derive(Default)]
struct Mapped {
    documents: Vec<Document>,
    /// Records that say nothing.
    silent: Vec<usize>,
    rejected: Vec<(usize, DecodeError)>,
}

impl<W: DocumentWriter> Target for Documents<W> {
    fn describe(&self) -> String {
        self.writer.describe()
    }

    fn grouping(&self) -> Grouping {
        Grouping::Together
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.writer.prepare()
    }

    fn claim<'a>(
        &'a self,
        _owner_epoch: OwnerEpoch,
        _partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, Result<Option<Vec<Start>>, StoreError>> {
        async { Ok(None) }.boxed()
    }

    fn write<'a>(
        &'a self,
        parts: &'a mut [Part],
        rejects: &'a Rejects<'a>,
    ) -> BoxFuture<'a, Result<(), BatchError>> {
        self.write_parts(parts, rejects).boxed()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use conveyor_processors::rejected::{PublishError, Rejected, RejectedSink};
    use conveyor_processors::{Source, SourceRecord};
    use parking_lot::Mutex;

    use super::*;
    use crate::settings::Decode;

    /// Takes a document at the second try, refuses those of field `bad`, keeps the ids.
    #[derive(Default)]
    struct Twice {
        seen: Mutex<Vec<String>>,
        kept: Mutex<Vec<String>>,
    }

    impl DocumentWriter for Twice {
        fn describe(&self) -> String {
            "twice".to_owned()
        }

        fn prepare(&self) -> BoxFuture<'_, Result<(), StoreError>> {
            async { Ok(()) }.boxed()
        }

        fn write<'a>(
            &'a self,
            documents: &'a [Document],
        ) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
            let one = |document: &Document| {
                if document.fields.as_ref().unwrap().contains_key("bad") {
                    return Outcome::Rejected(DecodeError::new("bad", "it is"));
                }
                let id = document.id.clone();
                if id.ends_with('1') && !self.seen.lock().contains(&id) {
                    self.seen.lock().push(id);
                    return Outcome::Later("busy".to_owned());
                }
                self.kept.lock().push(id);
                Outcome::Done
            };
            let outcomes = documents.iter().map(one).collect();
            async { Ok(outcomes) }.boxed()
        }
    }

    #[derive(Default)]
    struct Errors(Mutex<Vec<(i64, String)>>);

    impl RejectedSink for Errors {
        fn publish<'a>(
            &'a self,
            rejected: &'a [Rejected],
        ) -> BoxFuture<'a, Result<(), PublishError>> {
            let one = |r: &Rejected| (r.record.source.offset.value(), r.error_name.clone());
            self.0.lock().extend(rejected.iter().map(one));
            async { Ok(()) }.boxed()
        }
    }

    fn part(values: &[Option<&str>]) -> Part {
        let record = |(offset, value): (usize, Option<&str>)| SourceRecord {
            source: Source {
                topic: "t".into(),
                partition: 0,
                offset: (offset as i64).into(),
                timestamp_ms: 0,
            },
            key: None,
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        };
        Part {
            topic_partition: TopicPartition::new("t", 0),
            owner_epoch: OwnerEpoch(1),
            from: None,
            to: (values.len() as i64).into(),
            records: values.iter().copied().enumerate().map(record).collect(),
            rejected: 0,
        }
    }

    #[tokio::test]
    async fn only_what_is_not_done_is_given_again() {
        let mapping = Mapping::new(Decode::Json, crate::settings::DocumentSettings::default());
        let target = Documents::new(Twice::default(), mapping);
        let errors = Errors::default();
        let rejects = Rejects::new(&errors, "g");
        let mut parts = [
            part(&[Some("?"), None, Some("{}"), Some("{\"bad\":1}"), Some("{}")]),
            part(&[Some("{}"), Some("{}")]),
        ];
        let error = target.write(&mut parts, &rejects).await.unwrap_err();
        assert!(
            error.is_retriable() && error.to_string().contains("1 documents have to wait: busy")
        );
        assert_eq!((parts[0].records.len(), parts[1].records.len()), (0, 1));
        target.write(&mut parts, &rejects).await.unwrap();
        assert!(parts.iter().all(|part| part.records.is_empty()));
        let kept = &*target.writer.kept.lock();
        assert_eq!(kept, &["t-0-2", "t-0-4", "t-0-0", "t-0-1"]);
        let expected = [
            (0, "conveyor.decode.NotJson".to_owned()),
            (3, "bad".to_owned()),
        ];
        assert_eq!(*errors.0.lock(), expected);
        assert_eq!((parts[0].rejected, parts[1].rejected), (2, 0));
    }
}
