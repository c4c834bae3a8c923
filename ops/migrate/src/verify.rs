//! Reads every batch of every folder before anything is changed.

use conveyor_log::checkpoint::OffsetCheckpoint;
use conveyor_log::disk::OsDisk;
use conveyor_log::tools::{Finding, PartitionFolder, Severity, VerifyOptions, VerifyReport};
use conveyor_record::{Offset, ProducerId};

use crate::plan::{Plan, PlannedPartition, PlannedTopic, Problem};
use crate::{ImportError, Progress, Step};

/// Producer ids are given out in blocks of so many.
const PRODUCER_ID_BLOCK: i64 = 1_000;

impl Plan {
    /// Reads every folder: sums of all batches, offsets in order, indexes, leader epochs and producer
    /// snapshots. What is found goes into the plan's problems, what is learnt into its partitions.
    pub fn verify(&mut self, progress: Progress<'_>) -> Result<(), ImportError> {
        progress(Step::Begin {
            stage: "verifying",
            bytes: self.bytes,
        });
        let mut problems = Vec::new();
        let mut producer_id_max = -1;
        let recover = self.recover;
        for topic in &mut self.topics {
            let mut partitions = std::mem::take(&mut topic.partitions);
            for partition in &mut partitions {
                let source = &self.sources[partition.directory];
                let name = topic.partition_name(partition);
                let cut_from = (recover && !source.is_clean).then(|| {
                    let point = source.recovery_points.get(&name);
                    point.map_or(0, |offset| offset.value())
                });
                let report = verify_one(topic, partition, &source.clean_offsets, progress)?;
                problems.extend(judge(&name.folder_name(), partition, &report, cut_from));
                let producer = report.producer_id_max.map_or(-1, ProducerId::value);
                producer_id_max = producer_id_max.max(producer);
            }
            topic.partitions = partitions;
        }
        self.problems.extend(problems);
        // Ids of blocks that were begun are never given out again.
        let used = (producer_id_max + 1).div_euclid(PRODUCER_ID_BLOCK) + 1;
        if producer_id_max >= 0 {
            self.next_producer_id = self.next_producer_id.max(used * PRODUCER_ID_BLOCK);
        }
        Ok(())
    }
}

fn verify_one(
    topic: &PlannedTopic,
    partition: &mut PlannedPartition,
    cleaned: &OffsetCheckpoint,
    progress: Progress<'_>,
) -> Result<VerifyReport, ImportError> {
    let name = topic.partition_name(partition);
    progress(Step::Partition(&name.folder_name()));
    let folder = PartitionFolder::open(OsDisk::shared(), &partition.source)?;
    let options = VerifyOptions {
        gaps_allowed: topic.is_compacted() || cleaned.contains_key(&name),
        ..VerifyOptions::default()
    };
    let mut stopped = false;
    let report = folder.verify_with(&options, |bytes| {
        stopped = !progress(Step::Bytes(bytes));
        !stopped
    })?;
    if stopped {
        return Err(ImportError::Interrupted);
    }
    let epochs = folder.leader_epochs().unwrap_or_default();
    let in_checkpoint = epochs.last().map(|(epoch, _)| *epoch);
    let greatest = report.leader_epoch_max.max(in_checkpoint);
    let next = greatest.map_or(0, |epoch| epoch.value() + 1);
    partition.leader_epoch = partition.leader_epoch.max(next);
    partition.end_offset = Some(report.end_offset.value());
    partition.records = Some(report.records);
    partition.gaps_below = report.gaps_below.map(Offset::value);
    Ok(report)
}

/// What of the findings stands in the way. Above `cut_from` the end of the last segment may be torn.
fn judge(
    name: &str,
    partition: &PlannedPartition,
    report: &VerifyReport,
    cut_from: Option<i64>,
) -> Vec<Problem> {
    let last = report.findings.iter().map(|finding| &finding.file).max();
    let is_torn_tail = |finding: &Finding| {
        let at = finding.offset.map_or(0, Offset::value);
        Some(&finding.file) == last && cut_from.is_some_and(|from| at >= from)
    };
    let serious = report
        .findings
        .iter()
        .filter(|finding| finding.severity >= Severity::Error && !is_torn_tail(finding));
    let problems = serious.map(|finding| {
        let place = format!("{name}, {}", partition.source.join(&finding.file).display());
        let at = match (finding.position, finding.offset) {
            (Some(position), Some(offset)) => format!("at position {position}, offset {offset}: "),
            (Some(position), None) => format!("at position {position}: "),
            (None, Some(offset)) => format!("at offset {offset}: "),
            (None, None) => String::new(),
        };
        Problem::new(
            &place,
            format!("{at}{}", finding.what),
            "restore the file from a replica or a backup, or leave the topic out (--exclude)",
        )
    });
    problems.collect()
}
