//! Producers with ids, and transactions.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use conveyor_kafka::ApiKey;
use conveyor_kafka::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use conveyor_kafka::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use conveyor_kafka::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use conveyor_kafka::messages::describe_transactions::DescribeTransactionsRequest;
use conveyor_kafka::messages::end_txn::EndTxnRequest;
use conveyor_kafka::messages::fetch::FetchRequest;
use conveyor_kafka::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use conveyor_kafka::messages::list_transactions::ListTransactionsRequest;
use conveyor_kafka::messages::produce::ProduceRequest;
use conveyor_kafka::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use conveyor_kafka::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use conveyor_record::{BatchOptions, ProducerEpoch, ProducerId};
use uuid::Uuid;

use super::records::{batch, fetch_request, produce_request};
use super::topics::create_topic;
use crate::side::Side;

const TOPIC: &str = "transacted";

pub(super) fn play(side: &mut Side) -> Result<()> {
    let id = create_topic(side, TOPIC, 2)?;
    producer_ids(side)?;
    sequences(side)?;
    for version in side
        .versions(ApiKey::AddPartitionsToTxn)
        .filter(|version| *version <= 3)
    {
        transaction(side, version, id)?;
    }
    refusals(side)?;
    between_brokers(side)?;
    seen_from_outside(side)
}

fn init(transactional_id: Option<&str>) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: transactional_id.map(Into::into),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    }
}

/// A producer of our own, by the oldest version, after which clients do all by themselves.
fn producer(side: &mut Side, transactional_id: Option<&str>) -> Result<InitProducerIdResponse> {
    side.until(&init(transactional_id), |response| response.error_code == 0)
}

fn producer_ids(side: &mut Side) -> Result<()> {
    side.ask_all("an idempotent producer", |_| init(None))?;
    side.ask_all("a transactional producer", |version| {
        init(Some(&format!("init-{version}")))
    })?;
    side.ask_all("a transactional producer again", |version| {
        init(Some(&format!("init-{version}")))
    })?;
    side.ask_all("no transactional id", |_| init(Some("")))?;
    side.ask_all("a timeout too long", |_| InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        ..init(Some("slow"))
    })?;
    side.ask_all("a timeout of nothing", |_| InitProducerIdRequest {
        transaction_timeout_ms: 0,
        ..init(Some("fast"))
    })?;
    for version in side
        .versions(ApiKey::InitProducerId)
        .filter(|version| *version >= 3)
    {
        let name = format!("epoch-{version}");
        let made = side
            .quietly(version, &init(Some(&name)))?
            .context("it answers")?;
        let known = |producer_id, producer_epoch| InitProducerIdRequest {
            producer_id,
            producer_epoch,
            ..init(Some(&name))
        };
        side.ask(
            "with its epoch",
            version,
            &known(made.producer_id, made.producer_epoch),
        )?;
        side.ask(
            "with its epoch of before",
            version,
            &known(made.producer_id, made.producer_epoch),
        )?;
        side.ask(
            "with an epoch of before that",
            version,
            &known(made.producer_id, 9),
        )?;
        side.ask(
            "with the id of another",
            version,
            &known(made.producer_id + 1000, 0),
        )?;
        side.ask(
            "with half of an identity",
            version,
            &known(made.producer_id, -1),
        )?;
    }
    Ok(())
}

fn sequences(side: &mut Side) -> Result<()> {
    for version in side.versions(ApiKey::Produce) {
        let made = producer(side, None)?;
        let ids = side.topic_ids();
        let batch_at = |base_sequence, epoch| {
            let options = BatchOptions {
                producer_id: ProducerId(made.producer_id),
                producer_epoch: ProducerEpoch(epoch),
                base_sequence,
                ..BatchOptions::default()
            };
            let batch = batch(2, options)?;
            Ok::<_, anyhow::Error>(produce_request(version, &ids, TOPIC, 1, &batch))
        };
        side.ask("the first sequence", version, &batch_at(0, 0)?)?;
        side.ask("the same again", version, &batch_at(0, 0)?)?;
        side.ask("the next", version, &batch_at(2, 0)?)?;
        side.ask("a gap", version, &batch_at(7, 0)?)?;
        side.ask("a newer epoch from the start", version, &batch_at(0, 1)?)?;
        side.ask("an older epoch", version, &batch_at(4, 0)?)?;
        side.ask(
            "a newer epoch not from the start",
            version,
            &batch_at(5, 2)?,
        )?;
    }
    Ok(())
}

