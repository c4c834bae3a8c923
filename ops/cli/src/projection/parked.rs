//! `conveyor projection parked`: records that could not be applied, and those behind them.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use conveyor_processors::control::{Action, Outcome, ParkedSummary, Place};
use serde::Serialize;

use super::control_topic::ControlTopic;
use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, TextTable, count_text, moment_text, note};

#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// List parked keys
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show the records that wait of one key
    Show(ShowArgs),
    /// Apply what waits of some keys, in order
    Redrive(RedriveArgs),
    /// Give up the record that cannot be applied; those behind it are applied then
    Discard(DiscardArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor projection parked list atp\n  \
    conveyor projection parked list atp --format json\n\n\
    A record that cannot be decoded or applied parks its key: it is in error-events, and later\n\
    records of the key wait behind it. PARKED names the key in the other commands.")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  conveyor projection parked show atp inventory-events-3@258")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    of: Of,
    /// The key, as `parked list` names it
    #[arg(value_name = "TOPIC-PARTITION@OFFSET", value_parser = place)]
    place: Place,
    /// Records at most
    #[arg(long, short = 'n', default_value_t = 10, value_name = "COUNT")]
    records: usize,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor projection parked redrive atp inventory-events-3@258\n  \
    conveyor projection parked redrive atp --key SKU-17\n  \
    conveyor projection parked redrive atp --all --dry-run\n  \
    conveyor projection parked redrive atp --all --rate 200\n\n\
    Do it when the cause is mended: a new version of the decoder or the projection, or the record\n\
    discarded. A record that fails again stays parked with those behind it, with one attempt more\n\
    (exit code 3).")]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    of: Of,
    /// Keys, as `parked list` names them
    #[arg(value_name = "TOPIC-PARTITION@OFFSET", value_parser = place)]
    places: Vec<Place>,
    /// Keys whose records have this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// All parked keys
    #[arg(long, conflicts_with_all = ["places", "key"])]
    all: bool,
    /// Only say what would be redriven
    #[arg(long)]
    dry_run: bool,
    /// Records a second at most, of one key after the other; what is done is told on standard error
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor projection parked discard atp inventory-events-3@258\n  \
    conveyor projection parked discard atp inventory-events-3@258 --all-records --yes\n\n\
    The record stays in error-events. Those behind it are redriven at once. With --all-records those\n\
    go to error-events too and are not applied.")]
pub(crate) struct DiscardArgs {
    #[command(flatten)]
    of: Of,
    /// The key, as `parked list` names it
    #[arg(value_name = "TOPIC-PARTITION@OFFSET", value_parser = place)]
    place: Place,
    /// Give up all records that wait of the key
    #[arg(long)]
    all_records: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Debug)]
struct Of {
    /// Name of the projection
    #[arg(value_name = "NAME")]
    projection: String,
    /// Seconds to wait for an answer, or for more of a redrive
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn place(text: &str) -> Result<Place, String> {
    Place::parse(text).ok_or_else(|| {
        "a key is named by the record that parked it, as in inventory-events-3@258".to_owned()
    })
}

pub(crate) async fn run(command: ParkedCommand) -> anyhow::Result<Verdict> {
    match command {
        ParkedCommand::List(args) => list(args).await,
        ParkedCommand::Show(args) => show(args).await,
        ParkedCommand::Redrive(args) => redrive(args).await,
        ParkedCommand::Discard(args) => discard(args).await,
    }
}

/// A projection at work, to be asked.
struct Asked<'a> {
    of: &'a Of,
    topic: ControlTopic,
    live: usize,
    numbers: usize,
}

impl<'a> Asked<'a> {
    async fn open(of: &'a Of) -> anyhow::Result<Self> {
        let topic = ControlTopic::open(&of.connect).await?;
        let live = topic.live(&of.projection)?.len();
        if topic.board().is_paused(&of.projection) {
            anyhow::bail!(
                "{0} is paused and touches its store no more: go on with `conveyor projection \
                 resume {0}` first",
                of.projection
            );
        }
        Ok(Self {
            of,
            topic,
            live,
            numbers: 0,
        })
    }

    fn within(&self) -> Duration {
        Duration::from_secs(self.of.wait)
    }

