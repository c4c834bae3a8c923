//! One poll: empties the inbox, answers the group, starts look-ups, decodes records.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_grpc::ErrorCode;
use conveyor_record::{LeaderEpoch, NodeId, Offset};

use super::committer::Offsets;
use super::decode::Progress;
use super::group_session::GroupNews;
use super::inbox::{Delivery, FetchSession, Fetched};
use super::listener::{Assigned, Revoked};
use super::node_stream::NodeStream;
use super::partitions::Placement;
use super::records::OffsetAndMetadata;
use super::resolver::StartFrom;
use super::{
    Consumer, ConsumerRecord, ConsumerRecords, LEAVE_TIMEOUT, OffsetReset, PartitionRecords,
    TopicPartition,
};
use crate::error::{Error, Result};
use crate::group::membership::AssignedPartition;

impl Consumer {
    /// Records that have not been returned before, as soon as there are any.
    pub(super) async fn next_records(&mut self, deadline: Instant) -> Result<ConsumerRecords> {
        if self.partitions.is_empty() && self.session.is_none() {
            return Err(super::conflict("subscribe or assign before polling"));
        }
        loop {
            self.rebalance().await?;
            if let Some(failure) = self.failure.take().or_else(|| self.refused.clone()) {
                return Err(failure);
            }
            let now = Instant::now();
            self.auto_commit(now);
            self.ask_resolver(now);
            let records = self.decode();
            if !records.is_empty() || now >= deadline {
                return Ok(records);
            }
            if self.failure.is_none() {
                self.wait(deadline).await;
            }
        }
    }

    /// Waits for news, the next look-up, the next auto commit or the deadline.
    async fn wait(&self, deadline: Instant) {
        let mut until = deadline;
        if let Some(retry) = self.partitions.next_retry() {
            until = until.min(retry);
        }
        if self.auto_commits() {
            until = until.min(self.next_auto_commit);
        }
        let arrived = tokio::time::timeout_at(until.into(), self.inbox.arrived());
        // Late or not: what there is to do is looked at next.
        _ = arrived.await;
    }

    /// Takes in what the tasks have delivered.
    fn empty_inbox(&mut self) {
        for delivery in self.inbox.take() {
            match delivery {
                Delivery::Records(fetched) => self.fetched.push_back(*fetched),
                Delivery::Fault {
                    session,
                    code,
                    message,
                } => self.on_fault(session, code, message),
                Delivery::Resolved(resolutions) => {
                    self.resolving = None;
                    for resolution in resolutions {
                        self.on_resolved(resolution.session, resolution.result);
                    }
                }
                Delivery::Group(news) => self.group_news.push_back(news),
                Delivery::NodeTrouble { node, error } => self.on_trouble(node, error),
            }
        }
        self.take_watermarks();
    }

    pub(super) fn take_watermarks(&mut self) {
        for (session, watermarks) in self.inbox.take_watermarks() {
            if let Some((_, partition)) = self.partitions.by_session(session) {
                partition.set_watermarks(watermarks);
            }
        }
    }

    fn on_fault(&mut self, session: FetchSession, code: ErrorCode, message: String) {
        let Some((name, _)) = self.partitions.by_session(session) else {
            return;
        };
        let name = name.clone();
        tracing::debug!(partition = %name, %code, message, "fetch session ended");
        let out_of_range = code == ErrorCode::OffsetOutOfRange;
        let reset = out_of_range && self.config.auto_offset_reset != OffsetReset::None;
        self.restart(&name, None);
        if reset {
            tracing::warn!(partition = %name, message, "position is outside the log, resetting it");
            self.partitions.reset(&name);
            return;
        }
        self.partitions.retry_later(&name, Instant::now());
        // Leaders move and logs open: time mends that. Damage and refusals are for the caller.
        if !code.is_retriable() || code == ErrorCode::CorruptMessage {
            let place = name.to_string();
            self.fail(Error::Broker {
                operation: "fetch from",
                place,
                code,
                message,
            });
        }
    }

