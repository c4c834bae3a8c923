//! States of a shipment.

use super::State;

/// Where a shipment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShipmentState {
    /// Made, without a label.
    Created,
    /// Has its label.
    Labelled,
    /// Waits for the carrier.
    Ready,
    /// The carrier has it.
    Dispatched,
    /// The customer has it.
    Delivered,
}

impl State for ShipmentState {
    const MACHINE: &'static str = "shipment";

    fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Created, Self::Labelled)
                | (Self::Labelled, Self::Ready)
                | (Self::Ready, Self::Dispatched)
                | (Self::Dispatched, Self::Delivered)
        )
    }

    fn is_terminal(self) -> bool {
        self == Self::Delivered
    }
}