    /// The parked keys, of all instances that answer.
    async fn list(&mut self) -> anyhow::Result<(Vec<ParkedSummary>, usize)> {
        let (projection, within) = (&self.of.projection, self.within());
        self.numbers += 1;
        let id = self
            .topic
            .ask(projection, self.numbers, Action::List)
            .await?;
        let answers = self
            .topic
            .answers(projection, &id, self.live, within)
            .await?;
        self.topic.withdraw(projection, &id).await?;
        if answers.len() < self.live {
            note(format!(
                "{} of {} instances have answered within {} s: keys of the others are missing; see \
                 `conveyor projection status {projection}`",
                answers.len(),
                self.live,
                self.of.wait
            ));
        }
        let (mut keys, mut more) = (Vec::new(), 0);
        for outcome in answers {
            if let Outcome::Listed {
                keys: some,
                more: m,
            } = outcome
            {
                keys.extend(some);
                more += m;
            }
        }
        keys.sort_by(|left, right| left.place.cmp(&right.place));
        keys.dedup_by(|left, right| left.place == right.place);
        Ok((keys, more))
    }

    /// What the owner says.
    async fn owner(&mut self, action: Action) -> anyhow::Result<Outcome> {
        let (projection, within) = (&self.of.projection, self.within());
        self.numbers += 1;
        let id = self.topic.ask(projection, self.numbers, action).await?;
        let mut far = Far::default();
        let heard = |outcome: &Outcome| far.heard(outcome);
        let answered = self.topic.answer_of_owner(projection, &id, within, heard);
        match answered.await? {
            Some(outcome) => Ok(outcome),
            None => anyhow::bail!(
                "no answer within {} s: whoever owns the partition will do it once it can; see \
                 `conveyor projection status {projection}`, or wait longer with --wait",
                self.of.wait
            ),
        }
    }
}

/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Says how far a redrive is, now and then.
#[derive(Default)]
struct Far {
    told: Option<Instant>,
}

impl Far {
    fn heard(&mut self, outcome: &Outcome) {
        let Outcome::Redriving { applied, waiting } = outcome else {
            return;
        };
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            note(format!(
                "{} applied, {} left",
                count_text(*applied as u64),
                count_text(*waiting as u64)
            ));
        }
    }
}

async fn list(args: ListArgs) -> anyhow::Result<Verdict> {
    let mut asked = Asked::open(&args.of).await?;
    let (keys, more) = asked.list().await?;
    args.format.print(&keys, |keys| table_of(keys))?;
    if more > 0 {
        note(format!("and {more} more"));
    }
    Ok(Verdict::Fine)
}

fn table_of(keys: &[ParkedSummary]) -> String {
    if keys.is_empty() {
        return "nothing is parked".to_owned();
    }
    let mut table = TextTable::new([
        "PARKED", "KEY", "WAITING", "ATTEMPTS", "SINCE", "ERROR", "REASON",
    ]);
    for key in keys {
        table.row([
            key.place.to_string(),
            key.key.clone().unwrap_or_else(|| "(none)".to_owned()),
            key.waiting.to_string(),
            key.attempts.to_string(),
            moment_text(key.since_ms),
            key.error.clone(),
            key.reason.clone(),
        ]);
    }
    table.render()
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    key: ParkedSummary,
    records: Vec<serde_json::Value>,
}

async fn show(args: ShowArgs) -> anyhow::Result<Verdict> {
    let mut asked = Asked::open(&args.of).await?;
    let action = Action::Show {
        place: args.place.clone(),
        records_max: args.records,
    };
    let shown = match asked.owner(action).await? {
        Outcome::Shown { key, records } => Shown { key, records },
        other => anyhow::bail!(unexpected(&args.place, &other)),
    };
    args.format.print(&shown, |shown| {
        let mut text = table_of(std::slice::from_ref(&shown.key));
        for record in &shown.records {
            text += &format!("\n{record:#}\n");
        }
        if shown.records.len() < shown.key.waiting {
            let hidden = shown.key.waiting - shown.records.len();
            text += &format!("\nand {hidden} more (--records)\n");
        }
        text
    })?;
    Ok(Verdict::Fine)
}

