//! What the driver's and the server's errors mean, and which setting mends them.

use conveyor_processors::DecodeError;
use conveyor_processors::store::StoreError;
use mongodb::bson::{Bson, Document};
use mongodb::error::{Error, ErrorKind};

use crate::documents::Outcome;

/// The kind of a record that the server refuses, in `error-events`.
pub(super) const REFUSED: &str = "conveyor.sink.mongodb.Refused";

/// A label of errors that pass.
const RETRYABLE: &str = "RetryableWriteError";

const DUPLICATE_KEY: i32 = 11_000;
const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
const ATLAS_ERROR: i32 = 8_000;
const INDEX_OPTIONS_CONFLICT: i32 = 85;
const INDEX_KEY_SPECS_CONFLICT: i32 = 86;

/// Codes that pass: servers on their way up, down or to another role, conflicts, full disks,
/// time-outs.
const PASSING: [i32; 24] = [
    6, 7, 24, 50, 64, 89, 91, 112, 133, 134, 189, 202, 246, 251, 262, 290, 317, 9_001, 10_107,
    11_600, 11_602, 13_435, 13_436, 14_031,
];

/// Codes by which a server refuses a command for one document in it: values and names that it cannot
/// store, and documents that are too large.
const OF_A_DOCUMENT: [i32; 14] = [
    2, 9, 14, 15, 22, 52, 55, 56, 57, 121, 10_334, 17_280, 17_419, 17_420,
];

/// One operation that the server refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// Which, by its place in the command.
    pub(super) index: usize,
    code: i32,
    message: String,
    /// Whether a duplicate was one of `_id`.
    of_id: bool,
}

impl Refused {
    /// Those of an answer.
    pub(super) fn of(answer: &Document) -> Vec<Self> {
        let errors = answer.get_array("writeErrors").ok();
        let errors = errors.into_iter().flatten().filter_map(Bson::as_document);
        errors.filter_map(Self::read).collect()
    }

    fn read(error: &Document) -> Option<Self> {
        let message = error.get_str("errmsg").unwrap_or_default().to_owned();
        let of_id = match error.get_document("keyPattern") {
            Ok(pattern) => pattern.keys().eq(["_id"]),
            Err(_) => message.contains("_id_") || message.contains("_id:"),
        };
        Some(Self {
            index: usize::try_from(whole(error.get("index")?)?).ok()?,
            code: i32::try_from(whole(error.get("code")?)?).ok()?,
            message,
            of_id,
        })
    }

    /// What becomes of the document.
    pub(super) fn outcome(self, inserted: bool) -> Outcome {
        match self.code {
            // The same record, written before.
            DUPLICATE_KEY if self.of_id && inserted => Outcome::Done,
            // Two writers made the same document at once: the second now finds it.
            DUPLICATE_KEY if self.of_id => Outcome::Later(self.message),
            code if PASSING.contains(&code) => Outcome::Later(self.message),
            code => {
                let reason = format!("{} (code {code})", self.message);
                Outcome::Rejected(DecodeError::new(REFUSED, reason))
            }
        }
    }
}

fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(it) => Some(i64::from(*it)),
        Bson::Int64(it) => Some(*it),
        Bson::Double(it) => Some(*it as i64),
        _ => None,
    }
}

/// Why an answer does not mean that the writes are safe.
pub(super) fn not_durable(answer: &Document) -> Option<String> {
    let error = answer.get_document("writeConcernError").ok()?;
    Some(
        error
            .get_str("errmsg")
            .unwrap_or("write concern")
            .to_owned(),
    )
}

fn code_of(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(refused) => Some(refused.code),
        _ => None,
    }
}

/// Whether an index of that name is there with other settings.
pub(super) fn is_other_index(error: &Error) -> bool {
    matches!(
        code_of(error),
        Some(INDEX_OPTIONS_CONFLICT | INDEX_KEY_SPECS_CONFLICT)
    )
}

/// Whether a command was refused for what is in it.
pub(super) fn blames_a_document(error: &Error) -> bool {
    match (&*error.kind, code_of(error)) {
        (ErrorKind::BsonSerialization(_) | ErrorKind::Bson(_), _) => true,
        (_, code) => code.is_some_and(|code| OF_A_DOCUMENT.contains(&code)),
    }
}

/// Sorts errors: those that time mends, and the others with the setting that mends them.
pub(super) fn sort(error: &Error, name: &str) -> StoreError {
    let (store, reason) = (name.to_owned(), error.kind.to_string());
    let failed = |mend: &str| StoreError::Failed {
        store: store.clone(),
        reason: format!("{reason}: {mend}"),
    };
    match (&*error.kind, code_of(error)) {
        (ErrorKind::Authentication { .. }, _) | (_, Some(AUTHENTICATION_FAILED)) => failed(
            "mend user and password in mongodb.url, mongodb://USER:PASSWORD@…; authSource names \
             the database that knows the user",
        ),
        (_, Some(UNAUTHORIZED | ATLAS_ERROR)) => failed(
            "the user of mongodb.url must be allowed to read and write the database, and to \
             create collections (role readWrite)",
        ),
        (ErrorKind::InvalidArgument { .. }, _) => failed("mend mongodb.url"),
        (ErrorKind::InvalidTlsConfig { .. }, _) => {
            failed("mend tlsCAFile and tlsCertificateKeyFile in mongodb.url")
        }
        (ErrorKind::ServerSelection { message, .. }, _) => {
            let mend = if message.contains("UnknownIssuer") || message.contains("certificate") {
                "; if its certificate is not trusted, name who signed it with tlsCAFile=PATH in \
                 mongodb.url"
            } else if message.contains("unexpected end of file") || message.contains("eof") {
                "; if the server wants TLS, add tls=true to mongodb.url"
            } else {
                "; is mongodb.url right?"
            };
            StoreError::Unavailable {
                store,
                reason: format!("{reason}{mend}"),
            }
        }
        // A view, a name that no collection can have, a server that is too old.
        (_, Some(code)) if !PASSING.contains(&code) && !error.contains_label(RETRYABLE) => {
            failed("mend mongodb.url and mongodb.collection")
        }
        _ => StoreError::Unavailable { store, reason },
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn refused_operations_are_sorted() {
        let answer = doc! { "n": 1, "writeErrors": [
            { "index": 0, "code": 11_000, "errmsg": "E11000", "keyPattern": { "_id": 1 } },
            { "index": 2, "code": 11_000, "errmsg": "E11000", "keyPattern": { "sku": 1 } },
            { "index": 4_i64, "code": 121, "errmsg": "Document failed validation" },
            { "index": 5, "code": 189, "errmsg": "stepped down" },
        ] };
        let outcomes = |inserted| -> Vec<_> {
            let refused = Refused::of(&answer).into_iter();
            refused
                .map(|one| (one.index, one.outcome(inserted)))
                .collect()
        };
        let inserted = outcomes(true);
        assert_eq!(inserted[0], (0, Outcome::Done));
        assert!(
            matches!(&inserted[1], (2, Outcome::Rejected(_))),
            "an index of the user's"
        );
        assert!(matches!(&inserted[2], (4, Outcome::Rejected(e)) if e.reason.contains("121")));
        assert!(matches!(&inserted[3], (5, Outcome::Later(_))));
        assert!(matches!(&outcomes(false)[0], (0, Outcome::Later(_))));
    }
}
