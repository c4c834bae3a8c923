//! Where the workload's orders come from: a file, or the year of real orders built into the binary.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use conveyor_paklog::workload::{OrderLines, Settings, Workload};

/// Every order of one store in one year; its source is named in
/// `processors/paklog/fixtures/README.md`.
const FIXTURE: &[u8] =
    include_bytes!("../../../../processors/paklog/fixtures/orders-store-367.csv.gz");

/// Orders that can be opened, more than once if need be.
#[derive(Clone, Debug)]
pub(crate) enum Orders {
    /// The built-in ones.
    Fixture,
    /// A CSV file, plain or gzip.
    File(PathBuf),
}

/// How much of the source has been read, in its own bytes: the base of progress and ETA.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadProgress {
    read: Arc<AtomicU64>,
    total: u64,
}

impl ReadProgress {
    /// Bytes read.
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes there are.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }
}

impl Orders {
    /// From a flag; without one the built-in orders.
    pub(crate) fn from_flag(file: Option<&Path>) -> Self {
        file.map_or(Self::Fixture, |path| Self::File(path.to_owned()))
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Fixture => "3,556 real orders of one store in 2017 (built in)".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// A workload over them from the beginning.
    pub(crate) fn workload(
        &self,
        seed: u64,
    ) -> anyhow::Result<(Workload<OrderLines>, ReadProgress)> {
        let (reader, total): (Box<dyn Read + Send>, u64) = match self {
            Self::Fixture => (Box::new(FIXTURE), FIXTURE.len() as u64),
            Self::File(path) => {
                let open = || format!("cannot open orders {}", path.display());
                let file = File::open(path).with_context(open)?;
                let size = file.metadata().with_context(open)?.len();
                (Box::new(file), size)
            }
        };
        let progress = ReadProgress {
            read: Arc::default(),
            total,
        };
        let counting = CountingReader {
            inner: reader,
            read: Arc::clone(&progress.read),
        };
        let orders = OrderLines::new(counting)
            .with_context(|| format!("cannot read orders from {}", self.describe()))?;
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        Ok((Workload::new(orders, settings), progress))
    }
}

struct CountingReader {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for CountingReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
