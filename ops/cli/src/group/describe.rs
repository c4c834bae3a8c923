//! `conveyor group describe`.

use clap::Args;
use conveyor_sdk::Offset;
use conveyor_sdk::admin::{AdminClient, GroupDescription};
use serde::Serialize;

use crate::Verdict;
use crate::connect::ConnectArgs;
use crate::output::{FormatArgs, TextTable};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor group describe atp\n  \
    conveyor group describe atp -s --format json\n\n\
    LAG-SECONDS is the age of the oldest record that the group has not consumed.")]
pub(crate) struct DescribeArgs {
    /// Names
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Only the summary
    #[arg(long, short = 's')]
    print_summary: bool,
    /// Also each member's epoch, subscription and target
    #[arg(long, short = 'm')]
    print_members: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Serialize)]
struct Description {
    group: String,
    state: String,
    #[serde(rename = "type")]
    group_type: String,
    protocol_type: String,
    /// Of a classic group: its generation.
    group_epoch: i32,
    assignment_epoch: i32,
    /// Of a classic group: the protocol in use.
    assignor: String,
    total_lag: i64,
    /// The largest of any partition.
    lag_seconds: Option<f64>,
    members: Vec<Member>,
    partitions: Vec<PartitionProgress>,
}

#[derive(Debug, Serialize)]
struct Member {
    #[serde(rename = "member_id")]
    id: String,
    instance_id: Option<String>,
    #[serde(rename = "member_epoch")]
    epoch: i32,
    client_id: String,
    host: String,
    topics: Vec<String>,
    assignment: Vec<String>,
    target_assignment: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PartitionProgress {
    topic: String,
    partition: i32,
    current_offset: Option<i64>,
    log_end_offset: i64,
    lag: Option<i64>,
    lag_seconds: Option<f64>,
    member_id: Option<String>,
}

pub(crate) async fn run(args: DescribeArgs) -> anyhow::Result<Verdict> {
    let admin = AdminClient::new(&args.connect.connect().await?);
    let mut described = Vec::with_capacity(args.groups.len());
    for group in &args.groups {
        described.push(description(admin.describe_group(group).await?));
    }
    args.format.print(&described, |described| {
        let texts = described.iter().map(|group| text(group, &args));
        texts.collect::<Vec<_>>().join("\n")
    })?;
    Ok(Verdict::Fine)
}

fn description(group: GroupDescription) -> Description {
    let seconds = group
        .lag
        .iter()
        .filter_map(|lag| lag.lag)
        .map(|lag| lag.as_secs_f64());
    let members = group.members.iter().map(|member| Member {
        id: member.member_id.clone(),
        instance_id: member.instance_id.clone(),
        epoch: member.member_epoch,
        client_id: member.client_id.clone(),
        host: member.client_host.clone(),
        topics: member.subscribed_topics.clone(),
        assignment: member.assignment.iter().map(ToString::to_string).collect(),
        target_assignment: member
            .target_assignment
            .iter()
            .map(ToString::to_string)
            .collect(),
    });
    let partitions = group.lag.iter().map(|lag| PartitionProgress {
        topic: lag.partition.topic.to_string(),
        partition: lag.partition.partition,
        current_offset: lag.committed_offset.map(Offset::value),
        log_end_offset: lag.end_offset.value(),
        lag: lag.lag_records,
        lag_seconds: lag.lag.map(|lag| lag.as_secs_f64()),
        member_id: lag.member_id.clone(),
    });
    Description {
        total_lag: group.lag_records(),
        lag_seconds: seconds.reduce(f64::max),
        members: members.collect(),
        partitions: partitions.collect(),
        group: group.group_id,
        state: group.state,
        group_type: group.group_type,
        protocol_type: group.protocol_type,
        group_epoch: group.group_epoch,
        assignment_epoch: group.assignment_epoch,
        assignor: group.assignor,
    }
}

/// Where the group is, by the word that its kind has for it.
fn epoch(group: &Description) -> (&'static str, String) {
    if group.group_type == "classic" {
        return ("GENERATION", group.group_epoch.to_string());
    }
    let (epoch, assigned) = (group.group_epoch, group.assignment_epoch);
    ("EPOCH", format!("{epoch} (assigned for {assigned})"))
}

fn text(group: &Description, args: &DescribeArgs) -> String {
    let seconds = |seconds: Option<f64>| {
        seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3}"))
    };
    let summary = [
        ("GROUP", group.group.clone()),
        ("STATE", group.state.clone()),
        (
            "TYPE",
            format!("{} ({})", group.group_type, group.protocol_type),
        ),
        ("ASSIGNOR", group.assignor.clone()),
        epoch(group),
        ("MEMBERS", group.members.len().to_string()),
        ("TOTAL-LAG", group.total_lag.to_string()),
        ("LAG-SECONDS", seconds(group.lag_seconds)),
    ];
    let mut text = summary
        .map(|(name, value)| format!("{name:<13}{value}\n"))
        .concat();
    if args.print_summary {
        return text;
    }
    if args.print_members {
        let mut table = TextTable::new([
            "MEMBER-ID",
            "INSTANCE",
            "EPOCH",
            "CLIENT-ID",
            "HOST",
            "TOPICS",
            "PARTITIONS",
            "TARGET",
        ]);
        for member in &group.members {
            table.row([
                member.id.clone(),
                member.instance_id.clone().unwrap_or_default(),
                member.epoch.to_string(),
                member.client_id.clone(),
                member.host.clone(),
                member.topics.join(","),
                member.assignment.len().to_string(),
                member.target_assignment.len().to_string(),
            ]);
        }
        text += "\n";
        text += &table.render();
    }
    let mut table = TextTable::new([
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "LAG-SECONDS",
        "MEMBER-ID",
    ]);
    for lag in &group.partitions {
        let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.row([
            lag.topic.clone(),
            lag.partition.to_string(),
            number(lag.current_offset),
            lag.log_end_offset.to_string(),
            number(lag.lag),
            seconds(lag.lag_seconds),
            lag.member_id.clone().unwrap_or_default(),
        ]);
    }
    text + "\n" + &table.render()
}
