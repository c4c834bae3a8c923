//! A client of Kafka's protocol for tests: one connection, one request at a time, made anew when it
//! breaks. Nothing is hidden: callers see every error code and decide themselves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use conveyor_kafka::Request;
use conveyor_kafka::frame::{read_response, request_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a request is repeated while the node is away.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);
const FRAME_BYTES_MAX: i32 = 64 << 20;

/// A connection to one node.
#[derive(Debug)]
pub struct KafkaClient {
    address: SocketAddr,
    stream: Option<TcpStream>,
    next_correlation: i32,
}

impl KafkaClient {
    /// To a node that need not be there yet.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            next_correlation: 1,
        }
    }

    /// One request and its response, repeated on new connections while there is none: the request
    /// may be handled more than once.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_call(version, request).await {
                Ok(response) => return Ok(response),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {
                    self.stream = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// The same, repeated while the response says to try again.
    pub async fn call_until<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        is_final: impl Fn(&R::Response) -> bool,
    ) -> Result<R::Response> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.call(version, request).await?;
            if is_final(&response) {
                return Ok(response);
            }
            if Instant::now() > deadline {
                bail!("{:?} is to be tried again for ever", R::API_KEY);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let correlation = self.next_correlation;
        self.next_correlation = self.next_correlation.wrapping_add(1);
        let frame = request_frame(version, correlation, Some("test"), request)?.into_bytes();
        let stream = if let Some(stream) = &mut self.stream {
            stream
        } else {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.stream.insert(stream)
        };
        let answer = timeout(ANSWER_TIMEOUT, exchange(stream, &frame)).await;
        let answer = answer.context("no answer in time")??;
        let (header, response) = read_response::<R>(version, answer)?;
        ensure!(
            header.correlation_id == correlation,
            "the answer is to another request"
        );
        Ok(response)
    }
}

async fn exchange(stream: &mut TcpStream, frame: &[u8]) -> Result<Bytes> {
    stream.write_all(frame).await?;
    let size = stream.read_i32().await?;
    ensure!(
        (0..=FRAME_BYTES_MAX).contains(&size),
        "a frame of {size} bytes"
    );
    let mut answer = BytesMut::zeroed(size as usize);
    stream.read_exact(&mut answer).await?;
    Ok(answer.freeze())
}
