//! Stages of an order.

use super::State;

/// Where an order stands. The order service's code knows New, Received, Validated, Invalidated,
/// Cancelled and Shipped; the other stages are those of `PakLog`'s documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderStage {
    /// Nothing is known of it yet.
    New,
    /// Taken in.
    Received,
    /// Its data are right.
    Validated,
    /// Waits for stock.
    Backordered,
    /// What could be promised is set aside.
    Allocated,
    /// Part of a planned wave.
    WaveAssigned,
    /// Its wave is on the floor.
    Released,
    /// At least one line is being picked.
    Picking,
    /// Every line is picked or came short.
    Picked,
    /// On a packing station.
    Packing,
    /// The parcel failed its check and is packed again.
    QcFailed,
    /// Packed and checked.
    Packed,
    /// Waits for the carrier.
    Ready,
    /// Its data are wrong; it ended there.
    Invalidated,
    /// Cancelled.
    Cancelled,
    /// The carrier has it.
    Shipped,
    /// The customer has it.
    Delivered,
}

impl OrderStage {
    /// Every stage, by rank.
    pub const ALL: [Self; 17] = [
        Self::New,
        Self::Received,
        Self::Validated,
        Self::Backordered,
        Self::Allocated,
        Self::WaveAssigned,
        Self::Released,
        Self::Picking,
        Self::Picked,
        Self::Packing,
        Self::QcFailed,
        Self::Packed,
        Self::Ready,
        Self::Invalidated,
        Self::Cancelled,
        Self::Shipped,
        Self::Delivered,
    ];

    /// How far along the stage is: a read model never goes from a higher rank to a lower one.
    pub const fn rank(self) -> i64 {
        self as i64
    }

    /// The stage's name in `PakLog`'s spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Received => "RECEIVED",
            Self::Validated => "VALIDATED",
            Self::Backordered => "BACKORDERED",
            Self::Allocated => "ALLOCATED",
            Self::WaveAssigned => "WAVE_ASSIGNED",
            Self::Released => "RELEASED",
            Self::Picking => "PICKING",
            Self::Picked => "PICKED",
            Self::Packing => "PACKING",
            Self::QcFailed => "QC_FAILED",
            Self::Packed => "PACKED",
            Self::Ready => "READY",
            Self::Invalidated => "INVALIDATED",
            Self::Cancelled => "CANCELLED",
            Self::Shipped => "SHIPPED",
            Self::Delivered => "DELIVERED",
        }
    }
}

impl State for OrderStage {
    const MACHINE: &'static str = "order";

    fn may_become(self, next: Self) -> bool {
        match next {
            Self::New => false,
            Self::Received => self == Self::New,
            Self::Validated | Self::Invalidated => self == Self::Received,
            Self::Backordered => self == Self::Validated,
            Self::Allocated => matches!(self, Self::Validated | Self::Backordered),
            Self::WaveAssigned => self == Self::Allocated,
            Self::Released => self == Self::WaveAssigned,
            Self::Picking => self == Self::Released,
            Self::Picked => self == Self::Picking,
            Self::Packing => matches!(self, Self::Picked | Self::QcFailed),
            Self::QcFailed | Self::Packed => self == Self::Packing,
            Self::Ready => self == Self::Packed,
            Self::Shipped => self == Self::Ready,
            Self::Delivered => self == Self::Shipped,
            Self::Cancelled => !self.is_terminal() && self != Self::Shipped,
        }
    }

    fn is_terminal(self) -> bool {
        matches!(self, Self::Invalidated | Self::Cancelled | Self::Delivered)
    }
}
