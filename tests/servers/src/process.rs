//! Server processes that end with whoever started them, and what it takes to start one.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts a command and ends it with us, however we end: the shell waits for its input to close. Then
/// nobody is left to remove the server's folder but the shell.
const GUARD: &str = r#"
folder=$1; shift
"$@" <&- & pid=$!
trap '' INT
read -r signal || left=yes
kill "-${signal:-KILL}" "$pid" 2>/dev/null
wait "$pid"
[ -z "$left" ] || rm -rf "$folder"
"#;

/// A server process.
#[derive(Debug)]
pub struct Process {
    guard: Child,
    orders: Option<ChildStdin>,
}

impl Process {
    /// Starts `command`; its output goes to `log`, which stands in the server's own folder.
    pub fn start(command: &[&str], log: &Path) -> Self {
        let output = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(log.parent().unwrap())
            .args(command)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let orders = guard.stdin.take();
        Self { guard, orders }
    }

    /// Ends the server by a signal (`KILL`, `INT`) and waits for it.
    pub fn end(&mut self, signal: &str) {
        if let Some(mut orders) = self.orders.take() {
            // The shell may have ended with the server.
            writeln!(orders, "{signal}").ok();
        }
        self.guard.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end("KILL");
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until somebody listens.
pub fn wait_for_port(port: u16, log: &Path) {
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if begun.elapsed() > Duration::from_mins(1) {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            panic!("nothing listens on port {port}:\n{log}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where a program lies; the first of some places that has it.
pub fn find_program(name: &str, folders: &[&str]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(folders.iter().copied());
    let mut places = folders.map(|folder| Path::new(folder).join(name));
    let found = places.find(|place| place.is_file());
    let found = found.unwrap_or_else(|| {
        panic!("{name} is not installed: `make test` installs what the tests need")
    });
    found.to_str().unwrap().to_owned()
}

/// A program of a package that `make test` installs into the cache folder.
pub fn installed(name: &str, program: &str) -> String {
    let path = format!("{}/{program}", package(name));
    assert!(Path::new(&path).is_file(), "{name} has no {program}");
    path
}

/// The folder of a package that `make test` installs into the cache folder.
pub fn package(name: &str) -> String {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    let folder = cache.join("conveyor-test").join(name);
    let folder = folder.to_str().unwrap().to_owned();
    assert!(
        Path::new(&folder).is_dir(),
        "there is no {folder}: `make test` installs what the tests need"
    );
    folder
}

/// Whether this is root, who must not run some servers.
pub fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.starts_with(b"0\n")
}

/// A name that no other test has, in this process or another.
pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{}_{number}", std::process::id())
}
