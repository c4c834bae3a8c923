//! One partition's batches between accumulator and acknowledgement.
//!
//! Owns their bytes and times; their order and numbers are the [`Sequencer`]'s. Knows no connection:
//! the sender says which batch went to which node and brings the answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use conveyor_grpc::ErrorCode;
use conveyor_record::header::CRC_START;
use conveyor_record::{BatchError, Compressor, HEADER_SIZE, NodeId, checksum::crc32c};

use super::super::accumulator::OpenBatch;
use super::super::delivery::Completion;
use super::super::sequencer::{Answer, BatchId, Identity, Sequencer, Verdict};
use crate::client::Backoff;
use crate::error::Error;

/// Where producer id, epoch and base sequence lie in a batch, one after the other.
const PRODUCER_FIELDS: std::ops::Range<usize> = 43..57;

/// A batch that has its sequence.
pub(super) struct Flight {
    pub(super) id: BatchId,
    pub(super) bytes: Bytes,
    pub(super) record_count: i32,
    /// Bytes before compression.
    pub(super) record_bytes: usize,
    pub(super) completion: Arc<Completion>,
    pub(super) memory: usize,
    pub(super) opened: Instant,
    /// Where and when it was sent, while it is not answered.
    pub(super) sent: Option<(NodeId, Instant)>,
    /// Why the last attempt failed.
    pub(super) last_error: Option<Error>,
}

/// One partition.
pub(super) struct Lane {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) sequencer: Sequencer,
    flights: VecDeque<Flight>,
    pub(super) backoff: Backoff,
    /// Nothing is sent before this time.
    pub(super) retry_at: Option<Instant>,
}

impl Lane {
    pub(super) fn new(place: (Arc<str>, i32), sequencer: Sequencer, backoff: Backoff) -> Self {
        let (topic, partition) = place;
        let flights = VecDeque::new();
        Self {
            topic,
            partition,
            sequencer,
            flights,
            backoff,
            retry_at: None,
        }
    }

    /// `topic-partition`, for messages.
    pub(super) fn place(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }

    /// Gives a batch its sequence and its final bytes. On failure the batch is handed back with the
    /// reason and no sequence is used up.
    pub(super) fn admit(
        &mut self,
        mut batch: OpenBatch,
        compressor: &mut Compressor,
    ) -> Result<(), Box<(OpenBatch, BatchError)>> {
        let record_count = batch.builder.record_count();
        let record_bytes = batch.builder.size();
        let identity = self.sequencer.identity();
        let base_sequence = self.sequencer.next_sequence();
        batch
            .builder
            .set_producer(identity.id, identity.epoch, base_sequence);
        let bytes = match batch.builder.build(compressor) {
            Ok(bytes) => bytes,
            Err(error) => return Err(Box::new((batch, error))),
        };
        self.sequencer.push(batch.id, record_count);
        self.flights.push_back(Flight {
            id: batch.id,
            bytes,
            record_count,
            record_bytes,
            completion: batch.completion,
            memory: batch.memory,
            opened: batch.opened,
            sent: None,
            last_error: None,
        });
        Ok(())
    }

    /// The batch that may be sent now.
    pub(super) fn next_to_send(&self) -> Option<&Flight> {
        let id = self.sequencer.next_to_send()?;
        self.flights.iter().find(|flight| flight.id == id)
    }

    /// Notes that a batch went to `node`.
    pub(super) fn sent(&mut self, id: BatchId, node: NodeId, now: Instant) {
        self.sequencer.sent(id);
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) {
            flight.sent = Some((node, now));
        }
    }

    /// Takes an answer. Returns the verdict and, if that settles it, the batch.
    pub(super) fn answered(
        &mut self,
        id: BatchId,
        answer: Answer,
        error: Option<&Error>,
        now: Instant,
    ) -> (Verdict, Option<Flight>) {
        let verdict = self.sequencer.answered(id, answer);
        match verdict {
            Verdict::Delivered => self.backoff.reset(),
            Verdict::SendAgain if answer != Answer::OutOfSequence => self.wait(now),
            Verdict::NumberAgain => self.wait(now),
            Verdict::SendAgain | Verdict::Failed | Verdict::Settled => {}
        }
        let is_settled = matches!(verdict, Verdict::Delivered | Verdict::Failed);
        let Some(index) = self.flights.iter().position(|flight| flight.id == id) else {
            return (verdict, None);
        };
        if is_settled {
            return (verdict, self.flights.remove(index));
        }
        let flight = &mut self.flights[index];
        flight.sent = None;
        if let Some(error) = error {
            flight.last_error = Some(error.clone());
        }
        (verdict, None)
    }

    /// The stream to `node` broke. Returns the batches that were on it.
    pub(super) fn lost(&mut self, node: NodeId, error: &Error) -> Vec<BatchId> {
        let mut lost = Vec::new();
        for flight in &mut self.flights {
            if flight.sent.is_some_and(|(sent_to, _)| sent_to == node) {
                flight.sent = None;
                flight.last_error = Some(error.clone());
                self.sequencer.lost(flight.id);
                lost.push(flight.id);
            }
        }
        lost
    }

    /// Gives up the batches opened before `limit`.
    pub(super) fn expire(&mut self, limit: Instant) -> Vec<Flight> {
        self.give_up(|flight| flight.opened < limit)
    }

    /// Gives up all batches.
    pub(super) fn give_up_all(&mut self) -> Vec<Flight> {
        self.give_up(|_| true)
    }

    /// Whether nothing is on its way or waits to be sent again.
    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Forgets what went before, which must be settled: a transaction begins under a new epoch, and
    /// its sequences at 0.
    pub(super) fn start_over(&mut self, sequencer: Sequencer) {
        debug_assert!(self.is_empty(), "the transaction before is settled");
        self.sequencer = sequencer;
        self.backoff.reset();
        self.retry_at = None;
    }

    /// Gives up one batch.
    pub(super) fn give_up_one(&mut self, id: BatchId) -> Option<Flight> {
        self.give_up(|flight| flight.id == id).pop()
    }

    /// Changes the identity once the sequencer has settled what went before, and numbers the
    /// batches that are left again.
    pub(super) fn reset(&mut self, identity: Identity) {
        for (id, base_sequence) in self.sequencer.reset(identity) {
            if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) {
                flight.bytes = renumbered(&flight.bytes, identity, base_sequence);
            }
        }
    }

    /// The oldest time at which a batch was sent to whom, of those not answered.
    pub(super) fn oldest_unanswered(&self) -> Option<(NodeId, Instant)> {
        self.flights
            .iter()
            .filter_map(|flight| flight.sent)
            .min_by_key(|&(_, at)| at)
    }

    /// When the oldest batch was opened.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.flights.iter().map(|flight| flight.opened).min()
    }

    fn wait(&mut self, now: Instant) {
        self.retry_at = Some(now + self.backoff.next_wait());
    }

    fn give_up(&mut self, which: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        let (given_up, kept): (Vec<Flight>, Vec<Flight>) = self.flights.drain(..).partition(which);
        self.flights = kept.into();
        for flight in &given_up {
            self.sequencer.expire(flight.id);
        }
        given_up
    }
}

