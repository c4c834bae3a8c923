//! Accepts connections: no more than allowed, with the options that small answers need.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::metrics::Metrics;

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection that counts as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    open: Arc<AtomicU64>,
}

impl Connection {
    /// The socket.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Where it comes from.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections of a listener, for as long as it lives.
pub(crate) fn incoming(
    listener: TcpListener,
    connections_max: usize,
    metrics: Arc<Metrics>,
) -> impl Stream<Item = io::Result<Connection>> {
    futures::stream::unfold((listener, metrics), move |(listener, metrics)| async move {
        let connection = accept(&listener, connections_max, &metrics).await;
        Some((Ok(connection), (listener, metrics)))
    })
}

/// The next connection that may be taken.
pub(super) async fn accept(
    listener: &TcpListener,
    connections_max: usize,
    metrics: &Metrics,
) -> Connection {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if metrics.connections_open.load(Ordering::Relaxed) >= connections_max as u64 {
                    metrics.connections_refused.increment();
                    tracing::debug!(%peer, connections_max, "connection refused (max.connections)");
                    continue;
                }
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "no TCP_NODELAY");
                }
                metrics.connections_accepted.increment();
                let open = Arc::clone(&metrics.connections_open);
                open.fetch_add(1, Ordering::Relaxed);
                return Connection { stream, peer, open };
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
