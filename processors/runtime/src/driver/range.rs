//! Positions against the log: whether what comes next is still there, and how far the log reaches.

use std::collections::BTreeMap;

use conveyor_record::Offset;
use conveyor_sdk::admin::{AdminClient, ListedOffset, OffsetSpec};
use conveyor_sdk::{
    Client, Consumer, Error as SdkError, ErrorCode, IsolationLevel, TopicPartition as SdkPartition,
};

use super::DriverError;
use super::ownership::{Ownership, ours, theirs};

/// Whether a poll has failed because a position lies outside the log.
pub fn is_outside(error: &SdkError) -> bool {
    error.code() == Some(ErrorCode::OffsetOutOfRange)
}

/// A position lies outside the log: fine where nothing has been taken in yet, for then the partition
/// is read from where it begins; a fault otherwise. `name` is whose positions they are.
pub async fn mend(
    client: &Client,
    name: &str,
    consumer: &mut Consumer,
    owned: &Ownership,
) -> Result<(), DriverError> {
    let projection = name.to_owned();
    let client_error = |error| DriverError::Client {
        projection: projection.clone(),
        error,
    };
    let begins = offsets(client, owned, OffsetSpec::Earliest).await;
    let ends = offsets(client, owned, OffsetSpec::Latest).await;
    let ends = ends.map_err(client_error)?;
    for (partition, begins) in begins.map_err(client_error)? {
        let topic_partition = ours(&partition);
        let Some(claim) = owned.get(&topic_partition) else {
            continue;
        };
        let (projection, ends) = (projection.clone(), ends.get(&partition).copied());
        match (claim.next_offset, ends) {
            (None, _) => consumer.seek(&partition, begins).map_err(client_error)?,
            (Some(needed), _) if needed < begins => {
                return Err(DriverError::Gap {
                    projection,
                    topic_partition,
                    needed,
                    begins,
                });
            }
            (Some(needed), Some(ends)) if needed > ends => {
                return Err(DriverError::Ahead {
                    projection,
                    topic_partition,
                    needed,
                    ends,
                });
            }
            (Some(needed), _) => consumer.seek(&partition, needed).map_err(client_error)?,
        }
    }
    Ok(())
}

/// Where the log begins or ends in each partition that is ours.
async fn offsets(
    client: &Client,
    owned: &Ownership,
    spec: OffsetSpec,
) -> Result<BTreeMap<SdkPartition, Offset>, SdkError> {
    let specs: Vec<_> = owned
        .names()
        .iter()
        .map(|name| (theirs(name), spec))
        .collect();
    let answers = AdminClient::new(client)
        .list_offsets(&specs, IsolationLevel::ReadUncommitted)
        .await?;
    let offset = |(partition, listed): (_, Result<ListedOffset, _>)| {
        Ok((partition, listed?.offset.unwrap_or_default()))
    };
    answers.into_iter().map(offset).collect()
}

/// Takes in how far the log reaches, as the consumer has last heard.
pub fn hear_ends(consumer: &mut Consumer, owned: &Ownership) {
    for name in owned.names() {
        let partition = theirs(&name);
        if let (Some(position), Some(lag)) =
            (consumer.position(&partition), consumer.lag(&partition))
        {
            owned.heard_end(&name, position + lag);
        }
    }
}
