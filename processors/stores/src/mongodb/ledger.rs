//! The document that holds a projection together: its positions, the number of its last
//! transaction and, on a server without transactions, what that one writes.

use conveyor_processors::record::TopicPartition;
use conveyor_processors::store::{Advance, OwnerEpoch, Position};
use conveyor_record::Offset;
use mongodb::bson::{Bson, Document, doc};

use crate::fence::Held;

/// The collection of these documents.
pub(super) const COLLECTION: &str = "_conveyor_positions";

/// Field of the document's number.
pub(super) const SEQ: &str = "seq";

/// A projection's document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ledger {
    /// Grows by one with each change.
    pub(super) seq: i64,
    pub(super) held: Vec<Held>,
    /// Committed, and perhaps not yet in all rows.
    pub(super) pending: Vec<Write>,
    /// Number of the switch that has ended the build's time as the live one; 0: none has.
    pub(super) retired_by: i64,
    /// Number of the switch that has made it live.
    pub(super) adopted_by: i64,
}

/// One row as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    pub(super) table: String,
    pub(super) id: Bson,
    /// `None`: gone.
    pub(super) document: Option<Document>,
}

impl Ledger {
    /// Reads a document; an error says what is wrong with it.
    pub(super) fn from_document(document: &Document) -> Result<Self, String> {
        Self::parse(document)
            .ok_or_else(|| format!("a document of {COLLECTION} is not what this program writes"))
    }

    fn parse(document: &Document) -> Option<Self> {
        let mut held = Vec::new();
        for position in document.get_array("positions").ok()? {
            let position = position.as_document()?;
            let next_offset = match position.get("next_offset")? {
                Bson::Null => None,
                offset => Some(Offset(offset.as_i64()?)),
            };
            held.push(Held {
                topic_partition: TopicPartition::new(
                    position.get_str("topic").ok()?,
                    position.get_i32("partition").ok()?,
                ),
                next_offset,
                owner_epoch: OwnerEpoch(position.get_i64("owner_epoch").ok()?),
            });
        }
        let mut pending = Vec::new();
        if let Some(Bson::Array(writes)) = document.get("pending") {
            for write in writes {
                pending.push(Write::parse(write.as_document()?)?);
            }
        }
        Some(Self {
            seq: document.get_i64(SEQ).ok()?,
            held,
            pending,
            retired_by: document.get_i64("retired_by").unwrap_or_default(),
            adopted_by: document.get_i64("adopted_by").unwrap_or_default(),
        })
    }

    /// Whether a switch has made the build live, or ended its time as the live one, since somebody
    /// looked who wants to claim it as `is_live` says.
    pub(super) fn has_switched(&self, is_live: bool) -> bool {
        if is_live {
            self.retired_by != 0
        } else {
            self.adopted_by != 0 && self.retired_by == 0
        }
    }

    /// All of it but what is pending, to be set.
    pub(super) fn fields(&self) -> Document {
        doc! {
            SEQ: self.seq,
            "positions": self.positions(),
            "retired_by": self.retired_by,
            "adopted_by": self.adopted_by,
        }
    }

    /// What it holds of some partitions.
    pub(super) fn held_of_all(&self, partitions: &[TopicPartition]) -> Vec<Held> {
        let concerned = |held: &&Held| partitions.contains(&held.topic_partition);
        self.held.iter().filter(concerned).cloned().collect()
    }

    /// Where some partitions stand, in partition order.
    pub(super) fn positions_of(&self, partitions: &[TopicPartition]) -> Vec<Position> {
        let held = self.held_of_all(partitions);
        let mut positions: Vec<_> = held.iter().filter_map(Held::position).collect();
        positions.sort_by(|left, right| left.topic_partition.cmp(&right.topic_partition));
        positions
    }

    /// Gives partitions to an owner.
    pub(super) fn give(&mut self, partitions: &[TopicPartition], owner_epoch: OwnerEpoch) {
        for partition in partitions {
            self.held_of(partition, owner_epoch).owner_epoch = owner_epoch;
        }
    }

    /// Moves positions on.
    pub(super) fn advance(&mut self, advances: &[Advance]) {
        for advance in advances {
            let held = self.held_of(&advance.topic_partition, advance.owner_epoch);
            held.next_offset = Some(advance.to);
        }
    }

    fn held_of(&mut self, partition: &TopicPartition, owner_epoch: OwnerEpoch) -> &mut Held {
        let at = self
            .held
            .iter()
            .position(|h| h.topic_partition == *partition);
        let at = at.unwrap_or_else(|| {
            self.held.push(Held {
                topic_partition: partition.clone(),
                next_offset: None,
                owner_epoch,
            });
            self.held.len() - 1
        });
        &mut self.held[at]
    }

    /// The positions as stored.
    pub(super) fn positions(&self) -> Vec<Document> {
        let mut held: Vec<_> = self.held.iter().collect();
        held.sort_by(|left, right| left.topic_partition.cmp(&right.topic_partition));
        let position = |held: &Held| {
            let next_offset = held
                .next_offset
                .map_or(Bson::Null, |o| Bson::Int64(o.value()));
            doc! {
                "topic": &*held.topic_partition.topic,
                "partition": held.topic_partition.partition,
                "next_offset": next_offset,
                "owner_epoch": held.owner_epoch.0,
            }
        };
        held.into_iter().map(position).collect()
    }
}

impl Write {
    fn parse(document: &Document) -> Option<Self> {
        let stored = match document.get("document")? {
            Bson::Null => None,
            Bson::Document(stored) => Some(stored.clone()),
            _ => return None,
        };
        Some(Self {
            table: document.get_str("table").ok()?.to_owned(),
            id: document.get("id")?.clone(),
            document: stored,
        })
    }

    pub(super) fn to_document(&self) -> Document {
        let stored = self.document.clone().map_or(Bson::Null, Bson::Document);
        doc! { "table": &self.table, "id": &self.id, "document": stored }
    }
}
