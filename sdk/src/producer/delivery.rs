//! What became of a record: one completion a batch, shared by the reports of all its records.
//!
//! Nothing is allocated and no task woken for a record whose report nobody awaits.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use conveyor_record::Offset;
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// Where a record ended up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset; [`Offset::NONE`] in the rare case that the broker knows the batch as a duplicate
    /// but not its offset any more.
    pub offset: Offset,
    /// Its timestamp in ms since the epoch: the producer's, or the broker's for topics with
    /// `message.timestamp.type=LogAppendTime`.
    pub timestamp_ms: i64,
}

/// The outcome of a batch.
#[derive(Debug, Clone)]
pub(crate) enum BatchOutcome {
    Delivered {
        base_offset: i64,
        log_append_timestamp_ms: i64,
    },
    Failed {
        error: Error,
        record_errors: Vec<(i32, String)>,
    },
}

impl BatchOutcome {
    pub(crate) fn failed(error: Error) -> Self {
        Self::Failed {
            error,
            record_errors: Vec::new(),
        }
    }
}

/// Shared by a batch and the reports of its records.
#[derive(Debug)]
pub(crate) struct Completion {
    topic: Arc<str>,
    partition: i32,
    outcome: OnceLock<BatchOutcome>,
    waiters: Mutex<Vec<Waker>>,
}

impl Completion {
    pub(crate) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self {
            topic,
            partition,
            outcome: OnceLock::new(),
            waiters: Mutex::default(),
        }
    }

    /// Tells all reports. The first outcome stands.
    pub(crate) fn complete(&self, outcome: BatchOutcome) {
        if self.outcome.set(outcome).is_err() {
            return;
        }
        // Whoever registers after this has seen the outcome first: it looks again under the lock.
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for waiter in waiters {
            waiter.wake();
        }
    }

    fn poll_outcome(&self, slot: &mut Option<usize>, context: &Context<'_>) -> Poll<&BatchOutcome> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let mut waiters = self.waiters.lock();
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        if let Some(waker) = slot.and_then(|slot| waiters.get_mut(slot)) {
            waker.clone_from(context.waker());
        } else {
            *slot = Some(waiters.len());
            waiters.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// Resolves when a record is acknowledged or has failed for good.
///
/// Dropping it changes nothing: the record is sent all the same.
#[derive(Debug)]
#[must_use = "the report says whether the record was delivered"]
pub struct DeliveryFuture {
    completion: Arc<Completion>,
    index: i32,
    timestamp_ms: i64,
    slot: Option<usize>,
}

impl DeliveryFuture {
    pub(crate) fn new(completion: Arc<Completion>, index: i32, timestamp_ms: i64) -> Self {
        Self {
            completion,
            index,
            timestamp_ms,
            slot: None,
        }
    }

    /// The partition that was chosen for the record.
    pub fn partition(&self) -> i32 {
        self.completion.partition
    }

    /// The outcome if it is known already.
    pub fn try_get(&self) -> Option<Result<Delivery>> {
        self.completion
            .outcome
            .get()
            .map(|outcome| self.report(outcome))
    }

    fn report(&self, outcome: &BatchOutcome) -> Result<Delivery> {
        match outcome {
            BatchOutcome::Delivered {
                base_offset,
                log_append_timestamp_ms,
            } => Ok(Delivery {
                topic: Arc::clone(&self.completion.topic),
                partition: self.completion.partition,
                offset: match *base_offset {
                    base if base >= 0 => Offset(base) + i64::from(self.index),
                    _ => Offset::NONE,
                },
                timestamp_ms: match *log_append_timestamp_ms {
                    time if time >= 0 => time,
                    _ => self.timestamp_ms,
                },
            }),
            BatchOutcome::Failed {
                error,
                record_errors,
            } => Err(record_error(error, record_errors, self.index)),
        }
    }
}

/// The error of one record, when the broker said which records are at fault (KIP-467).
fn record_error(error: &Error, record_errors: &[(i32, String)], index: i32) -> Error {
    let Error::Broker {
        operation,
        place,
        code,
        ..
    } = error
    else {
        return error.clone();
    };
    if record_errors.is_empty() {
        return error.clone();
    }
    let own = record_errors.iter().find(|(at, _)| *at == index);
    let message = match own {
        Some((_, message)) => message.clone(),
        None => "refused together with a faulty record of the same batch".to_owned(),
    };
    Error::Broker {
        operation,
        place: place.clone(),
        code: *code,
        message,
    }
}

impl Future for DeliveryFuture {
    type Output = Result<Delivery>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.completion.poll_outcome(&mut this.slot, context) {
            Poll::Ready(outcome) => Poll::Ready(this.report(outcome)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Waits until a batch is settled, whatever the outcome.
pub(crate) async fn settled(completion: Arc<Completion>) {
    let mut slot = None;
    std::future::poll_fn(move |context| {
        completion
            .poll_outcome(&mut slot, context)
            .map(|_outcome| ())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use conveyor_grpc::ErrorCode;

    use super::*;

    fn report(completion: &Arc<Completion>, index: i32) -> DeliveryFuture {
        DeliveryFuture::new(Arc::clone(completion), index, 1_000)
    }

    #[tokio::test]
    async fn one_completion_answers_every_record_of_the_batch() {
        let completion = Arc::new(Completion::new("orders".into(), 3));
        let waiting: Vec<_> = (0..3)
            .map(|index| tokio::spawn(report(&completion, index)))
            .collect();
        let late = report(&completion, 9);
        tokio::task::yield_now().await;
        assert!(late.try_get().is_none());
        completion.complete(BatchOutcome::Delivered {
            base_offset: 40,
            log_append_timestamp_ms: -1,
        });
        for (index, task) in waiting.into_iter().enumerate() {
            let delivery = task.await.unwrap().unwrap();
            assert_eq!(delivery.offset, Offset(40 + index as i64));
            assert_eq!((delivery.partition, delivery.timestamp_ms), (3, 1_000));
        }
        assert_eq!(late.await.unwrap().offset, Offset(49));
    }

    #[tokio::test]
    async fn the_first_outcome_stands() {
        let completion = Arc::new(Completion::new("orders".into(), 0));
        completion.complete(BatchOutcome::failed(Error::Closed { operation: "send" }));
        completion.complete(BatchOutcome::Delivered {
            base_offset: 1,
            log_append_timestamp_ms: -1,
        });
        assert!(report(&completion, 0).await.is_err());
    }

    #[tokio::test]
    async fn the_time_of_the_broker_and_a_forgotten_offset_are_reported() {
        let completion = Arc::new(Completion::new("orders".into(), 0));
        completion.complete(BatchOutcome::Delivered {
            base_offset: -1,
            log_append_timestamp_ms: 77,
        });
        let delivery = report(&completion, 5).await.unwrap();
        assert_eq!((delivery.offset, delivery.timestamp_ms), (Offset::NONE, 77));
    }

    #[tokio::test]
    async fn a_faulty_record_is_told_apart_from_its_neighbours() {
        let completion = Arc::new(Completion::new("orders".into(), 0));
        let error = Error::Broker {
            operation: "produce to",
            place: "orders-0".to_owned(),
            code: ErrorCode::InvalidRecord,
            message: "1 record refused".to_owned(),
        };
        completion.complete(BatchOutcome::Failed {
            error,
            record_errors: vec![(1, "has no key".to_owned())],
        });
        assert!(
            report(&completion, 1)
                .await
                .unwrap_err()
                .to_string()
                .ends_with("has no key")
        );
        let other = report(&completion, 0).await.unwrap_err().to_string();
        assert!(other.contains("refused together"), "{other}");
    }
}
