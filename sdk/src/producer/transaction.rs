//! The transactions of one producer: carries out what the [`Machine`] allows.
//!
//! The machine stands under a lock that is held for a look or a step, and while a record is put into
//! its batch, so that none slips in behind the end of its transaction. Calls to the coordinators are
//! made one at a time, outside of the lock. The sender's task asks here under which id and epoch to
//! write, and tells of batches that failed.

mod machine;
#[cfg(test)]
mod simulation;

use std::sync::Arc;
use std::time::Instant;

use conveyor_grpc::v1;
use conveyor_record::{ProducerEpoch, ProducerId};
use parking_lot::Mutex;

use self::machine::{Machine, Millis};
use super::ProducerConfig;
use super::accumulator::{Accumulator, AppendError};
use super::delivery::settled;
use super::sequencer::Identity;
use crate::client::{Client, services};
use crate::consumer::{ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition};
use crate::error::{Error, Result};

const SEND: &str = "send in a transaction of";
const SEND_OFFSETS: &str = "send offsets to the transaction of";

/// The transactions of a producer that has a transactional id.
pub(super) struct Transactions {
    client: Client,
    transactional_id: Arc<str>,
    timeout_ms: u64,
    machine: Mutex<Machine>,
    /// Held while a coordinator is asked.
    asking: tokio::sync::Mutex<()>,
    started: Instant,
}

impl Transactions {
    /// Those of this configuration; `None` without a transactional id.
    pub(super) fn of(client: &Client, config: &ProducerConfig) -> Option<Arc<Self>> {
        let transactional_id: Arc<str> = config.transactional_id.as_deref()?.into();
        let timeout_ms = config.transaction_timeout_ms;
        Some(Arc::new(Self {
            client: client.clone(),
            machine: Mutex::new(Machine::new(Arc::clone(&transactional_id), timeout_ms)),
            transactional_id,
            timeout_ms,
            asking: tokio::sync::Mutex::default(),
            started: Instant::now(),
        }))
    }

    // What the sender uses.

