//! `Fetch`: waiting, limits, sessions, positions, epochs.

use std::time::{Duration, Instant};

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::fetch::{FetchRequest, FetchResponse, ForgottenTopic};
use conveyor_record::Codec;

use crate::client::{KafkaClient, code, fetch_of, fetch_request, only, produce_request};
use crate::harness::{BatchSpec, TestBroker, batch, batch_with, decode};

/// Values of all partitions, in the order of the response.
fn values(response: &FetchResponse) -> Vec<String> {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions);
    let records = partitions.filter_map(|partition| partition.records.as_ref());
    records.flat_map(decode).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn every_version_reads_what_grpc_wrote() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.produce_values("t", 0, &["a", "b"]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let topic_id = client.metadata(12, &["t"]).await.topics[0].topic_id;
    for version in 4..=17 {
        let mut request = fetch_request("t", 0, 0);
        request.topics[0].topic_id = topic_id;
        let response = client.call(version, &request).await;
        let partition = only(&response);
        assert_eq!(
            decode(partition.records.as_ref().unwrap()),
            [(0, "a".into()), (1, "b".into())]
        );
        assert_eq!((partition.error_code, partition.high_watermark), (0, 2));
        let named = response.responses[0].topic.as_str();
        assert_eq!(named, if version < 13 { "t" } else { "" });
        assert_eq!(response.responses[0].topic_id.is_nil(), version < 13);
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_16_a_fetch_is_answered_at_once_when_waiting_is_of_no_use() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    client.produce("t", 0, batch(&["a"])).await;
    let patient = |request| FetchRequest {
        max_wait_ms: 30_000,
        ..request
    };
    let no_partitions = FetchRequest {
        topics: Vec::new(),
        ..fetch_request("t", 0, 0)
    };
    let mut own_limit = fetch_request("t", 0, 0);
    own_limit.min_bytes = 1 << 20;
    own_limit.topics[0].partitions[0].partition_max_bytes = 1;
    client.produce("t", 0, batch(&["b"])).await;
    let started = Instant::now();
    for (request, what) in [
        (fetch_request("t", 1, 0), "no wait asked for"),
        (patient(fetch_request("t", 0, 0)), "enough is there"),
        (
            patient(FetchRequest {
                min_bytes: 0,
                ..fetch_request("t", 1, 0)
            }),
            "nothing is enough",
        ),
        (patient(no_partitions), "there is nothing to wait for"),
        (
            patient(fetch_of("t", &[(1, 0), (9, 0)])),
            "one partition has an error",
        ),
        (
            patient(fetch_of("t", &[(1, 0), (0, 9)])),
            "one offset is out of range",
        ),
        (patient(own_limit), "a partition has reached its own limit"),
    ] {
        client.call(12, &request).await;
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_16_a_parked_fetch_wakes_when_there_is_enough_or_its_time_is_over() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let mut writer = KafkaClient::connect(&broker).await;
    let waiting = FetchRequest {
        max_wait_ms: 30_000,
        ..fetch_of("t", &[(0, 0), (1, 0)])
    };
    let started = Instant::now();
    client.send(12, &waiting).await;
    assert!(client.is_silent(Duration::from_millis(100)).await);
    writer.produce("t", 1, batch(&["late"])).await;
    let (_, response) = client.receive::<FetchRequest>(12).await;
    assert_eq!(values(&response), ["late"]);
    assert!(started.elapsed() < Duration::from_secs(10));

    let too_little = FetchRequest {
        max_wait_ms: 300,
        min_bytes: 1 << 20,
        ..fetch_request("t", 1, 0)
    };
    let started = Instant::now();
    let response = client.call(12, &too_little).await;
    assert_eq!(values(&response), ["late"], "what is there is told");
    assert!(started.elapsed() >= Duration::from_millis(300));
    broker.stop().await;
}

#[tokio::test]
async fn trap_16_an_empty_request_of_a_session_waits_too() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let session_id = open_session(&mut client, &fetch_request("t", 0, 0)).await;
    let started = Instant::now();
    let empty = FetchRequest {
        max_wait_ms: 300,
        ..next(session_id, 1)
    };
    let response = client.call(12, &empty).await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!((response.error_code, response.responses.len()), (0, 0));
    broker.stop().await;
}

#[tokio::test]
async fn trap_17_the_first_batch_comes_whole_and_limits_hold_after_it() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 3, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let large = "x".repeat(10_000);
    for partition in 1..3 {
        client.produce("t", partition, batch(&[&large])).await;
        client.produce("t", partition, batch(&["small"])).await;
    }
    let partitions = [(0, 0), (1, 0), (2, 0)];
    let tight = FetchRequest {
        max_bytes: 1,
        ..fetch_of("t", &partitions)
    };
    let response = client.call(12, &tight).await;
    assert_eq!(
        values(&response),
        [large.as_str()],
        "the first that is not empty, and no more"
    );
    assert_eq!(
        response.responses[0].partitions.len(),
        3,
        "trap 6: all are answered"
    );

    let mut own_limits = fetch_of("t", &partitions);
    for partition in &mut own_limits.topics[0].partitions {
        partition.partition_max_bytes = 100;
    }
    let response = client.call(12, &own_limits).await;
    assert_eq!(
        values(&response),
        [large.as_str()],
        "only one batch is larger than its limit"
    );

    let whole = FetchRequest {
        max_bytes: 10_500,
        ..fetch_of("t", &partitions)
    };
    let response = client.call(12, &whole).await;
    assert_eq!(
        values(&response),
        [large.as_str(), "small"],
        "the limit is that of the response"
    );
    broker.stop().await;
}

