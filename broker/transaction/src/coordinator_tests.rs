//! The rules of transactional ids, one story each.

use conveyor_record::{ProducerEpoch, ProducerId};

use crate::{
    EndTxn, Ended, InitProducerId, Initialised, Producer, TopicPartition, TransactionConfig,
    TransactionCoordinator, TransactionError, TransactionState, TransactionVersion, Transition,
    WriteMarkers,
};

use TransactionVersion::{V0, V2};

const ID: &str = "transfers";
const FRESH: i64 = 900;

/// A coordinator whose decisions take effect at once.
struct Bench {
    coordinator: TransactionCoordinator,
    now_ms: i64,
    next_fresh: i64,
}

impl Bench {
    fn new() -> Self {
        Self {
            coordinator: TransactionCoordinator::new(TransactionConfig::default()),
            now_ms: 1_000,
            next_fresh: FRESH,
        }
    }

    fn done<R>(
        &mut self,
        outcome: Result<Transition<R>, TransactionError>,
    ) -> Result<R, TransactionError> {
        let transition = outcome?;
        self.coordinator.replay_all(&transition.records);
        Ok(transition.response)
    }

    fn init(&mut self, expected: Option<Producer>) -> Result<Initialised, TransactionError> {
        let request = InitProducerId {
            expected,
            ..InitProducerId::new(ID, 60_000)
        };
        let fresh = Some(ProducerId(self.next_fresh));
        let outcome = self
            .coordinator
            .init_producer_id(self.now_ms, &request, fresh);
        if let Ok(Transition {
            response: Initialised::Ready(producer),
            ..
        }) = &outcome
            && producer.id.value() == self.next_fresh
        {
            self.next_fresh += 1;
        }
        self.done(outcome)
    }

    fn producer(&mut self) -> Producer {
        match self.init(None).unwrap() {
            Initialised::Ready(producer) => producer,
            Initialised::Aborting(markers) => panic!("{markers:?}"),
        }
    }

    fn add(
        &mut self,
        producer: Producer,
        version: TransactionVersion,
    ) -> Result<(), TransactionError> {
        let outcome =
            self.coordinator
                .add_partitions(self.now_ms, ID, producer, &[place()], version);
        self.done(outcome)
    }

    fn end(
        &mut self,
        producer: Producer,
        commit: bool,
        version: TransactionVersion,
    ) -> Result<Ended, TransactionError> {
        let mut request = EndTxn::commit(ID, producer, version);
        request.commit = commit;
        let fresh = Some(ProducerId(self.next_fresh));
        let outcome = self.coordinator.end_txn(self.now_ms, &request, fresh);
        self.done(outcome)
    }

    fn complete(&mut self, markers: &WriteMarkers) -> bool {
        let done = self.coordinator.complete(self.now_ms, markers);
        self.done(Ok(done)).unwrap()
    }

    fn state(&self) -> TransactionState {
        self.coordinator.describe(ID).unwrap().state
    }

    /// Puts a producer near the end of its epochs.
    fn with_epoch(mut self, epoch: i16) -> (Self, Producer) {
        self.producer();
        let mut metadata = self.coordinator.describe(ID).unwrap().clone();
        metadata.producer.epoch = ProducerEpoch(epoch);
        let producer = metadata.producer;
        self.coordinator.replay(&crate::Record::new(ID, metadata));
        (self, producer)
    }
}

fn place() -> TopicPartition {
    TopicPartition::new("payments", 3)
}

fn is_fenced<T>(outcome: &Result<T, TransactionError>) -> bool {
    matches!(outcome, Err(TransactionError::ProducerFenced { .. }))
}

fn is_concurrent<T>(outcome: &Result<T, TransactionError>) -> bool {
    matches!(
        outcome,
        Err(TransactionError::ConcurrentTransactions { .. })
    )
}

fn is_wrong_state<T>(outcome: &Result<T, TransactionError>) -> bool {
    matches!(outcome, Err(TransactionError::InvalidTxnState { .. }))
}

fn is_unmapped<T>(outcome: &Result<T, TransactionError>) -> bool {
    matches!(
        outcome,
        Err(TransactionError::InvalidProducerIdMapping { .. })
    )
}

#[test]
fn trap_31_every_start_takes_a_higher_epoch() {
    let mut bench = Bench::new();
    let first = bench.producer();
    assert_eq!(first, Producer::new(FRESH, 0));
    assert_eq!(bench.producer(), Producer::new(FRESH, 1));
    assert!(is_fenced(&bench.add(first, V0)));
    assert!(is_fenced(&bench.init(Some(first))));
}

