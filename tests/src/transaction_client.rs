//! A transactional producer step by step, by either version of the protocol. It repeats what may be
//! repeated and says of everything else that the transaction is lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use conveyor_kafka::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use conveyor_kafka::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use conveyor_kafka::messages::end_txn::EndTxnRequest;
use conveyor_kafka::messages::init_producer_id::InitProducerIdRequest;
use conveyor_kafka::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use conveyor_kafka::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use conveyor_record::{
    BatchBuilder, BatchOptions, Compressor, NewRecord, ProducerEpoch, ProducerId,
};
use conveyor_sdk::ErrorCode;

use crate::kafka_client::KafkaClient;
use crate::transaction_history::Place;

/// How long a transaction may be open: zombies' are to end within the run.
const TIMEOUT_MS: i32 = 5_000;

/// The protocol of transactions that a producer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Partitions are added first, the epoch stays.
    First,
    /// Partitions join with their first record, every end raises the epoch (KIP-890).
    Second,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a lost transaction is not to be gone on with"]
pub enum Step {
    /// It is done.
    Done,
    /// It was refused: the producer has to start again.
    Lost,
}

/// A producer with its own connection.
#[derive(Debug)]
pub struct TransactionClient {
    kafka: KafkaClient,
    /// `None` for a producer that is only idempotent.
    transactional_id: Option<String>,
    protocol: Protocol,
    id: i64,
    epoch: i16,
    sequences: BTreeMap<Place, i32>,
}

impl TransactionClient {
    /// Starts, taking the id over from whoever has it.
    pub async fn start(
        address: SocketAddr,
        transactional_id: Option<&str>,
        protocol: Protocol,
    ) -> Result<Self> {
        let mut kafka = KafkaClient::new(address);
        let request = InitProducerIdRequest {
            transactional_id: transactional_id.map(Into::into),
            transaction_timeout_ms: TIMEOUT_MS,
            ..InitProducerIdRequest::default()
        };
        let answer = kafka
            .call_until(4, &request, |answer| answer.error_code == 0)
            .await?;
        Ok(Self {
            kafka,
            transactional_id: transactional_id.map(str::to_owned),
            protocol,
            id: answer.producer_id,
            epoch: answer.producer_epoch,
            sequences: BTreeMap::new(),
        })
    }

    fn transactional_id(&self) -> &str {
        self.transactional_id.as_deref().unwrap_or_default()
    }

    /// Writes values as one batch; answered when they are durable.
    pub async fn write(&mut self, place: Place, values: &[u64]) -> Result<Step> {
        let is_first = self.transactional_id.is_some() && self.protocol == Protocol::First;
        if is_first && self.add(place).await? == Step::Lost {
            return Ok(Step::Lost);
        }
        let sequence = self.sequences.get(&place).copied().unwrap_or(0);
        let request = ProduceRequest {
            transactional_id: self.transactional_id.as_deref().map(Into::into),
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: place.0.into(),
                partition_data: vec![PartitionProduceData {
                    index: place.1,
                    records: Some(self.batch(sequence, values)?),
                }],
                ..TopicProduceData::default()
            }],
        };
        let version = match self.protocol {
            Protocol::First => 9,
            Protocol::Second => 12,
        };
        let answer = self
            .kafka
            .call_until(version, &request, |answer| {
                !is_retriable(answer.responses[0].partition_responses[0].error_code)
            })
            .await?;
        let error = answer.responses[0].partition_responses[0].error_code;
        if error != 0 {
            return Ok(Step::Lost);
        }
        self.sequences.insert(place, sequence + values.len() as i32);
        Ok(Step::Done)
    }

    fn batch(&self, sequence: i32, values: &[u64]) -> Result<bytes::Bytes> {
        let mut builder = BatchBuilder::new(BatchOptions {
            producer_id: ProducerId(self.id),
            producer_epoch: ProducerEpoch(self.epoch),
            base_sequence: sequence,
            is_transactional: self.transactional_id.is_some(),
            ..BatchOptions::default()
        });
        for value in values {
            builder.append(&NewRecord {
                timestamp_ms: 0,
                key: None,
                value: Some(&value.to_be_bytes()),
                headers: &[],
            })?;
        }
        Ok(builder.build(&mut Compressor::new())?)
    }

    async fn add(&mut self, place: Place) -> Result<Step> {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.transactional_id().into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: place.0.into(),
                partitions: vec![place.1],
            }],
            ..AddPartitionsToTxnRequest::default()
        };
        let error = |answer: &conveyor_kafka::messages::add_partitions_to_txn::AddPartitionsToTxnResponse| {
            answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        let answer = self
            .kafka
            .call_until(3, &request, |answer| !is_retriable(error(answer)))
            .await?;
        Ok(step(error(&answer)))
    }

    /// Commits a group's offset with the transaction.
    pub async fn commit_offset(&mut self, group: &str, place: Place, offset: i64) -> Result<Step> {
        let mut version = 5;
        if self.protocol == Protocol::First {
            version = 4;
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.transactional_id().into(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: group.into(),
            };
            let answer = self
                .kafka
                .call_until(3, &request, |answer| !is_retriable(answer.error_code))
                .await?;
            if answer.error_code != 0 {
                return Ok(Step::Lost);
            }
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: self.transactional_id().into(),
            group_id: group.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: place.0.into(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    partition_index: place.1,
                    committed_offset: offset,
                    ..TxnOffsetCommitRequestPartition::default()
                }],
            }],
            ..TxnOffsetCommitRequest::default()
        };
        let answer = self
            .kafka
            .call_until(version, &request, |answer| {
                !is_retriable(answer.topics[0].partitions[0].error_code)
            })
            .await?;
        Ok(step(answer.topics[0].partitions[0].error_code))
    }

    /// Ends the transaction.
    pub async fn end(&mut self, commit: bool) -> Result<Step> {
        let request = EndTxnRequest {
            transactional_id: self.transactional_id().into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed: commit,
        };
        let version = match self.protocol {
            Protocol::First => 4,
            Protocol::Second => 5,
        };
        let answer = self
            .kafka
            .call_until(version, &request, |answer| !is_retriable(answer.error_code))
            .await?;
        if answer.error_code == 0 && self.protocol == Protocol::Second {
            (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
        }
        Ok(step(answer.error_code))
    }
}

fn step(error: i16) -> Step {
    if error == 0 { Step::Done } else { Step::Lost }
}

/// Whether the same request may go well later.
fn is_retriable(error: i16) -> bool {
    [
        ErrorCode::ConcurrentTransactions,
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotCoordinator,
        ErrorCode::NotEnoughReplicas,
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::RequestTimedOut,
        ErrorCode::UnknownTopicOrPartition,
    ]
    .into_iter()
    .any(|code| code.code() == i32::from(error))
}