#[tokio::test]
async fn trap_17_the_node_bounds_the_whole_response() {
    let broker = TestBroker::start_with(&[("fetch.max.bytes", "20000")]).await;
    broker.create_topic("t", 4, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let large = "x".repeat(9_000);
    for partition in 0..4 {
        client.produce("t", partition, batch(&[&large])).await;
    }
    let response = client
        .call(12, &fetch_of("t", &[(0, 0), (1, 0), (2, 0), (3, 0)]))
        .await;
    assert_eq!(values(&response).len(), 2);
    broker.stop().await;
}

async fn open_session(client: &mut KafkaClient, first: &FetchRequest) -> i32 {
    let first = FetchRequest {
        session_epoch: 0,
        ..first.clone()
    };
    let response = client.call(12, &first).await;
    assert_eq!(response.error_code, 0);
    assert_ne!(response.session_id, 0);
    response.session_id
}

/// A request of a session that changes nothing.
fn next(session_id: i32, session_epoch: i32) -> FetchRequest {
    FetchRequest {
        session_id,
        session_epoch,
        topics: Vec::new(),
        ..fetch_request("", 0, 0)
    }
}

#[tokio::test]
async fn trap_18_a_session_tells_news_only() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 3, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let all = fetch_of("t", &[(0, 0), (1, 0), (2, 0)]);
    let session_id = open_session(&mut client, &all).await;
    let quiet = client.call(12, &next(session_id, 1)).await;
    assert_eq!((quiet.session_id, quiet.responses.len()), (session_id, 0));
    client.produce("t", 1, batch(&["news"])).await;
    let response = client.call(12, &next(session_id, 2)).await;
    let partition = only(&response);
    assert_eq!(
        (partition.partition_index, partition.high_watermark),
        (1, 1)
    );
    assert_eq!(values(&response), ["news"]);
    // Read on from where the records end; a new log start is news although nothing can be read.
    let moved = FetchRequest {
        topics: fetch_of("t", &[(1, 1)]).topics,
        ..next(session_id, 3)
    };
    assert_eq!(client.call(12, &moved).await.responses.len(), 0);
    let mut admin = broker.admin();
    let delete = conveyor_grpc::v1::DeleteRecordsRequest {
        partitions: vec![conveyor_grpc::v1::DeleteRecordsPartition {
            topic: "t".into(),
            partition: 1,
            before_offset: 1,
        }],
    };
    admin.delete_records(delete).await.unwrap();
    let response = client.call(12, &next(session_id, 4)).await;
    assert_eq!(only(&response).log_start_offset, 1);
    // A partition that is read no more is told of no more.
    let forget = FetchRequest {
        forgotten_topics_data: vec![ForgottenTopic {
            topic: "t".into(),
            partitions: vec![2],
            ..ForgottenTopic::default()
        }],
        ..next(session_id, 5)
    };
    client.call(12, &forget).await;
    client.produce("t", 2, batch(&["unheard"])).await;
    assert_eq!(
        client.call(12, &next(session_id, 6)).await.responses.len(),
        0
    );
    broker.stop().await;
}

#[tokio::test]
async fn trap_18_sessions_and_epochs_that_do_not_fit_are_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let session_id = open_session(&mut client, &fetch_request("t", 0, 0)).await;
    let unknown = client.call(12, &next(session_id ^ 1, 1)).await;
    assert_eq!(unknown.error_code, code(ErrorCode::FetchSessionIdNotFound));
    let skipped = client.call(12, &next(session_id, 2)).await;
    assert_eq!(
        skipped.error_code,
        code(ErrorCode::InvalidFetchSessionEpoch)
    );
    let by_id = client.call(13, &next(session_id, 1)).await;
    assert_eq!(by_id.error_code, code(ErrorCode::FetchSessionTopicIdError));
    assert_eq!(client.call(12, &next(session_id, 1)).await.error_code, 0);
    // Closed by the client, who reads once more without it.
    let last = FetchRequest {
        session_id,
        session_epoch: -1,
        ..fetch_request("t", 0, 0)
    };
    let closed = client.call(12, &last).await;
    assert_eq!((closed.error_code, closed.session_id), (0, 0));
    let gone = client.call(12, &next(session_id, 2)).await;
    assert_eq!(gone.error_code, code(ErrorCode::FetchSessionIdNotFound));
    broker.stop().await;
}

