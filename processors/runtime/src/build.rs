//! Builds of a projection: its rows, made once, under a name of their own.
//!
//! A store holds the live build under the projection's name, `atp`, and others beside it: `atp@2`
//! that is being built, `atp@1` that was live before and is kept to go back to. Code that applies
//! events names tables logically whichever build it fills; a build's [`Declaration`] knows what they
//! are called in the store: `atp__2`.
//!
//! Every build has a tag, also the live one: what it was built as ([`Build::tag`]). A projection's
//! first build has tag 1. Making another build live therefore needs no name for the one it replaces,
//! and is its own opposite.
//!
//! [`Declaration`]: crate::Declaration

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::projection::{ApplyError, Declaration, Projection};
use crate::record::Source;
use crate::rows::Rows;
use crate::store::{Position, Store, StoreError};
use crate::table::RowKey;
use crate::timers::Timer;

/// The tag of the build that a projection begins with.
pub const FIRST_TAG: &str = "1";

/// Longest tag, in bytes; `PostgreSQL` cuts names of tables at 63.
const TAG_BYTES_MAX: usize = 20;

/// The name of a build that is not live: `atp@2`, `atp@before_sale`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildName {
    text: Arc<str>,
    /// Bytes of the projection's name.
    projection_len: usize,
}

impl BuildName {
    /// The name of a projection's build with that tag.
    pub fn new(projection: &str, tag: &str) -> Result<Self, BadBuildName> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let tag_fits = !tag.is_empty() && tag.len() <= TAG_BYTES_MAX && tag.chars().all(plain);
        let projection_fits = !projection.is_empty() && !projection.contains(['@', '{', '}']);
        if !tag_fits || !projection_fits {
            return Err(BadBuildName {
                name: format!("{projection}@{tag}"),
            });
        }
        Ok(Self {
            text: format!("{projection}@{tag}").into(),
            projection_len: projection.len(),
        })
    }

    /// Whose build.
    pub fn projection(&self) -> &str {
        self.text.split_at(self.projection_len).0
    }

    /// What tells it from the projection's other builds.
    pub fn tag(&self) -> &str {
        self.text.split_at(self.projection_len + 1).1
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What a table is called in this build.
    pub fn stored_table(&self, table: &str) -> String {
        format!("{table}__{}", self.tag())
    }
}

impl fmt::Display for BuildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for BuildName {
    type Err = BadBuildName;

    fn from_str(text: &str) -> Result<Self, BadBuildName> {
        let (projection, tag) = text.split_once('@').unwrap_or((text, ""));
        Self::new(projection, tag)
    }
}

/// A name that no build can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no name of a build: it is the projection's name, @, and up to 20 of a-z, 0-9 and _"
)]
pub struct BadBuildName {
    /// As given.
    pub name: String,
}

/// A projection whose rows go into a build that is not the live one. All else about it is the same.
#[derive(Clone, Debug)]
pub struct InBuild<P> {
    projection: P,
    build: BuildName,
}

impl<P: Projection> InBuild<P> {
    /// The projection, to fill a build of it.
    pub const fn new(projection: P, build: BuildName) -> Self {
        Self { projection, build }
    }
}

impl<P: Projection> Projection for InBuild<P> {
    type Event = P::Event;

    fn declaration(&self) -> Declaration {
        self.projection.declaration().as_build(&self.build)
    }

    fn touches(&self, event: &P::Event, source: &Source) -> Vec<RowKey> {
        self.projection.touches(event, source)
    }

    fn apply(&self, event: &P::Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        self.projection.apply(event, source, rows)
    }

    fn fire(&self, timer: &Timer, rows: &mut Rows) -> Result<(), ApplyError> {
        self.projection.fire(timer, rows)
    }
}

/// What a store holds of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Whose.
    pub projection: String,
    /// What it was built as.
    pub tag: String,
    /// Whether it is the one that readers see under the tables' own names.
    pub is_live: bool,
    /// Version of the projection that made it.
    pub version: u32,
    /// Its tables, by the names that the projection gives them.
    pub tables: Vec<String>,
    /// How far it has come, in partition order.
    pub positions: Vec<Position>,
}

impl Build {
    /// What it is called while it is not live.
    pub fn name(&self) -> Result<BuildName, BadBuildName> {
        BuildName::new(&self.projection, &self.tag)
    }

    /// Its tag, if that is a number.
    pub fn number(&self) -> Option<u32> {
        self.tag.parse().ok()
    }
}

/// A store that can hold several builds of a projection.
pub trait Builds: Store {
    /// All builds of all projections in the store, by projection, the live one first.
    fn builds(&self) -> BoxFuture<'_, Result<Vec<Build>, StoreError>>;

    /// Makes a build the live one; the one that was live is kept under its own name. Owners of both
    /// are refused from then on and join anew: the epoch of every position becomes one more than the
    /// projection's highest. What a kill leaves half done, the same call finishes; done already, it
    /// does nothing.
    fn switch<'a>(&'a self, incoming: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes a build that is not live, with its rows and positions. One that is not there is no
    /// error.
    fn drop_build<'a>(&'a self, build: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_named_by_projection_and_tag() {
        let build: BuildName = "order_tracking@2".parse().unwrap();
        assert_eq!((build.projection(), build.tag()), ("order_tracking", "2"));
        assert_eq!(build.stored_table("orders"), "orders__2");
        for bad in ["atp", "atp@", "@2", "atp@B", "atp@2@3", "atp@a-b"] {
            assert!(bad.parse::<BuildName>().is_err(), "{bad}");
        }
    }
}
