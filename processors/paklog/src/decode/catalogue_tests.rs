//! One sample of each old shape in the catalogue of `PakLog`'s events, as its services write it.

use serde_json::{Value, json};

use super::decode;
use crate::event::{Event, Moment, Payload};

/// Reads `data` in binary mode, as the services' CloudEvents SDK writes it.
fn read(event_type: &str, data: &Value) -> Event {
    let value = data.to_string();
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_type", event_type),
        ("ce_id", "1"),
    ];
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()));
    decode(Some(value.as_bytes()), headers).unwrap_or_else(|error| panic!("{event_type}: {error}"))
}

#[test]
fn orders() {
    let order = json!({
        "order_id": "o-1", "seller_fulfillment_order_id": "s-1", "displayable_order_id": "d-1",
        "displayable_order_date": [2025, 11, 3, 10, 15], "displayable_order_comment": null,
        "shipping_speed_category": "STANDARD", "status": "RECEIVED",
        "destination_address": {
            "name": "N", "address_line1": "A", "address_line2": null, "city": "C",
            "state_or_region": "S", "postal_code": "P", "country_code": "US",
        },
        "items": [{
            "seller_sku": "SKU-1", "seller_fulfillment_order_item_id": "i-1", "quantity": 2,
            "gift_message": null, "displayable_comment": null,
        }],
        "received_date": 1_762_164_906.5, "cancellation_reason": null, "idempotency_key": "k",
        "fulfillment_policy": "FILL_ALL", "fulfillment_action": "COMPLETE", "unfulfillable_items": [],
    });
    let event = read(
        "com.paklog.fulfillment.order.received",
        &json!({ "order": order }),
    );
    let Payload::OrderReceived(received) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(received.order.items[0].quantity, 2);
    assert_eq!(
        received.order.received_date,
        Some(Moment(1_762_164_906_500))
    );
    let missing = json!([{
        "seller_sku": "SKU-1", "seller_fulfillment_order_item_id": "i-1", "requested_quantity": 2,
        "available_quantity": 1, "unfulfillable_quantity": 1, "reason": "INSUFFICIENT_STOCK",
    }]);
    let data = json!({ "order": order, "unavailable_items": missing, "total_items_requested": 1 });
    let event = read("com.paklog.fulfillment.order.stock_unavailable", &data);
    let Payload::OrderStockUnavailable(shortage) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(shortage.unavailable_items[0].unfulfillable_quantity, 1);
}

#[test]
fn waves() {
    let data = json!({
        "eventId": "e", "occurredOn": [2025, 11, 3, 10, 15, 6, 500_000_000], "waveId": "WAVE-1",
        "orderIds": ["o-1", "o-2"], "warehouseId": "WH-001", "strategy": "TIME_BASED", "priority": 3,
        "plannedReleaseTime": [2025, 11, 3, 11, 0],
    });
    let event = read("com.paklog.wms.wave.wave.planned.v1", &data);
    let Payload::WavePlanned(wave) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!((wave.order_ids.len(), wave.priority.as_str()), (2, "3"));
    assert_eq!(
        wave.planned_release_time,
        Moment::parse("2025-11-03T11:00:00Z")
    );
    let contract = json!({
        "wave_id": "WAVE-1", "wave_number": 7, "priority": "HIGH", "order_ids": ["o-1"],
        "total_lines": 3, "zone_id": "ZONE-A", "released_at": "2025-11-03T11:00:00Z",
    });
    let event = read(
        "com.paklog.wms.wave-planning.wave.wave.released.v1",
        &contract,
    );
    let Payload::WaveReleased(wave) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!((wave.total_lines, wave.zone_id.as_str()), (3, "ZONE-A"));
    let data = json!({ "waveId": "WAVE-1", "totalOrders": 2, "completedOrders": 1, "pickAccuracy": 0.5,
        "completedAt": [2025, 11, 3, 12, 0] });
    assert!(matches!(
        read("com.paklog.wms.wave.wave.completed.v1", &data).payload,
        Payload::WaveCompleted(wave) if wave.completed_orders == 1
    ));
    let data = json!({ "waveId": "WAVE-1", "reason": "r", "cancelledAt": [2025, 11, 3, 12, 0] });
    assert!(matches!(
        read("com.paklog.wms.wave.wave.cancelled.v1", &data).payload,
        Payload::WaveCancelled(wave) if wave.cancelled_at.is_some()
    ));
}

#[test]
fn tasks() {
    let data = json!({
        "task_id": "TASK-1", "wave_id": "WAVE-1", "order_id": "WAVE-1", "task_type": "PICK",
        "priority": "HIGH", "zone_id": "ZONE-A", "created_at": "2025-11-03T11:00:00",
        "estimated_duration_seconds": 300,
    });
    let event = read("com.paklog.wes.task-execution.task.task.created.v1", &data);
    let Payload::TaskCreated(task) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(
        (task.order_id, task.estimated_duration_seconds),
        (None, Some(300))
    );
    let data = json!({
        "task_id": "TASK-1", "worker_id": "W", "completed_at": "2025-11-03T11:05:00Z",
        "duration_seconds": 300, "items_processed": 4,
    });
    assert!(matches!(
        read("com.paklog.wes.task-execution.task.task.completed.v1", &data).payload,
        Payload::TaskCompleted(task) if task.items_processed == Some(4)
    ));
}