/// What an error code says about a batch.
pub(super) fn answer_for(code: ErrorCode) -> Answer {
    match code {
        // A duplicate of long ago is in the log; only its offset is forgotten.
        ErrorCode::None | ErrorCode::DuplicateSequenceNumber => Answer::Appended,
        ErrorCode::OutOfOrderSequenceNumber
        | ErrorCode::UnknownProducerId
        | ErrorCode::InvalidProducerEpoch => Answer::OutOfSequence,
        // A leader that has lost its lead may have appended it before, and its followers have it.
        ErrorCode::RequestTimedOut
        | ErrorCode::KafkaStorageError
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::NotEnoughReplicasAfterAppend => Answer::Unclear,
        ErrorCode::UnknownServerError => Answer::Broken,
        code if code.is_retriable() => Answer::NotYet,
        _ => Answer::Refused,
    }
}

/// Whether an error says that the client's picture of the cluster is old.
pub(super) fn wants_metadata(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::KafkaStorageError
    )
}

/// A copy of a batch with another producer epoch and sequence. The old bytes may still be on their
/// way in a transport buffer, so they are not changed in place.
fn renumbered(batch: &Bytes, identity: Identity, base_sequence: i32) -> Bytes {
    debug_assert!(
        batch.len() > HEADER_SIZE,
        "a batch has a header and records"
    );
    let mut copy = BytesMut::from(&batch[..]);
    let mut fields = &mut copy[PRODUCER_FIELDS];
    fields.put_i64(identity.id.value());
    fields.put_i16(identity.epoch.value());
    fields.put_i32(base_sequence);
    let crc = crc32c(&copy[CRC_START..]);
    copy[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    copy.freeze()
}

#[cfg(test)]
mod tests {
    use conveyor_record::{
        BatchBuilder, BatchHeader, BatchOptions, Codec, NewRecord, ProducerEpoch, ProducerId,
    };

    use super::*;

    #[test]
    fn a_renumbered_batch_is_the_one_that_would_have_been_built() {
        let build = |id: i64, epoch: i16, sequence: i32| {
            let options = BatchOptions {
                codec: Codec::Zstd,
                ..BatchOptions::default()
            };
            let mut builder = BatchBuilder::new(options);
            for n in 0..20u8 {
                let value = [n; 40];
                let record = NewRecord {
                    timestamp_ms: i64::from(n),
                    key: None,
                    value: Some(&value),
                    headers: &[],
                };
                builder.append(&record).unwrap();
            }
            builder.set_producer(ProducerId(id), ProducerEpoch(epoch), sequence);
            builder.build(&mut Compressor::new()).unwrap()
        };
        let identity = Identity {
            id: ProducerId(7),
            epoch: ProducerEpoch(3),
        };
        let changed = renumbered(&build(7, 2, 500), identity, 20);
        assert_eq!(changed, build(7, 3, 20));
        let header = BatchHeader::parse(&changed).unwrap();
        assert_eq!(
            (header.base_sequence, header.producer_epoch),
            (20, ProducerEpoch(3))
        );
    }

    #[test]
    fn every_code_has_an_answer_and_only_success_is_success() {
        for &code in ErrorCode::ALL {
            let appended = answer_for(code) == Answer::Appended;
            let expected = [ErrorCode::None, ErrorCode::DuplicateSequenceNumber].contains(&code);
            assert_eq!(appended, expected, "{code}");
        }
        assert_eq!(answer_for(ErrorCode::MessageTooLarge), Answer::Refused);
        assert_eq!(answer_for(ErrorCode::NotEnoughReplicas), Answer::NotYet);
        assert_eq!(answer_for(ErrorCode::NotLeaderOrFollower), Answer::Unclear);
    }
}