#[tokio::test]
async fn trap_19_positions_are_always_told() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    for (from, error) in [(0, 0), (2, 0), (9, code(ErrorCode::OffsetOutOfRange))] {
        let partition = client.fetch("t", 0, from).await;
        assert_eq!(partition.error_code, error);
        assert_eq!(partition.high_watermark, 2);
        assert_eq!(partition.last_stable_offset, 2);
        assert_eq!(partition.log_start_offset, 0);
        assert_eq!(partition.preferred_read_replica, -1);
        assert_eq!(partition.aborted_transactions, None);
    }
    let committed = FetchRequest {
        isolation_level: 1,
        ..fetch_request("t", 0, 0)
    };
    let response = client.call(12, &committed).await;
    assert_eq!(only(&response).aborted_transactions, Some(Vec::new()));
    let unknown = client.fetch("t", 5, 0).await;
    assert_eq!(unknown.error_code, code(ErrorCode::UnknownTopicOrPartition));
    assert_eq!((unknown.high_watermark, unknown.log_start_offset), (-1, -1));
    broker.stop().await;
}

#[tokio::test]
async fn trap_20_offsets_outside_are_refused_and_those_within_a_batch_give_it_whole() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    client.produce("t", 0, batch(&["a", "b", "c"])).await;
    client.produce("t", 0, batch(&["d"])).await;
    for from in [-1, 5, i64::MAX] {
        let partition = client.fetch("t", 0, from).await;
        assert_eq!(
            partition.error_code,
            code(ErrorCode::OffsetOutOfRange),
            "{from}"
        );
    }
    let end = client.fetch("t", 0, 4).await;
    assert_eq!((end.error_code, end.records.unwrap().len()), (0, 0));
    let middle = client.fetch("t", 0, 1).await;
    let offsets: Vec<i64> = decode(&middle.records.unwrap())
        .iter()
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    broker.stop().await;
}

#[tokio::test]
async fn trap_21_leader_epochs_are_compared() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    client.produce("t", 0, batch(&["a"])).await;
    let epoch = client.metadata(9, &["t"]).await.topics[0].partitions[0].leader_epoch;
    for (current, error) in [
        (-1, 0),
        (epoch, 0),
        (epoch + 1, code(ErrorCode::UnknownLeaderEpoch)),
    ] {
        let mut request = fetch_request("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = current;
        let request = with_id(&mut client, request).await;
        let response = client.call(16, &request).await;
        assert_eq!(only(&response).error_code, error, "epoch {current}");
    }
    // Records of an epoch that has never been cannot be ours.
    for (last_fetched, offset) in [(epoch, 1), (epoch, 0)] {
        let mut request = fetch_request("t", 0, offset);
        request.topics[0].partitions[0].last_fetched_epoch = last_fetched;
        let response = client.call(12, &request).await;
        assert_eq!(only(&response).diverging_epoch.epoch, -1);
    }
    let mut beyond = fetch_request("t", 0, 5);
    beyond.max_wait_ms = 30_000;
    beyond.topics[0].partitions[0].last_fetched_epoch = epoch;
    let response = client.call(12, &beyond).await;
    let parted = only(&response);
    assert_eq!(
        (parted.error_code, parted.records.as_ref().unwrap().len()),
        (0, 0)
    );
    let diverging = &parted.diverging_epoch;
    assert_eq!((diverging.epoch, diverging.end_offset), (epoch, 1));
    broker.stop().await;
}

/// The same request by the topic's id.
async fn with_id(client: &mut KafkaClient, mut request: FetchRequest) -> FetchRequest {
    let name = request.topics[0].topic.clone();
    request.topics[0].topic_id = client.metadata(12, &[&name]).await.topics[0].topic_id;
    request
}

#[tokio::test]
async fn trap_21_a_recreated_topic_has_another_id() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let old = with_id(&mut client, fetch_request("t", 0, 0)).await;
    let delete = conveyor_grpc::v1::DeleteTopicsRequest {
        topics: vec!["t".into()],
        ..Default::default()
    };
    broker.admin().delete_topics(delete).await.unwrap();
    broker.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["new"])).await;
    let response = client.call(13, &old).await;
    assert_eq!(only(&response).error_code, code(ErrorCode::UnknownTopicId));
    let new = with_id(&mut client, fetch_request("t", 0, 0)).await;
    assert_eq!(values(&client.call(13, &new).await), ["new"]);
    broker.stop().await;
}

#[tokio::test]
async fn zstd_is_for_those_who_know_it() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let zstd = BatchSpec {
        codec: Codec::Zstd,
        ..BatchSpec::default()
    };
    let request = produce_request("t", 0, batch_with(&["packed"], zstd));
    let unsupported = code(ErrorCode::UnsupportedCompressionType);
    for (version, error) in [(6, unsupported), (7, 0)] {
        let response = client.call(version, &request).await;
        assert_eq!(
            response.responses[0].partition_responses[0].error_code,
            error
        );
    }
    for (version, error) in [(9, unsupported), (10, 0)] {
        let response = client.call(version, &fetch_request("t", 0, 0)).await;
        assert_eq!(only(&response).error_code, error);
    }
    broker.stop().await;
}
