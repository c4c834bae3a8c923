//! gRPC's framing over an HTTP/2 body, read and written without a copy of the payload.
//!
//! Tonic gathers every request message in a buffer of its own and encodes every response message
//! into another. For the two hot streams that is one copy of each batch too many, so they are read
//! and written here: a message that arrives in one DATA frame stays a slice of the buffer it was
//! received in, and a response frame is the buffer that the log was read into.
//!
//! The wire format is gRPC's (PROTOCOL-HTTP2): a message is one byte of flags, four bytes of length
//! (big-endian), the message; the status follows as trailers. Compressed messages are refused, as
//! tonic does when no encoding was agreed: batches are compressed by the producer.
//!
//! Invariant: memory held for a message that is not complete is in proportion to the bytes that
//! have arrived, not to the length its header claims.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use conveyor_grpc::v1::{FetchStreamResponse, ProduceStreamResponse};
use futures::Stream;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::Status;
use tonic::body::Body;

/// Flags and length in front of every message.
pub(crate) const FRAME_HEADER: usize = 5;

/// Reads the messages of one request body, in order.
#[derive(Debug)]
pub(crate) struct MessageReader {
    body: Body,
    /// What is left of the DATA frame read last.
    chunk: Bytes,
    /// The beginning of a message that spans DATA frames, with its header.
    assembly: BytesMut,
    message_bytes_max: usize,
}

impl MessageReader {
    /// Messages above `message_bytes_max` end the stream with `OUT_OF_RANGE`, as in tonic.
    pub(crate) fn new(body: Body, message_bytes_max: usize) -> Self {
        Self {
            body,
            chunk: Bytes::new(),
            assembly: BytesMut::new(),
            message_bytes_max,
        }
    }

    /// The next message, without its header; `None` when the client has closed its side.
    ///
    /// Cancel-safe: what has been read stays in `self`.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take_buffered()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        debug_assert!(self.chunk.is_empty(), "the last frame is used up");
                        self.chunk = data;
                    }
                }
                None if self.assembly.is_empty() => return Ok(None),
                None => return Err(Status::internal("the stream ended within a message")),
            }
        }
    }

    /// A whole message, if the bytes at hand hold one; otherwise moves them into `assembly`.
    fn take_buffered(&mut self) -> Result<Option<Bytes>, Status> {
        if self.assembly.is_empty() {
            if let Some(size) = self.frame_size(&self.chunk)?
                && self.chunk.len() >= size
            {
                let mut frame = self.chunk.split_to(size);
                frame.advance(FRAME_HEADER);
                return Ok(Some(frame));
            }
            self.assembly.put(std::mem::take(&mut self.chunk));
            return Ok(None);
        }
        self.fill_assembly(FRAME_HEADER);
        let Some(size) = self.frame_size(&self.assembly)? else {
            return Ok(None);
        };
        self.fill_assembly(size);
        if self.assembly.len() < size {
            return Ok(None);
        }
        let mut frame = std::mem::take(&mut self.assembly).freeze();
        frame.advance(FRAME_HEADER);
        Ok(Some(frame))
    }

    /// Moves bytes from the chunk until `assembly` has `size` of them or the chunk is used up.
    fn fill_assembly(&mut self, size: usize) {
        let wanted = size
            .saturating_sub(self.assembly.len())
            .min(self.chunk.len());
        self.assembly.put(self.chunk.split_to(wanted));
    }

    /// Size of the frame that begins here, header included, once the header is there.
    fn frame_size(&self, bytes: &[u8]) -> Result<Option<usize>, Status> {
        let Some((header, _)) = bytes.split_first_chunk::<FRAME_HEADER>() else {
            return Ok(None);
        };
        if header[0] != 0 {
            return Err(Status::unimplemented(
                "compressed gRPC messages are not taken here: compress the batch instead",
            ));
        }
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > self.message_bytes_max {
            return Err(Status::out_of_range(format!(
                "message of {length} bytes is above the limit of {} bytes",
                self.message_bytes_max
            )));
        }
        Ok(Some(FRAME_HEADER + length))
    }
}

/// Reads the messages of one request body as values of one type.
#[derive(Debug)]
pub(crate) struct Inbound<T> {
    reader: MessageReader,
    message: PhantomData<fn() -> T>,
}