fn unexpected(place: &Place, outcome: &Outcome) -> String {
    match outcome {
        Outcome::NotParked => {
            format!("nothing is parked at {place}: it was redriven or discarded, or never was")
        }
        Outcome::Refused { reason } => reason.clone(),
        other => format!("an answer that was not asked for: {other:?}"),
    }
}

/// What came of one key.
#[derive(Debug, Serialize)]
struct Redriven {
    place: String,
    applied: usize,
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

async fn redrive(args: RedriveArgs) -> anyhow::Result<Verdict> {
    if args.places.is_empty() && args.key.is_none() && !args.all {
        anyhow::bail!("say which: keys as `parked list` names them, --key KEY or --all");
    }
    let mut asked = Asked::open(&args.of).await?;
    let (listed, more) = asked.list().await?;
    let is_wanted = |key: &ParkedSummary| {
        args.all || args.places.contains(&key.place) || (args.key.is_some() && key.key == args.key)
    };
    let wanted: Vec<_> = listed.into_iter().filter(is_wanted).collect();
    for place in &args.places {
        if !wanted.iter().any(|key| key.place == *place) {
            note(format!("nothing is parked at {place}"));
        }
    }
    if args.all && more > 0 {
        note(format!(
            "{more} more are parked than are listed at once: do it again for them"
        ));
    }
    if args.dry_run {
        args.format.print(&wanted, |wanted| table_of(wanted))?;
        return Ok(Verdict::Fine);
    }
    let mut results = Vec::new();
    for key in wanted {
        results.push(redrive_one(&mut asked, key.place, args.rate).await?);
    }
    args.format
        .print(&results, |results| redriven_text(results))?;
    let stuck = results.iter().any(|result| result.failed.is_some());
    Ok(if stuck {
        Verdict::FoundWrong
    } else {
        Verdict::Fine
    })
}

async fn redrive_one(
    asked: &mut Asked<'_>,
    place: Place,
    records_per_second: Option<u32>,
) -> anyhow::Result<Redriven> {
    let action = Action::Redrive {
        place: place.clone(),
        records_per_second,
    };
    match asked.owner(action).await? {
        Outcome::Redriven {
            applied,
            waiting,
            failed,
        } => Ok(Redriven {
            place: place.to_string(),
            applied,
            waiting,
            failed,
        }),
        Outcome::NotParked => Ok(Redriven {
            place: place.to_string(),
            applied: 0,
            waiting: 0,
            failed: None,
        }),
        other => anyhow::bail!(unexpected(&place, &other)),
    }
}

fn redriven_text(results: &[Redriven]) -> String {
    let mut table = TextTable::new(["PARKED", "APPLIED", "WAITING", "FAILED"]);
    for result in results {
        table.row([
            result.place.clone(),
            result.applied.to_string(),
            result.waiting.to_string(),
            result.failed.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

async fn discard(args: DiscardArgs) -> anyhow::Result<Verdict> {
    let mut asked = Asked::open(&args.of).await?;
    let (listed, _) = asked.list().await?;
    let found = listed.into_iter().find(|key| key.place == args.place);
    let Some(key) = found else {
        anyhow::bail!(unexpected(&args.place, &Outcome::NotParked));
    };
    let what = if args.all_records {
        format!("all {} records that wait of {}", key.waiting, key.place)
    } else {
        format!("record {} at the head of {}", key.head, key.place)
    };
    if !args.yes && !confirm(&format!("Give up {what}? ({})", key.reason))? {
        anyhow::bail!("nothing was discarded");
    }
    let action = Action::Discard {
        place: key.place.clone(),
        head: key.head,
        all: args.all_records,
    };
    let waiting = match asked.owner(action).await? {
        Outcome::Discarded { waiting, .. } => waiting,
        other => anyhow::bail!(unexpected(&key.place, &other)),
    };
    note(format!("gave up {what}"));
    if waiting == 0 {
        return Ok(Verdict::Fine);
    }
    let result = redrive_one(&mut asked, key.place, None).await?;
    let stuck = result.failed.is_some();
    args.format
        .print(&vec![result], |results| redriven_text(results))?;
    Ok(if stuck {
        Verdict::FoundWrong
    } else {
        Verdict::Fine
    })
}

/// Asks a person; where there is none, `--yes` says so.
fn confirm(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        anyhow::bail!("this gives up records for good: say so with --yes");
    }
    let mut err = io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
