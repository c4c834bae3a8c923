//! `conveyor projection`, and parked keys end to end: a real node, real processes, a SQLite store.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use conveyor_paklog::event::Event;
use conveyor_paklog::projection::{Atp, InventoryMovement, PaklogDecoder};
use conveyor_processors::control::Place;
use conveyor_processors::parked::ParkedTables;
use conveyor_processors::{ParkingFold, Projection, SourceRecord, Store};
use conveyor_sdk::{Client, ClientConfig, Consumer, ConsumerConfig, OffsetReset};
use conveyor_stores::SqliteStore;
use conveyor_test_servers::chance::Chance;
use serde_json::Value;

use crate::node::{Node, eventually};
use crate::processors::{create_topics, write_orders};

const NAMES: [&str; 2] = ["atp", "inventory_movement"];

/// `conveyor processors run`, killed at the end.
pub(crate) struct Instance(Child);

impl Instance {
    pub(crate) fn start(node: &Node, store: &Path) -> Self {
        let store = store.to_str().unwrap();
        let args = ["processors", "run", "--store", store, "--log", "off"];
        let mut command = node.command(&args);
        for name in NAMES {
            command.args(["--projection", name]);
        }
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(crate) fn send(node: &Node, orders: u32, seed: &str) {
    let file = node.file(&format!("orders-{seed}.csv"));
    write_orders(&file, orders);
    let orders = file.to_str().unwrap();
    node.run(&["workload", "run", "--orders", orders, "--seed", seed]);
}

/// A record that nobody can read, among those of a sku.
pub(crate) fn poison(node: &Node, sku: &str) {
    let args = ["topic", "produce", "inventory-events", "-k", sku, "-q"];
    node.run_with_input(&args, "no event\n");
}

fn inventory_records(node: &Node) -> i64 {
    let listed = node.json(&["topic", "list", "inventory-events", "--format", "json"]);
    listed[0]["records"].as_i64().unwrap()
}

/// Whether both projections have taken in everything.
pub(crate) fn caught_up(node: &Node, store: &Path) -> Option<()> {
    let file = rusqlite::Connection::open(store).unwrap();
    let sql = "SELECT coalesce(sum(next_offset), 0) FROM _conveyor_positions";
    let read: i64 = file.query_row(sql, [], |row| row.get(0)).ok()?;
    (read == 2 * inventory_records(node)).then_some(())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// All of inventory-events, in order within each partition.
pub(crate) fn read_log(node: &Node) -> Vec<SourceRecord> {
    let wanted = inventory_records(node) as usize;
    block_on(async {
        let client = Client::connect(ClientConfig::new(node.address()))
            .await
            .unwrap();
        let mut config = ConsumerConfig::standalone();
        config.auto_offset_reset = OffsetReset::Earliest;
        let mut consumer = Consumer::new(&client, config).unwrap();
        let partitions = (0..12).map(|number| ("inventory-events", number).into());
        consumer.assign(partitions).unwrap();
        let mut records = Vec::new();
        let read = async {
            while records.len() < wanted {
                let polled = consumer.poll(Duration::from_secs(1)).await.unwrap();
                for part in polled.into_partitions() {
                    let from = conveyor_processors::driver::ownership::ours(&part.topic_partition);
                    let record = |record| SourceRecord::new(&from, record);
                    records.extend(part.records.into_iter().map(record));
                }
            }
        };
        let read = tokio::time::timeout(Duration::from_mins(1), read);
        read.await.expect("the log can be read to its end");
        records
    })
}

/// The store holds the rows and the waiting records of the reference.
fn assert_is<P: Projection<Event = Event>>(
    reference: &ParkingFold<'_, P, PaklogDecoder>,
    projection: &P,
    store: &Path,
) {
    let store = SqliteStore::open(store).unwrap();
    let tables = ParkedTables::of(projection.declaration().name());
    let declaration = tables.declare(projection.declaration());
    let read = |name: &str| {
        let table = Arc::clone(declaration.find_table(name).unwrap());
        block_on(store.read_table(&declaration, &table)).unwrap()
    };
    let name = declaration.name();
    let mut found: Vec<_> = read(name)
        .iter()
        .map(|row| format!("{:?}", row.values()))
        .collect();
    let rows = reference.fold().rows();
    let mut expected: Vec<_> = rows
        .iter()
        .map(|(_, row)| format!("{:?}", row.values()))
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found.len(), expected.len(), "{name}");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{name}");
    }
    let place = |r: &SourceRecord| (r.source.partition, r.source.offset);
    let waiting = read(tables.records_table());
    let waiting = waiting.iter().map(|row| tables.read_record(row).unwrap().0);
    let mut waiting: Vec<_> = waiting.map(|record| (place(&record), record)).collect();
    waiting.sort_unstable_by_key(|(place, _)| *place);
    let parked = reference.parked().values().flatten();
    let mut parked: Vec<_> = parked
        .map(|record| (place(record), record.clone()))
        .collect();
    parked.sort_unstable_by_key(|(place, _)| *place);
    assert_eq!(waiting, parked, "{name}");
}

pub(crate) fn parked(node: &Node, projection: &str) -> Vec<Value> {
    let args = [
        "projection",
        "parked",
        "list",
        projection,
        "--format",
        "json",
    ];
    node.json(&args).as_array().unwrap().clone()
}

/// Discards the heads of all that is parked until nothing is, and lets the reference do so too.
fn mend<P: Projection<Event = Event>>(
    node: &Node,
    projection: &str,
    reference: &mut ParkingFold<'_, P, PaklogDecoder>,
) -> usize {
    let mut discarded = 0;
    loop {
        let keys = parked(node, projection);
        assert_eq!(keys.len(), reference.parked().len());
        if keys.is_empty() {
            return discarded;
        }
        for key in keys {
            let name = key["place"].as_str().unwrap();
            let place = Place::parse(name).unwrap();
            let args = ["projection", "parked", "discard", projection, name, "--yes"];
            let output = node.command(&args).output().unwrap();
            let code = output.status.code();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(matches!(code, Some(0 | 3)), "{said}");
            let (partition, head) = (place.topic_partition(), key["head"].as_i64().unwrap());
            let behind = reference.parked().iter().find_map(|((p, _), queue)| {
                let is_it = *p == partition && queue[0].source.offset.value() == head;
                is_it.then(|| queue.get(1).map(|next| next.source.offset))
            });
            reference.discard(&partition, head.into(), 1);
            if let Some(next) = behind.expect("the reference has it parked too") {
                reference.redrive(&partition, next, usize::MAX);
            }
            discarded += 1;
        }
    }
}

/// The sku that most events are about, and some others.
pub(crate) fn skus(log: &[SourceRecord]) -> Vec<String> {
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for key in log.iter().filter_map(|record| record.key.as_deref()) {
        *counts.entry(key).or_default() += 1;
    }
    let mut skus: Vec<_> = counts.into_iter().collect();
    skus.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let text = |(key, _): (&[u8], usize)| String::from_utf8(key.to_vec()).unwrap();
    skus.into_iter().map(text).collect()
}

/// Two instances share the partitions while events flow, some of which nobody can read; one after
/// the other is killed, and one is frozen past its session. Then the records that nobody can read
/// are given up, and what waited behind them follows in order.
#[test]
fn what_is_parked_survives_kills_and_follows_in_order_once_it_is_mended() {
    let node = Node::start(&[
        "group.consumer.session.timeout.ms=2000",
        "group.consumer.heartbeat.interval.ms=200",
    ]);
    create_topics(&node);
    let store = node.file("read-models.sqlite");
    send(&node, 30, "1");
    let skus = skus(&read_log(&node));
    let mut chance = Chance::of(7);
    let mut instances = [
        Instance::start(&node, &store),
        Instance::start(&node, &store),
    ];
    for round in 0..6_u64 {
        poison(&node, &skus[chance.below(4) as usize]);
        let sender = std::thread::scope(|scope| {
            let sender = scope.spawn(|| send(&node, 15, &(round + 2).to_string()));
            std::thread::sleep(Duration::from_millis(chance.below(1_200)));
            let victim = &mut instances[(round % 2) as usize];
            if round == 3 {
                victim.signal("STOP");
                std::thread::sleep(Duration::from_secs(4));
                victim.signal("CONT");
            } else {
                victim.kill();
                *victim = Instance::start(&node, &store);
            }
            sender.join()
        });
        sender.unwrap();
    }
    eventually("all is taken in", || caught_up(&node, &store));

    let log = read_log(&node);
    let (decoder, atp, movement) = (PaklogDecoder::new(), Atp, InventoryMovement);
    let mut of_atp = ParkingFold::new(&atp, &decoder);
    let mut of_movement = ParkingFold::new(&movement, &decoder);
    for record in &log {
        of_atp.take(record);
        of_movement.take(record);
    }
    let queued: usize = of_atp.parked().values().map(Vec::len).sum();
    assert!(
        queued > of_atp.parked().len(),
        "nothing waits behind a head: the test shows nothing"
    );
    assert_is(&of_atp, &atp, &store);
    assert_is(&of_movement, &movement, &store);

    let discarded =
        mend(&node, "atp", &mut of_atp) + mend(&node, "inventory_movement", &mut of_movement);
    assert_eq!(
        discarded, 12,
        "six records that nobody can read, for two projections"
    );
    assert_is(&of_atp, &atp, &store);
    assert_is(&of_movement, &movement, &store);
    eventually("nothing waits any more", || {
        let listed = node.json(&["projection", "list", "--format", "json"]);
        let listed = listed.as_array().unwrap();
        let is_well = |one: &Value| {
            one["state"] == "RUNNING" && one["parked_keys"] == 0 && one["lag_records"] == 0
        };
        (listed.len() == 2 && listed.iter().all(is_well)).then_some(())
    });
}

/// What people do with one parked key, and with a projection whose store is away.
#[test]
fn a_parked_key_is_looked_at_redriven_and_discarded() {
    let node = Node::start(&[]);
    create_topics(&node);
    let store = node.file("read-models.sqlite");
    let (code, error) = node.refused(&["projection", "list"]);
    assert!(code == 1 && error.contains("processors run"), "{error}");

    send(&node, 10, "1");
    let skus = skus(&read_log(&node));
    let sku = skus[0].as_str();
    poison(&node, sku);
    send(&node, 10, "2");
    let instance = Instance::start(&node, &store);
    eventually("all is taken in", || caught_up(&node, &store));

    let keys = parked(&node, "atp");
    assert_eq!(keys.len(), 1);
    assert_eq!(
        (&keys[0]["key"], &keys[0]["attempts"]),
        (&sku.into(), &1.into())
    );
    let waiting = keys[0]["waiting"].as_i64().unwrap();
    assert!(waiting > 1, "{waiting}");
    let place = keys[0]["place"].as_str().unwrap();
    let shown = node.json(&[
        "projection",
        "parked",
        "show",
        "atp",
        place,
        "--format",
        "json",
    ]);
    assert_eq!(shown["records"][0]["value"], "no event");
    assert_eq!(shown["records"][0]["key"], sku);

    let redrive = ["projection", "parked", "redrive", "atp"];
    let dry = node.run(&[&redrive[..], &["--key", sku, "--dry-run"]].concat());
    assert!(dry.contains(place), "{dry}");
    let (code, _) = node.refused(&[&redrive[..], &["--all"]].concat());
    assert_eq!(code, 3, "it fails again");
    assert_eq!(parked(&node, "atp")[0]["attempts"], 2);
    let (code, error) = node.refused(&redrive);
    assert!(code == 1 && error.contains("--all"), "{error}");

    let discard = ["projection", "parked", "discard", "atp", place];
    let (code, error) = node.refused(&discard);
    assert!(code == 1 && error.contains("--yes"), "{error}");
    let done = node.run(&[&discard[..], &["--yes", "--format", "json"]].concat());
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done[0]["applied"], waiting - 1);
    assert_eq!(parked(&node, "atp").len(), 0);
    assert_eq!(
        parked(&node, "inventory_movement").len(),
        1,
        "each has its own"
    );
    let (code, error) = node.refused(&["projection", "parked", "show", "atp", place]);
    assert!(code == 1 && error.contains("nothing is parked"), "{error}");

