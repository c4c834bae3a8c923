//! Client quotas: how many bytes a second a user, a client id, or a user's client id may move.
//!
//! As in Kafka, a quota belongs to an entity: a user, a client id, or both, each by name or as the
//! default for all that have none of their own. Of several that fit, the most specific one counts, and
//! only that one ([`ClientQuotas::applicable`]). The image keeps them; the gate of the node counts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{MetadataImage, MetadataRecord, Transition};

/// What a quota limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaKey {
    /// Bytes a second that are produced.
    ProducerByteRate,
    /// Bytes a second that are fetched.
    ConsumerByteRate,
}

impl QuotaKey {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ProducerByteRate, Self::ConsumerByteRate];

    /// Kafka's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
        }
    }

    /// By Kafka's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }
}

/// A limit: a finite number greater than 0.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct QuotaRate(f64);

// Never NaN.
impl Eq for QuotaRate {}

impl QuotaRate {
    /// A limit; `None` if the number cannot be one.
    pub fn new(rate: f64) -> Option<Self> {
        (rate.is_finite() && rate > 0.0).then_some(Self(rate))
    }

    /// The number.
    pub const fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for QuotaRate {
    type Error = &'static str;

    fn try_from(rate: f64) -> Result<Self, Self::Error> {
        Self::new(rate).ok_or("a quota must be a finite number greater than 0")
    }
}

impl From<QuotaRate> for f64 {
    fn from(rate: QuotaRate) -> Self {
        rate.value()
    }
}

/// Somebody by name, or all who have no quota of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaName {
    /// Everybody without a quota of their own.
    Default,
    /// This one.
    Named(String),
}

impl QuotaName {
    /// The name; `None` for the default.
    pub fn as_option(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::Named(name) => Some(name),
        }
    }
}

/// Whom a quota limits; at least one of the two is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuotaEntity {
    /// The user, by the principal's name without its type.
    pub user: Option<QuotaName>,
    /// The name that clients give themselves.
    pub client_id: Option<QuotaName>,
}

impl fmt::Display for QuotaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("user", &self.user), ("client-id", &self.client_id)];
        let named = parts.into_iter().filter_map(|(kind, name)| {
            let name = name.as_ref()?;
            Some(format!(
                "{kind} {}",
                name.as_option().unwrap_or("<default>")
            ))
        });
        f.write_str(&named.collect::<Vec<_>>().join(", "))
    }
}

/// What the bytes of one client are counted together with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuotaScope {
    /// All that the user does.
    User,
    /// All that bears the client id.
    ClientId,
    /// What the user does under the client id.
    UserAndClientId,
}

/// All quotas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientQuotas {
    entries: BTreeMap<QuotaEntity, BTreeMap<QuotaKey, QuotaRate>>,
}

impl ClientQuotas {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every entity that has quotas, with them.
    pub fn iter(&self) -> impl Iterator<Item = (&QuotaEntity, &BTreeMap<QuotaKey, QuotaRate>)> {
        self.entries.iter()
    }

    /// The limit for a client, and what it is counted together with; `None` if none fits.
    pub fn applicable(
        &self,
        key: QuotaKey,
        user: &str,
        client_id: &str,
    ) -> Option<(QuotaRate, QuotaScope)> {
        use QuotaName::{Default, Named};
        if self.is_empty() {
            return None;
        }
        let user = || Some(Named(user.to_owned()));
        let client = || Some(Named(client_id.to_owned()));
        let candidates = [
            (user(), client(), QuotaScope::UserAndClientId),
            (user(), Some(Default), QuotaScope::UserAndClientId),
            (user(), None, QuotaScope::User),
            (Some(Default), client(), QuotaScope::UserAndClientId),
            (Some(Default), Some(Default), QuotaScope::UserAndClientId),
            (Some(Default), None, QuotaScope::User),
            (None, client(), QuotaScope::ClientId),
            (None, Some(Default), QuotaScope::ClientId),
        ];
        candidates.into_iter().find_map(|(user, client_id, scope)| {
            let limits = self.entries.get(&QuotaEntity { user, client_id })?;
            limits.get(&key).map(|rate| (*rate, scope))
        })
    }

    pub(crate) fn set(&mut self, entity: &QuotaEntity, key: QuotaKey, rate: Option<QuotaRate>) {
        if let Some(rate) = rate {
            self.entries
                .entry(entity.clone())
                .or_default()
                .insert(key, rate);
        } else if let Some(limits) = self.entries.get_mut(entity) {
            limits.remove(&key);
            if limits.is_empty() {
                self.entries.remove(entity);
            }
        }
    }
}

