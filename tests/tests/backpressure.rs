//! A slow store slows the fetch, not the memory: processors hold what the consumer may fetch ahead and
//! one batch, however much more the log has.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::print_stdout, reason = "the figure is worth a look")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use conveyor_paklog::projection::Atp;
use conveyor_processors::Projection;
use conveyor_sdk::{Client, ClientConfig, Codec, Producer, ProducerConfig, ProducerRecord};
use conveyor_stores::StoreAddress;
use conveyor_test_servers::postgres::{self, Postgres};
use conveyor_tests::node::Node;
use conveyor_tests::warehouse::{self, Log};
use conveyor_tests::work::Work;
use serde_json::json;

const TOPIC: &str = "inventory-events";
const RECORDS: usize = 60_000;
/// Bytes of an event that no projection reads. Nothing is compressed: the log has 240 MB.
const PADDING: usize = 4_000;
/// How long the store takes nothing.
const HELD: Duration = Duration::from_secs(12);
/// What the process may grow by, MiB: 32 that are fetched ahead, what the transport holds of them, a
/// batch of 2,048 events as bytes, decoded and as rows, and what the allocator keeps of all that. It was
/// 95 with this log and 101 with one of 600 MB.
const GROWTH_MAX_MIB: u64 = 160;
const LIMIT: Duration = Duration::from_mins(3);

/// Stock of one sku, with something that makes the event large.
fn event(number: usize) -> String {
    let level = |count: usize| json!({"quantity_on_hand": count, "quantity_allocated": 0, "available_to_promise": count});
    json!({
        "specversion": "1.0",
        "id": number.to_string(),
        "source": "/test",
        "type": "com.paklog.inventory.stock.level-changed.v1",
        "subject": sku(number),
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "aggregateversion": 1,
        "data": {
            "sku": sku(number),
            "previous_stock_level": level(0),
            "new_stock_level": level(number),
            "change_reason": "RECEIPT",
            "note": "x".repeat(PADDING),
        },
    })
    .to_string()
}

fn sku(number: usize) -> String {
    format!("SKU-{number}")
}

async fn send(client: &Client) -> Result<()> {
    let config = ProducerConfig {
        compression: Codec::None,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(client, config)?;
    let mut deliveries = Vec::with_capacity(RECORDS);
    for number in 0..RECORDS {
        let record = ProducerRecord::new(TOPIC)
            .key(sku(number).into_bytes())
            .value(event(number).into_bytes())
            .header("content-type", b"application/cloudevents+json".to_vec());
        deliveries.push(producer.send(record).await?);
    }
    for delivery in deliveries {
        delivery.await.context("a record was not acknowledged")?;
    }
    Ok(producer.close(LIMIT).await?)
}

/// The largest that a process ever was in memory, MiB.
fn largest_mib(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.context("no VmHWM")?.parse::<u64>()? / 1_024)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_slows_the_fetch_and_not_the_memory() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Node::start(&folder.path().join("node"), &[])?;
    let address = node.address();
    let client = Client::connect(ClientConfig::new(&address)).await?;
    warehouse::create_topics(&client).await?;
    let server = Postgres::start(&[]);
    let url = server.url("postgres");
    let store = url.parse::<StoreAddress>()?.open().await?;
    let run = ["processors", "run", "--projection", "atp", "--store", &url];
    let run = [&run[..], &["--bootstrap", &address]].concat();
    let processors = Work::start(&run, folder.path().join("processors.log"))?;
    wait_for_table(&url).await?;
    let before = largest_mib(processors.id())?;

    let hold = format!(
        "BEGIN; LOCK TABLE atp IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({}); COMMIT",
        HELD.as_secs()
    );
    let holder = std::thread::spawn(move || postgres::execute(&url, &hold));
    send(&client).await?;
    let log = Log::read(&client).await?;
    holder.join().unwrap();
    let deadline = Instant::now() + LIMIT;
    while warehouse::lag(&Atp.declaration(), &log, &*store).await? > 0 {
        if Instant::now() > deadline {
            bail!("the store does not get everything:\n{}", processors.said());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let growth = largest_mib(processors.id())? - before;
    println!("{growth} MiB more than {before}");
    assert!(
        growth < GROWTH_MAX_MIB,
        "{growth} MiB more than the {before} before there was anything to do"
    );
    Ok(())
}

async fn wait_for_table(url: &str) -> Result<()> {
    let store = url.parse::<StoreAddress>()?.open_builds().await?;
    let deadline = Instant::now() + LIMIT;
    while store.builds().await?.is_empty() {
        if Instant::now() > deadline {
            bail!("the processors prepare no table");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
