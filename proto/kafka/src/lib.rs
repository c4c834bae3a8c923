//! Kafka's protocol: one declarative table a message, from which decode and encode are generated for
//! every version served; frames; errors.
//!
//! The messages are in [`messages`], one module an API; [`frame`] has what goes around them. A table
//! looks like Kafka's own definition of the message (see `table.rs`), and struct and field names are
//! Kafka's. `Default` gives Kafka's default values, except that what may be null is null by default.
//!
//! What comes in is hostile until shown otherwise: every length and count is checked against the
//! bytes that are left before anything is allocated, all arrays of a frame together take no more
//! than a multiple of its size in memory, nesting is as deep as the tables and no deeper, unknown
//! tagged fields are skipped, and each error says what is wrong, in which field, at which byte. Texts
//! and byte strings are slices of the frame they came in.
//!
//! What goes out is a list of buffers ([`Gather`]) in which large byte strings, such as records, are
//! the caller's own. A value that a version has no place for is dropped if Kafka says that it may be,
//! and is an error otherwise.
//!
//! This crate knows no socket, no broker, and nothing of what lies inside record batches.
//!
//! ```
//! use conveyor_kafka::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
//! use conveyor_kafka::{ApiKey, Input, Message, RequestHeader, frame};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let request = HeartbeatRequest { group_id: "pickers".into(), ..Default::default() };
//! let sent = frame::request_frame(4, 7, Some("me"), &request)?.into_bytes();
//!
//! let mut input = Input::new(sent.slice(frame::PREFIX_SIZE..));
//! let header = RequestHeader::decode(&mut input)?;
//! assert_eq!((header.api_key, header.api_version), (ApiKey::Heartbeat, 4));
//! assert_eq!(HeartbeatRequest::decode(header.api_version, &mut input)?, request);
//!
//! let response = HeartbeatResponse { error_code: 25, ..Default::default() };
//! let pieces = frame::response_frame(header.api_key, 4, header.correlation_id, &response)?;
//! assert_eq!(pieces.len(), 4 + 5 + 4 + 2 + 1);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod api;
pub mod error;
pub mod frame;
pub mod gather;
pub mod header;
pub mod input;
pub mod message;
pub mod messages;
pub mod schema;
mod table;
pub mod text;
pub mod value;

pub use api::{ApiKey, request_header_version, response_header_version};
pub use error::{DecodeError, EncodeError, Fault, FrameError};
pub use gather::Gather;
pub use header::{RequestHeader, ResponseHeader};
pub use input::Input;
pub use message::{Message, Request};
pub use text::Text;
