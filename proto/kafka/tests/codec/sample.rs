//! Messages made up from their tables, written by an encoder of its own that knows the tables as
//! data only: what the generated codec makes of the bytes is compared with it.

use conveyor_kafka::ApiKey;
use conveyor_kafka::api::{AnyRequest, AnyResponse, schemas};
use conveyor_kafka::schema::{Field, Kind, Layout, Table};
use conveyor_kafka::{DecodeError, EncodeError, Gather, Input};

/// One message of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) key: ApiKey,
    pub(crate) is_request: bool,
    pub(crate) version: i16,
}

/// A request or a response.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AnyMessage {
    Request(AnyRequest),
    Response(AnyResponse),
}

impl AnyMessage {
    pub(crate) fn encode(&self, version: i16) -> Result<Gather, EncodeError> {
        let mut out = Gather::new();
        match self {
            Self::Request(request) => request.encode(version, &mut out)?,
            Self::Response(response) => response.encode(version, &mut out)?,
        }
        Ok(out)
    }
}

impl Case {
    /// Every version of every message.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let with_tables = ApiKey::ALL
            .iter()
            .filter_map(|key| Some((*key, key.versions()?)));
        with_tables.flat_map(|(key, versions)| {
            versions.iter().flat_map(move |version| {
                [true, false].map(|is_request| Self {
                    key,
                    is_request,
                    version,
                })
            })
        })
    }

    pub(crate) fn table(self) -> &'static Table {
        let [request, response] = schemas(self.key).expect("it has tables");
        if self.is_request { request } else { response }
    }

    pub(crate) fn layout(self) -> Layout {
        Layout {
            version: self.version,
            flexible: self.key.is_flexible(self.version),
        }
    }

    pub(crate) fn decode(self, input: &mut Input) -> Result<AnyMessage, DecodeError> {
        let message = if self.is_request {
            let request = AnyRequest::decode(self.key, self.version, input);
            request.map(|request| request.map(AnyMessage::Request))
        } else {
            let response = AnyResponse::decode(self.key, self.version, input);
            response.map(|response| response.map(AnyMessage::Response))
        };
        message.expect("it has tables")
    }

    /// The message made up from this seed.
    pub(crate) fn sample(self, seed: u64) -> Sample {
        self.sample_with(seed, &Shape::default())
    }

    pub(crate) fn sample_with(self, seed: u64, shape: &Shape) -> Sample {
        let mut writer = Writer {
            chance: Chance(seed ^ 0x9e37_79b9_7f4a_7c15),
            layout: self.layout(),
            shape: shape.clone(),
            unlike_default: false,
            sample: Sample::default(),
        };
        writer.structure(self.table());
        writer.sample
    }
}

/// What a made-up message shall look like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    /// Fields at the end of each structure that no table knows.
    pub(crate) unknown_tags: u32,
    /// The content of every byte string; made up if there is none.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Whether nothing is null, whatever may be.
    pub(crate) never_null: bool,
}

/// The bytes of a message, and where its lengths and counts lie in them.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lengths: Vec<Length>,
}

/// A length or count within a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) position: usize,
    pub(crate) form: Form,
}

/// How a length is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Two bytes, -1 for null.
    Short,
    /// Four bytes, -1 for null.
    Int,
    /// A variable-length integer.
    Varint,
}

