//! Folders that lie about: deletions and creations that were not finished, files that are missing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conveyor_grpc::v1;
use conveyor_log::disk::SimDisk;
use conveyor_server::Parts;
use tempfile::TempDir;

use crate::harness::TestBroker;

/// The one folder of a partition.
fn folder_of(dir: &TempDir, partition: &str) -> std::path::PathBuf {
    let mut found = Vec::new();
    find(dir.path(), partition, &mut found);
    assert_eq!(found.len(), 1, "{partition}: {found:?}");
    found.remove(0)
}

fn find(dir: &Path, name: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() == name {
                found.push(path);
            } else {
                find(&path, name, found);
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn strays(orders: &Path) -> Vec<String> {
    let names = std::fs::read_dir(orders.parent().unwrap()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with("-stray")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_whose_deletion_was_cut_short_is_not_in_the_way() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    broker.produce_values("orders", 0, &["old"]).await;
    let dir = broker.stop().await;
    let orders = folder_of(&dir, "orders-0");
    copy(&orders, &orders.with_file_name("gone-0"));

    let broker = TestBroker::start_in(dir, &[]).await;
    assert_eq!(
        strays(&orders).len(),
        1,
        "what no topic knows is moved aside"
    );
    broker.create_topic("gone", 1, &[]).await;
    assert_eq!(broker.produce_values("gone", 0, &["new"]).await, 0);
    assert_eq!(broker.values("gone", 0, 0).await, ["new"]);

    // The same without a restart: the folder could not be moved when its topic was deleted.
    copy(&orders, &orders.with_file_name("late-0"));
    std::fs::create_dir(orders.with_file_name("late-1")).unwrap();
    broker.create_topic("late", 2, &[]).await;
    for partition in 0..2 {
        assert_eq!(broker.produce_values("late", partition, &["new"]).await, 0);
        assert_eq!(broker.values("late", partition, 0).await, ["new"]);
    }
    assert_eq!(strays(&orders).len(), 3);
    let broker = broker.restart(&[]).await;
    assert_eq!(broker.values("orders", 0, 0).await, ["old"]);
    assert_eq!(broker.values("late", 1, 0).await, ["new"]);
    assert_eq!(strays(&orders).len(), 3, "nothing that is known is moved");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_the_longest_name_comes_and_goes() {
    let broker = TestBroker::start().await;
    let name = "n".repeat(249);
    for _ in 0..2 {
        broker.create_topic(&name, 2, &[]).await;
        assert_eq!(broker.produce_values(&name, 1, &["x"]).await, 0);
        let request = v1::DeleteTopicsRequest {
            topics: vec![name.clone()],
            ..Default::default()
        };
        broker.admin().delete_topics(request).await.unwrap();
    }
    broker.create_topic("orders", 1, &[]).await;
    assert_eq!(broker.produce_values("orders", 0, &["x"]).await, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_id_is_written_again() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    broker.produce_values("orders", 0, &["x"]).await;
    let dir = broker.stop().await;
    let file = folder_of(&dir, "orders-0").join("partition.metadata");
    let before = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let broker = TestBroker::start_in(dir, &[]).await;
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(broker.values("orders", 0, 0).await, ["x"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_metadata_log_fails_stops() {
    let disk = SimDisk::new(1);
    let parts = Parts {
        disk: Arc::new(disk.clone()),
        ..Parts::default()
    };
    let broker = TestBroker::start_parts(TempDir::new().unwrap(), &[], parts).await;
    broker.create_topic("orders", 1, &[]).await;
    disk.fail_next_syncs(1000);
    let refused = broker.try_create_topic("more", 1, &[]).await;
    assert_ne!(refused.error_code, 0);
    let stopped = tokio::time::timeout(Duration::from_secs(10), broker.broker.stopped());
    stopped.await.expect("the node stops by itself");
    broker.broker.shutdown().await.unwrap_err();
}