    /// Under which id and epoch to write.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.machine.lock().identity()
    }

    /// A batch has failed for good.
    pub(super) fn batch_failed(&self, error: &Error) {
        self.machine.lock().lost(error, self.now());
    }

    /// Why everything that waits is to be given up, if it is.
    pub(super) fn discards(&self) -> Option<Error> {
        self.machine.lock().discards()
    }

    // What callers use.

    /// Whether a transaction has been begun and not ended.
    pub(super) fn is_in_transaction(&self) -> bool {
        self.machine.lock().is_in_transaction()
    }

    /// Puts a record into the open transaction.
    pub(super) fn take<T>(
        &self,
        append: impl FnOnce() -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        let mut machine = self.machine.lock();
        machine.may_take(SEND).map_err(AppendError::Failed)?;
        let appended = append()?;
        machine.used(self.now());
        Ok(appended)
    }

    /// Refuses at once what [`Transactions::take`] would refuse.
    pub(super) fn check_open(&self) -> Result<()> {
        self.machine.lock().may_take(SEND).map(|_| ())
    }

    pub(super) async fn init(&self) -> Result<()> {
        let _asking = self.asking.lock().await;
        self.machine.lock().init()?;
        let answer = self.client.retry(|| self.ask_identity()).await;
        self.machine.lock().initialised(answer)
    }

    pub(super) fn begin(&self) -> Result<()> {
        self.machine.lock().begin()
    }

    pub(super) async fn send_offsets(
        &self,
        offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
        group: &ConsumerGroupMetadata,
    ) -> Result<()> {
        let _asking = self.asking.lock().await;
        let identity = {
            let mut machine = self.machine.lock();
            let identity = machine.may_take(SEND_OFFSETS)?;
            if offsets.is_empty() {
                return Ok(());
            }
            // Whatever is answered, they may have been put into it.
            machine.used(self.now());
            identity
        };
        let outcome = self
            .client
            .retry(|| self.ask_offsets(identity, &offsets, group))
            .await;
        match outcome {
            Err(error) if !error.is_retriable() => {
                let mut machine = self.machine.lock();
                machine.lost(&error, self.now());
                // Said with what can be done about it.
                Err(machine.may_take(SEND_OFFSETS).err().unwrap_or(error))
            }
            outcome => outcome,
        }
    }

    /// Ends the open transaction once everything in it is settled.
    pub(super) async fn end(&self, accumulator: &Accumulator, commit: bool) -> Result<()> {
        let _asking = self.asking.lock().await;
        self.machine.lock().close(commit)?;
        for completion in accumulator.flush() {
            settled(completion).await;
        }
        let Some(identity) = self.machine.lock().settled()? else {
            return Ok(());
        };
        let answer = self.client.retry(|| self.ask_end(identity, commit)).await;
        self.machine.lock().ended(answer, self.now())
    }

    async fn ask_identity(&self) -> Result<Identity> {
        const OPERATION: &str = "get a producer id for";
        let id = &*self.transactional_id;
        let (node, channel) = self.client.transaction_coordinator(id).await?;
        let request = v1::InitProducerIdRequest {
            transactional_id: id.to_owned(),
            producer_id: -1,
            producer_epoch: -1,
            transaction_timeout_ms: i32::try_from(self.timeout_ms).unwrap_or(i32::MAX),
        };
        let mut service = services::produce(channel);
        let call = service.init_producer_id(request);
        let answer = self.client.call(OPERATION, &node, call).await;
        let answer = self.or_look_again(&node, answer).await?;
        let (code, message) = (answer.error_code, &answer.error_message);
        Error::check(OPERATION, || id.to_owned(), code, message)?;
        identity(OPERATION, answer.producer_id, answer.producer_epoch)
    }

    async fn ask_offsets(
        &self,
        identity: Identity,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        group: &ConsumerGroupMetadata,
    ) -> Result<()> {
        const OPERATION: &str = "commit offsets in the transaction of";
        let (member_id, member_epoch) = group.member()?;
        let request = v1::TxnOffsetCommitRequest {
            transactional_id: self.transactional_id.to_string(),
            producer_id: identity.id.value(),
            producer_epoch: i32::from(identity.epoch.value()),
            group_id: group.group_id().to_owned(),
            member_id: member_id.to_owned(),
            member_epoch,
            offsets: offsets
                .iter()
                .map(|(partition, offset)| offset.to_wire(partition))
                .collect(),
        };
        let (node, channel) = self.client.coordinator(group.group_id()).await?;
        let mut service = services::transaction(channel);
        let call = service.txn_offset_commit(request);
        let answer = self.client.call(OPERATION, &node, call).await;
        let answer = self.or_look_again(&node, answer).await?;
        for result in &answer.results {
            let place = || {
                let (topic, partition) = (&result.topic, result.partition);
                format!("group {} in {topic}-{partition}", group.group_id())
            };
            Error::check(OPERATION, place, result.error_code, &result.error_message)?;
        }
        if answer.results.len() == offsets.len() {
            return Ok(());
        }
        Err(Error::Protocol {
            operation: OPERATION,
            reason: format!(
                "{} results, {} asked for",
                answer.results.len(),
                offsets.len()
            ),
        })
    }

    async fn ask_end(&self, identity_now: Identity, commit: bool) -> Result<Identity> {
        const OPERATION: &str = "end the transaction of";
        let id = &*self.transactional_id;
        let (node, channel) = self.client.transaction_coordinator(id).await?;
        let request = v1::EndTxnRequest {
            transactional_id: id.to_owned(),
            producer_id: identity_now.id.value(),
            producer_epoch: i32::from(identity_now.epoch.value()),
            commit,
        };
        let mut service = services::transaction(channel);
        let call = service.end_txn(request);
        let answer = self.client.call(OPERATION, &node, call).await;
        let answer = self.or_look_again(&node, answer).await?;
        let (code, message) = (answer.error_code, &answer.error_message);
        Error::check(OPERATION, || id.to_owned(), code, message)?;
        identity(OPERATION, answer.producer_id, answer.producer_epoch)
    }

    /// After a failed call, looks for the coordinators anew before the next.
    async fn or_look_again<T>(&self, node: &str, answer: Result<T>) -> Result<T> {
        if answer.is_err() {
            self.client.avoid(node);
            self.client.refresh_coordinators().await;
        }
        answer
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn identity(operation: &'static str, id: i64, epoch: i32) -> Result<Identity> {
    let epoch = i16::try_from(epoch).ok().filter(|&epoch| epoch >= 0);
    let identity = epoch.filter(|_| id >= 0).map(|epoch| Identity {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
    });
    identity.ok_or_else(|| Error::Protocol {
        operation,
        reason: "it names no producer id and epoch".to_owned(),
    })
}