/// A splitmix generator: the same message from the same seed, on every machine.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct Writer {
    chance: Chance,
    layout: Layout,
    shape: Shape,
    /// Within a tagged field: only a value that is no default is written, so make up no default.
    unlike_default: bool,
    sample: Sample,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.sample.bytes.extend_from_slice(bytes);
    }

    fn structure(&mut self, table: &'static Table) {
        let version = self.layout.version;
        let present = |field: &&&Field| field.versions.contains(version);
        for field in table.fields.iter().filter(present) {
            if field.tag.is_none() {
                self.value(field, &field.kind, false);
            }
        }
        if self.layout.flexible {
            let tagged: Vec<_> = table
                .fields
                .iter()
                .filter(present)
                .filter_map(|field| Some((field.tag?, *field)))
                .filter(|_| self.chance.one_in(2))
                .collect();
            self.tagged_section(&tagged);
        }
    }

    fn tagged_section(&mut self, tagged: &[(u32, &'static Field)]) {
        self.length(
            Form::Varint,
            tagged.len() as i64 + i64::from(self.shape.unknown_tags),
        );
        for (tag, field) in tagged {
            self.varint(*tag);
            let outer = std::mem::take(&mut self.sample);
            let unlike_default = std::mem::replace(&mut self.unlike_default, true);
            self.value(field, &field.kind, false);
            self.unlike_default = unlike_default;
            let value = std::mem::replace(&mut self.sample, outer);
            self.length(Form::Varint, value.bytes.len() as i64);
            let start = self.sample.bytes.len();
            let lengths = value.lengths.into_iter().map(|length| Length {
                position: start + length.position,
                ..length
            });
            self.sample.lengths.extend(lengths);
            self.put(&value.bytes);
        }
        for unknown in 0..self.shape.unknown_tags {
            self.varint(1000 + unknown);
            self.length(Form::Varint, 3);
            self.put(b"???");
        }
    }

    fn value(&mut self, field: &'static Field, kind: &'static Kind, nullable: bool) {
        match kind {
            Kind::Bool => {
                let value = self.unlike_default || self.chance.one_in(2);
                self.put(&[u8::from(value)]);
            }
            Kind::Int8 => self.number(1),
            Kind::Int16 | Kind::Uint16 => self.number(2),
            Kind::Int32 | Kind::Uint32 => self.number(4),
            Kind::Int64 => self.number(8),
            Kind::Float64 => {
                let value = 1.5 + self.chance.below(1000) as f64;
                self.put(&value.to_be_bytes());
            }
            Kind::Uuid => {
                let halves = [self.chance.next() | 1, self.chance.next()];
                self.put(&halves.map(u64::to_be_bytes).concat());
            }
            Kind::Nullable(kind) => {
                let nullable = field.nullable.contains(self.layout.version);
                self.value(field, kind, nullable);
            }
            Kind::String => {
                let form = if self.layout.flexible {
                    Form::Varint
                } else {
                    Form::Short
                };
                if let Some(size) = self.size(form, nullable, 300) {
                    let text: String = (0..size).map(|_| self.letter()).collect();
                    self.counted(form, text.len());
                    self.put(text.as_bytes());
                }
            }
            Kind::Bytes => {
                let form = if self.layout.flexible {
                    Form::Varint
                } else {
                    Form::Int
                };
                if let Some(bytes) = self.shape.bytes.clone() {
                    self.counted(form, bytes.len());
                    self.put(&bytes);
                } else if let Some(size) = self.size(form, nullable, 3000) {
                    self.counted(form, size);
                    let bytes: Vec<u8> = (0..size).map(|_| self.chance.next() as u8).collect();
                    self.put(&bytes);
                }
            }
            Kind::Array(element) => {
                let form = if self.layout.flexible {
                    Form::Varint
                } else {
                    Form::Int
                };
                let large = matches!(element, Kind::Int32).then_some(200);
                if let Some(count) = self.size(form, nullable, large.unwrap_or(4)) {
                    let count = count.min(large.unwrap_or(4));
                    self.counted(form, count);
                    (0..count).for_each(|_| self.value(field, element, false));
                }
            }
            Kind::Struct(table) => {
                if nullable {
                    let set = self.unlike_default || self.shape.never_null;
                    let present = set || self.chance.one_in(2);
                    self.put(&[if present { 1 } else { 0xff }]);
                    if !present {
                        return;
                    }
                }
                self.structure(table);
            }
        }
    }

    /// Any number of this many bytes; small ones, zero and the ends of the range often.
    fn number(&mut self, size: usize) {
        let value = match self.chance.below(6) {
            _ if self.unlike_default => 2 + self.chance.below(100),
            0 => 0,
            1 => u64::MAX,
            2 => u64::MAX >> 1,
            3 => self.chance.next(),
            _ => self.chance.below(100),
        };
        let value = if value == u64::MAX >> 1 {
            value >> (64 - 8 * size)
        } else {
            value
        };
        self.put(&value.to_be_bytes()[8 - size..]);
    }

    /// The size of something; `None` if it is null, which is then written.
    fn size(&mut self, form: Form, nullable: bool, large: usize) -> Option<usize> {
        if self.unlike_default {
            return Some(1 + self.chance.below(3) as usize);
        }
        if nullable && !self.shape.never_null && self.chance.one_in(4) {
            self.length(form, if form == Form::Varint { 0 } else { -1 });
            return None;
        }
        Some(match self.chance.below(20) {
            0 => large,
            1..=4 => 0,
            _ => 1 + self.chance.below(3) as usize,
        })
    }

    fn counted(&mut self, form: Form, count: usize) {
        let one_more = i64::from(form == Form::Varint);
        self.length(form, count as i64 + one_more);
    }

    fn length(&mut self, form: Form, value: i64) {
        let position = self.sample.bytes.len();
        self.sample.lengths.push(Length { position, form });
        match form {
            Form::Short => self.put(&(value as i16).to_be_bytes()),
            Form::Int => self.put(&(value as i32).to_be_bytes()),
            Form::Varint => self.varint(value as u32),
        }
    }

    fn varint(&mut self, value: u32) {
        let bytes = varint(value);
        self.put(&bytes);
    }

    fn letter(&mut self) -> char {
        const LETTERS: [char; 8] = ['a', 'b', 'Z', '0', '-', '.', 'ß', '工'];
        LETTERS[self.chance.below(8) as usize]
    }
}

/// An unsigned integer of seven bits a byte, least significant first.
pub(crate) fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

impl Sample {
    /// The bytes with one length replaced by these bytes.
    pub(crate) fn with_length(&self, length: Length, lie: &[u8]) -> Vec<u8> {
        let from = length.position;
        let size = match length.form {
            Form::Short => 2,
            Form::Int => 4,
            Form::Varint => {
                1 + self.bytes[from..]
                    .iter()
                    .take_while(|b| **b >= 0x80)
                    .count()
            }
        };
        let mut bytes = self.bytes.clone();
        bytes.splice(from..from + size, lie.iter().copied());
        bytes
    }

    /// Lies that can stand for a length of this form.
    pub(crate) fn lies(&self, length: Length) -> Vec<Vec<u8>> {
        let left = (self.bytes.len() - length.position) as u32;
        match length.form {
            Form::Short => [-1, -2, i16::MIN, i16::MAX, left as i16]
                .map(|lie| lie.to_be_bytes().to_vec())
                .into(),
            Form::Int => [-1, -2, i32::MIN, i32::MAX, left as i32]
                .map(|lie| lie.to_be_bytes().to_vec())
                .into(),
            Form::Varint => {
                let mut lies = [0, u32::MAX, i32::MAX as u32, left + 1]
                    .map(varint)
                    .to_vec();
                lies.push(vec![0xff; 6]);
                lies
            }
        }
    }
}
