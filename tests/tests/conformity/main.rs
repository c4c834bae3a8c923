//! Protocol conformity: Apache Kafka's broker and ours are asked the same, in every version that both
//! list, and must answer the same, field by field.
//!
//! What differs by nature (ids, clocks, addresses, wordings) is compared as far as it can be: set or
//! not set. Any other difference has to stand in the table of `tests/README.md` with its reason; a
//! difference that does not stand there fails the test, and so does a line that is no longer true.

mod compare;
mod documented;
mod scenarios;
mod side;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use compare::{Difference, compare};
use conveyor_kafka::ApiKey;
use conveyor_tests::kafka_broker::KafkaBroker;
use conveyor_tests::node::Node;
use conveyor_tests::ports::free_address;
use side::{Answer, Side, Versions};

/// What both brokers are told, so that they do not differ by their settings.
const SETTINGS: [(&str, &str); 5] = [
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("auto.create.topics.enable", "false"),
    ("message.max.bytes", "100000"),
];

#[test]
fn our_answers_are_kafkas() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafkas_folder = folder.path().join("kafka");
    let kafka = std::thread::spawn(move || KafkaBroker::start(&kafkas_folder, None, &SETTINGS));
    let address = free_address()?;
    let _node = start_ours(folder.path(), address)?;
    let kafka = kafka.join().expect("the thread does not panic")?;

    let mut sides = [
        Side::connect("Kafka", kafka.address())?,
        Side::connect("Conveyor", address)?,
    ];
    let common = Versions::common(&sides[0].listed()?, &sides[1].listed()?);
    for side in &mut sides {
        side.use_versions(common.clone());
    }
    let [kafkas, ours] = sides.map(|side| std::thread::spawn(move || scenarios::play(side)));
    let kafkas = kafkas
        .join()
        .expect("the thread does not panic")
        .context("Kafka")?;
    let ours = ours
        .join()
        .expect("the thread does not panic")
        .context("Conveyor")?;

    if let Ok(folder) = std::env::var("CONFORMITY_ANSWERS") {
        keep(&folder, "kafka", &kafkas)?;
        keep(&folder, "conveyor", &ours)?;
    }
    let asked: BTreeSet<(ApiKey, i16)> = ours.iter().map(|a| (a.key, a.version)).collect();
    let answers = kafkas.len();
    println!("{answers} answers of {} versions compared", asked.len());
    let missed: Vec<_> = common
        .iter()
        .filter(|version| !asked.contains(version))
        .collect();
    ensure!(missed.is_empty(), "no scenario asks for {missed:?}");
    judge(&compare(&kafkas, &ours)?)
}

/// Writes the answers down, to look at when a difference is found.
fn keep(folder: &str, name: &str, answers: &[Answer]) -> Result<()> {
    let lines = answers.iter().map(|answer| {
        let Answer {
            step,
            key,
            version,
            tree,
        } = answer;
        format!("{key} {version}, {step}: {tree}")
    });
    let path = std::path::Path::new(folder).join(format!("{name}.txt"));
    Ok(std::fs::write(path, lines.collect::<Vec<_>>().join("\n"))?)
}

fn judge(found: &BTreeSet<Difference>) -> Result<()> {
    let documented = documented::differences()?;
    let new: Vec<_> = found
        .difference(&documented.always)
        .filter(|difference| !documented.sometimes.contains(*difference))
        .collect();
    let gone: Vec<_> = documented.always.difference(found).collect();
    let list = |list: &[&Difference]| {
        let lines: Vec<_> = list.iter().map(ToString::to_string).collect();
        lines.join("\n")
    };
    ensure!(
        new.is_empty() && gone.is_empty(),
        "differences that tests/README.md does not name:\n{}\nlines there that are no longer true:\n{}",
        list(&new),
        list(&gone)
    );
    Ok(())
}

fn start_ours(folder: &std::path::Path, address: SocketAddr) -> Result<Node> {
    let listener = format!("\"PLAINTEXT://{address}\"");
    let mut settings = vec![("listeners", listener.as_str())];
    for (name, value) in &SETTINGS {
        settings.push((name, value));
    }
    Node::start(&folder.join("conveyor"), &settings)
}
