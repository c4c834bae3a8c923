//! Kafka listeners with their sockets: where they are bound, and where clients are told they are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, lookup_host};

use crate::config::{Advertised, KafkaListener};
use crate::kafka::Mechanism;

/// A listener's name and addresses.
#[derive(Debug)]
pub(crate) struct ListenerInfo {
    /// Its name, such as `PLAINTEXT`.
    pub(crate) name: Arc<str>,
    /// Where it is bound, with the real port; the first address if there are several.
    pub(crate) address: SocketAddr,
    /// How clients prove who they are; none if they need not.
    pub(crate) mechanisms: Arc<[Arc<dyn Mechanism>]>,
    advertised: Advertised,
    host: String,
}

impl ListenerInfo {
    /// Host and port to tell a client that has reached `local`.
    pub(crate) fn endpoint(&self, local: SocketAddr) -> (String, u16) {
        match &self.advertised {
            Advertised::At { host, port } => (host.clone(), *port),
            Advertised::AsBound => (self.host.clone(), self.address.port()),
            Advertised::AsReached => (canonical(local.ip()).to_string(), self.address.port()),
        }
    }

    /// Host and port as far as they are known without a client.
    pub(crate) fn advertised(&self) -> String {
        if self.advertised == Advertised::AsReached {
            return format!("*:{}", self.address.port());
        }
        let (host, port) = self.endpoint(self.address);
        format!("{}:{port}", crate::config::in_url(&host))
    }
}

/// A client of a version 4 address on a socket for both versions has reached that address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// A listener with its sockets.
#[derive(Debug)]
pub(crate) struct BoundListener {
    pub(crate) info: Arc<ListenerInfo>,
    pub(crate) sockets: Vec<TcpListener>,
}

/// Binds a listener: to every address of its host, so that `localhost` is found whichever address a
/// client tries first.
pub(crate) async fn bind(listener: &KafkaListener) -> io::Result<BoundListener> {
    let mut port = listener.port;
    let mut sockets: Vec<TcpListener> = Vec::new();
    for mut address in addresses(listener).await? {
        // With port 0 the first socket's port is that of all.
        address.set_port(port);
        match TcpListener::bind(address).await {
            Ok(socket) => {
                port = socket.local_addr()?.port();
                sockets.push(socket);
            }
            // A name may have an address of a version that this machine does not have.
            Err(error) if !sockets.is_empty() && is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let Some(first) = sockets.first() else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let info = ListenerInfo {
        name: listener.name.as_str().into(),
        address: first.local_addr()?,
        mechanisms: Arc::from([]),
        advertised: listener.advertised.clone(),
        host: listener.host.clone(),
    };
    Ok(BoundListener {
        info: Arc::new(info),
        sockets,
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    )
}

async fn addresses(listener: &KafkaListener) -> io::Result<Vec<SocketAddr>> {
    let port = listener.port;
    if listener.host.is_empty() {
        return Ok(vec![SocketAddr::from(([0, 0, 0, 0], port))]);
    }
    let mut addresses: Vec<SocketAddr> =
        lookup_host((listener.host.as_str(), port)).await?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(host: &str, advertised: Advertised) -> KafkaListener {
        KafkaListener {
            name: "PLAINTEXT".to_owned(),
            host: host.to_owned(),
            port: 0,
            advertised,
        }
    }

    #[tokio::test]
    async fn all_addresses_of_a_name_share_a_port() {
        let bound = bind(&listener("localhost", Advertised::AsBound))
            .await
            .unwrap();
        let ports: Vec<u16> = bound
            .sockets
            .iter()
            .map(|socket| socket.local_addr().unwrap().port())
            .collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
        let told = bound.info.endpoint(bound.info.address);
        assert_eq!(told, ("localhost".to_owned(), ports[0]));
    }

    #[tokio::test]
    async fn behind_a_wildcard_clients_are_told_what_they_have_reached() {
        let bound = bind(&listener("", Advertised::AsReached)).await.unwrap();
        let port = bound.info.address.port();
        let reached = SocketAddr::from(([10, 1, 2, 3], port));
        assert_eq!(bound.info.endpoint(reached), ("10.1.2.3".to_owned(), port));
        let mapped: SocketAddr = format!("[::ffff:10.1.2.3]:{port}").parse().unwrap();
        assert_eq!(bound.info.endpoint(mapped), ("10.1.2.3".to_owned(), port));
        assert_eq!(bound.info.advertised(), format!("*:{port}"));
    }
}
