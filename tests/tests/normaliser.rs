//! The normaliser as a process. Two of them, killed again and again together with the node: every source
//! record comes out once for readers of committed records, and in order for each key. And what becomes
//! of records that cannot be normalised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use conveyor_sdk::admin::NewTopic;
use conveyor_sdk::{
    AdminClient, Client, ClientConfig, Consumer, ConsumerConfig, ConsumerRecord, IsolationLevel,
    OffsetReset, Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use conveyor_tests::node::{Node, binary};

const SETTINGS: &[(&str, &str)] = &[
    ("transaction.state.log.num.partitions", "4"),
    ("offsets.topic.num.partitions", "4"),
    ("group.consumer.session.timeout.ms", "3000"),
    ("group.consumer.heartbeat.interval.ms", "300"),
];
const ORDERS: &str = "fulfillment.order_management.v1.events";
const STOCK: &str = "fulfillment.inventory.v1.events";
/// Created while the normaliser runs.
const WAVES: &str = "wave-planning-events";
const CANONICAL: [&str; 3] = ["order-events", "inventory-events", "wave-events"];
const ERRORS: &str = "error-events";
const ROUNDS: usize = 12;
const LIMIT: Duration = Duration::from_mins(2);

/// Where a record was read.
type Place = (String, i32, i64);

/// A process that is killed at the end.
struct Normaliser {
    child: Child,
}

impl Normaliser {
    fn start(node: &Node, folder: &Path, instance: usize, more: &[&str]) -> Result<Self> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(format!("normaliser-{instance}.log")))?;
        let child = Command::new(binary()?)
            .args([
                "processors",
                "normalise",
                "--log",
                "info",
                "--report-every",
                "600",
            ])
            .args([
                "--instance",
                &instance.to_string(),
                "--bootstrap",
                &node.address(),
            ])
            .args(more)
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { child })
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for an end in order.
    fn finish(mut self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("the normaliser ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("the normaliser does not come to the end");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Normaliser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn connect(node: &Node) -> Result<Client> {
    let mut config = ClientConfig::new(node.address());
    config.connect_timeout_ms = 30_000;
    Ok(Client::connect(config).await?)
}

fn stock(number: u64) -> ProducerRecord {
    let sku = format!("SKU-{}", number % 17);
    let level = r#"{"quantity_on_hand":9,"quantity_allocated":1,"available_to_promise":8}"#;
    let value = format!(
        r#"{{"sku":"{sku}","previous_stock_level":{level},"new_stock_level":{level},"change_reason":"{number}"}}"#
    );
    ProducerRecord::new(STOCK)
        .key(sku)
        .value(value)
        .header("ce_specversion", "1.0")
        .header("ce_id", number.to_string())
        .header("ce_source", "/fulfillment/inventory-service")
        .header(
            "ce_type",
            "com.paklog.inventory.fulfillment.v1.product-stock.level-changed",
        )
}

/// Without key, as the order service sends it; an order's events stay in one partition here.
fn order(number: u64) -> ProducerRecord {
    let order = number % 23;
    let value = format!(
        r#"{{"specversion":"1.0","id":"e-{number}","source":"/fulfillment/order-management-service","type":"com.paklog.fulfillment.order.cancelled","subject":"o-{order}","data":{{"order_id":"o-{order}","cancellation_reason":"{number}"}}}}"#
    );
    ProducerRecord::new(ORDERS)
        .partition((order % 3) as i32)
        .value(value)
}

fn wave(number: u64) -> ProducerRecord {
    let value = format!(
        r#"{{"type":"WaveReleasedEvent","waveId":"WAVE-{}"}}"#,
        number % 5
    );
    ProducerRecord::new(WAVES)
        .key(format!("WAVE-{}", number % 5))
        .value(value)
}

/// Sends events of three services, some of them unreadable, until it is told to stop.
async fn feed(client: Client, has_waves: Arc<AtomicBool>, stop: Arc<AtomicBool>) -> Result<u64> {
    let producer = Producer::new(&client, ProducerConfig::default())?;
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let record = match sent % 10 {
            9 => ProducerRecord::new(STOCK)
                .key("SKU-1")
                .value(format!("junk {sent}")),
            8 if has_waves.load(Ordering::Relaxed) => wave(sent),
            0..=4 => stock(sent),
            _ => order(sent),
        };
        drop(producer.send(record).await?);
        sent += 1;
        if sent % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
    }
    producer.flush().await;
    Ok(sent)
}

