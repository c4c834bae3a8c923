//! Processors as processes, where it is about one thing at a time: read models of a past moment, a store
//! that hangs, records that were deleted before they were applied, deadlines that pass.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use conveyor_paklog::projection::{Atp, OrderTracking, PaklogDecoder};
use conveyor_processors::build::InBuild;
use conveyor_processors::{BuildName, SourceRecord};
use conveyor_sdk::{AdminClient, Offset, Producer, ProducerConfig, ProducerRecord, TopicPartition};
use conveyor_stores::StoreAddress;
use conveyor_test_servers::chance::Chance;
use conveyor_test_servers::postgres::{self, Postgres};
use conveyor_tests::stage::{LIMIT, Stage, eventually, is_well};
use conveyor_tests::warehouse::{self, Log};
use conveyor_tests::work::{Work, told};
use serde_json::{Value, json};

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

/// The read model of a past moment is the fold of the log up to there, by offset and by time, also if
/// its making is killed; the live one stays what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_until_a_moment_is_the_fold_up_to_there() -> Result<()> {
    const OFFSET: i64 = 25;
    let stage = Stage::new().await?;
    stage.send(100).await?;
    let store = stage.sqlite();
    let log = Log::read(&stage.client).await?;
    let run = ["processors", "run", "--store", &store, "--until-end"];
    let run = [&run[..], &["--projection", "order_tracking"]].concat();
    stage.work("run", &run)?.finish(LIMIT)?;

    let mut times: Vec<_> = log.records.iter().map(|r| r.source.timestamp_ms).collect();
    times.sort_unstable();
    let moment_ms = times[times.len() / 2];
    // The first record of a partition at that time or later ends it there.
    let mut ends: BTreeMap<(&str, i32), Offset> = BTreeMap::new();
    let later = log.records.iter().map(|record| &record.source);
    for source in later.filter(|source| source.timestamp_ms >= moment_ms) {
        let end = ends.entry((&source.topic, source.partition));
        end.or_insert(source.offset);
    }
    let before = |record: &SourceRecord| {
        let source = &record.source;
        let end = ends.get(&(&*source.topic, source.partition));
        end.is_none_or(|end| source.offset < *end)
    };
    let by_offset = log.until(|record| record.source.offset < Offset(OFFSET));
    let by_time = log.until(before);
    let moment = jiff::Timestamp::from_millisecond(moment_ms)?.to_string();
    let (offset, time_tag) = (OFFSET.to_string(), format!("until_{moment_ms}"));
    let cases = [
        (&offset, format!("until_o{OFFSET}"), by_offset),
        (&moment, time_tag, by_time),
    ];
    let opened = store.parse::<StoreAddress>()?.open().await?;
    let decoder = &PaklogDecoder::new();
    for (until, tag, log_until) in cases {
        let rebuild = ["projection", "rebuild", "order_tracking", "--until", until];
        let rebuild = [&rebuild[..], &["--store", &store, "--rate", "3000"]].concat();
        let mut work = stage.work("rebuild", &rebuild)?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        work.kill()?;
        work.start_again()?;
        work.finish(LIMIT)?;
        let projection = InBuild::new(OrderTracking, BuildName::new("order_tracking", &tag)?);
        let rows = warehouse::check(&projection, decoder, &log_until, &*opened).await;
        let rows = rows.with_context(|| format!("until {until}"))?;
        let (some, all) = (log_until.records.len(), log.records.len());
        assert!(
            rows > 0 && some * 10 < all * 9,
            "{rows} rows of {some} of {all} records"
        );
    }
    warehouse::check(&OrderTracking, decoder, &log, &*opened).await?;
    let builds = told(&["projection", "builds", "--store", &store])?;
    let builds: Vec<_> = builds.as_array().unwrap().iter().collect();
    let live: Vec<_> = builds
        .iter()
        .filter(|build| build["live"] == true)
        .collect();
    assert_eq!((builds.len(), live.len()), (3, 1), "{builds:?}");
    assert_eq!(live[0]["build"], "1");
    Ok(())
}

