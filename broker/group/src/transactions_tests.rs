//! Offsets of transactions: when they count, which of two holds, and that a log read again, compacted
//! or not, gives the same.

use conveyor_record::{LeaderEpoch, Offset};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    ClusterTopics, CommitRequest, FetchOffsetsRequest, GroupConfig, HeartbeatRequest, Record,
};

const GROUP: &str = "billing";
const P1: TransactionProducer = producer(1, 0);
const P2: TransactionProducer = producer(2, 0);

const fn producer(id: i64, epoch: i16) -> TransactionProducer {
    TransactionProducer {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
    }
}

/// What lies in the log.
#[derive(Clone, Debug)]
enum Entry {
    Plain(Record),
    Transactional(TransactionProducer, Record),
    Marker(TransactionProducer, bool),
}

struct Shard {
    coordinator: GroupCoordinator,
    log: Vec<Entry>,
}

fn replay(coordinator: &mut GroupCoordinator, entry: &Entry) {
    match entry {
        Entry::Plain(record) => coordinator.replay(record, 100),
        Entry::Transactional(producer, record) => {
            coordinator.replay_transactional(*producer, record, 100);
        }
        Entry::Marker(producer, is_commit) => coordinator.replay_marker(*producer, 0, *is_commit),
    }
}

fn read_again<'a>(log: impl IntoIterator<Item = &'a Entry>) -> GroupCoordinator {
    let mut coordinator = GroupCoordinator::new(GroupConfig::default());
    for entry in log {
        replay(&mut coordinator, entry);
    }
    coordinator
}

fn cluster() -> ClusterTopics {
    ClusterTopics::new(1).with("orders", Uuid::from_u128(1), 4)
}

fn of(partition: i32, offset: i64) -> OffsetToCommit {
    OffsetToCommit {
        topic: "orders".into(),
        partition,
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(6),
        metadata: format!("at {offset}"),
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            coordinator: GroupCoordinator::new(GroupConfig::default()),
            log: Vec::new(),
        }
    }

    fn write(&mut self, entry: Entry) {
        replay(&mut self.coordinator, &entry);
        self.log.push(entry);
    }

    fn commit(&mut self, partition: i32, offset: i64) {
        let request = CommitRequest {
            group_id: GROUP.into(),
            member_epoch: -1,
            offsets: vec![of(partition, offset)],
            ..CommitRequest::default()
        };
        let decided = self.coordinator.commit_offsets(100, &request, &cluster());
        for record in decided.unwrap().records {
            self.write(Entry::Plain(record));
        }
    }

    fn begin(
        &mut self,
        producer: TransactionProducer,
        partition: i32,
        offset: i64,
    ) -> Result<(), GroupError> {
        let request = TransactionalCommit {
            group_id: GROUP.into(),
            producer,
            member_id: String::new(),
            instance_id: None,
            generation: -1,
            offsets: vec![of(partition, offset)],
        };
        let decided = self
            .coordinator
            .commit_transactional(100, &request, &cluster())?;
        for record in decided.records {
            self.write(Entry::Transactional(producer, record));
        }
        decided.response[0].result.clone()
    }

    fn end(&mut self, producer: TransactionProducer, is_commit: bool) {
        self.coordinator.check_marker(producer, 0).unwrap();
        self.write(Entry::Marker(producer, is_commit));
    }

    fn fetch(&self, partition: i32, require_stable: bool) -> Result<Option<i64>, GroupError> {
        let request = FetchOffsetsRequest {
            group_id: GROUP.into(),
            member_epoch: -1,
            require_stable,
            partitions: Some(vec![("orders".into(), partition)]),
            ..FetchOffsetsRequest::default()
        };
        let fetched = self.coordinator.fetch_offsets(&request).unwrap().remove(0);
        Ok(fetched.committed?.map(|committed| committed.offset.value()))
    }

    fn assert_replays(&self) {
        assert!(read_again(&self.log).has_same_state_as(&self.coordinator));
        let compacted = compacted(&self.log);
        assert!(read_again(&compacted).has_same_state_as(&self.coordinator));
    }
}

