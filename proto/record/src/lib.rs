//! RecordBatch v2: view, validate, build, checksum, compress.
#![forbid(unsafe_code)]