#[test]
fn trap_31_a_producer_that_goes_on_gets_the_same_epoch_on_its_retry() {
    let mut bench = Bench::new();
    let first = bench.producer();
    let second = Producer::new(FRESH, 1);
    for _ in 0..3 {
        assert_eq!(
            bench.init(Some(first)),
            Ok(Initialised::Ready(second)),
            "the answer may have been lost"
        );
    }
    // Another producer starts: what the first one could still ask for is gone.
    assert_eq!(bench.producer(), Producer::new(FRESH, 2));
    assert!(is_fenced(&bench.init(Some(first))));
    assert!(is_fenced(&bench.init(Some(Producer::new(77, 0)))));
}

#[test]
fn trap_31_a_retry_is_good_after_a_restart_too() {
    let mut bench = Bench::new();
    let first = bench.producer();
    bench.init(Some(first)).unwrap();
    let metadata = bench.coordinator.describe(ID).unwrap().clone();
    let stored = crate::Record::new(ID, metadata).encode();
    let mut restarted = Bench::new();
    let read = crate::Record::decode(&stored.key, stored.value.as_deref());
    restarted.coordinator.replay(&read.unwrap().unwrap());
    assert_eq!(
        restarted.init(Some(first)),
        Ok(Initialised::Ready(Producer::new(FRESH, 1)))
    );
}

#[test]
fn a_start_aborts_what_it_finds_open_and_asks_to_be_repeated() {
    let mut bench = Bench::new();
    let old = bench.producer();
    bench.add(old, V0).unwrap();
    let Ok(Initialised::Aborting(markers)) = bench.init(None) else {
        panic!("there is a transaction to abort");
    };
    assert_eq!(markers.producer, Producer::new(FRESH, 1));
    assert!(!markers.commit && markers.partitions.contains(&place()));
    assert!(is_concurrent(&bench.init(None)));
    assert!(is_fenced(&bench.end(old, true, V0)));
    assert!(bench.complete(&markers) && !bench.complete(&markers));
    assert_eq!(bench.state(), TransactionState::CompleteAbort);
    assert_eq!(bench.producer(), Producer::new(FRESH, 2));
}

#[test]
fn a_note_about_one_transaction_does_not_complete_the_next() {
    let mut bench = Bench::new();
    let producer = bench.producer();
    bench.add(producer, V0).unwrap();
    let first = bench.end(producer, true, V0).unwrap().markers.unwrap();
    assert!(bench.complete(&first));
    bench.now_ms += 50;
    bench.add(producer, V0).unwrap();
    let second = bench.end(producer, true, V0).unwrap().markers.unwrap();
    assert_eq!(
        first.producer, second.producer,
        "the first version keeps the epoch"
    );
    assert!(!bench.complete(&first), "its markers are not written yet");
    assert_eq!(bench.state(), TransactionState::PrepareCommit);
    assert!(bench.complete(&second));
}

#[test]
fn a_late_copy_of_a_start_does_not_abort_its_own_producer() {
    let mut bench = Bench::new();
    let first = bench.producer();
    bench.init(Some(first)).unwrap();
    let second = Producer::new(FRESH, 1);
    bench.add(second, V2).unwrap();
    assert!(is_fenced(&bench.init(Some(first))));
    assert_eq!(bench.state(), TransactionState::Ongoing);
}

#[test]
fn timeouts_have_a_maximum_and_ids_a_length() {
    let bench = Bench::new();
    for timeout_ms in [0, -1, 900_001] {
        let request = InitProducerId::new(ID, timeout_ms);
        assert!(matches!(
            bench.coordinator.init_producer_id(0, &request, None),
            Err(TransactionError::InvalidTransactionTimeout { .. })
        ));
    }
    for id in [String::new(), "x".repeat(40_000)] {
        let request = InitProducerId::new(id, 1);
        assert!(matches!(
            bench.coordinator.init_producer_id(0, &request, None),
            Err(TransactionError::InvalidRequest(_))
        ));
    }
    let request = InitProducerId::new(ID, 900_000);
    assert_eq!(
        bench.coordinator.init_producer_id(0, &request, None),
        Err(TransactionError::NeedsProducerId)
    );
}

