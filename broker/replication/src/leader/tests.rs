//! The leader's rules, one sentence each.

use super::*;
use crate::epochs::ListedEpochs;
use crate::replica::BrokerState;

const LEADER: NodeId = NodeId(1);
const EPOCH: LeaderEpoch = LeaderEpoch(5);

/// A leader of three replicas with its log and the time.
struct Scene {
    leader: Leader,
    history: ListedEpochs,
    sequence: u64,
    now_ms: i64,
    out: Vec<LeaderCommand>,
}

fn broker_epoch(node: i32) -> BrokerEpoch {
    BrokerEpoch(i64::from(node) * 10)
}

fn brokers() -> Brokers {
    (1..=3)
        .map(|node| {
            let state = BrokerState {
                epoch: broker_epoch(node),
                eligible: true,
            };
            (NodeId(node), state)
        })
        .collect()
}

fn state(in_sync: &[i32], partition_epoch: i32) -> PartitionState {
    PartitionState {
        replicas: vec![NodeId(1), NodeId(2), NodeId(3)],
        in_sync: in_sync.iter().copied().map(NodeId).collect(),
        leader: LEADER,
        leader_epoch: EPOCH,
        partition_epoch: PartitionEpoch(partition_epoch),
        recovering: false,
    }
}

impl Scene {
    /// Records 0 to 10 of epoch 4 are in the log and synced, 8 of them committed.
    fn with(in_sync: &[i32], durability: Durability) -> Self {
        let config = ReplicationConfig {
            min_insync_replicas: 2,
            durability,
            fetch_lag_ms: 2_000,
            ..ReplicationConfig::default()
        };
        let log = LogState {
            start: Offset(0),
            end: Offset(10),
            synced: Offset(10),
            high_watermark: Offset(8),
            last_epoch: LeaderEpoch(4),
        };
        let mut out = Vec::new();
        let leader = Leader::begin(
            Incarnation {
                node: LEADER,
                epoch: broker_epoch(1),
            },
            config,
            &state(in_sync, 1),
            &brokers(),
            &log,
            0,
            &mut out,
        );
        Self {
            leader,
            history: ListedEpochs {
                entries: vec![(LeaderEpoch(2), Offset(0)), (LeaderEpoch(4), Offset(6))],
                end: Offset(10),
            },
            sequence: 0,
            now_ms: 0,
            out,
        }
    }

    fn new(in_sync: &[i32]) -> Self {
        Self::with(in_sync, Durability::Fsync)
    }

    /// The leader appends up to `end` and syncs it.
    fn wrote(&mut self, end: i64) {
        self.appended(end);
        self.leader.synced(Offset(end), self.now_ms, &mut self.out);
    }

    fn appended(&mut self, end: i64) {
        if self
            .history
            .entries
            .last()
            .is_none_or(|last| last.0 < EPOCH)
        {
            self.history.entries.push((EPOCH, self.history.end));
        }
        self.history.end = Offset(end);
        self.leader
            .appended(Offset(end), self.now_ms, &mut self.out);
    }

    fn request(&mut self, node: i32, fetched: i64, synced: i64) -> FetchRequest {
        self.sequence += 1;
        FetchRequest {
            replica: NodeId(node),
            broker_epoch: broker_epoch(node),
            leader_epoch: EPOCH,
            sequence: self.sequence,
            fetch_offset: Offset(fetched),
            last_epoch: if fetched > 10 { EPOCH } else { LeaderEpoch(4) },
            synced_offset: Offset(synced),
        }
    }

    fn ask(&mut self, request: &FetchRequest) -> FetchVerdict {
        self.leader
            .fetch(request, &self.history, self.now_ms, &mut self.out)
    }

    fn fetched(&mut self, node: i32, fetched: i64, synced: i64) -> FetchVerdict {
        let request = self.request(node, fetched, synced);
        self.ask(&request)
    }

    /// Time passes in ticks that no lag window notices.
    fn pass(&mut self, ms: i64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 100;
            self.leader.tick(self.now_ms, &mut self.out);
        }
    }

    fn high_watermark(&self) -> i64 {
        self.leader.high_watermark().value()
    }

    /// The sets proposed since the last call.
    fn proposed(&mut self) -> Vec<Vec<i32>> {
        let commands = std::mem::take(&mut self.out);
        commands
            .iter()
            .filter_map(|command| match command {
                LeaderCommand::Propose(proposal) => {
                    Some(proposal.members.iter().map(|(node, _)| node.0).collect())
                }
                _ => None,
            })
            .collect()
    }

    fn decides(&mut self, in_sync: &[i32], partition_epoch: i32) {
        self.leader.metadata_changed(
            &state(in_sync, partition_epoch),
            &brokers(),
            self.now_ms,
            &mut self.out,
        );
    }

    fn answers(&mut self, sequence: u64, outcome: Result<InSyncDecision, Refusal>) {
        let answer = ProposalAnswer {
            sequence,
            leader_epoch: EPOCH,
            outcome,
        };
        self.leader
            .proposal_answered(&answer, self.now_ms, &mut self.out);
    }
}

