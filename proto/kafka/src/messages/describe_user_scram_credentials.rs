//! `DescribeUserScramCredentials`: which SCRAM credentials users have.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The users; none given means all.
    DescribeUserScramCredentialsRequest [0-0, flexible 0+] {
        users: Option<Vec<UserName>> [0+],
    }
}

structure! {
    /// An element of [`DescribeUserScramCredentialsRequest::users`].
    UserName {
        name: Text [0+],
    }
}

message! {
    /// Mechanisms and iterations by user.
    DescribeUserScramCredentialsResponse [0-0, flexible 0+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        results: Vec<DescribeUserScramCredentialsResult> [0+],
    }
}

structure! {
    /// An element of [`DescribeUserScramCredentialsResponse::results`].
    DescribeUserScramCredentialsResult {
        user: Text [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        credential_infos: Vec<CredentialInfo> [0+],
    }
}

structure! {
    /// An element of [`DescribeUserScramCredentialsResult::credential_infos`].
    CredentialInfo {
        mechanism: i8 [0+],
        iterations: i32 [0+],
    }
}
