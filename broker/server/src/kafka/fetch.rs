//! `Fetch`: one long poll over the partitions of a request or of its fetch session.
//!
//! Reading, waiting and limits are those of [`crate::records::poll`], which the gRPC listener has too;
//! here are sessions ([`super::fetch_session`]), topic ids, epochs and the response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use conveyor_record::{LeaderEpoch, Offset};

use super::fetch_session::{FetchContext, FetchSessions, TopicRef, Wanted};
use super::{KafkaCall, KafkaService};
use crate::background::duration;
use crate::node::{Node, Refusal};
use crate::partition::Partition;
use crate::records::poll::{Batches, Limits, Target, poll};
use crate::records::read::{Isolation, Positions, check_epoch, end_of_epoch};
use crate::request::{Operation, Quota};

/// The first version whose clients know zstd.
const ZSTD_SINCE: i16 = 10;
/// The first version that tells diverging epochs and the present leader.
const LEADERS_SINCE: i16 = 12;
/// The first version that names topics by id.
const IDS_SINCE: i16 = 13;
/// The first version that tells the leader's address too.
const ENDPOINTS_SINCE: i16 = 16;

pub(super) async fn fetch(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: FetchRequest,
) -> FetchResponse {
    let node = &service.node;
    let (max_wait_ms, min_bytes, max_bytes) =
        (request.max_wait_ms, request.min_bytes, request.max_bytes);
    let Some(isolation) = Isolation::from_kafka(request.isolation_level) else {
        return failed(call, ErrorCode::InvalidRequest);
    };
    let by_id = call.version >= IDS_SINCE;
    let name_of = |id| {
        node.metadata
            .image()
            .topic_by_id(id)
            .map(|topic| topic.name.as_str().into())
    };
    let opened = service
        .fetch_sessions
        .open(request, by_id, name_of, Instant::now());
    let context = match opened {
        Ok(context) => context,
        Err(code) => return failed(call, code),
    };
    let debt = call.debt(Quota::Fetch);
    if !debt.is_zero() {
        return throttled(call, &context, debt);
    }
    let places: Vec<Place> = context
        .wanted()
        .iter()
        .map(|wanted| look_up(node, call, wanted))
        .collect();
    let targets: Vec<Target> = places.iter().map(Place::target).collect();
    let limits = limits(node, isolation, min_bytes, max_bytes);
    let wait = wait(node, max_wait_ms);
    let pass = tokio::select! {
        pass = poll(node, &targets, limits, wait) => pass,
        // The connection ends with this answer; what is there is told.
        () = node.stopping.cancelled() => poll(node, &targets, limits, Duration::ZERO).await,
    };
    call.used(Quota::Fetch, pass.bytes);
    let answering = Answering {
        node,
        call,
        isolation,
    };
    let mut tells_leader = false;
    let mut partitions = Vec::with_capacity(places.len());
    for (place, read) in places.iter().zip(pass.partitions) {
        let data = answering.partition(place, read);
        tells_leader |= data.current_leader.leader_id >= 0;
        partitions.push(data);
    }
    let closed = service
        .fetch_sessions
        .close(&context, &partitions, Instant::now());
    let (session_id, told) = match closed {
        Ok(told) => told,
        Err(code) => return failed(call, code),
    };
    FetchResponse {
        error_code: call.code(ErrorCode::None),
        session_id,
        responses: by_topic(context.into_wanted(), partitions, &told),
        node_endpoints: if tells_leader && call.version >= ENDPOINTS_SINCE {
            vec![endpoint(node, call)]
        } else {
            Vec::new()
        },
        ..FetchResponse::default()
    }
}

/// The request as a whole is refused.
fn failed(call: &KafkaCall, code: ErrorCode) -> FetchResponse {
    FetchResponse {
        error_code: call.code(code),
        ..FetchResponse::default()
    }
}

/// No records, so that the quota holds whatever the client does; a session goes on.
fn throttled(call: &KafkaCall, context: &FetchContext, debt: Duration) -> FetchResponse {
    FetchResponse {
        throttle_time_ms: debt.as_millis() as i32,
        error_code: call.code(ErrorCode::None),
        session_id: FetchSessions::skip(context),
        ..FetchResponse::default()
    }
}

