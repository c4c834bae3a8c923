//! The state machines of the warehouse, as plain data: which state may follow which.
//!
//! The transitions are those that `PakLog`'s services allow; where its documents know more stages of
//! an order than its code, the documents' are used. The workload generator moves along these
//! machines and nothing else, and its tests check each stream of events against them.

mod order;
mod pack;
mod pick;
mod shipment;
mod stock;
mod task;
mod wave;

use std::fmt::Debug;

pub use order::OrderStage;
pub use pack::PackState;
pub use pick::{InstructionState, PickState};
pub use shipment::ShipmentState;
pub use stock::{Stock, StockError};
pub use task::TaskState;
pub use wave::WaveState;

/// A step that a state machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{machine}: {to} cannot follow {from}")]
pub struct IllegalTransition {
    /// Which machine.
    pub machine: &'static str,
    /// The state it is in.
    pub from: String,
    /// The state it was to enter.
    pub to: String,
}

/// A state of one of the machines.
pub trait State: Copy + Debug + Eq + 'static {
    /// The machine's name, for errors.
    const MACHINE: &'static str;

    /// Whether `next` may follow this state.
    fn may_become(self, next: Self) -> bool;

    /// Whether nothing can follow.
    fn is_terminal(self) -> bool;

    /// Enters `next`, or says that it may not follow.
    fn enter(&mut self, next: Self) -> Result<(), IllegalTransition> {
        if !self.may_become(next) {
            return Err(IllegalTransition {
                machine: Self::MACHINE,
                from: format!("{self:?}"),
                to: format!("{next:?}"),
            });
        }
        *self = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_cannot_complete_before_it_is_released() {
        let mut wave = WaveState::Planned;
        let error = wave.enter(WaveState::Completed).expect_err("illegal");
        assert_eq!(error.to_string(), "wave: Completed cannot follow Planned");
        assert_eq!(wave, WaveState::Planned);
    }

    #[test]
    fn an_order_can_be_cancelled_until_it_is_shipped() {
        for stage in OrderStage::ALL {
            let open = !matches!(
                stage,
                OrderStage::Shipped
                    | OrderStage::Delivered
                    | OrderStage::Cancelled
                    | OrderStage::Invalidated
            );
            assert_eq!(stage.may_become(OrderStage::Cancelled), open, "{stage:?}");
        }
    }

    #[test]
    fn a_step_of_an_order_never_lowers_its_rank_but_for_packing_again() {
        for from in OrderStage::ALL {
            for to in OrderStage::ALL {
                if from.may_become(to) && (from, to) != (OrderStage::QcFailed, OrderStage::Packing)
                {
                    assert!(to.rank() > from.rank(), "{from:?} -> {to:?}");
                }
            }
        }
    }

    #[test]
    fn a_rejected_task_is_queued_again() {
        let mut task = TaskState::Pending;
        for next in [
            TaskState::Queued,
            TaskState::Assigned,
            TaskState::Queued,
            TaskState::Assigned,
        ] {
            task.enter(next).expect("legal");
        }
    }

    #[test]
    fn nothing_follows_a_terminal_state() {
        for from in OrderStage::ALL
            .into_iter()
            .filter(|stage| stage.is_terminal())
        {
            assert!(
                OrderStage::ALL.into_iter().all(|to| !from.may_become(to)),
                "{from:?}"
            );
        }
    }
}
