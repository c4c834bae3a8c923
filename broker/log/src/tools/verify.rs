//! Judges a partition folder: batches whole and in order, indexes and epochs true.

use std::fmt;

use conveyor_record::{
    Decompressor, LeaderEpoch, Offset, ProducerId, validate_stored, validate_stored_deep,
};

use super::{PartitionFolder, ScanEnd};
use crate::error::OpenError;
use crate::segment::{LOG, OFFSET_INDEX, TIME_INDEX, file_name};

/// How much is checked.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// Open every batch and count its records.
    pub deep: bool,
    /// The most bytes that a batch may decompress to.
    pub max_decompressed_bytes: usize,
    /// Stop a segment after so many findings.
    pub findings_max: usize,
    /// Offsets may be missing between segments: the log is or was compacted.
    pub gaps_allowed: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            deep: false,
            max_decompressed_bytes: 256 << 20,
            findings_max: 1000,
            gaps_allowed: false,
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Costs time, or is what a crash leaves: the broker deals with it.
    Warning,
    /// Records cannot be read, or are not those that were written.
    Error,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Name of the file in the folder.
    pub file: String,
    /// Where in the file, in bytes.
    pub position: Option<u64>,
    /// The offset concerned.
    pub offset: Option<Offset>,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.file)?;
        if let Some(position) = self.position {
            write!(f, " at position {position}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What a verification saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Segments looked at.
    pub segments: u64,
    /// Batches looked at.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// Zero bytes behind the last batch of the last segment.
    pub zero_tail_bytes: u64,
    /// First offset, if there is a segment.
    pub first_offset: Option<Offset>,
    /// Offset behind the last batch.
    pub end_offset: Offset,
    /// Below it offsets are missing somewhere, at or above it nowhere; none if none are.
    pub gaps_below: Option<Offset>,
    /// The greatest producer id seen.
    pub producer_id_max: Option<ProducerId>,
    /// The greatest leader epoch seen.
    pub leader_epoch_max: Option<LeaderEpoch>,
    /// What is wrong, in the order of the files.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether nothing worse than a warning was found.
    pub fn is_sound(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity < Severity::Error)
    }
}

impl PartitionFolder {
    /// Reads the whole folder and reports what is not as it should be.
    pub fn verify(&self, options: &VerifyOptions) -> Result<VerifyReport, OpenError> {
        self.verify_with(options, |_| true)
    }

    /// As [`Self::verify`]; tells `seen` of the bytes of each batch, and ends when that says `false`.
    pub fn verify_with(
        &self,
        options: &VerifyOptions,
        mut seen: impl FnMut(u64) -> bool,
    ) -> Result<VerifyReport, OpenError> {
        let mut report = VerifyReport {
            first_offset: self.segments().first().copied(),
            ..VerifyReport::default()
        };
        let mut decompressor = Decompressor::new();
        for (index, base) in self.segments().iter().enumerate() {
            let is_last = index + 1 == self.segments().len();
            if index > 0 && report.end_offset < *base {
                report.gaps_below = Some(*base);
            }
            let misplaced =
                report.end_offset > *base || (report.end_offset < *base && !options.gaps_allowed);
            if index > 0 && misplaced {
                let what = format!("segment before it ends at offset {}", report.end_offset);
                report
                    .findings
                    .push(error(file_name(*base, LOG), None, Some(*base), what));
            }
            let place = (*base, is_last);
            self.verify_segment(place, options, &mut decompressor, &mut seen, &mut report)?;
        }
        self.verify_epochs(&mut report)?;
        self.verify_snapshots(&mut report)?;
        Ok(report)
    }