/// What Kafka's cleaner leaves: below the first offset of an open transaction the last record of each
/// key, not counting those of aborted transactions, which go; all of the rest.
fn compacted(log: &[Entry]) -> Vec<Entry> {
    let ends = |from: usize, producer: TransactionProducer| {
        log[from..].iter().find_map(|entry| match entry {
            Entry::Marker(marked, is_commit) if *marked == producer => Some(*is_commit),
            _ => None,
        })
    };
    let open_from = (0..log.len()).find(|index| match &log[*index] {
        Entry::Transactional(producer, _) => ends(*index, *producer).is_none(),
        _ => false,
    });
    let clean = open_from.unwrap_or(log.len());
    let is_aborted = |index: usize| match &log[index] {
        Entry::Transactional(producer, _) => ends(index, *producer) == Some(false),
        _ => false,
    };
    let key = |entry: &Entry| match entry {
        Entry::Plain(record) | Entry::Transactional(_, record) => Some(record.encode().key),
        Entry::Marker(..) => None,
    };
    let is_superseded = |index: usize| {
        let own = key(&log[index]);
        own.is_some()
            && (index + 1..clean).any(|later| !is_aborted(later) && key(&log[later]) == own)
    };
    (0..log.len())
        .filter(|index| *index >= clean || !(is_aborted(*index) || is_superseded(*index)))
        .map(|index| log[index].clone())
        .collect()
}

#[test]
fn an_offset_counts_once_its_transaction_is_committed() {
    let mut shard = Shard::new();
    shard.commit(0, 3);
    shard.begin(P1, 0, 7).unwrap();
    assert_eq!(shard.fetch(0, false), Ok(Some(3)));
    shard.end(P1, true);
    assert_eq!(shard.fetch(0, true), Ok(Some(7)));
    let request = FetchOffsetsRequest {
        group_id: GROUP.into(),
        member_epoch: -1,
        ..FetchOffsetsRequest::default()
    };
    let all = shard.coordinator.fetch_offsets(&request).unwrap();
    let committed = all[0].committed.clone().unwrap().unwrap();
    assert_eq!(
        (committed.leader_epoch, committed.metadata.as_str()),
        (LeaderEpoch(6), "at 7")
    );
    shard.assert_replays();
}

#[test]
fn an_aborted_offset_never_was() {
    let mut shard = Shard::new();
    shard.commit(0, 3);
    shard.begin(P1, 0, 7).unwrap();
    shard.begin(P1, 1, 9).unwrap();
    shard.end(P1, false);
    assert_eq!(shard.fetch(0, true), Ok(Some(3)));
    assert_eq!(shard.fetch(1, true), Ok(None));
    // The next transaction of the producer has nothing of it.
    shard.begin(P1, 2, 1).unwrap();
    shard.end(P1, true);
    assert_eq!(
        (shard.fetch(0, true), shard.fetch(2, true)),
        (Ok(Some(3)), Ok(Some(1)))
    );
    shard.assert_replays();
}

#[test]
fn trap_29_offsets_are_unstable_while_a_transaction_is_open_and_no_longer() {
    let mut shard = Shard::new();
    shard.commit(1, 5);
    shard.begin(P1, 0, 7).unwrap();
    shard.begin(P2, 0, 8).unwrap();
    assert!(matches!(
        shard.fetch(0, true),
        Err(GroupError::UnstableOffsetCommit { .. })
    ));
    assert_eq!(shard.fetch(0, false), Ok(None));
    assert_eq!(
        shard.fetch(1, true),
        Ok(Some(5)),
        "another partition is not affected"
    );
    shard.end(P1, false);
    assert!(matches!(
        shard.fetch(0, true),
        Err(GroupError::UnstableOffsetCommit { .. })
    ));
    shard.end(P2, true);
    assert_eq!(shard.fetch(0, true), Ok(Some(8)));
    // A marker without anything pending leaves nothing behind, and so does one of a fencing epoch.
    shard.begin(P1, 2, 1).unwrap();
    shard.end(producer(1, 1), false);
    shard.end(producer(1, 1), false);
    assert_eq!(shard.fetch(2, true), Ok(None));
    assert_eq!(shard.coordinator.pending, PendingOffsets::default());
    shard.assert_replays();
}

