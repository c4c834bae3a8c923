//! What every part of the world may use: time, chance, the network, and a place for what the oracle
//! has to look at.

use std::collections::BTreeMap;

use conveyor_log::disk::SimRng;

use crate::Micros;
use crate::coverage::Coverage;
use crate::message::{Address, Event, Message};
use crate::network::Network;
use crate::oracle::Observation;
use crate::scenario::Scenario;

/// The surroundings of one step.
#[derive(Debug)]
pub struct Context {
    /// Simulated time.
    pub now: Micros,
    /// The one source of chance.
    pub rng: SimRng,
    /// What this run is like.
    pub scenario: Scenario,
    /// The network.
    pub network: Network,
    /// What has happened so far.
    pub coverage: Coverage,
    /// What this step has done that the oracle has to check.
    pub observed: Vec<Observation>,
    events: BTreeMap<(Micros, u64), Event>,
    event_count: u64,
}

impl Context {
    /// The surroundings at time 0.
    pub fn new(scenario: Scenario, rng: SimRng) -> Self {
        Self {
            now: 0,
            rng,
            scenario,
            network: Network::default(),
            coverage: Coverage::default(),
            observed: Vec::new(),
            events: BTreeMap::new(),
            event_count: 0,
        }
    }

    /// Lets something happen `delay` from now.
    pub fn after(&mut self, delay: Micros, event: Event) {
        self.event_count += 1;
        self.events
            .insert((self.now + delay.max(0), self.event_count), event);
    }

    /// Sends a message; the network decides what becomes of it.
    pub fn send(&mut self, from: Address, to: Address, message: Message) {
        let [first, second] = self.network.delays(from, to, &mut self.rng);
        let message = Box::new(message);
        if let Some(delay) = second {
            let message = message.clone();
            self.after(delay, Event::Deliver { from, to, message });
        }
        if let Some(delay) = first {
            self.after(delay, Event::Deliver { from, to, message });
        }
    }

    /// Notes something for the oracle.
    pub fn observe(&mut self, observation: Observation) {
        self.observed.push(observation);
    }

    /// The next event; time moves on to it.
    pub fn next_event(&mut self) -> Option<Event> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// A duration below `bound`.
    pub fn chance(&mut self, bound: Micros) -> Micros {
        self.rng.below(bound.max(1) as u64) as Micros
    }
}
