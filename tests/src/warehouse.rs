//! The warehouse's events in a node's log, and what the projections must make of them: a plain fold
//! of the log, record by record, which shares neither store, group nor transaction with what it
//! judges.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use conveyor_paklog::projection::{REPLAYED_AT, Visitor, visit_all};
use conveyor_paklog::topics::{self, Topic};
use conveyor_paklog::workload::{OrderLines, Settings, Workload, WorkloadEvent};
use conveyor_processors::{
    Declaration, Decoder, Fold, Header, Projection, Row, Source, SourceRecord, Store, Table,
};
use conveyor_sdk::admin::{NewTopic, OffsetSpec};
use conveyor_sdk::{
    AdminClient, Client, Consumer, ConsumerConfig, IsolationLevel, OffsetReset, Producer,
    ProducerConfig, ProducerRecord, TopicPartition,
};

/// A year of real orders of one store.
const ORDERS: &[u8] = include_bytes!("../../processors/paklog/fixtures/orders-store-367.csv.gz");

/// How long timers may take that are due once nothing more comes.
const TIMERS_TIMEOUT: Duration = Duration::from_mins(1);
/// Rows shown of those that are wrong.
const SHOWN_MAX: usize = 5;
/// How long a log may take to be read.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// What follows from the first `orders` orders.
pub fn events(orders: usize) -> Result<Vec<WorkloadEvent>> {
    let lines = OrderLines::new(ORDERS)?.take(orders);
    Ok(Workload::new(lines, Settings::default()).collect::<Result<_, _>>()?)
}

/// Creates the eight topics.
pub async fn create_topics(client: &Client) -> Result<()> {
    let new = topics::plans(1)
        .into_iter()
        .map(|plan| NewTopic::new(plan.topic.name()).partitions(plan.partitions as i32));
    let new: Vec<_> = new.collect();
    for (_, created) in AdminClient::new(client).create_topics(&new, false).await? {
        created?;
    }
    Ok(())
}

