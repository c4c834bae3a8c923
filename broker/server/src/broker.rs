//! A running node: starts the parts in order, stops them in reverse.
//!
//! Start: data directories, metadata log, replay, logs, listeners. Stop: listeners take no more
//! calls, streams end, background threads end, writers append and sync what is queued, logs are
//! closed, clean markers written. A node that is killed instead recovers at its next start.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_controller::{
    BrokerRegistration, ControllerSettings, MetadataImage, MetadataRecord, RegisterError,
    bootstrap, register_broker,
};
use conveyor_log::disk::{Disk, OsDisk};
use conveyor_log::{Clock, LogError, SystemClock};
use conveyor_record::NodeId;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::BrokerConfig;
use crate::background::Background;
use crate::config::parse_host_port;
use crate::coordinator::{self, GroupHost};
use crate::fetch_memory::FetchMemory;
use crate::handlers::Services;
use crate::kafka::KafkaService;
use crate::listener::kafka::{self, BoundListener};
use crate::listener::{admin, grpc};
use crate::metadata_host::{self, MetadataError, MetadataHost, MetadataStart, ReplayError};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::open_files;
use crate::partition::Partition;
use crate::producer_ids::ProducerIds;
use crate::request::{AllowAll, Authorizer, Gate, Quotas};
use crate::request_memory::RequestMemory;
use crate::storage::{Storage, StorageError};
use crate::transaction::{self, TransactionHost};

