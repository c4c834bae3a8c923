//! What makes processors stand still: a full disk under their store, a freeze beyond their session while
//! somebody else switches to another build. They say so, lose nothing, and go on by themselves.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use conveyor_paklog::projection::{Atp, PaklogDecoder};
use conveyor_processors::build::InBuild;
use conveyor_processors::{BuildName, Declaration, Projection, Store};
use conveyor_stores::StoreAddress;
use conveyor_test_servers::chance::Chance;
use conveyor_test_servers::postgres::Postgres;
use conveyor_test_servers::redis::Redis;
use conveyor_tests::node::signal;
use conveyor_tests::stage::{LIMIT, SESSION, Stage, eventually, is_well, sqlite_in};
use conveyor_tests::volume::Volume;
use conveyor_tests::warehouse::{self, Log};
use conveyor_tests::work::Work;
use serde_json::Value;

/// A store whose disk is full takes nothing more and parks nothing: the projection is PAUSED, says why,
/// also after a kill, is still read, and goes on when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root to mount: `make power-cut` runs it"]
async fn a_full_disk_pauses_a_projection_until_there_is_room() -> Result<()> {
    let stage = Stage::new().await?;
    let volume = Volume::create(stage.folder(), 96)?;
    let store = sqlite_in(volume.path());
    stage.send(20).await?;
    let mut processors = stage.processors("atp", &store)?;
    stage.status_is("it has caught up", "atp", is_well).await?;
    let before = Log::read(&stage.client).await?;

    let ballast = fill(volume.path())?;
    stage.send(20).await?;
    let is_full = |status: &Value| {
        let error = status["last_error"].as_str().unwrap_or_default();
        status["state"] == "PAUSED" && error.contains("full")
    };
    let status = stage.status_is("it is paused", "atp", is_full).await?;
    let error = status["last_error"].as_str().context("an error")?;
    assert!(error.contains("read.sqlite"), "{error}");
    assert!(status["lag_records"].as_i64() > Some(0), "{status}");

    processors.kill()?;
    processors.start_again()?;
    let both_are_full = |status: &Value| {
        let told = status["instances_told"].as_array();
        let full = told.map(|all| all.iter().filter(|one| is_full(one)).count());
        full == Some(2)
    };
    stage
        .status_is("the next one is paused too", "atp", both_are_full)
        .await
        .with_context(|| processors.said())?;
    // Longer than the longest wait between two attempts.
    tokio::time::sleep(Duration::from_secs(11)).await;
    processors.check()?;
    let status = stage.status("atp").context("a status")?;
    assert!(is_full(&status), "{status}");
    for parked in ["parked_keys", "parked_records"] {
        assert_eq!(status[parked], 0, "{status}");
    }
    let opened = store.parse::<StoreAddress>()?.open().await?;
    let decoder = &PaklogDecoder::new();
    warehouse::check(&Atp, decoder, &before, &*opened)
        .await
        .context("what was there can be read, and nothing else is there")?;

    std::fs::remove_file(ballast)?;
    stage.status_is("it goes on", "atp", is_well).await?;
    let log = Log::read(&stage.client).await?;
    warehouse::check(&Atp, decoder, &log, &*opened).await?;
    let status = stage.status("atp").context("a status")?;
    assert_eq!(status["parked_keys"], 0, "{status}");
    processors.stop()
}

/// Takes all the room that there is; the file that has it.
fn fill(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("ballast");
    let mut file = File::create(&path)?;
    // Whole blocks, smaller ones at last.
    for size in [1 << 20, 4 << 10] {
        let block = vec![b'x'; size];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => bail!("{}: {error}", path.display()),
            }
        }
    }
    file.sync_all()?;
    Ok(path)
}

/// Two instances of one projection, which stand still and go on together.
struct Pair([Work; 2]);

impl Pair {
    fn start(stage: &Stage, store: &str) -> Result<Self> {
        let start = || stage.processors("atp", store);
        Ok(Self([start()?, start()?]))
    }

    fn signal(&self, name: &str) -> Result<()> {
        self.0.iter().try_for_each(|one| signal(one.id(), name))
    }

