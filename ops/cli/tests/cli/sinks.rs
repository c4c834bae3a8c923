//! Sinks as processes: two instances that share partitions are killed and frozen at random moments,
//! and so is the server that they write to, while records come. At the end each record is there
//! once, and each key shows its last record.
//!
//! `CONVEYOR_TEST_SEED` repeats a run's choices; the moments at which they hit differ all the same.

mod elasticsearch;
mod hanging;
mod mongodb;
mod s3;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use conveyor_test_servers::chance::Chance;
use serde_json::Value;

use crate::node::{Node, eventually};

/// Keys of the records that are produced.
const KEYS: u64 = 40;

/// A node with a topic, and a file of sinks that read it.
pub(crate) struct Stage {
    pub(crate) node: Node,
    config: PathBuf,
    /// Their names, and their groups'.
    sinks: Vec<String>,
    produced: u64,
}

/// A record as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    pub(crate) key: String,
    /// `None` for a tombstone.
    pub(crate) value: Option<Value>,
}

impl Stage {
    pub(crate) fn new(config: &str) -> Self {
        let node = Node::start(&["group.consumer.session.timeout.ms=6000"]);
        node.run(&["topic", "create", "orders", "-p", "4"]);
        node.run(&["topic", "create", "error-events", "-p", "1"]);
        let file = node.file("processors.toml");
        std::fs::write(&file, config).unwrap();
        let name = |line: &str| Some(line.strip_prefix("[sinks.")?.strip_suffix(']')?.to_owned());
        Self {
            node,
            config: file,
            sinks: config.lines().filter_map(name).collect(),
            produced: 0,
        }
    }

    /// Produces some records, a tombstone now and then.
    pub(crate) fn produce(&mut self, count: u64, chance: &mut Chance) {
        let mut lines = String::new();
        for _ in 0..count {
            let n = self.produced;
            self.produced += 1;
            let key = chance.below(KEYS);
            lines += &format!("k{key}|{{\"n\":{n},\"key\":\"k{key}\"}}\n");
        }
        let produce = ["topic", "produce", "orders", "-f", "%k|%v", "-q"];
        self.node.run_with_input(&produce, &lines);
        let key = format!("k{}", chance.below(KEYS));
        let tombstone = ["topic", "produce", "orders", "-k", &key, "-Z", "-q"];
        self.node.run_with_input(&tombstone, "\n");
    }

    /// Everything that the topic holds; a value that is no JSON as null.
    pub(crate) fn log(&self) -> Vec<Sent> {
        let consume = ["topic", "consume", "orders", "-o", ":end"];
        let sent = |record: Value| Sent {
            partition: record["partition"].as_i64().unwrap(),
            offset: record["offset"].as_i64().unwrap(),
            key: record["key"].as_str().unwrap().to_owned(),
            value: record["value"]
                .as_str()
                .map(|value| serde_json::from_str(value).unwrap_or_default()),
        };
        let records = self.node.json_lines(&consume).into_iter();
        records.map(sent).collect()
    }

    pub(crate) fn command(&self) -> Command {
        let config = self.config.to_str().unwrap();
        let mut command = self
            .node
            .command(&["processors", "run", "--config", config]);
        command.args(["--report-every", "600", "--log", "warn", "--format", "json"]);
        command
    }

    /// An instance of the sinks.
    fn start(&self, number: u64) -> Instance {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.node.file(&format!("instance-{number}.log")))
            .unwrap();
        let mut command = self.command();
        let command = command.stdout(Stdio::null()).stderr(log);
        Instance(command.spawn().unwrap())
    }

    /// Runs until everything is written; what it reports.
    pub(crate) fn finish(&self) -> Value {
        let mut command = self.command();
        command.arg("--until-end").stdout(Stdio::piped());
        let (status, out, told) = Instance::end(command);
        assert!(status.success(), "{status}: {told}");
        serde_json::from_str(out.lines().last().unwrap()).unwrap()
    }

    /// What an instance says that must not run.
    pub(crate) fn refused(&self) -> String {
        let mut command = self.command();
        command.stdout(Stdio::piped());
        let (status, _, told) = Instance::end(command);
        assert_eq!(status.code(), Some(1), "{told}");
        told
    }

    /// Two instances share the partitions while records come; one or the other is killed or frozen,
    /// or the server is, `rounds` times.
    pub(crate) fn play(&mut self, rounds: u64, chance: &mut Chance, mut hurt_server: impl FnMut()) {
        let mut instances = vec![self.start(0), self.start(1)];
        let (mut killed, mut frozen, mut servers) = (0, 0, 0);
        for round in 0..rounds {
            self.produce(150, chance);
            std::thread::sleep(Duration::from_millis(chance.below(900)));
            let victim = chance.below(2) as usize;
            // The first rounds do each of the three at least once.
            let choice = if round < 3 { round } else { chance.below(3) };
            match choice {
                0 => {
                    hurt_server();
                    servers += 1;
                }
                1 => {
                    // It loses its partitions while it sleeps and wakes beside their new owner.
                    instances[victim].signal("-STOP");
                    std::thread::sleep(Duration::from_millis(6_500 + chance.below(1_000)));
                    self.produce(50, chance);
                    instances[victim].signal("-CONT");
                    frozen += 1;
                }
                _ => {
                    instances[victim] = self.start(victim as u64);
                    killed += 1;
                }
            }
        }
        drop(instances);
        // Their partitions are theirs until the group has noticed.
        for sink in &self.sinks {
            let describe = ["group", "describe", sink, "--format", "json"];
            eventually("the group being empty", || {
                let state = self.node.json(&describe)[0]["members"].clone();
                state.as_array().unwrap().is_empty().then_some(())
            });
        }
        println!("{killed} killed, {frozen} frozen, {servers} servers hurt");
        self.produce(50, chance);
    }
}

/// An instance of the sinks, killed when dropped.
struct Instance(Child);

impl Instance {
    /// Runs until it ends by itself: how, and what it printed and said.
    fn end(mut command: Command) -> (ExitStatus, String, String) {
        let mut instance = Self(command.stderr(Stdio::piped()).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_mins(3);
        while instance.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the sinks have not ended");
            std::thread::sleep(Duration::from_millis(50));
        }
        let (mut out, mut told) = (String::new(), String::new());
        let (stdout, stderr) = (instance.0.stdout.take(), instance.0.stderr.take());
        stdout.unwrap().read_to_string(&mut out).unwrap();
        stderr.unwrap().read_to_string(&mut told).unwrap();
        (instance.0.wait().unwrap(), out, told)
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The last record of each key.
pub(crate) fn last_of_each_key(log: &[Sent]) -> BTreeMap<String, Sent> {
    let last = log.iter().map(|sent| (sent.key.clone(), sent.clone()));
    last.collect()
}

/// What one sink reports.
pub(crate) fn report_of<'r>(reports: &'r Value, sink: &str) -> &'r Value {
    let mut reports = reports.as_array().unwrap().iter();
    reports.find(|report| report["sink"] == sink).unwrap()
}

/// Answers every request with this status, as a server that wants a password.
pub(crate) fn answering(status: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = [0; 4096];
            if socket.read(&mut request).is_ok() {
                write!(socket, "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").ok();
            }
        }
    });
    port
}