/// Which name an entity must have to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaMatch {
    /// This name.
    Exact(String),
    /// The default.
    Default,
    /// Any name, or the default.
    Any,
}

/// Which entities to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaFilter {
    /// What the user must be, if anything.
    pub user: Option<QuotaMatch>,
    /// What the client id must be, if anything.
    pub client_id: Option<QuotaMatch>,
    /// Entities with parts that are not asked about are left out.
    pub strict: bool,
}

impl QuotaFilter {
    /// Whether an entity is to be shown.
    pub fn takes(&self, entity: &QuotaEntity) -> bool {
        self.takes_part(self.user.as_ref(), entity.user.as_ref())
            && self.takes_part(self.client_id.as_ref(), entity.client_id.as_ref())
    }

    fn takes_part(&self, wanted: Option<&QuotaMatch>, name: Option<&QuotaName>) -> bool {
        match (wanted, name) {
            (None, None) | (Some(QuotaMatch::Any), Some(_)) => true,
            (None, Some(_)) => !self.strict,
            (Some(QuotaMatch::Exact(wanted)), Some(QuotaName::Named(name))) => wanted == name,
            (Some(QuotaMatch::Default), Some(name)) => *name == QuotaName::Default,
            (Some(_), _) => false,
        }
    }
}

/// Why quotas are not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum AlterQuotaError {
    /// Neither user nor client id.
    #[error("a quota belongs to a user, a client id or both, none is given")]
    NoEntity,
    /// A quota that there is not.
    #[error("quota {key:?} is not known here: producer_byte_rate and consumer_byte_rate are kept")]
    UnknownKey {
        /// The key given.
        key: String,
    },
    /// No limit can be so.
    #[error("quota {} must be a finite number greater than 0", key.as_str())]
    InvalidRate {
        /// The key.
        key: QuotaKey,
    },
}

/// Limits as a client names them, each with its new rate or none; refused is what no limit can be.
pub fn checked_rates(
    changes: Vec<(String, Option<f64>)>,
) -> Result<Vec<(QuotaKey, Option<QuotaRate>)>, AlterQuotaError> {
    let changes = changes.into_iter().map(|(name, rate)| {
        let key = QuotaKey::from_name(&name).ok_or_else(|| AlterQuotaError::UnknownKey {
            key: name.chars().take(200).collect(),
        })?;
        let rate =
            rate.map(|rate| QuotaRate::new(rate).ok_or(AlterQuotaError::InvalidRate { key }));
        Ok((key, rate.transpose()?))
    });
    changes.collect()
}

