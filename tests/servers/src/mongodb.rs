//! A server that speaks `MongoDB`'s protocol: `SecantusDB`, a stand-in with real transactions, from
//! Python's package index. `make test` installs it into a cache folder.

use std::path::Path;
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::process::{Process, free_port, installed, unique, wait_for_port};

/// As `.ci/packages` names its folder.
const NAME: &str = "secantusdb-0.7.0b3";

/// A server of our own.
#[derive(Debug)]
pub struct Mongodb {
    /// Where it listens, on loopback.
    pub port: u16,
    folder: TempDir,
    process: Process,
    arguments: Vec<String>,
}

impl Mongodb {
    /// A new server; `arguments` such as `--standalone`, for one without transactions.
    pub fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let port = free_port();
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

    /// An address of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!(
            "mongodb://127.0.0.1:{}/{database}?directConnection=true",
            self.port
        )
    }
}

fn run(folder: &Path, port: u16, arguments: &[String]) -> Process {
    let program = installed(NAME, "bin/secantusd-py");
    let path = format!(
        "PYTHONPATH={}",
        program.trim_end_matches("/bin/secantusd-py")
    );
    let (port_text, data, log) = (port.to_string(), folder.join("data"), folder.join("log"));
    let mut command = vec!["env", "-C", folder.to_str().unwrap(), &path, "python3"];
    command.extend([&program, "--host", "127.0.0.1", "--port", &port_text]);
    command.extend([
        "--storage-path",
        data.to_str().unwrap(),
        "--cache-size",
        "128M",
    ]);
    command.extend(["--log-level", "WARNING"]);
    command.extend(arguments.iter().map(String::as_str));
    let process = Process::start(&command, &log);
    wait_for_port(port, &log);
    process
}

/// The server that all tests of a run share; each has its own database.
static SHARED: LazyLock<String> = LazyLock::new(|| {
    if let Ok(url) = std::env::var("CONVEYOR_TEST_MONGODB_URL") {
        return url;
    }
    keep(&[])
});

static SHARED_STANDALONE: LazyLock<String> = LazyLock::new(|| keep(&["--standalone"]));

fn keep(arguments: &[&str]) -> String {
    let server = Mongodb::start(arguments);
    let url = server.url("DATABASE");
    // Lives as long as the test process: its guard ends it then.
    std::mem::forget(server);
    url
}

/// An address of a fresh database on the server with transactions that all tests of a process share,
/// or on the given one.
pub fn shared_database() -> String {
    with_database(&SHARED, &unique("contract"))
}

/// The same on a server without transactions.
pub fn shared_standalone_database() -> String {
    with_database(&SHARED_STANDALONE, &unique("contract"))
}

fn with_database(url: &str, database: &str) -> String {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = server.split_once("://").unwrap();
    let hosts = rest.split('/').next().unwrap();
    format!("{scheme}://{hosts}/{database}?{query}")
}
