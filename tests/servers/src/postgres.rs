//! `PostgreSQL`, and `PgBouncer` before it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::process::{Process, find_program, free_port, is_root, unique, wait_for_port};
use crate::tls::make_certificates;

/// Debian's place for the programs that are not in the path.
const FOLDERS: [&str; 3] = [
    "/usr/lib/postgresql/15/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/17/bin",
];

/// A cluster of our own.
#[derive(Debug)]
pub struct Postgres {
    /// Where it listens, on loopback.
    pub port: u16,
    folder: TempDir,
    process: Process,
    settings: Vec<String>,
}

impl Postgres {
    /// A new cluster; `settings` such as `fsync=off`.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_in(folder_for_postgres(), settings, None)
    }

    /// A new cluster with rules of its own about who may connect how (`pg_hba.conf`).
    pub fn start_with_rules(rules: &str, settings: &[&str]) -> Self {
        Self::start_in(folder_for_postgres(), settings, Some(rules))
    }

    /// A new cluster that speaks TLS with everybody but the tests' own statements, and the
    /// certificate of who signed its own, which names `localhost`.
    pub fn start_with_tls() -> (Self, PathBuf) {
        let folder = folder_for_postgres();
        certificates_for_postgres(folder.path());
        let file = |name: &str| folder.path().join(name).display().to_string();
        let settings = [
            "fsync=off".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", file("server.pem")),
            format!("ssl_key_file={}", file("server.key")),
        ];
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        let authority = folder.path().join("ca.pem");
        let rules = "hostssl all all 127.0.0.1/32 trust\nhost template1 all 127.0.0.1/32 trust\n";
        (Self::start_in(folder, &settings, Some(rules)), authority)
    }

    fn start_in(folder: TempDir, settings: &[&str], rules: Option<&str>) -> Self {
        let data = folder.path().join("data");
        let initdb = find_program("initdb", &FOLDERS);
        let made = as_postgres(&[
            &initdb,
            "-D",
            data.to_str().unwrap(),
            "-U",
            "postgres",
            "--locale=C",
            "-E",
            "UTF8",
            "-A",
            "trust",
            "--no-sync",
        ])
        .output()
        .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        if let Some(rules) = rules {
            std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        }
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        let port = free_port();
        let process = run(folder.path(), port, &settings);
        Self {
            port,
            folder,
            process,
            settings,
        }
    }

    /// Every process of it dies at once, as in a crash, and it starts again.
    pub fn crash_and_restart(&mut self) {
        self.process.end("QUIT");
        self.start_again();
    }

    /// Starts it again after its end.
    pub fn start_again(&mut self) {
        self.process = run(self.folder.path(), self.port, &self.settings);
    }

    /// An orderly end; see [`Self::start_again`].
    pub fn stop(&mut self) {
        self.process.end("INT");
    }

    /// Lets every process of it stand still until what is returned is dropped: connections stay open,
    /// and nothing answers.
    pub fn freeze(&self) -> Frozen {
        let file = self.folder.path().join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap();
        let first: u32 = text.lines().next().unwrap().trim().parse().unwrap();
        send("STOP", &[first]);
        // Nobody is born any more.
        let mut processes = children_of(first);
        send("STOP", &processes);
        processes.push(first);
        Frozen { processes }
    }

    /// An address of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

fn run(folder: &Path, port: u16, settings: &Vec<String>) -> Process {
    let (log, data) = (folder.join("log"), folder.join("data"));
    let (program, port_text) = (find_program("postgres", &FOLDERS), port.to_string());
    let sockets = format!("unix_socket_directories={}", folder.display());
    let mut command = wrapper();
    command.extend([&program, "-D", data.to_str().unwrap(), "-p", &port_text]);
    command.extend(["-c", "listen_addresses=127.0.0.1", "-c", &sockets]);
    for setting in settings {
        command.extend(["-c", setting]);
    }
    let process = Process::start(&command, &log);
    wait_for_port(port, &log);
    wait_until_ready(port);
    process
}

/// A port that listens may still belong to a server that recovers.
fn wait_until_ready(port: u16) {
    let url = format!("postgres://postgres@127.0.0.1:{port}/template1");
    for _ in 0..600 {
        if try_execute(&url, "SELECT 1").is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the server on port {port} does not get ready");
}

/// A server that stands still, until this is dropped.
#[derive(Debug)]
pub struct Frozen {
    processes: Vec<u32>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        send("CONT", &self.processes);
    }
}

fn send(signal: &str, processes: &[u32]) {
    let ids = processes.iter().map(u32::to_string);
    let sent = Command::new("kill").args(["-s", signal]).args(ids).status();
    // One that has ended meanwhile need not be told.
    sent.unwrap();
}

