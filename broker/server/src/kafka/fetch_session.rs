//! Fetch sessions (KIP-227): what a consumer reads, remembered between its requests, so that each
//! request names only what has changed and each response only what is new.
//!
//! A session has a number and an epoch that counts its requests. A request with epoch 0 names
//! everything and asks for a session; with epoch -1 it wants none; any other must be the epoch that
//! comes next. A partition is told of when it has records, an error, or other positions than were told
//! last. Partitions that had records go to the back, so that the first ones do not starve the others.
//!
//! The cache is bounded by sessions and by partitions. A consumer that finds no place works without
//! a session, which costs it longer requests and nothing else; one whose session gave way is told so
//! and starts anew.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::fetch::{FetchRequest, PartitionData};
use parking_lot::Mutex;
use uuid::Uuid;

/// A session idle for this long may give way to a new one; Kafka's value.
const IDLE_MIN: Duration = Duration::from_mins(2);
/// Partitions that all sessions together may remember.
const PARTITIONS_MAX: usize = 500_000;
/// There is no session.
const NO_SESSION: i32 = 0;
/// A request with this epoch asks for a session.
const EPOCH_FIRST: i32 = 0;
/// A request with this epoch wants none, or ends the one it names.
const EPOCH_FINAL: i32 = -1;

/// A topic as the client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicRef {
    /// Its name; `None` if the client named an id that no topic has.
    pub(super) name: Option<Arc<str>>,
    /// Its id, nil if the client named it by name.
    pub(super) id: Uuid,
}

/// A partition that a consumer reads, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) topic: TopicRef,
    pub(super) partition: i32,
    pub(super) current_leader_epoch: i32,
    pub(super) fetch_offset: i64,
    pub(super) last_fetched_epoch: i32,
    pub(super) partition_max_bytes: i32,
}

/// One request within its session.
#[derive(Debug)]
pub(super) struct FetchContext {
    kind: Kind,
    wanted: Vec<Wanted>,
}

#[derive(Debug)]
enum Kind {
    /// Nothing is remembered.
    Sessionless,
    /// A session is to be made of it.
    First { by_id: bool },
    /// One more request of a session.
    Next {
        id: i32,
        session: Arc<Mutex<Session>>,
        /// The epoch that the next request must have.
        epoch: i32,
        /// The place of each wanted partition in the session.
        places: Vec<u64>,
    },
}

impl FetchContext {
    /// What is to be read, in order.
    pub(super) fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    pub(super) fn into_wanted(self) -> Vec<Wanted> {
        self.wanted
    }
}

/// The sessions of a node.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: usize,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    sessions: HashMap<i32, Entry>,
    /// Partitions in all of them.
    partitions: usize,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Mutex<Session>>,
    used: Instant,
    partitions: usize,
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.sessions.remove(&id) {
            self.partitions -= entry.partitions;
        }
    }

    /// Makes room for a session; false if everybody is busy.
    fn make_room(&mut self, slots: usize, partitions: usize, now: Instant) -> bool {
        let fits = |cache: &Self| {
            cache.sessions.len() < slots && cache.partitions + partitions <= PARTITIONS_MAX
        };
        while !fits(self) {
            let oldest = self.sessions.iter().min_by_key(|(_, entry)| entry.used);
            match oldest {
                Some((&id, entry)) if now.duration_since(entry.used) >= IDLE_MIN => self.remove(id),
                _ => return false,
            }
        }
        true
    }

    /// Notes how many partitions a session has now; false if that is too many for the cache.
    fn resize(&mut self, id: i32, partitions: usize) -> bool {
        if let Some(entry) = self.sessions.get_mut(&id) {
            self.partitions = self.partitions - entry.partitions + partitions;
            entry.partitions = partitions;
        }
        if self.partitions > PARTITIONS_MAX {
            self.remove(id);
            return false;
        }
        true
    }
}

