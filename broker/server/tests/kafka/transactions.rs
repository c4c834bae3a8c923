//! Transactions: what producers may do, what readers see, what survives.

use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::api_versions::ApiVersionsRequest;
use conveyor_kafka::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use conveyor_kafka::messages::describe_transactions::DescribeTransactionsRequest;
use conveyor_kafka::messages::end_txn::EndTxnRequest;
use conveyor_kafka::messages::init_producer_id::InitProducerIdRequest;
use conveyor_kafka::messages::list_transactions::ListTransactionsRequest;
use conveyor_kafka::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use conveyor_kafka::messages::produce::ProduceRequest;
use conveyor_kafka::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};

use crate::client::{KafkaClient, code, produce_request};
use crate::harness::{BatchSpec, TestBroker, batch, batch_with};
use crate::transactional::{Protocol, TransactionalProducer, expect_committed, fetch_committed};

const BOTH: [Protocol; 2] = [Protocol::First, Protocol::Second];
const FENCED: [ErrorCode; 2] = [ErrorCode::ProducerFenced, ErrorCode::InvalidProducerEpoch];

async fn start() -> (TestBroker, KafkaClient) {
    let broker = TestBroker::start_with(&[(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "50",
    )])
    .await;
    broker.create_topic("t", 3, &[]).await;
    let client = KafkaClient::connect(&broker).await;
    (broker, client)
}

#[tokio::test]
async fn committed_transactions_are_read_and_aborted_ones_are_not() {
    for protocol in BOTH {
        let (broker, mut client) = start().await;
        let mut producer = TransactionalProducer::start(&broker, "tx", protocol).await;
        producer.transaction("t", &[(0, "a"), (1, "b")], true).await;
        producer
            .transaction("t", &[(0, "c"), (1, "d")], false)
            .await;
        producer.transaction("t", &[(0, "e"), (1, "f")], true).await;
        expect_committed(&mut client, "t", 0, &["a", "e"]).await;
        expect_committed(&mut client, "t", 1, &["b", "f"]).await;
        // Without isolation everything is there, markers have offsets of their own.
        assert_eq!(broker.values("t", 0, 0).await, ["a", "c", "e"]);
        assert_eq!(client.offset("t", 0, -1).await.offset, 6);
        broker.stop().await;
    }
}

