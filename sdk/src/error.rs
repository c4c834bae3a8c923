//! The one error type of the SDK.
//!
//! Every value says what was being done, where, what happened and, where there is something to do,
//! what. [`Error::is_retriable`] tells whether doing the same again may help. Values are cheap to
//! clone: one failed batch answers all of its records.

use conveyor_grpc::ErrorCode;
use conveyor_record::BatchError;
use tonic::Code;

/// What the operations of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a client.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has a value that cannot be used.
    #[error("setting {setting}: {reason}")]
    Config {
        /// Name of the setting, as in the configuration struct.
        setting: &'static str,
        /// What is wrong with it and what is expected.
        reason: String,
    },
    /// No node could be reached.
    #[error("{operation}: no node of {addresses} can be reached: {reason}")]
    Unreachable {
        /// What was to be done.
        operation: &'static str,
        /// The addresses tried.
        addresses: String,
        /// Why the last one failed.
        reason: String,
    },
    /// A node refused a call as a whole or the connection broke; the outcome is unknown unless the
    /// status says otherwise.
    #[error("{operation} at {node}: {code:?}: {message}")]
    Rpc {
        /// What was to be done.
        operation: &'static str,
        /// The node or address asked.
        node: String,
        /// The gRPC status.
        code: Code,
        /// What the node, or the transport, said.
        message: String,
    },
    /// The broker answered with an error about one topic, partition, group or member.
    #[error("{operation} {place}: {code}: {message}")]
    Broker {
        /// What was to be done.
        operation: &'static str,
        /// The topic, partition, group or member.
        place: String,
        /// Kafka's error code.
        code: ErrorCode,
        /// What the broker said.
        message: String,
    },
    /// Not done within the time given. Whether it took effect is unknown if it had been sent.
    #[error("{operation} {place}: not done within {after_ms} ms: {reason}")]
    Timeout {
        /// What was to be done.
        operation: &'static str,
        /// The topic, partition, group or member.
        place: String,
        /// The time given, in ms.
        after_ms: u64,
        /// What it was waiting for, or the last failure on the way.
        reason: String,
    },
    /// The partition has no leader at the moment.
    #[error("partition {topic}-{partition} has no leader at the moment")]
    LeaderNotAvailable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has {count} partitions, there is no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// A record is larger than a limit of the client or the node.
    #[error("record of {size} bytes for topic {topic} is larger than {setting} = {limit}")]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// Bytes of the record, with what the format adds.
        size: usize,
        /// The setting that holds the limit.
        setting: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The producer's memory is full and the caller did not want to wait.
    #[error("producer buffer of {limit} bytes is full, wait or raise buffer_memory")]
    BufferFull {
        /// The setting `buffer_memory`, in bytes.
        limit: usize,
    },
    /// A transaction, or the producer of it, cannot go on as asked.
    #[error("{operation} `{transactional_id}`: {reason}: {}", fault.mend())]
    Transaction {
        /// What was to be done.
        operation: &'static str,
        /// The producer's transactional id.
        transactional_id: String,
        /// What that means for the caller.
        fault: TransactionFault,
        /// The broker's error code, when there was one.
        code: Option<ErrorCode>,
        /// What happened.
        reason: String,
    },
    /// The producer or consumer has been closed.
    #[error("{operation}: the client has been closed")]
    Closed {
        /// What was to be done.
        operation: &'static str,
    },
    /// A batch cannot be built or read.
    #[error("{operation} {place}: {source}")]
    Batch {
        /// What was to be done.
        operation: &'static str,
        /// The topic and partition.
        place: String,
        /// What is wrong with it.
        source: BatchError,
    },
    /// A rebalance listener could not take its partitions; the next poll asks it again.
    #[error("rebalance listener failed: {reason}")]
    Listener {
        /// What it said.
        reason: String,
    },
    /// An answer contradicts the contract: client and node do not fit together.
    #[error("{operation}: answer cannot be understood: {reason}")]
    Protocol {
        /// What was to be done.
        operation: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// What a failure of a transaction means for its caller. What a retry can mend is none of these: such
/// errors are [retriable](Error::is_retriable), and the same call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactionFault {
    /// This transaction cannot be committed. The producer can go on once it is aborted.
    Abortable,
    /// A newer producer has the transactional id. This one can do nothing any more, and nothing of it
    /// will be read that was not committed.
    Fenced,
    /// The transaction was open for longer than `transaction_timeout_ms`, and the coordinator has
    /// aborted it. The producer can do nothing any more; a new one can.
    TimedOut,
    /// The coordinator refuses this producer for good.
    Fatal,
    /// The call does not fit what was called before.
    Misuse,
}

