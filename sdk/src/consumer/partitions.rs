//! The consumer's partitions: where each stands and what it waits for.
//!
//! Owned by the consumer, touched by one poll at a time; knows no socket. Each start of fetching gets
//! a new session, so that whatever is still under way from before, a seek or a fault for instance,
//! is recognised as stale by its number alone.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use conveyor_record::{LeaderEpoch, NodeId, Offset};

use super::config::IsolationLevel;
use super::inbox::{FetchSession, Watermarks};
use super::resolver::{Answer, Question, StartFrom};
use super::topic_partition::TopicPartition;

const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) session: FetchSession,
    /// How to find the position while there is none.
    start: StartFrom,
    /// The next record to take out of what has been fetched.
    position: Option<Offset>,
    /// The next record that the caller has not been given, and the epoch of the last one given.
    consumed: Option<(Offset, LeaderEpoch)>,
    pub(super) paused: bool,
    stage: Stage,
    refresh_leader: bool,
    retry_at: Option<Instant>,
    failures: u32,
    watermarks: Option<Watermarks>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for the resolver to be asked.
    Unplaced,
    /// The resolver is at it.
    Asked,
    /// This node sends.
    Fetching(NodeId),
}

/// A partition that is to be fetched from a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) node: NodeId,
    pub(super) session: FetchSession,
    pub(super) partition: TopicPartition,
    pub(super) offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
}

impl Partition {
    fn new(session: FetchSession, start: StartFrom, position: Option<Offset>) -> Self {
        Self {
            session,
            start,
            position,
            consumed: position.map(|position| (position, LeaderEpoch::NONE)),
            paused: false,
            stage: Stage::Unplaced,
            refresh_leader: false,
            retry_at: None,
            failures: 0,
            watermarks: None,
        }
    }

    /// The next record to be handed to the caller; `None` until it has been found out.
    pub(super) fn consumed(&self) -> Option<(Offset, LeaderEpoch)> {
        self.consumed
    }

    pub(super) fn set_consumed(&mut self, offset: Offset, leader_epoch: LeaderEpoch) {
        self.consumed = Some((offset, leader_epoch));
    }

    pub(super) fn position(&self) -> Option<Offset> {
        self.position
    }

    /// Records up to `position` have been taken out of what was fetched.
    pub(super) fn advance(&mut self, position: Offset) {
        self.position = Some(position);
        self.failures = 0;
    }

    pub(super) fn high_watermark(&self) -> Offset {
        self.watermarks
            .map_or(Offset::NONE, |marks| Offset(marks.high_watermark))
    }

    pub(super) fn set_watermarks(&mut self, watermarks: Watermarks) {
        if watermarks.high_watermark >= 0 {
            self.watermarks = Some(watermarks);
        }
    }

    /// Records not consumed yet, as far as is known.
    pub(super) fn lag(&self, isolation_level: IsolationLevel) -> Option<i64> {
        let marks = self.watermarks?;
        let (consumed, _) = self.consumed?;
        let end = match isolation_level {
            IsolationLevel::ReadUncommitted => marks.high_watermark,
            IsolationLevel::ReadCommitted => marks.last_stable_offset,
        };
        Some((end - consumed.value()).max(0))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.stage == Stage::Unplaced
            && !(self.paused && self.position.is_some())
            && self.retry_at.is_none_or(|at| at <= now)
    }

    fn back_off(&mut self, now: Instant) {
        let wait = RETRY_MIN * (1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + wait.min(RETRY_MAX));
        self.stage = Stage::Unplaced;
    }
}

/// All partitions of a consumer.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    table: BTreeMap<TopicPartition, Partition>,
    by_session: HashMap<FetchSession, TopicPartition>,
    last_session: FetchSession,
}

impl Partitions {
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &TopicPartition> {
        self.table.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Partition)> {
        self.table.iter()
    }

    pub(super) fn get(&self, name: &TopicPartition) -> Option<&Partition> {
        self.table.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &TopicPartition) -> Option<&mut Partition> {
        self.table.get_mut(name)
    }

    /// The partition of a session that is not stale.
    pub(super) fn by_session(
        &mut self,
        session: FetchSession,
    ) -> Option<(&TopicPartition, &mut Partition)> {
        let name = self.by_session.get(&session)?;
        Some((name, self.table.get_mut(name)?))
    }