struct Transaction<'a> {
    name: &'a str,
    id: i64,
    epoch: i16,
}

impl Transaction<'_> {
    fn add(&self, topic: &str, partitions: &[i32]) -> AddPartitionsToTxnRequest {
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.name.into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: topic.into(),
                partitions: partitions.to_vec(),
            }],
            ..Default::default()
        }
    }

    fn add_offsets(&self, group: &str) -> AddOffsetsToTxnRequest {
        AddOffsetsToTxnRequest {
            transactional_id: self.name.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            group_id: group.into(),
        }
    }

    fn commit_offset(&self, group: &str, topic: &str) -> TxnOffsetCommitRequest {
        TxnOffsetCommitRequest {
            transactional_id: self.name.into(),
            group_id: group.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: 11,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        }
    }

    fn end(&self, committed: bool) -> EndTxnRequest {
        EndTxnRequest {
            transactional_id: self.name.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        }
    }

    fn produce(&self, base_sequence: i32) -> Result<ProduceRequest> {
        let options = BatchOptions {
            producer_id: ProducerId(self.id),
            producer_epoch: ProducerEpoch(self.epoch),
            base_sequence,
            is_transactional: true,
            ..BatchOptions::default()
        };
        Ok(ProduceRequest {
            transactional_id: Some(self.name.into()),
            ..produce_request(11, &BTreeMap::new(), TOPIC, 0, &batch(2, options)?)
        })
    }
}

/// Before KIP-890's second part the client enlists partitions itself: `Produce` up to version 11.
fn produce_version(side: &Side) -> i16 {
    (*side.versions(ApiKey::Produce).end()).min(11)
}

/// Ends by these versions leave the epoch as it is.
fn end_version(side: &Side, version: i16) -> i16 {
    version.min(*side.versions(ApiKey::EndTxn).end()).min(4)
}

fn transaction(side: &mut Side, version: i16, id: Uuid) -> Result<()> {
    let name = &*format!("tx-{version}");
    let group = &*format!("tx-group-{version}");
    let made = producer(side, Some(name))?;
    let transaction = Transaction {
        name,
        id: made.producer_id,
        epoch: made.producer_epoch,
    };
    let produce_version = produce_version(side);
    let end_version = end_version(side, version);
    let offsets_version = version.min(*side.versions(ApiKey::AddOffsetsToTxn).end());
    let commit_version = version
        .min(*side.versions(ApiKey::TxnOffsetCommit).end())
        .min(4);
    let fetch_version = side.newest(ApiKey::Fetch)?;
    let committed_only = FetchRequest {
        isolation_level: 1,
        ..fetch_request(fetch_version, TOPIC, id, 0)
    };

    side.ask(
        "before anything was added",
        produce_version,
        &transaction.produce(0)?,
    )?;
    side.ask("a partition", version, &transaction.add(TOPIC, &[0]))?;
    side.ask("a partition again", version, &transaction.add(TOPIC, &[0]))?;
    side.ask(
        "a partition that does not exist",
        version,
        &transaction.add(TOPIC, &[0, 9]),
    )?;
    side.ask(
        "a topic that does not exist",
        version,
        &transaction.add("nobody", &[0]),
    )?;
    side.ask(
        "within a transaction",
        produce_version,
        &transaction.produce(0)?,
    )?;
    side.ask(
        "while a transaction is open",
        fetch_version,
        &committed_only,
    )?;
    side.ask("a group", offsets_version, &transaction.add_offsets(group))?;
    side.ask(
        "an offset",
        commit_version,
        &transaction.commit_offset(group, TOPIC),
    )?;
    side.ask(
        "an offset of no topic",
        commit_version,
        &transaction.commit_offset(group, "nobody"),
    )?;
    side.ask("a commit", end_version, &transaction.end(true))?;
    side.ask("a commit again", end_version, &transaction.end(true))?;
    side.ask(
        "an abort after the commit",
        end_version,
        &transaction.end(false),
    )?;
    wait_for_markers(side, name)?;
    side.ask("after the commit", fetch_version, &committed_only)?;

    side.ask("a partition", version, &transaction.add(TOPIC, &[0]))?;
    side.ask(
        "within a transaction",
        produce_version,
        &transaction.produce(2)?,
    )?;
    side.ask("an abort", end_version, &transaction.end(false))?;
    side.ask(
        "a commit after the abort",
        end_version,
        &transaction.end(true),
    )?;
    wait_for_markers(side, name)?;
    side.ask("after the abort", fetch_version, &committed_only)?;
    let older = Transaction {
        epoch: transaction.epoch - 1,
        ..transaction
    };
    side.ask("an epoch of before", version, &older.add(TOPIC, &[0]))?;
    side.ask("an epoch of before", end_version, &older.end(true))?;
    Ok(())
}