/// All committed records of a topic, partition by partition, in order.
async fn read(client: &Client, topic: &str) -> Result<Vec<ConsumerRecord>> {
    let mut config = ConsumerConfig::standalone();
    config.isolation_level = IsolationLevel::ReadCommitted;
    config.auto_offset_reset = OffsetReset::Earliest;
    let mut consumer = Consumer::new(client, config)?;
    let count = client.topic(topic).await?.partitions.len() as i32;
    let partitions: Vec<_> = (0..count).map(|p| TopicPartition::new(topic, p)).collect();
    consumer.assign(partitions.clone())?;
    let ends = consumer.end_offsets(&partitions).await?;
    let mut records = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while !ends
        .iter()
        .all(|(place, end)| end.value() == 0 || consumer.position(place) >= Some(*end))
    {
        if Instant::now() > deadline {
            bail!("the end of {topic} is not reached");
        }
        records.extend(consumer.poll(Duration::from_millis(100)).await?);
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

fn header<'a>(record: &'a ConsumerRecord, name: &str) -> Result<&'a [u8]> {
    let found = record
        .headers
        .iter()
        .rev()
        .find(|header| &*header.key_str() == name);
    let found = found.with_context(|| format!("{record} has no header {name}"))?;
    found.value.as_deref().context("a value")
}

/// The record that a canonical one was made from.
fn source(record: &ConsumerRecord) -> Result<Place> {
    let text = |name| Ok::<_, anyhow::Error>(std::str::from_utf8(header(record, name)?)?);
    Ok((
        text("conveyor-source-topic")?.to_owned(),
        text("conveyor-source-partition")?.parse()?,
        text("conveyor-source-offset")?.parse()?,
    ))
}

/// The record that could not be read, as Spring's headers have it.
fn rejected(record: &ConsumerRecord) -> Result<Place> {
    Ok((
        String::from_utf8(header(record, "kafka_original-topic")?.to_vec())?,
        i32::from_be_bytes(header(record, "kafka_dlt-original-partition")?.try_into()?),
        i64::from_be_bytes(header(record, "kafka_original-offset")?.try_into()?),
    ))
}

async fn judge(node: &Node, sources: &[&str]) -> Result<(usize, usize)> {
    let client = connect(node).await?;
    let mut expected = BTreeSet::new();
    for topic in sources.iter().copied() {
        for record in read(&client, topic).await? {
            expected.insert((topic.to_owned(), record.partition, record.offset.value()));
        }
    }
    let mut found = BTreeSet::new();
    for topic in CANONICAL {
        let mut partition_of: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
        let mut last: BTreeMap<(Vec<u8>, String, i32), i64> = BTreeMap::new();
        for record in read(&client, topic).await? {
            let key = record.key.as_deref().context("a key")?.to_vec();
            let place = source(&record)?;
            let known = *partition_of.entry(key.clone()).or_insert(record.partition);
            assert_eq!(
                known, record.partition,
                "{record}: its key lies elsewhere too"
            );
            let before = last.insert((key, place.0.clone(), place.1), place.2);
            assert!(
                before < Some(place.2),
                "{record}: {place:?} comes after {before:?}"
            );
            assert!(found.insert(place.clone()), "{place:?} is there twice");
        }
    }
    let normalised = found.len();
    for record in read(&client, ERRORS).await? {
        let place = rejected(&record)?;
        assert!(found.insert(place.clone()), "{place:?} is there twice");
    }
    let missing: Vec<_> = expected.difference(&found).take(5).collect();
    let unknown: Vec<_> = found.difference(&expected).take(5).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing {missing:?}, unknown {unknown:?}"
    );
    Ok((normalised, found.len() - normalised))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_normalised_once_whatever_is_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut node = Node::start(folder.path(), SETTINGS)?;
    let client = connect(&node).await?;
    let admin = AdminClient::new(&client);
    for topic in [ORDERS, STOCK] {
        admin
            .create_topic(NewTopic::new(topic).partitions(3))
            .await?;
    }
    let mut running = [
        Normaliser::start(&node, folder.path(), 0, &[])?,
        Normaliser::start(&node, folder.path(), 1, &[])?,
    ];
    let (has_waves, stop) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let feeder = tokio::spawn(feed(
        client.clone(),
        Arc::clone(&has_waves),
        Arc::clone(&stop),
    ));
    for round in 0..ROUNDS {
        // At another moment of its work each time.
        tokio::time::sleep(Duration::from_millis(600 + 137 * (round as u64 % 7))).await;
        if round == 2 {
            admin
                .create_topic(NewTopic::new(WAVES).partitions(3))
                .await?;
            has_waves.store(true, Ordering::Relaxed);
        }
        let victim = round % 2;
        running[victim].kill()?;
        if round % 4 == 3 {
            node.kill()?;
            node.restart()?;
        }
        running[victim] = Normaliser::start(&node, folder.path(), victim, &[])?;
    }
    stop.store(true, Ordering::Relaxed);
    let sent = feeder.await??;
    for one in &mut running {
        one.kill()?;
    }
    // Alone, it waits for the partitions of the killed ones, and takes what is left.
    tokio::time::sleep(Duration::from_secs(4)).await;
    for instance in 0..2 {
        Normaliser::start(&node, folder.path(), instance, &["--until-end"])?.finish()?;
    }
    let judged = judge(&node, &[ORDERS, STOCK, WAVES]).await;
    let (normalised, errors) = judged.with_context(|| {
        let logs = (0..2).map(|n| folder.path().join(format!("normaliser-{n}.log")));
        let logs = logs.map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let text: String = logs.collect();
        text.chars()
            .skip(text.len().saturating_sub(8_000))
            .collect::<String>()
    })?;
    println!("{sent} records sent, {normalised} normalised, {errors} to {ERRORS}");
    assert_eq!((normalised + errors) as u64, sent);
    assert!(normalised > 1_000 && errors > 100, "{normalised} {errors}");
    Ok(())
}

