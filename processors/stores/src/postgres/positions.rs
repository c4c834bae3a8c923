//! Where each projection stands, and who may move it on. A row of the position table stays locked
//! from the first look at it to the end of the transaction.

use conveyor_processors::record::TopicPartition;
use conveyor_processors::store::{Advance, OwnerEpoch};
use conveyor_record::Offset;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::connection::Failure;
use super::statements::qualified;
use crate::fence::Held;

pub(super) const TABLE: &str = "_conveyor_positions";

/// Reads and locks the positions of some partitions; those never claimed are missing.
pub(super) async fn hold(
    client: &Client,
    schema: &str,
    projection: &str,
    partitions: &[&TopicPartition],
) -> Result<Vec<Held>, Failure> {
    let table = qualified(schema, TABLE);
    let sql = format!(
        "SELECT p.topic, p.partition, p.next_offset, p.owner_epoch FROM {table} p \
         JOIN unnest($2::text[], $3::int[]) AS k(topic, partition) \
         ON p.topic = k.topic AND p.partition = k.partition WHERE p.projection = $1 \
         ORDER BY p.topic, p.partition FOR UPDATE OF p"
    );
    let (topics, numbers) = columns(partitions);
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
        (&projection, Type::TEXT),
        (&topics, Type::TEXT_ARRAY),
        (&numbers, Type::INT4_ARRAY),
    ];
    let rows = client.query_typed(&sql, &parameters).await?;
    Ok(rows.iter().map(held).collect())
}

/// Makes rows for partitions that have none, with their owner and without a position.
pub(super) async fn own(
    client: &Client,
    schema: &str,
    projection: &str,
    partitions: &[&TopicPartition],
    owner_epoch: OwnerEpoch,
) -> Result<(), Failure> {
    let table = qualified(schema, TABLE);
    let sql = format!(
        "INSERT INTO {table} (projection, topic, partition, owner_epoch) \
         SELECT $1, k.topic, k.partition, $4 \
         FROM unnest($2::text[], $3::int[]) AS k(topic, partition) \
         ORDER BY k.topic, k.partition ON CONFLICT DO NOTHING"
    );
    let (topics, numbers) = columns(partitions);
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&projection, Type::TEXT),
        (&topics, Type::TEXT_ARRAY),
        (&numbers, Type::INT4_ARRAY),
        (&owner_epoch.0, Type::INT8),
    ];
    client.execute_typed(&sql, &parameters).await?;
    Ok(())
}

/// Gives held partitions to an owner.
pub(super) async fn give(
    client: &Client,
    schema: &str,
    projection: &str,
    partitions: &[&TopicPartition],
    owner_epoch: OwnerEpoch,
) -> Result<(), Failure> {
    let table = qualified(schema, TABLE);
    let sql = format!(
        "UPDATE {table} p SET owner_epoch = $4 \
         FROM unnest($2::text[], $3::int[]) AS k(topic, partition) \
         WHERE p.projection = $1 AND p.topic = k.topic AND p.partition = k.partition"
    );
    let (topics, numbers) = columns(partitions);
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&projection, Type::TEXT),
        (&topics, Type::TEXT_ARRAY),
        (&numbers, Type::INT4_ARRAY),
        (&owner_epoch.0, Type::INT8),
    ];
    client.execute_typed(&sql, &parameters).await?;
    Ok(())
}

/// Moves held positions on. The epoch is compared once more, so that even a mistake in this program
/// could not write for somebody else.
pub(super) async fn advance(
    client: &Client,
    schema: &str,
    projection: &str,
    advances: &[Advance],
) -> Result<(), Failure> {
    let table = qualified(schema, TABLE);
    let sql = format!(
        "UPDATE {table} p SET next_offset = k.next_offset \
         FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) \
         AS k(topic, partition, next_offset, owner_epoch) \
         WHERE p.projection = $1 AND p.topic = k.topic AND p.partition = k.partition \
         AND p.owner_epoch = k.owner_epoch"
    );
    let partitions: Vec<_> = advances.iter().map(|a| &a.topic_partition).collect();
    let (topics, numbers) = columns(&partitions);
    let offsets: Vec<_> = advances.iter().map(|a| a.to.value()).collect();
    let epochs: Vec<_> = advances.iter().map(|a| a.owner_epoch.0).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&projection, Type::TEXT),
        (&topics, Type::TEXT_ARRAY),
        (&numbers, Type::INT4_ARRAY),
        (&offsets, Type::INT8_ARRAY),
        (&epochs, Type::INT8_ARRAY),
    ];
    client.execute_typed(&sql, &parameters).await?;
    Ok(())
}

/// All positions of a projection, in partition order, locked by nobody.
pub(super) async fn read(
    client: &Client,
    schema: &str,
    projection: &str,
) -> Result<Vec<Held>, Failure> {
    let table = qualified(schema, TABLE);
    let sql = format!(
        "SELECT topic, partition, next_offset, owner_epoch FROM {table} WHERE projection = $1 \
         ORDER BY topic, partition"
    );
    let rows = client
        .query_typed(&sql, &[(&projection, Type::TEXT)])
        .await?;
    Ok(rows.iter().map(held).collect())
}

fn columns<'p>(partitions: &[&'p TopicPartition]) -> (Vec<&'p str>, Vec<i32>) {
    partitions
        .iter()
        .map(|partition| (&*partition.topic, partition.partition))
        .unzip()
}

fn held(row: &Row) -> Held {
    let topic: String = row.get(0);
    Held {
        topic_partition: TopicPartition::new(topic, row.get(1)),
        next_offset: row.get::<_, Option<i64>>(2).map(Offset),
        owner_epoch: OwnerEpoch(row.get(3)),
    }
}