/// Why a node cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("cannot listen on {address} ({setting}): {source}")]
    Bind {
        /// The setting.
        setting: &'static str,
        /// Its value.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The data directories cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The metadata cannot be read.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The data directories belong to one cluster, the metadata in them to another.
    #[error("the metadata log is of cluster {metadata}, the data directories are of {directories}")]
    ForeignMetadata {
        /// What the metadata says.
        metadata: String,
        /// What `meta.properties` says.
        directories: String,
    },
    /// The node cannot be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The metadata cannot be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A task of the start was given up.
    #[error("the start was given up: {0}")]
    Task(#[from] JoinError),
}

/// Why a node did not stop in order. What was acknowledged is safe; the next start recovers.
#[derive(Debug, Error)]
pub enum ShutdownError {
    /// A log or a data directory was not closed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A task of the stop was given up.
    #[error("the stop was given up: {0}")]
    Task(#[from] JoinError),
}

/// What a node gets from outside besides its settings.
#[derive(Debug)]
pub struct Parts {
    /// Decides who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// Where the data directories lie.
    pub disk: Arc<dyn Disk>,
    /// What time it is for records, retention and producers.
    pub clock: Arc<dyn Clock>,
}

impl Default for Parts {
    /// Everybody may do everything, on the machine's own disk and time.
    fn default() -> Self {
        Self {
            authorizer: Arc::new(AllowAll),
            disk: Arc::new(OsDisk::default()),
            clock: Arc::new(SystemClock::default()),
        }
    }
}

/// A running node. Dropping it without [`Broker::shutdown`] leaves its tasks running until the
/// runtime ends, and the next start recovers as after a crash.
#[derive(Debug)]
pub struct Broker {
    node: Arc<Node>,
    metadata_log: Arc<Partition>,
    grpc_address: SocketAddr,
    admin_address: Option<SocketAddr>,
    listeners: Mutex<Vec<JoinHandle<()>>>,
    background: Background,
}

impl Broker {
    /// Opens the data directories, replays the metadata, and serves. Returns when clients can
    /// produce.
    pub async fn start(config: BrokerConfig) -> Result<Self, StartError> {
        Self::start_with(config, Parts::default()).await
    }

    /// As [`Self::start`], with other parts: somebody who decides who may do what, another disk.
    pub async fn start_with(config: BrokerConfig, parts: Parts) -> Result<Self, StartError> {
        let began = Instant::now();
        open_files::raise_limit();
        let Parts {
            authorizer,
            disk,
            clock,
        } = parts;
        let listener = bind("listeners.grpc", &config.grpc_listener).await?;
        let grpc_address = local_address(&listener, "listeners.grpc", &config.grpc_listener)?;
        let admin_listener = match config.admin_listener.as_str() {
            "" => None,
            address => Some(bind("listeners.admin", address).await?),
        };
        let admin_address = admin_listener
            .as_ref()
            .map(|listener| local_address(listener, "listeners.admin", &config.admin_listener))
            .transpose()?;

        let kafka = bind_kafka(&config).await?;

        let metrics = Arc::new(Metrics::default());
        let own_metrics = Arc::clone(&metrics);
        let (settings, own_clock) = (config.clone(), Arc::clone(&clock));
        let opened = tokio::task::spawn_blocking(move || {
            open_storage(&settings, &disk, &own_clock, &own_metrics)
        });
        let (storage, metadata_log, image) = opened.await??;
        let storage = Arc::new(storage);
        let stopping = CancellationToken::new();
        let start = MetadataStart {
            founding: register(&config, &image, storage.cluster_id(), grpc_address)?,
            image,
            log: Arc::clone(&metadata_log),
            settings: ControllerSettings {
                defaults: config.topic_defaults(),
                ..ControllerSettings::default()
            },
        };
        let metadata = MetadataHost::start(
            start,
            Arc::clone(&storage),
            Arc::clone(&clock),
            stopping.clone(),
        );
        let metadata = metadata.await?;

        let quotas = Quotas::new(config.quota_producer, config.quota_consumer);
        quotas.set_clients(|| Arc::clone(metadata.image().client_quotas()));
        let node = Arc::new(Node {
            node_id: NodeId(config.node_id),
            gate: Gate::new(authorizer, quotas, Arc::clone(&metrics)),
            started_ms: clock.now_ms(),
            producer_ids: ProducerIds::of(NodeId(config.node_id)),
            fetch_memory: FetchMemory::new(config.fetch_memory_bytes),
            request_memory: RequestMemory::new(config.queued_max_request_bytes),
            kafka_listeners: kafka.iter().map(|bound| Arc::clone(&bound.info)).collect(),
            stopping,
            stopped: CancellationToken::new(),
            config,
            clock,
            storage,
            metadata,
            metrics,
        });
        let background = Background::start(&node).map_err(StartError::Thread)?;
        let groups = GroupHost::start(Arc::clone(&node));
        let transactions = TransactionHost::start(Arc::clone(&node), Arc::clone(&groups));
        let mut listeners = vec![
            serve_grpc(&node, &groups, &transactions, listener),
            serve_kafka(&node, &groups, &transactions, kafka),
        ];
        listeners.extend(admin_listener.map(|listener| serve_admin(&node, listener)));
        tracing::info!(
            node_id = node.node_id.value(),
            grpc = %grpc_address,
            kafka = %kafka_text(&node),
            admin = admin_address.map(tracing::field::display),
            partitions = node.metadata.image().partition_count(),
            millis = began.elapsed().as_millis() as u64,
            "node started"
        );
        Ok(Self {
            node,
            metadata_log,
            grpc_address,
            admin_address,
            listeners: Mutex::new(listeners),
            background,
        })
    }

    /// Where the gRPC listener is bound (the real port when the setting says 0).
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where each Kafka listener is bound, by its name, in the order of the setting (the real ports
    /// where it says 0).
    pub fn kafka_addresses(&self) -> Vec<(String, SocketAddr)> {
        let listeners = self.node.kafka_listeners.iter();
        listeners
            .map(|listener| (listener.name.to_string(), listener.address))
            .collect()
    }

    /// Where the admin HTTP listener is bound; `None` when it is switched off.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> String {
        self.node.storage.cluster_id().to_owned()
    }

    /// Returns when the node stops by itself, because a listener or the metadata log failed; never
    /// otherwise.
    pub async fn stopped(&self) {
        self.node.stopping.cancelled().await;
    }

    /// Stops in order: no new calls, calls under way finished or cut after
    /// `controlled.shutdown.timeout.ms`, everything synced, checkpoints and clean marker written.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        let Self {
            node,
            metadata_log,
            listeners,
            background,
            ..
        } = self;
        node.stopping.cancel();
        let limit = crate::background::duration(node.config.shutdown_timeout_ms);
        let own = Arc::clone(&node);
        tokio::task::spawn_blocking(move || {
            background.stop(&own);
        })
        .await?;
        let [grpc, kafka, rest @ ..] = &mut *listeners.into_inner() else {
            return Ok(());
        };
        let deadline = tokio::time::Instant::now() + limit;
        for clients in [grpc, kafka] {
            let ended = tokio::time::timeout_at(deadline, &mut *clients).await;
            if ended.is_err() {
                tracing::warn!("connections are cut: their calls did not end in time");
                clients.abort();
            }
        }
        let own = Arc::clone(&node);
        let closed = tokio::task::spawn_blocking(move || own.storage.close(&metadata_log)).await?;
        node.stopped.cancel();
        for listener in rest {
            let ended = tokio::time::timeout(Duration::from_secs(1), &mut *listener).await;
            if ended.is_err() {
                listener.abort();
            }
        }
        tracing::info!("node stopped");
        Ok(closed?)
    }
}

