//! The follower's rules, one sentence each.

use super::*;
use crate::epochs::ListedEpochs;
use conveyor_record::{BrokerEpoch, PartitionEpoch};

const EPOCH: LeaderEpoch = LeaderEpoch(5);

fn begin(log: LogState, recovering: bool) -> Follower {
    let state = PartitionState {
        replicas: vec![NodeId(1), NodeId(2)],
        in_sync: vec![NodeId(1)],
        leader: NodeId(1),
        leader_epoch: EPOCH,
        partition_epoch: PartitionEpoch(1),
        recovering,
    };
    let config = ReplicationConfig::default();
    let me = Incarnation {
        node: NodeId(2),
        epoch: BrokerEpoch(20),
    };
    Follower::begin(me, config, &state, &log)
}

/// Records 0 to 6 of epoch 2, 6 to 10 of epoch 4.
fn log() -> LogState {
    LogState {
        start: Offset(0),
        end: Offset(10),
        synced: Offset(9),
        high_watermark: Offset(5),
        last_epoch: LeaderEpoch(4),
    }
}

fn history() -> ListedEpochs {
    ListedEpochs {
        entries: vec![(LeaderEpoch(2), Offset(0)), (LeaderEpoch(4), Offset(6))],
        end: Offset(10),
    }
}

fn answer(sequence: u64, verdict: FetchVerdict) -> FetchAnswer {
    FetchAnswer {
        sequence,
        leader_epoch: EPOCH,
        verdict,
        records: None,
    }
}

fn served(sequence: u64, high_watermark: i64, records: Option<(i64, i64)>) -> FetchAnswer {
    let verdict = FetchVerdict::Serve {
        high_watermark: Offset(high_watermark),
        log_start: Offset(0),
    };
    FetchAnswer {
        records: records.map(|(first, next)| RecordSpan {
            first_offset: Offset(first),
            next_offset: Offset(next),
        }),
        ..answer(sequence, verdict)
    }
}

fn diverging(sequence: u64, epoch: i32, end: i64) -> FetchAnswer {
    let verdict = FetchVerdict::Diverging {
        epoch: LeaderEpoch(epoch),
        end_offset: Offset(end),
    };
    answer(sequence, verdict)
}

#[test]
fn a_fetch_tells_both_positions_and_the_last_epoch() {
    let mut follower = begin(log(), false);
    let fetch = follower.next_fetch(0).unwrap();
    assert_eq!(
        (fetch.fetch_offset, fetch.synced_offset, fetch.last_epoch),
        (Offset(10), Offset(9), LeaderEpoch(4))
    );
    assert_eq!(follower.next_fetch(10), None, "one is out");
    assert_eq!(follower.next_fetch(2_000).unwrap().sequence, 2);
    assert_eq!(follower.next_fetch(-5).unwrap().sequence, 3);
}

#[test]
fn records_are_appended_and_the_high_watermark_follows_the_own_end() {
    let mut follower = begin(log(), false);
    follower.next_fetch(0);
    let step = follower.answered(&served(1, 14, Some((10, 12))), &history(), 1);
    assert!(matches!(step, FollowerStep::Append(_)));
    assert_eq!(follower.high_watermark(), Offset(10));
    follower.appended(Offset(12), EPOCH);
    assert_eq!(follower.high_watermark(), Offset(12));
}

#[test]
fn only_the_answer_to_the_fetch_that_is_out_is_taken() {
    let mut follower = begin(log(), false);
    follower.next_fetch(0);
    follower.next_fetch(5_000);
    let late = diverging(1, 2, 6);
    assert_eq!(
        follower.answered(&late, &history(), 5_001),
        FollowerStep::Ignore
    );
    let other = FetchAnswer {
        leader_epoch: LeaderEpoch(4),
        ..diverging(2, 2, 6)
    };
    assert_eq!(
        follower.answered(&other, &history(), 5_001),
        FollowerStep::Ignore
    );
    follower.answered(&served(2, 10, None), &history(), 5_002);
    let twice = diverging(2, 2, 6);
    assert_eq!(
        follower.answered(&twice, &history(), 5_003),
        FollowerStep::Ignore
    );
}

