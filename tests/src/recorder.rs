//! A proxy between a Kafka client and a broker that keeps what they say to each other, and can make
//! the broker look older than it is: it lowers the versions in `ApiVersions` answers.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use conveyor_kafka::frame::{PREFIX_SIZE, frame_size, response_frame};
use conveyor_kafka::messages::api_versions::ApiVersionsResponse;
use conveyor_kafka::{ApiKey, Input, Message, RequestHeader, ResponseHeader};

/// Below these versions Kafka's clients refuse to go on. A broker that looks much older keeps them,
/// so that the oldest versions of other APIs are seen too.
const NEEDED: [(ApiKey, i16); 6] = [
    (ApiKey::Produce, 3),
    (ApiKey::Metadata, 4),
    (ApiKey::FindCoordinator, 2),
    (ApiKey::ListOffsets, 2),
    (ApiKey::OffsetFetch, 2),
    (ApiKey::JoinGroup, 5),
];
const MUCH_OLDER: i16 = 10;
const FRAME_SIZE_MAX: usize = 64 << 20;

/// What is kept of one message: the frame without its length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// `request` or `response`.
    pub side: &'static str,
    /// The API.
    pub key: ApiKey,
    /// The version.
    pub version: i16,
}

/// The proxy. Its threads end with their connections; the one that listens, with the process.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    broker: Mutex<Option<SocketAddr>>,
    lowered: AtomicI16,
    messages: Mutex<BTreeMap<Kind, Vec<Bytes>>>,
}

impl Recorder {
    /// Starts to listen. Connections are refused until a broker is named.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            broker: Mutex::new(None),
            lowered: AtomicI16::new(0),
            messages: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let broker = *accepting
                    .broker
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let Some(Ok(broker)) = broker.map(TcpStream::connect) else {
                    continue;
                };
                converse(&accepting, &client, &broker).ok();
            }
        });
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Names the broker.
    pub fn connect_to(&self, broker: SocketAddr) {
        let mut slot = self
            .shared
            .broker
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *slot = Some(broker);
    }

    /// From now on each API's highest version looks lower by `by`, where that is not below its lowest.
    pub fn lower_versions(&self, by: i16) {
        self.shared.lowered.store(by, Ordering::SeqCst);
    }

    /// All messages so far.
    pub fn messages(&self) -> BTreeMap<Kind, Vec<Bytes>> {
        let messages = self
            .shared
            .messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        messages.clone()
    }
}

type Pending = Arc<Mutex<HashMap<i32, (ApiKey, i16)>>>;

fn converse(shared: &Arc<Shared>, client: &TcpStream, broker: &TcpStream) -> Result<()> {
    let pending = Pending::default();
    let (from, to) = (client.try_clone()?, broker.try_clone()?);
    let (of_requests, waiting) = (Arc::clone(shared), Arc::clone(&pending));
    std::thread::spawn(move || {
        forward(&from, &to, |frame| {
            of_requests.request(&frame, &waiting).map(|()| frame)
        })
    });
    let (from, to) = (broker.try_clone()?, client.try_clone()?);
    let of_responses = Arc::clone(shared);
    std::thread::spawn(move || forward(&from, &to, |frame| of_responses.response(frame, &pending)));
    Ok(())
}

fn forward(
    mut from: &TcpStream,
    mut to: &TcpStream,
    mut seen: impl FnMut(Bytes) -> Result<Bytes>,
) -> Result<()> {
    loop {
        let mut prefix = [0; PREFIX_SIZE];
        if from.read_exact(&mut prefix).is_err() {
            to.shutdown(Shutdown::Both).ok();
            return Ok(());
        }
        let mut frame = vec![0; frame_size(prefix, FRAME_SIZE_MAX)?];
        from.read_exact(&mut frame)?;
        let frame = seen(frame.into())?;
        to.write_all(&(frame.len() as u32).to_be_bytes())?;
        to.write_all(&frame)?;
    }
}

impl Shared {
    fn keep(&self, side: &'static str, key: ApiKey, version: i16, frame: Bytes) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = Kind { side, key, version };
        messages.entry(kind).or_default().push(frame);
    }

    fn request(&self, frame: &Bytes, pending: &Pending) -> Result<()> {
        let header = RequestHeader::decode(&mut Input::new(frame.clone()))?;
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.insert(header.correlation_id, (header.api_key, header.api_version));
        self.keep("request", header.api_key, header.api_version, frame.clone());
        Ok(())
    }

    /// The frame for the client: the broker's, unless versions are to look lower.
    fn response(&self, frame: Bytes, pending: &Pending) -> Result<Bytes> {
        let correlation_id = frame.first_chunk().context("a response has a header")?;
        let correlation_id = i32::from_be_bytes(*correlation_id);
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, version) = pending.remove(&correlation_id).context("it was asked")?;
        self.keep("response", key, version, frame.clone());
        if key != ApiKey::ApiVersions {
            return Ok(frame);
        }
        let mut input = Input::new(frame);
        ResponseHeader::decode(key, version, &mut input)?;
        let mut versions = ApiVersionsResponse::decode(version, &mut input)?;
        let lowered = self.lowered.load(Ordering::SeqCst);
        if lowered > 0 {
            // An old broker has no features, above all not the newer form of transactions.
            versions.finalized_features.clear();
        }
        for api in &mut versions.api_keys {
            let needed = if lowered < MUCH_OLDER {
                &[][..]
            } else {
                &NEEDED
            };
            let lowest = needed
                .iter()
                .find(|(needed, _)| needed.code() == api.api_key);
            let lowest = lowest.map_or(api.min_version, |(_, lowest)| api.min_version.max(*lowest));
            api.max_version = (api.max_version - lowered).max(lowest.min(api.max_version));
        }
        let lowered = response_frame(key, version, correlation_id, &versions)?;
        Ok(lowered.into_bytes().slice(PREFIX_SIZE..))
    }
}
