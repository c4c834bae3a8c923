//! Producing: round trips, duplicates, refusals, windows.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1;
use conveyor_grpc::v1::produce_service_client::ProduceServiceClient;
use conveyor_record::Codec;
use tonic::transport::Channel;

use crate::harness::{BatchSpec, PATIENCE, StreamProducer, TestBroker, batch, batch_with, now_ms};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_produced_is_fetched() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 3, &[]).await;
    assert_eq!(broker.produce_values("orders", 1, &["a", "b"]).await, 0);
    assert_eq!(broker.produce_values("orders", 1, &["c"]).await, 2);
    assert_eq!(broker.values("orders", 1, 0).await, ["a", "b", "c"]);
    assert_eq!(broker.values("orders", 1, 2).await, ["c"]);
    assert!(broker.values("orders", 0, 0).await.is_empty());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_codec_passes_as_it_came() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    for codec in Codec::ALL {
        let name = codec.name();
        let spec = BatchSpec {
            codec,
            ..BatchSpec::default()
        };
        let result = broker
            .produce("orders", 0, batch_with(&[name, name], spec))
            .await;
        assert_eq!(result.error_code, 0, "{name}: {}", result.error_message);
        assert_eq!(
            broker.values("orders", 0, result.base_offset).await,
            [name, name]
        );
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_batch_is_answered_with_its_first_offset() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let id = broker
        .producer()
        .init_producer_id(v1::InitProducerIdRequest {
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((id.error_code, id.producer_epoch), (0, 0));
    let from = |sequence: i32| {
        let producer = Some((id.producer_id, 0, sequence));
        batch_with(
            &["x", "y"],
            BatchSpec {
                producer,
                ..BatchSpec::default()
            },
        )
    };
    assert_eq!(broker.produce("orders", 0, from(0)).await.base_offset, 0);
    assert_eq!(broker.produce("orders", 0, from(2)).await.base_offset, 2);
    let again = broker.produce("orders", 0, from(0)).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let gap = broker.produce("orders", 0, from(9)).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(broker.log("orders").await.log_end_offset, 4);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_are_given_once_and_epochs_are_raised() {
    let broker = TestBroker::start().await;
    let ask = |producer_id: i64, producer_epoch: i32| v1::InitProducerIdRequest {
        producer_id,
        producer_epoch,
        ..Default::default()
    };
    let mut producer = broker.producer();
    let first = producer
        .init_producer_id(ask(-1, -1))
        .await
        .unwrap()
        .into_inner();
    let second = producer
        .init_producer_id(ask(-1, -1))
        .await
        .unwrap()
        .into_inner();
    assert_ne!(first.producer_id, second.producer_id);
    let raised = producer
        .init_producer_id(ask(second.producer_id, 4))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (raised.producer_id, raised.producer_epoch),
        (second.producer_id, 5)
    );
    let unknown = producer
        .init_producer_id(ask(1 << 40, 0))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(unknown.error_code, ErrorCode::UnknownProducerId.code());
    let broker = broker.restart(&[]).await;
    let after = broker
        .producer()
        .init_producer_id(ask(-1, -1))
        .await
        .unwrap()
        .into_inner();
    assert!(
        after.producer_id > second.producer_id,
        "ids are not given again after a restart"
    );
    broker.stop().await;
}

fn damaged(bytes: &Bytes, position: usize) -> Bytes {
    let mut bytes = BytesMut::from(&bytes[..]);
    bytes[position] ^= 0x55;
    bytes.freeze()
}

/// Batches that must not be taken, and what is said of them.
fn bad_batches() -> Vec<(&'static str, Bytes, ErrorCode)> {
    let good = batch(&["value"]);
    let mut two = BytesMut::from(&good[..]);
    two.extend_from_slice(&good);
    let future = BatchSpec {
        timestamp_ms: now_ms() + 7_200_000,
        ..BatchSpec::default()
    };
    vec![
        (
            "payload damaged",
            damaged(&good, good.len() - 1),
            ErrorCode::CorruptMessage,
        ),
        ("crc damaged", damaged(&good, 18), ErrorCode::CorruptMessage),
        (
            "cut short",
            good.slice(..good.len() - 1),
            ErrorCode::CorruptMessage,
        ),
        (
            "header only in part",
            good.slice(..30),
            ErrorCode::CorruptMessage,
        ),
        ("empty", Bytes::new(), ErrorCode::CorruptMessage),
        ("two batches", two.freeze(), ErrorCode::CorruptMessage),
        (
            "another magic",
            damaged(&good, 16),
            ErrorCode::UnsupportedForMessageFormat,
        ),
        (
            "too large",
            batch(&[&"x".repeat(5_000)]),
            ErrorCode::MessageTooLarge,
        ),
        (
            "from the future",
            batch_with(&["v"], future),
            ErrorCode::InvalidTimestamp,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_batches_get_their_code_and_leave_nothing_behind() {
    let broker = TestBroker::start().await;
    broker
        .create_topic("orders", 1, &[("max.message.bytes", "4096")])
        .await;
    for (what, bytes, code) in bad_batches() {
        let result = broker.produce("orders", 0, bytes).await;
        assert_eq!(
            ErrorCode::from_code(result.error_code),
            code,
            "{what}: {}",
            result.error_message
        );
        assert!(
            result.error_message.contains("orders-0"),
            "{what}: {}",
            result.error_message
        );
        assert_eq!(result.base_offset, -1);
    }
    assert_eq!(broker.log("orders").await.log_end_offset, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_bad_batches_and_acknowledges_in_order() {
    let broker = TestBroker::start().await;
    broker
        .create_topic("orders", 1, &[("max.message.bytes", "4096")])
        .await;
    let mut stream = StreamProducer::open(&broker, v1::Acks::All).await;
    assert!(stream.limits.window_bytes > 0 && stream.limits.batch_bytes_max > 0);
    let mut correlation_id = 0;
    for (what, bytes, code) in bad_batches() {
        stream.send(correlation_id, "orders", 0, bytes).await;
        let ack = stream.ack().await;
        assert_eq!(ack.correlation_id, correlation_id, "{what}");
        assert_eq!(
            ErrorCode::from_code(ack.error_code),
            code,
            "{what}: {}",
            ack.error_message
        );
        correlation_id += 1;
    }
    stream
        .send(correlation_id, "missing", 0, batch(&["v"]))
        .await;
    let ack = stream.ack().await;
    assert_eq!(ack.error_code, ErrorCode::UnknownTopicOrPartition.code());
    stream
        .send(correlation_id + 1, "orders", 7, batch(&["v"]))
        .await;
    let ack = stream.ack().await;
    assert_eq!(ack.error_code, ErrorCode::UnknownTopicOrPartition.code());

    for index in 0..50u64 {
        stream.send(1_000 + index, "orders", 0, batch(&["v"])).await;
    }
    for index in 0..50u64 {
        let ack = stream.ack().await;
        assert_eq!(
            (ack.error_code, ack.correlation_id),
            (0, 1_000 + index),
            "{}",
            ack.error_message
        );
        assert_eq!(ack.base_offset, index as i64);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_larger_than_its_window_goes_on_as_acknowledgements_free_it() {
    let broker = TestBroker::start_with(&[
        ("conveyor.produce.window.bytes", "64 KiB"),
        ("queued.max.request.bytes", "1 MiB"),
    ])
    .await;
    broker.create_topic("orders", 2, &[]).await;
    let mut stream = StreamProducer::open(&broker, v1::Acks::All).await;
    assert_eq!(stream.limits.window_bytes, 64 << 10);
    let value = "x".repeat(20_000);
    let sender = stream.requests.clone();
    let task = tokio::spawn(async move {
        for index in 0..200u64 {
            let batch = v1::ProduceStreamBatch {
                correlation_id: index,
                topic: "orders".into(),
                partition: (index % 2) as i32,
                batch: batch(&[&value]),
            };
            let message = v1::produce_stream_request::Message::Batch(batch);
            sender
                .send(v1::ProduceStreamRequest {
                    message: Some(message),
                })
                .await
                .unwrap();
        }
    });
    let mut last = [-1i64; 2];
    for _ in 0..200 {
        let ack = stream.ack().await;
        assert_eq!(ack.error_code, 0, "{}", ack.error_message);
        let partition = (ack.correlation_id % 2) as usize;
        assert_eq!(ack.base_offset, last[partition] + 1);
        last[partition] = ack.base_offset;
    }
    task.await.unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_larger_than_the_whole_window_is_taken_alone() {
    let broker = TestBroker::start_with(&[("conveyor.produce.window.bytes", "64 KiB")]).await;
    broker.create_topic("orders", 1, &[]).await;
    let mut stream = StreamProducer::open(&broker, v1::Acks::All).await;
    stream
        .send(1, "orders", 0, batch(&[&"x".repeat(300_000)]))
        .await;
    stream.send(2, "orders", 0, batch(&["small"])).await;
    assert_eq!(stream.ack().await.base_offset, 0);
    assert_eq!(stream.ack().await.base_offset, 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledgement_level_is_answered() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    for (acks, base_offset) in [
        (v1::Acks::All, 0),
        (v1::Acks::Leader, 1),
        (v1::Acks::None, -1),
    ] {
        let mut stream = StreamProducer::open(&broker, acks).await;
        stream.send(5, "orders", 0, batch(&["v"])).await;
        let ack = stream.ack().await;
        assert_eq!(
            (ack.correlation_id, ack.error_code, ack.base_offset),
            (5, 0, base_offset)
        );
    }
    for _ in 0..100 {
        if broker.log("orders").await.high_watermark == 3 {
            broker.stop().await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("what was acknowledged early does not become readable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_the_protocol_is_ended() {
    let broker = TestBroker::start().await;
    let batch = v1::ProduceStreamBatch::default();
    let message = Some(v1::produce_stream_request::Message::Batch(batch));
    let first = v1::ProduceStreamRequest { message };
    let requests = tokio_stream::iter([first]);
    let mut responses = broker
        .producer()
        .produce_stream(requests)
        .await
        .unwrap()
        .into_inner();
    let status = responses.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_the_topic_are_kept() {
    let broker = TestBroker::start().await;
    broker
        .create_topic("compacted", 1, &[("cleanup.policy", "compact")])
        .await;
    let keyless = BatchSpec {
        keyed: false,
        ..BatchSpec::default()
    };
    let result = broker
        .produce("compacted", 0, batch_with(&["v"], keyless))
        .await;
    assert_eq!(result.error_code, ErrorCode::InvalidRecord.code());
    assert_eq!(result.record_errors.len(), 1);

    broker
        .create_topic("replicated", 1, &[("min.insync.replicas", "2")])
        .await;
    let result = broker.produce("replicated", 0, batch(&["v"])).await;
    assert_eq!(result.error_code, ErrorCode::NotEnoughReplicas.code());

    broker
        .create_topic("stamped", 1, &[("message.timestamp.type", "LogAppendTime")])
        .await;
    let old = BatchSpec {
        timestamp_ms: 1_000,
        ..BatchSpec::default()
    };
    let result = broker.produce("stamped", 0, batch_with(&["v"], old)).await;
    assert_eq!(result.error_code, 0, "{}", result.error_message);
    assert!((now_ms() - result.log_append_timestamp_ms).abs() < 10_000);
    assert_eq!(broker.values("stamped", 0, 0).await, ["v"]);
    broker.stop().await;
}

fn alive_tasks() -> usize {
    let metrics = tokio::runtime::Handle::current().metrics();
    metrics.num_alive_tasks()
}

/// How many tasks an idle node runs: some begin, and some end, a moment after its start.
async fn settled_tasks() -> usize {
    let (mut alive, mut quiet) = (alive_tasks(), 0);
    while quiet < 25 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        quiet = if alive_tasks() == alive { quiet + 1 } else { 0 };
        alive = alive_tasks();
    }
    alive
}

/// Waits until the node runs no more tasks than at `baseline`.
async fn tasks_end(baseline: usize) {
    let end = tokio::time::Instant::now() + PATIENCE / 4;
    while alive_tasks() > baseline {
        let (now, alive) = (tokio::time::Instant::now(), alive_tasks());
        assert!(now < end, "{alive} tasks still run, {baseline} before");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a client on a runtime and a connection of its own, and cuts both off in the middle.
async fn cut_off<C, F>(broker: &TestBroker, client: C)
where
    C: FnOnce(ProduceServiceClient<Channel>) -> F + Send + 'static,
    F: Future<Output: 'static>,
{
    let address = format!("http://{}", broker.broker.grpc_address());
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _kept = runtime.block_on(async {
            // With little room for answers that nobody reads, beyond which the library gives up.
            let endpoint = Channel::from_shared(address).unwrap();
            let endpoint = endpoint.initial_stream_window_size(65_535);
            client(ProduceServiceClient::new(endpoint.connect().await.unwrap())).await
        });
        runtime.shutdown_background();
    });
    thread.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_break_leave_no_task_behind() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let baseline = settled_tasks().await;
    cut_off(&broker, |client| async move {
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = StreamProducer::open_at(client.clone(), v1::Acks::All).await;
            stream.send(1, "orders", 0, batch(&["v"])).await;
            assert_eq!(stream.ack().await.error_code, 0);
            streams.push(stream);
        }
        streams
    })
    .await;
    tasks_end(baseline).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_while_its_quota_holds_it_back_leaves_no_task_behind() {
    let broker = TestBroker::start_with(&[("quota.producer.default", "1 KB")]).await;
    broker.create_topic("orders", 1, &[]).await;
    let baseline = settled_tasks().await;
    cut_off(&broker, |client| async move {
        let mut stream = StreamProducer::open_at(client, v1::Acks::All).await;
        let large = batch(&[&"x".repeat(500_000)]);
        stream.send(1, "orders", 0, large).await;
        assert_eq!(stream.ack().await.error_code, 0);
        stream
    })
    .await;
    tasks_end(baseline).await;
    broker.stop().await;
}

/// Sends batches that are refused, and so take nothing of the window, until the node takes no more;
/// returns how many it took.
async fn send_until_held_back(stream: &StreamProducer, from: u64) -> u64 {
    let refused = batch(&[&"x".repeat(4_000)]);
    for correlation_id in from..from + 100_000 {
        let send = stream.send(correlation_id, "missing", 0, refused.clone());
        if tokio::time::timeout(Duration::from_secs(1), send)
            .await
            .is_err()
        {
            return correlation_id;
        }
    }
    panic!("the node reads on and on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_its_acknowledgements_unread_is_held_back() {
    let broker = TestBroker::start_with(&[("conveyor.grpc.stream.window.bytes", "64 KiB")]).await;
    let baseline = settled_tasks().await;
    cut_off(&broker, |client| async move {
        let mut stream = StreamProducer::open_at(client, v1::Acks::None).await;
        let sent = send_until_held_back(&stream, 0).await;
        for correlation_id in 0..sent {
            assert_eq!(stream.ack().await.correlation_id, correlation_id);
        }
        let more = send_until_held_back(&stream, sent).await;
        assert!(more > sent, "reading them lets it go on");
        stream
    })
    .await;
    tasks_end(baseline).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_takes_what_the_topic_with_the_largest_batches_takes() {
    let broker = TestBroker::start().await;
    broker
        .create_topic("large", 1, &[("max.message.bytes", "3000000")])
        .await;
    let mut stream = StreamProducer::open(&broker, v1::Acks::All).await;
    assert_eq!(stream.limits.batch_bytes_max, 3_000_000);
    let large = batch(&[&"x".repeat(2_500_000)]);
    stream.send(1, "large", 0, large).await;
    let ack = stream.ack().await;
    assert_eq!(ack.error_code, 0, "{}", ack.error_message);
    broker.stop().await;
}
