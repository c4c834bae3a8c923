//! What is there after a restart, in order or not.

use conveyor_grpc::v1;
use conveyor_server::{Broker, StartError};

use crate::harness::{BatchSpec, TestBroker, batch_with, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_topics_settings_records_and_producers() {
    let broker = TestBroker::start().await;
    let cluster_id = broker.broker.cluster_id();
    broker
        .create_topic("orders", 2, &[("retention.ms", "3d")])
        .await;
    let from = |sequence: i32| {
        batch_with(
            &["x"],
            BatchSpec {
                producer: Some((0, 0, sequence)),
                ..BatchSpec::default()
            },
        )
    };
    let asked = v1::InitProducerIdRequest {
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    broker.producer().init_producer_id(asked).await.unwrap();
    broker.produce("orders", 1, from(0)).await;
    broker.produce("orders", 1, from(1)).await;

    let broker = broker.restart(&[]).await;
    assert_eq!(broker.broker.cluster_id(), cluster_id);
    assert_eq!(broker.values("orders", 1, 0).await, ["x", "x"]);
    let again = broker.produce("orders", 1, from(1)).await;
    assert_eq!(
        (again.error_code, again.base_offset),
        (0, 1),
        "{}",
        again.error_message
    );
    assert_eq!(broker.produce("orders", 1, from(2)).await.base_offset, 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_on_the_same_folder_is_refused() {
    let broker = TestBroker::start().await;
    let error = Broker::start(config(broker.dir.path(), &[]))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Storage(_)), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_another_node_or_cluster_is_refused() {
    let dir = TestBroker::start().await.stop().await;
    for settings in [[("node.id", "2")], [("cluster.id", "elsewhere")]] {
        let error = Broker::start(config(dir.path(), &settings))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(settings[0].0), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_named() {
    let broker = TestBroker::start().await;
    let taken = broker.broker.grpc_address().to_string();
    let other = tempfile::TempDir::new().unwrap();
    let error = Broker::start(config(other.path(), &[("listeners.grpc", &taken)]))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("listeners.grpc") && error.to_string().contains(&taken),
        "{error}"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_spread_over_data_directories_and_found_again() {
    let folder = tempfile::TempDir::new().unwrap();
    let dirs = ["a", "b"]
        .map(|name| folder.path().join(name).display().to_string())
        .join(",");
    let settings = [("log.dirs", dirs.as_str())];
    let broker = TestBroker::start_in(folder, &settings).await;
    broker.create_topic("orders", 6, &[]).await;
    for partition in 0..6 {
        broker
            .produce_values("orders", partition, &[&format!("v{partition}")])
            .await;
    }
    let response = broker
        .admin()
        .describe_logs(v1::DescribeLogsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let in_a = response
        .logs
        .iter()
        .filter(|log| log.data_dir.ends_with("/a"))
        .count();
    assert!((2..=4).contains(&in_a), "{in_a} of 6");
    let broker = broker.restart(&settings).await;
    for partition in 0..6 {
        assert_eq!(
            broker.values("orders", partition, 0).await,
            [format!("v{partition}")]
        );
    }
    broker.stop().await;
}