#[tokio::test]
async fn what_was_decided_is_carried_out_though_the_producer_has_gone() {
    let (broker, _client) = start().await;
    for round in 0..100 {
        let id = format!("gone-{round}");
        let mut producer = TransactionalProducer::start(&broker, &id, Protocol::First).await;
        assert_eq!(producer.add("t", 0).await, 0);
        assert_eq!(producer.write("t", 0, &["a"]).await.0, 0);
        let end = EndTxnRequest {
            transactional_id: id.as_str().into(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            committed: true,
        };
        // The reply to the first request becomes ready, and cannot be written, while the second is
        // on its way to the disk.
        let plain = produce_request("t", 2, batch(&["plain"]));
        let client = &mut producer.client;
        let frames = [client.frame(9, &plain), client.frame(3, &end)].concat();
        client.send_raw(&frames).await;
        tokio::time::sleep(Duration::from_micros(20 * round)).await;
        client.stream.set_zero_linger().unwrap();
        drop(producer);
        // Waits until the transaction is over, one way or the other.
        TransactionalProducer::start(&broker, &id, Protocol::First).await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_30_an_open_transaction_holds_readers_of_committed_records_back() {
    let (broker, mut client) = start().await;
    let mut producer = TransactionalProducer::start(&broker, "tx", Protocol::First).await;
    let mut other = TransactionalProducer::start(&broker, "other", Protocol::Second).await;
    assert_eq!(producer.add("t", 0).await, 0);
    assert_eq!(producer.write("t", 0, &["open"]).await, (0, 0));
    other.transaction("t", &[(0, "behind")], true).await;
    let data = fetch_committed(&mut client, "t", 0).await;
    // The last stable offset is exclusive: the first record that is not decided.
    assert_eq!(data.last_stable_offset, 0);
    assert!(data.records.unwrap_or_default().is_empty());
    producer.end(false).await;
    let data = expect_committed(&mut client, "t", 0, &["behind"]).await;
    let aborted = data.aborted_transactions.unwrap();
    assert_eq!(aborted.len(), 1);
    assert_eq!(
        (aborted[0].producer_id, aborted[0].first_offset),
        (producer.id, 0)
    );
    broker.stop().await;
}

#[tokio::test]
async fn trap_30_a_transaction_survives_a_restart_between_its_partitions_and_its_end() {
    for protocol in BOTH {
        let (broker, _) = start().await;
        let mut producer = TransactionalProducer::start(&broker, "tx", protocol).await;
        for (partition, value) in [(0, "a"), (1, "b")] {
            if protocol == Protocol::First {
                assert_eq!(producer.add("t", partition).await, 0);
            }
            assert_eq!(producer.write("t", partition, &[value]).await.0, 0);
        }
        let broker = broker.restart(&[]).await;
        producer.client = KafkaClient::connect(&broker).await;
        assert_eq!(producer.write("t", 0, &["c"]).await.0, 0);
        producer.end(true).await;
        let mut client = KafkaClient::connect(&broker).await;
        expect_committed(&mut client, "t", 0, &["a", "c"]).await;
        expect_committed(&mut client, "t", 1, &["b"]).await;
        broker.stop().await;
    }
}

#[tokio::test]
async fn trap_30_a_deleted_topic_does_not_stall_the_markers() {
    let (broker, mut client) = start().await;
    broker.create_topic("doomed", 1, &[]).await;
    let mut producer = TransactionalProducer::start(&broker, "tx", Protocol::Second).await;
    assert_eq!(producer.write("doomed", 0, &["gone"]).await.0, 0);
    assert_eq!(producer.write("t", 0, &["stays"]).await.0, 0);
    let request = conveyor_grpc::v1::DeleteTopicsRequest {
        topics: vec!["doomed".into()],
        ..Default::default()
    };
    broker.admin().delete_topics(request).await.unwrap();
    producer.end(true).await;
    expect_committed(&mut client, "t", 0, &["stays"]).await;
    producer.transaction("t", &[(0, "next")], true).await;
    expect_committed(&mut client, "t", 0, &["stays", "next"]).await;
    broker.stop().await;
}

#[tokio::test]
async fn trap_30_a_transaction_that_is_open_too_long_is_aborted() {
    let (broker, mut client) = start().await;
    let mut producer = TransactionalProducer::start(&broker, "tx", Protocol::First).await;
    let request = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 100,
        ..InitProducerIdRequest::default()
    };
    let answer = producer.client.call(4, &request).await;
    (producer.id, producer.epoch) = (answer.producer_id, answer.producer_epoch);
    assert_eq!(producer.add("t", 0).await, 0);
    assert_eq!(producer.write("t", 0, &["late"]).await.0, 0);
    expect_committed(&mut client, "t", 0, &[]).await;
    let fenced = FENCED.map(code);
    assert!(fenced.contains(&producer.try_end(true).await));
    assert!(fenced.contains(&producer.write("t", 0, &["later"]).await.0));
    producer.initialise().await;
    producer.transaction("t", &[(0, "again")], true).await;
    expect_committed(&mut client, "t", 0, &["again"]).await;
    broker.stop().await;
}

#[tokio::test]
async fn trap_15_a_record_needs_its_partition_in_the_transaction() {
    let (broker, _) = start().await;
    let mut producer = TransactionalProducer::start(&broker, "tx", Protocol::First).await;
    let unadded = producer.write_as(10, "t", 0, 0, &["a"]).await.0;
    assert_eq!(unadded, code(ErrorCode::InvalidTxnState));
    let unadded = producer.write_as(11, "t", 0, 0, &["a"]).await.0;
    assert_eq!(unadded, code(ErrorCode::TransactionAbortable));
    assert_eq!(producer.add("t", 0).await, 0);
    assert_eq!(producer.write("t", 0, &["a"]).await.0, 0);
    assert_ne!(
        producer.write("t", 1, &["b"]).await.0,
        0,
        "another partition"
    );

    // The same producer, outside the transaction that it has open here.
    let outside = producer.batch(1, &["c"], false);
    let answer = producer.client.produce("t", 0, outside).await;
    assert_eq!(answer.error_code, code(ErrorCode::InvalidTxnState));
    // Somebody else has nothing to do with it.
    assert_eq!(broker.produce_values("t", 0, &["d"]).await, 1);
    producer.end(true).await;
    broker.stop().await;
}

#[tokio::test]
async fn trap_15_a_transactional_batch_needs_its_id() {
    let (broker, _) = start().await;
    let mut producer = TransactionalProducer::start(&broker, "tx", Protocol::Second).await;
    let batch = producer.batch(0, &["a"], true);
    let nameless = ProduceRequest {
        transactional_id: None,
        ..produce_request("t", 0, batch.clone())
    };
    let foreign = ProduceRequest {
        transactional_id: Some("somebody-else".into()),
        ..produce_request("t", 0, batch)
    };
    for (request, error) in [
        (nameless, ErrorCode::TransactionalIdAuthorizationFailed),
        (foreign, ErrorCode::InvalidProducerIdMapping),
    ] {
        let answer = producer.client.call(12, &request).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, code(error));
    }
    assert!(broker.values("t", 0, 0).await.is_empty());
    broker.stop().await;
}

#[tokio::test]
async fn trap_15_a_timeout_above_the_maximum_is_refused() {
    let (broker, mut client) = start().await;
    for (timeout, error) in [
        (900_001, ErrorCode::InvalidTransactionTimeout),
        (0, ErrorCode::InvalidTransactionTimeout),
        (900_000, ErrorCode::None),
    ] {
        let request = InitProducerIdRequest {
            transactional_id: Some("tx".into()),
            transaction_timeout_ms: timeout,
            ..InitProducerIdRequest::default()
        };
        assert_eq!(client.call(4, &request).await.error_code, code(error));
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_31_ends_can_be_repeated_and_not_turned() {
    for protocol in BOTH {
        let (broker, mut client) = start().await;
        let mut producer = TransactionalProducer::start(&broker, "tx", protocol).await;
        if protocol == Protocol::First {
            assert_eq!(producer.add("t", 0).await, 0);
        }
        assert_eq!(producer.write("t", 0, &["a"]).await.0, 0);
        let before = (producer.id, producer.epoch);
        producer.end(true).await;
        let after = (producer.id, producer.epoch);
        // The answer was lost: the client asks again as who it was.
        for (commit, error) in [(true, ErrorCode::None), (false, ErrorCode::InvalidTxnState)] {
            (producer.id, producer.epoch) = before;
            let mut told = code(ErrorCode::ConcurrentTransactions);
            while told == code(ErrorCode::ConcurrentTransactions) {
                told = producer.try_end(commit).await;
            }
            assert_eq!(told, code(error), "{protocol:?}");
        }
        (producer.id, producer.epoch) = before;
        producer.end(true).await;
        assert_eq!((producer.id, producer.epoch), after);
        expect_committed(&mut client, "t", 0, &["a"]).await;
        broker.stop().await;
    }
}

#[tokio::test]
async fn trap_31_a_new_producer_takes_the_id_over() {
    for protocol in BOTH {
        let (broker, mut client) = start().await;
        let mut old = TransactionalProducer::start(&broker, "tx", protocol).await;
        if protocol == Protocol::First {
            assert_eq!(old.add("t", 0).await, 0);
        }
        assert_eq!(old.write("t", 0, &["zombie"]).await.0, 0);
        let mut new = TransactionalProducer::start(&broker, "tx", protocol).await;
        assert_eq!(new.id, old.id);
        assert!(new.epoch > old.epoch, "every start takes a higher epoch");
        let fenced = FENCED.map(code);
        assert!(fenced.contains(&old.write("t", 0, &["zombie"]).await.0));
        assert!(fenced.contains(&old.try_end(true).await));
        new.transaction("t", &[(0, "new")], true).await;
        expect_committed(&mut client, "t", 0, &["new"]).await;
        broker.stop().await;
    }
}

#[tokio::test]
async fn trap_31_older_clients_are_told_that_they_are_fenced_in_their_words() {
    let (broker, mut client) = start().await;
    let old = TransactionalProducer::start(&broker, "tx", Protocol::First).await;
    TransactionalProducer::start(&broker, "tx", Protocol::First).await;
    let end = EndTxnRequest {
        transactional_id: "tx".into(),
        producer_id: old.id,
        producer_epoch: old.epoch,
        committed: true,
    };
    for (version, error) in [
        (1, ErrorCode::InvalidProducerEpoch),
        (2, ErrorCode::ProducerFenced),
    ] {
        assert_eq!(client.call(version, &end).await.error_code, code(error));
    }
    let init = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 1_000,
        producer_id: old.id,
        producer_epoch: old.epoch,
    };
    for (version, error) in [
        (3, ErrorCode::InvalidProducerEpoch),
        (4, ErrorCode::ProducerFenced),
    ] {
        assert_eq!(client.call(version, &init).await.error_code, code(error));
    }
    let half = InitProducerIdRequest {
        producer_epoch: -1,
        ..init
    };
    let answer = client.call(4, &half).await;
    assert_eq!(answer.error_code, code(ErrorCode::InvalidRequest));
    broker.stop().await;
}

#[tokio::test]
async fn trap_31_a_producer_goes_on_after_an_error_with_the_epoch_it_asked_for() {
    let (broker, mut client) = start().await;
    let producer = TransactionalProducer::start(&broker, "tx", Protocol::First).await;
    let request = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 1_000,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
    };
    let first = client.call(4, &request).await;
    assert_eq!(first.producer_epoch, producer.epoch + 1);
    assert_eq!(client.call(4, &request).await, first, "a retry");
    // Also when the node was restarted before the client heard of it.
    let broker = broker.restart(&[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    assert_eq!(client.call(4, &request).await, first);
    broker.stop().await;
}

async fn committed_offset(client: &mut KafkaClient, group: &str) -> i64 {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    loop {
        let answer = client.call(8, &request).await;
        let partition = &answer.groups[0].topics[0].partitions[0];
        if partition.error_code != code(ErrorCode::UnstableOffsetCommit) {
            assert_eq!(partition.error_code, 0);
            return partition.committed_offset;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn offsets_count_with_their_transaction() {
    for protocol in BOTH {
        let (broker, mut client) = start().await;
        let mut producer = TransactionalProducer::start(&broker, "tx", protocol).await;
        assert_eq!(producer.commit_offset("g", "t", 0, 5).await, 0);
        producer.end(true).await;
        assert_eq!(committed_offset(&mut client, "g").await, 5);
        assert_eq!(producer.commit_offset("g", "t", 0, 9).await, 0);
        producer.end(false).await;
        assert_eq!(committed_offset(&mut client, "g").await, 5);

        // Pending over a restart, and committed after it.
        assert_eq!(producer.commit_offset("g", "t", 0, 7).await, 0);
        let broker = broker.restart(&[]).await;
        producer.client = KafkaClient::connect(&broker).await;
        producer.end(true).await;
        let mut client = KafkaClient::connect(&broker).await;
        assert_eq!(committed_offset(&mut client, "g").await, 7);
        // A zombie's offsets are refused.
        let mut zombie = TransactionalProducer::start(&broker, "tx", protocol).await;
        TransactionalProducer::start(&broker, "tx", protocol).await;
        if protocol == Protocol::Second {
            let error = zombie.commit_offset("g", "t", 0, 99).await;
            assert!(FENCED.map(code).contains(&error), "{error}");
        }
        broker.stop().await;
    }
}

#[tokio::test]
async fn transactions_are_listed_and_described() {
    let (broker, mut client) = start().await;
    let mut open = TransactionalProducer::start(&broker, "open", Protocol::Second).await;
    assert_eq!(open.write("t", 2, &["a", "b"]).await.0, 0);
    TransactionalProducer::start(&broker, "idle", Protocol::Second).await;

    let request = ListTransactionsRequest {
        state_filters: vec!["Ongoing".into(), "Nonsense".into()],
        duration_filter: -1,
        ..ListTransactionsRequest::default()
    };
    let answer = client.call(1, &request).await;
    assert_eq!(answer.unknown_state_filters, ["Nonsense"]);
    assert_eq!(answer.transaction_states.len(), 1);
    assert_eq!(&*answer.transaction_states[0].transactional_id, "open");
    let request = ListTransactionsRequest {
        transactional_id_pattern: Some("id.*|op".into()),
        duration_filter: -1,
        ..ListTransactionsRequest::default()
    };
    let answer = client.call(2, &request).await;
    assert_eq!(
        answer.transaction_states.len(),
        1,
        "a pattern fits whole ids"
    );
    assert_eq!(&*answer.transaction_states[0].transaction_state, "Empty");

    let request = DescribeTransactionsRequest {
        transactional_ids: vec!["open".into(), "nobody".into()],
    };
    let answer = client.call(0, &request).await;
    let [described, unknown] = &answer.transaction_states[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(&*described.transaction_state, "Ongoing");
    assert_eq!(
        (described.producer_id, described.producer_epoch),
        (open.id, open.epoch)
    );
    assert_eq!(&*described.topics[0].topic, "t");
    assert_eq!(described.topics[0].partitions, [2]);
    assert_eq!(unknown.error_code, code(ErrorCode::TransactionalIdNotFound));

    let request = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: "t".into(),
            partition_indexes: vec![2, 9],
        }],
    };
    let answer = client.call(0, &request).await;
    let [known, missing] = &answer.topics[0].partitions[..] else {
        panic!("{answer:?}");
    };
    let producer = &known.active_producers[0];
    assert_eq!((producer.producer_id, producer.last_sequence), (open.id, 1));
    assert_eq!(producer.current_txn_start_offset, 0);
    assert_eq!(missing.error_code, code(ErrorCode::UnknownTopicOrPartition));
    broker.stop().await;
}

#[tokio::test]
async fn an_administrator_writes_a_marker() {
    let (broker, mut client) = start().await;
    let mut producer = TransactionalProducer::start(&broker, "tx", Protocol::First).await;
    assert_eq!(producer.add("t", 0).await, 0);
    assert_eq!(producer.write("t", 0, &["hangs"]).await.0, 0);
    let request = WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic {
                name: "t".into(),
                partition_indexes: vec![0, 9],
            }],
            ..WritableTxnMarker::default()
        }],
    };
    let answer = client.call(1, &request).await;
    let [written, missing] = &answer.markers[0].topics[0].partitions[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(written.error_code, 0);
    assert_eq!(missing.error_code, code(ErrorCode::UnknownTopicOrPartition));
    expect_committed(&mut client, "t", 0, &[]).await;
    broker.stop().await;
}

#[tokio::test]
async fn the_second_protocol_is_told_as_a_feature() {
    let (broker, mut client) = start().await;
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    let answer = client.call(4, &request).await;
    let feature = &answer.finalized_features[0];
    assert_eq!(&*feature.name, "transaction.version");
    assert_eq!(
        (feature.min_version_level, feature.max_version_level),
        (2, 2)
    );
    assert_eq!(answer.supported_features[0].max_version, 2);
    let answer = client.call(3, &request).await;
    assert_eq!(answer.finalized_features.len(), 1);
    assert!(answer.supported_features.is_empty(), "level 0 hurts them");
    broker.stop().await;
}

#[tokio::test]
async fn trap_14_a_retry_gets_the_first_offset_and_a_gap_is_refused() {
    let (broker, mut client) = start().await;
    let answer = client.call(4, &InitProducerIdRequest::default()).await;
    let (id, epoch) = (answer.producer_id, answer.producer_epoch);
    let batch = |epoch, sequence| {
        let spec = BatchSpec {
            producer: Some((id, epoch, sequence)),
            ..BatchSpec::default()
        };
        batch_with(&["x"], spec)
    };
    for sequence in 0..6 {
        let answer = client.produce("t", 0, batch(epoch, sequence)).await;
        assert_eq!(answer.base_offset, i64::from(sequence));
    }
    for sequence in 1..6 {
        let answer = client.produce("t", 0, batch(epoch, sequence)).await;
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, i64::from(sequence))
        );
    }
    for sequence in [0, 7] {
        let answer = client.produce("t", 0, batch(epoch, sequence)).await;
        let error = code(ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(answer.error_code, error, "sequence {sequence}");
    }
    // A producer raises its epoch by itself and begins with sequence 0 again (KIP-360).
    let answer = client.produce("t", 0, batch(epoch + 1, 0)).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 6));
    let answer = client.produce("t", 0, batch(epoch, 6)).await;
    assert_eq!(answer.error_code, code(ErrorCode::InvalidProducerEpoch));
    broker.stop().await;
}

#[tokio::test]
async fn trap_14_an_unknown_producer_may_begin_anywhere_and_sequences_wrap() {
    let (broker, mut client) = start().await;
    let batch = |sequence, values: &[&str]| {
        let spec = BatchSpec {
            producer: Some((77, 0, sequence)),
            ..BatchSpec::default()
        };
        batch_with(values, spec)
    };
    let first = batch(i32::MAX - 1, &["a", "b", "c"]);
    let answer = client.produce("t", 0, first.clone()).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    let answer = client.produce("t", 0, batch(1, &["d"])).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 3));
    let answer = client.produce("t", 0, first).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    broker.stop().await;
}
