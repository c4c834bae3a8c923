//! What must hold whatever happens: logs that parted come together again without losing what they
//! had in common, and the high watermark is never ahead of what members have said.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch};
use conveyor_replication::epochs::ListedEpochs;
use conveyor_replication::{
    BrokerState, Brokers, FetchAnswer, FetchRequest, FetchVerdict, Follower, FollowerStep,
    Incarnation, Leader, LogState, PartitionState, RecordSpan, ReplicationConfig,
};
use proptest::prelude::*;

/// A log as the epochs of its records.
type Records = Vec<i32>;

fn history(records: &Records) -> ListedEpochs {
    let mut listed = ListedEpochs {
        entries: Vec::new(),
        end: Offset(records.len() as i64),
    };
    for (offset, epoch) in records.iter().enumerate() {
        if listed
            .entries
            .last()
            .is_none_or(|(last, _)| last.0 < *epoch)
        {
            listed
                .entries
                .push((LeaderEpoch(*epoch), Offset(offset as i64)));
        }
    }
    listed
}

fn log_state(records: &Records) -> LogState {
    LogState {
        start: Offset(0),
        end: Offset(records.len() as i64),
        synced: Offset(records.len() as i64),
        high_watermark: Offset(0),
        last_epoch: LeaderEpoch(records.last().copied().unwrap_or(-1)),
    }
}

/// Two logs as leaders and crashes make them: in each epoch one of the two takes the lead, begins
/// where its log ends, writes some records, and the other has a part of them.
fn two_logs() -> impl Strategy<Value = (Records, Records)> {
    let term = (any::<bool>(), any::<bool>(), 0usize..5, 0usize..6);
    prop::collection::vec(term, 0..8).prop_map(|terms| {
        let mut logs: [Records; 2] = [Vec::new(), Vec::new()];
        for (epoch, (first_leads, in_touch, written, copied)) in terms.into_iter().enumerate() {
            let (leader, other) = if first_leads { (0, 1) } else { (1, 0) };
            let start = logs[leader].len();
            logs[leader].extend(std::iter::repeat_n(epoch as i32, written));
            if in_touch {
                // The other cuts what parts and copies some of what follows.
                let common = common_prefix(&logs[0], &logs[1]);
                let end = (common + copied).min(start + written).max(common);
                let copy = logs[leader][..end].to_vec();
                logs[other] = copy;
            }
        }
        let [leader, follower] = logs;
        (leader, follower)
    })
}

/// Records are equal where offset and epoch are: within an epoch only one broker writes.
fn common_prefix(a: &Records, b: &Records) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn state(in_sync: &[i32]) -> PartitionState {
    PartitionState {
        replicas: vec![NodeId(1), NodeId(2), NodeId(3)],
        in_sync: in_sync.iter().copied().map(NodeId).collect(),
        leader: NodeId(1),
        leader_epoch: LeaderEpoch(100),
        partition_epoch: PartitionEpoch(1),
        recovering: false,
    }
}

fn brokers() -> Brokers {
    let broker = |node: i32| BrokerState {
        epoch: BrokerEpoch(i64::from(node)),
        eligible: true,
    };
    (1..=3).map(|node| (NodeId(node), broker(node))).collect()
}

fn incarnation(node: i32) -> Incarnation {
    Incarnation {
        node: NodeId(node),
        epoch: BrokerEpoch(i64::from(node)),
    }
}

fn leader(records: &Records, in_sync: &[i32], min_insync_replicas: usize) -> Leader {
    let config = ReplicationConfig {
        min_insync_replicas,
        ..ReplicationConfig::default()
    };
    Leader::begin(
        incarnation(1),
        config,
        &state(in_sync),
        &brokers(),
        &log_state(records),
        0,
        &mut Vec::new(),
    )
}

