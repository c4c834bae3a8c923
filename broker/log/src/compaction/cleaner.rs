//! The cleaning itself: builds the key map, rewrites the segments. Touches nothing that is in use.

use std::io;
use std::sync::Arc;

use conveyor_record::{
    BatchHeader, BatchView, Compressor, Decompressor, Offset, RebuildOptions, Rebuilt,
    rebuild_batch,
};

use super::key_map::KeyMap;
use super::transactions::{Marker, WalkedTransactions};
use super::writer::SegmentWriter;
use super::{
    Cleaned, CleanedGroup, CompactionError, CompactionPlan, CompactionStats, remove_cleaned,
};
use crate::error::DiskError;
use crate::scan::BatchScanner;
use crate::segment::{Segment, SegmentError, scan_failed};

/// Settings of a cleaner.
#[derive(Debug, Clone, Copy)]
pub struct CleanerConfig {
    /// `log.cleaner.dedupe.buffer.size`: bytes of memory for the key map, 24 for each key at three
    /// quarters.
    pub dedupe_buffer_bytes: usize,
    /// The most bytes that a batch may decompress to.
    pub max_decompressed_bytes: usize,
}

impl Default for CleanerConfig {
    fn default() -> Self {
        Self {
            dedupe_buffer_bytes: 128 << 20,
            max_decompressed_bytes: 256 << 20,
        }
    }
}

/// Cleans one log after another with the same buffers.
#[derive(Debug)]
pub struct Cleaner {
    config: CleanerConfig,
    keys: KeyMap,
    compressor: Compressor,
    decompressor: Decompressor,
}

/// Called with the number of bytes read or written since the last call; `false` stops the cleaning.
/// The place to wait in, to keep to a rate.
pub type Progress<'a> = dyn FnMut(u64) -> bool + 'a;

/// A round of cleaning under way.
struct Round<'a> {
    plan: &'a CompactionPlan,
    stats: CompactionStats,
    progress: &'a mut Progress<'a>,
}

impl Cleaner {
    /// A cleaner; its key map takes memory only as it is filled.
    pub fn new(config: CleanerConfig) -> Self {
        Self {
            keys: KeyMap::new(config.dedupe_buffer_bytes),
            compressor: Compressor::new(),
            decompressor: Decompressor::new(),
            config,
        }
    }