fn limits(node: &Node, isolation: Isolation, min_bytes: i32, max_bytes: i32) -> Limits {
    let most = node.config.fetch_max_bytes.min(node.fetch_memory.total());
    let bytes = usize::try_from(max_bytes).unwrap_or(0).min(most);
    Limits {
        isolation,
        bytes,
        // More than the response can hold is not waited for.
        min_bytes: usize::try_from(min_bytes).unwrap_or(0).min(bytes),
    }
}

/// As long as the client wants to wait, and well within what ends an idle connection.
fn wait(node: &Node, max_wait_ms: i32) -> Duration {
    let wait = Duration::from_millis(u64::try_from(max_wait_ms).unwrap_or(0));
    wait.min(duration(node.config.connections_max_idle_ms) / 2)
}

/// A partition that is asked for, looked up.
struct Place {
    index: i32,
    from: Offset,
    bytes_max: usize,
    partition: Result<Arc<Partition>, Refusal>,
    /// The partition, if the refusal is not that it is not there.
    positions_of: Option<Arc<Partition>>,
    /// Where the client's log and ours part.
    diverging: Option<EpochEndOffset>,
}

impl Place {
    fn target(&self) -> Target {
        Target {
            partition: self.partition.clone(),
            from: self.from,
            bytes_max: self.bytes_max,
        }
    }
}

fn look_up(node: &Node, call: &KafkaCall, wanted: &Wanted) -> Place {
    let mut place = Place {
        index: wanted.partition,
        from: Offset(wanted.fetch_offset),
        bytes_max: usize::try_from(wanted.partition_max_bytes)
            .unwrap_or(0)
            .max(1),
        partition: find(node, call, wanted),
        positions_of: None,
        diverging: None,
    };
    let Ok(partition) = &place.partition else {
        return place;
    };
    let partition = Arc::clone(partition);
    let checked = check_epoch(&partition, wanted.current_leader_epoch)
        .and_then(|()| diverging(&partition, wanted));
    match checked {
        Ok(None) => {}
        Ok(Some(diverging)) => {
            place.diverging = Some(diverging);
            // Nothing is read, and nobody waits: the client has to go back first.
            let message = format!("{}: the logs have parted", partition.name());
            place.partition = Err(Refusal::new(ErrorCode::None, message));
        }
        Err(refusal) => place.partition = Err(refusal),
    }
    place.positions_of = Some(partition);
    place
}

fn find(node: &Node, call: &KafkaCall, wanted: &Wanted) -> Result<Arc<Partition>, Refusal> {
    let TopicRef { name, id } = &wanted.topic;
    let Some(name) = name else {
        let message = format!("no topic has the id {id}");
        return Err(Refusal::new(ErrorCode::UnknownTopicId, message));
    };
    let partition = node.partition_for(call, Operation::Read, name, wanted.partition)?;
    if !id.is_nil() && partition.reader().topic_id() != *id {
        let message = format!("topic {name} does not have the id {id} any more");
        return Err(Refusal::new(ErrorCode::UnknownTopicId, message));
    }
    Ok(partition)
}

/// Whether the records that the client has read last are not ours (KIP-595).
fn diverging(partition: &Partition, wanted: &Wanted) -> Result<Option<EpochEndOffset>, Refusal> {
    let last_fetched = LeaderEpoch(wanted.last_fetched_epoch);
    if !last_fetched.is_some() {
        return Ok(None);
    }
    let from = Offset(wanted.fetch_offset);
    let end = end_of_epoch(partition, last_fetched)
        .filter(|_| from >= partition.reader().log_start_offset());
    let Some(end) = end else {
        let message = format!("{}: offset {from} is not here", partition.name());
        return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
    };
    let parted = end.leader_epoch < last_fetched || end.end_offset < from;
    Ok(parted.then(|| EpochEndOffset {
        epoch: end.leader_epoch.value(),
        end_offset: end.end_offset.value(),
    }))
}

