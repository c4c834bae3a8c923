//! The one client that both servers meet.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use conveyor_grpc::v1::admin_service_client::AdminServiceClient;
use conveyor_grpc::v1::produce_service_client::ProduceServiceClient;
use conveyor_grpc::v1::{
    Acks, CreateTopicsRequest, NewTopic, ProduceStreamBatch, ProduceStreamOpen,
    ProduceStreamRequest, ProduceStreamResponse, produce_stream_request::Message,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::{CONNECTION_WINDOW, STREAM_WINDOW};

/// Messages between the sending task and the connection.
const OUTBOUND_WAITING: usize = 16;

/// A connection with raised windows.
///
/// # Errors
/// When the server does not answer.
pub async fn connect(address: SocketAddr) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .tcp_nodelay(true);
    endpoint
        .connect()
        .await
        .with_context(|| format!("connect to {address}"))
}

/// Creates a topic.
///
/// # Errors
/// When the node refuses.
pub async fn create_topic(
    channel: Channel,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<()> {
    let request = CreateTopicsRequest {
        topics: vec![NewTopic {
            name: topic.to_owned(),
            partitions,
            replication_factor: 1,
            configs: configs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }],
        ..CreateTopicsRequest::default()
    };
    let response = AdminServiceClient::new(channel)
        .create_topics(request)
        .await?
        .into_inner();
    for created in response.topics {
        ensure!(
            created.error_code == 0,
            "create {topic}: {}",
            created.error_message
        );
    }
    Ok(())
}

/// Sends `count` batches, taken in turn, over one stream to one partition and waits for every
/// acknowledgement. Returns the bytes of the batches.
///
/// # Errors
/// When a batch is refused or the stream ends.
pub async fn produce(
    channel: Channel,
    topic: String,
    partition: i32,
    batches: Arc<[Bytes]>,
    count: usize,
) -> Result<u64> {
    let (outbound, requests) = mpsc::channel(OUTBOUND_WAITING);
    let open = ProduceStreamOpen {
        acks: Acks::All as i32,
        timeout_ms: 0,
        transactional_id: String::new(),
    };
    outbound.send(request(Message::Open(open))).await?;
    let mut client = ProduceServiceClient::new(channel);
    let stream = client.produce_stream(ReceiverStream::new(requests)).await?;
    let mut responses = stream.into_inner();
    let first = responses
        .message()
        .await?
        .context("the stream ended at once")?;
    let limits = first.limits.context("the first answer has no limits")?;

    let window = Arc::new(Semaphore::new(usize::try_from(limits.window_bytes)?));
    let sending = tokio::spawn(send(
        outbound,
        Arc::clone(&window),
        topic,
        partition,
        Arc::clone(&batches),
        count,
    ));
    receive(&mut responses, &window, &batches, count).await?;
    sending.await?
}

async fn send(
    outbound: mpsc::Sender<ProduceStreamRequest>,
    window: Arc<Semaphore>,
    topic: String,
    partition: i32,
    batches: Arc<[Bytes]>,
    count: usize,
) -> Result<u64> {
    let mut bytes = 0;
    for n in 0..count {
        let batch = batches[n % batches.len()].clone();
        bytes += batch.len() as u64;
        // Given back when the acknowledgement comes.
        window
            .acquire_many(u32::try_from(batch.len())?)
            .await?
            .forget();
        let batch = ProduceStreamBatch {
            correlation_id: n as u64,
            topic: topic.clone(),
            partition,
            batch,
        };
        outbound.send(request(Message::Batch(batch))).await?;
    }
    Ok(bytes)
}

async fn receive(
    responses: &mut Streaming<ProduceStreamResponse>,
    window: &Semaphore,
    batches: &[Bytes],
    count: usize,
) -> Result<()> {
    let mut acknowledged = 0;
    while acknowledged < count {
        let response = responses
            .message()
            .await?
            .context("the stream ended too early")?;
        for ack in response.acks {
            ensure!(ack.error_code == 0, "batch refused: {}", ack.error_message);
            window.add_permits(batches[ack.correlation_id as usize % batches.len()].len());
            acknowledged += 1;
        }
    }
    Ok(())
}

const fn request(message: Message) -> ProduceStreamRequest {
    ProduceStreamRequest {
        message: Some(message),
    }
}
