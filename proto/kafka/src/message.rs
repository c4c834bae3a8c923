//! What all messages can do.

use crate::api::ApiKey;
use crate::error::{DecodeError, EncodeError, Fault};
use crate::gather::Gather;
use crate::input::Input;
use crate::schema::{Field, Kind, Layout, Table, Versions};
use crate::value::Value;

/// A request, a response, or another structure with versions of its own.
pub trait Message: Value + Default {
    /// Its name in Kafka's definitions.
    const NAME: &'static str;
    /// Its fields, as data.
    const TABLE: &'static Table;
    /// The versions that can be read and written.
    const VERSIONS: Versions;
    /// The first flexible version (KIP-482); [`i16::MAX`] if there is none.
    const FLEXIBLE_FROM: i16;

    /// Reads the message from where `input` stands. Bytes behind it are left for the caller.
    fn decode(version: i16, input: &mut Input) -> Result<Self, DecodeError> {
        let Some(layout) = layout::<Self>(version) else {
            return Err(unsupported(version, Self::VERSIONS, Self::NAME, input));
        };
        Self::read(input, layout, ROOT)
    }

    /// Appends the message to `out`, which is of no use after an error.
    fn encode(&self, version: i16, out: &mut Gather) -> Result<(), EncodeError> {
        match layout::<Self>(version) {
            Some(layout) => self.write(out, layout, ROOT),
            None => Err(EncodeError::UnsupportedVersion {
                message: Self::NAME,
                version,
                versions: Self::VERSIONS,
            }),
        }
    }
}

/// A message that asks for another.
pub trait Request: Message {
    /// The key that stands in its header.
    const API_KEY: ApiKey;
    /// What answers it.
    type Response: Message;
}

/// A message itself is no field, and never null.
const ROOT: &Field = &Field::new("message", "itself", Kind::Bool, Versions::since(0));

fn layout<M: Message>(version: i16) -> Option<Layout> {
    M::VERSIONS.contains(version).then_some(Layout {
        version,
        flexible: version >= M::FLEXIBLE_FROM,
    })
}

fn unsupported(
    version: i16,
    versions: Versions,
    table: &'static str,
    input: &Input,
) -> DecodeError {
    DecodeError {
        fault: Fault::UnsupportedVersion { version, versions },
        table,
        field: "version",
        position: input.position(),
    }
}