/// A store that keeps its connections and answers nothing is noticed: FAULTED, with what the projection
/// was at; and all is well again once it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_is_noticed_and_all_is_well_when_it_answers() -> Result<()> {
    let stage = Stage::new().await?;
    stage.send(20).await?;
    let server = Postgres::start(&[]);
    let store = server.url("postgres");
    let mut processors = stage.processors("atp", &store)?;
    stage.status_is("it has caught up", "atp", is_well).await?;

    let frozen = server.freeze();
    let since = Instant::now();
    stage.send(20).await?;
    let faulted = |status: &Value| status["state"] == "FAULTED";
    let status = stage.status_is("it is faulted", "atp", faulted).await?;
    assert!(since.elapsed() > Duration::from_secs(29), "{status}");
    let error = status["last_error"].as_str().context("an error")?;
    for part in [
        "no progress for ",
        "it was ",
        "127.0.0.1",
        "goes on by itself",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let doing = error.split("it was ").nth(1).unwrap();
    assert!(
        doing.starts_with("applying ") || doing.starts_with("asking the store"),
        "{error}"
    );
    assert!(status["lag_records"].as_i64() > Some(0), "{status}");

    drop(frozen);
    stage.status_is("it goes on", "atp", is_well).await?;
    let log = Log::read(&stage.client).await?;
    let opened = store.parse::<StoreAddress>()?.open().await?;
    eventually("the store holds all", async || {
        warehouse::check(&Atp, &PaklogDecoder::new(), &log, &*opened)
            .await
            .ok()
    })
    .await?;
    processors.stop()
}

/// Records that were deleted before they were applied are not passed over: the projection stops, says
/// which they are and what can be done, in its end and to whoever asks later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_gone_stop_a_projection_that_needs_them() -> Result<()> {
    let stage = Stage::new().await?;
    stage.send(20).await?;
    let store = stage.sqlite();
    let run = [
        "processors",
        "run",
        "--store",
        &store,
        "--projection",
        "atp",
    ];
    let until_end = [&run[..], &["--until-end"]].concat();
    stage.work("first", &until_end)?.finish(LIMIT)?;
    let before = Log::read(&stage.client).await?;
    stage.send(20).await?;
    let after = Log::read(&stage.client).await?;
    let (place, end) = after
        .ends
        .iter()
        .find(|(place, end)| place.0 == "inventory-events" && **end > before.ends[*place] + 1)
        .context("a partition with something new")?;
    let needed = before.ends[place];
    let partition = TopicPartition::new(place.0.as_str(), place.1);
    let admin = AdminClient::new(&stage.client);
    for (_, deleted) in admin.delete_records(&[(partition, Offset(*end))]).await? {
        deleted?;
    }

    let mut work = stage.work("second", &run)?;
    let status = work.end_within(LIMIT)?;
    let said = work.said();
    assert_eq!(status.code(), Some(1), "{said}");
    let where_it_is = format!(
        "needs {}-{} from offset {needed} and the log begins at {end}",
        place.0, place.1
    );
    let status = stage.status("atp").context("a status")?;
    assert_eq!(status["state"], "FAULTED", "{status}");
    for text in [&said, status["last_error"].as_str().context("an error")?] {
        assert!(text.contains(&where_it_is), "{text}");
        assert!(text.contains("deleted before they were applied"), "{text}");
    }
    let opened = store.parse::<StoreAddress>()?.open().await?;
    warehouse::check(&Atp, &PaklogDecoder::new(), &before, &*opened)
        .await
        .context("what was there stays, and nothing behind the gap is applied")?;
    Ok(())
}

/// Orders whose promise ends some minutes from now, by their events.
const LATE_ORDERS: i64 = 24;
const HOUR_MS: i64 = 3_600_000;
/// How far from now: further than wall time could let a timer fire while the test runs.
const DEADLINE_IN_MS: i64 = 8 * 60_000;

fn received(order: &str, partition: i32, at_ms: i64) -> ProducerRecord {
    let data = json!({ "order": {
        "order_id": order,
        "shipping_speed_category": "CRITICAL",
        "received_date": at_ms as f64 / 1_000.0,
        "items": [],
    }});
    let event = json!({
        "specversion": "1.0",
        "id": format!("{order}-received"),
        "source": "/fulfillment/order-management-service",
        "type": "com.paklog.fulfillment.order.received.v1",
        "subject": order,
        "data": data,
    });
    ProducerRecord::new("order-events")
        .partition(partition)
        .key(order.to_owned())
        .value(event.to_string())
        .header("content-type", "application/cloudevents+json")
        .timestamp_ms(at_ms)
}