#[test]
fn picks() {
    let data = json!({
        "pick_task_id": "P-1", "task_id": "TASK-1", "wave_id": "WAVE-1", "worker_id": "W",
        "location_sequence": ["A-1"], "total_items": 4, "started_at": "2025-11-03T11:00:00Z",
        "optimized_path_distance_meters": 12.5,
    });
    let event = read(
        "com.paklog.wes.pick-execution.picking.pick-task.started.v1",
        &data,
    );
    let Payload::PickSessionStarted(session) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(
        (session.session_id.as_str(), session.total_instructions),
        ("P-1", 4)
    );
    let data = json!({
        "pick_task_id": "P-1", "wave_id": "WAVE-1", "order_id": "o-1", "sku_code": "SKU-1",
        "location_id": "A-1", "exception_type": "SHORT", "requested_quantity": 3,
        "actual_quantity": 1, "reported_at": "2025-11-03T11:00:00Z", "reported_by": "W",
    });
    let event = read(
        "com.paklog.wes.pick-execution.picking.pick-task.exception.v1",
        &data,
    );
    let Payload::PickShort(short) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(
        (
            short.expected_quantity,
            short.actual_quantity,
            short.reason.as_str()
        ),
        (3, 1, "SHORT")
    );
    let data = json!({
        "sessionId": "S-1", "instructionId": "i", "itemSku": "SKU-1", "quantity": 2,
        "location": { "aisle": "A", "bay": 3, "level": 2, "position": "B" },
    });
    let event = read("com.paklog.wes.pick.confirmed.v1", &data);
    let Payload::PickConfirmed(pick) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(pick.location_id.as_deref(), Some("A-3-2-B"));
    let data = json!({
        "sessionId": "S-1", "taskId": "T", "workerId": "W", "completedInstructions": 4,
        "shortPicks": 1, "accuracy": 0.75, "duration": "PT2M30.5S",
    });
    let event = read("com.paklog.wes.pick.session.completed.v1", &data);
    let Payload::PickSessionCompleted(ended) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!((ended.duration_seconds, ended.short_picks), (150, 1));
}

#[test]
fn packs_and_shipments() {
    let data = json!({
        "pack_task_id": "K-1", "pick_task_id": "P-1", "wave_id": "WAVE-1", "order_id": "o-1",
        "worker_id": "W", "items_to_pack": 4, "packing_station": "S-1",
        "started_at": "2025-11-03T11:00:00Z",
    });
    assert!(matches!(
        read("com.paklog.wes.pack-ship.packing.pack-task.started.v1", &data).payload,
        Payload::PackSessionStarted(session) if session.session_id == "K-1"
    ));
    let data = json!({
        "order_id": "o-1", "check_type": "WEIGHT", "result": "FAILED", "checked_by": "W",
        "issues_found": [{ "code": "HEAVY" }, "DENT"],
    });
    assert!(matches!(
        read("com.paklog.wes.pack-ship.packing.quality-check.completed.v1", &data).payload,
        Payload::QualityChecked(check) if !check.passed() && check.issues_found.len() == 2
    ));
    let data = json!({
        "label_id": "L", "tracking_number": "T", "carton_id": "C", "order_id": "o-1",
        "carrier": "UPS", "service_level": "GROUND", "estimated_delivery_date": "2025-11-05",
    });
    assert!(matches!(
        read("com.paklog.wes.pack-ship.shipping.label.generated.v1", &data).payload,
        Payload::LabelGenerated(label)
            if label.estimated_delivery_date == Moment::parse("2025-11-05T00:00:00Z")
    ));
    let data = json!({
        "shipment_id": "S", "wave_id": "WAVE-1", "tracking_numbers": ["T"], "carton_count": 1,
        "total_weight_kg": 1.5, "ready_at": "2025-11-03T11:00:00Z", "pickup_scheduled_at": null,
    });
    assert!(matches!(
        read("com.paklog.wes.pack-ship.shipping.shipment.ready.v1", &data).payload,
        Payload::ShipmentReady(shipment) if shipment.order_id.is_none()
    ));
    let data = json!({
        "shipmentId": "S", "orderId": "o-1", "carrier": "UPS", "trackingNumber": "T",
        "dispatchedAt": [2025, 11, 3, 12, 0],
    });
    assert!(matches!(
        read("com.paklog.shipment.dispatched.v1", &data).payload,
        Payload::ShipmentDispatched(moved) if moved.order_id == "o-1" && moved.dispatched_at.is_some()
    ));
}

#[test]
fn types_that_no_projection_reads_keep_their_fields() {
    let data = json!({ "sku": "SKU-1", "previousStatus": "AVAILABLE", "newStatus": "DAMAGED", "quantity": 1 });
    let event = read(
        "com.paklog.inventory.fulfillment.v1.product-stock.status-changed",
        &data,
    );
    let Payload::StockStatusChanged(fields) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(fields["new_status"], "DAMAGED");
}