/// The processes that a process has started.
fn children_of(process: u32) -> Vec<u32> {
    let parent_of = |id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // After the name, which is in brackets and may hold anything: the state, the parent.
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| parent_of(*id) == Some(process)).collect()
}

/// The first column of what a query finds, as text; on a thread of its own.
pub fn texts(url: &str, sql: &str) -> Vec<String> {
    let rows = apart(url, async |client| client.query(sql, &[]).await).unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect()
}

/// Runs statements, on a thread of its own.
pub fn execute(url: &str, sql: &str) {
    try_execute(url, sql).unwrap();
}

fn try_execute(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    apart(url, async |client| client.batch_execute(sql).await)
}

/// Does something with a client of its own, on a thread of its own, as tests run within a runtime.
fn apart<T: Send>(
    url: &str,
    work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error> + Send,
) -> Result<T, tokio_postgres::Error> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            let connection = tokio::spawn(connection);
            let done = work(&client).await;
            drop(client);
            connection.await.unwrap().ok();
            done
        })
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Certificates that the server may read.
fn certificates_for_postgres(folder: &Path) {
    make_certificates(folder);
    if is_root() {
        let given = Command::new("chown")
            .args(["postgres:postgres", "server.key"])
            .current_dir(folder)
            .status();
        assert!(given.unwrap().success());
    }
}

/// A folder that the user whom the server runs as may use.
fn folder_for_postgres() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    if is_root() {
        let owned = Command::new("chown")
            .arg("postgres:postgres")
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(owned.success(), "there is no user postgres");
    }
    folder
}

fn wrapper() -> Vec<&'static str> {
    if is_root() {
        vec![
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ]
    } else {
        Vec::new()
    }
}

fn as_postgres(command: &[&str]) -> Command {
    let mut all = wrapper();
    all.extend(command);
    let mut started = Command::new(all[0]);
    started.args(&all[1..]).current_dir("/");
    started
}

/// The server that all tests of a run share; each has its own database.
static SHARED: LazyLock<String> = LazyLock::new(|| {
    if let Ok(url) = std::env::var("CONVEYOR_TEST_POSTGRES_URL") {
        return url;
    }
    let server = Postgres::start(&["fsync=off", "max_connections=300"]);
    let url = server.url("postgres");
    // Lives as long as the test process: its guard ends it then.
    std::mem::forget(server);
    url
});

/// An address of the server that all tests of a process share, or of the given one.
pub fn shared() -> &'static str {
    &SHARED
}

/// An empty database on a server, dropped with this.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// A new one; `server` is an address of any of its databases.
    pub fn create(server: &str) -> Self {
        let name = unique("contract");
        execute(server, &format!("CREATE DATABASE {name}"));
        Self {
            server: server.to_owned(),
            name,
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        with_database(&self.server, &self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        try_execute(
            &self.server,
            &format!("DROP DATABASE {} WITH (FORCE)", self.name),
        )
        .ok();
    }
}

fn with_database(url: &str, database: &str) -> String {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/{database}?{query}")
}

/// `PgBouncer` in transaction mode before a server.
#[derive(Debug)]
pub struct PgBouncer {
    /// Where it listens, on loopback.
    pub port: u16,
    _folder: TempDir,
    _process: Process,
}

impl PgBouncer {
    /// Few connections to the server, so that clients share them all the time.
    pub fn start(server_port: u16) -> Self {
        let folder = folder_for_postgres();
        let port = free_port();
        let file = folder.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 500\n\
             server_login_retry = 1\nquery_wait_timeout = 5\n\
             unix_socket_dir =\nlogfile =\npidfile =\n"
        );
        std::fs::write(&file, settings).unwrap();
        let program = find_program("pgbouncer", &["/usr/sbin", "/sbin"]);
        let mut command = wrapper();
        command.extend([&program, file.to_str().unwrap()]);
        let log = PathBuf::from(folder.path()).join("log");
        let process = Process::start(&command, &log);
        wait_for_port(port, &log);
        Self {
            port,
            _folder: folder,
            _process: process,
        }
    }
}

static SHARED_BOUNCER: LazyLock<PgBouncer> = LazyLock::new(|| {
    let server = Postgres::start(&["fsync=off", "max_connections=300"]);
    let bouncer = PgBouncer::start(server.port);
    std::mem::forget(server);
    bouncer
});

/// The port of the pooler that all tests of a process share.
pub fn shared_bouncer() -> u16 {
    SHARED_BOUNCER.port
}
