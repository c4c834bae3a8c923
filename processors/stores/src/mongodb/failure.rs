//! What the driver's and the server's errors mean.

use conveyor_processors::store::StoreError;
use mongodb::error::{
    Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};

/// What went wrong, before it is known whose business it was.
#[derive(Debug)]
pub(super) enum Failure {
    Mongodb(Error),
    Schema(String),
    Failed(String),
    /// Somebody else changed the same documents.
    Race,
    Store(StoreError),
}

impl Failure {
    /// Whether the session in which it came about is as good as before: the server answered, and
    /// only said that somebody was quicker.
    pub(super) fn leaves_session_sound(&self) -> bool {
        match self {
            Self::Race => true,
            Self::Mongodb(error) => code_of(error) == Some(WRITE_CONFLICT),
            _ => false,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Mongodb(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

const DUPLICATE_KEY: i32 = 11_000;
const WRITE_CONFLICT: i32 = 112;

/// Whether a document of that `_id` was there already.
pub(super) fn is_duplicate(error: &Error) -> bool {
    code_of(error) == Some(DUPLICATE_KEY)
}

pub(super) const fn is_duplicate_code(code: i32) -> bool {
    code == DUPLICATE_KEY
}

/// Codes of a transaction that lost: a conflict, a lock not got in time, a session that a new owner
/// has ended.
pub(super) fn is_race_code(code: i32) -> bool {
    const LOCK_TIMEOUT: i32 = 24;
    const NO_SUCH_SESSION: i32 = 206;
    const TRANSACTION_TOO_OLD: i32 = 225;
    const SNAPSHOT_UNAVAILABLE: i32 = 246;
    const NO_SUCH_TRANSACTION: i32 = 251;
    const INTERRUPTED: i32 = 11_601;
    matches!(
        code,
        WRITE_CONFLICT
            | LOCK_TIMEOUT
            | NO_SUCH_SESSION
            | TRANSACTION_TOO_OLD
            | SNAPSHOT_UNAVAILABLE
            | NO_SUCH_TRANSACTION
            | INTERRUPTED
    )
}

/// Whether the same transaction may work at once: it lost against another one.
pub(super) fn lost_a_race(failure: &Failure) -> bool {
    match failure {
        Failure::Race => true,
        Failure::Mongodb(error) => code_of(error).is_some_and(|code| {
            is_race_code(code) || error.contains_label(TRANSIENT_TRANSACTION_ERROR)
        }),
        _ => false,
    }
}

/// Whether a write that ended so may have been done all the same.
pub(super) fn leaves_doubt(error: &Error) -> bool {
    error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) || code_of(error).is_none()
}

/// The server's code, if it was the server who refused.
fn code_of(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(refused) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteError(refused)) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(refused)) => Some(refused.code),
        _ => None,
    }
}

/// Sorts errors: those that time mends, and the others with the setting that mends them.
pub(super) fn sort(failure: Failure, store: &str, projection: &str) -> StoreError {
    let store = store.to_owned();
    let error = match failure {
        Failure::Store(error) => return error,
        Failure::Failed(reason) => return StoreError::Failed { store, reason },
        Failure::Race => {
            return StoreError::Unavailable {
                store,
                reason: "other instances are in the way".to_owned(),
            };
        }
        Failure::Schema(reason) => {
            return StoreError::Schema {
                store,
                projection: projection.to_owned(),
                reason,
            };
        }
        Failure::Mongodb(error) => error,
    };
    let reason = error.kind.to_string();
    let failed = |mend: &str| StoreError::Failed {
        store: store.clone(),
        reason: format!("{reason}: {mend}"),
    };
    match (&*error.kind, code_of(&error)) {
        (ErrorKind::Authentication { .. }, _) | (_, Some(18)) => failed(
            "mend user and password in the address, mongodb://USER:PASSWORD@…; authSource names \
             the database that knows the user",
        ),
        (_, Some(13 | 8000)) => failed(
            "the user must be allowed to read and write the database, and to create collections \
             (role readWrite)",
        ),
        (ErrorKind::InvalidArgument { .. }, _) => failed("mend the address"),
        (ErrorKind::InvalidTlsConfig { .. }, _) => {
            failed("mend tlsCAFile and tlsCertificateKeyFile in the address")
        }
        (ErrorKind::ServerSelection { message, .. }, _) => {
            let mend = if message.contains("UnknownIssuer") || message.contains("certificate") {
                "; if its certificate is not trusted, name who signed it with tlsCAFile=PATH"
            } else if message.contains("unexpected end of file") || message.contains("eof") {
                "; if the server wants TLS, add tls=true to the address"
            } else {
                ""
            };
            StoreError::Unavailable {
                store,
                reason: format!("{reason}{mend}"),
            }
        }
        (_, Some(code)) if !passes(code) && !error.contains_label("RetryableWriteError") => {
            StoreError::Failed { store, reason }
        }
        (ErrorKind::BsonSerialization(_) | ErrorKind::Bson(_), _) => {
            StoreError::Failed { store, reason }
        }
        _ => StoreError::Unavailable { store, reason },
    }
}

/// Codes that pass: servers on their way up, down or to another role, conflicts, full disks,
/// time-outs.
fn passes(code: i32) -> bool {
    const PASSING: [i32; 24] = [
        6, 7, 24, 50, 64, 89, 91, 112, 133, 134, 189, 202, 246, 251, 262, 290, 317, 9_001, 10_107,
        11_600, 11_602, 13_435, 13_436, 14_031,
    ];
    PASSING.contains(&code)
}
