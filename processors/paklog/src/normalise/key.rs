//! What an event is about: the id that its canonical topic is keyed by.

use crate::event::Payload;
use crate::event::payload::Untyped;
use crate::topics::Topic;

/// The id in the payload by which events of its topic are keyed; `None` where the payload has none,
/// as in those of which the catalogue knows no fields.
pub(super) fn aggregate_id(payload: &Payload) -> Option<&str> {
    use Payload as P;
    let id = match payload {
        P::OrderReceived(event)
        | P::OrderValidated(event)
        | P::OrderReleased(event)
        | P::OrderPickingCompleted(event)
        | P::OrderPackingCompleted(event)
        | P::OrderShipped(event) => &event.order.order_id,
        P::OrderPartiallyAccepted(event) | P::OrderStockUnavailable(event) => &event.order.order_id,
        P::OrderInvalidated(event) | P::OrderCancelled(event) => &event.order_id,
        P::OrderAllocated(event) => &event.order_id,
        P::StockLevelChanged(event) => &event.sku,
        P::WavePlanned(event) => &event.wave_id,
        P::WaveReleased(event) => &event.wave_id,
        P::WaveCompleted(event) => &event.wave_id,
        P::WaveCancelled(event) => &event.wave_id,
        P::TaskCreated(event)
        | P::TaskAssigned(event)
        | P::TaskAccepted(event)
        | P::TaskStarted(event)
        | P::TaskCompleted(event)
        | P::TaskFailed(event)
        | P::TaskCancelled(event) => &event.task_id,
        P::PickSessionStarted(event) => &event.session_id,
        P::PickConfirmed(event) => &event.session_id,
        P::PickShort(event) => &event.session_id,
        P::PickSessionCompleted(event) | P::PickSessionCancelled(event) => &event.session_id,
        P::PackSessionStarted(event) => &event.session_id,
        P::PackItemScanned(event) => &event.session_id,
        P::PackSessionCompleted(event) => &event.session_id,
        P::CartonizationFailed(event) => &event.session_id,
        // Where no session is named, an order's parcels keep their order at least.
        P::CartonOptimized(event) => either(&event.session_id, event.order_id.as_deref())?,
        P::QualityChecked(event) => either(&event.session_id, Some(&event.order_id))?,
        P::LabelGenerated(event) => &event.order_id,
        P::ShipmentReady(event) => either(
            event.order_id.as_deref().unwrap_or_default(),
            Some(&event.shipment_id),
        )?,
        P::ShipmentDispatched(event) | P::ShipmentDelivered(event) => &event.shipment_id,
        P::StockStatusChanged(fields)
        | P::HoldPlaced(fields)
        | P::HoldReleased(fields)
        | P::TransferInitiated(fields)
        | P::TransferCompleted(fields)
        | P::ValuationChanged(fields)
        | P::AbcClassChanged(fields)
        | P::KitCreated(fields)
        | P::KitAssembled(fields)
        | P::KitDisassembled(fields)
        | P::SnapshotCreated(fields)
        | P::SerialNumberReceived(fields)
        | P::SerialNumberAllocated(fields)
        | P::SerialNumberShipped(fields)
        | P::LocationStockAdded(fields)
        | P::LocationStockRemoved(fields)
        | P::LocationStockReserved(fields)
        | P::LocationReservationReleased(fields)
        | P::AllocationRequested(fields)
        | P::ItemPicked(fields) => field(fields, &["sku"])?,
        P::PickPathOptimized(fields) => field(fields, &["session_id", "pick_task_id"])?,
        P::IntegrationRequested(fields) | P::IntegrationAnswered(fields) => {
            field(fields, &["request_id"])?
        }
        P::CartonizationInvalid(_) => return None,
    };
    Some(id).filter(|id| !id.is_empty())
}

/// The key of a canonical record: the aggregate's id, as its topic has it, else the best there is.
pub(super) fn key<'a>(
    topic: Topic,
    payload: &'a Payload,
    subject: Option<&'a str>,
    original: Option<&'a [u8]>,
) -> Option<&'a [u8]> {
    let id = aggregate_id(payload).map(str::as_bytes);
    let subject = subject.map(str::as_bytes);
    match topic {
        Topic::External => subject.or(id).or(original),
        Topic::Error => original.or(id).or(subject),
        _ => id.or(subject).or(original),
    }
}

fn either<'a>(first: &'a str, second: Option<&'a str>) -> Option<&'a str> {
    Some(first).filter(|id| !id.is_empty()).or(second)
}

fn field<'a>(fields: &'a Untyped, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| fields.get(*name)?.as_str())
}
