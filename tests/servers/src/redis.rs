//! Redis: one server, a cluster of three, and a master with sentinels.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::process::{Process, find_program, free_port, wait_for_port};

/// A server of our own; every write is on disk before it is answered.
#[derive(Debug)]
pub struct Redis {
    /// Where it listens, on loopback.
    pub port: u16,
    folder: TempDir,
    process: Process,
    arguments: Vec<String>,
}

impl Redis {
    /// A new server; `arguments` such as `--requirepass secret`.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_on(free_port(), arguments)
    }

    fn start_on(port: u16, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let process = run(folder.path(), port, &arguments);
        Self {
            port,
            folder,
            process,
            arguments,
        }
    }

    /// SIGKILL, and a new start from what is on disk.
    pub fn crash_and_restart(&mut self) {
        self.process.end("KILL");
        self.process = run(self.folder.path(), self.port, &self.arguments);
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

fn run(folder: &Path, port: u16, arguments: &[String]) -> Process {
    let (program, port_text) = (
        find_program("redis-server", &["/usr/bin"]),
        port.to_string(),
    );
    let log = folder.join("log");
    let folder = folder.to_str().unwrap();
    let mut command = vec![program.as_str(), "--port", &port_text, "--dir", folder];
    command.extend(["--bind", "127.0.0.1", "--appendonly", "yes"]);
    command.extend(["--appendfsync", "always", "--save", ""]);
    command.extend(arguments.iter().map(String::as_str));
    let process = Process::start(&command, &log);
    wait_for_port(port, &log);
    process
}

/// Runs `redis-cli`.
pub fn cli(port: u16, arguments: &[&str]) -> String {
    let output = Command::new(find_program("redis-cli", &["/usr/bin"]))
        .args(["-p", &port.to_string()])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

/// The server that all tests of a run share; each has its own prefix.
static SHARED: LazyLock<String> = LazyLock::new(|| {
    if let Ok(url) = std::env::var("CONVEYOR_TEST_REDIS_URL") {
        return url;
    }
    let server = Redis::start(&[]);
    let url = server.url();
    // Lives as long as the test process: its guard ends it then.
    std::mem::forget(server);
    url
});

/// An address of the server that all tests of a process share, or of the given one.
pub fn shared() -> &'static str {
    &SHARED
}

/// Three nodes with all slots between them.
static CLUSTER: LazyLock<Vec<u16>> = LazyLock::new(|| {
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            // The bus's port is given too: the usual one, 10,000 higher, may not exist.
            let bus = free_port().to_string();
            Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &bus])
        })
        .collect();
    let ports: Vec<_> = nodes.iter().map(|node| node.port).collect();
    let addresses: Vec<_> = ports.iter().map(|p| format!("127.0.0.1:{p}")).collect();
    let mut create = vec!["--cluster", "create"];
    create.extend(addresses.iter().map(String::as_str));
    create.push("--cluster-yes");
    cli(ports[0], &create);
    for port in &ports {
        while !cli(*port, &["cluster", "info"]).contains("cluster_state:ok") {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    std::mem::forget(nodes);
    ports
});

/// The port of one node of the cluster that all tests of a process share.
pub fn shared_cluster() -> u16 {
    CLUSTER[0]
}

/// A master and a sentinel that knows it.
static SENTINEL: LazyLock<u16> = LazyLock::new(|| {
    let master = Redis::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let file = folder.path().join("sentinel.conf");
    let settings = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\n",
        folder.path().display(),
        master.port
    );
    std::fs::write(&file, settings).unwrap();
    let program = find_program("redis-server", &["/usr/bin"]);
    let log = folder.path().join("log");
    let process = Process::start(&[&program, file.to_str().unwrap(), "--sentinel"], &log);
    wait_for_port(port, &log);
    std::mem::forget((master, folder, process));
    port
});

/// The port of the sentinel that all tests of a process share; its master is called `main`.
pub fn shared_sentinel() -> u16 {
    *SENTINEL
}