    /// Adds a partition, at `position` or where `start` leads.
    pub(super) fn insert(
        &mut self,
        name: TopicPartition,
        start: StartFrom,
        position: Option<Offset>,
    ) {
        self.remove(&name);
        let session = self.next_session();
        self.by_session.insert(session, name.clone());
        self.table
            .insert(name, Partition::new(session, start, position));
    }

    /// Forgets a partition; returns the node that fetched it.
    pub(super) fn remove(&mut self, name: &TopicPartition) -> Option<NodeId> {
        let partition = self.table.remove(name)?;
        self.by_session.remove(&partition.session);
        node_of(&partition)
    }

    /// Makes everything under way stale and begins anew, at the place the caller has got to or at
    /// another. Returns the node that fetched it.
    pub(super) fn restart(
        &mut self,
        name: &TopicPartition,
        position: Option<Offset>,
    ) -> Option<NodeId> {
        let session = self.next_session();
        let partition = self.table.get_mut(name)?;
        self.by_session.remove(&partition.session);
        self.by_session.insert(session, name.clone());
        let node = node_of(partition);
        partition.session = session;
        partition.stage = Stage::Unplaced;
        partition.retry_at = None;
        match position {
            Some(position) => {
                partition.position = Some(position);
                partition.consumed = Some((position, LeaderEpoch::NONE));
            }
            None => partition.position = partition.consumed.map(|(offset, _)| offset),
        }
        node
    }

    /// Looks for another position: what is committed.
    pub(super) fn forget_position(&mut self, name: &TopicPartition) {
        if let Some(partition) = self.table.get_mut(name) {
            partition.start = StartFrom::Committed;
            partition.position = None;
            partition.consumed = None;
        }
    }

    /// Looks for another position by the reset policy.
    pub(super) fn reset(&mut self, name: &TopicPartition) {
        if let Some(partition) = self.table.get_mut(name) {
            partition.start = StartFrom::Reset;
            partition.position = None;
            partition.consumed = None;
        }
    }

    /// After a fault: ask for the leader again, after a while.
    pub(super) fn retry_later(&mut self, name: &TopicPartition, now: Instant) {
        if let Some(partition) = self.table.get_mut(name) {
            partition.refresh_leader = true;
            partition.back_off(now);
        }
    }

    /// The partitions fetched from a node.
    pub(super) fn fetched_from(&self, node: NodeId) -> Vec<TopicPartition> {
        let there =
            |(_, partition): &(&TopicPartition, &Partition)| node_of(partition) == Some(node);
        self.table
            .iter()
            .filter(there)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// What the resolver is to find out now.
    pub(super) fn questions(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        for (name, partition) in &mut self.table {
            if partition.is_due(now) {
                partition.stage = Stage::Asked;
                questions.push(Question {
                    session: partition.session,
                    partition: name.clone(),
                    start: partition.position.is_none().then_some(partition.start),
                    refresh_leader: partition.refresh_leader,
                });
            }
        }
        questions
    }

    /// When there will be something to ask.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let waiting = |partition: &&Partition| partition.stage == Stage::Unplaced;
        self.table
            .values()
            .filter(waiting)
            .filter_map(|partition| partition.retry_at)
            .min()
    }

    /// Takes in an answer; returns what is to be fetched, unless the session is stale or the
    /// partition paused.
    pub(super) fn answered(&mut self, session: FetchSession, answer: Answer) -> Option<Placement> {
        let (name, partition) = self.by_session(session)?;
        if let (None, Some(offset)) = (partition.position, answer.offset) {
            partition.position = Some(offset);
            partition.consumed = Some((offset, LeaderEpoch::NONE));
        }
        partition.refresh_leader = false;
        partition.retry_at = None;
        let offset = partition.position?;
        if partition.paused {
            partition.stage = Stage::Unplaced;
            return None;
        }
        partition.stage = Stage::Fetching(answer.node);
        Some(Placement {
            node: answer.node,
            session,
            partition: name.clone(),
            offset,
            leader_epoch: answer.leader_epoch,
        })
    }

    /// The resolver failed for this session: try again after a while.
    pub(super) fn unanswered(&mut self, session: FetchSession, now: Instant) {
        if let Some((_, partition)) = self.by_session(session) {
            partition.refresh_leader = true;
            partition.back_off(now);
        }
    }