    fn verify_segment(
        &self,
        (base, is_last): (Offset, bool),
        options: &VerifyOptions,
        decompressor: &mut Decompressor,
        seen: &mut impl FnMut(u64) -> bool,
        report: &mut VerifyReport,
    ) -> Result<(), OpenError> {
        let file = file_name(base, LOG);
        let mut batches: Vec<(u64, Offset, i64)> = Vec::new();
        let mut expected = base;
        let mut findings = Vec::new();
        let end = self.scan(base, |batch, bytes| {
            let header = &batch.header;
            let checked = if options.deep {
                validate_stored_deep(
                    bytes,
                    expected,
                    decompressor,
                    options.max_decompressed_bytes,
                )
            } else {
                validate_stored(bytes, expected)
            };
            if let Err(fault) = checked {
                let offset = Some(header.base_offset);
                findings.push(error(
                    file.clone(),
                    Some(batch.position),
                    offset,
                    fault.to_string(),
                ));
            }
            if header.base_offset > expected {
                report.gaps_below = Some(header.base_offset);
            }
            let producer = Some(header.producer_id).filter(|id| id.is_some());
            report.producer_id_max = report.producer_id_max.max(producer);
            report.leader_epoch_max = report.leader_epoch_max.max(Some(header.leader_epoch));
            report.batches += 1;
            report.records += header.record_count as u64;
            report.bytes += bytes.len() as u64;
            batches.push((
                batch.position,
                header.last_offset(),
                header.max_timestamp_ms,
            ));
            expected = expected.max(header.next_offset());
            findings.len() < options.findings_max && seen(bytes.len() as u64)
        })?;
        report.segments += 1;
        report.end_offset = expected;
        match end {
            ScanEnd::Complete => {}
            ScanEnd::ZeroTail { position } => {
                let info = self.disk.info(&self.log_path(base));
                let len = info.ok().flatten().map_or(position, |info| info.len);
                report.zero_tail_bytes += len - position;
                if !is_last {
                    let what = "closed segment ends in zeros".to_owned();
                    findings.push(error(file, Some(position), Some(expected), what));
                }
            }
            ScanEnd::Invalid {
                position,
                error: fault,
            } => {
                findings.push(error(
                    file,
                    Some(position),
                    Some(expected),
                    fault.to_string(),
                ));
            }
        }
        report.findings.append(&mut findings);
        self.verify_indexes(base, &batches, report)
    }

    /// Every entry must lead to a batch that is what the entry says.
    fn verify_indexes(
        &self,
        base: Offset,
        batches: &[(u64, Offset, i64)],
        report: &mut VerifyReport,
    ) -> Result<(), OpenError> {
        let file = file_name(base, OFFSET_INDEX);
        let entries = self.offset_index(base)?;
        if entries.is_none() && !batches.is_empty() {
            report.findings.push(warning(
                file.clone(),
                None,
                None,
                "missing; the broker rebuilds it",
            ));
        }
        for entry in entries.unwrap_or_default() {
            let found = batches.binary_search_by_key(&entry.position, |(position, _, _)| *position);
            if found.is_err() || found.is_ok_and(|index| batches[index].1 != entry.offset) {
                let what = "entry leads to no such batch";
                report.findings.push(warning(
                    file.clone(),
                    Some(entry.position),
                    Some(entry.offset),
                    what,
                ));
            }
        }
        let file = file_name(base, TIME_INDEX);
        let entries = self.time_index(base)?;
        if entries.is_none() && !batches.is_empty() {
            report.findings.push(warning(
                file.clone(),
                None,
                None,
                "missing; the broker rebuilds it",
            ));
        }
        for entry in entries.unwrap_or_default() {
            let found =
                batches.binary_search_by_key(&entry.offset, |(_, last_offset, _)| *last_offset);
            if found.is_err() || found.is_ok_and(|index| batches[index].2 != entry.timestamp_ms) {
                let what = "entry does not have the time of its batch";
                report
                    .findings
                    .push(warning(file.clone(), None, Some(entry.offset), what));
            }
        }
        Ok(())
    }

    fn verify_epochs(&self, report: &mut VerifyReport) -> Result<(), OpenError> {
        let file = crate::epochs::FILE_NAME.to_owned();
        match self.leader_epochs() {
            Ok(epochs) => {
                let ascending = epochs
                    .windows(2)
                    .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
                if !ascending {
                    report.findings.push(error(
                        file,
                        None,
                        None,
                        "epochs are not ascending".to_owned(),
                    ));
                }
            }
            Err(OpenError::InvalidFile { what, .. }) => {
                report.findings.push(error(file, None, None, what));
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn verify_snapshots(&self, report: &mut VerifyReport) -> Result<(), OpenError> {
        for offset in self.snapshots() {
            let file = file_name(*offset, crate::folder::SNAPSHOT);
            if self.producers(*offset)?.is_none() {
                report.findings.push(warning(
                    file,
                    None,
                    Some(*offset),
                    "damaged; recovery reads more of the log",
                ));
            }
        }
        Ok(())
    }
}

fn error(file: String, position: Option<u64>, offset: Option<Offset>, what: String) -> Finding {
    Finding {
        severity: Severity::Error,
        file,
        position,
        offset,
        what,
    }
}

fn warning(file: String, position: Option<u64>, offset: Option<Offset>, what: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        file,
        position,
        offset,
        what: what.to_owned(),
    }
}
