//! Kafka's metadata records (`common/metadata/*.json` of Kafka 4.3), those that an import needs.
//!
//! ```text
//! frame version   unsigned varint, 1
//! record type     unsigned varint
//! record version  unsigned varint
//! fields          flexible encoding
//! ```

use uuid::Uuid;

use super::KafkaPartition;
use super::reader::{MalformedRecord, Reader};

/// The only frame version there is.
const FRAME_VERSION: u32 = 1;

/// What a metadata record changes.
#[derive(Debug, Clone, PartialEq)]
pub enum MetadataChange {
    /// A new topic.
    Topic {
        /// Its id.
        id: Uuid,
        /// Its name.
        name: String,
    },
    /// A topic goes.
    RemoveTopic {
        /// Its id.
        id: Uuid,
    },
    /// A new partition.
    Partition {
        /// Its topic.
        topic_id: Uuid,
        /// Its number.
        partition: i32,
        /// How it stands.
        state: KafkaPartition,
    },
    /// A partition changes; what does not is not told.
    PartitionChange {
        /// Its topic.
        topic_id: Uuid,
        /// Its number.
        partition: i32,
        /// The new in-sync set.
        isr: Option<Vec<i32>>,
        /// The new set of those that may lead although they have left it.
        eligible: Option<Vec<i32>>,
        /// The new leader, -1 for nobody.
        leader: Option<i32>,
        /// The new replicas.
        replicas: Option<Vec<i32>>,
    },
    /// A setting.
    Config {
        /// Type and name of what it belongs to.
        resource: (i8, String),
        /// Its name.
        name: String,
        /// Its value; `None` for the default.
        value: Option<String>,
    },
    /// A limit of a client.
    Quota {
        /// Whose: pairs of type and name, no name for the default.
        entity: Vec<(String, Option<String>)>,
        /// Of what.
        key: String,
        /// The limit; `None` for none.
        value: Option<f64>,
    },
    /// Producer ids are given out.
    ProducerIds {
        /// The first that is not.
        next: i64,
    },
    /// An access rule.
    AccessRule,
    /// A credential.
    Credential,
    /// Changes that belong together begin.
    BeginTransaction,
    /// They end and count.
    EndTransaction,
    /// They end and do not count.
    AbortTransaction,
    /// Something that an import does not need.
    Other,
}

impl MetadataChange {
    /// Reads the value of a record of the metadata log.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedRecord> {
        let mut reader = Reader::new(bytes);
        let frame = reader.varint()?;
        if frame != FRAME_VERSION {
            return Err(MalformedRecord(format!(
                "frame version {frame} is not known"
            )));
        }
        let kind = reader.varint()?;
        let version = reader.varint()?;
        match kind {
            2 => topic(&mut reader),
            3 => partition(&mut reader, version),
            4 => config(&mut reader),
            5 => partition_change(&mut reader),
            9 => Ok(Self::RemoveTopic { id: reader.uuid()? }),
            11 => Ok(Self::Credential),
            14 => quota(&mut reader),
            15 => producer_ids(&mut reader),
            18 => Ok(Self::AccessRule),
            23 => Ok(Self::BeginTransaction),
            24 => Ok(Self::EndTransaction),
            25 => Ok(Self::AbortTransaction),
            _ => Ok(Self::Other),
        }
    }
}

fn topic(reader: &mut Reader<'_>) -> Result<MetadataChange, MalformedRecord> {
    let name = reader.text()?;
    let id = reader.uuid()?;
    Ok(MetadataChange::Topic { id, name })
}

