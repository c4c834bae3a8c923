//! The transaction coordinator as a shard hosts it: its timers are looks at regular intervals.

use conveyor_transaction::{
    DecodeError, Record, TransactionConfig, TransactionCoordinator, TransactionError, Transition,
    WriteMarkers,
};

use crate::coordinator::{Coordinator, Decision, TransactionalProducer};
use crate::metadata_host::MetadataHost;
use crate::node::Refusal;

/// Settings of a shard.
#[derive(Debug, Clone)]
pub(super) struct HostedConfig {
    pub(super) transactions: TransactionConfig,
    /// How often to look for transactions that have timed out.
    pub(super) abort_interval_ms: i64,
    /// How often to look for ids that have expired.
    pub(super) expiry_interval_ms: i64,
}

/// A coordinator and when it has to look at the time.
#[derive(Debug)]
pub(super) struct HostedTransactions {
    pub(super) coordinator: TransactionCoordinator,
    config: HostedConfig,
    /// Set after a load: transactions that were decided are to be carried out.
    must_resume: bool,
    next_abort_ms: i64,
    next_expiry_ms: i64,
}

/// What a look at the time found.
#[derive(Debug)]
pub(super) enum Found {
    /// Decided transactions whose markers are to be written: they have timed out, or were found at
    /// load.
    Decided(Vec<WriteMarkers>),
    /// So many ids were forgotten.
    ExpiredIds(usize),
}

impl Coordinator for HostedTransactions {
    type Record = Record;
    type Config = HostedConfig;
    type View = ();
    type Reply = ();
    type Expired = Found;
    type DecodeError = DecodeError;

    const KEEPS: &'static str = "transaction state";

    fn new(config: &HostedConfig) -> Self {
        Self {
            coordinator: TransactionCoordinator::new(config.transactions.clone()),
            config: config.clone(),
            must_resume: false,
            next_abort_ms: 0,
            next_expiry_ms: 0,
        }
    }

    fn encode(record: &Record) -> (Vec<u8>, Option<Vec<u8>>) {
        let encoded = record.encode();
        (encoded.key, encoded.value)
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, DecodeError> {
        Record::decode(key, value)
    }

    fn replay(&mut self, record: &Record, _: i64, _: Option<TransactionalProducer>) {
        self.coordinator.replay(record);
    }

    fn start(&mut self, now_ms: i64) {
        self.must_resume = true;
        self.next_abort_ms = now_ms.saturating_add(self.config.abort_interval_ms);
        self.next_expiry_ms = now_ms.saturating_add(self.config.expiry_interval_ms);
    }

    fn next_deadline(&self) -> Option<i64> {
        if self.must_resume {
            return Some(i64::MIN);
        }
        Some(self.next_abort_ms.min(self.next_expiry_ms))
    }

    fn tick(&mut self, now_ms: i64, (): &()) -> Option<Decision<Self, Found>> {
        if std::mem::take(&mut self.must_resume) {
            let unfinished: Vec<_> = self.coordinator.unfinished().collect();
            return Some(Decision::nothing(Found::Decided(unfinished)));
        }
        if self.next_abort_ms <= now_ms {
            self.next_abort_ms = now_ms.saturating_add(self.config.abort_interval_ms);
            let aborted = self.coordinator.abort_timed_out(now_ms);
            if !aborted.records.is_empty() {
                let found = Found::Decided(aborted.response);
                return Some(Decision::new(aborted.records, found));
            }
        }
        if self.next_expiry_ms <= now_ms {
            self.next_expiry_ms = now_ms.saturating_add(self.config.expiry_interval_ms);
            let expired = self.coordinator.expire_ids(now_ms);
            if expired.response > 0 {
                let found = Found::ExpiredIds(expired.response);
                return Some(Decision::new(expired.records, found));
            }
        }
        None
    }

    fn view(_: &MetadataHost) {}
}

/// What the coordinator has decided, or why not.
pub(super) fn decided<R>(
    outcome: Result<Transition<R>, TransactionError>,
) -> Decision<HostedTransactions, Result<R, TransactionError>> {
    match outcome {
        Ok(transition) => Decision::new(transition.records, Ok(transition.response)),
        Err(error) => Decision::nothing(Err(error)),
    }
}

/// An outcome as clients are told of it.
pub(super) fn told<R>(outcome: Result<R, TransactionError>) -> Result<R, Refusal> {
    outcome.map_err(Refusal::from)
}
