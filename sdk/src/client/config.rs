//! Settings that every client of a cluster shares.

use crate::error::{Error, Result};

/// Where the cluster is and how to talk to it.
///
/// ```
/// use conveyor_sdk::ClientConfig;
///
/// let mut config = ClientConfig::new("node-1:9192,node-2:9192");
/// config.client_id = "wave-planner".to_owned();
/// assert_eq!(config.bootstrap_servers, ["node-1:9192", "node-2:9192"]);
/// ```
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Addresses `host:port` of some nodes; any that answers tells of the others.
    pub bootstrap_servers: Vec<String>,
    /// Names this client in the nodes' logs, metrics and quotas. Default `conveyor-rust`.
    pub client_id: String,
    /// How long to wait for the answer to one call, ms. Default 30 000.
    pub request_timeout_ms: u64,
    /// How long to wait for a connection, ms. Default 10 000.
    pub connect_timeout_ms: u64,
    /// Metadata older than this is fetched again, ms. Default 300 000.
    pub metadata_max_age_ms: u64,
    /// Wait before the second attempt, ms; doubles with each further one. Default 50.
    pub retry_backoff_ms: u64,
    /// The longest wait between two attempts, ms. Default 1 000.
    pub retry_backoff_max_ms: u64,
    /// How long calls that read or look up go on trying while errors are retriable, ms. Default
    /// 60 000.
    pub api_timeout_ms: u64,
    /// Whether asking for a missing topic may create it, if the node allows that too. Default no.
    pub allow_auto_create_topics: bool,
}

impl ClientConfig {
    /// Defaults for the cluster at `bootstrap_servers`, a list of `host:port` separated by commas.
    pub fn new(bootstrap_servers: impl AsRef<str>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers
                .as_ref()
                .split(',')
                .map(|address| address.trim().to_owned())
                .filter(|address| !address.is_empty())
                .collect(),
            client_id: "conveyor-rust".to_owned(),
            request_timeout_ms: 30_000,
            connect_timeout_ms: 10_000,
            metadata_max_age_ms: 300_000,
            retry_backoff_ms: 50,
            retry_backoff_max_ms: 1_000,
            api_timeout_ms: 60_000,
            allow_auto_create_topics: false,
        }
    }

    /// Names the client; see [`ClientConfig::client_id`].
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Refuses what cannot work.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.bootstrap_servers.is_empty() {
            return Err(refuse(
                "bootstrap_servers",
                "is empty, expected host:port[,host:port…]",
            ));
        }
        for address in &self.bootstrap_servers {
            let port = address
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                let reason = format!("`{address}` is not host:port");
                return Err(refuse("bootstrap_servers", reason));
            }
        }
        if self.client_id.is_empty() || !self.client_id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refuse(
                "client_id",
                "must be printable ASCII without spaces",
            ));
        }
        for (setting, value) in [
            ("request_timeout_ms", self.request_timeout_ms),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("metadata_max_age_ms", self.metadata_max_age_ms),
            ("api_timeout_ms", self.api_timeout_ms),
        ] {
            if value == 0 {
                return Err(refuse(setting, "must be more than 0"));
            }
        }
        Ok(())
    }
}

fn refuse(setting: &'static str, reason: impl Into<String>) -> Error {
    Error::Config {
        setting,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_port() {
        assert!(ClientConfig::new("localhost:9192").validate().is_ok());
        assert!(ClientConfig::new("[::1]:9192, b:1").validate().is_ok());
        for wrong in ["", ",", "localhost", "localhost:", "localhost:99999"] {
            let error = ClientConfig::new(wrong).validate().unwrap_err();
            assert!(
                error.to_string().starts_with("setting bootstrap_servers: "),
                "{error}"
            );
        }
    }

    #[test]
    fn the_client_id_travels_in_a_header() {
        let named = |id: &str| ClientConfig::new("a:1").with_client_id(id).validate();
        assert!(named("wave-planner_1").is_ok());
        assert!(named("").is_err());
        assert!(named("wave\nplanner").is_err());
    }
}