struct Answering<'a> {
    node: &'a Node,
    call: &'a KafkaCall,
    isolation: Isolation,
}

impl Answering<'_> {
    fn partition(&self, place: &Place, read: Result<Batches, Refusal>) -> PartitionData {
        let partition = place.positions_of.as_deref();
        let read = read.and_then(|read| self.readable(read));
        if let Some(partition) = partition {
            let bytes = read.as_ref().map(|read| read.chunk.bytes.len()).ok();
            let failed = bytes.is_none() && place.diverging.is_none();
            self.call
                .count_fetch(partition, (!failed).then(|| bytes.unwrap_or(0)));
        }
        let (code, records, aborted) = match read {
            Ok(read) => (ErrorCode::None, read.chunk.bytes, read.aborted),
            Err(refusal) => (refusal.code, Bytes::new(), Vec::new()),
        };
        let positions = partition.map_or(Positions::UNKNOWN, Positions::of);
        let aborted = aborted.into_iter().map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id.value(),
            first_offset: aborted.first_offset.value(),
        });
        PartitionData {
            partition_index: place.index,
            error_code: self.call.code(code),
            high_watermark: positions.high_watermark.value(),
            last_stable_offset: positions.last_stable_offset.value(),
            log_start_offset: positions.log_start_offset.value(),
            aborted_transactions: (self.isolation == Isolation::Committed)
                .then(|| aborted.collect()),
            records: Some(records),
            diverging_epoch: place.diverging.clone().unwrap_or_default(),
            current_leader: self.leader(code, partition),
            ..PartitionData::default()
        }
    }

    /// Refuses records that a client of this version cannot read.
    fn readable(&self, read: Batches) -> Result<Batches, Refusal> {
        if self.call.version < ZSTD_SINCE && holds_zstd(&read.chunk.bytes) {
            let message = format!("records compressed with zstd need Fetch version {ZSTD_SINCE}");
            return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, message));
        }
        Ok(read)
    }

    /// The present leader, for a client that has taken another one for it.
    fn leader(&self, code: ErrorCode, partition: Option<&Partition>) -> LeaderIdAndEpoch {
        let lost = matches!(
            code,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        );
        match partition {
            Some(partition) if lost && self.call.version >= LEADERS_SINCE => LeaderIdAndEpoch {
                leader_id: self.node.node_id.value(),
                leader_epoch: partition.leader_epoch().value(),
            },
            _ => LeaderIdAndEpoch::default(),
        }
    }
}

/// Whether the first batch is compressed with zstd.
fn holds_zstd(records: &Bytes) -> bool {
    const ATTRIBUTES_LOW: usize = 22;
    const CODEC_MASK: u8 = 0x07;
    const ZSTD: u8 = 4;
    let attributes = records.get(ATTRIBUTES_LOW);
    attributes.is_some_and(|attributes| attributes & CODEC_MASK == ZSTD)
}

fn endpoint(node: &Node, call: &KafkaCall) -> NodeEndpoint {
    let (host, port) = call.endpoint();
    NodeEndpoint {
        node_id: node.node_id.value(),
        host: host.into(),
        port: i32::from(port),
        rack: (!node.config.rack.is_empty()).then(|| Text::from(&node.config.rack)),
    }
}

/// Those partitions that are told, neighbours of one topic together.
fn by_topic(
    wanted: Vec<Wanted>,
    partitions: Vec<PartitionData>,
    told: &[bool],
) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut last: Option<TopicRef> = None;
    let told = wanted
        .into_iter()
        .zip(partitions)
        .zip(told)
        .filter(|(_, told)| **told);
    for ((wanted, data), _) in told {
        match topics.last_mut() {
            Some(topic) if last.as_ref() == Some(&wanted.topic) => topic.partitions.push(data),
            _ => {
                topics.push(FetchableTopicResponse {
                    topic: wanted.topic.name.as_deref().unwrap_or_default().into(),
                    topic_id: wanted.topic.id,
                    partitions: vec![data],
                });
                last = Some(wanted.topic);
            }
        }
    }
    topics
}