fn partition(reader: &mut Reader<'_>, version: u32) -> Result<MetadataChange, MalformedRecord> {
    if version > 2 {
        return Err(MalformedRecord(format!(
            "partition record version {version} is newer than Kafka 4.3"
        )));
    }
    let partition = reader.int32()?;
    let topic_id = reader.uuid()?;
    let replicas = reader.numbers()?.unwrap_or_default();
    let isr = reader.numbers()?.unwrap_or_default();
    let _removing = reader.numbers()?;
    let _adding = reader.numbers()?;
    let leader = reader.int32()?;
    let leader_epoch = reader.int32()?;
    let _partition_epoch = reader.int32()?;
    if version >= 1 {
        for _ in 0..reader.length()?.unwrap_or(0) {
            reader.uuid()?;
        }
    }
    let mut eligible = Vec::new();
    reader.tagged(|tag, value| {
        if tag == 1 {
            eligible = value.numbers()?.unwrap_or_default();
        }
        Ok(())
    })?;
    Ok(MetadataChange::Partition {
        topic_id,
        partition,
        state: KafkaPartition {
            replicas,
            isr,
            eligible,
            leader,
            leader_epoch,
        },
    })
}

fn partition_change(reader: &mut Reader<'_>) -> Result<MetadataChange, MalformedRecord> {
    const NO_CHANGE: i32 = -2;
    let partition = reader.int32()?;
    let topic_id = reader.uuid()?;
    let (mut isr, mut eligible, mut leader, mut replicas) = (None, None, None, None);
    reader.tagged(|tag, value| {
        match tag {
            0 => isr = value.numbers()?,
            1 => leader = Some(value.int32()?).filter(|&leader| leader != NO_CHANGE),
            2 => replicas = value.numbers()?,
            6 => eligible = value.numbers()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(MetadataChange::PartitionChange {
        topic_id,
        partition,
        isr,
        eligible,
        leader,
        replicas,
    })
}

fn config(reader: &mut Reader<'_>) -> Result<MetadataChange, MalformedRecord> {
    let kind = reader.int8()?;
    let resource = (kind, reader.text()?);
    Ok(MetadataChange::Config {
        resource,
        name: reader.text()?,
        value: reader.nullable_text()?,
    })
}

fn quota(reader: &mut Reader<'_>) -> Result<MetadataChange, MalformedRecord> {
    let count = reader.length()?.unwrap_or(0);
    let mut entity = Vec::new();
    for _ in 0..count {
        entity.push((reader.text()?, reader.nullable_text()?));
        reader.tagged(|_, _| Ok(()))?;
    }
    let key = reader.text()?;
    let value = reader.float64()?;
    let remove = reader.boolean()?;
    entity.sort();
    Ok(MetadataChange::Quota {
        entity,
        key,
        value: (!remove).then_some(value),
    })
}

fn producer_ids(reader: &mut Reader<'_>) -> Result<MetadataChange, MalformedRecord> {
    let _broker_id = reader.int32()?;
    let _broker_epoch = reader.int64()?;
    Ok(MetadataChange::ProducerIds {
        next: reader.int64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_record_of_kafkas_is_read() {
        // Frame 1, type 2, version 0, "t1", id, no tags.
        let mut bytes = vec![1, 2, 0, 3, b't', b'1'];
        bytes.extend(Uuid::from_u128(9).as_bytes());
        bytes.push(0);
        let topic = MetadataChange::Topic {
            id: Uuid::from_u128(9),
            name: "t1".to_owned(),
        };
        assert_eq!(MetadataChange::decode(&bytes), Ok(topic));
    }

    #[test]
    fn a_leader_change_is_a_tagged_field() {
        let mut bytes = vec![1, 5, 0, 0, 0, 0, 3];
        bytes.extend(Uuid::from_u128(9).as_bytes());
        bytes.extend([1, 1, 4, 0xff, 0xff, 0xff, 0xff]);
        let decoded = MetadataChange::decode(&bytes).unwrap();
        let leader = match decoded {
            MetadataChange::PartitionChange { leader, .. } => leader,
            other => panic!("{other:?}"),
        };
        assert_eq!(leader, Some(-1));
    }

    #[test]
    fn lies_are_refused() {
        for bytes in [&[][..], &[2, 2, 0], &[1, 2, 0, 200, 1, b'x'], &[1, 3, 9]] {
            assert!(MetadataChange::decode(bytes).is_err(), "{bytes:?}");
        }
        // An array that claims four thousand million elements.
        let mut bytes = vec![1, 3, 0, 0, 0, 0, 0];
        bytes.extend([0; 16]);
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(MetadataChange::decode(&bytes).is_err());
    }
}