#[test]
fn trap_29_all_offsets_of_a_group_tell_which_are_unstable() {
    let mut shard = Shard::new();
    shard.commit(1, 5);
    shard.begin(P1, 0, 7).unwrap();
    let all = |require_stable| {
        let request = FetchOffsetsRequest {
            group_id: GROUP.into(),
            member_epoch: -1,
            require_stable,
            ..FetchOffsetsRequest::default()
        };
        let fetched = shard
            .coordinator
            .fetch_offsets(&request)
            .unwrap()
            .into_iter();
        let told = fetched.map(|one| (one.partition, one.committed.is_ok()));
        told.collect::<Vec<_>>()
    };
    assert_eq!(all(true), [(0, false), (1, true)]);
    assert_eq!(all(false), [(1, true)]);
}

#[test]
fn trap_28_a_plain_commit_behind_a_transactions_offset_holds() {
    let mut shard = Shard::new();
    shard.begin(P1, 0, 7).unwrap();
    shard.commit(0, 9);
    shard.end(P1, true);
    assert_eq!(shard.fetch(0, false), Ok(Some(9)));
    shard.assert_replays();

    // And of two transactions the one that wrote last, whichever is committed last.
    shard.begin(P1, 1, 1).unwrap();
    shard.begin(P2, 1, 2).unwrap();
    shard.end(P2, true);
    shard.end(P1, true);
    assert_eq!(shard.fetch(1, false), Ok(Some(2)));
    shard.assert_replays();
}

#[test]
fn trap_28_what_is_deleted_does_not_come_back_with_a_marker() {
    let mut shard = Shard::new();
    shard.commit(0, 3);
    shard.begin(P1, 0, 7).unwrap();
    shard.begin(P1, 1, 7).unwrap();
    let deleted = shard.coordinator.delete_group(GROUP).unwrap();
    for record in deleted.records {
        shard.write(Entry::Plain(record));
    }
    shard.end(P1, true);
    assert!(shard.coordinator.list().is_empty());
    assert_eq!(shard.fetch(1, true), Ok(None));
    shard.assert_replays();

    shard.begin(P1, 0, 7).unwrap();
    let forgotten = shard.coordinator.forget_topics(|topic| topic == "orders");
    for record in forgotten.records {
        shard.write(Entry::Plain(record));
    }
    shard.end(P1, true);
    assert_eq!(shard.fetch(0, false), Ok(None));
    shard.assert_replays();
}

#[test]
fn an_earlier_incarnation_is_refused_before_it_is_written() {
    let mut shard = Shard::new();
    shard.begin(producer(1, 4), 0, 7).unwrap();
    assert!(matches!(
        shard.begin(producer(1, 3), 0, 7),
        Err(GroupError::InvalidProducerEpoch { expected: 4, .. })
    ));
    assert!(shard.coordinator.check_marker(producer(1, 3), 0).is_err());
    shard.end(producer(1, 5), false);
    assert!(shard.begin(producer(1, 4), 0, 7).is_err());
    shard.coordinator.replay_marker(producer(1, 5), 8, false);
    assert!(matches!(
        shard.coordinator.check_marker(producer(1, 5), 7),
        Err(GroupError::TransactionCoordinatorFenced { expected: 8, .. })
    ));
}

#[test]
fn the_member_that_a_producer_names_must_be_one() {
    let mut shard = Shard::new();
    let joined = shard
        .coordinator
        .heartbeat(
            100,
            &HeartbeatRequest::join(GROUP, "m", &["orders"]),
            &cluster(),
        )
        .unwrap();
    for record in joined.records {
        shard.write(Entry::Plain(record));
    }
    let commit = |member_id: &str, generation, partition| TransactionalCommit {
        group_id: GROUP.into(),
        producer: P1,
        member_id: member_id.into(),
        instance_id: None,
        generation,
        offsets: vec![of(partition, 1)],
    };
    let try_commit = |request: &TransactionalCommit| {
        let decided = shard
            .coordinator
            .commit_transactional(100, request, &cluster());
        decided.and_then(|decided| decided.response[0].result.clone())
    };
    assert_eq!(try_commit(&commit("m", 1, 0)), Ok(()));
    assert_eq!(
        try_commit(&commit("", -1, 0)),
        Ok(()),
        "older producers name nobody"
    );
    assert!(matches!(
        try_commit(&commit("m", 0, 0)),
        Err(GroupError::IllegalGeneration { .. })
    ));
    assert!(
        try_commit(&commit("m", -1, 0)).is_err(),
        "a member says which epoch it has"
    );
    assert!(matches!(
        try_commit(&commit("m", 2, 0)),
        Err(GroupError::IllegalGeneration { .. })
    ));
    assert!(matches!(
        try_commit(&commit("x", 1, 0)),
        Err(GroupError::UnknownMemberId { .. })
    ));
    assert!(matches!(
        try_commit(&commit("m", 1, 4)),
        Err(GroupError::UnknownTopicOrPartition { .. })
    ));
    let elsewhere = TransactionalCommit {
        group_id: "nobody".into(),
        ..commit("m", 1, 0)
    };
    assert!(matches!(
        try_commit(&elsewhere),
        Err(GroupError::IllegalGeneration { .. })
    ));
}

