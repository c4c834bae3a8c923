//! Where each projection stands, and who may move it on.

use conveyor_processors::record::TopicPartition;
use conveyor_processors::store::{Advance, OwnerEpoch, Position, StoreError};
use conveyor_record::Offset;
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::Failure;

/// What the file says about one partition.
struct Held {
    next_offset: Option<Offset>,
    owner_epoch: OwnerEpoch,
}

pub(super) fn claim(
    tx: &Transaction<'_>,
    projection: &str,
    owner_epoch: OwnerEpoch,
    partitions: &[TopicPartition],
    take_over: bool,
) -> Result<Vec<Position>, Failure> {
    let mut positions = Vec::with_capacity(partitions.len());
    for topic_partition in partitions {
        let held = find(tx, projection, topic_partition)?;
        if let Some(held) = &held
            && held.owner_epoch > owner_epoch
            && !take_over
        {
            return Err(fenced(projection, topic_partition, held, owner_epoch));
        }
        tx.prepare_cached(
            "INSERT INTO _conveyor_positions (projection, topic, partition, owner_epoch)
             VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (projection, topic, partition)
             DO UPDATE SET owner_epoch = excluded.owner_epoch",
        )?
        .execute((
            projection,
            &*topic_partition.topic,
            topic_partition.partition,
            owner_epoch.0,
        ))?;
        if let Some(next_offset) = held.and_then(|held| held.next_offset) {
            let topic_partition = topic_partition.clone();
            positions.push(Position {
                topic_partition,
                next_offset,
                owner_epoch,
            });
        }
    }
    Ok(positions)
}

/// Whether the batch follows on, and whether whoever brings it is still the owner.
pub(super) fn check(
    tx: &Transaction<'_>,
    projection: &str,
    advances: &[Advance],
) -> Result<(), Failure> {
    for advance in advances {
        let held = find(tx, projection, &advance.topic_partition)?;
        if let Some(held) = &held
            && held.owner_epoch != advance.owner_epoch
        {
            let topic_partition = &advance.topic_partition;
            return Err(fenced(
                projection,
                topic_partition,
                held,
                advance.owner_epoch,
            ));
        }
        let found = held.and_then(|held| held.next_offset);
        if found != advance.from {
            return Err(Failure::Store(StoreError::NotAtPosition {
                projection: projection.to_owned(),
                topic_partition: advance.topic_partition.clone(),
                found,
                expected: advance.from,
            }));
        }
    }
    Ok(())
}

pub(super) fn advance(
    tx: &Transaction<'_>,
    projection: &str,
    advances: &[Advance],
) -> Result<(), Failure> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO _conveyor_positions (projection, topic, partition, next_offset, owner_epoch)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (projection, topic, partition)
         DO UPDATE SET next_offset = excluded.next_offset",
    )?;
    for advance in advances {
        let TopicPartition { topic, partition } = &advance.topic_partition;
        let (to, owner_epoch) = (advance.to.value(), advance.owner_epoch.0);
        statement.execute((projection, &**topic, partition, to, owner_epoch))?;
    }
    Ok(())
}

pub(super) fn read(connection: &Connection, projection: &str) -> Result<Vec<Position>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT topic, partition, next_offset, owner_epoch FROM _conveyor_positions
         WHERE projection = ?1 AND next_offset IS NOT NULL ORDER BY topic, partition",
    )?;
    let positions = statement.query_map([projection], |row| {
        Ok(Position {
            topic_partition: TopicPartition::new(row.get::<_, String>(0)?, row.get(1)?),
            next_offset: Offset(row.get(2)?),
            owner_epoch: OwnerEpoch(row.get(3)?),
        })
    })?;
    Ok(positions.collect::<Result<_, _>>()?)
}

fn find(
    tx: &Transaction<'_>,
    projection: &str,
    topic_partition: &TopicPartition,
) -> Result<Option<Held>, Failure> {
    let mut statement = tx.prepare_cached(
        "SELECT next_offset, owner_epoch FROM _conveyor_positions
         WHERE projection = ?1 AND topic = ?2 AND partition = ?3",
    )?;
    let key = (
        projection,
        &*topic_partition.topic,
        topic_partition.partition,
    );
    let held = statement.query_row(key, |row| {
        Ok(Held {
            next_offset: row.get::<_, Option<i64>>(0)?.map(Offset),
            owner_epoch: OwnerEpoch(row.get(1)?),
        })
    });
    Ok(held.optional()?)
}

fn fenced(
    projection: &str,
    topic_partition: &TopicPartition,
    held: &Held,
    offered: OwnerEpoch,
) -> Failure {
    Failure::Store(StoreError::Fenced {
        projection: projection.to_owned(),
        topic_partition: topic_partition.clone(),
        stored: held.owner_epoch,
        offered,
    })
}
