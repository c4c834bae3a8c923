//! What an idle connection costs.

use crate::client::KafkaClient;
use crate::harness::TestBroker;

/// Fewer than the ten thousand that the bound is about, as test machines have few descriptors; the
/// cost of one is what is checked.
const CONNECTIONS: usize = 400;
/// A hundredth of a GiB for a hundredth of ten thousand: 1 GiB / 10,000, both ends together.
const BYTES_EACH: usize = 107_374;

#[tokio::test]
async fn an_idle_connection_costs_little() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    // What the first ones cost is the allocator's and the runtime's.
    let mut warm = Vec::new();
    for _ in 0..20 {
        let mut client = KafkaClient::connect(&broker).await;
        client.metadata(9, &["t"]).await;
        warm.push(client);
    }
    let before = resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = KafkaClient::connect(&broker).await;
        client.metadata(9, &["t"]).await;
        clients.push(client);
    }
    let each = resident_bytes().saturating_sub(before) / CONNECTIONS;
    println!("an idle connection takes {each} bytes, its client included");
    assert!(each < BYTES_EACH, "{each} bytes each");
    drop((warm, clients));
    broker.stop().await;
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1_024
}