#[test]
fn a_producer_may_name_an_older_epoch_for_what_the_member_has_held_since() {
    let mut shard = Shard::new();
    let grown = ClusterTopics::new(2)
        .with("orders", Uuid::from_u128(1), 4)
        .with("waves", Uuid::from_u128(2), 1);
    let join = HeartbeatRequest::join(GROUP, "m", &["orders"]);
    let resubscribe = HeartbeatRequest {
        subscribed_topic_names: Some(["orders".to_owned(), "waves".to_owned()].into()),
        ..HeartbeatRequest::keep_alive(GROUP, "m", 1)
    };
    for (request, epoch) in [(join, 1), (resubscribe, 2)] {
        let moved = shard.coordinator.heartbeat(0, &request, &grown).unwrap();
        assert_eq!(moved.response.member_epoch, epoch);
        for record in moved.records {
            shard.write(Entry::Plain(record));
        }
    }
    let try_commit = |topic: &str, generation| {
        let request = TransactionalCommit {
            group_id: GROUP.into(),
            producer: P1,
            member_id: "m".into(),
            instance_id: None,
            generation,
            offsets: vec![OffsetToCommit {
                topic: topic.into(),
                ..of(0, 1)
            }],
        };
        let decided = shard
            .coordinator
            .commit_transactional(100, &request, &grown);
        decided.and_then(|decided| decided.response[0].result.clone())
    };
    assert_eq!(try_commit("orders", 1), Ok(()));
    assert_eq!(try_commit("waves", 2), Ok(()));
    for (topic, generation) in [("waves", 1), ("orders", 0), ("orders", 3)] {
        let refused = try_commit(topic, generation);
        assert!(
            matches!(
                refused,
                Err(GroupError::IllegalGeneration { expected: 2, .. })
            ),
            "{topic} {generation} {refused:?}"
        );
    }
}

#[derive(Clone, Debug)]
enum Act {
    Commit(i32, i64),
    Begin(i64, i32, i64),
    End(i64, bool),
    Delete(i32),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (0..3, 0..100_i64).prop_map(|(partition, offset)| Act::Commit(partition, offset)),
        (1..4_i64, 0..3, 0..100_i64).prop_map(|(id, place, offset)| Act::Begin(id, place, offset)),
        (1..4_i64, any::<bool>()).prop_map(|(id, is_commit)| Act::End(id, is_commit)),
        (0..3).prop_map(Act::Delete),
    ];
    prop::collection::vec(act, 0..40)
}

proptest! {
    #[test]
    fn trap_28_a_log_read_again_gives_the_same_offsets_compacted_or_not(acts in acts()) {
        let mut shard = Shard::new();
        for act in acts {
            match act {
                Act::Commit(partition, offset) => shard.commit(partition, offset),
                Act::Begin(id, partition, offset) => {
                    shard.begin(producer(id, 0), partition, offset).unwrap();
                }
                Act::End(id, is_commit) => shard.end(producer(id, 0), is_commit),
                Act::Delete(partition) => shard.write(Entry::Plain(Record::OffsetCommit {
                    group_id: GROUP.into(),
                    topic: "orders".into(),
                    partition,
                    value: None,
                })),
            }
            shard.assert_replays();
        }
        for id in 1..4 {
            shard.end(producer(id, 0), false);
        }
        prop_assert_eq!(&shard.coordinator.pending, &PendingOffsets::default());
        shard.assert_replays();
    }
}