/// Text that does not get shorter by compression.
fn dense(bytes: usize) -> String {
    let mut chance = conveyor_test_servers::chance::Chance::of(1);
    let digits = std::iter::repeat_with(|| format!("{:016x}", chance.below(u64::MAX)));
    digits.take(bytes / 16).collect()
}

/// What is to be found of a record that could not be normalised.
struct Aside {
    key: Option<&'static str>,
    value: String,
    timestamp_ms: i64,
    error: &'static str,
    /// Part of the reason.
    says: &'static str,
}

impl Aside {
    fn record(&self) -> ProducerRecord {
        let record = ProducerRecord::new(ORDERS)
            .partition(1)
            .value(self.value.clone())
            .timestamp_ms(self.timestamp_ms)
            .header("traceparent", "00-1-1-01");
        match self.key {
            Some(key) => record.key(key),
            None => record,
        }
    }

    /// The record itself and both families of headers, as Spring's consumers read them.
    fn assert_is(&self, found: &ConsumerRecord) -> Result<()> {
        assert_eq!(found.key.as_deref(), self.key.map(str::as_bytes));
        assert_eq!(found.value.as_deref(), Some(self.value.as_bytes()));
        assert_eq!(header(found, "traceparent")?, b"00-1-1-01");
        for family in ["kafka_dlt-", "kafka_"] {
            let of = |name: &str| header(found, &format!("{family}{name}"));
            assert_eq!(of("original-topic")?, ORDERS.as_bytes());
            assert_eq!(of("original-partition")?, 1_i32.to_be_bytes());
            assert_eq!(of("original-offset")?.len(), 8);
            assert_eq!(of("original-timestamp")?, self.timestamp_ms.to_be_bytes());
            assert_eq!(of("original-timestamp-type")?, b"CreateTime");
        }
        let group = header(found, "kafka_dlt-original-consumer-group")?;
        assert_eq!(group, b"conveyor-normaliser");
        let error = header(found, "kafka_dlt-exception-fqcn")?;
        assert_eq!(std::str::from_utf8(error)?, self.error);
        let reason = std::str::from_utf8(header(found, "kafka_dlt-exception-message")?)?;
        assert!(reason.contains(self.says), "{reason}");
        assert_eq!(header(found, "conveyor_attempts")?, b"1");
        Ok(())
    }
}

/// A record that nobody can read and one that its canonical topic refuses go aside, whole and with
/// where they came from and why; those before and behind them go their way, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_normalised_goes_aside_and_the_rest_flows() -> Result<()> {
    const GOOD: u64 = 60;
    let folder = tempfile::tempdir()?;
    let node = Node::start(folder.path(), SETTINGS)?;
    let client = connect(&node).await?;
    let admin = AdminClient::new(&client);
    let orders = NewTopic::new(ORDERS).partitions(3);
    admin.create_topic(orders).await?;
    let small = NewTopic::new("order-events").partitions(6);
    let small = small.config("max.message.bytes", "6000");
    admin.create_topic(small).await?;
    let too_large = format!(
        r#"{{"specversion":"1.0","id":"e-x","source":"/fulfillment/order-management-service","type":"com.paklog.fulfillment.order.cancelled","subject":"o-1","data":{{"order_id":"o-1","cancellation_reason":"{}"}}}}"#,
        dense(20_000)
    );
    let aside = [
        Aside {
            key: Some("o-7"),
            value: "{\"specversion\":".to_owned(),
            timestamp_ms: 1_795_406_400_000,
            error: "conveyor.decode.NotJson",
            says: "JSON",
        },
        Aside {
            key: None,
            value: too_large,
            timestamp_ms: 1_795_406_400_001,
            error: "conveyor.normalise.Refused",
            says: "MESSAGE_TOO_LARGE",
        },
    ];
    let producer = Producer::new(&client, ProducerConfig::default())?;
    for number in 0..GOOD {
        match number {
            20 => drop(producer.send(aside[0].record()).await?),
            40 => drop(producer.send(aside[1].record()).await?),
            _ => {}
        }
        drop(producer.send(order(number)).await?);
    }
    producer.flush().await;
    Normaliser::start(&node, folder.path(), 0, &["--until-end"])?.finish()?;

    let set_aside = read(&client, ERRORS).await?;
    assert_eq!(set_aside.len(), aside.len());
    for one in &aside {
        let is_it = |found: &&ConsumerRecord| found.value.as_deref() == Some(one.value.as_bytes());
        one.assert_is(set_aside.iter().find(is_it).context("the record")?)?;
    }
    let (normalised, errors) = judge(&node, &[ORDERS]).await?;
    assert_eq!((normalised as u64, errors), (GOOD, aside.len()));
    Ok(())
}