    /// Cleans what the plan names. The result waits on disk under temporary names until the owner
    /// installs it; dropped instead, it is removed at the next start. After an error nothing is left.
    pub fn clean<'a>(
        &mut self,
        plan: &'a CompactionPlan,
        progress: &'a mut Progress<'a>,
    ) -> Result<Cleaned, CompactionError> {
        plan.dir.health.check()?;
        let mut output = Output::new(plan);
        let cleaned = self.clean_into(plan, progress, &mut output);
        cleaned.map_err(|error| {
            if plan.is_gone() {
                // Whatever failed, it was the deletion; the files went with the folder.
                return CompactionError::Stopped;
            }
            output.remove();
            error
        })
    }

    fn clean_into<'a>(
        &mut self,
        plan: &'a CompactionPlan,
        progress: &'a mut Progress<'a>,
        output: &mut Output<'_>,
    ) -> Result<Cleaned, CompactionError> {
        let mut round = Round {
            plan,
            stats: CompactionStats::default(),
            progress,
        };
        self.keys.clear();
        let clean_to = self.build_map(&mut round)?;
        let last = plan
            .segments
            .partition_point(|segment| segment.base() < clean_to);
        let mut groups = Vec::new();
        let mut transactions = WalkedTransactions::expect(&plan.aborted, plan.segments[0].base());
        for (old, end) in group_segments(&plan.segments[..last], plan, clean_to) {
            output.begin(old[0].base(), end);
            groups.push(self.clean_group(&mut round, old, end, &mut transactions)?);
        }
        self.keys.clear();
        let mut stats = round.stats;
        stats.segments_after = groups.len() as u64;
        Ok(Cleaned {
            groups,
            clean_to,
            stats,
        })
    }

    /// Fills the map from the dirty part; returns how far it got.
    fn build_map(&mut self, round: &mut Round<'_>) -> Result<Offset, CompactionError> {
        let plan = round.plan;
        let dirty = plan
            .segments
            .partition_point(|segment| segment.base() <= plan.first_dirty);
        let dirty = &plan.segments[dirty.saturating_sub(1)..];
        let mut transactions = WalkedTransactions::expect(&plan.aborted, dirty[0].base());
        let mut reached = plan.first_dirty.max(plan.segments[0].base());
        for segment in dirty {
            let mut walk = Walk::new(segment)?;
            while let Some(batch) = walk.next()? {
                let header = *batch.header();
                let size = batch.bytes().len() as u64;
                let ignored = if header.attributes.is_control() {
                    transactions.see_marker(&batch);
                    true
                } else {
                    transactions.see_batch(&batch)
                };
                if !ignored && header.last_offset() >= plan.first_dirty {
                    if !self.keys.has_room_for(header.record_count as usize)
                        && reached > plan.first_dirty
                    {
                        round.stats.map_was_full = true;
                        return Ok(reached);
                    }
                    self.add_keys(plan, &batch, &header)?;
                }
                reached = reached.max(header.next_offset());
                round.advance(size)?;
            }
        }
        Ok(plan.end)
    }

    fn add_keys(
        &mut self,
        plan: &CompactionPlan,
        batch: &BatchView<'_>,
        header: &BatchHeader,
    ) -> Result<(), CompactionError> {
        let failed = |source| batch_failed(plan, header, source);
        if header.record_count == 0 {
            return Ok(());
        }
        let records = batch
            .records(&mut self.decompressor, self.config.max_decompressed_bytes)
            .map_err(failed)?;
        for record in records {
            let record = record.map_err(failed)?;
            if let Some(key) = record.key
                && record.offset >= plan.first_dirty
            {
                // A single batch with more keys than the whole map: the rest of its keys is not
                // deduplicated this time, which keeps more than needed, never less.
                self.keys.put(key, record.offset);
            }
        }
        Ok(())
    }

    fn clean_group(
        &mut self,
        round: &mut Round<'_>,
        old: Vec<Arc<Segment>>,
        end: Offset,
        transactions: &mut WalkedTransactions,
    ) -> Result<CleanedGroup, CompactionError> {
        let plan = round.plan;
        let base = old[0].base();
        let written = |error| write_failed(plan, error);
        let mut writer = SegmentWriter::create(&plan.home, base, end, plan.index_interval_bytes)
            .map_err(written)?;
        for segment in &old {
            let mut walk = Walk::new(segment)?;
            while let Some(batch) = walk.next()? {
                let size = batch.bytes().len() as u64;
                let (rebuilt, aborted) = self.clean_batch(round, &batch, transactions, end)?;
                let header = *batch.header();
                let appended = match rebuilt {
                    Rebuilt::Removed => Ok(()),
                    Rebuilt::Unchanged => writer.append(&header, batch.bytes()),
                    Rebuilt::Changed(bytes) => {
                        let header = BatchHeader::parse(&bytes)
                            .map_err(|source| batch_failed(plan, &header, source))?;
                        writer.append(&header, &bytes)
                    }
                };
                let appended = appended
                    .and_then(|()| aborted.map_or(Ok(()), |entry| writer.append_aborted(entry)));
                appended.map_err(|error| {
                    written(DiskError::new(
                        "write cleaned segment in",
                        &plan.home.folder,
                        error,
                    ))
                })?;
                round.advance(size)?;
            }
            round.stats.bytes_before += segment.size();
            round.stats.segments_before += 1;
        }
        round.stats.bytes_after += writer.size();
        let new = writer.finish().map_err(written)?;
        Ok(CleanedGroup { old, new, end })
    }

    /// What becomes of a batch, and the entry of the transaction index that must stay with it.
    fn clean_batch(
        &mut self,
        round: &mut Round<'_>,
        batch: &BatchView<'_>,
        transactions: &mut WalkedTransactions,
        end: Offset,
    ) -> Result<(Rebuilt, Option<crate::index::AbortedEntry>), CompactionError> {
        let plan = round.plan;
        let header = batch.header();
        let horizon_passed = header
            .delete_horizon_ms()
            .is_some_and(|horizon| horizon <= plan.now_ms);
        let keep_empty = must_stay(plan, header) || header.next_offset() == end;
        let new_horizon = plan.now_ms.saturating_add(plan.delete_retention_ms);
        let mut options = RebuildOptions {
            max_decompressed_bytes: self.config.max_decompressed_bytes,
            delete_horizon_ms: None,
            keep_empty,
        };
        if header.record_count == 0 {
            // An emptied batch of a transaction still opens it for whoever replays the log, so its
            // marker has to stay as long as it does.
            if !header.attributes.is_control() {
                transactions.see_batch(batch);
            }
            let rebuilt = if keep_empty {
                Rebuilt::Unchanged
            } else {
                Rebuilt::Removed
            };
            return Ok((rebuilt, None));
        }
        if header.attributes.is_control() {
            let marker = transactions.see_marker(batch);
            let mut discard = false;
            if marker == Marker::Empty {
                discard = horizon_passed;
                options.delete_horizon_ms =
                    header.delete_horizon_ms().is_none().then_some(new_horizon);
            }
            let rebuilt = self.rebuild(plan, batch, &options, |_, _| !discard)?;
            let entry = if let Marker::Needed(entry) = marker {
                entry
            } else {
                None
            };
            return Ok((rebuilt, entry));
        }
        let aborted = transactions.see_batch(batch);
        let mut counts = Counts::default();
        let decide =
            |keys: &KeyMap, record: &conveyor_record::RecordView<'_>, counts: &mut Counts| {
                counts.seen += 1;
                let Some(key) = record.key else {
                    counts.without_key += 1;
                    return false;
                };
                let newest = keys.get(key).is_none_or(|newest| record.offset >= newest);
                let keep = !aborted && newest && (record.value.is_some() || !horizon_passed);
                counts.kept += u64::from(keep);
                counts.tombstones += u64::from(keep && record.value.is_none());
                keep
            };
        let mut rebuilt = self.rebuild(plan, batch, &options, |keys, record| {
            decide(keys, record, &mut counts)
        })?;
        if counts.tombstones > 0 && header.delete_horizon_ms().is_none() {
            options.delete_horizon_ms = Some(new_horizon);
            let mut again = Counts::default();
            rebuilt = self.rebuild(plan, batch, &options, |keys, record| {
                decide(keys, record, &mut again)
            })?;
            assert!(again == counts, "the same batch was cleaned in two ways");
        }
        round.stats.records_before += counts.seen;
        round.stats.records_after += counts.kept;
        round.stats.records_without_key += counts.without_key;
        Ok((rebuilt, None))
    }

    fn rebuild(
        &mut self,
        plan: &CompactionPlan,
        batch: &BatchView<'_>,
        options: &RebuildOptions,
        mut keep: impl FnMut(&KeyMap, &conveyor_record::RecordView<'_>) -> bool,
    ) -> Result<Rebuilt, CompactionError> {
        let keys = &self.keys;
        rebuild_batch(
            batch,
            options,
            &mut self.decompressor,
            &mut self.compressor,
            |record| keep(keys, record),
        )
        .map_err(|source| batch_failed(plan, batch.header(), source))
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    seen: u64,
    kept: u64,
    tombstones: u64,
    without_key: u64,
}

impl Round<'_> {
    fn advance(&mut self, bytes: u64) -> Result<(), CompactionError> {
        if (self.progress)(bytes) && !self.plan.is_gone() {
            Ok(())
        } else {
            Err(CompactionError::Stopped)
        }
    }
}

