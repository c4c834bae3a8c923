//! One of the two brokers, and everything that it has answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use conveyor_kafka::messages::api_versions::ApiVersionsRequest;
use conveyor_kafka::schema::Layout;
use conveyor_kafka::{ApiKey, Input, Message, Request};
use conveyor_tests::tree::tree;
use conveyor_tests::wire::Wire;
use serde_json::{Value, json};
use uuid::Uuid;

/// How long a broker may say that it is not ready yet.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// Coordinator loads, is not available, is another; transactions go on.
const NOT_YET: [i64; 4] = [14, 15, 16, 51];

/// An answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What was asked, in words.
    pub(crate) step: String,
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) tree: Value,
}

/// Versions by API.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions(BTreeMap<ApiKey, (i16, i16)>);

impl Versions {
    /// What both list and our tables have.
    pub(crate) fn common(one: &Self, other: &Self) -> Self {
        let both = one.0.iter().filter_map(|(key, (from, to))| {
            let (other_from, other_to) = other.0.get(key)?;
            let tables = key.versions()?;
            let from = *from.max(other_from).max(&tables.first);
            let to = *to.min(other_to).min(&tables.last);
            (from <= to).then_some((*key, (from, to)))
        });
        Self(both.collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ApiKey, i16)> {
        self.0
            .iter()
            .flat_map(|(key, (from, to))| (*from..=*to).map(|version| (*key, version)))
    }
}

pub(crate) struct Side {
    name: &'static str,
    address: SocketAddr,
    wire: Wire,
    versions: Versions,
    answers: Vec<Answer>,
    topic_ids: BTreeMap<String, Uuid>,
}

impl Side {
    pub(crate) fn connect(name: &'static str, address: SocketAddr) -> Result<Self> {
        let started = Instant::now();
        let wire = loop {
            match Wire::connect(address) {
                Ok(wire) => break wire,
                Err(e) if started.elapsed() > PATIENCE => return Err(e).context(name),
                Err(_) => std::thread::sleep(PAUSE),
            }
        };
        Ok(Self {
            name,
            address,
            wire,
            versions: Versions::default(),
            answers: Vec::new(),
            topic_ids: BTreeMap::new(),
        })
    }

    /// The versions that the broker lists.
    pub(crate) fn listed(&mut self) -> Result<Versions> {
        let listed = self
            .quietly(0, &ApiVersionsRequest::default())?
            .context("it answers")?;
        let versions = listed.api_keys.iter().filter_map(|api| {
            Some((
                ApiKey::from_code(api.api_key)?,
                (api.min_version, api.max_version),
            ))
        });
        Ok(Versions(versions.collect()))
    }

    pub(crate) fn use_versions(&mut self, versions: Versions) {
        self.versions = versions;
    }

    /// The versions of an API to ask for; none if not both list it.
    #[allow(clippy::reversed_empty_ranges, reason = "there may be none")]
    pub(crate) fn versions(&self, key: ApiKey) -> std::ops::RangeInclusive<i16> {
        self.versions
            .0
            .get(&key)
            .map_or(1..=0, |(from, to)| *from..=*to)
    }

    /// The newest version of an API to ask for.
    pub(crate) fn newest(&self, key: ApiKey) -> Result<i16> {
        let range = self.versions(key);
        if range.is_empty() {
            bail!("{key} is not listed by both");
        }
        Ok(*range.end())
    }

    /// Asks and keeps the answer for comparison. `None` if the broker closed the connection, which
    /// counts as an answer.
    pub(crate) fn ask<R: Request>(
        &mut self,
        step: &str,
        version: i16,
        request: &R,
    ) -> Result<Option<R::Response>> {
        let body = self.patiently(version, request)?;
        let tree = match &body {
            Some(body) => self
                .tree::<R>(version, body)
                .with_context(|| step.to_owned())?,
            None => json!("connection closed"),
        };
        self.answers.push(Answer {
            step: step.to_owned(),
            key: R::API_KEY,
            version,
            tree,
        });
        Self::decode::<R>(version, body)
    }

    /// Asks in every common version. The answers go to `each`, for what has to follow.
    pub(crate) fn ask_all<R: Request>(
        &mut self,
        step: &str,
        request: impl Fn(i16) -> R,
    ) -> Result<()> {
        for version in self.versions(R::API_KEY) {
            self.ask(step, version, &request(version))?;
        }
        Ok(())
    }

    /// Asks without keeping the answer: for what has to be so before a comparison can begin.
    pub(crate) fn quietly<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<Option<R::Response>> {
        let body = self.patiently(version, request)?;
        Self::decode::<R>(version, body)
    }

    /// Asks in the newest version until the answer is as wanted.
    pub(crate) fn until<R: Request>(
        &mut self,
        request: &R,
        wanted: impl Fn(&R::Response) -> bool,
    ) -> Result<R::Response> {
        let version = self.newest(R::API_KEY)?;
        let started = Instant::now();
        loop {
            let response = self.quietly(version, request)?.context("it answers")?;
            if wanted(&response) {
                return Ok(response);
            }
            if started.elapsed() > PATIENCE {
                bail!("{}: what {} waits for does not come", self.name, R::NAME);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Keeps the id of a topic for requests that name topics so.
    pub(crate) fn remember_topic(&mut self, name: &str, id: Uuid) {
        self.topic_ids.insert(name.to_owned(), id);
    }

    /// The ids of the topics that were made.
    pub(crate) fn topic_ids(&self) -> BTreeMap<String, Uuid> {
        self.topic_ids.clone()
    }

    pub(crate) fn into_answers(self) -> Vec<Answer> {
        self.answers
    }

    fn decode<R: Request>(version: i16, body: Option<Bytes>) -> Result<Option<R::Response>> {
        let decode = |body| R::Response::decode(version, &mut Input::new(body));
        Ok(body.map(decode).transpose()?)
    }

    fn tree<R: Request>(&self, version: i16, body: &Bytes) -> Result<Value> {
        // An answer in version 0 is the one to versions of ApiVersions that are not known.
        let layout = Layout {
            version,
            flexible: version >= R::Response::FLEXIBLE_FROM,
        };
        tree(R::Response::TABLE, layout, body)
            .with_context(|| format!("{}, {} version {version}", self.name, R::NAME))
    }

    fn patiently<R: Request>(&mut self, version: i16, request: &R) -> Result<Option<Bytes>> {
        let started = Instant::now();
        loop {
            let body = self.call(version, request)?;
            let Some(body) = body else {
                return Ok(None);
            };
            let waits = has_error(&self.tree::<R>(version, &body)?, &NOT_YET);
            if !waits || started.elapsed() > PATIENCE {
                return Ok(Some(body));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<Option<Bytes>> {
        self.wire
            .send(version, request)
            .with_context(|| R::NAME.to_owned())?;
        match self.wire.receive::<R>(version) {
            Ok(body) => Ok(Some(body)),
            Err(e) if is_closed(&e) => {
                self.wire = Wire::connect(self.address)?;
                Ok(None)
            }
            Err(e) => {
                Err(e).with_context(|| format!("{}, {} version {version}", self.name, R::NAME))
            }
        }
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|e| matches!(e.kind(), BrokenPipe | ConnectionReset | UnexpectedEof))
}

fn has_error(tree: &Value, codes: &[i64]) -> bool {
    match tree {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let is_code =
                name == "error_code" && value.as_i64().is_some_and(|v| codes.contains(&v));
            is_code || has_error(value, codes)
        }),
        Value::Array(elements) => elements.iter().any(|element| has_error(element, codes)),
        _ => false,
    }
}
