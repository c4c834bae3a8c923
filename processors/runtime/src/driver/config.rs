//! How a driver works, and why it stops.

use std::time::Duration;

use conveyor_record::Offset;
use conveyor_sdk::Error as SdkError;

use crate::applier::BatchError;
use crate::parked::Limits;
use crate::rebuild::Filling;
use crate::record::TopicPartition;
use crate::store::StoreError;
use crate::timers::IdleRule;

/// How a driver works. The defaults are right for most.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Makes this a static member of the group: within the session time-out its partitions wait for
    /// it to come back.
    pub group_instance_id: Option<String>,
    /// Records of one transaction at most; a slow store gets fewer. Default 2,048.
    pub batch_records_max: usize,
    /// Where records go that cannot be applied. Default `error-events`.
    pub error_topic: String,
    /// How much may wait in each partition behind such records.
    pub parked: Limits,
    /// When the clocks of timers go on by themselves. Default: after 10 s without records, two minutes
    /// behind wall time.
    pub idle: IdleRule,
    /// The first wait after a failure; doubles. Default 100 ms.
    pub backoff_first: Duration,
    /// The longest wait. Default 10 s.
    pub backoff_cap: Duration,
    /// Take part in the control topic ([`crate::control`]): report, obey, carry out. Default yes.
    pub control: bool,
    /// Names this instance in reports. Default: host, process and a number.
    pub instance: Option<String>,
    /// A projection that makes no progress for so long while there is lag is FAULTED. Default 30 s.
    pub stall_after: Duration,
    /// Own partitions even if the store knows a higher owner epoch. For a group that was deleted
    /// and made anew; never with other instances running. Default no.
    pub take_over: bool,
    /// Set for a driver that fills a build which is not live ([`crate::rebuild`]).
    pub filling: Option<Filling>,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            group_instance_id: None,
            batch_records_max: 2_048,
            error_topic: "error-events".to_owned(),
            parked: Limits::default(),
            idle: IdleRule::default(),
            backoff_first: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(10),
            control: true,
            instance: None,
            stall_after: Duration::from_secs(30),
            take_over: false,
            filling: None,
        }
    }
}

/// Why a projection has stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DriverError {
    /// The store, or the projection itself, is at fault.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The store refuses the projection.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client refuses to go on.
    #[error("projection {projection}: {error}")]
    Client {
        /// Which projection.
        projection: String,
        /// What the client said.
        error: SdkError,
    },
    /// The log no longer has the records that come next.
    #[error(
        "{projection} needs {topic_partition} from offset {needed} and the log begins at {begins}: \
         records were deleted before they were applied; build the projection anew in another store \
         to accept that"
    )]
    Gap {
        /// Which projection.
        projection: String,
        /// Where.
        topic_partition: TopicPartition,
        /// What comes next.
        needed: Offset,
        /// The first record there is.
        begins: Offset,
    },
    /// The store has applied more than the log holds: it belongs to another log.
    #[error(
        "{projection} stands at offset {needed} of {topic_partition} and the log ends at {ends}: \
         this is not the log that the store was built from; use another store, or the right node"
    )]
    Ahead {
        /// Which projection.
        projection: String,
        /// Where.
        topic_partition: TopicPartition,
        /// Where the store stands.
        needed: Offset,
        /// Where the log ends.
        ends: Offset,
    },
}