/// Changes quotas of an entity, all or none: each key to a new limit, or to none.
pub fn alter_client_quotas(
    image: &MetadataImage,
    entity: &QuotaEntity,
    changes: &[(QuotaKey, Option<QuotaRate>)],
) -> Result<Transition<()>, AlterQuotaError> {
    if entity.user.is_none() && entity.client_id.is_none() {
        return Err(AlterQuotaError::NoEntity);
    }
    let present = |key| {
        let mut entries = image.client_quotas().iter();
        let limits = entries.find(|(other, _)| *other == entity)?.1;
        limits.get(&key).copied()
    };
    let changed = changes.iter().filter(|(key, rate)| present(*key) != *rate);
    let records = changed.map(|&(key, rate)| MetadataRecord::ClientQuota {
        entity: entity.clone(),
        key,
        rate,
    });
    Ok(Transition {
        records: records.collect(),
        response: (),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(
        clippy::unnecessary_wraps,
        reason = "both parts of an entity may be missing"
    )]
    fn named(name: &str) -> Option<QuotaName> {
        Some(QuotaName::Named(name.to_owned()))
    }

    fn entity(user: Option<QuotaName>, client_id: Option<QuotaName>) -> QuotaEntity {
        QuotaEntity { user, client_id }
    }

    #[test]
    fn rates_are_checked_before_they_travel() {
        let asked = |name: &str, rate| checked_rates(vec![(name.to_owned(), rate)]);
        let taken = asked("producer_byte_rate", Some(5.0)).unwrap();
        assert_eq!(taken[0].1.map(QuotaRate::value), Some(5.0));
        assert_eq!(asked("consumer_byte_rate", None).unwrap()[0].1, None);
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = asked("producer_byte_rate", Some(wrong));
            assert!(matches!(refused, Err(AlterQuotaError::InvalidRate { .. })));
        }
        assert!(matches!(
            asked("request_percentage", None),
            Err(AlterQuotaError::UnknownKey { .. })
        ));
    }

    fn image(quotas: &[(QuotaEntity, f64)]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (entity, rate) in quotas {
            let change = [(QuotaKey::ProducerByteRate, QuotaRate::new(*rate))];
            let altered = alter_client_quotas(&image, entity, &change).unwrap();
            for record in &altered.records {
                let stored = MetadataRecord::decode(&record.encode()).unwrap();
                image.replay(&stored);
            }
        }
        image
    }

    #[test]
    fn the_most_specific_quota_counts() {
        let default = || Some(QuotaName::Default);
        let all = [
            (
                entity(named("ann"), named("app")),
                1.0,
                QuotaScope::UserAndClientId,
            ),
            (
                entity(named("ann"), default()),
                2.0,
                QuotaScope::UserAndClientId,
            ),
            (entity(named("ann"), None), 3.0, QuotaScope::User),
            (
                entity(default(), named("app")),
                4.0,
                QuotaScope::UserAndClientId,
            ),
            (
                entity(default(), default()),
                5.0,
                QuotaScope::UserAndClientId,
            ),
            (entity(default(), None), 6.0, QuotaScope::User),
            (entity(None, named("app")), 7.0, QuotaScope::ClientId),
            (entity(None, default()), 8.0, QuotaScope::ClientId),
        ];
        for first in 0..all.len() {
            let quotas: Vec<_> = all[first..]
                .iter()
                .map(|(entity, rate, _)| (entity.clone(), *rate))
                .collect();
            let image = image(&quotas);
            let found = image
                .client_quotas()
                .applicable(QuotaKey::ProducerByteRate, "ann", "app");
            let (rate, scope) = found.unwrap();
            assert_eq!((rate.value(), scope), (all[first].1, all[first].2));
            let other = image
                .client_quotas()
                .applicable(QuotaKey::ConsumerByteRate, "ann", "app");
            assert_eq!(other, None, "the other direction has none");
        }
    }

    #[test]
    fn a_quota_that_is_removed_is_gone_and_leaves_no_entity() {
        let who = entity(named("ann"), None);
        let mut image = image(&[(who.clone(), 10.0)]);
        let remove = [(QuotaKey::ProducerByteRate, None)];
        let altered = alter_client_quotas(&image, &who, &remove).unwrap();
        image.replay_all(&altered.records);
        assert!(image.client_quotas().is_empty());
        let again = alter_client_quotas(&image, &who, &remove).unwrap();
        assert!(again.records.is_empty());
    }

    #[test]
    fn what_is_not_kept_is_refused() {
        let image = MetadataImage::default();
        let who = entity(named("ann"), None);
        let alter = |key: &str, rate| {
            alter_client_quotas(&image, &who, &checked_rates(vec![(key.to_owned(), rate)])?)
        };
        assert!(alter("request_percentage", Some(50.0)).is_err());
        assert!(alter("producer_byte_rate", Some(0.0)).is_err());
        assert!(alter("producer_byte_rate", Some(f64::NAN)).is_err());
        let nobody = alter_client_quotas(&image, &QuotaEntity::default(), &[]);
        assert_eq!(nobody, Err(AlterQuotaError::NoEntity));
    }

    #[test]
    fn a_rate_that_no_limit_can_be_is_not_read_either() {
        let read = |text: &str| serde_json::from_str::<QuotaRate>(text);
        assert_eq!(read("5").ok(), QuotaRate::new(5.0));
        assert!(read("0").is_err() && read("-1.5").is_err());
    }

    #[test]
    fn filters_are_kafkas() {
        let user = entity(named("ann"), None);
        let both = entity(named("ann"), named("app"));
        let default = entity(Some(QuotaName::Default), None);
        let exact = |strict| QuotaFilter {
            user: Some(QuotaMatch::Exact("ann".to_owned())),
            client_id: None,
            strict,
        };
        assert!(exact(false).takes(&user) && exact(false).takes(&both));
        assert!(exact(true).takes(&user) && !exact(true).takes(&both));
        assert!(!exact(false).takes(&default));
        let any = QuotaFilter {
            user: Some(QuotaMatch::Any),
            ..QuotaFilter::default()
        };
        assert!(any.takes(&user) && any.takes(&default));
        assert!(QuotaFilter::default().takes(&both));
    }
}
