//! What a person asks a running projection to do: commands of the control topic, carried out between
//! two polls by the owner of the partition that they are about.

use std::collections::BTreeMap;
use std::time::Duration;

use conveyor_record::Offset;
use tokio::time::Instant;

use super::Driver;
use super::control::Control;
use super::error_topic::ErrorTopic;
use super::ownership::Ownership;
use crate::applier::BatchError;
use crate::applier::mend::{Claimed, Discarded, Redriven};
use crate::control::{Action, Command, Outcome, ParkedSummary, Place};
use crate::projection::Projection;
use crate::record::Decoder;

/// Keys of one answer.
const LISTED_MAX: usize = 500;
/// Bytes of the records of one answer, about.
const SHOWN_BYTES_MAX: usize = 256 * 1024;

/// How often a redrive that goes on tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// With a rate, how much of what a slow store has cost may be made up for.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);

/// Redrives that are under way, by the id of their command.
pub(super) type Redrives = BTreeMap<String, Redrive>;

/// A redrive that is under way.
#[derive(Debug)]
pub(super) struct Redrive {
    /// Records applied so far.
    applied: usize,
    /// Records that still wait.
    waiting: usize,
    /// When the next step may be taken.
    next: Instant,
    /// When it was last told how far it is.
    told: Instant,
}

impl Redrive {
    fn begun() -> Self {
        let now = Instant::now();
        Self {
            applied: 0,
            waiting: 0,
            next: now,
            told: now,
        }
    }

    /// The next step is taken when so many records of `rate` a second are worked off.
    fn pace(&mut self, applied: usize, rate: u32) {
        let earliest = Instant::now().checked_sub(CATCH_UP_MAX);
        let from = earliest.map_or(self.next, |earliest| self.next.max(earliest));
        self.next = from + Duration::from_secs_f64(applied as f64 / f64::from(rate.max(1)));
    }

    /// How far it is, when it is time to tell.
    fn news(&mut self) -> Option<Outcome> {
        if self.told.elapsed() < TELL_EVERY {
            return None;
        }
        self.told = Instant::now();
        Some(Outcome::Redriving {
            applied: self.applied,
            waiting: self.waiting,
        })
    }
}

impl<P: Projection, D: Decoder<Event = P::Event>> Driver<P, D> {
    /// Takes one step of each command that is ours; whether some go on at once.
    pub(super) async fn carry_out(
        &self,
        control: &Control,
        redrives: &mut Redrives,
        owned: &Ownership,
        sink: &ErrorTopic,
    ) -> Result<bool, BatchError> {
        let mut more = false;
        let commands = control.commands();
        redrives.retain(|id, _| commands.iter().any(|(standing, _)| standing == id));
        for (id, Command { action, .. }) in commands {
            let Some(place) = action.place() else {
                let listed = self.list(owned).await?;
                control.answer(&id, listed, false).await;
                continue;
            };
            let Some(claim) = owned.get(&place.topic_partition()) else {
                continue;
            };
            let Some(position) = claim.next_offset else {
                control.answer(&id, Outcome::NotParked, true).await;
                continue;
            };
            let claimed = Claimed {
                topic_partition: place.topic_partition(),
                position,
                owner_epoch: claim.owner_epoch,
            };
            let outcome = match &action {
                Action::List => None,
                Action::Show { place, records_max } => {
                    Some(self.show(place, &claimed, *records_max).await?)
                }
                Action::Redrive {
                    place,
                    records_per_second,
                } => {
                    let redrive = redrives.entry(id.clone()).or_insert_with(Redrive::begun);
                    let rate = *records_per_second;
                    let ended = self
                        .redrive_step(redrive, place, &claimed, rate, sink)
                        .await?;
                    if let (None, Some(news)) = (&ended, redrive.news()) {
                        control.tell(&id, news).await;
                    }
                    ended
                }
                Action::Discard { place, head, all } => Some(
                    self.discard(place, &claimed, Offset(*head), *all, sink)
                        .await?,
                ),
            };
            match outcome {
                Some(outcome) => {
                    redrives.remove(&id);
                    control.answer(&id, outcome, true).await;
                }
                None => more = true,
            }
        }
        let (keys, records) = self.applier.parked().counts();
        self.status.update(|s| {
            s.parked_keys = keys;
            s.parked_records = records;
        });
        Ok(more)
    }

