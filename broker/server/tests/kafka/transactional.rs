//! A transactional producer over a raw connection: every step by hand, every error visible.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use conveyor_kafka::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use conveyor_kafka::messages::end_txn::EndTxnRequest;
use conveyor_kafka::messages::fetch::{FetchRequest, PartitionData};
use conveyor_kafka::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use conveyor_kafka::messages::produce::ProduceRequest;
use conveyor_kafka::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use conveyor_record::{
    BatchBuilder, BatchOptions, Compressor, NewRecord, OwnedBatches, ProducerEpoch, ProducerId,
};

use crate::client::{KafkaClient, code, fetch_request, only, produce_request};
use crate::harness::{PATIENCE, TestBroker, decode, now_ms};

/// The protocol of transactions that a producer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Partitions are added first, the epoch stays.
    First,
    /// Partitions join with their first record, every end raises the epoch.
    Second,
}

/// A producer with its own connection.
pub(crate) struct TransactionalProducer {
    pub(crate) client: KafkaClient,
    pub(crate) transactional_id: String,
    pub(crate) protocol: Protocol,
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequences: BTreeMap<(String, i32), i32>,
}

impl TransactionalProducer {
    /// Starts under an id, taking it over from whoever has it.
    pub(crate) async fn start(
        broker: &TestBroker,
        transactional_id: &str,
        protocol: Protocol,
    ) -> Self {
        let mut producer = Self {
            client: KafkaClient::connect(broker).await,
            transactional_id: transactional_id.to_owned(),
            protocol,
            id: -1,
            epoch: -1,
            sequences: BTreeMap::new(),
        };
        producer.initialise().await;
        producer
    }

