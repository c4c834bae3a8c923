//! A log in memory, a projection that notices every loss, repetition and change of order, and the
//! comparison of a store with the plain fold.

use bytes::Bytes;
use conveyor_processors::applier::PartitionBatch;
use conveyor_processors::parked::ParkedTables;
use conveyor_processors::store::{OwnerEpoch, Position, Store};
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, DecodeError, Decoder, Listing, ParkingFold, Projection,
    Row, RowKey, Rows, Source, SourceRecord, Table, TopicPartition, Value,
};
use conveyor_record::Offset;

const TOPIC: &str = "ledger";

/// What one record says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    Moved {
        account: u8,
        amount: i64,
    },
    Closed {
        account: u8,
    },
    /// Cannot be read, and has no key: it parks alone.
    Garbage,
    /// Cannot be read, and has an account's key: it parks the account.
    Poison {
        account: u8,
    },
    Tombstone,
}

/// Balances, and for each account which records made it, in order.
pub(crate) struct Ledger;

impl Projection for Ledger {
    type Event = Entry;

    fn declaration(&self) -> Declaration {
        let account = Table::new("account", &[("id", ColumnType::Integer)])
            .column("balance", ColumnType::Integer)
            .column("changed_at", ColumnType::Timestamp)
            .column("records", ColumnType::Json)
            .index("balance")
            .listed(&Listing::sorted("account:changed", "id", "changed_at"))
            .listed(&Listing::set("account_of:{balance}", "id").at_most("balance", 100));
        let movement = Table::new(
            "movement",
            &[
                ("partition", ColumnType::Integer),
                ("offset", ColumnType::Integer),
                ("day", ColumnType::Integer),
            ],
        )
        .by_day("day");
        Declaration::new("ledger", 1)
            .source(TOPIC)
            .table(account)
            .table(movement)
    }

    fn touches(&self, event: &Entry, source: &Source) -> Vec<RowKey> {
        match event {
            Entry::Moved { account, .. } | Entry::Closed { account } => {
                vec![account_key(*account), movement_key(source)]
            }
            Entry::Garbage | Entry::Poison { .. } | Entry::Tombstone => Vec::new(),
        }
    }

    fn apply(&self, event: &Entry, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        match event {
            Entry::Moved { account, amount } => {
                rows.edit(&movement_key(source))?;
                let row = rows.edit(&account_key(*account))?;
                row.increment("balance", *amount);
                row.set("changed_at", Value::timestamp_ms(source.timestamp_ms));
                let mut records = row
                    .json("records")
                    .cloned()
                    .unwrap_or_else(|| [0; 0].into());
                if let Some(list) = records.as_array_mut() {
                    list.push(format!("{}@{}", source.partition, source.offset).into());
                }
                row.set("records", records);
                if row.integer("balance") < 0 {
                    return Err(ApplyError::record(format!("account {account} below zero")));
                }
            }
            Entry::Closed { account } => rows.delete(&account_key(*account))?,
            Entry::Garbage | Entry::Poison { .. } | Entry::Tombstone => {}
        }
        Ok(())
    }
}

/// Accounts of different partitions are different: topics may then be read in any order.
fn account_key(account: u8) -> RowKey {
    RowKey::new("account", i64::from(account))
}

/// The row of the record at that place. A few records make a day, some of them before all calendars.
pub(crate) fn movement_at(partition: i64, offset: i64) -> RowKey {
    let day = 20_170_713 + offset / 16 % 6;
    let day = if day == 20_170_713 { -1 } else { day };
    RowKey::of("movement", [partition, offset, day].map(Into::into))
}

fn movement_key(source: &Source) -> RowKey {
    movement_at(source.partition.into(), source.offset.value())
}

/// Reads what [`Log`] writes: `account amount`, `account closed`.
pub(crate) struct LedgerDecoder;

impl Decoder for LedgerDecoder {
    type Event = Entry;

    fn decode(&self, record: &SourceRecord) -> Result<Option<Entry>, DecodeError> {
        let Some(value) = &record.value else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value)
            .map_err(|e| DecodeError::new("ledger.NoText", e.to_string()))?;
        let wrong = || DecodeError::new("ledger.NoEntry", format!("{text:?} is no entry"));
        let (account, what) = text.split_once(' ').ok_or_else(wrong)?;
        let account = account.parse().map_err(|_| wrong())?;
        if what == "closed" {
            return Ok(Some(Entry::Closed { account }));
        }
        let amount = what.parse().map_err(|_| wrong())?;
        Ok(Some(Entry::Moved { account, amount }))
    }
}

/// A log that lies in memory.
pub(crate) struct Log {
    partitions: Vec<Vec<SourceRecord>>,
}

impl Log {
    pub(crate) fn new(partitions: &[Vec<Entry>]) -> Self {
        let records = |(partition, entries): (usize, &Vec<Entry>)| {
            let partition = partition as i32;
            // An account lives in one partition, as a key does.
            let own = |account: u8| u32::from(account) + 10 * partition as u32;
            let entry = |entry: &Entry| match *entry {
                Entry::Moved { account, amount } => {
                    let account = own(account);
                    (Some(account), Some(format!("{account} {amount}")))
                }
                Entry::Closed { account } => {
                    (Some(own(account)), Some(format!("{} closed", own(account))))
                }
                Entry::Garbage => (None, Some("?".to_owned())),
                Entry::Poison { account } => (Some(own(account)), Some("!".to_owned())),
                Entry::Tombstone => (None, None),
            };
            let records = entries.iter().map(entry).zip(0..);
            records
                .map(|((account, value), offset)| record(partition, offset, account, value))
                .collect()
        };
        Self {
            partitions: partitions.iter().enumerate().map(records).collect(),
        }
    }

