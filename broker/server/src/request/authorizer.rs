//! Who may do what: the hook through which every request goes.

use std::fmt;
use std::sync::Arc;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// Somebody by name.
    pub fn user(name: &str) -> Self {
        Self(format!("User:{name}").into())
    }

    /// Nobody known, Kafka's name for it.
    pub fn anonymous() -> Self {
        Self::user("ANONYMOUS")
    }

    /// Kafka's notation, such as `User:alice`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its type, such as `alice`.
    pub fn name(&self) -> &str {
        self.0.strip_prefix("User:").unwrap_or(&self.0)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody wants to do; Kafka's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Read records, or work in a group.
    Read,
    /// Write records.
    Write,
    /// Create a topic.
    Create,
    /// Delete a topic, a group, records.
    Delete,
    /// Add partitions.
    Alter,
    /// See that something is there and how it stands.
    Describe,
    /// See settings.
    DescribeConfigs,
    /// Change settings.
    AlterConfigs,
    /// Get a producer id.
    IdempotentWrite,
    /// What only brokers do among themselves.
    ClusterAction,
}

/// To what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    /// The cluster.
    Cluster,
    /// Some topic; each is asked about by name afterwards.
    AnyTopic,
    /// A topic.
    Topic(&'a str),
    /// Some group; each is asked about by name afterwards.
    AnyGroup,
    /// A group.
    Group(&'a str),
    /// Some transactional id; each is asked about by name afterwards.
    AnyTransactionalId,
    /// A transactional id.
    TransactionalId(&'a str),
}

/// Decides. It is asked for every request and must be quick: it may neither block nor wait.
pub trait Authorizer: Send + Sync + fmt::Debug {
    /// Whether the principal may do this to that.
    fn authorize(
        &self,
        principal: &Principal,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool;
}

/// Everybody may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _: &Principal, _: Operation, _: Resource<'_>) -> bool {
        true
    }
}
