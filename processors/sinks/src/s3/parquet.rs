//! Records as a Parquet file of one schema, one row group, compressed by Snappy.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::lines::{Line, headers_of, text_of};

/// Keys and values that are no text stand in the columns that end with `_bytes`.
const SCHEMA: &str = "message record {
    REQUIRED BYTE_ARRAY topic (STRING);
    REQUIRED INT32 partition;
    REQUIRED INT64 offset;
    REQUIRED INT64 timestamp (TIMESTAMP(MILLIS, true));
    REQUIRED INT64 time (TIMESTAMP(MILLIS, true));
    OPTIONAL BYTE_ARRAY type (STRING);
    OPTIONAL BYTE_ARRAY subject (STRING);
    OPTIONAL BYTE_ARRAY key (STRING);
    OPTIONAL BYTE_ARRAY key_bytes;
    REQUIRED BYTE_ARRAY headers (JSON);
    OPTIONAL BYTE_ARRAY value (STRING);
    OPTIONAL BYTE_ARRAY value_bytes;
}";

type RowGroup<'w> = SerializedRowGroupWriter<'w, Vec<u8>>;

/// A file with these lines.
pub(super) fn encode(lines: &[Line]) -> Result<Vec<u8>, String> {
    write(lines).map_err(|error| format!("Parquet cannot be written: {error}"))
}

fn write(lines: &[Line]) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut rows = file.next_row_group()?;
    let all = || lines.iter();
    required::<ByteArrayType>(&mut rows, all().map(|l| text(&l.source.topic)))?;
    required::<Int32Type>(&mut rows, all().map(|l| l.source.partition))?;
    required::<Int64Type>(&mut rows, all().map(|l| l.source.offset.value()))?;
    required::<Int64Type>(&mut rows, all().map(|l| l.source.timestamp_ms))?;
    required::<Int64Type>(&mut rows, all().map(|l| l.time_ms))?;
    optional(&mut rows, all().map(|l| l.event_type.as_deref().map(text)))?;
    optional(&mut rows, all().map(|l| l.subject.as_deref().map(text)))?;
    optional(&mut rows, all().map(|l| as_text(l.key.as_ref())))?;
    optional(&mut rows, all().map(|l| as_bytes(l.key.as_ref())))?;
    let headers = |l: &Line| text(&headers_of(&l.headers).to_string());
    required::<ByteArrayType>(&mut rows, all().map(headers))?;
    optional(&mut rows, all().map(|l| as_text(l.value.as_ref())))?;
    optional(&mut rows, all().map(|l| as_bytes(l.value.as_ref())))?;
    rows.close()?;
    file.into_inner()
}

fn text(text: &str) -> ByteArray {
    ByteArray::from(text.as_bytes().to_vec())
}

fn as_text(bytes: Option<&Bytes>) -> Option<ByteArray> {
    text_of(bytes)?;
    bytes.cloned().map(ByteArray::from)
}

fn as_bytes(bytes: Option<&Bytes>) -> Option<ByteArray> {
    match text_of(bytes) {
        Some(_) => None,
        None => bytes.cloned().map(ByteArray::from),
    }
}

fn required<T: DataType>(
    rows: &mut RowGroup<'_>,
    values: impl Iterator<Item = T::T>,
) -> Result<(), ParquetError> {
    let values: Vec<T::T> = values.collect();
    column::<T>(rows, &values, None)
}

fn optional(
    rows: &mut RowGroup<'_>,
    values: impl Iterator<Item = Option<ByteArray>>,
) -> Result<(), ParquetError> {
    let values: Vec<_> = values.collect();
    let levels: Vec<i16> = values
        .iter()
        .map(|value| i16::from(value.is_some()))
        .collect();
    let values: Vec<ByteArray> = values.into_iter().flatten().collect();
    column::<ByteArrayType>(rows, &values, Some(&levels))
}

fn column<T: DataType>(
    rows: &mut RowGroup<'_>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let column = rows.next_column()?;
    let mut column = column.ok_or_else(|| ParquetError::General("a column too many".to_owned()))?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::super::lines::tests::line;
    use super::*;

    #[test]
    fn a_file_holds_the_records_and_is_the_same_bytes_every_time() {
        let lines = [
            line(1, Some(b"k"), Some(b"{\"n\":1}")),
            line(2, Some(b"\xff"), Some(b"\xfe")),
            line(3, None, None),
        ];
        let file = encode(&lines).unwrap();
        assert_eq!(encode(&lines).unwrap(), file);
        let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].get_string(0).unwrap(), "orders");
        assert_eq!(
            (rows[0].get_int(1).unwrap(), rows[0].get_long(2).unwrap()),
            (3, 1)
        );
        assert_eq!(rows[0].get_string(10).unwrap(), "{\"n\":1}");
        assert_eq!(rows[1].get_bytes(8).unwrap().data(), b"\xff");
        assert_eq!(rows[1].get_bytes(11).unwrap().data(), b"\xfe");
        assert!(rows[1].get_string(10).is_err() && rows[2].get_bytes(11).is_err());
    }
}
