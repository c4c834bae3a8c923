//! A node with the warehouse's topics, processors beside it, and what is told of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use conveyor_sdk::{Client, ClientConfig};
use serde_json::Value;
use tempfile::TempDir;

use crate::node::Node;
use crate::warehouse;
use crate::work::{Work, told};

/// How long anything may take that is waited for.
pub const LIMIT: Duration = Duration::from_mins(3);

/// How long a member of a group may be silent here.
pub const SESSION: Duration = Duration::from_secs(3);

/// A node with the eight topics.
#[derive(Debug)]
pub struct Stage {
    /// The node.
    pub node: Node,
    /// Connected to it.
    pub client: Client,
    folder: TempDir,
}

impl Stage {
    /// Starts the node.
    pub async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let session_ms = SESSION.as_millis().to_string();
        let settings = [
            ("group.consumer.session.timeout.ms", session_ms.as_str()),
            ("group.consumer.heartbeat.interval.ms", "300"),
        ];
        let node = Node::start(&folder.path().join("node"), &settings)?;
        let client = Client::connect(ClientConfig::new(node.address())).await?;
        warehouse::create_topics(&client).await?;
        Ok(Self {
            node,
            client,
            folder,
        })
    }

    /// Events of so many orders.
    pub async fn send(&self, orders: usize) -> Result<()> {
        warehouse::send(&self.client, warehouse::events(orders)?, 20_000).await
    }

    /// A folder that ends with the stage.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of a store in a file.
    pub fn sqlite(&self) -> String {
        sqlite_in(self.folder())
    }

    /// A command that is told where the node is.
    pub fn work(&self, name: &str, arguments: &[&str]) -> Result<Work> {
        let address = self.node.address();
        let all = [arguments, &["--bootstrap", &address]].concat();
        Work::start(&all, self.folder.path().join(format!("{name}.log")))
    }

    /// Processors of one projection.
    pub fn processors(&self, projection: &str, store: &str) -> Result<Work> {
        let run = ["processors", "run", "--store", store, "--projection"];
        self.work(
            projection,
            &[&run[..], &[projection, "--log", "warn"]].concat(),
        )
    }

    /// What `projection status` says; none before there is anything to say.
    pub fn status(&self, projection: &str) -> Option<Value> {
        let address = self.node.address();
        told(&["projection", "status", projection, "--bootstrap", &address]).ok()
    }

    /// Waits until the status is as wanted.
    pub async fn status_is(
        &self,
        what: &str,
        projection: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = None;
        let found = eventually(what, async || {
            last = self.status(projection);
            last.clone().filter(&is_it)
        });
        found.await.with_context(|| format!("the last: {last:?}"))
    }
}

/// The address of a store in a file in a folder.
pub fn sqlite_in(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("read.sqlite").display())
}

/// Waits for something that another process does.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whether a projection has applied all there is.
pub fn is_well(status: &Value) -> bool {
    status["state"] == "RUNNING" && status["lag_records"] == 0 && status["last_error"].is_null()
}