    fn next_session(&mut self) -> FetchSession {
        self.last_session += 1;
        self.last_session
    }
}

fn node_of(partition: &Partition) -> Option<NodeId> {
    match partition.stage {
        Stage::Fetching(node) => Some(node),
        Stage::Unplaced | Stage::Asked => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    fn name() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn answer(offset: Option<i64>) -> Answer {
        Answer {
            node: NODE,
            leader_epoch: LeaderEpoch(0),
            offset: offset.map(Offset),
        }
    }

    fn asked(partitions: &mut Partitions) -> Question {
        let mut questions = partitions.questions(Instant::now());
        assert_eq!(questions.len(), 1);
        questions.remove(0)
    }

    #[test]
    fn a_new_partition_asks_for_its_offset_and_is_fetched_from_there() {
        let mut partitions = Partitions::default();
        partitions.insert(name(), StartFrom::Committed, None);
        let question = asked(&mut partitions);
        assert_eq!(question.start, Some(StartFrom::Committed));
        assert!(
            partitions.questions(Instant::now()).is_empty(),
            "asked once"
        );
        let placement = partitions
            .answered(question.session, answer(Some(7)))
            .unwrap();
        assert_eq!((placement.node, placement.offset), (NODE, Offset(7)));
        assert_eq!(
            partitions.get(&name()).unwrap().consumed().unwrap().0,
            Offset(7)
        );
    }

    #[test]
    fn answers_to_a_session_before_a_seek_are_stale() {
        let mut partitions = Partitions::default();
        partitions.insert(name(), StartFrom::Committed, None);
        let before = asked(&mut partitions);
        partitions.restart(&name(), Some(Offset(99)));
        assert_eq!(partitions.answered(before.session, answer(Some(7))), None);
        assert!(partitions.by_session(before.session).is_none());
        let after = asked(&mut partitions);
        assert_eq!(after.start, None, "the offset is known");
        assert_eq!(
            partitions
                .answered(after.session, answer(None))
                .unwrap()
                .offset,
            Offset(99)
        );
    }

    #[test]
    fn a_restart_without_an_offset_goes_back_to_what_the_caller_has_got() {
        let mut partitions = Partitions::default();
        partitions.insert(name(), StartFrom::Reset, Some(Offset(10)));
        let partition = partitions.get_mut(&name()).unwrap();
        partition.advance(Offset(50));
        partition.set_consumed(Offset(20), LeaderEpoch(1));
        partitions.restart(&name(), None);
        assert_eq!(
            partitions.get(&name()).unwrap().position(),
            Some(Offset(20))
        );
    }

    #[test]
    fn a_paused_partition_finds_its_position_but_is_not_fetched() {
        let mut partitions = Partitions::default();
        partitions.insert(name(), StartFrom::Reset, None);
        partitions.get_mut(&name()).unwrap().paused = true;
        let question = asked(&mut partitions);
        assert_eq!(partitions.answered(question.session, answer(Some(3))), None);
        assert!(partitions.questions(Instant::now()).is_empty());
        partitions.get_mut(&name()).unwrap().paused = false;
        assert_eq!(asked(&mut partitions).start, None);
    }

    #[test]
    fn after_a_failure_the_question_comes_again_later() {
        let mut partitions = Partitions::default();
        partitions.insert(name(), StartFrom::Reset, Some(Offset(0)));
        let question = asked(&mut partitions);
        let now = Instant::now();
        partitions.unanswered(question.session, now);
        assert!(partitions.questions(now).is_empty());
        let at = partitions.next_retry().unwrap();
        let again = partitions.questions(at);
        assert!(again[0].refresh_leader);
    }

    #[test]
    fn lag_counts_to_the_end_that_the_isolation_level_sees() {
        let mut partitions = Partitions::default();
        partitions.insert(name(), StartFrom::Reset, Some(Offset(10)));
        let partition = partitions.get_mut(&name()).unwrap();
        assert_eq!(partition.lag(IsolationLevel::ReadUncommitted), None);
        partition.set_watermarks(Watermarks {
            high_watermark: 30,
            last_stable_offset: 25,
            log_start_offset: 0,
        });
        assert_eq!(partition.lag(IsolationLevel::ReadUncommitted), Some(20));
        assert_eq!(partition.lag(IsolationLevel::ReadCommitted), Some(15));
    }
}
