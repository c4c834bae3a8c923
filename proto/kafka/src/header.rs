//! The headers before requests and responses.

use crate::api::{ApiKey, request_header_version, response_header_version};
use crate::error::{DecodeError, EncodeError, Fault};
use crate::gather::Gather;
use crate::input::Input;
use crate::schema::{Field, Kind, Layout, Versions};
use crate::text::Text;
use crate::value::Value;

/// What stands before every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// What the request asks for.
    pub api_key: ApiKey,
    /// The version of request and response. Any number: whether it is served is the caller's to say.
    pub api_version: i16,
    /// Comes back with the response.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<Text>,
}

/// The header's strings have lengths of 16 bits in every version, flexible or not.
const FIXED: Layout = Layout {
    version: 1,
    flexible: false,
};

const fn field(name: &'static str, kind: Kind) -> Field {
    Field::new("RequestHeader", name, kind, Versions::since(0))
}

const REQUEST_API_KEY: &Field = &field("request_api_key", Kind::Int16);
const REQUEST_API_VERSION: &Field = &field("request_api_version", Kind::Int16);
const CORRELATION_ID: &Field = &field("correlation_id", Kind::Int32);
const CLIENT_ID: &Field = &field("client_id", Kind::Nullable(&Kind::String));

impl RequestHeader {
    /// Reads the header of the version that belongs to the API and version in it.
    pub fn decode(input: &mut Input) -> Result<Self, DecodeError> {
        let code = i16::read(input, FIXED, REQUEST_API_KEY)?;
        let Some(api_key) = ApiKey::from_code(code) else {
            return Err(input.error(Fault::UnknownApi(code), REQUEST_API_KEY));
        };
        let header = Self {
            api_key,
            api_version: i16::read(input, FIXED, REQUEST_API_VERSION)?,
            correlation_id: i32::read(input, FIXED, CORRELATION_ID)?,
            client_id: Option::read(input, FIXED, CLIENT_ID)?,
        };
        if request_header_version(header.api_key, header.api_version) >= 2 {
            input.tagged_fields(&mut |_, _| Ok(false))?;
        }
        Ok(header)
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut Gather) -> Result<(), EncodeError> {
        self.api_key.code().write(out, FIXED, REQUEST_API_KEY)?;
        self.api_version.write(out, FIXED, REQUEST_API_VERSION)?;
        self.correlation_id.write(out, FIXED, CORRELATION_ID)?;
        self.client_id.write(out, FIXED, CLIENT_ID)?;
        if request_header_version(self.api_key, self.api_version) >= 2 {
            out.put_varint(0);
        }
        Ok(())
    }
}

/// What stands before every response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    /// That of the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header that belongs to a response of this API and version.
    pub fn decode(
        api_key: ApiKey,
        api_version: i16,
        input: &mut Input,
    ) -> Result<Self, DecodeError> {
        let correlation_id = i32::read(input, FIXED, CORRELATION_ID)?;
        if response_header_version(api_key, api_version) >= 1 {
            input.tagged_fields(&mut |_, _| Ok(false))?;
        }
        Ok(Self { correlation_id })
    }

    /// Appends the header that belongs to a response of this API and version.
    pub fn encode(self, api_key: ApiKey, api_version: i16, out: &mut Gather) {
        out.put(&self.correlation_id.to_be_bytes());
        if response_header_version(api_key, api_version) >= 1 {
            out.put_varint(0);
        }
    }
}
