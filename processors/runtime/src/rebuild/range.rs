//! Which offsets of the log a rebuild is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_record::Offset;
use conveyor_sdk::admin::{AdminClient, OffsetSpec};
use conveyor_sdk::{Client, Error as SdkError, IsolationLevel, TopicPartition as SdkPartition};

use super::progress::Look;
use crate::driver::ownership::{ours, theirs};
use crate::projection::Declaration;
use crate::record::TopicPartition;
use crate::store::{Advance, Outcome, OwnerEpoch, Position, Store, StoreError, Unit};

/// A place in every partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first record there is.
    Earliest,
    /// Where the log ends now.
    Latest,
    /// This offset; where the log ends before, its end.
    Offset(Offset),
    /// The first record of this time or later, in milliseconds since the Unix epoch; where there is
    /// none, the end.
    Time(i64),
}

/// Offsets by partition.
pub type Offsets = BTreeMap<TopicPartition, Offset>;

/// All partitions of a projection's topics.
pub async fn partitions(
    client: &Client,
    declaration: &Declaration,
) -> Result<Vec<TopicPartition>, SdkError> {
    let admin = AdminClient::new(client);
    let mut partitions = Vec::new();
    for topic in declaration.sources() {
        let described = admin.describe_topic(topic).await?;
        let numbers = described.partitions.iter();
        partitions.extend(numbers.map(|p| TopicPartition::new(*topic, p.partition)));
    }
    partitions.sort();
    Ok(partitions)
}

/// Where a place is in each partition.
pub async fn offsets(
    client: &Client,
    partitions: &[TopicPartition],
    place: Place,
) -> Result<Offsets, SdkError> {
    let spec = match place {
        Place::Earliest => OffsetSpec::Earliest,
        Place::Latest => OffsetSpec::Latest,
        Place::Time(timestamp_ms) => OffsetSpec::ForTimestamp(timestamp_ms),
        // Nobody could ever come to an offset that is not there yet.
        Place::Offset(offset) => {
            let ends = listed(client, partitions, OffsetSpec::Latest).await?;
            return Ok(up_to(offset, ends));
        }
    };
    let mut found = listed(client, partitions, spec).await?;
    let young: Vec<_> = partitions
        .iter()
        .filter(|partition| !found.contains_key(partition))
        .cloned()
        .collect();
    if !young.is_empty() {
        found.extend(listed(client, &young, OffsetSpec::Latest).await?);
    }
    Ok(found)
}

/// This offset in each partition, or its end if that comes before.
fn up_to(offset: Offset, mut ends: Offsets) -> Offsets {
    for end in ends.values_mut() {
        *end = offset.min(*end);
    }
    ends
}

async fn listed(
    client: &Client,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<Offsets, SdkError> {
    let specs: Vec<(SdkPartition, _)> = partitions.iter().map(|p| (theirs(p), spec)).collect();
    let admin = AdminClient::new(client);
    let answers = admin
        .list_offsets(&specs, IsolationLevel::ReadCommitted)
        .await?;
    let mut found = Offsets::new();
    for (partition, listed) in answers {
        if let Some(offset) = listed?.offset {
            found.insert(ours(&partition), offset);
        }
    }
    Ok(found)
}

/// Lets a build that is still empty begin at these offsets; one that stands somewhere already stays
/// there.
pub async fn begin_at(
    store: &dyn Store,
    declaration: &Arc<Declaration>,
    starts: &Offsets,
) -> Result<(), StoreError> {
    // Below the epochs of all who will own it.
    let owner_epoch = OwnerEpoch(0);
    let is_new = store.positions(declaration).await?.is_empty();
    let starts: Vec<_> = starts
        .iter()
        .filter(|(_, offset)| **offset > Offset(0))
        .collect();
    if starts.is_empty() || !is_new {
        return Ok(());
    }
    let partitions: Vec<_> = starts
        .iter()
        .map(|(partition, _)| (*partition).clone())
        .collect();
    store
        .claim(declaration, owner_epoch, &partitions, false)
        .await?;
    let advance = |(partition, offset): (&TopicPartition, &Offset)| Advance {
        topic_partition: partition.clone(),
        from: None,
        to: *offset,
        owner_epoch,
    };
    let unit = Unit {
        declaration: Arc::clone(declaration),
        advances: starts.into_iter().map(advance).collect(),
        keys: Vec::new(),
        fold: Box::new(|_| Outcome::Commit(Vec::new())),
    };
    store.transact(unit).await?;
    Ok(())
}

/// Where a build stands against where it begins and ends.
pub fn looks(begins: &Offsets, ends: &Offsets, positions: &[Position]) -> Vec<Look> {
    let look = |(partition, ends): (&TopicPartition, &Offset)| {
        let position = positions.iter().find(|p| p.topic_partition == *partition);
        Look {
            topic_partition: partition.clone(),
            begins: begins.get(partition).copied().unwrap_or_default(),
            position: position.map(|position| position.next_offset),
            ends: *ends,
        }
    };
    ends.iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_that_is_not_there_yet_is_the_end() {
        let (short, long) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let ends = Offsets::from([(short.clone(), Offset(7)), (long.clone(), Offset(90))]);
        let places = up_to(Offset(25), ends);
        assert_eq!((places[&short], places[&long]), (Offset(7), Offset(25)));
    }
}