#[test]
fn used_up_epochs_give_way_to_a_new_id() {
    let (mut bench, last) = Bench::new().with_epoch(i16::MAX - 1);
    let Ok(Initialised::Ready(next)) = bench.init(Some(last)) else {
        panic!("it may go on");
    };
    assert_eq!(next, Producer::new(FRESH + 1, 0));
    assert_eq!(bench.init(Some(last)), Ok(Initialised::Ready(next)));
    assert!(is_unmapped(&bench.add(last, V0)));
}

#[test]
fn fencing_the_last_epoch_leaves_room_for_the_markers() {
    let (mut bench, last) = Bench::new().with_epoch(i16::MAX - 1);
    bench.add(last, V0).unwrap();
    let Ok(Initialised::Aborting(markers)) = bench.init(None) else {
        panic!("there is a transaction to abort");
    };
    assert_eq!(markers.producer.epoch, ProducerEpoch(i16::MAX));
    bench.complete(&markers);
    assert_eq!(bench.producer(), Producer::new(FRESH + 1, 0));
}

#[test]
fn only_the_producer_of_the_id_adds_partitions() {
    let mut bench = Bench::new();
    assert!(is_unmapped(&bench.add(Producer::new(1, 0), V0)));
    let producer = bench.producer();
    assert!(is_unmapped(&bench.add(Producer::new(1, 0), V0)));
    assert!(is_fenced(&bench.add(Producer::new(FRESH, 5), V0)));
    bench.add(producer, V0).unwrap();
    let again = bench
        .coordinator
        .add_partitions(2_000, ID, producer, &[place()], V0);
    assert!(again.unwrap().records.is_empty(), "it is there already");
}

#[test]
fn a_partition_is_verified_only_while_its_transaction_is_open() {
    let mut bench = Bench::new();
    let producer = bench.producer();
    let other = TopicPartition::new("payments", 4);
    let verify = |bench: &Bench| {
        bench
            .coordinator
            .verify_partitions(ID, producer, &[place(), other.clone()])
    };
    assert!(verify(&bench).unwrap().iter().all(Result::is_err));
    bench.add(producer, V0).unwrap();
    let results = verify(&bench).unwrap();
    assert!(results[0].is_ok());
    assert!(matches!(
        results[1],
        Err(TransactionError::TransactionAbortable { .. })
    ));
    let ended = bench.end(producer, true, V0).unwrap();
    assert!(is_concurrent(&verify(&bench)));
    bench.complete(&ended.markers.unwrap());
    assert!(verify(&bench).unwrap().iter().all(Result::is_err));
}

#[test]
fn trap_31_by_the_first_version_ends_are_repeated_at_will_in_one_direction() {
    for commit in [true, false] {
        let mut bench = Bench::new();
        let producer = bench.producer();
        assert!(is_wrong_state(&bench.end(producer, commit, V0)));
        bench.add(producer, V0).unwrap();
        let ended = bench.end(producer, commit, V0).unwrap();
        assert_eq!(ended.producer, producer);
        assert!(is_concurrent(&bench.end(producer, commit, V0)));
        assert!(is_concurrent(&bench.add(producer, V0)));
        assert!(is_wrong_state(&bench.end(producer, !commit, V0)));
        let markers = ended.markers.unwrap();
        assert_eq!((markers.producer, markers.commit), (producer, commit));
        bench.complete(&markers);
        let retried = bench.end(producer, commit, V0).unwrap();
        assert_eq!((retried.producer, retried.markers), (producer, None));
        assert!(is_wrong_state(&bench.end(producer, !commit, V0)));
    }
}

#[test]
fn trap_31_by_the_second_version_the_epoch_tells_a_retry_from_the_next_call() {
    for commit in [true, false] {
        let mut bench = Bench::new();
        let producer = bench.producer();
        bench.add(producer, V2).unwrap();
        let ended = bench.end(producer, commit, V2).unwrap();
        let next = Producer::new(FRESH, 1);
        assert_eq!(ended.producer, next);
        let markers = ended.markers.unwrap();
        assert_eq!((markers.producer, markers.commit), (next, commit));

        assert!(is_concurrent(&bench.end(producer, commit, V2)));
        assert!(is_wrong_state(&bench.end(producer, !commit, V2)));
        assert!(
            is_concurrent(&bench.end(next, commit, V2)),
            "nothing to end yet"
        );
        bench.complete(&markers);
        let retried = bench.end(producer, commit, V2).unwrap();
        assert_eq!((retried.producer, retried.markers), (next, None));
        assert!(is_wrong_state(&bench.end(producer, !commit, V2)));
        assert!(is_wrong_state(&bench.end(next, true, V2)));
        assert!(is_fenced(&bench.end(Producer::new(FRESH, 9), commit, V2)));
    }
}

