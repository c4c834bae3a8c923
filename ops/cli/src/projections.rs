//! `PakLog`'s projections, running in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conveyor_paklog::projection::{Visitor, declarations, visit_all};
use conveyor_processors::build::{BuildName, InBuild};
use conveyor_processors::driver::{Driver, DriverConfig, DriverError};
use conveyor_processors::status::{Observer, Status};
use conveyor_processors::store::Store;
use conveyor_processors::{Declaration, Decoder, Projection};
use conveyor_sdk::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

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
    declarations().into_iter().find(|one| one.name() == name)
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
        let mut starting = Starting {
            setup: self,
            wanted,
            observer: &observer,
            running: Vec::with_capacity(wanted.len()),
        };
        visit_all(&mut starting);
        starting.running
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

/// Starts those that are wanted.
struct Starting<'s> {
    setup: &'s Setup,
    wanted: &'s BTreeSet<&'s str>,
    observer: &'s MakeObserver<'s>,
    running: Vec<Running>,
}

impl Visitor for Starting<'_> {
    fn visit<P, D>(&mut self, projection: P, decoder: &Arc<D>)
    where
        P: Projection,
        D: Decoder<Event = P::Event>,
    {
        if !self.wanted.contains(projection.declaration().name()) {
            return;
        }
        let running = match &self.setup.build {
            Some(build) => {
                let projection = InBuild::new(projection, build.clone());
                self.setup.drive(projection, decoder, self.observer)
            }
            None => self.setup.drive(projection, decoder, self.observer),
        };
        self.running.push(running);
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