async fn bind(setting: &'static str, address: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Bind {
            setting,
            address: address.to_owned(),
            source,
        })
}

fn local_address(
    listener: &TcpListener,
    setting: &'static str,
    address: &str,
) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Bind {
        setting,
        address: address.to_owned(),
        source,
    })
}

fn open_storage(
    config: &BrokerConfig,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<(Storage, Arc<Partition>, MetadataImage), StartError> {
    let storage = Storage::open(config, disk, clock, metrics)?;
    let metadata_log = storage.open_metadata_log()?;
    let image = metadata_host::replay(&metadata_log)?;
    if let Some(metadata) = image.cluster_id()
        && metadata != storage.cluster_id()
    {
        return Err(StartError::ForeignMetadata {
            metadata: metadata.to_owned(),
            directories: storage.cluster_id().to_owned(),
        });
    }
    storage.open_all(&image)?;
    Ok((storage, metadata_log, image))
}

/// The cluster's id, at the first start, and this node's address, when it is new.
fn register(
    config: &BrokerConfig,
    image: &MetadataImage,
    cluster_id: &str,
    bound: SocketAddr,
) -> Result<Vec<MetadataRecord>, RegisterError> {
    let (host, port) =
        parse_host_port(&config.advertised_grpc).unwrap_or_else(|| advertised(bound));
    let registration = BrokerRegistration {
        rack: config.rack.clone(),
        ..BrokerRegistration::new(NodeId(config.node_id), host, port)
    };
    let mut records = bootstrap(image, cluster_id).records;
    records.extend(register_broker(image, registration)?.records);
    Ok(records)
}

/// An address bound to all interfaces is no address for a client on another machine; the loopback
/// one at least works here.
fn advertised(bound: SocketAddr) -> (String, u16) {
    if bound.ip().is_unspecified() {
        tracing::warn!("advertised.listeners.grpc is not set: clients are told 127.0.0.1");
        return ("127.0.0.1".to_owned(), bound.port());
    }
    (bound.ip().to_string(), bound.port())
}

/// Binds the Kafka listeners, all or none.
async fn bind_kafka(config: &BrokerConfig) -> Result<Vec<BoundListener>, StartError> {
    let mut bound = Vec::new();
    for listener in config.kafka_listeners() {
        let socket = kafka::bind(listener).await;
        bound.push(socket.map_err(|source| StartError::Bind {
            setting: "listeners",
            address: listener.text(),
            source,
        })?);
    }
    Ok(bound)
}

/// The Kafka listeners for the log: where they are bound and what clients are told.
fn kafka_text(node: &Node) -> String {
    let listeners = node.kafka_listeners.iter().map(|listener| {
        let (name, address) = (&listener.name, listener.address);
        format!("{name}://{address} advertised as {}", listener.advertised())
    });
    listeners.collect::<Vec<_>>().join(", ")
}

fn serve_kafka(
    node: &Arc<Node>,
    groups: &Arc<GroupHost>,
    transactions: &Arc<TransactionHost>,
    listeners: Vec<BoundListener>,
) -> JoinHandle<()> {
    let (groups, transactions) = (Arc::clone(groups), Arc::clone(transactions));
    let service = KafkaService::new(Arc::clone(node), groups, transactions);
    tokio::spawn(kafka::serve(service, listeners))
}

fn serve_grpc(
    node: &Arc<Node>,
    groups: &Arc<GroupHost>,
    transactions: &Arc<TransactionHost>,
    listener: TcpListener,
) -> JoinHandle<()> {
    let services = Services::new(Arc::clone(node), Arc::clone(transactions));
    let own = Arc::clone(node);
    let more = transaction::add_routes(coordinator::routes(groups), transactions);
    tokio::spawn(async move {
        let stopping = own.stopping.clone();
        if let Err(error) = grpc::serve(services, listener, more).await {
            tracing::error!(%error, "the gRPC listener failed");
        }
        stopping.cancel();
    })
}

fn serve_admin(node: &Arc<Node>, listener: TcpListener) -> JoinHandle<()> {
    let own = Arc::clone(node);
    tokio::spawn(async move {
        if let Err(error) = admin::serve(own, listener).await {
            tracing::error!(%error, "the admin listener failed");
        }
    })
}
