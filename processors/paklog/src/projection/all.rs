//! All projections, in one list. Whoever runs, measures or checks them goes through it, so that a new
//! one is everywhere at once.

use std::sync::Arc;

use conveyor_processors::{Declaration, Decoder, Projection};

use super::{
    Atp, DeadLetterDecoder, DeadLetters, InventoryMovement, KpiMinute, ObservedDecoder, OrderSla,
    OrderTracking, PackThroughput, PaklogDecoder, PickSession, SlaDue, TaskQueue, WaveProgress,
    WorkerHourly,
};

/// The names of all projections, in the order in which they are visited.
pub const NAMES: [&str; 12] = [
    "order_tracking",
    "atp",
    "inventory_movement",
    "wave_progress",
    "task_queue",
    "worker_hourly",
    "pick_session",
    "pack_throughput",
    "order_sla",
    "sla_due",
    "dead_letters",
    "kpi_minute",
];

/// Something that is done with projections, whatever their types.
pub trait Visitor {
    /// Does it with one. `decoder` reads what the projection reads; those that read the same share it.
    fn visit<P, D>(&mut self, projection: P, decoder: &Arc<D>)
    where
        P: Projection,
        D: Decoder<Event = P::Event>;
}

/// Shows all projections to a visitor.
pub fn visit_all(visitor: &mut impl Visitor) {
    let events = &Arc::new(PaklogDecoder::new());
    let failures = &Arc::new(DeadLetterDecoder);
    let all_records = &Arc::new(ObservedDecoder::new(PaklogDecoder::new()));
    visitor.visit(OrderTracking, events);
    visitor.visit(Atp, events);
    visitor.visit(InventoryMovement, events);
    visitor.visit(WaveProgress, events);
    visitor.visit(TaskQueue, events);
    visitor.visit(WorkerHourly, events);
    visitor.visit(PickSession, events);
    visitor.visit(PackThroughput, events);
    visitor.visit(OrderSla, events);
    visitor.visit(SlaDue, events);
    visitor.visit(DeadLetters, failures);
    visitor.visit(KpiMinute, all_records);
}

/// What each of them is.
pub fn declarations() -> Vec<Declaration> {
    struct Collect(Vec<Declaration>);

    impl Visitor for Collect {
        fn visit<P, D>(&mut self, projection: P, _: &Arc<D>)
        where
            P: Projection,
            D: Decoder<Event = P::Event>,
        {
            self.0.push(projection.declaration());
        }
    }

    let mut all = Collect(Vec::with_capacity(NAMES.len()));
    visit_all(&mut all);
    all.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_projections() {
        let declared = declarations();
        let declared: Vec<_> = declared.iter().map(Declaration::name).collect();
        assert_eq!(declared, NAMES);
    }
}
