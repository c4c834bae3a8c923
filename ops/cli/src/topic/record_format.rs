//! How records are printed and read: `json`, `text`, or a template in rpk's way.
//!
//! | token | means |
//! |---|---|
//! | `%t` `%p` `%o` `%d` | topic, partition, offset, timestamp (ms since the epoch) |
//! | `%k` `%v` | key, value |
//! | `%K` `%V` `%H` | their lengths in bytes, the number of headers |
//! | `%h{%k=%v }` | for each header: its key and value |
//! | `%%` | a per cent sign; `\n` `\t` `\r` `\\` as usual |
//!
//! Key and value may take a modifier: `%v{hex}`, `%v{base64}`, `%v{json}` (as a JSON string).

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Serialize;

/// A record as commands print it. The names of the JSON fields are rpk's.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PrintedRecord {
    pub(crate) topic: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub(crate) key: Option<Bytes>,
    #[serde(serialize_with = "as_text")]
    pub(crate) value: Option<Bytes>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<PrintedHeader>,
    /// Milliseconds since the epoch.
    pub(crate) timestamp: i64,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// A header of a [`PrintedRecord`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PrintedHeader {
    pub(crate) key: String,
    #[serde(serialize_with = "as_text")]
    pub(crate) value: Option<Bytes>,
}

#[allow(clippy::ref_option, reason = "the signature that serialize_with calls")]
fn as_text<S: serde::Serializer>(bytes: &Option<Bytes>, out: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => out.serialize_str(&String::from_utf8_lossy(bytes)),
        None => out.serialize_none(),
    }
}

/// How to print records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordFormat {
    /// One JSON object a line.
    Json,
    /// One readable line a record.
    Text,
    /// As a template says; no line break of its own.
    Template(Vec<Piece>),
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key(Encoding),
    Value(Encoding),
    KeyLen,
    ValueLen,
    HeaderCount,
    Headers(Vec<Self>),
}

/// How bytes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As they are.
    Raw,
    Hex,
    Base64,
    /// As a JSON string.
    Json,
}

/// A template that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record format {template:?}: {reason} (known: %t %p %o %d %k %v %K %V %H %h{{…}} %%)")]
pub(crate) struct FormatError {
    template: String,
    reason: String,
}

impl std::str::FromStr for RecordFormat {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            template => parse_template(template).map(Self::Template),
        }
    }
}

/// Reads a template.
pub(crate) fn parse_template(template: &str) -> Result<Vec<Piece>, FormatError> {
    let error = |reason: String| FormatError {
        template: template.to_owned(),
        reason,
    };
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = template.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => literal.push(match rest.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => return Err(error("ends with a backslash".to_owned())),
            }),
            '%' => {
                let Some(token) = rest.next() else {
                    return Err(error("ends with a per cent sign".to_owned()));
                };
                if token == '%' {
                    literal.push('%');
                    continue;
                }
                let mut braced = || take_braced(&mut rest);
                let piece = match token {
                    't' => Piece::Topic,
                    'p' => Piece::Partition,
                    'o' => Piece::Offset,
                    'd' => Piece::Timestamp,
                    'k' => Piece::Key(encoding(braced().as_deref()).map_err(error)?),
                    'v' => Piece::Value(encoding(braced().as_deref()).map_err(error)?),
                    'K' => Piece::KeyLen,
                    'V' => Piece::ValueLen,
                    'H' => Piece::HeaderCount,
                    'h' => match braced() {
                        Some(inner) => Piece::Headers(parse_template(&inner)?),
                        None => return Err(error("%h needs braces, as in %h{%k=%v }".to_owned())),
                    },
                    other => return Err(error(format!("%{other} is not known"))),
                };
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
            }
            other => literal.push(other),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// What stands in braces next, if anything does; braces may nest.
fn take_braced(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    rest.next_if_eq(&'{')?;
    let mut depth = 1;
    let mut inner = String::new();
    for c in rest.by_ref() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            break;
        }
        inner.push(c);
    }
    Some(inner)
}

fn encoding(modifier: Option<&str>) -> Result<Encoding, String> {
    match modifier {
        None | Some("") => Ok(Encoding::Raw),
        Some("hex") => Ok(Encoding::Hex),
        Some("base64") => Ok(Encoding::Base64),
        Some("json") => Ok(Encoding::Json),
        Some(other) => Err(format!("{{{other}}} is not known: hex, base64 or json")),
    }
}

impl RecordFormat {
    /// The record as it is to be written.
    pub(crate) fn render(&self, record: &PrintedRecord) -> Vec<u8> {
        match self {
            Self::Json => {
                // Strings, numbers and lists only: this cannot fail.
                let mut line = serde_json::to_vec(record).unwrap_or_default();
                line.push(b'\n');
                line
            }
            Self::Text => text_line(record).into_bytes(),
            Self::Template(pieces) => {
                let mut out = Vec::new();
                render_pieces(pieces, record, &mut out);
                out
            }
        }
    }
}

