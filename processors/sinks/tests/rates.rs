//! Records a second into each target, beside its bare client with the same documents, on the same
//! stand-in in the same run. A stand-in's figures: they say what a sink costs, not what a real server
//! takes.
//!
//! `cargo test --release -p conveyor-sinks --test rates -- --ignored --nocapture --test-threads 1`

#![cfg(all(feature = "mongodb", feature = "elasticsearch", feature = "s3"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement, for people"
)]

use std::time::Instant;

use bytes::Bytes;
use conveyor_processors::rejected::{PublishError, Rejected, RejectedSink};
use conveyor_processors::store::OwnerEpoch;
use conveyor_processors::{Source, SourceRecord, TopicPartition};
use conveyor_sinks::buffer::Part;
use conveyor_sinks::document::Mapping;
use conveyor_sinks::documents::Documents;
use conveyor_sinks::elasticsearch::ElasticsearchWriter;
use conveyor_sinks::mongodb::MongodbWriter;
use conveyor_sinks::s3::S3Target;
use conveyor_sinks::settings::{Decode, SinkSettings};
use conveyor_sinks::target::{Rejects, Target};
use conveyor_test_servers::elasticsearch::Elasticsearch;
use conveyor_test_servers::mongodb::Mongodb;
use conveyor_test_servers::s3::S3;
use futures::FutureExt;
use futures::future::BoxFuture;
use mongodb::bson::{Document, doc};
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3Builder;

const RECORDS: i64 = 50_000;
const BATCH: i64 = 1_000;

/// Takes no record: none is rejected here.
struct Nobody;

impl RejectedSink for Nobody {
    fn publish<'a>(&'a self, rejected: &'a [Rejected]) -> BoxFuture<'a, Result<(), PublishError>> {
        assert!(rejected.is_empty(), "{rejected:?}");
        async { Ok(()) }.boxed()
    }
}

fn value(n: i64) -> String {
    format!(
        "{{\"n\":{n},\"sku\":\"SKU-{}\",\"order\":{{\"id\":\"order-{n}\",\"lines\":3}}}}",
        n % 500
    )
}

fn part(from: i64, to: i64) -> Part {
    let record = |n: i64| SourceRecord {
        source: Source {
            topic: "orders".into(),
            partition: 0,
            offset: n.into(),
            timestamp_ms: 1_795_406_400_000 + n,
        },
        key: Some(Bytes::from(format!("key-{}", n % 500))),
        value: Some(Bytes::from(value(n))),
        headers: Vec::new(),
    };
    Part {
        topic_partition: TopicPartition::new("orders", 0),
        owner_epoch: OwnerEpoch(1),
        from: (from > 0).then(|| from.into()),
        to: to.into(),
        records: (from..to).map(record).collect(),
        rejected: 0,
    }
}

fn settings(target: &str) -> SinkSettings {
    toml::from_str(&format!("topics = ['orders']\ndecode = 'json'\n{target}")).unwrap()
}

/// Writes all records; how many a second.
async fn rate_of(target: &impl Target, batch: i64) -> f64 {
    let partitions = [TopicPartition::new("orders", 0)];
    target.prepare().await.unwrap();
    target.claim(OwnerEpoch(1), &partitions).await.unwrap();
    let parts: Vec<_> = (0..RECORDS / batch)
        .map(|n| part(n * batch, (n + 1) * batch))
        .collect();
    let begun = Instant::now();
    for part in parts {
        let rejects = Rejects::new(&Nobody, "rates");
        target.write(&mut [part], &rejects).await.unwrap();
    }
    RECORDS as f64 / begun.elapsed().as_secs_f64()
}

fn tell(name: &str, sink: f64, bare: f64) {
    let share = sink / bare * 100.0;
    println!("{name}: sink {sink:.0} records/s, bare client {bare:.0}, {share:.0} %");
}