impl<T: prost::Message + Default> Inbound<T> {
    /// As [`MessageReader::new`].
    pub(crate) fn new(body: Body, message_bytes_max: usize) -> Self {
        Self {
            reader: MessageReader::new(body, message_bytes_max),
            message: PhantomData,
        }
    }

    /// The next message; `None` when the client has closed its side. `bytes` fields are slices of
    /// what was received. Cancel-safe.
    pub(crate) async fn message(&mut self) -> Result<Option<T>, Status> {
        let Some(bytes) = self.reader.next().await? else {
            return Ok(None);
        };
        let message = T::decode(bytes).map_err(|error| {
            Status::invalid_argument(format!("a message of the stream cannot be read: {error}"))
        })?;
        Ok(Some(message))
    }
}

/// A response message as the chunks in which it travels.
pub(crate) trait Gather {
    /// Puts the frame of this message, header first, at the end of `chunks`.
    fn gather(self, chunks: &mut VecDeque<Bytes>);
}

impl Gather for ProduceStreamResponse {
    fn gather(self, chunks: &mut VecDeque<Bytes>) {
        let mut frame = frame_of(self.encoded_len(), self.encoded_len());
        put_fields(&self, &mut frame);
        chunks.push_back(frame.freeze());
    }
}

impl Gather for FetchStreamResponse {
    /// Records are sent as they are, between the encoded fields: the buffer that the log was read
    /// into is the frame.
    fn gather(self, chunks: &mut VecDeque<Bytes>) {
        let length = self.encoded_len();
        let records: usize = self.partitions.iter().map(|p| p.records.len()).sum();
        let mut fields = frame_of(length, length - records);
        for mut partition in self.partitions {
            encode_key(PARTITIONS_FIELD, WireType::LengthDelimited, &mut fields);
            encode_varint(partition.encoded_len() as u64, &mut fields);
            let records = mem::take(&mut partition.records);
            put_fields(&partition, &mut fields);
            if !records.is_empty() {
                // Kept last in the message, as its contract says.
                encode_key(RECORDS_FIELD, WireType::LengthDelimited, &mut fields);
                encode_varint(records.len() as u64, &mut fields);
                chunks.push_back(fields.split().freeze());
                chunks.push_back(records);
            }
        }
        let rest = FetchStreamResponse {
            partitions: Vec::new(),
            ..self
        };
        put_fields(&rest, &mut fields);
        if !fields.is_empty() {
            chunks.push_back(fields.freeze());
        }
    }
}

/// `FetchStreamResponse.partitions` and `PartitionRecords.records` in the contract.
const PARTITIONS_FIELD: u32 = 1;
const RECORDS_FIELD: u32 = 11;

/// A buffer with `room` for fields, that begins with the header of a message of `length` bytes.
fn frame_of(length: usize, room: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(FRAME_HEADER + room);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    frame
}

fn put_fields(message: &impl prost::Message, into: &mut BytesMut) {
    message.encode(into).expect("a BytesMut grows as needed");
}

/// The body of a response: each message in chunks, then the status as trailers.
pub(crate) struct Outbound<S> {
    messages: Pin<Box<S>>,
    chunks: VecDeque<Bytes>,
    ended: bool,
}

impl<S, M> Outbound<S>
where
    S: Stream<Item = Result<M, Status>> + Send + 'static,
    M: Gather + Send + 'static,
{
    /// The response that carries these messages; an error, or the end of the stream, ends it.
    pub(crate) fn response(messages: S) -> http::Response<Body> {
        let body = Self {
            messages: Box::pin(messages),
            chunks: VecDeque::new(),
            ended: false,
        };
        let mut response = http::Response::new(Body::new(body));
        response.headers_mut().insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/grpc"),
        );
        response
    }
}

impl<S, M> HttpBody for Outbound<S>
where
    S: Stream<Item = Result<M, Status>>,
    M: Gather,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let status = match ready!(self.messages.as_mut().poll_next(context)) {
                Some(Ok(message)) => {
                    message.gather(&mut self.chunks);
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            self.ended = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
    }
}

fn trailers(status: &Status) -> http::HeaderMap {
    let mut trailers = http::HeaderMap::with_capacity(2);
    // A message that no header can carry is left out; the code still arrives.
    if status.add_header(&mut trailers).is_err() {
        trailers.clear();
        trailers.insert("grpc-status", http::HeaderValue::from(status.code() as i32));
    }
    trailers
}

