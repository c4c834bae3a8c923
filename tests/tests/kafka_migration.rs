//! A broker of Apache Kafka's is filled by its own clients and stopped; a node of ours takes its folder
//! over; the clients find everything as it was.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use conveyor_tests::node::Node;
use conveyor_tests::ports::free_address;

/// How long a JVM on a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_mins(3);
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn java() -> Result<Command> {
    let path = tests_folder().join("interop/target/classpath.txt");
    let class_path = fs::read_to_string(&path).context("`make interop` resolves Kafka's jars")?;
    let mut command = Command::new("java");
    command.args(["-Xmx400m", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(class_path.trim());
    Ok(command)
}

/// Runs a program and gives back what it prints; whether it has succeeded as well.
fn run(mut command: Command) -> Result<(String, Option<i32>)> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(1) {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok((text, output.status.code()))
}

fn client(arguments: &[&str]) -> Result<String> {
    let mut command = java()?;
    command.arg(tests_folder().join("interop/Migration.java"));
    command.args(arguments);
    Ok(run(command)?.0)
}

/// Apache Kafka in a process; killed when it is dropped.
struct Kafka {
    process: Child,
    address: SocketAddr,
}

impl Kafka {
    fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (address, controller) = (free_address()?, free_address()?);
        let settings = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.bootstrap.servers={controller}\n\
             listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
             advertised.listeners=PLAINTEXT://{address}\n\
             inter.broker.listener.name=PLAINTEXT\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             log.dirs={}\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=5\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=5\n\
             group.initial.rebalance.delay.ms=0\nlog.cleaner.backoff.ms=500\n",
            folder.join("data").display()
        );
        let file = folder.join("server.properties");
        fs::write(&file, settings)?;
        let mut format = java()?;
        format.args(["kafka.tools.StorageTool", "format", "--standalone"]);
        format.args(["-t", CLUSTER_ID, "-c"]).arg(&file);
        run(format)?;
        let log = fs::File::create(folder.join("kafka.log"))?;
        let process = java()?
            .arg("kafka.Kafka")
            .arg(&file)
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()?;
        let mut kafka = Self { process, address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if kafka.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("{}", fs::read_to_string(folder.join("kafka.log"))?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(kafka)
    }

    fn stop(&mut self) -> Result<()> {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        let deadline = Instant::now() + PATIENCE;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("Apache Kafka does not stop");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// `conveyor migrate import`: what it prints and its exit code.
fn import(from: &Path, to: &Path, flags: &[&str]) -> Result<(String, Option<i32>)> {
    let mut command = Command::new(conveyor_tests::node::binary()?);
    command
        .args(["migrate", "import", "--kafka-log-dir"])
        .arg(from);
    command.arg("--data-dir").arg(to).args(flags);
    run(command)
}

/// Names and bytes of everything in a folder.
fn content(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(content(&path)?);
        } else {
            found.push((path.clone(), fs::read(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

fn lines<'a>(dump: &'a str, begin: &str) -> Vec<&'a str> {
    dump.lines()
        .filter(|line| line.starts_with(begin))
        .collect()
}

#[test]
fn kafkas_clients_find_everything_as_it_was() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("kafka/data");
    let mut kafka = Kafka::start(&folder.path().join("kafka"))?;
    let bootstrap = kafka.address.to_string();
    client(&["fill", &bootstrap])?;
    let running = import(&source, &folder.path().join("no"), &[])?;
    assert_eq!(running.1, Some(3), "{}", running.0);
    assert!(
        running.0.contains("a broker is running on it"),
        "{}",
        running.0
    );
    let before = client(&["dump", &bootstrap])?;
    kafka.stop()?;
    let untouched = content(&source)?;

    let target = folder.path().join("conveyor/data");
    let planned = import(&source, &target, &["--dry-run"])?;
    assert_eq!(planned.1, Some(0), "{}", planned.0);
    assert!(!target.exists(), "a dry run changes nothing");
    damaged_input_is_refused(&source, folder.path())?;
    let imported = import(&source, &target, &[])?;
    assert_eq!(imported.1, Some(0), "{}", imported.0);
    assert!(content(&source)? == untouched, "the source stays as it was");
    let again = import(&source, &target, &[])?;
    assert_eq!(again.1, Some(3), "{}", again.0);

    let address = free_address()?.to_string();
    let listeners = format!("\"PLAINTEXT://{address}\"");
    let settings = [
        ("listeners", listeners.as_str()),
        ("group.initial.rebalance.delay.ms", "0"),
    ];
    let mut node = Node::start(&folder.path().join("conveyor"), &settings)?;
    let after = client(&["dump", &address])?;
    assert_eq!(lines(&after, "topic "), lines(&before, "topic "));
    assert_eq!(lines(&after, "committed "), lines(&before, "committed "));
    assert!(after == before, "records differ:\n{before}\n{after}");

    let segment = source.join("orders-0/00000000000000000000.log");
    let segment = segment.display().to_string();
    let duplicate = client(&["duplicate", &address, "orders", &segment])?;
    assert_eq!(duplicate.trim(), "known");
    let left = client(&["resume", &address])?;
    let committed: i64 = lines(&before, "committed ")
        .iter()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<i64>().ok())
        .sum();
    assert_eq!(left.trim().parse::<i64>()?, 600 - committed);
    client(&["transact", &address])?;
    let later = client(&["dump", &address])?;
    let paid = |dump: &str, name: &str| {
        let records = lines(dump, "payments-").into_iter();
        records.filter(|line| line.contains(name)).count()
    };
    assert_eq!((paid(&later, "first-"), paid(&later, "later-")), (40, 40));
    node.stop()
}

/// One bit of one batch is wrong: the place is named and nothing is made.
fn damaged_input_is_refused(source: &Path, folder: &Path) -> Result<()> {
    let copy = folder.join("damaged");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(source)
        .arg(&copy)
        .status()?;
    assert!(copied.success());
    let log = copy.join("orders-1/00000000000000000000.log");
    let mut bytes = fs::read(&log)?;
    bytes[100] ^= 1;
    fs::write(&log, bytes)?;
    let target = folder.join("nothing");
    let (text, code) = import(&copy, &target, &[])?;
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("orders-1") && text.contains("position 0"),
        "{text}"
    );
    assert!(!target.exists());
    let left_out = import(&copy, &target, &["--exclude", "orders", "--dry-run"])?;
    assert_eq!(left_out.1, Some(0), "{}", left_out.0);
    fs::remove_file(copy.join(".kafka_cleanshutdown"))?;
    let unclean = import(&copy, &target, &["--exclude", "orders", "--dry-run"])?;
    assert_eq!(unclean.1, Some(3), "{}", unclean.0);
    assert!(unclean.0.contains("did not stop in order"), "{}", unclean.0);
    Ok(())
}