#[test]
fn high_watermark_waits_for_the_slowest_disk_in_sync() {
    let mut scene = Scene::new(&[1, 2, 3]);
    scene.wrote(20);
    scene.fetched(2, 20, 20);
    scene.fetched(3, 20, 13);
    assert_eq!(scene.high_watermark(), 13);
    assert!(
        scene
            .out
            .contains(&LeaderCommand::AdvanceHighWatermark { to: Offset(13) })
    );
}

#[test]
fn high_watermark_waits_for_the_leaders_own_disk() {
    let mut scene = Scene::new(&[1, 2, 3]);
    scene.appended(20);
    scene.fetched(2, 20, 20);
    scene.fetched(3, 20, 20);
    assert_eq!(scene.high_watermark(), 10);
}

#[test]
fn with_replicated_durability_the_fetched_position_counts() {
    let mut scene = Scene::with(&[1, 2, 3], Durability::Replicated);
    scene.appended(20);
    scene.fetched(2, 20, 10);
    scene.fetched(3, 17, 10);
    assert_eq!(scene.high_watermark(), 17);
}

#[test]
fn a_report_of_a_sync_counts_only_as_far_as_the_logs_were_seen_to_agree() {
    let mut scene = Scene::new(&[1, 2]);
    scene.wrote(20);
    let report = |to| SyncReport {
        replica: NodeId(2),
        broker_epoch: broker_epoch(2),
        leader_epoch: EPOCH,
        synced_offset: Offset(to),
    };
    scene.leader.sync_reported(&report(20), 0, &mut scene.out);
    assert_eq!(
        scene.high_watermark(),
        8,
        "it has not fetched in this epoch"
    );
    scene.fetched(2, 15, 11);
    scene.leader.sync_reported(&report(20), 0, &mut scene.out);
    assert_eq!(scene.high_watermark(), 15);
}

#[test]
fn a_position_of_another_leader_epoch_or_incarnation_does_not_count() {
    let mut scene = Scene::new(&[1, 2]);
    scene.wrote(20);
    let mut request = scene.request(2, 20, 20);
    request.leader_epoch = LeaderEpoch(4);
    assert_eq!(scene.ask(&request), FetchVerdict::FencedLeaderEpoch);
    request.leader_epoch = LeaderEpoch(6);
    assert_eq!(scene.ask(&request), FetchVerdict::UnknownLeaderEpoch);
    let mut request = scene.request(2, 20, 20);
    request.broker_epoch = BrokerEpoch(19);
    assert_eq!(scene.ask(&request), FetchVerdict::StaleBrokerEpoch);
    assert_eq!(scene.high_watermark(), 8);
}

#[test]
fn an_incarnation_newer_than_the_news_may_read_and_makes_its_predecessor_worthless() {
    let mut scene = Scene::new(&[1, 2]);
    scene.wrote(20);
    scene.fetched(2, 15, 12);
    assert_eq!(scene.high_watermark(), 12);
    let mut request = scene.request(2, 20, 20);
    request.broker_epoch = BrokerEpoch(21);
    assert!(matches!(scene.ask(&request), FetchVerdict::Serve { .. }));
    let report = SyncReport {
        replica: NodeId(2),
        broker_epoch: broker_epoch(2),
        leader_epoch: EPOCH,
        synced_offset: Offset(15),
    };
    scene.leader.sync_reported(&report, 0, &mut scene.out);
    assert_eq!(scene.high_watermark(), 12);
}

#[test]
fn both_the_present_and_the_proposed_set_hold_the_high_watermark() {
    let mut scene = Scene::new(&[1, 2, 3]);
    scene.fetched(2, 10, 10);
    scene.fetched(3, 10, 10);
    scene.wrote(20);
    scene.fetched(2, 20, 20);
    scene.pass(2_500);
    let proposed = scene.proposed();
    assert!(!proposed.is_empty() && proposed.iter().all(|set| *set == [1, 2]));
    assert_eq!(
        scene.high_watermark(),
        10,
        "3 is still in sync for all that is known"
    );
    scene.decides(&[1, 2], 2);
    assert_eq!(scene.high_watermark(), 20);
}

