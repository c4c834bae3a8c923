//! Takes connections of the Kafka listeners, as many as are allowed in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::bound::{BoundListener, ListenerInfo};
use super::connection;
use crate::kafka::KafkaService;
use crate::listener::connections::{Connection, accept};

/// Serves the listeners until the node stops; returns once the last connection has ended.
pub(crate) async fn serve(service: Arc<KafkaService>, listeners: Vec<BoundListener>) {
    let mut acceptors = JoinSet::new();
    let addresses = Arc::new(Addresses {
        max: service.node().config.connections_max_per_ip,
        open: Mutex::default(),
    });
    for BoundListener { info, sockets } in listeners {
        for socket in sockets {
            let acceptor = Acceptor {
                service: Arc::clone(&service),
                info: Arc::clone(&info),
                addresses: Arc::clone(&addresses),
                connections: JoinSet::new(),
            };
            acceptors.spawn(acceptor.run(socket));
        }
    }
    acceptors.join_all().await;
}

/// One socket and the connections that came by it; dropping it ends them.
struct Acceptor {
    service: Arc<KafkaService>,
    info: Arc<ListenerInfo>,
    addresses: Arc<Addresses>,
    connections: JoinSet<()>,
}

impl Acceptor {
    async fn run(mut self, socket: TcpListener) {
        let service = Arc::clone(&self.service);
        let node = service.node();
        let max = node.config.connections_max;
        loop {
            tokio::select! {
                connection = accept(&socket, max, &node.metrics) => self.take(connection),
                Some(_) = self.connections.join_next() => {}
                () = node.stopping.cancelled() => break,
            }
        }
        drop(socket);
        self.connections.join_all().await;
    }

    fn take(&mut self, connection: Connection) {
        let peer = connection.peer();
        let Some(place) = Place::take(&self.addresses, peer.ip().to_canonical()) else {
            self.service.node().metrics.connections_refused.increment();
            let max = self.addresses.max;
            tracing::debug!(%peer, max, "connection refused (max.connections.per.ip)");
            return;
        };
        let (service, info) = (Arc::clone(&self.service), Arc::clone(&self.info));
        self.connections.spawn(async move {
            connection::serve(&service, info, connection).await;
            drop(place);
        });
    }
}

/// Open connections by address.
#[derive(Debug)]
struct Addresses {
    max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place among those of its address; given back when it is dropped.
struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Place {
    fn take(addresses: &Arc<Addresses>, address: IpAddr) -> Option<Self> {
        let mut open = addresses.open.lock();
        let count = open.entry(address).or_default();
        if *count >= addresses.max {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Self {
            addresses: Arc::clone(addresses),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let addresses = Arc::new(Addresses {
            max: 2,
            open: Mutex::default(),
        });
        let here: IpAddr = [127, 0, 0, 1].into();
        let first = Place::take(&addresses, here).unwrap();
        let second = Place::take(&addresses, here).unwrap();
        assert!(Place::take(&addresses, here).is_none());
        assert!(Place::take(&addresses, [127, 0, 0, 2].into()).is_some());
        drop(first);
        assert!(Place::take(&addresses, here).is_some());
        drop(second);
        assert!(addresses.open.lock().is_empty());
    }
}
