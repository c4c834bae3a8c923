//! The warehouse's events in a node's log, and what the projections must make of them: a plain fold
//! of the log, record by record, which shares neither store, group nor transaction with what it
//! judges.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
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

    /// The rows of a projection: each record once, one after the other.
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
        Ok(fold
            .rows()
            .into_iter()
            .map(|(_, row)| row.clone())
            .collect())
    }
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
    let mut found = Vec::new();
    for table in declaration.tables() {
        found.extend(store.read_table(&declaration, table).await?);
    }
    let key = |row: &Row| (table_of(row), format!("{:?}", row.values()));
    let (mut expected, count) = (expected, found.len());
    expected.sort_by_key(key);
    found.sort_by_key(key);
    for (expected, found) in expected.iter().zip(&found) {
        if expected != found {
            bail!("the log makes\n  {expected:?}\nand the store holds\n  {found:?}");
        }
    }
    if expected.len() != count {
        bail!("{} rows expected, {count} found", expected.len());
    }
    Ok(count)
}

fn table_of(row: &Row) -> String {
    Table::name(row.table()).to_owned()
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