#[test]
fn a_proposed_member_holds_the_high_watermark_at_once() {
    let mut scene = Scene::new(&[1, 2]);
    scene.wrote(20);
    scene.fetched(2, 20, 20);
    scene.fetched(3, 20, 20);
    assert_eq!(scene.proposed(), [[1, 2, 3]]);
    scene.wrote(30);
    scene.fetched(2, 30, 30);
    assert_eq!(scene.high_watermark(), 20);
    scene.answers(1, Err(Refusal::NotTaken));
    assert_eq!(scene.high_watermark(), 30);
}

#[test]
fn while_news_are_awaited_the_proposal_goes_on_counting() {
    let mut scene = Scene::new(&[1, 2]);
    scene.wrote(20);
    scene.fetched(2, 20, 20);
    scene.fetched(3, 20, 20);
    scene.wrote(30);
    scene.fetched(2, 30, 30);
    scene.answers(1, Err(Refusal::Superseded));
    assert_eq!(scene.high_watermark(), 20);
    scene.decides(&[1, 2], 2);
    assert_eq!(scene.high_watermark(), 30);
}

#[test]
fn nothing_is_committed_while_too_few_are_in_sync() {
    let mut scene = Scene::new(&[1]);
    assert!(scene.leader.may_append().is_err());
    scene.wrote(20);
    assert_eq!(scene.high_watermark(), 8);
    assert!(matches!(
        scene.leader.acknowledgement(Offset(20)),
        Acknowledgement::NotEnoughReplicasAfterAppend(NotEnoughReplicas {
            in_sync: 1,
            needed: 2
        })
    ));
    assert_eq!(
        scene.leader.acknowledgement(Offset(8)),
        Acknowledgement::Done
    );
}

#[test]
fn a_replica_joins_only_at_the_start_of_the_epoch_and_after_a_fetch_in_it() {
    let mut scene = Scene::new(&[1]);
    scene.fetched(3, 9, 9);
    assert_eq!(
        scene.proposed(),
        Vec::<Vec<i32>>::new(),
        "the high watermark is not enough"
    );
    scene.fetched(3, 10, 9);
    assert_eq!(
        scene.proposed(),
        Vec::<Vec<i32>>::new(),
        "fetched is not synced"
    );
    scene.fetched(3, 10, 10);
    assert_eq!(scene.proposed(), [[1, 3]]);
}

#[test]
fn a_fenced_broker_is_not_proposed() {
    let mut scene = Scene::new(&[1, 2]);
    let mut fenced = brokers();
    fenced.get_mut(&NodeId(3)).unwrap().eligible = false;
    scene
        .leader
        .metadata_changed(&state(&[1, 2], 1), &fenced, 0, &mut scene.out);
    scene.fetched(3, 10, 10);
    assert_eq!(scene.proposed(), Vec::<Vec<i32>>::new());
}

#[test]
fn one_proposal_is_out_at_a_time_and_sent_again_unchanged() {
    let mut scene = Scene::new(&[1]);
    scene.fetched(3, 10, 10);
    scene.fetched(2, 10, 10);
    assert_eq!(scene.proposed(), [[1, 3]]);
    scene.pass(600);
    assert_eq!(scene.proposed(), [[1, 3]]);
    let decision = InSyncDecision {
        partition_epoch: PartitionEpoch(2),
        in_sync: vec![NodeId(1), NodeId(3)],
    };
    scene.answers(1, Ok(decision));
    assert_eq!(scene.proposed(), [[1, 2, 3]]);
}

#[test]
fn after_a_refusal_it_waits_before_it_tries_again() {
    let mut scene = Scene::new(&[1]);
    scene.fetched(3, 10, 10);
    scene.answers(1, Err(Refusal::NotTaken));
    assert_eq!(scene.proposed(), [[1, 3]]);
    scene.pass(400);
    assert_eq!(scene.proposed(), Vec::<Vec<i32>>::new());
    scene.pass(100);
    assert_eq!(scene.proposed(), [[1, 3]]);
}

#[test]
fn a_late_answer_to_an_earlier_proposal_changes_nothing() {
    let mut scene = Scene::new(&[1]);
    scene.fetched(3, 10, 10);
    scene.decides(&[1, 3], 2);
    scene.fetched(2, 10, 10);
    scene.proposed();
    scene.answers(1, Err(Refusal::NotTaken));
    assert_eq!(scene.leader.maximal_in_sync(), [1, 2, 3].map(NodeId));
}

#[test]
fn older_decisions_are_ignored() {
    let mut scene = Scene::new(&[1, 2]);
    scene.decides(&[1, 2, 3], 1);
    assert_eq!(scene.leader.in_sync(), [1, 2].map(NodeId));
}