    pub(crate) fn len(&self) -> i64 {
        self.partitions.iter().map(|p| p.len() as i64).sum()
    }

    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        (0..self.partitions.len())
            .map(|p| TopicPartition::new(TOPIC, p as i32))
            .collect()
    }

    /// What follows on the store's positions.
    pub(crate) async fn batch(
        &self,
        store: &dyn Store,
        epoch: i64,
        records_max: usize,
    ) -> Vec<PartitionBatch> {
        let positions = store.positions(&Ledger.declaration()).await.unwrap();
        self.batch_after(&positions, &self.partitions(), epoch, records_max)
    }

    /// What follows on some positions, of some partitions.
    pub(crate) fn batch_after(
        &self,
        positions: &[Position],
        partitions: &[TopicPartition],
        epoch: i64,
        records_max: usize,
    ) -> Vec<PartitionBatch> {
        let mut batches = Vec::new();
        for topic_partition in partitions.iter().cloned() {
            let records = &self.partitions[topic_partition.partition as usize];
            let position = positions
                .iter()
                .find(|p| p.topic_partition == topic_partition);
            let from = position.map(|p| p.next_offset);
            let start = from.map_or(0, |offset| offset.value() as usize);
            let records: Vec<_> = records[start..].iter().take(records_max).cloned().collect();
            let Some(last) = records.last() else { continue };
            batches.push(PartitionBatch {
                topic_partition,
                from,
                to: last.source.offset.next(),
                owner_epoch: OwnerEpoch(epoch),
                records,
            });
        }
        batches
    }

    /// Records that must be in `error-events` once everything was read.
    pub(crate) fn rejected(&self) -> Vec<(i32, i64)> {
        let parked = self.fold(|_| i64::MAX);
        let heads = parked.parked().values().filter_map(|queue| queue.first());
        heads.map(|head| id_of(&head.source)).collect()
    }

    /// The first records of each partition, folded.
    fn fold(&self, upto: impl Fn(i32) -> i64) -> ParkingFold<'static, Ledger, LedgerDecoder> {
        let mut fold = ParkingFold::new(&Ledger, &LedgerDecoder);
        for record in self.partitions.iter().flatten() {
            if record.source.offset.value() < upto(record.source.partition) {
                fold.take(record);
            }
        }
        fold
    }
}

fn id_of(source: &Source) -> (i32, i64) {
    (source.partition, source.offset.value())
}

fn record(
    partition: i32,
    offset: i64,
    account: Option<u32>,
    value: Option<String>,
) -> SourceRecord {
    SourceRecord {
        source: Source {
            topic: TOPIC.into(),
            partition,
            offset: Offset(offset),
            timestamp_ms: 1_500_000_000_000 + offset,
        },
        key: account.map(|account| account.to_string().into()),
        value: value.map(Bytes::from),
        headers: Vec::new(),
    }
}

/// The invariant of every store. Positions and rows are read one after the other, and a server may
/// still commit what a killed client has sent: so they are read until nothing has moved meanwhile.
pub(crate) async fn assert_store_is_fold(log: &Log, store: &dyn Store) {
    assert_build_is_fold(log, store, &Ledger.declaration()).await;
}

/// The same of a build.
pub(crate) async fn assert_build_is_fold(log: &Log, store: &dyn Store, declaration: &Declaration) {
    let tables = ParkedTables::of("ledger");
    let declaration = &tables.declare(declaration.clone());
    let mut positions = store.positions(declaration).await.unwrap();
    let (stored, waiting) = loop {
        let (mut stored, mut waiting) = (Vec::new(), Vec::new());
        for table in declaration.tables() {
            let rows = store.read_table(declaration, table).await.unwrap();
            match table.name() {
                name if name == tables.records_table() => waiting.extend(rows),
                name if name == tables.keys_table() => {}
                _ => stored.extend(rows),
            }
        }
        let after = store.positions(declaration).await.unwrap();
        if after == positions {
            break (stored, waiting);
        }
        positions = after;
    };
    let fold = log.fold(|partition| {
        let position = positions
            .iter()
            .find(|p| p.topic_partition.partition == partition);
        position.map_or(0, |p| p.next_offset.value())
    });
    // A build's tables have other names in the store.
    let plain = |row: &Row| (row.table().name(), row.values().to_vec());
    let stored: Vec<_> = stored.iter().map(plain).collect();
    let rows = fold.fold().rows();
    let folded: Vec<_> = rows.into_iter().map(|(_, row)| plain(row)).collect();
    assert_eq!(stored, folded, "at {positions:?}");
    let waiting = waiting.iter().map(|row| tables.read_record(row).unwrap().0);
    let mut parked: Vec<_> = fold.parked().values().flatten().cloned().collect();
    parked.sort_unstable_by_key(|record| id_of(&record.source));
    assert_eq!(waiting.collect::<Vec<_>>(), parked, "at {positions:?}");
}
