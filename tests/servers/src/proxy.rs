//! A way to a server that can be cut: for servers that keep everything in memory, which a restart
//! would empty. Bytes under way are lost in the middle, as when a cable is pulled. It can also be held:
//! then the server seems to hang.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Passes connections on to a port of this machine.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens, on loopback.
    pub port: u16,
    line: Arc<Mutex<Line>>,
    gate: Arc<Gate>,
}

/// What every byte passes.
#[derive(Debug, Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, is_shut: bool) {
        *self.is_shut.lock().unwrap() = is_shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_shut = self.is_shut.lock().unwrap();
        drop(self.opened.wait_while(is_shut, |is_shut| *is_shut).unwrap());
    }
}

/// A way that is held, until this is dropped.
#[derive(Debug)]
pub struct Held(Arc<Gate>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// What goes through at the moment.
#[derive(Debug, Default)]
struct Line {
    cut: bool,
    open: Vec<TcpStream>,
}

impl Proxy {
    /// A proxy before `target`.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(Mutex::new(Line::default()));
        let shared = Arc::clone(&line);
        let gate = Arc::<Gate>::default();
        let shared_gate = Arc::clone(&gate);
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                let Ok(to) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else {
                    continue;
                };
                let mut line = shared.lock().unwrap();
                if line.cut {
                    continue;
                }
                line.open
                    .extend([from.try_clone().unwrap(), to.try_clone().unwrap()]);
                let back = (to.try_clone().unwrap(), from.try_clone().unwrap());
                for (from, to) in [(from, to), back] {
                    let gate = Arc::clone(&shared_gate);
                    std::thread::spawn(move || copy(from, to, &gate));
                }
            }
        });
        Self { port, line, gate }
    }

    /// Passes nothing on until what is returned is dropped; connections stay open, new ones are taken,
    /// and no byte is lost.
    pub fn hold(&self) -> Held {
        self.gate.set(true);
        Held(Arc::clone(&self.gate))
    }

    /// Cuts everything, and lets nothing through for a while.
    pub fn cut(&self, lasting: Duration) {
        {
            let mut line = self.line.lock().unwrap();
            line.cut = true;
            for socket in line.open.drain(..) {
                // It may be closed already.
                socket.shutdown(Shutdown::Both).ok();
            }
        }
        std::thread::sleep(lasting);
        self.line.lock().unwrap().cut = false;
    }
}

/// Copies until one side closes, then closes the other.
fn copy(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        gate.pass();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}
