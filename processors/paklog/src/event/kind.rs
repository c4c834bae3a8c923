//! The catalogue: every canonical event type, its payload and its topic, in one table.

use serde::Serialize;

#[allow(
    clippy::wildcard_imports,
    reason = "the table names nearly every payload"
)]
use super::payload::*;
use crate::topics::Topic;

/// Makes [`EventType`] and [`Payload`] from the table below, so that a type, its name, its payload
/// and its topic cannot disagree.
macro_rules! catalogue {
    ($( $(#[$doc:meta])* $topic:ident $name:literal => $variant:ident($payload:ty), )+) => {
        /// A canonical event type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventType {
            $( $(#[$doc])* $variant, )+
        }

        impl EventType {
            /// Every canonical type.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The CloudEvents `type`: `com.paklog.<context>.<aggregate>.<action>.v<n>`.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => concat!("com.paklog.", $name), )+ }
            }

            /// The topic that carries events of this type.
            pub const fn topic(self) -> Topic {
                match self { $( Self::$variant => Topic::$topic, )+ }
            }
        }

        /// The typed `data` of an event.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Payload {
            $( $(#[$doc])* $variant($payload), )+
        }

        impl Payload {
            /// The event type that this is the payload of.
            pub const fn event_type(&self) -> EventType {
                match self { $( Self::$variant(_) => EventType::$variant, )+ }
            }

            /// Reads the payload of an event of type `event_type` from JSON text.
            pub(crate) fn from_json_text(event_type: EventType, json: &str) -> serde_json::Result<Self> {
                Ok(match event_type {
                    $( EventType::$variant => Self::$variant(serde_json::from_str(json)?), )+
                })
            }

            /// Reads the payload of an event of type `event_type` from a JSON tree.
            pub(crate) fn from_json_tree(
                event_type: EventType,
                json: serde_json::Value,
            ) -> serde_json::Result<Self> {
                Ok(match event_type {
                    $( EventType::$variant => Self::$variant(serde_json::from_value(json)?), )+
                })
            }
        }
    };
}

catalogue! {
    /// The order service took an order in.
    Order "fulfillment.order.received.v1" => OrderReceived(OrderSnapshot),
    /// The order's data are complete and right.
    Order "fulfillment.order.validated.v1" => OrderValidated(OrderSnapshot),
    /// The order's data are wrong; it ends here.
    Order "fulfillment.order.invalidated.v1" => OrderInvalidated(OrderClosed),
    /// A part of the order can be filled.
    Order "fulfillment.order.partially-accepted.v1" => OrderPartiallyAccepted(OrderShortage),
    /// The order has to wait for stock.
    Order "fulfillment.order.stock-unavailable.v1" => OrderStockUnavailable(OrderShortage),
    /// All that could be promised is set aside (our extension).
    Order "fulfillment.order.allocated.v1" => OrderAllocated(OrderAllocated),
    /// The order is cancelled.
    Order "fulfillment.order.cancelled.v1" => OrderCancelled(OrderClosed),
    /// The order went to the floor (class exists in `PakLog`, never raised).
    Order "fulfillment.order.released.v1" => OrderReleased(OrderSnapshot),
    /// The order is picked (class exists in `PakLog`, never raised).
    Order "fulfillment.order.picking-completed.v1" => OrderPickingCompleted(OrderSnapshot),
    /// The order is packed (class exists in `PakLog`, never raised).
    Order "fulfillment.order.packing-completed.v1" => OrderPackingCompleted(OrderSnapshot),
    /// The order is shipped (class exists in `PakLog`, never raised).
    Order "fulfillment.order.shipped.v1" => OrderShipped(OrderSnapshot),

    /// The level of a sku changed.
    Inventory "inventory.stock.level-changed.v1" => StockLevelChanged(StockLevelChanged),
    /// Pieces changed between available, damaged, …
    Inventory "inventory.stock.status-changed.v1" => StockStatusChanged(Untyped),
    /// Pieces were put on hold.
    Inventory "inventory.stock-hold.placed.v1" => HoldPlaced(Untyped),
    /// A hold was lifted.
    Inventory "inventory.stock-hold.released.v1" => HoldReleased(Untyped),
    /// A transfer between places began.
    Inventory "inventory.stock-transfer.initiated.v1" => TransferInitiated(Untyped),
    /// A transfer between places ended.
    Inventory "inventory.stock-transfer.completed.v1" => TransferCompleted(Untyped),
    /// The value of a sku's stock changed.
    Inventory "inventory.valuation.changed.v1" => ValuationChanged(Untyped),
    /// The ABC class of a sku changed.
    Inventory "inventory.abc-classification.changed.v1" => AbcClassChanged(Untyped),
    /// A kit was defined.
    Inventory "inventory.kit.created.v1" => KitCreated(Untyped),
    /// Kits were put together.
    Inventory "inventory.kit.assembled.v1" => KitAssembled(Untyped),
    /// Kits were taken apart.
    Inventory "inventory.kit.disassembled.v1" => KitDisassembled(Untyped),
    /// A snapshot of the stock was taken.
    Inventory "inventory.snapshot.created.v1" => SnapshotCreated(Untyped),
    /// A serial number was received.
    Inventory "inventory.serial-number.received.v1" => SerialNumberReceived(Untyped),
    /// A serial number was promised.
    Inventory "inventory.serial-number.allocated.v1" => SerialNumberAllocated(Untyped),
    /// A serial number left.
    Inventory "inventory.serial-number.shipped.v1" => SerialNumberShipped(Untyped),
    /// Pieces were put on a shelf.
    Inventory "inventory.location-stock.added.v1" => LocationStockAdded(Untyped),
    /// Pieces were taken from a shelf.
    Inventory "inventory.location-stock.removed.v1" => LocationStockRemoved(Untyped),
    /// Pieces on a shelf were reserved.
    Inventory "inventory.location-stock.reserved.v1" => LocationStockReserved(Untyped),
    /// A reservation on a shelf was lifted.
    Inventory "inventory.location-stock.reservation-released.v1" => LocationReservationReleased(Untyped),
    /// The warehouse asks for an allocation.
    Inventory "inventory.allocation.requested.v1" => AllocationRequested(Untyped),
    /// The warehouse reports a pick.
    Inventory "inventory.item.picked.v1" => ItemPicked(Untyped),

    /// Orders were put together into a wave.
    Wave "wave-planning.wave.planned.v1" => WavePlanned(WavePlanned),
    /// A wave went to the floor.
    Wave "wave-planning.wave.released.v1" => WaveReleased(WaveReleased),
    /// Every order of a wave is ready to ship or cancelled.
    Wave "wave-planning.wave.completed.v1" => WaveCompleted(WaveCompleted),
    /// A wave was given up.
    Wave "wave-planning.wave.cancelled.v1" => WaveCancelled(WaveCancelled),

    /// A task waits in its queue.
    Task "task-execution.task.created.v1" => TaskCreated(TaskChanged),
    /// A worker has it.
    Task "task-execution.task.assigned.v1" => TaskAssigned(TaskChanged),
    /// The worker took it on.
    Task "task-execution.task.accepted.v1" => TaskAccepted(TaskChanged),
    /// The worker began.
    Task "task-execution.task.started.v1" => TaskStarted(TaskChanged),
    /// Done.
    Task "task-execution.task.completed.v1" => TaskCompleted(TaskChanged),
    /// It could not be done.
    Task "task-execution.task.failed.v1" => TaskFailed(TaskChanged),
    /// It need not be done.
    Task "task-execution.task.cancelled.v1" => TaskCancelled(TaskChanged),

    /// A picker started.
    Pick "pick-execution.pick-session.started.v1" => PickSessionStarted(PickSessionStarted),
    /// A line was picked in full.
    Pick "pick-execution.pick.confirmed.v1" => PickConfirmed(PickConfirmed),
    /// A line could not be picked in full.
    Pick "pick-execution.pick.short.v1" => PickShort(PickShort),
    /// A picker has finished.
    Pick "pick-execution.pick-session.completed.v1" => PickSessionCompleted(PickSessionEnded),
    /// A session was given up.
    Pick "pick-execution.pick-session.cancelled.v1" => PickSessionCancelled(PickSessionEnded),
    /// The picker's way was computed.
    Pick "pick-execution.pick-path.optimized.v1" => PickPathOptimized(Untyped),

    /// A packer started.
    Pack "pack-ship.pack-session.started.v1" => PackSessionStarted(PackSessionStarted),
    /// A line was scanned at the packing station.
    Pack "pack-ship.item.scanned.v1" => PackItemScanned(PackItemScanned),
    /// The cartons were chosen.
    Pack "pack-ship.carton.optimized.v1" => CartonOptimized(CartonOptimized),
    /// A parcel was checked.
    Pack "pack-ship.quality-check.completed.v1" => QualityChecked(QualityChecked),
    /// A packer has finished.
    Pack "pack-ship.pack-session.completed.v1" => PackSessionCompleted(PackSessionCompleted),
    /// A shipping label was printed.
    Pack "pack-ship.label.generated.v1" => LabelGenerated(LabelGenerated),
    /// A shipment waits for its carrier.
    Pack "pack-ship.shipment.ready.v1" => ShipmentReady(ShipmentReady),

    /// The carrier took a shipment.
    External "transportation.shipment.dispatched.v1" => ShipmentDispatched(ShipmentMoved),
    /// The carrier delivered a shipment.
    External "transportation.shipment.delivered.v1" => ShipmentDelivered(ShipmentMoved),
    /// A service asks an outside system.
    External "integration.request.sent.v1" => IntegrationRequested(Untyped),
    /// An outside system answered.
    External "integration.response.received.v1" => IntegrationAnswered(Untyped),

    /// No carton could be computed.
    Error "cartonization.cartonization.failed.v1" => CartonizationFailed(CartonizationFailed),
    /// A request to compute cartons made no sense.
    Error "cartonization.validation.failed.v1" => CartonizationInvalid(Untyped),
}
