//! Documents in Elasticsearch (7 or later) or `OpenSearch`, by their `_bulk` request.
//!
//! Every document is written with `version_type: external` and its record's offset as the version:
//! the server refuses whatever is not younger than what it has (409), and that counts as done. So
//! records may come again and late writers change nothing. A server remembers a deleted document's
//! version for `index.gc_deletes` (60 s unless set otherwise): a writer that was frozen for longer
//! might bring one back.
//!
//! Offsets order the records of one partition. Documents named by key or field need all records of
//! one name in one partition, as keys have them unless a topic was given more partitions.

mod answer;
mod client;

use conveyor_processors::DecodeError;
use conveyor_processors::store::StoreError;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;

use self::answer::{Verdict, verdicts};
use self::client::{Answered, Client};
use crate::document::{Document, Place};
use crate::documents::{DocumentWriter, Outcome};
use crate::settings::ElasticsearchSettings;

/// Bytes of one request; a server takes 100 MB unless set otherwise.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// The kind of a record that the server refuses, in `error-events`.
const REFUSED: &str = "conveyor.sink.elasticsearch.Refused";

/// Writes documents to one cluster.
#[derive(Debug)]
pub struct ElasticsearchWriter {
    client: Client,
    place: Place,
}

/// A part of a `_bulk` request: which documents, and their lines.
struct Request {
    indexes: Vec<usize>,
    /// Where the lines of each document end.
    ends: Vec<usize>,
    body: String,
}

impl ElasticsearchWriter {
    /// A writer. A server that is away is no error.
    pub fn open(settings: &ElasticsearchSettings) -> Result<Self, StoreError> {
        Ok(Self {
            client: Client::new(settings)?,
            place: Place::new(settings.index.as_str()),
        })
    }

    async fn write_all(&self, documents: &[Document]) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = vec![Outcome::Done; documents.len()];
        let mut request = Request::new();
        for (index, document) in documents.iter().enumerate() {
            request.add(index, document, &self.place.of(document));
            if request.body.len() >= REQUEST_BYTES_MAX {
                let full = std::mem::replace(&mut request, Request::new());
                self.send(full, &mut outcomes).await?;
            }
        }
        if !request.indexes.is_empty() {
            self.send(request, &mut outcomes).await?;
        }
        Ok(outcomes)
    }

    /// Sends a request. If it is refused as a whole, its halves, so that in the end one document is
    /// at fault.
    fn send<'a>(
        &'a self,
        request: Request,
        outcomes: &'a mut [Outcome],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            match self.client.bulk(request.body.clone()).await? {
                Answered::Bulk(answer) => self.read(&request, &answer, outcomes),
                Answered::Refused(reason) => {
                    if let [index] = request.indexes[..] {
                        let refused = DecodeError::new(REFUSED, reason);
                        outcomes[index] = Outcome::Rejected(refused);
                        return Ok(());
                    }
                    let (first, second) = request.halves();
                    self.send(first, outcomes).await?;
                    self.send(second, outcomes).await
                }
            }
        }
        .boxed()
    }

    fn read(
        &self,
        request: &Request,
        answer: &[u8],
        outcomes: &mut [Outcome],
    ) -> Result<(), StoreError> {
        let verdicts = verdicts(answer, request.indexes.len());
        let verdicts = verdicts.map_err(|reason| self.client.unavailable(reason))?;
        for (index, verdict) in request.indexes.iter().zip(verdicts) {
            outcomes[*index] = match verdict {
                Verdict::Done => Outcome::Done,
                Verdict::Later(reason) => Outcome::Later(reason),
                Verdict::Refused(reason) => Outcome::Rejected(DecodeError::new(REFUSED, reason)),
                Verdict::Setting(reason) => return Err(self.client.failed(&reason)),
            };
        }
        Ok(())
    }
}

impl Request {
    const fn new() -> Self {
        Self {
            indexes: Vec::new(),
            ends: Vec::new(),
            body: String::new(),
        }
    }

    fn add(&mut self, index: usize, document: &Document, place: &str) {
        let head = json!({
            "_index": place,
            "_id": document.id,
            "version": document.source.offset.value(),
            "version_type": "external",
        });
        let action = if document.fields.is_some() {
            "index"
        } else {
            "delete"
        };
        self.body.push_str(&json!({ action: head }).to_string());
        self.body.push('\n');
        if let Some(fields) = &document.fields {
            self.body.push_str(&json!(fields).to_string());
            self.body.push('\n');
        }
        self.indexes.push(index);
        self.ends.push(self.body.len());
    }

    /// The first half of the documents and the second; of at least two.
    fn halves(mut self) -> (Self, Self) {
        let half = self.indexes.len() / 2;
        let at = self.ends[half - 1];
        let mut second = Self {
            indexes: self.indexes.split_off(half),
            ends: self.ends.split_off(half),
            body: self.body.split_off(at),
        };
        for end in &mut second.ends {
            *end -= at;
        }
        (self, second)
    }
}

impl DocumentWriter for ElasticsearchWriter {
    fn describe(&self) -> String {
        self.client.name().to_owned()
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.client.greet().boxed()
    }

    fn write<'a>(
        &'a self,
        documents: &'a [Document],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        self.write_all(documents).boxed()
    }
}

#[cfg(test)]
mod tests {
    use conveyor_processors::Source;
    use serde_json::Map;

    use super::*;

    #[test]
    fn a_request_is_halved_between_documents() {
        let mut request = Request::new();
        let documents: Vec<_> = (0..5)
            .map(|offset| Document {
                id: format!("d{offset}"),
                source: Source {
                    topic: "t".into(),
                    partition: 0,
                    offset: offset.into(),
                    timestamp_ms: 0,
                },
                time_ms: 0,
                fields: (offset != 3).then(Map::new),
            })
            .collect();
        for (index, document) in documents.iter().enumerate() {
            request.add(index, document, "i");
        }
        let whole = request.body.clone();
        let (first, second) = request.halves();
        assert_eq!((first.indexes.len(), second.indexes.len()), (2, 3));
        assert_eq!(format!("{}{}", first.body, second.body), whole);
        let (left, right) = second.halves();
        assert!(left.body.contains("\"d2\"") && left.body.ends_with("{}\n"));
        assert!(right.body.starts_with("{\"delete\":") && right.indexes == [3, 4]);
    }
}
