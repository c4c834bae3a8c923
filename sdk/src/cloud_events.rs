//! CloudEvents 1.0 in the records of a log.
//!
//! This module owns the event type and its two forms in a record: *structured* (the whole event is a
//! JSON document in the value, the default, because readers that look at values only can use it) and
//! *binary* (attributes in `ce_…` headers, the data alone in the value). It knows nothing of topics,
//! partitions or sockets: [`EncodedEvent`] and the arguments of [`decode`] are plain bytes;
//! [`EncodedEvent::into_record`] and [`ConsumerRecord::cloud_event`](crate::ConsumerRecord::cloud_event)
//! tie them to records.
//!
//! A [`CloudEvent`] in hand is valid: builder and decoder check every attribute, so encoding cannot
//! fail.
//!
//! ```
//! use conveyor_sdk::cloud_events::{CloudEvent, Encoding, decode};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let event = CloudEvent::builder("com.paklog.wms.wave.released.v1", "/wms/wave-planning")
//!     .id("WAVE-0A1B2C3D/7")
//!     .subject("WAVE-0A1B2C3D")
//!     .correlation_id("d290f1ee")
//!     .aggregate_version(7)
//!     .json(json!({ "wave_id": "WAVE-0A1B2C3D", "order_ids": ["o-1", "o-2"] }))
//!     .build()?;
//!
//! let encoded = event.encode_structured();
//! let decoded = decode(encoded.value.as_deref(), encoded.header_views())?;
//! assert_eq!(decoded.encoding, Encoding::Structured);
//! assert_eq!(decoded.event, event);
//! # Ok(())
//! # }
//! ```

mod attribute;
mod binary;
mod data;
mod decode;
mod error;
mod event;
mod structured;
#[cfg(test)]
mod tests;

pub use attribute::ExtensionValue;
pub use data::EventData;
pub use decode::{Decoded, Encoding, decode};
pub use error::CloudEventError;
pub use event::{CloudEvent, CloudEventBuilder, EncodedEvent};

/// The only version of the specification that is read and written.
pub const SPEC_VERSION: &str = "1.0";

/// The `content-type` header of a record in structured mode.
pub const STRUCTURED_CONTENT_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

/// The header that names the form of the value.
pub const CONTENT_TYPE_HEADER: &str = "content-type";

/// What the names of attribute headers begin with in binary mode.
pub const ATTRIBUTE_HEADER_PREFIX: &str = "ce_";
