//! A server of the produce contract that stores nothing: the limit of the transport.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::Result;
use conveyor_grpc::v1::produce_service_server::{ProduceService, ProduceServiceServer};
use conveyor_grpc::v1::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse,
    ProduceStreamAck, ProduceStreamLimits, ProduceStreamRequest, ProduceStreamResponse,
    produce_stream_request::Message,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::{CONNECTION_WINDOW, FRAME_SIZE, MESSAGE_SIZE, STREAM_WINDOW};

/// Answers that may wait for a client that does not read them.
const ANSWERS_WAITING: usize = 256;

/// Acknowledges every batch at once.
#[derive(Debug)]
pub struct Echo;

type Answers = Pin<Box<dyn Stream<Item = Result<ProduceStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ProduceService for Echo {
    type ProduceStreamStream = Answers;

    async fn init_producer_id(
        &self,
        _request: Request<InitProducerIdRequest>,
    ) -> Result<Response<InitProducerIdResponse>, Status> {
        Err(Status::unimplemented("the echo has no producer ids"))
    }

    async fn produce(
        &self,
        _request: Request<ProduceRequest>,
    ) -> Result<Response<ProduceResponse>, Status> {
        Err(Status::unimplemented("the echo answers streams only"))
    }

    async fn produce_stream(
        &self,
        request: Request<Streaming<ProduceStreamRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let mut requests = request.into_inner();
        let (answers, outbound) = mpsc::channel(ANSWERS_WAITING);
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let answer = request.map(|request| answer(request.message));
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }
}

fn answer(message: Option<Message>) -> ProduceStreamResponse {
    match message {
        Some(Message::Batch(batch)) => ProduceStreamResponse {
            acks: vec![ProduceStreamAck {
                correlation_id: batch.correlation_id,
                ..ProduceStreamAck::default()
            }],
            ..ProduceStreamResponse::default()
        },
        Some(Message::Open(_)) | None => ProduceStreamResponse {
            limits: Some(ProduceStreamLimits {
                window_bytes: i64::from(STREAM_WINDOW),
                batch_bytes_max: MESSAGE_SIZE as i32,
            }),
            ..ProduceStreamResponse::default()
        },
    }
}

/// Serves on a free port and says which; the future ends with the server.
///
/// # Errors
/// When the port cannot be bound.
pub async fn serve() -> Result<(SocketAddr, impl Future<Output = Result<()>>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let service = ProduceServiceServer::new(Echo).max_decoding_message_size(MESSAGE_SIZE);
    let serving = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .tcp_nodelay(true)
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener));
    Ok((address, async move { Ok(serving.await?) }))
}
