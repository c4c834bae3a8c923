//! What both brokers are asked. Names are the same on both sides; ids come from their answers.

mod admin;
mod consumer_groups;
mod groups;
mod records;
mod topics;
mod transactions;
mod versions;

use anyhow::Result;

use super::side::{Answer, Side};

/// All scenarios, one after the other.
pub(crate) fn play(mut side: Side) -> Result<Vec<Answer>> {
    versions::play(&mut side)?;
    topics::play(&mut side)?;
    records::play(&mut side)?;
    groups::play(&mut side)?;
    consumer_groups::play(&mut side)?;
    transactions::play(&mut side)?;
    admin::play(&mut side)?;
    Ok(side.into_answers())
}
