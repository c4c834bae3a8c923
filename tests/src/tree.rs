//! A message as a tree of named values, read from its bytes by the tables as data: what two brokers
//! answered is compared field by field.

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use conveyor_kafka::schema::{Field, Kind, Layout, Table};
use conveyor_record::batch::OwnedBatches;
use serde_json::{Map, Value, json};

/// The fields of a structure, in the order in which they travel. All bytes have to be used up.
pub fn tree(table: &'static Table, layout: Layout, bytes: &Bytes) -> Result<Value> {
    let mut reader = Reader {
        layout,
        bytes: bytes.clone(),
    };
    let value = reader.structure(table)?;
    ensure!(
        reader.bytes.is_empty(),
        "{} bytes are left over",
        reader.bytes.len()
    );
    Ok(value)
}

struct Reader {
    layout: Layout,
    bytes: Bytes,
}

impl Reader {
    fn structure(&mut self, table: &'static Table) -> Result<Value> {
        let mut fields = Map::new();
        let present = |field: &&&Field| field.versions.contains(self.layout.version);
        let (tagged, untagged): (Vec<_>, Vec<_>) = table
            .fields
            .iter()
            .filter(present)
            .partition(|field| field.tag.is_some());
        for field in untagged {
            let value = self.value(field, &field.kind, false);
            let place = || format!("{}.{}", table.name, field.name);
            fields.insert(field.name.to_owned(), value.with_context(place)?);
        }
        if self.layout.flexible {
            for _ in 0..self.varint()? {
                let tag = self.varint()?;
                let size = self.varint()? as usize;
                let rest = self.take(size)?;
                let Some(field) = tagged.iter().find(|field| field.tag == Some(tag)) else {
                    fields.insert(format!("tag {tag}"), Value::Null);
                    continue;
                };
                let mut reader = Self {
                    layout: self.layout,
                    bytes: rest,
                };
                let value = reader.value(field, &field.kind, false)?;
                fields.insert(field.name.to_owned(), value);
            }
        }
        Ok(Value::Object(fields))
    }

    fn value(&mut self, field: &Field, kind: &'static Kind, nullable: bool) -> Result<Value> {
        Ok(match kind {
            Kind::Bool => json!(self.take(1)?.get_u8() != 0),
            Kind::Int8 => json!(self.take(1)?.get_i8()),
            Kind::Int16 => json!(self.take(2)?.get_i16()),
            Kind::Uint16 => json!(self.take(2)?.get_u16()),
            Kind::Int32 => json!(self.take(4)?.get_i32()),
            Kind::Uint32 => json!(self.take(4)?.get_u32()),
            Kind::Int64 => json!(self.take(8)?.get_i64()),
            Kind::Float64 => json!(self.take(8)?.get_f64()),
            Kind::Uuid => json!(hex(&self.take(16)?)),
            Kind::Nullable(kind) => {
                let nullable = field.nullable.contains(self.layout.version);
                return self.value(field, kind, nullable);
            }
            Kind::String => match self.length(2)? {
                None => null(nullable)?,
                Some(size) => json!(String::from_utf8(self.take(size)?.to_vec())?),
            },
            Kind::Bytes => match self.length(4)? {
                None => null(nullable)?,
                Some(size) => {
                    let bytes = self.take(size)?;
                    if field.name == "records" {
                        records(&bytes)
                    } else {
                        json!(hex(&bytes))
                    }
                }
            },
            Kind::Array(element) => match self.length(4)? {
                None => null(nullable)?,
                Some(count) => {
                    let elements = (0..count).map(|_| self.value(field, element, false));
                    Value::Array(elements.collect::<Result<_>>()?)
                }
            },
            Kind::Struct(_) if nullable && self.take(1)?.get_i8() < 0 => Value::Null,
            Kind::Struct(table) => self.structure(table)?,
        })
    }

    /// A length or count, in `size` bytes in old layouts; `None` is null.
    fn length(&mut self, size: usize) -> Result<Option<usize>> {
        let length = match (self.layout.flexible, size) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, 2) => i64::from(self.take(2)?.get_i16()),
            (false, _) => i64::from(self.take(4)?.get_i32()),
        };
        ensure!(length >= -1, "a length of {length}");
        Ok(usize::try_from(length).ok())
    }

    fn varint(&mut self) -> Result<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?.get_u8();
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn take(&mut self, size: usize) -> Result<Bytes> {
        ensure!(size <= self.bytes.len(), "the bytes end within the message");
        Ok(self.bytes.split_to(size))
    }
}

fn null(allowed: bool) -> Result<Value> {
    ensure!(allowed, "null, where this version has none");
    Ok(Value::Null)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
    text
}

/// Record batches as what is fixed in them; the bytes themselves if they are no batches.
fn records(bytes: &Bytes) -> Value {
    let batches = OwnedBatches::new(bytes.clone()).map(|batch| {
        let batch = batch.ok()?;
        batch.verify_crc().ok()?;
        let header = batch.header();
        Some(json!({
            "base_offset": header.base_offset.0,
            "leader_epoch": header.leader_epoch.0,
            "last_offset_delta": header.last_offset_delta,
            "attributes": header.attributes.0,
            "record_count": header.record_count,
            "base_sequence": header.base_sequence,
        }))
    });
    let batches: Option<Vec<_>> = batches.collect();
    batches.map_or_else(|| json!(hex(bytes)), Value::Array)
}