    async fn list(&self, owned: &Ownership) -> Result<Outcome, BatchError> {
        let partitions = owned.names();
        let parked = self.applier.parked();
        self.applier.learn_parked(&*self.store, &partitions).await?;
        let mut keys = Vec::new();
        for partition in &partitions {
            if let Some(known) = parked.of(partition) {
                keys.extend(known.iter().map(|key| ParkedSummary::new(partition, key)));
            }
        }
        keys.sort_by(|left, right| left.place.cmp(&right.place));
        let more = keys.len().saturating_sub(LISTED_MAX);
        keys.truncate(LISTED_MAX);
        Ok(Outcome::Listed { keys, more })
    }

    async fn show(
        &self,
        place: &Place,
        claimed: &Claimed,
        records_max: usize,
    ) -> Result<Outcome, BatchError> {
        let partition = &claimed.topic_partition;
        self.applier.learn_parked(&*self.store, [partition]).await?;
        let known = self.applier.parked().of(partition);
        let key = known.and_then(|known| known.find(Offset(place.parked_at)).cloned());
        let Some(key) = key else {
            return Ok(Outcome::NotParked);
        };
        let wanted = &key.queue[..key.queue.len().min(records_max)];
        let mut bytes = 0;
        let mut shown = Vec::new();
        for record in self
            .applier
            .read_waiting(claimed, wanted, &*self.store)
            .await?
        {
            bytes += record.size_bytes();
            // The head is always shown.
            if bytes > SHOWN_BYTES_MAX && !shown.is_empty() {
                break;
            }
            shown.push(crate::parked::shown(&record));
        }
        Ok(Outcome::Shown {
            key: ParkedSummary::new(partition, &key),
            records: shown,
        })
    }

    /// One step of a redrive; what came of it, once it has ended.
    async fn redrive_step(
        &self,
        redrive: &mut Redrive,
        place: &Place,
        claimed: &Claimed,
        records_per_second: Option<u32>,
        sink: &ErrorTopic,
    ) -> Result<Option<Outcome>, BatchError> {
        if Instant::now() < redrive.next {
            return Ok(None);
        }
        // Ten steps a second where there is a limit.
        let step = match records_per_second {
            Some(rate) => (rate.div_ceil(10).max(1)) as usize,
            None => self.config.batch_records_max,
        };
        let parked_at = Offset(place.parked_at);
        let redriven = self
            .applier
            .redrive(claimed, parked_at, step, &*self.store, sink)
            .await?;
        let (applied, ended) = match redriven {
            Redriven::NotParked if redrive.applied == 0 => return Ok(Some(Outcome::NotParked)),
            Redriven::NotParked => (0, Some((0, None))),
            Redriven::Done { applied } => (applied, Some((0, None))),
            Redriven::More { applied, waiting } => {
                redrive.waiting = waiting;
                (applied, None)
            }
            Redriven::Failed {
                applied,
                at,
                reason,
                waiting,
            } => (
                applied,
                Some((waiting, Some(format!("record {at}: {reason}")))),
            ),
        };
        redrive.applied += applied;
        self.status.update(|s| s.records_redriven += applied as u64);
        if let Some(rate) = records_per_second {
            redrive.pace(applied, rate);
        }
        Ok(ended.map(|(waiting, failed)| Outcome::Redriven {
            applied: redrive.applied,
            waiting,
            failed,
        }))
    }

    async fn discard(
        &self,
        place: &Place,
        claimed: &Claimed,
        head: Offset,
        all: bool,
        sink: &ErrorTopic,
    ) -> Result<Outcome, BatchError> {
        let parked_at = Offset(place.parked_at);
        let discarded = self
            .applier
            .discard(claimed, parked_at, head, all, &*self.store, sink)
            .await?;
        Ok(match discarded {
            Discarded::NotParked => Outcome::NotParked,
            Discarded::OtherHead(now) => Outcome::Refused {
                reason: format!(
                    "record {head} is not at the head of {place}, record {now} is: it was discarded \
                     or redriven before"
                ),
            },
            Discarded::Done { records, waiting } => Outcome::Discarded { records, waiting },
        })
    }
}