#[test]
fn a_slow_disk_is_put_out_after_the_lag_and_one_at_a_time() {
    let mut scene = Scene::new(&[1, 2, 3]);
    scene.fetched(2, 10, 10);
    scene.fetched(3, 10, 10);
    scene.wrote(20);
    scene.fetched(2, 20, 12);
    scene.fetched(3, 20, 11);
    scene.pass(1_900);
    assert_eq!(scene.proposed(), Vec::<Vec<i32>>::new());
    scene.pass(200);
    let first = scene.proposed();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].len(), 2);
    scene.decides(&first[0], 2);
    scene.pass(1_800);
    assert_eq!(
        scene.proposed(),
        Vec::<Vec<i32>>::new(),
        "the next one gets its time"
    );
    scene.pass(300);
    assert_eq!(scene.proposed()[0], [1]);
}

#[test]
fn who_has_everything_is_in_sync_however_long_it_was_silent() {
    let mut scene = Scene::new(&[1, 2]);
    scene.fetched(2, 10, 10);
    scene.pass(10_000);
    assert_eq!(scene.proposed(), Vec::<Vec<i32>>::new());
}

#[test]
fn a_leader_that_slept_blames_nobody() {
    let mut scene = Scene::new(&[1, 2]);
    scene.fetched(2, 10, 10);
    scene.wrote(20);
    scene.now_ms += 60_000;
    scene.pass(100);
    assert_eq!(scene.proposed(), Vec::<Vec<i32>>::new());
    scene.pass(2_200);
    assert_eq!(scene.proposed()[0], [1]);
}

#[test]
fn a_clock_that_goes_back_evicts_nobody() {
    let mut scene = Scene::new(&[1, 2]);
    scene.now_ms = 50_000;
    scene.fetched(2, 10, 10);
    scene.now_ms = 10_000;
    scene.wrote(20);
    scene.pass(3_000);
    assert_eq!(scene.proposed(), Vec::<Vec<i32>>::new());
}

#[test]
fn a_leader_with_a_slow_disk_gives_up_if_another_could_lead() {
    for (in_sync, expected) in [(&[1, 2][..], true), (&[1], false)] {
        let mut scene = Scene::new(in_sync);
        scene.appended(20);
        for _ in 0..30 {
            scene.pass(100);
            scene.fetched(2, 20, 20);
        }
        let gives_up = scene
            .out
            .iter()
            .any(|command| matches!(command, LeaderCommand::GiveUpLeadership { .. }));
        assert_eq!(gives_up, expected, "{in_sync:?}");
    }
}

#[test]
fn a_log_that_parts_is_told_the_epoch_and_its_end() {
    let mut scene = Scene::new(&[1, 2]);
    scene.wrote(20);
    let mut ask = |fetched, last_epoch| {
        let mut request = scene.request(2, fetched, 0);
        request.last_epoch = LeaderEpoch(last_epoch);
        scene.ask(&request)
    };
    let diverging = |epoch, end| FetchVerdict::Diverging {
        epoch: LeaderEpoch(epoch),
        end_offset: Offset(end),
    };
    assert_eq!(ask(9, 3), diverging(2, 6), "an epoch that never was here");
    assert_eq!(ask(8, 2), diverging(2, 6), "more of an epoch than there is");
    assert!(matches!(ask(6, 2), FetchVerdict::Serve { .. }));
    assert_eq!(ask(25, 5), diverging(5, 20));
    assert!(matches!(ask(0, -1), FetchVerdict::Serve { .. }));
}

#[test]
fn an_epoch_without_records_here_ends_where_this_leadership_began() {
    let mut scene = Scene::new(&[1, 2]);
    scene.history.entries = vec![(LeaderEpoch(2), Offset(0)), (LeaderEpoch(3), Offset(6))];
    let mut request = scene.request(2, 14, 14);
    request.last_epoch = LeaderEpoch(4);
    assert_eq!(
        scene.ask(&request),
        FetchVerdict::Diverging {
            epoch: LeaderEpoch(3),
            end_offset: Offset(10)
        }
    );
    assert_eq!(scene.high_watermark(), 8, "what parts does not count");
}

#[test]
fn who_asks_for_what_was_deleted_begins_at_the_log_start() {
    let mut scene = Scene::new(&[1, 2]);
    scene.leader.log_start_moved(Offset(7), &mut scene.out);
    let expected = FetchVerdict::OutOfRange {
        log_start: Offset(7),
    };
    assert_eq!(scene.fetched(2, 6, 6), expected);
    let mut request = scene.request(2, 0, 0);
    request.last_epoch = LeaderEpoch::NONE;
    assert_eq!(scene.ask(&request), expected);
    request.fetch_offset = Offset(99);
    assert_eq!(scene.ask(&request), expected);
}

#[test]
fn strangers_are_not_served() {
    let mut scene = Scene::new(&[1, 2]);
    assert_eq!(scene.fetched(4, 10, 10), FetchVerdict::NotReplica);
}