/// A coordinator answers before the markers are written.
fn wait_for_markers(side: &mut Side, name: &str) -> Result<()> {
    let request = DescribeTransactionsRequest {
        transactional_ids: vec![name.into()],
    };
    let complete = ["CompleteCommit", "CompleteAbort"];
    side.until(&request, |response| {
        complete.contains(&response.transaction_states[0].transaction_state.as_str())
    })?;
    Ok(())
}

fn refusals(side: &mut Side) -> Result<()> {
    let nobody = Transaction {
        name: "no-such-transaction",
        id: 1,
        epoch: 0,
    };
    for version in side
        .versions(ApiKey::AddPartitionsToTxn)
        .filter(|version| *version <= 3)
    {
        side.ask(
            "of a producer that nobody knows",
            version,
            &nobody.add(TOPIC, &[0]),
        )?;
    }
    side.ask_all("of a producer that nobody knows", |_| {
        nobody.add_offsets("some-group")
    })?;
    side.ask_all("of a producer that nobody knows", |_| nobody.end(true))?;
    side.ask_all("of a producer that nobody knows", |_| {
        nobody.commit_offset("some-group", TOPIC)
    })?;
    let made = producer(side, Some("idle"))?;
    let idle = Transaction {
        name: "idle",
        id: made.producer_id,
        epoch: made.producer_epoch,
    };
    for version in side
        .versions(ApiKey::EndTxn)
        .filter(|version| *version <= 4)
    {
        side.ask("a transaction that was not begun", version, &idle.end(true))?;
    }
    Ok(())
}

fn between_brokers(side: &mut Side) -> Result<()> {
    let made = producer(side, Some("verified"))?;
    for version in side
        .versions(ApiKey::AddPartitionsToTxn)
        .filter(|version| *version >= 4)
    {
        let request = AddPartitionsToTxnRequest {
            transactions: vec![AddPartitionsToTxnTransaction {
                transactional_id: "verified".into(),
                producer_id: made.producer_id,
                producer_epoch: made.producer_epoch,
                verify_only: true,
                topics: vec![AddPartitionsToTxnTopic {
                    name: TOPIC.into(),
                    partitions: vec![0],
                }],
            }],
            ..Default::default()
        };
        side.ask("a partition that was not added", version, &request)?;
    }
    side.ask_all("of no transaction", |_| WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: made.producer_id,
            producer_epoch: made.producer_epoch,
            transaction_result: false,
            topics: ["nobody", TOPIC]
                .map(|name| WritableTxnMarkerTopic {
                    name: name.into(),
                    partition_indexes: vec![1],
                })
                .into(),
            ..Default::default()
        }],
    })
}

fn seen_from_outside(side: &mut Side) -> Result<()> {
    side.ask_all("producers of partitions", |_| DescribeProducersRequest {
        topics: [(TOPIC, 0), (TOPIC, 9), ("nobody", 0)]
            .map(|(name, partition)| TopicRequest {
                name: name.into(),
                partition_indexes: vec![partition],
            })
            .into(),
    })?;
    side.ask_all("transactions", |_| DescribeTransactionsRequest {
        transactional_ids: ["tx-3", "idle", "no-such-transaction", ""]
            .map(Into::into)
            .into(),
    })?;
    side.ask_all("all transactions", |_| ListTransactionsRequest::default())?;
    let filtered = |state: &str| ListTransactionsRequest {
        state_filters: vec![state.into()],
        ..Default::default()
    };
    side.ask_all("transactions that are empty", |_| filtered("Empty"))?;
    side.ask_all("transactions of a state that does not exist", |_| {
        filtered("Sleepy")
    })
}
