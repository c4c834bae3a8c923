//! `conveyor bench produce`: from the intended time of a record to its acknowledgement.

use super::drive::{Schedule, drive};
use super::payload::Payloads;
use super::report::BenchReport;
use super::{BenchTopic, LoadArgs};
use crate::Verdict;
use crate::output::note;

pub(super) async fn run(args: LoadArgs) -> anyhow::Result<Verdict> {
    args.check()?;
    let client = args.connect.connect().await?;
    let topic = BenchTopic::prepare(&client, &args).await?;
    note(format!(
        "{} partitions, acks {:?}, durability {}",
        topic.partitions, args.acks, topic.durability
    ));
    let (size, compressibility, seed) = (args.size, args.compressibility, args.seed);
    let payloads = |index| {
        let mut payloads = Payloads::new(size, compressibility, seed.wrapping_add(index));
        move |_intended| payloads.next()
    };
    let schedule = Schedule::new(&args);
    let measured = drive(&args, &topic.name, schedule, payloads).await?;
    measured.note_errors();
    let meaning = "from a record's intended time to its acknowledgement";
    let report = measured.report("produce", meaning, &args, &topic, &measured.latencies);
    args.format.print(&report, BenchReport::text)?;
    topic.finish().await?;
    Ok(if measured.is_fine() {
        Verdict::Fine
    } else {
        Verdict::FoundWrong
    })
}
