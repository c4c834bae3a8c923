//! What is modelled, as figures: rates, durations, zones, carriers. Times in milliseconds.
//!
//! Sources: `PakLog`'s documents state targets (cancelled < 2 %, short picks < 1 %, 10 to 100 orders a
//! wave, at most 3 waves active, at least 15 minutes apart); the rest is our estimate.

use super::draw::Draw;

/// A second.
pub(super) const SECOND: i64 = 1000;
/// A minute.
pub(super) const MINUTE: i64 = 60 * SECOND;
/// An hour.
pub(super) const HOUR: i64 = 60 * MINUTE;
/// A day.
pub(super) const DAY: i64 = 24 * HOUR;

/// Most lines of one order; a longer one is split.
pub(super) const ORDER_LINES_MAX: usize = 100;

/// How often things go wrong, each as a number of cases in a million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Orders that the customer cancels within 20 hours, unless they are on a packing station by
    /// then.
    pub cancelled_early: i64,
    /// Orders that the customer cancels within 25 minutes of the release of their wave, unless they
    /// are on a packing station by then.
    pub cancelled_late: i64,
    /// Orders with data that cannot be right.
    pub invalid: i64,
    /// Picks that come short.
    pub short_picks: i64,
    /// Parcels that fail their first check.
    pub qc_failed: i64,
    /// Pack sessions for which no carton can be computed at first.
    pub carton_failed: i64,
    /// Order lines before whose allocation a count finds fewer pieces than the books say.
    pub shrinkage: i64,
}

impl Default for Rates {
    /// Within `PakLog`'s targets.
    fn default() -> Self {
        Self {
            cancelled_early: 15_500,
            cancelled_late: 8_000,
            invalid: 1_000,
            short_picks: 6_000,
            qc_failed: 15_000,
            carton_failed: 3_000,
            shrinkage: 2_500,
        }
    }
}

/// When customers cancel, after the order came in.
pub(super) const CANCEL_EARLY: (i64, i64) = (5 * MINUTE, 20 * HOUR);
/// When customers cancel, after the order's wave was released.
pub(super) const CANCEL_LATE: (i64, i64) = (30 * SECOND, 25 * MINUTE);

/// Fewest orders of a wave, unless one of them has waited for [`WAVE_WAIT_MAX`].
pub(super) const WAVE_ORDERS_MIN: usize = 10;
/// Most orders of a wave.
pub(super) const WAVE_ORDERS_MAX: usize = 100;
/// Most waves that a warehouse has planned or released at a time.
pub(super) const ACTIVE_WAVES_MAX: usize = 3;
/// Waves of a warehouse are at least this far apart.
pub(super) const WAVE_GAP: i64 = 15 * MINUTE;
/// How long an order waits for others to fill the wave.
pub(super) const WAVE_WAIT_MAX: i64 = 2 * DAY;
/// Time that a wave needs before its carrier leaves.
pub(super) const WAVE_LEAD: i64 = 3 * HOUR;

/// Hours of the day, UTC, at which carriers leave.
pub(super) const CARRIER_HOURS: [i64; 3] = [11, 16, 21];

/// The next time at which a carrier leaves, at `from_ms` or later.
pub(super) fn next_pickup(from_ms: i64) -> i64 {
    let midnight = from_ms - from_ms.rem_euclid(DAY);
    (0..2)
        .flat_map(|day| CARRIER_HOURS.map(|hour| midnight + day * DAY + hour * HOUR))
        .find(|pickup| *pickup >= from_ms)
        .expect("a carrier leaves within two days")
}

/// The zone where the goods of a department lie.
pub(super) fn zone(department: &str) -> &'static str {
    match department {
        "GROCERY" | "SPIRITS" | "COUPON" | "MISCELLANEOUS" | "MISC SALES TRAN" => "ZONE-A",
        "PRODUCE" | "SALAD BAR" | "FLORAL" | "GARDEN CENTER" => "ZONE-C",
        "MEAT" | "MEAT-PCKGD" | "SEAFOOD" | "SEAFOOD-PCKGD" | "DELI" | "PASTRY" | "CHEF SHOPPE"
        | "RESTAURANT" | "FROZEN GROCERY" | "DAIRY DELI" => "ZONE-D",
        // Health, household and everything that is not food.
        _ => "ZONE-B",
    }
}

/// How fast an order has to travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speed {
    /// `PakLog`'s category.
    pub(super) category: &'static str,
    /// The wave's priority if most of its orders are of this speed; also the task's.
    pub(super) priority: &'static str,
    /// Comes first in a wave when lower.
    pub(super) rank: u8,
    /// Hours on the way: least and most.
    pub(super) transit_hours: (i64, i64),
}

const SPEEDS: [(Speed, i64); 6] = [
    (speed("STANDARD", "NORMAL", 4, (48, 120)), 62),
    (speed("EXPEDITED", "HIGH", 3, (30, 60)), 14),
    (speed("PRIORITY", "HIGH", 2, (24, 48)), 8),
    (speed("NEXT_DAY", "CRITICAL", 1, (14, 26)), 8),
    (speed("SAME_DAY", "CRITICAL", 0, (2, 8)), 4),
    (speed("SCHEDULED", "LOW", 5, (72, 144)), 4),
];

const fn speed(
    category: &'static str,
    priority: &'static str,
    rank: u8,
    transit_hours: (i64, i64),
) -> Speed {
    Speed {
        category,
        priority,
        rank,
        transit_hours,
    }
}

pub(super) fn draw_speed(draw: &mut Draw) -> Speed {
    draw.weighted(&SPEEDS)
}

/// What the seller wants done when not everything can be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Everything at once or nothing at all.
    OrKill,
    /// Everything, if need be later.
    All,
    /// What there is.
    AllAvailable,
}

impl Policy {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::OrKill => "FILL_OR_KILL",
            Self::All => "FILL_ALL",
            Self::AllAvailable => "FILL_ALL_AVAILABLE",
        }
    }
}

pub(super) fn draw_policy(draw: &mut Draw) -> Policy {
    draw.weighted(&[
        (Policy::AllAvailable, 75),
        (Policy::All, 20),
        (Policy::OrKill, 5),
    ])
}

/// Carriers and their services.
pub(super) fn draw_carrier(draw: &mut Draw) -> (&'static str, &'static str) {
    draw.weighted(&[
        (("UPS", "GROUND"), 45),
        (("FEDEX", "HOME_DELIVERY"), 30),
        (("USPS", "PRIORITY_MAIL"), 20),
        (("DHL", "EXPRESS"), 5),
    ])
}

/// Why customers cancel.
pub(super) fn draw_cancellation(draw: &mut Draw) -> &'static str {
    draw.weighted(&[
        ("CUSTOMER_REQUEST", 70),
        ("PAYMENT_FAILED", 20),
        ("ADDRESS_UNDELIVERABLE", 10),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickups_are_at_the_carriers_hours() {
        assert_eq!(next_pickup(0), 11 * HOUR);
        assert_eq!(next_pickup(11 * HOUR), 11 * HOUR);
        assert_eq!(next_pickup(21 * HOUR + 1), DAY + 11 * HOUR);
        assert_eq!(next_pickup(-1), 11 * HOUR);
    }

    #[test]
    fn an_unknown_department_has_a_zone() {
        assert_eq!(zone("TRAVEL & LEISURE"), "ZONE-B");
        assert_eq!(zone(""), "ZONE-B");
    }
}
