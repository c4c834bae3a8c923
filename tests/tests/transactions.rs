//! Transactions while the node is killed again and again: what was decided stays decided, everywhere.

use std::time::Duration;

use anyhow::Result;
use conveyor_sdk::admin::NewTopic;
use conveyor_sdk::{AdminClient, Client, ClientConfig};
use conveyor_tests::node::Node;
use conveyor_tests::transaction_history::{End, check};
use conveyor_tests::transaction_load::{INPUT, LEDGER, OUTPUT, PARTITIONS, TransactionLoad};

const SETTINGS: &[(&str, &str)] = &[
    ("transaction.state.log.num.partitions", "4"),
    ("offsets.topic.num.partitions", "4"),
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "200",
    ),
    // Recovery, indexes and rolls take part.
    ("log.segment.bytes", "65536"),
    ("conveyor.segment.pool.bytes", "65536"),
];
const ROUNDS: u64 = 24;
const COMMITS_PER_ROUND: u64 = 40;

async fn create_topics(node: &Node) -> Result<()> {
    let client = Client::connect(ClientConfig::new(node.address())).await?;
    let admin = AdminClient::new(&client);
    for topic in [LEDGER, INPUT, OUTPUT] {
        admin
            .create_topic(NewTopic::new(topic).partitions(PARTITIONS))
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_survive_sigkill_whole_or_not_at_all() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut node = Node::start(folder.path(), SETTINGS)?;
    create_topics(&node).await?;
    let load = TransactionLoad::start(node.kafka_address(), 4_711);
    for round in 0..ROUNDS {
        load.progress(COMMITS_PER_ROUND).await?;
        // At another moment of decision, markers and completion each time.
        tokio::time::sleep(Duration::from_micros(round * 389)).await;
        node.kill()?;
        node.restart()?;
    }
    load.progress(COMMITS_PER_ROUND).await?;
    let (history, log) = load.finish().await?;

    let violations = check(&history, &log);
    assert!(
        violations.is_empty(),
        "{} rules broken: {:#?}\n{}",
        violations.len(),
        &violations[..violations.len().min(10)],
        node.log_text()
    );
    let count = |end| {
        let transactions = history.transactions.iter();
        transactions.filter(|one| one.end == end).count()
    };
    let (committed, unknown) = (count(End::Committed), count(End::Unknown));
    let looped: i64 = history.loops.iter().map(|one| one.committed).sum();
    println!(
        "{committed} transactions committed, {} not, {unknown} unknown; {looped} records looped, {} seen while running",
        count(End::NotCommitted),
        history.seen.len()
    );
    // A run in which nothing happened proves nothing.
    assert!(committed as u64 >= ROUNDS * COMMITS_PER_ROUND);
    assert!(count(End::NotCommitted) > 50 && looped > 100);
    assert!(!history.seen.is_empty());
    Ok(())
}