#[tokio::test]
#[ignore = "a measurement"]
async fn mongodb_beside_its_bare_client() {
    let server = Mongodb::start(&[]);
    let url = server.url("rates");
    let settings = settings(&format!(
        "mongodb = {{ url = '{url}', collection = 'sink' }}"
    ));
    let target = settings.mongodb.as_ref().unwrap();
    let mapping = Mapping::new(Decode::Json, settings.document.clone());
    let writer = MongodbWriter::open(target, false).await.unwrap();
    let sink = rate_of(&Documents::new(writer, mapping), BATCH).await;

    let client = mongodb::Client::with_uri_str(&url).await.unwrap();
    let collection = client.database("rates").collection::<Document>("bare");
    let document = |n: i64| {
        doc! {
            "_id": format!("orders-0-{n}"), "n": n, "sku": format!("SKU-{}", n % 500),
            "order": { "id": format!("order-{n}"), "lines": 3 },
            "conveyor": {
                "topic": "orders", "partition": 0, "offset": n, "timestamp": n,
                "key": format!("key-{}", n % 500),
            },
        }
    };
    let batches: Vec<Vec<_>> = (0..RECORDS / BATCH)
        .map(|b| (b * BATCH..(b + 1) * BATCH).map(document).collect())
        .collect();
    let begun = Instant::now();
    for batch in batches {
        collection.insert_many(batch).ordered(false).await.unwrap();
    }
    tell(
        "mongodb",
        sink,
        RECORDS as f64 / begun.elapsed().as_secs_f64(),
    );
}

#[tokio::test]
#[ignore = "a measurement"]
async fn elasticsearch_beside_its_bare_client() {
    let server = Elasticsearch::start();
    let url = format!("http://127.0.0.1:{}", server.port);
    let settings = settings(&format!(
        "elasticsearch = {{ urls = ['{url}'], index = 'sink' }}"
    ));
    let mapping = Mapping::new(Decode::Json, settings.document.clone());
    let writer = ElasticsearchWriter::open(settings.elasticsearch.as_ref().unwrap()).unwrap();
    let sink = rate_of(&Documents::new(writer, mapping), BATCH).await;

    let lines = |n: i64| {
        let origin = format!(
            "\"conveyor\":{{\"topic\":\"orders\",\"partition\":0,\"offset\":{n},\"timestamp\":{n},\
             \"key\":\"key-{}\"}}",
            n % 500
        );
        format!(
            "{{\"index\":{{\"_index\":\"bare\",\"_id\":\"orders-0-{n}\",\"version\":{n},\
             \"version_type\":\"external\"}}}}\n{},{origin}}}\n",
            value(n).strip_suffix('}').unwrap()
        )
    };
    let batches: Vec<String> = (0..RECORDS / BATCH)
        .map(|b| (b * BATCH..(b + 1) * BATCH).map(lines).collect())
        .collect();
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let client = reqwest::Client::new();
    let begun = Instant::now();
    for batch in batches {
        let request = client.post(format!("{url}/_bulk")).body(batch);
        let request = request.header("content-type", "application/x-ndjson");
        let answer = request.send().await.unwrap().text().await.unwrap();
        assert!(answer.contains("\"errors\":false"), "{}", &answer[..500]);
    }
    tell(
        "elasticsearch",
        sink,
        RECORDS as f64 / begun.elapsed().as_secs_f64(),
    );
}

#[tokio::test]
#[ignore = "a measurement"]
async fn s3_beside_its_bare_client() {
    const OBJECT: i64 = 10_000;
    let server = S3::start();
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let client = reqwest::Client::new();
    client
        .put(format!("{endpoint}/rates"))
        .send()
        .await
        .unwrap();
    let bare = AmazonS3Builder::new()
        .with_bucket_name("rates")
        .with_endpoint(&endpoint)
        .with_allow_http(true)
        .with_access_key_id("id")
        .with_secret_access_key("key")
        .build()
        .unwrap();
    for format in ["jsonl", "parquet"] {
        let settings = settings(&format!(
            "s3 = {{ url = 's3://rates/{format}', endpoint = '{endpoint}', access_key_id = 'id', \
             secret_access_key = 'key', format = '{format}' }}"
        ));
        let s3 = settings.s3.as_ref().unwrap();
        let target = S3Target::open("rates", s3, Decode::Json, false).unwrap();
        let sink = rate_of(&target, OBJECT).await;
        // The values alone, as they are: nothing to encode, no position.
        let objects: Vec<Bytes> = (0..RECORDS / OBJECT)
            .map(|b| {
                (b * OBJECT..(b + 1) * OBJECT)
                    .map(value)
                    .collect::<String>()
                    .into()
            })
            .collect();
        let begun = Instant::now();
        for (number, object) in objects.into_iter().enumerate() {
            let path = format!("bare/{format}/{number}").into();
            bare.put(&path, object.into()).await.unwrap();
        }
        let bare = RECORDS as f64 / begun.elapsed().as_secs_f64();
        tell(&format!("s3, {format}"), sink, bare);
    }
}