#[cfg(test)]
mod tests {
    use conveyor_grpc::v1::PartitionRecords;
    use http_body_util::StreamBody;

    use super::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        let mut frame = vec![0];
        frame.extend((message.len() as u32).to_be_bytes());
        frame.extend(message);
        frame
    }

    fn reader(chunks: Vec<Bytes>, limit: usize) -> MessageReader {
        let frames = chunks
            .into_iter()
            .map(|chunk| Ok::<_, Status>(Frame::data(chunk)));
        MessageReader::new(
            Body::new(StreamBody::new(futures::stream::iter(frames))),
            limit,
        )
    }

    async fn all(mut reader: MessageReader) -> Result<Vec<Bytes>, Status> {
        let mut messages = Vec::new();
        while let Some(message) = reader.next().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[tokio::test]
    async fn a_message_in_one_data_frame_is_a_slice_of_it() {
        let chunk = Bytes::from([frame(b"first"), frame(b"second")].concat());
        let at = chunk.as_ptr();
        let messages = all(reader(vec![chunk], 100)).await.expect("two messages");
        assert_eq!(messages, [&b"first"[..], b"second"]);
        assert_eq!(messages[0].as_ptr(), at.wrapping_add(FRAME_HEADER));
    }

    #[tokio::test]
    async fn messages_survive_any_split_into_data_frames() {
        let wire: Vec<u8> = [frame(b""), frame(b"abc"), frame(&[7; 300]), frame(b"z")].concat();
        for size in 1..wire.len() {
            let chunks = wire.chunks(size).map(Bytes::copy_from_slice).collect();
            let messages = all(reader(chunks, 300)).await.expect("whole messages");
            assert_eq!(
                messages,
                [&b""[..], b"abc", &[7; 300], b"z"],
                "split by {size}"
            );
        }
    }

    #[tokio::test]
    async fn a_length_above_the_limit_is_refused_before_anything_is_kept() {
        let mut claim = vec![0];
        claim.extend(u32::MAX.to_be_bytes());
        let error = all(reader(vec![claim.into()], 1 << 20))
            .await
            .expect_err("too large");
        assert_eq!(error.code(), tonic::Code::OutOfRange);
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_message_is_an_error() {
        let mut cut = frame(b"whole message");
        cut.truncate(9);
        let error = all(reader(vec![cut.into()], 100)).await.expect_err("cut");
        assert_eq!(error.code(), tonic::Code::Internal);
    }

    fn partition_records(records: &'static [u8]) -> PartitionRecords {
        PartitionRecords {
            topic: "inventory-events".to_owned(),
            partition: 7,
            high_watermark: 1 << 40,
            session: 3,
            next_offset: 12,
            records: Bytes::from_static(records),
            ..PartitionRecords::default()
        }
    }

    fn gathered(message: impl Gather) -> VecDeque<Bytes> {
        let mut chunks = VecDeque::new();
        message.gather(&mut chunks);
        chunks
    }

    #[test]
    fn gathered_chunks_are_the_message_that_prost_would_write() {
        for partitions in [
            vec![],
            vec![partition_records(b"")],
            vec![partition_records(b"batch")],
            vec![
                partition_records(b"one"),
                partition_records(b""),
                partition_records(&[9; 400]),
            ],
        ] {
            for credit_left_bytes in [0, -5] {
                let message = FetchStreamResponse {
                    partitions: partitions.clone(),
                    credit_left_bytes,
                };
                let wire: Vec<u8> = gathered(message.clone()).into_iter().flatten().collect();
                let (header, body) = wire.split_at(FRAME_HEADER);
                assert_eq!(header[1..], (body.len() as u32).to_be_bytes());
                assert_eq!(FetchStreamResponse::decode(body).expect("decodes"), message);
            }
        }
    }

    #[test]
    fn records_travel_in_the_buffer_they_were_read_into() {
        let partition = partition_records(b"a batch of records");
        let at = partition.records.as_ptr();
        let message = FetchStreamResponse {
            partitions: vec![partition],
            credit_left_bytes: 1,
        };
        assert!(gathered(message).iter().any(|chunk| chunk.as_ptr() == at));
    }
}