impl FetchSessions {
    /// Room for so many sessions.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots,
            cache: Mutex::default(),
        }
    }

    /// Finds out what a request wants: all that it names, or all of its session after the changes
    /// that it names. `name_of` finds the name of a topic by its id.
    pub(super) fn open(
        &self,
        request: FetchRequest,
        by_id: bool,
        name_of: impl Fn(Uuid) -> Option<Arc<str>>,
        now: Instant,
    ) -> Result<FetchContext, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let forgotten: Vec<Key> = request
            .forgotten_topics_data
            .iter()
            .flat_map(forgotten)
            .collect();
        let named = named(request, by_id, &name_of);
        if epoch == EPOCH_FIRST || epoch == EPOCH_FINAL {
            if id != NO_SESSION {
                self.cache.lock().remove(id);
            }
            let kind = if epoch == EPOCH_FIRST {
                Kind::First { by_id }
            } else {
                Kind::Sessionless
            };
            return Ok(FetchContext {
                kind,
                wanted: named,
            });
        }
        let session = self.touch(id, now)?;
        let mut state = session.lock();
        if state.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if state.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        state.epoch = next_epoch(epoch);
        state.change(named, &forgotten);
        state.resolve(&name_of);
        let (places, wanted): (Vec<u64>, Vec<Wanted>) = state
            .partitions
            .iter()
            .map(|(place, remembered)| (*place, remembered.wanted.clone()))
            .unzip();
        let epoch = state.epoch;
        drop(state);
        if wanted.is_empty() {
            self.cache.lock().remove(id);
            return Ok(FetchContext {
                kind: Kind::Sessionless,
                wanted,
            });
        }
        if !self.cache.lock().resize(id, wanted.len()) {
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        Ok(FetchContext {
            kind: Kind::Next {
                id,
                session,
                epoch,
                places,
            },
            wanted,
        })
    }

    fn touch(&self, id: i32, now: Instant) -> Result<Arc<Mutex<Session>>, ErrorCode> {
        let mut cache = self.cache.lock();
        let entry = cache.sessions.get_mut(&id);
        let entry = entry.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        entry.used = now;
        Ok(Arc::clone(&entry.session))
    }

    /// Takes note of what is answered: the session's number for the response, and which of the
    /// partitions belong into it.
    pub(super) fn close(
        &self,
        context: &FetchContext,
        answers: &[PartitionData],
        now: Instant,
    ) -> Result<(i32, Vec<bool>), ErrorCode> {
        match &context.kind {
            Kind::Sessionless => Ok((NO_SESSION, vec![true; answers.len()])),
            Kind::First { by_id } => {
                let id = self.create(*by_id, &context.wanted, answers, now);
                Ok((id, vec![true; answers.len()]))
            }
            Kind::Next {
                id,
                session,
                epoch,
                places,
            } => {
                let mut session = session.lock();
                // Another connection has gone on with the session meanwhile.
                if session.epoch != *epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                let told = places.iter().zip(answers);
                let told = told.map(|(place, answer)| session.note(*place, answer));
                Ok((*id, told.collect()))
            }
        }
    }

    /// The session's number for a response that tells nothing.
    pub(super) fn skip(context: &FetchContext) -> i32 {
        match context.kind {
            Kind::Next { id, .. } => id,
            Kind::Sessionless | Kind::First { .. } => NO_SESSION,
        }
    }

    fn create(
        &self,
        by_id: bool,
        wanted: &[Wanted],
        answers: &[PartitionData],
        now: Instant,
    ) -> i32 {
        if wanted.is_empty() {
            return NO_SESSION;
        }
        let mut cache = self.cache.lock();
        if !cache.make_room(self.slots, wanted.len(), now) {
            return NO_SESSION;
        }
        let mut session = Session {
            epoch: next_epoch(EPOCH_FIRST),
            by_id,
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        for (wanted, answer) in wanted.iter().zip(answers) {
            let place = session.remember(wanted.clone());
            session.note(place, answer);
        }
        let id = loop {
            // Hard to guess, so that nobody takes another's session by mistake.
            let id = (Uuid::new_v4().as_u128() as i32) & i32::MAX;
            if id != NO_SESSION && !cache.sessions.contains_key(&id) {
                break id;
            }
        };
        let partitions = session.partitions.len();
        cache.partitions += partitions;
        let entry = Entry {
            session: Arc::new(Mutex::new(session)),
            used: now,
            partitions,
        };
        cache.sessions.insert(id, entry);
        id
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// What tells partitions of a session apart: the id where topics are named by id, else the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: Option<Arc<str>>,
    id: Uuid,
    partition: i32,
}

impl Key {
    fn of(wanted: &Wanted) -> Self {
        let by_name = wanted.topic.id.is_nil();
        Self {
            name: wanted.topic.name.clone().filter(|_| by_name),
            id: wanted.topic.id,
            partition: wanted.partition,
        }
    }
}

fn forgotten(
    topic: &conveyor_kafka::messages::fetch::ForgottenTopic,
) -> impl Iterator<Item = Key> + use<> {
    let id = topic.topic_id;
    let name = id.is_nil().then(|| Arc::from(topic.topic.as_str()));
    let partitions = topic.partitions.clone().into_iter();
    partitions.map(move |partition| Key {
        name: name.clone(),
        id,
        partition,
    })
}

/// What a request names; of a partition that it names twice, what it says last in the first place.
fn named(
    request: FetchRequest,
    by_id: bool,
    name_of: &impl Fn(Uuid) -> Option<Arc<str>>,
) -> Vec<Wanted> {
    let topics = request.topics.into_iter();
    let wanted = topics.flat_map(|topic| {
        let topic_ref = TopicRef {
            name: if by_id {
                name_of(topic.topic_id)
            } else {
                Some(topic.topic.as_str().into())
            },
            id: topic.topic_id,
        };
        topic.partitions.into_iter().map(move |partition| Wanted {
            topic: topic_ref.clone(),
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            partition_max_bytes: partition.partition_max_bytes,
        })
    });
    let mut places = HashMap::new();
    let mut named: Vec<Wanted> = Vec::new();
    for wanted in wanted {
        match places.entry(Key::of(&wanted)) {
            MapEntry::Occupied(place) => named[*place.get()] = wanted,
            MapEntry::Vacant(place) => {
                place.insert(named.len());
                named.push(wanted);
            }
        }
    }
    named
}

#[derive(Debug)]
struct Session {
    /// The epoch that the next request must have.
    epoch: i32,
    by_id: bool,
    /// By place in the order of reading.
    partitions: BTreeMap<u64, Remembered>,
    places: HashMap<Key, u64>,
    next_place: u64,
}

#[derive(Debug)]
struct Remembered {
    wanted: Wanted,
    /// High watermark, last stable offset and log start as told last; `None` if they have to be
    /// told again.
    told: Option<[i64; 3]>,
}

impl Session {
    /// Applies what a request names: partitions that are new or are read from elsewhere now, and
    /// those that are read no more.
    fn change(&mut self, named: Vec<Wanted>, forgotten: &[Key]) {
        for key in forgotten {
            if let Some(place) = self.places.remove(key) {
                self.partitions.remove(&place);
            }
        }
        for wanted in named {
            self.remember(wanted);
        }
    }

    fn remember(&mut self, wanted: Wanted) -> u64 {
        let key = Key::of(&wanted);
        if let Some(place) = self.places.get(&key)
            && let Some(remembered) = self.partitions.get_mut(place)
        {
            remembered.wanted = wanted;
            return *place;
        }
        let remembered = Remembered { wanted, told: None };
        let place = self.append(remembered);
        self.places.insert(key, place);
        place
    }

    fn append(&mut self, remembered: Remembered) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        self.partitions.insert(place, remembered);
        place
    }

    /// Looks again for topics that were not there when they were named.
    fn resolve(&mut self, name_of: &impl Fn(Uuid) -> Option<Arc<str>>) {
        for remembered in self.partitions.values_mut() {
            let topic = &mut remembered.wanted.topic;
            if topic.name.is_none() {
                topic.name = name_of(topic.id);
            }
        }
    }

    /// Whether an answer is news to the client, which then has heard it.
    fn note(&mut self, place: u64, answer: &PartitionData) -> bool {
        let Some(remembered) = self.partitions.get_mut(&place) else {
            return true;
        };
        let has_records = answer
            .records
            .as_ref()
            .is_some_and(|records| !records.is_empty());
        let failed = answer.error_code != 0 || answer.diverging_epoch.epoch >= 0;
        let positions = [
            answer.high_watermark,
            answer.last_stable_offset,
            answer.log_start_offset,
        ];
        let is_news = has_records || failed || remembered.told != Some(positions);
        remembered.told = (!failed).then_some(positions);
        if has_records && let Some(remembered) = self.partitions.remove(&place) {
            let key = Key::of(&remembered.wanted);
            let place = self.append(remembered);
            self.places.insert(key, place);
        }
        is_news
    }
}

#[cfg(test)]
#[path = "fetch_session_tests.rs"]
mod tests;
