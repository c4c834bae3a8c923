//! A raw connection to a Kafka listener: any request of any version, and the answer as it came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use conveyor_kafka::frame::{PREFIX_SIZE, frame_size, request_frame};
use conveyor_kafka::{Input, Request, ResponseHeader};

const FRAME_SIZE_MAX: usize = 64 << 20;
/// Longer than any request of the tests may wait at a broker.
const TIMEOUT: Duration = Duration::from_secs(40);

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Wire {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            next_correlation_id: 1,
        })
    }

    /// Sends a request.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<()> {
        let id = self.next_correlation_id;
        let frame = request_frame(version, id, Some("conformity"), request)?;
        self.next_correlation_id += 1;
        Ok(self.stream.write_all(&frame.into_bytes())?)
    }

    /// The body of the answer to the request sent last.
    pub fn receive<R: Request>(&mut self, version: i16) -> Result<Bytes> {
        let mut prefix = [0; PREFIX_SIZE];
        self.stream.read_exact(&mut prefix)?;
        let mut frame = vec![0; frame_size(prefix, FRAME_SIZE_MAX)?];
        self.stream.read_exact(&mut frame)?;
        let frame = Bytes::from(frame);
        let mut input = Input::new(frame.clone());
        let header = ResponseHeader::decode(R::API_KEY, version, &mut input)?;
        let expected = self.next_correlation_id - 1;
        anyhow::ensure!(
            header.correlation_id == expected,
            "answer {} came for request {expected}",
            header.correlation_id
        );
        Ok(frame.slice(input.position()..))
    }

    /// Sends a request and waits for the answer's body.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<Bytes> {
        self.send(version, request)?;
        self.receive::<R>(version)
            .with_context(|| format!("{} version {version}", R::NAME))
    }
}
