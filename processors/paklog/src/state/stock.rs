//! The stock of one sku: pieces in the building, pieces promised, and what may be done to them.
//!
//! Invariant: `0 <= allocated <= on_hand`. What can still be promised is `on_hand - allocated`.

use crate::event::payload::StockLevel;

/// Pieces on hand and promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    on_hand: i64,
    allocated: i64,
}

/// A movement that the stock does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StockError {
    /// A quantity below one.
    #[error("a movement of {0} pieces")]
    NotAQuantity(i64),
    /// More than can be promised.
    #[error("{requested} pieces asked for, {available} can be promised")]
    Insufficient {
        /// Pieces asked for.
        requested: i64,
        /// Pieces that can be promised.
        available: i64,
    },
    /// More than is promised.
    #[error("{requested} pieces to take from the {allocated} that are promised")]
    NotAllocated {
        /// Pieces asked for.
        requested: i64,
        /// Pieces that are promised.
        allocated: i64,
    },
}

impl Stock {
    /// Pieces in the building.
    pub const fn on_hand(self) -> i64 {
        self.on_hand
    }

    /// Pieces promised to orders.
    pub const fn allocated(self) -> i64 {
        self.allocated
    }

    /// Pieces that can still be promised.
    pub const fn available_to_promise(self) -> i64 {
        self.on_hand - self.allocated
    }

    /// The stock as events write it.
    pub const fn level(self) -> StockLevel {
        StockLevel {
            quantity_on_hand: self.on_hand,
            quantity_allocated: self.allocated,
            available_to_promise: self.available_to_promise(),
        }
    }

    /// Goods come in, or picked goods go back to their shelf.
    pub fn receive(&mut self, quantity: i64) -> Result<(), StockError> {
        positive(quantity)?;
        self.on_hand += quantity;
        Ok(())
    }

    /// Promises pieces to an order.
    pub fn allocate(&mut self, quantity: i64) -> Result<(), StockError> {
        positive(quantity)?;
        self.promisable(quantity)?;
        self.allocated += quantity;
        Ok(())
    }

    /// Takes a promise back.
    pub fn deallocate(&mut self, quantity: i64) -> Result<(), StockError> {
        positive(quantity)?;
        self.promised(quantity)?;
        self.allocated -= quantity;
        Ok(())
    }

    /// Promised pieces leave the shelf.
    pub fn pick(&mut self, quantity: i64) -> Result<(), StockError> {
        self.deallocate(quantity)?;
        self.on_hand -= quantity;
        Ok(())
    }

    /// A count finds pieces missing that nobody was promised.
    pub fn shrink(&mut self, quantity: i64) -> Result<(), StockError> {
        positive(quantity)?;
        self.promisable(quantity)?;
        self.on_hand -= quantity;
        Ok(())
    }

    fn promisable(self, requested: i64) -> Result<(), StockError> {
        let available = self.available_to_promise();
        if requested > available {
            return Err(StockError::Insufficient {
                requested,
                available,
            });
        }
        Ok(())
    }

    fn promised(self, requested: i64) -> Result<(), StockError> {
        if requested > self.allocated {
            return Err(StockError::NotAllocated {
                requested,
                allocated: self.allocated,
            });
        }
        Ok(())
    }
}

fn positive(quantity: i64) -> Result<(), StockError> {
    if quantity < 1 {
        Err(StockError::NotAQuantity(quantity))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn picking_lowers_both_and_receiving_raises_one() {
        let mut stock = Stock::default();
        stock.receive(10).expect("received");
        stock.allocate(4).expect("allocated");
        stock.pick(3).expect("picked");
        assert_eq!(
            (
                stock.on_hand(),
                stock.allocated(),
                stock.available_to_promise()
            ),
            (7, 1, 6)
        );
        assert_eq!(
            stock.allocate(7),
            Err(StockError::Insufficient {
                requested: 7,
                available: 6
            })
        );
        assert_eq!(
            stock.pick(2),
            Err(StockError::NotAllocated {
                requested: 2,
                allocated: 1
            })
        );
    }

    proptest! {
        #[test]
        fn no_sequence_of_movements_breaks_the_invariant(
            movements in proptest::collection::vec((0..5_u8, -2_i64..20), 0..100),
        ) {
            let mut stock = Stock::default();
            for (movement, quantity) in movements {
                let before = stock;
                let result = match movement {
                    0 => stock.receive(quantity),
                    1 => stock.allocate(quantity),
                    2 => stock.deallocate(quantity),
                    3 => stock.pick(quantity),
                    _ => stock.shrink(quantity),
                };
                prop_assert!(0 <= stock.allocated() && stock.allocated() <= stock.on_hand());
                if result.is_err() {
                    prop_assert_eq!(stock, before);
                }
            }
        }
    }
}