    pausing_holds(&node, &store);
    a_store_that_is_away_parks_nothing(&node, &store);
    drop(instance);
}

fn state(node: &Node, projection: &str) -> Value {
    node.json(&["projection", "status", projection, "--format", "json"])
}

/// A paused projection fetches nothing, shows its lag, and keeps its partitions.
fn pausing_holds(node: &Node, store: &Path) {
    let read = || {
        let file = rusqlite::Connection::open(store).unwrap();
        let sql = "SELECT sum(next_offset) FROM _conveyor_positions WHERE projection = 'atp'";
        file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    node.run(&["projection", "pause", "atp"]);
    let before = read();
    send(node, 5, "3");
    let behind = eventually("its lag shows", || {
        let status = state(node, "atp");
        let lag = status["lag_records"].as_i64()?;
        let seconds = status["lag_seconds"].as_f64()?;
        let partitions = status["partitions"].as_i64()?;
        (status["state"] == "PAUSED" && lag > 0 && seconds > 0.0 && partitions == 12).then_some(lag)
    });
    assert_eq!((read(), before + behind), (before, inventory_records(node)));
    let (code, error) = node.refused(&["projection", "parked", "list", "atp"]);
    assert!(code == 1 && error.contains("resume"), "{error}");
    node.run(&["projection", "resume", "atp"]);
    eventually("it goes on", || caught_up(node, store));
}

fn a_store_that_is_away_parks_nothing(node: &Node, store: &Path) {
    let parked_before = state(node, "inventory_movement")["parked_records"].clone();
    let file = rusqlite::Connection::open(store).unwrap();
    file.execute_batch("BEGIN EXCLUSIVE").unwrap();
    send(node, 5, "4");
    eventually("it pauses", || {
        let status = state(node, "inventory_movement");
        (status["state"] == "PAUSED" && status["last_error"].is_string()).then_some(())
    });
    assert_eq!(
        state(node, "inventory_movement")["parked_records"],
        parked_before
    );
    file.execute_batch("ROLLBACK").unwrap();
    eventually("it goes on by itself", || caught_up(node, store));
    assert_eq!(parked(node, "inventory_movement").len(), 1);
    assert_eq!(parked(node, "atp").len(), 0);
}

/// A partition in which as much is parked as may be stands still and says so; the others go on, and
/// so does it once there is room.
#[test]
fn a_full_partition_stands_still_alone_until_there_is_room() {
    let node = Node::start(&[]);
    create_topics(&node);
    send(&node, 10, "1");
    let skus = skus(&read_log(&node));
    poison(&node, &skus[0]);
    send(&node, 20, "2");
    let store = node.file("read-models.sqlite");
    let config = node.file("processors.toml");
    let text = format!(
        "[stores.main]\naddress = 'sqlite:{}'\n[projections.atp]\nparked_records_max = 3\n",
        store.display()
    );
    std::fs::write(&config, text).unwrap();
    let args = [
        "processors",
        "run",
        "--config",
        config.to_str().unwrap(),
        "--log",
        "off",
    ];
    let instance = Instance(node.command(&args).stdout(Stdio::null()).spawn().unwrap());
    let status = eventually("it stands still", || {
        let output = node
            .command(&["projection", "status", "atp", "--format", "json"])
            .output();
        let status: Value = serde_json::from_slice(&output.unwrap().stdout).ok()?;
        let partitions = status["instances_told"][0]["partitions"]
            .as_array()?
            .clone();
        let (full, others): (Vec<_>, Vec<_>) = partitions.iter().partition(|p| p["full"] == true);
        let is_done =
            |p: &&Value| p["position"].as_i64().unwrap_or(0) == p["end"].as_i64().unwrap_or(0);
        (full.len() == 1 && others.iter().all(is_done)).then_some(status)
    });
    let error = status["last_error"].as_str().unwrap();
    assert!(
        error.contains("stands still") && error.contains("parked list atp"),
        "{error}"
    );
    assert_eq!(
        (&status["state"], &status["parked_records"]),
        (&"RUNNING".into(), &3.into())
    );
    assert!(status["lag_records"].as_i64().unwrap() > 0);

    let place = parked(&node, "atp")[0]["place"]
        .as_str()
        .unwrap()
        .to_owned();
    node.run(&["projection", "parked", "discard", "atp", &place, "--yes"]);
    let all = inventory_records(&node);
    eventually("it goes on", || {
        let file = rusqlite::Connection::open(&store).unwrap();
        let sql = "SELECT sum(next_offset) FROM _conveyor_positions";
        let read: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
        (read == all).then_some(())
    });
    assert_eq!(parked(&node, "atp").len(), 0);
    drop(instance);
}
