//! How far one follower has come, as far as its leader may believe it.

use conveyor_record::{BrokerEpoch, Offset, mutants};

use crate::config::Durability;

/// One follower in one leadership. Positions only grow: within a leadership a follower that has once
/// agreed with the leader's log cuts nothing any more, and a new incarnation begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// The incarnation that said so; none before the first fetch.
    broker_epoch: BrokerEpoch,
    /// It has fetched in this leadership, and its log agreed with the leader's up to here.
    agreed: Option<Offset>,
    /// All below is on its disk; at most `agreed`.
    synced: Offset,
    /// When its counted position was last known to be the leader's end.
    caught_up_ms: i64,
    /// Time of the last word from it, and the leader's end at that time.
    last_word: Option<(i64, Offset)>,
}

impl Progress {
    pub(super) const fn new(now_ms: i64) -> Self {
        Self {
            broker_epoch: BrokerEpoch::NONE,
            agreed: None,
            synced: Offset::ZERO,
            caught_up_ms: now_ms,
            last_word: None,
        }
    }

    pub(super) const fn broker_epoch(&self) -> BrokerEpoch {
        self.broker_epoch
    }

    /// Forgets everything if `broker_epoch` is another incarnation than the one that spoke so far.
    pub(super) fn incarnation(&mut self, broker_epoch: BrokerEpoch) {
        if self.broker_epoch != broker_epoch {
            *self = Self {
                broker_epoch,
                ..Self::new(self.caught_up_ms)
            };
        }
    }

    /// The follower's log agrees with the leader's below `to`.
    pub(super) fn agreed_to(&mut self, to: Offset) {
        self.agreed = Some(self.agreed.map_or(to, |before| before.max(to)));
    }

    /// The follower's disk has everything below `to`. What the leader has not seen to agree does not
    /// count: it may be something else that lies there.
    pub(super) fn synced_to(&mut self, to: Offset) {
        if mutants::on("sync-counts-without-agreement") {
            self.synced = self.synced.max(to);
            self.agreed = Some(self.agreed.unwrap_or(Offset::ZERO));
        } else if let Some(agreed) = self.agreed {
            self.synced = self.synced.max(to.min(agreed));
        }
    }

    /// The position that counts, `None` before the first fetch of this leadership.
    pub(super) fn counted(&self, durability: Durability) -> Option<Offset> {
        let agreed = self.agreed?;
        Some(match durability {
            Durability::Fsync => self.synced,
            Durability::Replicated => agreed,
        })
    }

    /// Notes a word from it at `now_ms`, with the leader's log end at that time. As in Kafka, one who
    /// has now what was the end at its last word was caught up then.
    pub(super) fn heard(&mut self, now_ms: i64, leader_end: Offset, durability: Durability) {
        let counted = self.counted(durability);
        if counted >= Some(leader_end) {
            self.caught_up_ms = self.caught_up_ms.max(now_ms);
        } else if let Some((heard_ms, end)) = self.last_word
            && counted >= Some(end)
        {
            self.caught_up_ms = self.caught_up_ms.max(heard_ms);
        }
        self.last_word = Some((now_ms, leader_end));
    }

    /// Whether it has been behind the leader's end for more than `lag_ms`.
    pub(super) fn lags(
        &self,
        now_ms: i64,
        leader_end: Offset,
        lag_ms: i64,
        durability: Durability,
    ) -> bool {
        self.counted(durability) < Some(leader_end)
            && now_ms.saturating_sub(self.caught_up_ms) > lag_ms
    }

    /// When it last had everything.
    pub(super) const fn caught_up_ms(&self) -> i64 {
        self.caught_up_ms
    }

    /// The leader was asleep for so long: nobody can be blamed for that time.
    pub(super) fn forgive(&mut self, slept_ms: i64) {
        self.caught_up_ms = self.caught_up_ms.saturating_add(slept_ms);
    }

    /// It belongs to the in-sync set from now on, or a new leadership begins: its time counts anew.
    pub(super) fn give_time(&mut self, now_ms: i64) {
        self.caught_up_ms = self.caught_up_ms.max(now_ms);
    }
}
