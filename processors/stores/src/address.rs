//! Where a store is, as people write it: `sqlite:read-models.sqlite`, `postgres://…`, `redis://…`,
//! `mongodb://…`. A plain path is a `SQLite` file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use conveyor_processors::Builds;
use conveyor_processors::store::{Store, StoreError};

use crate::sqlite::SqliteStore;

/// The address of a store. Shown without its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAddress {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
    Redis,
    Mongodb,
}

/// The schemes of addresses and what they mean.
const SCHEMES: &[(&str, Kind)] = &[
    ("postgres", Kind::Postgres),
    ("postgresql", Kind::Postgres),
    ("redis", Kind::Redis),
    ("rediss", Kind::Redis),
    ("redis+cluster", Kind::Redis),
    ("rediss+cluster", Kind::Redis),
    ("redis+sentinel", Kind::Redis),
    ("rediss+sentinel", Kind::Redis),
    ("mongodb", Kind::Mongodb),
    ("mongodb+srv", Kind::Mongodb),
];

/// The text is no address of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{scheme}:// is no store: use sqlite:PATH, postgres://USER@HOST/DATABASE, redis://HOST (also \
     redis+cluster:// and redis+sentinel://), or mongodb://HOST/DATABASE"
)]
pub struct AddressError {
    scheme: String,
}

impl FromStr for StoreAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let kind = match text.split_once("://") {
            Some((scheme, _)) => {
                let known = SCHEMES.iter().find(|(name, _)| *name == scheme);
                known
                    .ok_or_else(|| AddressError {
                        scheme: scheme.to_owned(),
                    })?
                    .1
            }
            None => Kind::Sqlite,
        };
        Ok(Self {
            kind,
            text: text.to_owned(),
        })
    }
}

impl StoreAddress {
    /// As it was written, password included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Opens the store. A server that is away is no error here: calls to the store are then
    /// [`StoreError::Unavailable`] until it is there. To be called within a tokio runtime.
    pub async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(self.open_builds().await?)
    }

    /// Opens the store to see and switch the builds in it.
    #[allow(
        clippy::unused_async,
        reason = "only some stores look for their server here"
    )]
    pub async fn open_builds(&self) -> Result<Arc<dyn Builds>, StoreError> {
        match self.kind {
            Kind::Sqlite => {
                let path = self.text.strip_prefix("sqlite:").unwrap_or(&self.text);
                Ok(Arc::new(SqliteStore::open(PathBuf::from(path))?))
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres => Ok(Arc::new(crate::PostgresStore::open(&self.text)?)),
            #[cfg(not(feature = "postgres"))]
            Kind::Postgres => self.left_out("postgres"),
            #[cfg(feature = "redis")]
            Kind::Redis => Ok(Arc::new(crate::RedisStore::open(&self.text)?)),
            #[cfg(not(feature = "redis"))]
            Kind::Redis => self.left_out("redis"),
            #[cfg(feature = "mongodb")]
            Kind::Mongodb => Ok(Arc::new(crate::MongodbStore::open(&self.text).await?)),
            #[cfg(not(feature = "mongodb"))]
            Kind::Mongodb => self.left_out("mongodb"),
        }
    }

    #[cfg(not(all(feature = "postgres", feature = "redis", feature = "mongodb")))]
    fn left_out(&self, feature: &str) -> Result<Arc<dyn Builds>, StoreError> {
        Err(StoreError::Failed {
            store: self.to_string(),
            reason: format!(
                "this program was built without the {feature} store; build it with the cargo \
                 feature {feature}"
            ),
        })
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.text))
    }
}

/// The address with `***` for its password.
pub(crate) fn without_password(address: &str) -> String {
    let masked = (|| {
        let (scheme, rest) = address.split_once("://")?;
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        let (user_info, _) = authority.rsplit_once('@')?;
        let (user, _) = user_info.split_once(':')?;
        let hosts = &rest[user_info.len() + 1..];
        Some(format!("{scheme}://{user}:***@{hosts}"))
    })();
    masked.unwrap_or_else(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_chooses_the_store_and_a_path_is_a_file() {
        let kind = |text: &str| text.parse::<StoreAddress>().map(|address| address.kind);
        assert_eq!(kind("read.db"), Ok(Kind::Sqlite));
        assert_eq!(kind("sqlite:/var/lib/read.db"), Ok(Kind::Sqlite));
        assert_eq!(kind("postgres://me@h/d"), Ok(Kind::Postgres));
        assert_eq!(kind("redis+cluster://a,b"), Ok(Kind::Redis));
        let refused = kind("mysql://h").unwrap_err().to_string();
        assert!(refused.contains("mysql:// is no store") && refused.contains("postgres://"));
    }

    #[test]
    fn passwords_are_not_shown() {
        for (address, shown) in [
            ("postgres://me:p/w@h:5432/d", "postgres://me:p/w@h:5432/d"),
            (
                "postgres://me:secret@h:5432/d?a=b",
                "postgres://me:***@h:5432/d?a=b",
            ),
            ("redis://:secret@h", "redis://:***@h"),
            ("mongodb://me:a@b@h,i/d", "mongodb://me:***@h,i/d"),
            ("redis://h:1", "redis://h:1"),
        ] {
            assert_eq!(without_password(address), shown);
        }
    }
}
