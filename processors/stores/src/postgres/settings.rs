//! The address of a `PostgreSQL` database:
//! `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&schema=NAME`.
//!
//! Several hosts may stand there, separated by commas, the first that takes writes is used. Beside
//! libpq's own parameters: `schema`, where the tables are (default `public`).

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode as Negotiation, TargetSessionAttrs};

/// How long to try one host, if the address does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long unanswered data may be under way before a connection counts as dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// How much TLS is asked for; names and meanings are libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    /// If the server offers it; no certificate is checked.
    Prefer,
    /// Always; no certificate is checked, unless `sslrootcert` names who may sign it.
    Require,
    /// Always; the certificate must be signed by somebody trusted.
    VerifyCa,
    /// Always; it must also name the host.
    VerifyFull,
}

/// What an address says.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) ssl_mode: SslMode,
    /// PEM file of those whose signatures are trusted; the system's own list if not given.
    pub(super) root_certificates: Option<PathBuf>,
    pub(super) schema: String,
}

impl FromStr for Settings {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut ssl_mode, mut root_certificates) = (SslMode::Prefer, None);
        let mut schema = "public".to_owned();
        let mut others = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            match name {
                "sslmode" => ssl_mode = parse_ssl_mode(&value)?,
                "sslrootcert" => root_certificates = Some(PathBuf::from(&*value)),
                "schema" => schema = checked_schema(&value)?,
                _ => others.push(parameter),
            }
        }
        let address = format!("{base}?{}", others.join("&"));
        let mut config: Config = address
            .parse()
            .map_err(|error| format!("the address is not understood: {}", full(&error)))?;
        if config.get_hosts().is_empty() {
            return Err("the address names no host: postgres://USER@HOST/DATABASE".to_owned());
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("conveyor");
        }
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
        config.ssl_mode(match ssl_mode {
            SslMode::Disable => Negotiation::Disable,
            SslMode::Prefer => Negotiation::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Negotiation::Require,
        });
        Ok(Self {
            config,
            ssl_mode,
            root_certificates,
            schema,
        })
    }
}

fn parse_ssl_mode(value: &str) -> Result<SslMode, String> {
    Ok(match value {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        other => {
            return Err(format!(
                "sslmode={other} is none of disable, prefer, require, verify-ca, verify-full"
            ));
        }
    })
}

fn checked_schema(value: &str) -> Result<String, String> {
    let plain = value.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && value
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !plain || value.len() > 63 {
        return Err(format!(
            "schema={value} is no plain name: a-z, 0-9 and _, at most 63 of them"
        ));
    }
    Ok(value.to_owned())
}

/// An error with its causes.
pub(super) fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_ours_are_taken_and_the_rest_is_libpqs() {
        let settings: Settings =
            "postgres://me:p%40ss@h1,h2:6432/db?sslmode=verify-full&sslrootcert=%2Fca.pem&schema=read_1&connect_timeout=2"
                .parse()
                .unwrap();
        assert_eq!(settings.ssl_mode, SslMode::VerifyFull);
        assert_eq!(settings.root_certificates, Some(PathBuf::from("/ca.pem")));
        assert_eq!(settings.schema, "read_1");
        assert_eq!(settings.config.get_dbname(), Some("db"));
        assert_eq!(settings.config.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(settings.config.get_hosts().len(), 2);
        assert_eq!(
            settings.config.get_connect_timeout(),
            Some(&Duration::from_secs(2))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |url: &str| url.parse::<Settings>().unwrap_err();
        assert!(refused("postgres://me@h/d?sslmode=maybe").contains("sslmode=maybe"));
        assert!(refused("postgres://me@h/d?schema=a\"b").contains("schema="));
        assert!(refused("postgres://me@h/d?colour=red").contains("colour"));
        assert!(refused("postgres://me@h:port/d").contains("not understood"));
    }
}