/// Whether the state of a producer hangs on the batch.
fn must_stay(plan: &CompactionPlan, header: &BatchHeader) -> bool {
    let Some(last) = plan.producers.get(&header.producer_id) else {
        return false;
    };
    match last.last_offset {
        Some(offset) => header.last_offset() == offset,
        None => header.attributes.is_control() && header.producer_epoch == last.epoch,
    }
}

/// Neighbours that fit into one segment together, each with the offset where the next group begins.
fn group_segments(
    segments: &[Arc<Segment>],
    plan: &CompactionPlan,
    clean_to: Offset,
) -> Vec<(Vec<Arc<Segment>>, Offset)> {
    let mut groups: Vec<(Vec<Arc<Segment>>, Offset)> = Vec::new();
    let mut bytes = 0;
    for (index, segment) in segments.iter().enumerate() {
        let end = plan
            .segments
            .get(index + 1)
            .map_or(plan.end, |next| next.base());
        let fits = groups.last().is_some_and(|(group, _)| {
            bytes + segment.size() <= plan.segment_bytes
                && end - group[0].base() <= i64::from(i32::MAX)
        });
        if fits && let Some((group, group_end)) = groups.last_mut() {
            group.push(Arc::clone(segment));
            *group_end = end;
            bytes += segment.size();
        } else {
            groups.push((vec![Arc::clone(segment)], end));
            bytes = segment.size();
        }
    }
    assert!(
        groups.is_empty() || clean_to > plan.segments[0].base(),
        "nothing was cleaned"
    );
    groups
}