fn render_pieces(pieces: &[Piece], record: &PrintedRecord, out: &mut Vec<u8>) {
    for piece in pieces {
        let number = match piece {
            Piece::Literal(text) => {
                out.extend_from_slice(text.as_bytes());
                continue;
            }
            Piece::Topic => {
                out.extend_from_slice(record.topic.as_bytes());
                continue;
            }
            Piece::Key(encoding) => {
                encode(record.key.as_deref(), *encoding, out);
                continue;
            }
            Piece::Value(encoding) => {
                encode(record.value.as_deref(), *encoding, out);
                continue;
            }
            Piece::Headers(inner) => {
                for header in &record.headers {
                    let as_record = PrintedRecord {
                        key: Some(Bytes::copy_from_slice(header.key.as_bytes())),
                        value: header.value.clone(),
                        headers: Vec::new(),
                        ..record.clone()
                    };
                    render_pieces(inner, &as_record, out);
                }
                continue;
            }
            Piece::Partition => i64::from(record.partition),
            Piece::Offset => record.offset,
            Piece::Timestamp => record.timestamp,
            Piece::KeyLen => record.key.as_ref().map_or(0, |key| key.len() as i64),
            Piece::ValueLen => record.value.as_ref().map_or(0, |value| value.len() as i64),
            Piece::HeaderCount => record.headers.len() as i64,
        };
        out.extend_from_slice(number.to_string().as_bytes());
    }
}

fn encode(bytes: Option<&[u8]>, encoding: Encoding, out: &mut Vec<u8>) {
    let bytes = bytes.unwrap_or_default();
    match encoding {
        Encoding::Raw => out.extend_from_slice(bytes),
        Encoding::Hex => {
            for byte in bytes {
                out.extend_from_slice(format!("{byte:02x}").as_bytes());
            }
        }
        Encoding::Base64 => out.extend_from_slice(base64(bytes).as_bytes()),
        Encoding::Json => {
            let text = String::from_utf8_lossy(bytes);
            // A string always becomes JSON.
            serde_json::to_writer(out, &text).ok();
        }
    }
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let sextet = (group >> (18 - 6 * i)) & 63;
            let filled = i <= chunk.len();
            text.push(if filled {
                char::from(ALPHABET[sextet as usize])
            } else {
                '='
            });
        }
    }
    text
}

/// `order-events-3@17  2026-11-23 04:05:06.789  key  value`.
fn text_line(record: &PrintedRecord) -> String {
    let text = |bytes: &Option<Bytes>| match bytes {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "-".to_owned(),
    };
    let mut line = format!("{}-{}@{}", record.topic, record.partition, record.offset);
    let moment = crate::output::moment_text(record.timestamp);
    // Writing to a string cannot fail.
    writeln!(
        line,
        "  {moment}  {}  {}",
        text(&record.key),
        text(&record.value)
    )
    .ok();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> PrintedRecord {
        PrintedRecord {
            topic: "order-events".into(),
            key: Some(Bytes::from_static(b"o-1")),
            value: Some(Bytes::from_static(b"{\"a\":1}")),
            headers: vec![
                PrintedHeader {
                    key: "x".into(),
                    value: Some(Bytes::from_static(b"1")),
                },
                PrintedHeader {
                    key: "y".into(),
                    value: None,
                },
            ],
            timestamp: 1_795_406_706_789,
            partition: 3,
            offset: 17,
        }
    }

    fn render(format: &str) -> String {
        let format: RecordFormat = format.parse().unwrap();
        String::from_utf8(format.render(&record())).unwrap()
    }

    #[test]
    fn templates() {
        assert_eq!(
            render("%t-%p@%o %d\\n"),
            "order-events-3@17 1795406706789\n"
        );
        assert_eq!(render("%k(%K)=%v(%V) 100%%"), "o-1(3)={\"a\":1}(7) 100%");
        assert_eq!(render("%H: %h{%k=%v;}"), "2: x=1;y=;");
        assert_eq!(
            render("%k{hex} %k{base64} %v{json}"),
            "6f2d31 by0x \"{\\\"a\\\":1}\""
        );
    }

    #[test]
    fn base64_pads() {
        assert_eq!(
            [base64(b""), base64(b"f"), base64(b"fo"), base64(b"foob")],
            ["", "Zg==", "Zm8=", "Zm9vYg=="]
        );
    }

    #[test]
    fn json_has_rpks_names() {
        assert_eq!(
            render("json"),
            "{\"topic\":\"order-events\",\"key\":\"o-1\",\"value\":\"{\\\"a\\\":1}\",\"headers\":\
             [{\"key\":\"x\",\"value\":\"1\"},{\"key\":\"y\",\"value\":null}],\
             \"timestamp\":1795406706789,\"partition\":3,\"offset\":17}\n"
        );
    }

    #[test]
    fn text_is_one_line() {
        assert_eq!(
            render("text"),
            "order-events-3@17  2026-11-23 04:05:06.789  o-1  {\"a\":1}\n"
        );
    }

    #[test]
    fn a_template_that_makes_no_sense_says_where() {
        for (template, reason) in [
            ("%x", "%x is not known"),
            ("a%", "per cent"),
            ("%h", "braces"),
            ("%v{zip}", "zip"),
        ] {
            let error = template.parse::<RecordFormat>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
