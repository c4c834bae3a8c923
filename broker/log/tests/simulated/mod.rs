//! A world of one data directory and one log, driven by a seed, and the model that it must match.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use conveyor_log::disk::{Crash, FaultPlan, Lies, SimRng};
use conveyor_log::{
    AppendBatch, AppendError, Cleaner, CleanerConfig, CleanupPolicy, CompactionError, DataDir,
    GroupCommit, Log, LogError, ReadError,
};
use conveyor_record::{BatchOptions, Codec, Offset, ProducerEpoch, ProducerId};

use crate::support::{
    Bed, EPOCH, Entry, KeyValue, OwnedKeyValue, START_MS, append, entries, keyed, read_entries,
};

const STEPS: u64 = 60;
const PRODUCERS: u64 = 3;

/// How often the interesting things have happened, so that a run that tests nothing is noticed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Coverage {
    pub appends: u64,
    pub duplicates: u64,
    pub syncs: u64,
    pub power_cuts: u64,
    pub halts: u64,
    pub failed_syncs: u64,
    pub full: u64,
    pub clean_restarts: u64,
    pub truncations: u64,
    pub retentions: u64,
    pub compactions: u64,
    pub records_compacted: u64,
    pub records_lost_unsynced: u64,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Self) {
        self.appends += other.appends;
        self.duplicates += other.duplicates;
        self.syncs += other.syncs;
        self.power_cuts += other.power_cuts;
        self.halts += other.halts;
        self.failed_syncs += other.failed_syncs;
        self.full += other.full;
        self.clean_restarts += other.clean_restarts;
        self.truncations += other.truncations;
        self.retentions += other.retentions;
        self.compactions += other.compactions;
        self.records_compacted += other.records_compacted;
        self.records_lost_unsynced += other.records_lost_unsynced;
    }

    /// Every kind of event has happened often.
    pub(crate) fn assert_wide(&self) {
        let counts = [
            self.appends,
            self.duplicates,
            self.syncs,
            self.power_cuts,
            self.halts,
            self.failed_syncs,
            self.full,
            self.clean_restarts,
            self.truncations,
            self.retentions,
            self.compactions,
            self.records_compacted,
            self.records_lost_unsynced,
        ];
        assert!(
            counts.iter().all(|count| *count >= 100),
            "too little was tested: {self:?}"
        );
    }
}

/// A batch of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelBatch {
    base: i64,
    /// Key and value; keys only in compacted logs, no value in tombstones.
    records: Vec<OwnedKeyValue>,
    /// Producer, sequence of the first record.
    producer: Option<(i64, i32)>,
}

impl ModelBatch {
    fn end(&self) -> i64 {
        self.base + self.records.len() as i64
    }
}

/// What must be in the log.
#[derive(Debug, Default)]
struct Model {
    batches: Vec<ModelBatch>,
    start: i64,
    /// Everything below was reported as synced.
    synced: i64,
    /// Attempts whose outcome is unknown: the log may hold a prefix of them behind its end.
    maybe: Vec<ModelBatch>,
    /// Bounds of operations that a crash interrupted: the log may start or end anywhere between.
    start_max: i64,
    end_min: i64,
    /// Producers are new ones after the log was emptied: whether it still knows the old ones is open.
    generation: i64,
    /// Compaction may have reached up to here.
    compacted_to: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.batches
            .last()
            .map_or(self.start, ModelBatch::end)
            .max(self.start)
    }

    fn truncate(&mut self, end: i64) {
        self.batches.retain(|batch| batch.end() <= end);
        self.synced = self.synced.min(end);
    }

    fn empty(&mut self) {
        self.batches.clear();
        self.generation += 1;
    }

    fn producer(&self, number: u64) -> i64 {
        self.generation * 10 + number as i64
    }

    fn next_sequence(&self, producer: i64) -> i32 {
        let last = self
            .batches
            .iter()
            .rev()
            .find(|batch| batch.producer.is_some_and(|(id, _)| id == producer));
        last.map_or(0, |batch| {
            batch.producer.map_or(0, |(_, first)| first) + batch.records.len() as i32
        })
    }

    /// The records from `from` on.
    fn entries(&self, from: i64) -> Vec<Entry> {
        self.batches
            .iter()
            .flat_map(|batch| (batch.base..).zip(batch.records.iter().cloned()))
            .filter(|(offset, _)| *offset >= from)
            .map(|(offset, (key, value))| Entry { offset, key, value })
            .collect()
    }

    /// Compares what was read with what may be there: everything, but for what compaction may have
    /// taken away. Returns how much that was.
    fn compare(&self, found: &[Entry], from: i64) -> u64 {
        let mut newest: BTreeMap<Option<Vec<u8>>, i64> = BTreeMap::new();
        let mut found = found.iter().rev().peekable();
        let mut missing = 0;
        for written in self.entries(from).iter().rev() {
            if found
                .peek()
                .is_some_and(|entry| entry.offset == written.offset)
            {
                assert_eq!(found.next(), Some(written));
            } else {
                let offset = written.offset;
                assert!(offset < self.compacted_to, "offset {offset} is missing");
                let outdated = newest.contains_key(&written.key) || written.value.is_none();
                assert!(
                    outdated,
                    "offset {offset} is the newest of its key and missing"
                );
                missing += 1;
            }
            newest.entry(written.key.clone()).or_insert(written.offset);
        }
        assert_eq!(
            found.next(),
            None,
            "something was read that was not written"
        );
        missing
    }
}

