//! `AlterUserScramCredentials`: sets and removes SCRAM credentials.

use bytes::Bytes;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// What to remove and what to set.
    AlterUserScramCredentialsRequest [0-0, flexible 0+] {
        deletions: Vec<ScramCredentialDeletion> [0+],
        upsertions: Vec<ScramCredentialUpsertion> [0+],
    }
}

structure! {
    /// An element of [`AlterUserScramCredentialsRequest::deletions`].
    ScramCredentialDeletion {
        name: Text [0+],
        mechanism: i8 [0+],
    }
}

structure! {
    /// An element of [`AlterUserScramCredentialsRequest::upsertions`].
    ScramCredentialUpsertion {
        name: Text [0+],
        mechanism: i8 [0+],
        iterations: i32 [0+],
        salt: Bytes [0+],
        salted_password: Bytes [0+],
    }
}

message! {
    /// The outcome by user.
    AlterUserScramCredentialsResponse [0-0, flexible 0+] {
        throttle_time_ms: i32 [0+],
        results: Vec<AlterUserScramCredentialsResult> [0+],
    }
}

structure! {
    /// An element of [`AlterUserScramCredentialsResponse::results`].
    AlterUserScramCredentialsResult {
        user: Text [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
    }
}