impl TransactionFault {
    /// What to do about it.
    const fn mend(self) -> &'static str {
        match self {
            Self::Abortable => "abort the transaction, then begin another one",
            Self::Fenced => "close this producer, a newer one has its transactional id",
            Self::TimedOut => {
                "close this producer, start another one and commit sooner, or raise transaction_timeout_ms"
            }
            Self::Fatal => "close this producer",
            Self::Misuse => "see the order of calls at Producer",
        }
    }
}

impl Error {
    /// Whether the same operation may succeed later without a change by the caller.
    ///
    /// For writes that are not idempotent (anything but [`Producer`](crate::Producer) sends) a
    /// retry may find the first attempt already done.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::LeaderNotAvailable { .. }
            | Self::Listener { .. }
            | Self::BufferFull { .. } => true,
            Self::Rpc { code, .. } => is_retriable_status(*code),
            Self::Broker { code, .. } => code.is_retriable(),
            Self::Batch { source, .. } => source.is_retriable(),
            Self::Config { .. }
            | Self::UnknownPartition { .. }
            | Self::RecordTooLarge { .. }
            | Self::Transaction { .. }
            | Self::Closed { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// Kafka's error code, when the broker answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            Self::Transaction { code, .. } => *code,
            _ => None,
        }
    }

    /// What the failure means for a transaction, when it is one of a transaction.
    pub fn transaction_fault(&self) -> Option<TransactionFault> {
        match self {
            Self::Transaction { fault, .. } => Some(*fault),
            _ => None,
        }
    }

    /// A failed call.
    pub(crate) fn rpc(
        operation: &'static str,
        node: &impl ToString,
        status: &tonic::Status,
    ) -> Self {
        Self::Rpc {
            operation,
            node: node.to_string(),
            code: status.code(),
            message: describe_status(status),
        }
    }

    /// `Ok` for code 0, else the broker's error about `place`.
    pub(crate) fn check(
        operation: &'static str,
        place: impl FnOnce() -> String,
        error_code: i32,
        error_message: &str,
    ) -> Result<()> {
        if error_code == 0 {
            return Ok(());
        }
        Err(Self::Broker {
            operation,
            place: place(),
            code: ErrorCode::from_code(error_code),
            message: error_message.to_owned(),
        })
    }
}

/// Whether a call that ended with this status may succeed later. A broken connection comes as
/// `Unknown`, `Unavailable`, `Internal` or `Cancelled`, as the transport sees fit.
fn is_retriable_status(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::Aborted
    )
}

/// The status' message with the causes behind it: the transport's own message is often only
/// "transport error".
fn describe_status(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.contains(&line) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&line);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retriable_is_what_time_can_mend() {
        let broker = |code| Error::Broker {
            operation: "produce",
            place: "orders-0".to_owned(),
            code,
            message: String::new(),
        };
        assert!(broker(ErrorCode::NotLeaderOrFollower).is_retriable());
        assert!(!broker(ErrorCode::MessageTooLarge).is_retriable());
        assert!(Error::rpc("fetch", &"a:1", &tonic::Status::unavailable("gone")).is_retriable());
        assert!(
            !Error::rpc("fetch", &"a:1", &tonic::Status::permission_denied("no")).is_retriable()
        );
        assert!(!Error::Closed { operation: "send" }.is_retriable());
    }

    #[test]
    fn an_error_names_operation_place_and_cause() {
        let error = Error::check("produce to", || "orders-3".to_owned(), 10, "batch of 2 MB");
        assert_eq!(
            error.unwrap_err().to_string(),
            "produce to orders-3: MESSAGE_TOO_LARGE (10): batch of 2 MB"
        );
        assert!(Error::check("produce to", String::new, 0, "").is_ok());
    }

    #[test]
    fn errors_are_small_enough_to_return_by_value() {
        assert!(size_of::<Error>() <= 128, "{}", size_of::<Error>());
    }
}
