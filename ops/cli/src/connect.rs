//! How client commands find their node.

use clap::Args;
use conveyor_sdk::{Client, ClientConfig};

/// Where a node listens unless it is told otherwise.
pub(crate) const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9192";

/// Flags of commands that talk to a cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectArgs {
    /// Nodes to ask first, `host:port`, separated by commas
    #[arg(
        long,
        short = 'b',
        env = "CONVEYOR_BOOTSTRAP",
        default_value = DEFAULT_BOOTSTRAP,
        value_name = "HOST:PORT"
    )]
    pub(crate) bootstrap: String,
}

impl ConnectArgs {
    /// With what a file of settings says, unless the command line or the environment say otherwise.
    pub(crate) fn or(mut self, bootstrap: Option<&str>) -> Self {
        match bootstrap {
            Some(bootstrap) if self.bootstrap == DEFAULT_BOOTSTRAP => {
                bootstrap.clone_into(&mut self.bootstrap);
            }
            _ => {}
        }
        self
    }

    /// A connected client, or an error that says what to look at.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let config = ClientConfig::new(self.bootstrap.as_str()).with_client_id("conveyor-cli");
        Client::connect(config).await.map_err(|error| {
            anyhow::anyhow!(
                "{error}\nis a node running there? start one with `conveyor dev`, or name another \
                 with --bootstrap or CONVEYOR_BOOTSTRAP"
            )
        })
    }
}