#[test]
fn by_the_second_version_an_abort_without_records_raises_the_epoch() {
    let mut bench = Bench::new();
    let producer = bench.producer();
    assert!(is_wrong_state(&bench.end(producer, true, V2)));
    let ended = bench.end(producer, false, V2).unwrap();
    assert_eq!(ended.producer, Producer::new(FRESH, 1));
    let markers = ended.markers.unwrap();
    assert!(markers.partitions.is_empty());
    bench.complete(&markers);
    assert_eq!(bench.state(), TransactionState::CompleteAbort);
}

#[test]
fn by_the_second_version_the_last_end_of_an_id_hands_over_to_the_next() {
    let (mut bench, last) = Bench::new().with_epoch(i16::MAX - 1);
    bench.add(last, V2).unwrap();
    let ended = bench.end(last, true, V2).unwrap();
    let next = Producer::new(FRESH + 1, 0);
    assert_eq!(ended.producer, next);
    let markers = ended.markers.unwrap();
    assert_eq!(markers.producer, Producer::new(FRESH, i16::MAX));
    assert!(is_concurrent(&bench.end(last, true, V2)));
    bench.complete(&markers);
    let retried = bench.end(last, true, V2).unwrap();
    assert_eq!((retried.producer, retried.markers), (next, None));
    assert!(is_wrong_state(&bench.end(last, false, V2)));
    bench.add(next, V2).unwrap();
}

#[test]
fn transactions_time_out_and_their_producer_is_fenced() {
    let mut bench = Bench::new();
    let producer = bench.producer();
    bench.add(producer, V2).unwrap();
    assert_eq!(bench.coordinator.next_timeout_ms(), Some(61_000));
    assert!(bench.coordinator.abort_timed_out(60_999).records.is_empty());
    let aborted = bench.coordinator.abort_timed_out(61_000);
    let [markers] = &bench.done(Ok(aborted)).unwrap()[..] else {
        panic!("one transaction has timed out");
    };
    assert_eq!(markers.producer, Producer::new(FRESH, 1));
    assert_eq!(
        bench.coordinator.unfinished().collect::<Vec<_>>(),
        std::slice::from_ref(markers)
    );
    for commit in [true, false] {
        assert!(is_fenced(&bench.end(producer, commit, V2)));
    }
    bench.complete(markers);
    assert_eq!(bench.coordinator.next_timeout_ms(), None);
    assert_eq!(bench.coordinator.unfinished().count(), 0);
}

#[test]
fn an_idle_id_is_forgotten_and_an_open_one_is_not() {
    let mut bench = Bench::new();
    let producer = bench.producer();
    let week = TransactionConfig::default().expiration_ms;
    assert!(bench.coordinator.expire_ids(week).records.is_empty());
    let mut open = bench.coordinator.clone();
    open.replay_all(
        &open
            .add_partitions(1_000, ID, producer, &[place()], V0)
            .unwrap()
            .records,
    );
    assert_eq!(open.expire_ids(week * 2).response, 0);

    let expired = bench.coordinator.expire_ids(week + 1_000);
    assert_eq!(bench.done(Ok(expired)), Ok(1));
    assert!(bench.coordinator.describe(ID).is_err());
    assert!(is_unmapped(&bench.add(producer, V0)));
    // It goes on under a new id.
    assert_eq!(
        bench.init(Some(producer)),
        Ok(Initialised::Ready(Producer::new(FRESH + 1, 0)))
    );
}

#[test]
fn an_administrator_aborts_what_hangs() {
    let mut bench = Bench::new();
    let producer = bench.producer();
    let force = |bench: &mut Bench| {
        let outcome = bench.coordinator.abort_by_force(bench.now_ms, ID);
        bench.done(outcome)
    };
    assert!(is_wrong_state(&force(&mut bench)));
    bench.add(producer, V0).unwrap();
    let markers = force(&mut bench).unwrap();
    assert!(!markers.commit);
    assert!(is_concurrent(&force(&mut bench)));
    assert!(is_fenced(&bench.add(producer, V0)));
}
