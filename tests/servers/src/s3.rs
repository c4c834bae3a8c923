//! A server that speaks S3's protocol: `moto`, a stand-in that keeps everything in memory and refuses
//! conditional writes as S3 does, from Python's package index. `make test` installs it into a cache
//! folder.

use tempfile::TempDir;

use crate::process::{Process, free_port, installed, wait_for_port};

/// As `.ci/packages` names its folder.
const NAME: &str = "moto-5.2.5";

/// A server of our own.
#[derive(Debug)]
pub struct S3 {
    /// Where it listens, on loopback.
    pub port: u16,
    _process: Process,
    _folder: TempDir,
}

impl S3 {
    /// A new server without buckets; any credentials will do.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = installed(NAME, "bin/moto_server");
        let home = program.trim_end_matches("/bin/moto_server");
        let path = format!("PYTHONPATH={home}");
        let (port, log) = (free_port(), folder.path().join("log"));
        let port_text = port.to_string();
        let command = [
            "env",
            &path,
            "python3",
            &program,
            "-H",
            "127.0.0.1",
            "-p",
            &port_text,
        ];
        let process = Process::start(&command, &log);
        wait_for_port(port, &log);
        Self {
            port,
            _process: process,
            _folder: folder,
        }
    }
}
