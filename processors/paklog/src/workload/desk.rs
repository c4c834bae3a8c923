//! Where events are written and booked.

use std::collections::VecDeque;

use uuid::Uuid;

use super::WorkloadEvent;
use super::draw::Draw;
use super::ids::Ids;
use super::ledger::Ledger;
use crate::event::{Attributes, Moment, Payload, structured};
use crate::topics::Topic;

/// What events belong together: an order's, a wave's, a sku's.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    correlation: String,
    trace: u128,
    last: Option<Uuid>,
}

impl Scope {
    /// The scope of the thing with that id.
    pub(super) fn new(seed: u64, id: &str) -> Self {
        let trace = u128::from_be_bytes(Draw::of(seed, &format!("trace {id}")).bytes());
        // A trace id of zero would be invalid.
        Self {
            correlation: id.to_owned(),
            trace: trace | 1,
            last: None,
        }
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// Key of the record: decides the partition.
    pub(super) key: &'a str,
    /// Id of the aggregate.
    pub(super) subject: &'a str,
    /// Version of the aggregate after the event, from 1.
    pub(super) version: i64,
}

impl<'a> About<'a> {
    /// About the aggregate whose id is the key.
    pub(super) const fn keyed(id: &'a str, version: i64) -> Self {
        Self {
            key: id,
            subject: id,
            version,
        }
    }
}

/// Writes events in the order of what happens.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) seed: u64,
    /// The event time that the run has come to.
    pub(super) now_ms: i64,
    pub(super) ids: Ids,
    pub(super) ledger: Ledger,
    written: VecDeque<WorkloadEvent>,
}

impl Desk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            now_ms: i64::MIN,
            ids: Ids::new(seed),
            ledger: Ledger::default(),
            written: VecDeque::new(),
        }
    }

    /// The event time, as payloads carry it.
    pub(super) const fn now(&self) -> Moment {
        Moment(self.now_ms)
    }

    /// Takes the next event that was written.
    pub(super) fn take(&mut self) -> Option<WorkloadEvent> {
        self.written.pop_front()
    }

    /// Writes an event; the one before it in the scope is its cause.
    pub(super) fn emit(&mut self, scope: &mut Scope, about: About<'_>, payload: &Payload) {
        let event_type = payload.event_type();
        let (id, span) = self.ids.event();
        let attributes = Attributes {
            id: Some(id.to_string()),
            source: Some(source(event_type.topic()).to_owned()),
            event_type: event_type.name().to_owned(),
            subject: Some(about.subject.to_owned()),
            time: Some(self.now()),
            correlation_id: Some(scope.correlation.clone()),
            causation_id: scope.last.map(|id| id.to_string()),
            trace_parent: Some(format!("00-{:032x}-{span:016x}-01", scope.trace)),
            aggregate_version: Some(about.version),
        };
        let value = structured(&attributes, payload).expect("payloads hold finite numbers only");
        scope.last = Some(id);
        *self.ledger.events_by_type.entry(event_type).or_default() += 1;
        self.written.push_back(WorkloadEvent {
            event_type,
            key: about.key.to_owned(),
            event_time_ms: self.now_ms,
            value,
        });
    }
}

/// The service that writes a topic's events, as its CloudEvents `source`.
const fn source(topic: Topic) -> &'static str {
    match topic {
        Topic::Order => "/fulfillment/order-management-service",
        Topic::Inventory => "/fulfillment/inventory-service",
        Topic::Wave => "paklog://wave-planning-service",
        Topic::Task => "paklog://task-execution-service",
        Topic::Pick => "paklog://pick-execution-service",
        Topic::Pack => "paklog://pack-ship-service",
        Topic::External => "urn:paklog:shipment-transportation-service",
        Topic::Error => "paklog://cartonization-service",
    }
}