/// Notes every change of an order's status that the store takes in.
const AUDIT: &str = "\
    CREATE TABLE audit (at bigserial, entry text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO audit (entry) VALUES (NEW.order_id || ' ' || NEW.status); RETURN NULL;
    END $$;
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON order_sla FOR EACH ROW EXECUTE FUNCTION note();";

/// Deadlines pass by the time of events, not of the wall, and each once, however often the processors
/// are killed meanwhile: a trigger in the store notes every change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_passes_once_by_event_time_whoever_is_killed() -> Result<()> {
    let stage = Stage::new().await?;
    let server = Postgres::start(&[]);
    let store = server.url("postgres");
    let mut processors = [
        stage.processors("order_sla", &store)?,
        stage.processors("order_sla", &store)?,
    ];
    let table = "SELECT tablename::text FROM pg_tables WHERE tablename = 'order_sla'";
    eventually("the table is there", async || {
        postgres::texts(&store, table).pop()
    })
    .await?;
    postgres::execute(&store, AUDIT);

    // CRITICAL orders have four hours; a timer waits two minutes more for late events.
    let deadline_ms = now_ms() + DEADLINE_IN_MS;
    let received_ms = deadline_ms - 4 * HOUR_MS;
    let producer = Producer::new(&stage.client, ProducerConfig::default())?;
    for number in 0..LATE_ORDERS {
        let order = format!("late-{number}");
        let record = received(&order, (number % 6) as i32, received_ms);
        producer.send(record).await?.await?;
    }
    let count = |status: &str| {
        let sql = format!("SELECT order_id FROM order_sla WHERE status = '{status}'");
        postgres::texts(&store, &sql).len() as i64
    };
    // Three quarters of the time are over by the wall, which counts where nothing more comes.
    eventually("all are at risk", async || {
        (count("AT_RISK") == LATE_ORDERS).then_some(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(count("BREACHED"), 0, "no deadline has passed");

    let mut chance = Chance::new();
    for partition in 0..6 {
        let order = format!("new-{partition}");
        let record = received(&order, partition, deadline_ms + 121_000);
        drop(producer.send(record).await?);
        let victim = chance.below(2) as usize;
        tokio::time::sleep(chance.millis(700)).await;
        processors[victim].kill()?;
        tokio::time::sleep(chance.millis(300)).await;
        processors[victim].start_again()?;
    }
    producer.flush().await;
    let breached = eventually("all deadlines have passed", async || {
        (count("BREACHED") == LATE_ORDERS).then_some(())
    });
    let breached = breached.await;
    breached.with_context(|| processors[0].said() + &processors[1].said())?;
    for one in &mut processors {
        one.check()?;
        one.stop()?;
    }
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in postgres::texts(&store, "SELECT entry FROM audit ORDER BY at") {
        let (order, status) = entry.split_once(' ').context("two words")?;
        seen.entry(order.to_owned())
            .or_default()
            .push(status.to_owned());
    }
    for number in 0..LATE_ORDERS {
        let statuses = &seen[&format!("late-{number}")];
        assert_eq!(
            statuses,
            &["ON_TRACK", "AT_RISK", "BREACHED"],
            "order {number}"
        );
    }
    for partition in 0..6 {
        assert_eq!(seen[&format!("new-{partition}")], ["ON_TRACK"]);
    }
    let timers = postgres::texts(&store, "SELECT name FROM order_sla_timer");
    assert_eq!(timers.len(), 6, "those of the new orders: {timers:?}");
    Ok(())
}

#[test]
fn one_that_still_connects_stops_in_order_when_asked() -> Result<()> {
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let bootstrap = silent.local_addr()?.to_string();
    let folder = tempfile::tempdir()?;
    let models = folder.path().join("models.sqlite");
    let commands: [&[&str]; 2] = [
        &[
            "processors",
            "run",
            "--store",
            models.to_str().context("a path in UTF-8")?,
        ],
        &["processors", "normalise"],
    ];
    for arguments in commands {
        let arguments = [arguments, &["--bootstrap", &bootstrap]].concat();
        Work::start(&arguments, folder.path().join("work.log"))?.stop()?;
    }
    Ok(())
}