/// A file that is missing because the log was deleted says nothing of the disk.
fn write_failed(plan: &CompactionPlan, error: DiskError) -> CompactionError {
    if error.source.kind() == io::ErrorKind::NotFound && plan.is_gone() {
        CompactionError::Stopped
    } else {
        plan.dir.health.write_failed(error).into()
    }
}

/// What a round has written so far.
struct Output<'a> {
    plan: &'a CompactionPlan,
    /// Base and end of each new segment.
    groups: Vec<(Offset, Offset)>,
}

impl<'a> Output<'a> {
    fn new(plan: &'a CompactionPlan) -> Self {
        Self {
            plan,
            groups: Vec::new(),
        }
    }

    fn begin(&mut self, base: Offset, end: Offset) {
        self.groups.push((base, end));
    }

    fn remove(self) {
        for (base, end) in self.groups {
            remove_cleaned(&self.plan.home, base, end);
        }
    }
}

fn batch_failed(
    plan: &CompactionPlan,
    header: &BatchHeader,
    source: conveyor_record::BatchError,
) -> CompactionError {
    CompactionError::Batch {
        partition: plan.home.partition.clone(),
        offset: header.base_offset,
        source,
    }
}

/// The batches of one segment, each checked.
struct Walk<'a> {
    segment: &'a Segment,
    scanner: BatchScanner<'a>,
    expected: Offset,
}

impl<'a> Walk<'a> {
    fn new(segment: &'a Segment) -> Result<Self, CompactionError> {
        let file = segment.file().map_err(|error| segment.read_error(error))?;
        let scanner = BatchScanner::new(&**file, 0, segment.size());
        Ok(Self {
            segment,
            scanner,
            expected: segment.base(),
        })
    }

    fn next(&mut self) -> Result<Option<BatchView<'_>>, CompactionError> {
        let (segment, expected) = (self.segment, self.expected);
        let at = self.scanner.position();
        let read = |error: SegmentError| CompactionError::from(segment.read_error(error));
        match self.scanner.next() {
            Ok(None) => Ok(None),
            Ok(Some((_, batch))) => {
                if let Err(error) = conveyor_record::validate_stored(batch.bytes(), expected) {
                    return Err(read(segment.damaged(at, expected, error.to_string())));
                }
                self.expected = batch.header().next_offset();
                Ok(Some(batch))
            }
            Err(error) => Err(read(scan_failed(segment, error, at, expected))),
        }
    }
}