pub(crate) struct World {
    bed: Bed,
    rng: SimRng,
    model: Model,
    open: Option<Open>,
    counter: u64,
    compacted: bool,
    cleaner: Cleaner,
    trace: Option<Vec<String>>,
    coverage: Coverage,
}

struct Open {
    dir: DataDir,
    log: Log,
    commit: GroupCommit,
}

impl World {
    /// Runs a seed; the trace, if it is wanted.
    pub(crate) fn run(seed: u64, traced: bool) -> Vec<String> {
        let mut world = Self::new(seed);
        world.trace = traced.then(Vec::new);
        world.go();
        world.trace.unwrap_or_default()
    }

    /// Runs a seed on a disk that does not keep its promises.
    pub(crate) fn run_on_liar(seed: u64, lies: Lies) {
        let mut world = Self::new(seed);
        world.bed.disk.set_lies(lies);
        world.go();
    }

    pub(crate) fn run_counting(seed: u64) -> Coverage {
        let mut world = Self::new(seed);
        world.go();
        world.coverage
    }

    fn new(seed: u64) -> Self {
        let mut rng = SimRng::new(seed ^ 0x5eed);
        let mut bed = Bed::new(seed).segment_bytes(1500 + rng.below(6000));
        bed.log_config.index_interval_bytes = 100 + rng.below(1000);
        bed.dir_config.recovery_bytes_max = 500 + rng.below(8000);
        bed.log_config.retention_bytes = rng.one_in(2).then(|| 2000 + rng.below(6_000));
        if rng.one_in(2) {
            bed.dir_config.pool_files = 1;
            bed.dir_config.pool_file_bytes = 1024 + rng.below(3) * 4096;
        }
        let compacted = rng.one_in(2);
        if compacted {
            bed.log_config.cleanup_policy = if rng.one_in(3) {
                CleanupPolicy::COMPACT_AND_DELETE
            } else {
                CleanupPolicy::COMPACT
            };
            bed.log_config.min_cleanable_dirty_ratio = 0.1;
            bed.log_config.delete_retention_ms = rng.below(200) as i64;
        }
        let cleaner = Cleaner::new(CleanerConfig {
            dedupe_buffer_bytes: 24 * 12 + rng.below(2000) as usize,
            ..CleanerConfig::default()
        });
        let (dir, log) = bed.create();
        let commit = GroupCommit::new(&dir);
        Self {
            compacted,
            cleaner,
            bed,
            rng,
            model: Model::default(),
            open: Some(Open { dir, log, commit }),
            counter: 0,
            trace: None,
            coverage: Coverage::default(),
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if std::env::var_os("CONVEYOR_SIM_SEED").is_some() {
            println!("{}", line());
            return;
        }
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    fn go(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        // All faults off: everything must heal.
        self.bed.disk.set_faults(FaultPlan::default());
        self.bed.disk.set_capacity(None);
        self.restart(Crash::Process);
        let Some(open) = &mut self.open else {
            panic!("a log is open after a restart")
        };
        append(
            &mut open.log,
            keyed(
                BatchOptions::default(),
                START_MS,
                &[(Some(b"k"), Some(b"v"))],
            ),
        );
    }

    fn step(&mut self) {
        self.bed.clock.advance_ms(self.rng.below(50) as i64);
        // Now and then the machine stops in the middle of what comes next.
        if self.rng.one_in(12) {
            let changes = 1 + self.rng.below(12);
            self.bed.disk.halt_after(changes);
        }
        match self.rng.below(100) {
            0..=44 => self.append(),
            45..=64 => self.sync(),
            65..=69 => self.read_somewhere(),
            70..=72 => self.roll(),
            73..=74 => self.truncate(),
            75..=77 if self.compacted => self.compact(),
            75..=79 => self.delete_records(),
            80..=82 => self.retention(),
            83..=85 => self.background(),
            86..=88 => self.fail_sync(),
            89..=91 => self.toggle_capacity(),
            92..=94 => self.restart_cleanly(),
            95..=97 => self.restart(Crash::Power),
            _ => self.restart(Crash::Process),
        }
        if self.bed.disk.is_halted()
            || self
                .open
                .as_ref()
                .is_none_or(|open| open.dir.offline().is_some())
        {
            if self.bed.disk.is_halted() {
                self.coverage.halts += 1;
            }
            let kind = if self.rng.one_in(2) {
                Crash::Power
            } else {
                Crash::Process
            };
            self.restart(kind);
        }
    }

    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("a log is open between steps")
    }

    fn new_batch(&mut self) -> (AppendBatch, ModelBatch) {
        let count = 1 + self.rng.below(4);
        let size_max = if self.rng.one_in(5) { 300 } else { 120 };
        let size = self.rng.below(size_max);
        let producer =
            (!self.rng.one_in(3)).then(|| self.model.producer(self.rng.below(PRODUCERS)));
        let first_sequence = producer.map(|id| self.staged_sequence(id));
        let records: Vec<OwnedKeyValue> = (0..count)
            .map(|_| {
                self.counter += 1;
                let mut value = format!("v{}-", self.counter).into_bytes();
                value.resize(value.len() + size as usize, b'.');
                let key = self
                    .compacted
                    .then(|| format!("key-{}", self.rng.below(12)).into_bytes());
                let tombstone = self.compacted && self.rng.one_in(8);
                (key, (!tombstone).then_some(value))
            })
            .collect();
        let codec = if self.rng.one_in(4) {
            Codec::Lz4
        } else {
            Codec::None
        };
        let mut options = BatchOptions {
            codec,
            ..BatchOptions::default()
        };
        if let (Some(id), Some(sequence)) = (producer, first_sequence) {
            options.producer_id = ProducerId(id);
            options.producer_epoch = ProducerEpoch(0);
            options.base_sequence = sequence;
        }
        let now = START_MS + self.counter as i64;
        let batch = keyed(options, now, &borrowed(&records));
        (
            batch,
            ModelBatch {
                base: -1,
                records,
                producer: producer.zip(first_sequence),
            },
        )
    }

    fn staged_sequence(&self, producer: i64) -> i32 {
        self.model.next_sequence(producer)
    }

    fn append(&mut self) {
        let mut group = Vec::new();
        let mut models: Vec<ModelBatch> = Vec::new();
        let mut sequences: BTreeMap<i64, i32> = BTreeMap::new();
        for _ in 0..=self.rng.below(4) {
            let (batch, model) = self.new_batch();
            // One batch of a producer a group: the next one's sequence would depend on its fate.
            if let Some((id, sequence)) = model.producer
                && sequences.insert(id, sequence).is_some()
            {
                continue;
            }
            group.push(batch);
            models.push(model);
        }
        let results = self.open().log.append_as_leader(&group, EPOCH);
        let mut offline = false;
        for (result, mut model) in results.into_iter().zip(models) {
            match result {
                Ok(info) => {
                    assert!(!offline, "an append succeeded behind a failed one");
                    assert!(!info.duplicate, "a new batch was taken for a duplicate");
                    assert_eq!(info.base_offset.value(), self.model.end());
                    model.base = info.base_offset.value();
                    assert_eq!(info.last_offset.value(), model.end() - 1);
                    self.coverage.appends += 1;
                    self.model.batches.push(model);
                }
                Err(AppendError::Offline(_)) => {
                    offline = true;
                    model.base = self
                        .model
                        .maybe
                        .last()
                        .map_or_else(|| self.model.end(), ModelBatch::end);
                    self.model.maybe.push(model);
                }
                Err(AppendError::Full(_)) => self.coverage.full += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let end = self.model.end();
        let maybe = self
            .model
            .maybe
            .iter()
            .map(|batch| (batch.base, batch.end()))
            .collect::<Vec<_>>();
        self.note(|| {
            format!(
                "append {} batches, end {end}, offline {offline} {maybe:?}",
                group.len()
            )
        });
        if !offline && self.rng.one_in(4) {
            self.append_again();
        }
    }

    /// A producer repeats one of its last five batches.
    fn append_again(&mut self) {
        let id = self.model.producer(self.rng.below(PRODUCERS));
        let mine: Vec<ModelBatch> = self
            .model
            .batches
            .iter()
            .rev()
            .filter(|batch| batch.producer.is_some_and(|(producer, _)| producer == id))
            .take(5)
            .cloned()
            .collect();
        if mine.is_empty() {
            return;
        }
        let again = &mine[self.rng.below(mine.len() as u64) as usize];
        let Some((_, sequence)) = again.producer else {
            return;
        };
        let records = borrowed(&again.records);
        let options = BatchOptions {
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(0),
            base_sequence: sequence,
            ..BatchOptions::default()
        };
        let batch = keyed(options, START_MS, &records);
        let known = again.base >= self.model.start;
        match self.open().log.append_as_leader(&[batch], EPOCH).remove(0) {
            Ok(info) => {
                assert!(info.duplicate, "a repeated batch was appended twice");
                assert_eq!(info.base_offset.value(), again.base);
                assert_eq!(info.last_offset.value(), again.end() - 1);
                self.coverage.duplicates += 1;
            }
            Err(AppendError::Offline(_)) => {}
            Err(error) => assert!(!known, "{error}"),
        }
    }

    fn sync(&mut self) {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let open = self.open.as_ref().expect("a log is open between steps");
        let reader = open.log.reader();
        let ends: Vec<i64> = self
            .model
            .batches
            .iter()
            .rev()
            .take(3)
            .map(ModelBatch::end)
            .rev()
            .collect();
        for end in &ends {
            let slot = Arc::clone(&answers);
            let end = *end;
            open.commit.request(
                &reader,
                Offset(end),
                Box::new(move |result| slot.lock().unwrap().push((end, result.map(Offset::value)))),
            );
        }
        open.commit.run_round();
        let answers = std::mem::take(&mut *answers.lock().unwrap());
        assert_eq!(answers.len(), ends.len(), "every waiter is answered");
        assert!(
            answers.windows(2).all(|pair| pair[0].0 <= pair[1].0),
            "answers come in order"
        );
        for (end, answer) in answers {
            if let Ok(synced) = answer {
                assert!(synced >= end && synced <= self.model.end());
                self.model.synced = self.model.synced.max(synced);
                self.coverage.syncs += 1;
            }
        }
        if let Some(open) = &self.open {
            open.log
                .reader()
                .advance_high_watermark(Offset(self.model.synced));
        }
        let synced = self.model.synced;
        self.note(|| format!("sync to {synced}"));
    }

    fn read_somewhere(&mut self) {
        let (start, end) = (self.model.start, self.model.end());
        let from = start + self.rng.below((end - start + 1) as u64) as i64;
        let max = self.rng.below(4000) as usize;
        let reader = self.open().log.reader();
        match reader.read(Offset(from), Offset(end), max, true) {
            Ok(chunk) => {
                let expected = self.model.entries(0);
                for entry in entries(&chunk.bytes) {
                    assert!(expected.contains(&entry), "{entry:?} was not written");
                }
                assert!(chunk.first_offset.value() <= from || from < self.model.compacted_to);
                assert!(from == end || chunk.next_offset.value() > from);
            }
            Err(ReadError::Disk { .. }) => {}
            Err(error) => panic!("read at {from} of {start} to {end}: {error}"),
        }
    }

    fn roll(&mut self) {
        let rolled = self.open().log.roll();
        Self::expect_change(&rolled.map(|_| ()));
        self.note(|| "roll".to_owned());
    }

    fn truncate(&mut self) {
        let (start, end) = (self.model.start, self.model.end());
        let to = start
            .max(end - self.rng.below(20) as i64)
            .max(self.model.compacted_to.min(end));
        let result = self.open().log.truncate_to(Offset(to));
        let cut = self
            .model
            .batches
            .iter()
            .rev()
            .find(|batch| batch.base < to && to < batch.end());
        let cut = cut.map_or(to, |batch| batch.base);
        let emptied = cut < start;
        let cut = cut.max(start);
        self.note(|| format!("truncate to {to}, whole batches {cut}: {result:?}"));
        if result.is_ok() {
            self.model.truncate(cut);
            if emptied {
                self.model.empty();
            }
            self.coverage.truncations += 1;
        } else {
            // Interrupted: anything between is left.
            self.model.end_min = self.model.end_min.min(cut);
            self.model.synced = self.model.synced.min(cut);
        }
        Self::expect_change(&result);
    }

    fn delete_records(&mut self) {
        let to = self.model.start
            + self
                .rng
                .below((self.model.synced - self.model.start + 1).max(1) as u64)
                as i64;
        let high_watermark = self.open().log.reader().high_watermark().value();
        let to = to.min(high_watermark);
        let result = self.open().log.delete_records_before(Offset(to));
        self.note(|| format!("delete records before {to}: {result:?}"));
        match &result {
            Ok(start) => self.model.start = start.value(),
            Err(_) => self.model.start_max = self.model.start_max.max(to),
        }
        Self::expect_change(&result.map(|_| ()));
    }

    fn retention(&mut self) {
        let now = START_MS + self.counter as i64;
        let result = self.open().log.apply_retention(now);
        let start = self.open().log.reader().log_start_offset().value();
        self.note(|| format!("retention: {result:?}, start {start}"));
        match &result {
            Ok(removed) => {
                assert!(start >= self.model.start);
                self.model.start = start;
                self.coverage.retentions += u64::from(*removed > 0);
            }
            Err(_) => self.model.start_max = self.model.start_max.max(self.model.synced),
        }
        Self::expect_change(&result.map(|_| ()));
    }

    fn compact(&mut self) {
        let now = self.bed.clock_ms();
        let open = self.open.as_mut().expect("a log is open between steps");
        let plan = match open.log.plan_compaction(now) {
            Ok(Some(plan)) => plan,
            Ok(None) => return,
            Err(error) => return Self::expect_change(&Err(error)),
        };
        let cleaned = self.cleaner.clean(&plan, &mut |_| true);
        let cleaned = match cleaned {
            Ok(cleaned) => cleaned,
            Err(
                CompactionError::Offline(_) | CompactionError::Full(_) | CompactionError::Read(_),
            ) => return,
            Err(error) => panic!("{error}"),
        };
        let bytes = plan.total_bytes();
        self.note(|| format!("cleaned {bytes} bytes"));
        // The log goes on while it is cleaned.
        match self.rng.below(6) {
            0 => self.append(),
            1 => self.roll(),
            2 => self.retention(),
            3 => self.delete_records(),
            _ => {}
        }
        let end = self.model.synced;
        let open = self.open.as_mut().expect("a log is open between steps");
        if self.rng.one_in(8) {
            open.log.discard_compaction(cleaned);
            return;
        }
        self.model.compacted_to = self.model.compacted_to.max(end);
        match open.log.install_compaction(cleaned) {
            Ok(_) => {
                self.coverage.compactions += 1;
                let reader = open.log.reader();
                self.model.compare(&read_entries(&reader), self.model.start);
            }
            Err(error) => Self::expect_change(&Err(error)),
        }
    }

    fn background(&mut self) {
        let open = self.open();
        // Failures take the directory offline, which the next step sees.
        drop(open.dir.refill_pool());
        drop(open.dir.write_checkpoints());
    }

    fn fail_sync(&mut self) {
        self.bed.disk.fail_next_syncs(1);
        self.coverage.failed_syncs += 1;
        self.sync();
    }

    fn toggle_capacity(&mut self) {
        if self.rng.one_in(2) {
            self.bed.disk.set_capacity(None);
        } else {
            let room = self.rng.below(3000);
            self.bed
                .disk
                .set_capacity(Some(self.bed.disk.used_bytes() + room));
        }
    }

    /// An operation may fail because of the disk, and of nothing else.
    fn expect_change(result: &Result<(), LogError>) {
        match result {
            Ok(()) | Err(LogError::Offline(_) | LogError::Full(_)) => {}
            Err(LogError::Read(ReadError::Disk { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn restart_cleanly(&mut self) {
        let Some(Open { dir, log, commit }) = self.open.take() else {
            return;
        };
        drop(commit);
        let closed = log.close().and_then(|()| dir.close());
        if closed.is_err() {
            self.note(|| format!("close failed: {closed:?}"));
            return self.restart(Crash::Process);
        }
        self.coverage.clean_restarts += 1;
        self.model.synced = self.model.end();
        // A clean stop syncs everything: not even a power cut takes anything.
        let kind = if self.rng.one_in(2) {
            Crash::Power
        } else {
            Crash::Process
        };
        self.bed.disk.crash(kind);
        self.reopen(true);
    }

    fn restart(&mut self, kind: Crash) {
        self.bed.disk.crash(kind);
        self.bed.disk.set_capacity(None);
        if kind == Crash::Power {
            self.coverage.power_cuts += 1;
        }
        self.note(|| format!("crash {kind:?}"));
        drop(self.open.take());
        // The machine may stop again while it recovers.
        for _ in 0..self.rng.below(3) {
            let changes = 1 + self.rng.below(10);
            self.bed.disk.halt_after(changes);
            let attempt = self.bed.try_open_dir().and_then(|dir| {
                let log =
                    dir.open_log(&crate::support::partition(), self.bed.log_config.clone())?;
                Ok((dir, log))
            });
            drop(attempt);
            self.bed.disk.crash(if self.rng.one_in(2) {
                Crash::Power
            } else {
                Crash::Process
            });
        }
        self.reopen(false);
    }

    fn reopen(&mut self, clean: bool) {
        let (dir, log, report) = self.bed.reopen();
        self.note(|| format!("reopened: {report:?}"));
        assert!(report.damage.is_empty(), "{report:?}");
        if clean {
            assert!(report.clean && report.bytes_scanned == 0, "{report:?}");
        }
        let commit = GroupCommit::new(&dir);
        self.check(&log, clean);
        log.reader()
            .advance_high_watermark(log.reader().log_end_offset());
        self.open = Some(Open { dir, log, commit });
    }

    /// Compares a freshly opened log with the model, and takes over what is left of it.
    fn check(&mut self, log: &Log, clean: bool) {
        let reader = log.reader();
        let (start, end) = (
            reader.log_start_offset().value(),
            reader.log_end_offset().value(),
        );
        let model = &mut self.model;
        let written_end = model.end();
        assert_eq!(
            reader.synced_offset().value(),
            end,
            "what is recovered is synced"
        );
        assert!(
            end >= model.synced,
            "log ends at {end}, but {} was reported synced",
            model.synced
        );
        if clean {
            assert_eq!((start, end), (model.start, written_end));
        }
        let start_max = model.start_max.max(model.start);
        assert!(
            start >= model.start && start <= start_max,
            "log starts at {start}, expected {} to {start_max}",
            model.start
        );
        let maybe = std::mem::take(&mut model.maybe);
        model.batches.extend(maybe);
        assert!(
            model.batches.iter().any(|batch| batch.end() == end)
                || end == start
                || end == model.end_min,
            "log ends at {end}, inside a batch"
        );
        model.start = start;
        let lost = (written_end - end).max(0) as u64;
        self.coverage.records_lost_unsynced += lost;
        model.truncate(end);
        if end == start {
            model.empty();
        }
        self.coverage.records_compacted += model.compare(&read_entries(&reader), start);
        model.synced = end;
        model.start_max = start;
        model.end_min = i64::MAX;
    }
}

fn borrowed(records: &[OwnedKeyValue]) -> Vec<KeyValue<'_>> {
    records
        .iter()
        .map(|(key, value)| (key.as_deref(), value.as_deref()))
        .collect()
}
