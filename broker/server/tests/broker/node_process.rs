//! A node in a process of its own, to be killed: this test binary, started once more.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conveyor_server::Broker;
use tempfile::TempDir;

use crate::harness::{PATIENCE, config};

const FOLDER: &str = "CONVEYOR_TEST_NODE_FOLDER";

/// What the process does: serves until it is killed, and tells its address in its folder. Returns at
/// once without a folder, as when all ignored tests are run.
pub(crate) async fn serve(settings: &[(&str, &str)], address: impl Fn(&Broker) -> SocketAddr) {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let broker = Broker::start(config(folder, settings)).await.unwrap();
    let written = folder.join("address.new");
    std::fs::write(&written, address(&broker).to_string()).unwrap();
    std::fs::rename(written, folder.join("address")).unwrap();
    broker.stopped().await;
}

/// The process, as the test that kills it sees it.
pub(crate) struct NodeProcess {
    folder: TempDir,
    process: Child,
}

impl NodeProcess {
    /// Starts `groups_crash::node_process` of this binary on a folder.
    pub(crate) fn start(folder: TempDir) -> Self {
        let address = folder.path().join("address");
        if address.exists() {
            std::fs::remove_file(address).unwrap();
        }
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "groups_crash::node_process"])
            .env(FOLDER, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { folder, process }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.folder
    }

    /// Where it serves, once it does.
    pub(crate) async fn address(&self) -> SocketAddr {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(self.folder.path().join("address"))
                && let Ok(address) = text.parse()
            {
                return address;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the node does not start"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
