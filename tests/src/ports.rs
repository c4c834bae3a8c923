//! Ports for nodes that are told where to listen, given to one test at a time.
//!
//! A port that the kernel chose and that was let go again may be chosen for another test's node, or
//! for the near end of any connection, before the node of this test binds it. So these come from
//! below the range that the kernel chooses from (`net.ipv4.ip_local_port_range`, 32768 and up), in
//! turns that all processes of this machine share through a locked file.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

const FIRST: u16 = 16_000;
const END: u16 = 32_000;

/// `N` different addresses of this machine that nobody listens on, and that no other caller gets
/// before all the others of the range were given out.
pub fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut turn = Turn::take()?;
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for address in &mut addresses {
        *address = turn.next_free()?;
    }
    turn.give_back()?;
    Ok(addresses)
}

/// As [`free_addresses`], one of them.
pub fn free_address() -> Result<SocketAddr> {
    let [address] = free_addresses()?;
    Ok(address)
}

/// The right to choose, held as the lock of the file that says where the last one stopped.
struct Turn {
    file: File,
    next: u16,
}

impl Turn {
    fn take() -> Result<Self> {
        let path = std::env::temp_dir().join("conveyor-test-ports");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let next = text.trim().parse().unwrap_or(FIRST);
        Ok(Self { file, next })
    }

    fn next_free(&mut self) -> Result<SocketAddr> {
        for _ in FIRST..END {
            let port = if (FIRST..END).contains(&self.next) {
                self.next
            } else {
                FIRST
            };
            self.next = port + 1;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        bail!("every port from {FIRST} to {END} is taken")
    }

    fn give_back(mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{}", self.next)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_callers_get_the_same_port() {
        let callers: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| free_addresses::<16>().unwrap()))
            .collect();
        let mut all: Vec<SocketAddr> = callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap())
            .collect();
        all.sort();
        let given = all.len();
        all.dedup();
        assert_eq!(all.len(), given);
    }
}
