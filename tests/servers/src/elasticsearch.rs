//! A server that speaks Elasticsearch's and `OpenSearch`'s protocol: `osmem-server`, a stand-in that
//! keeps everything in memory, from Python's package index. `make test` installs it into a cache
//! folder.

use tempfile::TempDir;

use crate::process::{Process, free_port, installed, wait_for_port};

/// As `.ci/packages` names its folder.
const NAME: &str = "osmem-server-0.1.6";

/// A server of our own.
#[derive(Debug)]
pub struct Elasticsearch {
    /// Where it listens, on loopback.
    pub port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Elasticsearch {
    /// A new, empty server.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = installed(NAME, "osmem_server/bin/osmem-server");
        let (port, log) = (free_port(), folder.path().join("log"));
        let address = format!("127.0.0.1:{port}");
        let command = [&program, "-addr", &address, "-no-stdin-watch"];
        let process = Process::start(&command, &log);
        wait_for_port(port, &log);
        Self {
            port,
            _process: process,
            _folder: folder,
        }
    }
}