    fn on_resolved(&mut self, session: FetchSession, result: Result<super::resolver::Answer>) {
        match result {
            Ok(answer) => {
                if let Some(placement) = self.partitions.answered(session, answer) {
                    self.fetch_from(placement);
                }
            }
            Err(error) => {
                if self.partitions.by_session(session).is_none() {
                    return;
                }
                self.partitions.unanswered(session, Instant::now());
                if error.is_retriable() {
                    tracing::debug!(%error, "look-up failed, trying again");
                } else {
                    self.fail(error);
                }
            }
        }
    }

    fn fetch_from(&mut self, placement: Placement) {
        let Placement {
            node,
            session,
            partition,
            offset,
            leader_epoch,
        } = placement;
        let stream = self.streams.entry(node).or_insert_with(|| {
            let inbox = Arc::clone(&self.inbox);
            NodeStream::start(
                self.client.clone(),
                node,
                self.stream_options.clone(),
                inbox,
            )
        });
        stream.assign(session, partition, offset, leader_epoch);
    }

    /// The leaders may have moved away from a node that cannot be reached.
    fn on_trouble(&mut self, node: NodeId, error: Error) {
        let partitions = self.partitions.fetched_from(node);
        if partitions.is_empty() {
            return;
        }
        tracing::warn!(%node, %error, "cannot fetch, looking for the leaders again");
        let now = Instant::now();
        for partition in &partitions {
            self.restart(partition, None);
            self.partitions.retry_later(partition, now);
        }
        if !error.is_retriable() {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    fn ask_resolver(&mut self, now: Instant) {
        if self.resolving.is_some() {
            return;
        }
        let questions = self.partitions.questions(now);
        if questions.is_empty() {
            return;
        }
        let resolver = self.resolver.clone();
        let inbox = Arc::clone(&self.inbox);
        self.resolving = Some(tokio::spawn(async move {
            let resolutions = resolver.resolve(questions).await;
            inbox.push(Delivery::Resolved(resolutions));
        }));
    }

    /// Decodes what has been fetched, up to `max_poll_records`.
    fn decode(&mut self) -> ConsumerRecords {
        let mut records = ConsumerRecords::default();
        let mut room = self.config.max_poll_records;
        while room > 0 {
            let Some(fetched) = self.fetched.front_mut() else {
                break;
            };
            let Some((name, partition)) = self.partitions.by_session(fetched.session) else {
                // From before a seek, a pause or a rebalance.
                self.fetched.pop_front();
                continue;
            };
            partition.set_watermarks(fetched.watermarks);
            let last_epoch = partition
                .consumed()
                .map_or(LeaderEpoch::NONE, |(_, epoch)| epoch);
            let mut progress = Progress {
                position: partition.position().unwrap_or_default(),
                leader_epoch: last_epoch,
            };
            let group = group_of(&mut records.partitions, name, fetched, progress);
            let before = group.records.len();
            let outcome =
                fetched
                    .chunk
                    .read(&mut self.decoder, &mut progress, room, &mut group.records);
            group.next_offset = progress.position;
            group.leader_epoch = progress.leader_epoch;
            group.high_watermark = partition.high_watermark();
            room -= group.records.len() - before;
            partition.advance(progress.position);
            if group.records.is_empty() {
                // Nothing but markers or records below the position: consumed all the same.
                partition.set_consumed(progress.position, progress.leader_epoch);
                records.partitions.pop();
            }
            match outcome {
                Ok(true) => _ = self.fetched.pop_front(),
                Ok(false) => {}
                Err(source) => {
                    let name = name.clone();
                    self.fetched.pop_front();
                    let place = format!("{name} at offset {}", progress.position);
                    self.fail(Error::Batch {
                        operation: "read batch of",
                        place,
                        source,
                    });
                    self.refetch(&name, progress);
                    break;
                }
            }
        }
        records
    }

    /// Fetches from the place that could not be read, after a while: the bytes may have been damaged
    /// on their way.
    fn refetch(&mut self, name: &TopicPartition, progress: Progress) {
        let consumed = self
            .partitions
            .get(name)
            .and_then(super::partitions::Partition::consumed);
        self.remove_from_stream(name);
        self.partitions.restart(name, Some(progress.position));
        if let (Some((offset, epoch)), Some(partition)) = (consumed, self.partitions.get_mut(name))
        {
            partition.set_consumed(offset, epoch);
        }
        self.partitions.retry_later(name, Instant::now());
    }

    /// Begins anew at `position`, or where the caller has got to; drops what has been fetched.
    pub(super) fn restart(&mut self, name: &TopicPartition, position: Option<Offset>) {
        self.remove_from_stream(name);
        self.undelivered
            .retain(|partition| partition.topic_partition != *name);
        self.partitions.restart(name, position);
    }

    /// Begins anew where the group has committed; drops what has been fetched.
    pub(super) fn forget_position(&mut self, name: &TopicPartition) {
        self.restart(name, None);
        self.partitions.forget_position(name);
    }

    pub(super) fn drop_partition(&mut self, name: &TopicPartition) {
        self.remove_from_stream(name);
        self.undelivered
            .retain(|partition| partition.topic_partition != *name);
        self.partitions.remove(name);
        self.streams.retain(|_, stream| !stream.is_idle());
    }

    fn remove_from_stream(&self, name: &TopicPartition) {
        for stream in self.streams.values() {
            stream.remove(name);
        }
    }

    pub(super) fn check_assigned(&self, partition: &TopicPartition) -> Result<()> {
        if self.partitions.get(partition).is_some() {
            return Ok(());
        }
        Err(super::conflict(&format!(
            "{partition} is not assigned to this consumer"
        )))
    }

    pub(super) fn mark_consumed(&mut self, records: &ConsumerRecords) {
        for group in &records.partitions {
            if let Some(partition) = self.partitions.get_mut(&group.topic_partition) {
                partition.set_consumed(group.next_offset, group.leader_epoch);
            }
        }
    }

    /// The next record of those polled before; their vectors are in reverse order.
    pub(super) fn next_undelivered(&mut self) -> Option<ConsumerRecord> {
        let group = self.undelivered.front_mut()?;
        let record = group.records.pop()?;
        let (name, epoch) = (group.topic_partition.clone(), group.leader_epoch);
        let next_offset = if group.records.is_empty() {
            group.next_offset
        } else {
            record.offset.next()
        };
        if group.records.is_empty() {
            self.undelivered.pop_front();
        }
        if let Some(partition) = self.partitions.get_mut(&name) {
            partition.set_consumed(next_offset, epoch);
        }
        Some(ConsumerRecord::new(&name, epoch, record))
    }

    /// Takes in news and does what the group asks for.
    pub(super) async fn rebalance(&mut self) -> Result<()> {
        self.empty_inbox();
        while let Some(news) = self.group_news.front().cloned() {
            match &news {
                GroupNews::Revoke(partitions) => self.on_revoke(partitions).await,
                GroupNews::Assign(partitions) => self.on_assign(partitions).await?,
                GroupNews::Lose(partitions) => self.on_lose(partitions).await,
                GroupNews::Failed(refused) => {
                    self.refused = Some(Error::Broker {
                        operation: "join group",
                        place: self.config.group_id.clone().unwrap_or_default(),
                        code: refused.code,
                        message: refused.message.clone(),
                    });
                }
                GroupNews::Left => self.has_left = true,
            }
            // Only now: a poll dropped half-way calls again.
            self.group_news.pop_front();
            if !matches!(news, GroupNews::Failed(_) | GroupNews::Left)
                && let Some(session) = &self.session
            {
                session.callback_done();
            }
        }
        Ok(())
    }

    async fn on_revoke(&mut self, partitions: &BTreeSet<AssignedPartition>) {
        let names = names_of(partitions);
        tracing::info!(group = ?self.config.group_id, partitions = ?Shown(&names), "giving up");
        for name in &names {
            self.restart(name, None);
            if let Some(partition) = self.partitions.get_mut(name) {
                partition.paused = true;
            }
        }
        if self.config.enable_auto_commit {
            let offsets = self.consumed_offsets(|name| names.contains(name));
            if let Err(error) = self.committer.commit_sync(offsets).await {
                tracing::warn!(%error, "cannot commit partitions that are given up");
            }
        }
        let positions: Vec<_> = names
            .iter()
            .map(|name| (name.clone(), self.position(name)))
            .collect();
        let revoked = Revoked {
            partitions: &positions,
            committer: &self.committer,
        };
        if let Err(error) = self.listener.on_revoked(revoked).await {
            tracing::warn!(%error, "rebalance listener failed on revocation");
        }
        for name in &names {
            self.drop_partition(name);
        }
    }

    async fn on_assign(&mut self, partitions: &BTreeSet<AssignedPartition>) -> Result<()> {
        let names = names_of(partitions);
        tracing::info!(group = ?self.config.group_id, partitions = ?Shown(&names), "taking");
        let assigned = Assigned {
            partitions: &names,
            member_epoch: self
                .identity
                .as_ref()
                .map_or(-1, |identity| identity.epoch()),
        };
        let starts = self.listener.on_assigned(assigned).await;
        let mut starts = starts.map_err(|error| Error::Listener {
            reason: error.to_string(),
        })?;
        for name in names {
            let position = starts.remove(&name);
            self.partitions.insert(name, StartFrom::Committed, position);
        }
        Ok(())
    }

    async fn on_lose(&mut self, partitions: &BTreeSet<AssignedPartition>) {
        let names = names_of(partitions);
        tracing::warn!(group = ?self.config.group_id, partitions = ?Shown(&names), "lost");
        for name in &names {
            self.drop_partition(name);
        }
        self.listener.on_lost(&names).await;
    }

    pub(super) fn consumed_offsets(&self, wanted: impl Fn(&TopicPartition) -> bool) -> Offsets {
        let consumed = self.partitions.iter().filter(|(name, _)| wanted(name));
        consumed
            .filter_map(|(name, partition)| {
                let (offset, leader_epoch) = partition.consumed()?;
                let committed = OffsetAndMetadata::new(offset).with_leader_epoch(leader_epoch);
                Some((name.clone(), committed))
            })
            .collect()
    }

    fn auto_commits(&self) -> bool {
        self.config.enable_auto_commit && self.identity.is_some()
    }

    /// Commits in the background when it is time.
    pub(super) fn auto_commit(&mut self, now: Instant) {
        if !self.auto_commits() || now < self.next_auto_commit {
            return;
        }
        self.next_auto_commit = now + Duration::from_millis(self.config.auto_commit_interval_ms);
        if !self.partitions.is_empty() {
            drop(self.commit_async());
        }
    }

    /// Commits, gives up everything and leaves.
    pub(super) async fn give_up(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        if let Some(session) = &self.session {
            session.close();
            let farewell = tokio::time::timeout(LEAVE_TIMEOUT, self.until_left()).await;
            outcome = farewell.unwrap_or(Ok(()));
        } else if self.auto_commits() && !self.partitions.is_empty() {
            outcome = self.commit_async().await;
        }
        self.session = None;
        self.has_left = false;
        self.refused = None;
        self.group_news = VecDeque::new();
        for name in self.assignment() {
            self.drop_partition(&name);
        }
        self.fetched.clear();
        self.streams.clear();
        outcome
    }

    async fn until_left(&mut self) -> Result<()> {
        loop {
            self.rebalance().await?;
            if self.has_left {
                return Ok(());
            }
            self.inbox.arrived().await;
        }
    }
}

/// The group of a poll's records for a partition, at the end of `groups` if it is new.
fn group_of<'a>(
    groups: &'a mut Vec<PartitionRecords>,
    name: &TopicPartition,
    fetched: &Fetched,
    progress: Progress,
) -> &'a mut PartitionRecords {
    let known = groups
        .iter()
        .position(|group| group.topic_partition == *name);
    let index = known.unwrap_or_else(|| {
        groups.push(PartitionRecords {
            topic_partition: name.clone(),
            position: progress.position,
            records: Vec::new(),
            next_offset: progress.position,
            leader_epoch: progress.leader_epoch,
            high_watermark: Offset(fetched.watermarks.high_watermark),
        });
        groups.len() - 1
    });
    &mut groups[index]
}

fn names_of(partitions: &BTreeSet<AssignedPartition>) -> Vec<TopicPartition> {
    let name = |partition: &AssignedPartition| {
        TopicPartition::new(Arc::clone(&partition.topic), partition.partition)
    };
    partitions.iter().map(name).collect()
}

/// Partitions in a log line.
struct Shown<'a>(&'a [TopicPartition]);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|name| format_args!("{name}").to_string()))
            .finish()
    }
}