    /// Gets an id and epoch, waiting for what the last one left open.
    pub(crate) async fn initialise(&mut self) {
        let request = InitProducerIdRequest {
            transactional_id: Some(self.transactional_id.as_str().into()),
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let answer = loop {
            let answer: InitProducerIdResponse = self.client.call(4, &request).await;
            if !is_to_be_tried_again(answer.error_code) {
                break answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(answer.error_code, 0);
        (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
        self.sequences.clear();
    }

    /// Adds a partition, waiting for the transaction before to be completed; the error.
    pub(crate) async fn add(&mut self, topic: &str, partition: i32) -> i16 {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.transactional_id.as_str().into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: topic.into(),
                partitions: vec![partition],
            }],
            ..AddPartitionsToTxnRequest::default()
        };
        loop {
            let answer = self.client.call(3, &request).await;
            let topic = &answer.results_by_topic_v3_and_below[0];
            let error = topic.results_by_partition[0].partition_error_code;
            if error != code(ErrorCode::ConcurrentTransactions) {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Writes values as the next batch of the transaction; error and base offset.
    pub(crate) async fn write(
        &mut self,
        topic: &str,
        partition: i32,
        values: &[&str],
    ) -> (i16, i64) {
        let version = match self.protocol {
            Protocol::First => 9,
            Protocol::Second => 12,
        };
        let place = (topic.to_owned(), partition);
        let sequence = self.sequences.get(&place).copied().unwrap_or(0);
        let answer = self
            .write_as(version, topic, partition, sequence, values)
            .await;
        if answer.0 == 0 {
            let next = sequence + i32::try_from(values.len()).unwrap();
            self.sequences.insert(place, next);
        }
        answer
    }

    /// Writes values with a sequence by a version of Produce; error and base offset.
    pub(crate) async fn write_as(
        &mut self,
        version: i16,
        topic: &str,
        partition: i32,
        sequence: i32,
        values: &[&str],
    ) -> (i16, i64) {
        let batch = self.batch(sequence, values, true);
        let request = ProduceRequest {
            transactional_id: Some(self.transactional_id.as_str().into()),
            ..produce_request(topic, partition, batch)
        };
        loop {
            let response = self.client.call(version, &request).await;
            let answer = &response.responses[0].partition_responses[0];
            if !is_to_be_tried_again(answer.error_code) {
                return (answer.error_code, answer.base_offset);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A batch of this producer.
    pub(crate) fn batch(&self, sequence: i32, values: &[&str], transactional: bool) -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            producer_id: ProducerId(self.id),
            producer_epoch: ProducerEpoch(self.epoch),
            base_sequence: sequence,
            is_transactional: transactional,
            ..BatchOptions::default()
        });
        for value in values {
            let record = NewRecord {
                timestamp_ms: now_ms(),
                key: Some(b"key"),
                value: Some(value.as_bytes()),
                headers: &[],
            };
            builder.append(&record).unwrap();
        }
        builder.build(&mut Compressor::new()).unwrap()
    }

    /// Ends the transaction once; the error. By the second protocol the epoch is taken over.
    pub(crate) async fn try_end(&mut self, commit: bool) -> i16 {
        let request = EndTxnRequest {
            transactional_id: self.transactional_id.as_str().into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed: commit,
        };
        let version = match self.protocol {
            Protocol::First => 4,
            Protocol::Second => 5,
        };
        let answer = self.client.call(version, &request).await;
        if answer.error_code == 0 && self.protocol == Protocol::Second {
            assert!(answer.producer_id >= 0 && answer.producer_epoch >= 0);
            (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
        }
        answer.error_code
    }

    /// Ends the transaction; it must work.
    pub(crate) async fn end(&mut self, commit: bool) {
        loop {
            match self.try_end(commit).await {
                0 => return,
                error if is_to_be_tried_again(error) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                error => panic!("{} is not ended: {error}", self.transactional_id),
            }
        }
    }

    /// A whole transaction in some partitions of a topic.
    pub(crate) async fn transaction(&mut self, topic: &str, values: &[(i32, &str)], commit: bool) {
        for (partition, value) in values {
            if self.protocol == Protocol::First {
                assert_eq!(self.add(topic, *partition).await, 0);
            }
            assert_eq!(self.write(topic, *partition, &[value]).await.0, 0);
        }
        self.end(commit).await;
    }

    /// Commits an offset of a group with the transaction; the error.
    pub(crate) async fn commit_offset(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> i16 {
        let mut version = 5;
        if self.protocol == Protocol::First {
            version = 4;
            let add = AddOffsetsToTxnRequest {
                transactional_id: self.transactional_id.as_str().into(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: group.into(),
            };
            while let error @ 1.. = self.client.call(3, &add).await.error_code {
                assert_eq!(error, code(ErrorCode::ConcurrentTransactions));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: self.transactional_id.as_str().into(),
            group_id: group.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    ..TxnOffsetCommitRequestPartition::default()
                }],
            }],
            ..TxnOffsetCommitRequest::default()
        };
        loop {
            let answer = self.client.call(version, &request).await;
            let error = answer.topics[0].partitions[0].error_code;
            if !is_to_be_tried_again(error) {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn is_to_be_tried_again(error: i16) -> bool {
    [
        ErrorCode::ConcurrentTransactions,
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::NotEnoughReplicas,
    ]
    .map(code)
    .contains(&error)
}

/// What a reader of committed records is given.
pub(crate) async fn fetch_committed(
    client: &mut KafkaClient,
    topic: &str,
    partition: i32,
) -> PartitionData {
    let request = FetchRequest {
        isolation_level: 1,
        ..fetch_request(topic, partition, 0)
    };
    only(&client.call(12, &request).await).clone()
}

/// The values that a reader of committed records keeps, as Kafka's consumers choose them: what lies
/// between the first offset of an aborted transaction and its marker is left out.
pub(crate) fn committed_values(data: &PartitionData) -> Vec<String> {
    let mut aborted: Vec<(i64, i64)> = data
        .aborted_transactions
        .iter()
        .flatten()
        .map(|one| (one.first_offset, one.producer_id))
        .collect();
    aborted.sort_unstable();
    let mut leaving_out = Vec::new();
    let mut values = Vec::new();
    let records = data.records.clone().unwrap_or_default();
    for batch in OwnedBatches::new(records) {
        let batch = batch.unwrap();
        let header = *batch.header();
        let producer = header.producer_id.value();
        while let Some((first, id)) = aborted.first().copied() {
            if first > header.last_offset().value() {
                break;
            }
            leaving_out.push(id);
            aborted.remove(0);
        }
        if header.attributes.is_control() {
            leaving_out.retain(|id| *id != producer);
        } else if !(header.attributes.is_transactional() && leaving_out.contains(&producer)) {
            let bytes = batch.bytes().clone();
            values.extend(decode(&bytes).into_iter().map(|(_, value)| value));
        }
    }
    values
}

/// Reads until the values are those expected; panics when they never are.
pub(crate) async fn expect_committed(
    client: &mut KafkaClient,
    topic: &str,
    partition: i32,
    expected: &[&str],
) -> PartitionData {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let data = fetch_committed(client, topic, partition).await;
        let values = committed_values(&data);
        if values == expected && data.last_stable_offset == data.high_watermark {
            return data;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{topic}-{partition}: {values:?} is read, not {expected:?}: {data:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
