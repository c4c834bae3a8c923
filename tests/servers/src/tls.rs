//! Certificates by `openssl`, and a server that speaks TLS and nothing that anybody expects: to see
//! who trusts it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, find_program, free_port, wait_for_port};

/// A server at `https://localhost:PORT` that answers every request with a page of text.
#[derive(Debug)]
pub struct TlsServer {
    /// Where it listens, on loopback.
    pub port: u16,
    folder: TempDir,
    _process: Process,
}

impl TlsServer {
    /// A new server with a certificate of an authority of its own.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path());
        let (port, log) = (free_port(), folder.path().join("log"));
        let (port_text, file) = (port.to_string(), |name: &str| {
            folder.path().join(name).to_str().unwrap().to_owned()
        });
        let (certificate, key) = (file("server.pem"), file("server.key"));
        let openssl = find_program("openssl", &["/usr/bin"]);
        let command = [
            &openssl,
            "s_server",
            "-www",
            "-accept",
            &port_text,
            "-cert",
            &certificate,
            "-key",
            &key,
        ];
        let process = Process::start(&command, &log);
        wait_for_port(port, &log);
        Self {
            port,
            folder,
            _process: process,
        }
    }

    /// Who signed its certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

/// An authority, `ca.pem`, and a certificate for `localhost` that it signed, `server.pem` with
/// `server.key`.
pub fn make_certificates(folder: &Path) {
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let curve = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ];
    let mut authority = vec!["req", "-x509", "-subj", "/CN=tests", "-days", "9"];
    authority.extend(curve);
    authority.extend(["-keyout", "ca.key", "-out", "ca.pem"]);
    let mut request = vec!["req", "-subj", "/CN=localhost"];
    request.extend(curve);
    request.extend(["-keyout", "server.key", "-out", "server.csr"]);
    let sign = [
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "9",
        "-extfile",
        "names",
        "-out",
        "server.pem",
    ];
    for arguments in [&authority[..], &request, &sign] {
        let made = Command::new(find_program("openssl", &["/usr/bin"]))
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{arguments:?}: {said}");
    }
}