/// Sends events, at most `per_second` of them a second, and waits until all are acknowledged.
pub async fn send(client: &Client, events: Vec<WorkloadEvent>, per_second: u32) -> Result<()> {
    let config = ProducerConfig {
        linger_ms: 5,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(client, config)?;
    let mut steps = tokio::time::interval(Duration::from_millis(20));
    let mut deliveries = Vec::with_capacity(events.len());
    let mut left = 0;
    for event in events {
        while left == 0 {
            steps.tick().await;
            left = per_second / 50;
        }
        left -= 1;
        let mut record = ProducerRecord::new(event.topic().name())
            .key(event.key.into_bytes())
            .value(event.value)
            .timestamp_ms(event.event_time_ms);
        for (name, value) in WorkloadEvent::HEADERS {
            record = record.header(name, value.as_bytes().to_vec());
        }
        deliveries.push(producer.send(record).await?);
    }
    for delivery in deliveries {
        delivery.await.context("a record was not acknowledged")?;
    }
    Ok(producer.close(READ_TIMEOUT).await?)
}

/// Sends reports of records that could not be processed, as Spring's consumers publish them: some by two
/// consumers, some twice, some replayed later.
pub async fn send_failures(client: &Client, count: i64, per_second: u32) -> Result<()> {
    let producer = Producer::new(client, ProducerConfig::default())?;
    let mut steps = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    let mut deliveries = Vec::new();
    for offset in 0..count {
        steps.tick().await;
        let consumers: &[&'static str] = match offset % 4 {
            0 => &["billing", "shipping"],
            1 => &["billing", "billing"],
            _ => &["shipping"],
        };
        for (attempts, consumer) in (1..).zip(consumers) {
            let report = failure(offset, consumer, attempts);
            deliveries.push(producer.send(report).await?);
        }
        if offset % 5 == 0 {
            let replay = place_of(ProducerRecord::new(Topic::Error.name()), offset);
            let replay = replay.header(REPLAYED_AT, now_ms().to_be_bytes().to_vec());
            deliveries.push(producer.send(replay).await?);
        }
    }
    for delivery in deliveries {
        delivery.await.context("a report was not acknowledged")?;
    }
    Ok(producer.close(READ_TIMEOUT).await?)
}

fn failure(offset: i64, consumer: &'static str, attempts: i32) -> ProducerRecord {
    let record = ProducerRecord::new(Topic::Error.name())
        .value(format!("{{\"type\":\"broken\",\"n\":{offset}}}"))
        .timestamp_ms(now_ms());
    place_of(record, offset)
        .header("kafka_dlt-original-consumer-group", consumer)
        .header("kafka_dlt-exception-fqcn", "com.paklog.Broken")
        .header("kafka_dlt-exception-message", format!("attempt {attempts}"))
        .header("kafka_deliveryAttempt", attempts.to_be_bytes().to_vec())
}

/// Where the record stood that failed, and its key, by which all that is said of it stays in order.
fn place_of(record: ProducerRecord, offset: i64) -> ProducerRecord {
    let partition = i32::try_from(offset % 6).unwrap_or_default();
    record
        .key(format!("order-{offset}"))
        .header("kafka_dlt-original-topic", Topic::Order.name())
        .header(
            "kafka_dlt-original-partition",
            partition.to_be_bytes().to_vec(),
        )
        .header("kafka_dlt-original-offset", offset.to_be_bytes().to_vec())
}

/// The log of the eight topics.
#[derive(Debug)]
pub struct Log {
    /// In offset order within a partition.
    pub records: Vec<SourceRecord>,
    /// Where each partition ends.
    pub ends: BTreeMap<(String, i32), i64>,
}

impl Log {
    /// Reads everything that there is.
    pub async fn read(client: &Client) -> Result<Self> {
        let partitions: Vec<_> = Topic::ALL
            .into_iter()
            .flat_map(|topic| {
                (0..topic.partitions() as i32)
                    .map(move |number| TopicPartition::new(topic.name(), number))
            })
            .collect();
        let specs: Vec<_> = partitions
            .iter()
            .map(|partition| (partition.clone(), OffsetSpec::Latest))
            .collect();
        let listed = AdminClient::new(client)
            .list_offsets(&specs, IsolationLevel::ReadUncommitted)
            .await?;
        let mut ends = BTreeMap::new();
        for (partition, listed) in listed {
            let end = listed?.offset.map_or(0, conveyor_sdk::Offset::value);
            ends.insert((partition.topic.to_string(), partition.partition), end);
        }
        let config = ConsumerConfig {
            auto_offset_reset: OffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        let mut consumer = Consumer::new(client, config)?;
        consumer.assign(partitions)?;
        let wanted = usize::try_from(ends.values().sum::<i64>())?;
        let mut records = Vec::with_capacity(wanted);
        let read = async {
            while records.len() < wanted {
                for part in consumer
                    .poll(Duration::from_secs(1))
                    .await?
                    .into_partitions()
                {
                    let from = part.topic_partition;
                    let record = |record| source_record(&from, record);
                    records.extend(part.records.into_iter().map(record));
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(READ_TIMEOUT, read)
            .await
            .context("the log cannot be read to its end")??;
        Ok(Self { records, ends })
    }

    /// Those records that belong to it as of a moment of the past.
    #[must_use]
    pub fn until(&self, belongs: impl Fn(&SourceRecord) -> bool) -> Self {
        let mut until = Self {
            records: Vec::new(),
            ends: self.ends.keys().map(|place| (place.clone(), 0)).collect(),
        };
        for record in self.records.iter().filter(|record| belongs(record)) {
            let source = &record.source;
            let place = (source.topic.to_string(), source.partition);
            until.ends.insert(place, source.offset.value() + 1);
            until.records.push(record.clone());
        }
        until
    }

    /// The rows of a projection: each record once, one after the other, and then every timer that is
    /// due by the wall's time. Clocks are left out: where they stand depends on when they were looked at.
    pub fn fold<P: Projection>(
        &self,
        projection: &P,
        decoder: &impl Decoder<Event = P::Event>,
    ) -> Result<Vec<Row>> {
        let declaration = projection.declaration();
        let mut fold = Fold::new(projection);
        for record in &self.records {
            if !declaration.sources().contains(&&*record.source.topic) {
                continue;
            }
            if let Some(event) = decoder.decode(record)? {
                fold.apply(&event, &record.source)?;
            }
        }
        fold.fire_until(now_ms());
        let rows = fold.rows().into_iter();
        let rows = rows.filter(|(key, _)| !is_clocks(&declaration, key.table));
        Ok(rows.map(|(_, row)| row.clone()).collect())
    }
}

fn is_clocks(declaration: &Declaration, table: &str) -> bool {
    let rules = declaration.timer_rules();
    rules.is_some_and(|rules| rules.clocks == table)
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as i64)
}

/// How many records of the log a store has not taken in yet.
pub async fn lag(declaration: &Declaration, log: &Log, store: &dyn Store) -> Result<i64> {
    let positions = store.positions(declaration).await?;
    let mut lag = 0;
    for ((topic, partition), end) in &log.ends {
        if *end == 0 || !declaration.sources().contains(&topic.as_str()) {
            continue;
        }
        let position = positions.iter().find(|position| {
            *position.topic_partition.topic == **topic
                && position.topic_partition.partition == *partition
        });
        let stands = position.map_or(0, |position| position.next_offset.value());
        if stands > *end {
            bail!("the store stands at {stands} of {topic}-{partition}, which ends at {end}");
        }
        lag += end - stands;
    }
    Ok(lag)
}

/// Whether a store that has taken everything in holds what the log says, each record once; how many
/// rows those are.
pub async fn check<P: Projection>(
    projection: &P,
    decoder: &impl Decoder<Event = P::Event>,
    log: &Log,
    store: &dyn Store,
) -> Result<usize> {
    let declaration = projection.declaration();
    let lag = lag(&declaration, log, store).await?;
    if lag != 0 {
        bail!("{} lacks {lag} records", declaration.name());
    }
    let expected = log.fold(projection, decoder)?;
    // Timers fire a while after the last record, by the wall's time.
    let patience = match declaration.timer_rules() {
        Some(_) => TIMERS_TIMEOUT,
        None => Duration::ZERO,
    };
    let begun = Instant::now();
    loop {
        match compare(&declaration, &expected, store).await {
            Err(_) if begun.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            compared => return compared,
        }
    }
}

/// Whether a store holds these rows and no others; how many.
async fn compare(declaration: &Declaration, expected: &[Row], store: &dyn Store) -> Result<usize> {
    let mut found = Vec::new();
    let tables = declaration.tables().iter();
    for table in tables.filter(|table| !is_clocks(declaration, table.name())) {
        found.extend(store.read_table(declaration, table).await?);
    }
    let named = |row: &Row| {
        let keys = declaration
            .find_table(table_of(row))
            .map_or(0, |t| t.key_columns().len());
        (
            table_of(row).to_owned(),
            format!("{:?}", &row.values()[..keys]),
        )
    };
    let expected: BTreeMap<_, _> = expected.iter().map(|row| (named(row), row)).collect();
    let held: BTreeMap<_, _> = found.iter().map(|row| (named(row), row)).collect();
    let names: BTreeSet<_> = expected.keys().chain(held.keys()).collect();
    let wrong: Vec<_> = names
        .into_iter()
        .filter(|name| expected.get(*name) != held.get(*name))
        .map(|name| {
            let (expected, held) = (expected.get(name), held.get(name));
            format!("{name:?}: the log makes\n  {expected:?}\nand the store holds\n  {held:?}")
        })
        .collect();
    if !wrong.is_empty() {
        let shown = wrong.iter().take(SHOWN_MAX).map(String::as_str);
        let shown = shown.collect::<Vec<_>>().join("\n");
        bail!(
            "{} of {} rows are wrong, as these:\n{shown}",
            wrong.len(),
            expected.len()
        );
    }
    if found.len() != held.len() {
        bail!("{} rows have {} keys", found.len(), held.len());
    }
    Ok(found.len())
}

/// The same of every projection that is named; how many rows they have together.
pub async fn check_all(log: &Log, store: &dyn Store, names: &[&str]) -> Result<usize> {
    let mut all = CheckAll {
        log,
        store,
        checks: Vec::new(),
    };
    visit_all(&mut all);
    let mut rows = 0;
    for (name, check) in all.checks {
        if !names.contains(&name) {
            continue;
        }
        rows += check.await.with_context(|| format!("{name} is wrong"))?;
    }
    Ok(rows)
}

type Check<'c> = Pin<Box<dyn Future<Output = Result<usize>> + 'c>>;

struct CheckAll<'c> {
    log: &'c Log,
    store: &'c dyn Store,
    checks: Vec<(&'static str, Check<'c>)>,
}

impl Visitor for CheckAll<'_> {
    fn visit<P, D>(&mut self, projection: P, decoder: &Arc<D>)
    where
        P: Projection,
        D: Decoder<Event = P::Event>,
    {
        let (log, store, decoder) = (self.log, self.store, Arc::clone(decoder));
        let name = projection.declaration().name();
        let check = async move { check(&projection, &*decoder, log, store).await };
        self.checks.push((name, Box::pin(check)));
    }
}

fn table_of(row: &Row) -> &str {
    Table::name(row.table())
}

fn source_record(from: &TopicPartition, record: conveyor_record::Record) -> SourceRecord {
    let headers = record.headers.into_iter().map(|header| Header {
        key: header.key_str().into_owned(),
        value: header.value,
    });
    SourceRecord {
        source: Source {
            topic: from.topic.clone(),
            partition: from.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        },
        headers: headers.collect(),
        key: record.key,
        value: record.value,
    }
}