    fn check(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Work::check)
    }

    fn stop(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Work::stop)
    }
}

/// Where a build stands, by partition.
async fn positions(
    store: &dyn Store,
    declaration: &Declaration,
) -> Result<BTreeMap<(String, i32), i64>> {
    let positions = store.positions(declaration).await?.into_iter();
    let place = |at: conveyor_processors::TopicPartition| (at.topic.to_string(), at.partition);
    Ok(positions
        .map(|position| {
            (
                place(position.topic_partition),
                position.next_offset.value(),
            )
        })
        .collect())
}

/// The tag of the live build.
async fn live_tag(store: &str) -> Result<String> {
    let store = store.parse::<StoreAddress>()?.open_builds().await?;
    let mut builds = store.builds().await?.into_iter();
    let live = builds.find(|build| build.projection == "atp" && build.is_live);
    Ok(live.context("a live build")?.tag)
}

/// Whoever is frozen in the middle of its work while another build takes the place of the one that it
/// fills, and wakes behind the end of its session, writes nothing that it had begun: neither to the
/// build that was live, which stays what it was, nor to the one that is, which it then keeps up.
async fn switched_while_frozen(store: &str) -> Result<()> {
    let stage = Stage::new().await?;
    let decoder = &PaklogDecoder::new();
    let opened = store.parse::<StoreAddress>()?.open().await?;
    let mut chance = Chance::new();
    stage.send(20).await?;
    let mut pair = Pair::start(&stage, store)?;
    stage.status_is("it has caught up", "atp", is_well).await?;
    for round in 0..3 {
        let (client, events) = (stage.client.clone(), warehouse::events(150)?);
        let sending = tokio::spawn(async move { warehouse::send(&client, events, 2_000).await });
        tokio::time::sleep(chance.millis(200) + Duration::from_millis(100)).await;
        pair.signal("STOP")?;
        sending.await??;
        let log = Log::read(&stage.client).await?;
        let behind = warehouse::lag(&Atp.declaration(), &log, &*opened).await?;
        ensure!(behind > 0, "nothing was under way: it shows nothing");
        tokio::time::sleep(SESSION + Duration::from_secs(1)).await;

        let was_live = live_tag(store).await?;
        // All of it: nobody is awake to catch up with the rest.
        let rebuild = [
            "projection",
            "rebuild",
            "atp",
            "--lag",
            "0",
            "--store",
            store,
        ];
        stage.work("rebuild", &rebuild)?.finish(LIMIT)?;
        ensure!(live_tag(store).await? != was_live, "nothing was switched");
        let left = InBuild::new(Atp, BuildName::new("atp", &was_live)?);
        let stood = positions(&*opened, &left.declaration()).await?;
        warehouse::check(&Atp, decoder, &log, &*opened)
            .await
            .context("the new build, before they wake")?;

        pair.signal("CONT")?;
        stage.send(20).await?;
        let log = Log::read(&stage.client).await?;
        let of_live = eventually("the new build is kept up", async || {
            warehouse::check(&Atp, decoder, &log, &*opened).await.ok()
        });
        of_live.await.with_context(|| format!("round {round}"))?;
        stage.status_is("all is well", "atp", is_well).await?;
        pair.check()?;

        let stands = positions(&*opened, &left.declaration()).await?;
        assert_eq!(stands, stood, "round {round}: the build that was left");
        let taken_in = log.until(|record| {
            let source = &record.source;
            let place = (source.topic.to_string(), source.partition);
            stood
                .get(&place)
                .is_some_and(|stood| source.offset.value() < *stood)
        });
        warehouse::check(&left, decoder, &taken_in, &*opened)
            .await
            .with_context(|| format!("round {round}: the build that was left"))?;
    }
    pair.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sleeps_through_a_switch_in_postgres_writes_to_neither_build() -> Result<()> {
    let server = Postgres::start(&[]);
    switched_while_frozen(&server.url("postgres")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sleeps_through_a_switch_in_redis_writes_to_neither_build() -> Result<()> {
    let server = Redis::start(&[]);
    switched_while_frozen(&server.url()).await
}