#[test]
fn an_answer_to_another_log_is_not_taken() {
    let mut follower = begin(log(), false);
    follower.next_fetch(0);
    follower.appended(Offset(11), EPOCH);
    let step = follower.answered(&served(1, 10, Some((10, 12))), &history(), 1);
    assert_eq!(step, FollowerStep::Ignore);
}

#[test]
fn it_cuts_to_where_both_agree_that_the_epoch_ends() {
    let cases = [
        // The leader has less of the last epoch.
        (4, 8, 8),
        // The leader never had the last epoch, and more of the one before.
        (2, 9, 6),
        // It had less of the one before, too; but that is the next question.
        (3, 7, 6),
    ];
    for (epoch, end, expected) in cases {
        let mut follower = begin(log(), false);
        follower.next_fetch(0);
        let step = follower.answered(&diverging(1, epoch, end), &history(), 1);
        assert_eq!(step, FollowerStep::TruncateTo(Offset(expected)));
    }
}

#[test]
fn committed_records_are_never_cut_but_reported() {
    let mut follower = begin(log(), false);
    follower.next_fetch(0);
    let step = follower.answered(&diverging(1, 2, 4), &history(), 1);
    let FollowerStep::Halt(inconsistent) = step else {
        panic!("{step:?}");
    };
    assert_eq!(inconsistent.high_watermark, Offset(5));
    assert_eq!(follower.next_fetch(60_000), None);
    let mut follower = begin(log(), true);
    follower.next_fetch(0);
    let step = follower.answered(&diverging(1, 2, 4), &history(), 1);
    assert_eq!(
        step,
        FollowerStep::TruncateTo(Offset(4)),
        "loss was accepted by hand"
    );
}

#[test]
fn it_begins_anew_where_the_leaders_log_starts() {
    let mut follower = begin(log(), false);
    follower.next_fetch(0);
    let gone = FetchVerdict::OutOfRange {
        log_start: Offset(30),
    };
    let step = follower.answered(&answer(1, gone), &history(), 1);
    assert_eq!(step, FollowerStep::StartAt(Offset(30)));
    follower.log_changed(&LogState {
        start: Offset(30),
        end: Offset(30),
        synced: Offset(30),
        high_watermark: Offset(0),
        last_epoch: LeaderEpoch::NONE,
    });
    let fetch = follower.next_fetch(2).unwrap();
    assert_eq!(
        (fetch.fetch_offset, fetch.last_epoch),
        (Offset(30), LeaderEpoch::NONE)
    );
    assert_eq!(follower.high_watermark(), Offset(30));
}

#[test]
fn a_sync_is_reported_once_the_logs_agree() {
    let mut follower = begin(log(), false);
    assert_eq!(
        follower.synced(Offset(10)),
        None,
        "what lies here may be something else"
    );
    follower.next_fetch(0);
    follower.answered(&served(1, 10, Some((10, 12))), &history(), 1);
    follower.appended(Offset(12), EPOCH);
    assert_eq!(
        follower.synced(Offset(12)).unwrap().synced_offset,
        Offset(12)
    );
    assert_eq!(follower.synced(Offset(12)), None);
}

#[test]
fn after_an_error_it_waits() {
    let mut follower = begin(log(), false);
    follower.next_fetch(0);
    let step = follower.answered(&answer(1, FetchVerdict::NotLeader), &history(), 10);
    assert_eq!(step, FollowerStep::Wait);
    assert_eq!(follower.next_fetch(50), None);
    assert!(follower.next_fetch(110).is_some());
}

#[test]
fn the_log_start_follows_the_leaders_as_far_as_it_is_committed() {
    let mut follower = begin(log(), false);
    follower.next_fetch(0);
    let verdict = FetchVerdict::Serve {
        high_watermark: Offset(7),
        log_start: Offset(9),
    };
    follower.answered(&answer(1, verdict), &history(), 1);
    assert_eq!(follower.log_start_wanted(), Offset(7));
}
