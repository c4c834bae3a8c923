//! Reads a topic as a member of a group. Start it several times to see partitions move, and end one
//! with Ctrl-C to see the others take over.
//!
//! `cargo run -p conveyor-sdk --example consume_group -- [bootstrap server] [topic] [group]`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use anyhow::Result;
use conveyor_sdk::consumer::{Assigned, ListenerError, RebalanceListener, Revoked, StartOffsets};
use conveyor_sdk::{Client, ClientConfig, Consumer, ConsumerConfig, OffsetReset};
use futures::future::BoxFuture;

/// Says what comes and goes.
struct Announcer;

impl RebalanceListener for Announcer {
    fn on_assigned<'a>(
        &'a mut self,
        assigned: Assigned<'a>,
    ) -> BoxFuture<'a, Result<StartOffsets, ListenerError>> {
        Box::pin(async move {
            for partition in assigned.partitions {
                println!("+ {partition}");
            }
            // Empty: begin where the group has committed. A store with its own positions would
            // return them here.
            Ok(StartOffsets::new())
        })
    }

    fn on_revoked<'a>(
        &'a mut self,
        revoked: Revoked<'a>,
    ) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async move {
            // The last chance to commit: the next owner begins where this one stopped.
            for (partition, _) in revoked.partitions {
                println!("- {partition}");
            }
            Ok(())
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments
        .next()
        .unwrap_or_else(|| "localhost:9192".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "sdk-example".to_owned());
    let group = arguments.next().unwrap_or_else(|| "sdk-example".to_owned());
    let client = Client::connect(ClientConfig::new(server)).await?;

    let mut config = ConsumerConfig::for_group(group);
    config.auto_offset_reset = OffsetReset::Earliest;
    config.enable_auto_commit = false;
    let mut consumer = Consumer::new(&client, config)?;
    consumer.set_rebalance_listener(Announcer);
    consumer.subscribe([topic])?;

    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let records = tokio::select! {
            // A poll may be dropped half-way: no record is lost.
            records = consumer.poll(Duration::from_secs(1)) => records,
            _ = &mut stop => break,
        };
        let records = match records {
            Ok(records) => records,
            // Errors say whether going on may help.
            Err(error) if error.is_retriable() => {
                println!("{error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for (partition, record) in records.iter() {
            println!(
                "{partition}@{} {} bytes",
                record.offset,
                record.value.as_deref().map_or(0, <[u8]>::len)
            );
        }
        // At least once: commit after the work is done. Heartbeats do not wait for it.
        if !records.is_empty() {
            consumer.commit_sync().await?;
        }
    }
    // Leaves the group, so that the others need not wait for the session to end.
    consumer.close().await?;
    Ok(())
}