proptest! {
    #[test]
    fn a_follower_ends_with_the_leaders_log_and_keeps_what_they_had_in_common(
        (leading, mut following) in two_logs()
    ) {
        let common = common_prefix(&leading, &following);
        let mut leader = leader(&leading, &[1], 1);
        let mut follower = Follower::begin(
            incarnation(2),
            ReplicationConfig::default(),
            &state(&[1]),
            &log_state(&following),
        );
        for round in 0..40 {
            let fetch = follower.next_fetch(round).unwrap();
            let verdict = leader.fetch(&fetch, &history(&leading), round, &mut Vec::new());
            let from = fetch.fetch_offset.value() as usize;
            let records = matches!(verdict, FetchVerdict::Serve { .. }).then(|| RecordSpan {
                first_offset: fetch.fetch_offset,
                next_offset: Offset((from + 2).min(leading.len()) as i64),
            });
            let answer = FetchAnswer {
                sequence: fetch.sequence,
                leader_epoch: fetch.leader_epoch,
                verdict,
                records,
            };
            match follower.answered(&answer, &history(&following), round) {
                FollowerStep::Append(span) => {
                    following.extend(&leading[from..span.next_offset.value() as usize]);
                    follower.appended(span.next_offset, log_state(&following).last_epoch);
                }
                FollowerStep::TruncateTo(end) => {
                    prop_assert!(end.value() as usize >= common, "cut to {end}, common {common}");
                    prop_assert!((end.value() as usize) < following.len(), "no progress");
                    following.truncate(end.value() as usize);
                    follower.log_changed(&log_state(&following));
                }
                FollowerStep::UpToDate => break,
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(leading, following);
    }

    #[test]
    fn the_high_watermark_is_never_ahead_of_a_member(
        events in prop::collection::vec((1i32..=3, 0i64..40, 0i64..40, 0i64..500), 1..60),
        members in prop::sample::subsequence(vec![2, 3], 0..=2),
        minimum in 1usize..=3,
    ) {
        let mut in_sync = vec![1];
        in_sync.extend(members);
        let mut leader = leader(&Vec::new(), &in_sync, minimum);
        let (mut end, mut synced, mut now) = (0, 0, 0);
        let mut said: BTreeMap<i32, i64> = BTreeMap::new();
        let mut before = leader.high_watermark();
        for (who, a, b, passed) in events {
            now += passed;
            let mut out = Vec::new();
            if who == 1 {
                end = end.max(a);
                leader.appended(Offset(end), now, &mut out);
                synced = synced.max(b.min(end));
                leader.synced(Offset(synced), now, &mut out);
            } else {
                let fetched = a.min(end);
                let request = FetchRequest {
                    replica: NodeId(who),
                    broker_epoch: BrokerEpoch(i64::from(who)),
                    leader_epoch: LeaderEpoch(100),
                    sequence: 0,
                    fetch_offset: Offset(fetched),
                    last_epoch: LeaderEpoch(if fetched > 0 { 100 } else { -1 }),
                    synced_offset: Offset(b.min(fetched)),
                };
                let own = ListedEpochs {
                    entries: vec![(LeaderEpoch(100), Offset(0))],
                    end: Offset(end),
                };
                let verdict = leader.fetch(&request, &own, now, &mut out);
                prop_assert!(matches!(verdict, FetchVerdict::Serve { .. }), "{:?}", verdict);
                let known = said.entry(who).or_default();
                *known = (*known).max(b.min(fetched));
            }
            leader.tick(now, &mut out);
            let high_watermark = leader.high_watermark();
            prop_assert!(high_watermark >= before, "it went back");
            if high_watermark > before {
                prop_assert!(leader.in_sync().len() >= minimum);
                prop_assert!(high_watermark.value() <= synced);
                for member in leader.maximal_in_sync().iter().filter(|member| member.0 != 1) {
                    let position = said.get(&member.0).copied().unwrap_or(0);
                    prop_assert!(high_watermark.value() <= position, "{member} has {position}");
                }
            }
            before = high_watermark;
        }
    }
}
