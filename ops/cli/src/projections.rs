//! `PakLog`'s projections, running in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conveyor_paklog::projection::{
    Atp, DeadLetterDecoder, DeadLetters, InventoryMovement, KpiMinute, ObservedDecoder, OrderSla,
    OrderTracking, PackThroughput, PaklogDecoder, PickSession, TaskQueue, WaveProgress,
    WorkerHourly,
};
use conveyor_processors::build::{BuildName, InBuild};
use conveyor_processors::driver::{Driver, DriverConfig, DriverError};
use conveyor_processors::status::{Observer, Status};
use conveyor_processors::store::Store;
use conveyor_processors::{Declaration, Decoder, Projection};
use conveyor_sdk::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The names of all projections.
pub(crate) const NAMES: [&str; 11] = [
    "order_tracking",
    "atp",
    "inventory_movement",
    "wave_progress",
    "task_queue",
    "worker_hourly",
    "pick_session",
    "pack_throughput",
    "order_sla",
    "dead_letters",
    "kpi_minute",
];

/// The projections that the workload's own books are compared with: what the demo runs. All of them
/// together would take longer than a demo should.
pub(crate) const RECONCILED: [&str; 4] = [
    "order_tracking",
    "atp",
    "inventory_movement",
    "wave_progress",
];
/// What a projection of that name is, if there is one.
pub(crate) fn declaration(name: &str) -> Option<Declaration> {
    let all = [
        OrderTracking.declaration(),
        Atp.declaration(),
        InventoryMovement.declaration(),
        WaveProgress.declaration(),
        TaskQueue.declaration(),
        WorkerHourly.declaration(),
        PickSession.declaration(),
        PackThroughput.declaration(),
        OrderSla.declaration(),
        DeadLetters.declaration(),
        KpiMinute.declaration(),
    ];
    all.into_iter()
        .find(|declaration| declaration.name() == name)
}

/// A projection at work.
#[derive(Debug)]
pub(crate) struct Running {
    /// What it is.
    pub(crate) declaration: Arc<Declaration>,
    /// Its state and figures.
    pub(crate) status: Status,
    task: JoinHandle<Result<(), DriverError>>,
}

/// What holds for all projections, and what holds for some of them instead.
#[derive(Clone, Debug)]
pub(crate) struct Choice<T> {
    default: T,
    others: BTreeMap<String, T>,
}

/// Which projection is kept where.
pub(crate) type Stores = Choice<Arc<dyn Store>>;

impl<T> Choice<T> {
    /// One for all projections.
    pub(crate) const fn one(for_all: T) -> Self {
        Self {
            default: for_all,
            others: BTreeMap::new(),
        }
    }

    /// Another for one projection.
    pub(crate) fn keep(&mut self, projection: String, its_own: T) {
        self.others.insert(projection, its_own);
    }

    /// What a projection has.
    pub(crate) fn of(&self, projection: &str) -> &T {
        self.others.get(projection).unwrap_or(&self.default)
    }
}

/// Makes the observer of a projection.
type MakeObserver<'m> = dyn Fn(&Declaration) -> Arc<dyn Observer> + 'm;

/// What all projections of a process share.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) client: Client,
    pub(crate) stores: Stores,
    pub(crate) config: Choice<DriverConfig>,
    /// Set to true to stop.
    pub(crate) stop: watch::Receiver<bool>,
    /// The build to fill, if not the live one.
    pub(crate) build: Option<BuildName>,
}

impl Setup {
    /// Starts those projections that are wanted; `observer` makes the one that hears of a
    /// projection's transactions.
    pub(crate) fn start(
        &self,
        wanted: &BTreeSet<&str>,
        observer: impl Fn(&Declaration) -> Arc<dyn Observer>,
    ) -> Vec<Running> {
        let observer: &MakeObserver<'_> = &observer;
        let events = &Arc::new(PaklogDecoder::new());
        let failures = &Arc::new(DeadLetterDecoder);
        let all_records = &Arc::new(ObservedDecoder::default());
        let all = [
            self.start_one(OrderTracking, events, wanted, observer),
            self.start_one(Atp, events, wanted, observer),
            self.start_one(InventoryMovement, events, wanted, observer),
            self.start_one(WaveProgress, events, wanted, observer),
            self.start_one(TaskQueue, events, wanted, observer),
            self.start_one(WorkerHourly, events, wanted, observer),
            self.start_one(PickSession, events, wanted, observer),
            self.start_one(PackThroughput, events, wanted, observer),
            self.start_one(OrderSla, events, wanted, observer),
            self.start_one(DeadLetters, failures, wanted, observer),
            self.start_one(KpiMinute, all_records, wanted, observer),
        ];
        all.into_iter().flatten().collect()
    }

    fn start_one<P: Projection, D: Decoder<Event = P::Event>>(
        &self,
        projection: P,
        decoder: &Arc<D>,
        wanted: &BTreeSet<&str>,
        observer: &MakeObserver<'_>,
    ) -> Option<Running> {
        if !wanted.contains(projection.declaration().name()) {
            return None;
        }
        let running = match &self.build {
            Some(build) => {
                let projection = InBuild::new(projection, build.clone());
                self.drive(projection, decoder, observer)
            }
            None => self.drive(projection, decoder, observer),
        };
        Some(running)
    }

    fn drive<P: Projection, D: Decoder<Event = P::Event>>(
        &self,
        projection: P,
        decoder: &Arc<D>,
        observer: &MakeObserver<'_>,
    ) -> Running {
        let declaration = Arc::new(projection.declaration());
        let driver = Driver::new(
            self.client.clone(),
            projection,
            Arc::clone(decoder),
            Arc::clone(self.stores.of(declaration.name())),
            self.config.of(declaration.name()).clone(),
        );
        let driver = driver.with_observer(observer(&declaration));
        let status = driver.status();
        let mut stop = self.stop.clone();
        let stopped = async move {
            // The sender going away means stop, too.
            stop.wait_for(|stop| *stop).await.ok();
        };
        Running {
            declaration,
            status,
            task: tokio::spawn(driver.run(stopped)),
        }
    }
}

impl Running {
    /// Waits until it has stopped; why, if not as asked.
    pub(crate) async fn finished(self) -> anyhow::Result<()> {
        Ok(self.task.await??)
    }

    /// Whether it has stopped.
    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}
