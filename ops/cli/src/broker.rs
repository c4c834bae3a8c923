//! `conveyor broker`: a node in this process.

use std::path::PathBuf;

use clap::Args;
use conveyor_server::{Broker, BrokerConfig};
use serde::Serialize;

use crate::Verdict;
use crate::logging::{self, LoggingArgs};
use crate::output::FormatArgs;
use crate::shutdown;

/// Variables that start with `CONVEYOR_` and are not settings of a node.
const NOT_SETTINGS: [&str; 2] = ["CONVEYOR_BOOTSTRAP", "CONVEYOR_LOG"];

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    conveyor broker --config /etc/conveyor/broker.toml\n  \
    conveyor broker --set log.dirs=/srv/a,/srv/b --set listeners.grpc=0.0.0.0:9192\n  \
    CONVEYOR_NODE_ID=2 conveyor broker --config broker.toml\n\n\
    A setting comes from its default, the file, the environment (CONVEYOR_ and the name in\n\
    capitals, dots as underscores) or --set; the later wins. `--print-settings` lists them all.")]
pub(crate) struct BrokerArgs {
    /// Settings, as TOML
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Print every setting with its value, where it comes from and what it does, and stop
    #[arg(long)]
    print_settings: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    logging: LoggingArgs,
}

/// What is printed once the node serves.
#[derive(Debug, Serialize)]
pub(crate) struct Serving {
    /// Where clients connect.
    pub(crate) grpc: String,
    /// Where Kafka clients connect, as `NAME://address`.
    pub(crate) kafka: Vec<String>,
    /// Health and metrics; none when switched off.
    pub(crate) admin: Option<String>,
    /// The cluster's id.
    pub(crate) cluster_id: String,
    /// This process.
    pub(crate) pid: u32,
}

impl Serving {
    pub(crate) fn of(broker: &Broker) -> Self {
        Self {
            grpc: broker.grpc_address().to_string(),
            kafka: kafka_listeners(broker),
            admin: broker.admin_address().map(|address| address.to_string()),
            cluster_id: broker.cluster_id(),
            pid: std::process::id(),
        }
    }
}

impl Serving {
    /// The Kafka listeners in one line.
    pub(crate) fn kafka_text(&self) -> String {
        if self.kafka.is_empty() {
            return "off".to_owned();
        }
        self.kafka.join(" ")
    }
}

fn kafka_listeners(broker: &Broker) -> Vec<String> {
    let listeners = broker.kafka_addresses().into_iter();
    listeners
        .map(|(name, address)| format!("{name}://{address}"))
        .collect()
}

pub(crate) async fn run(args: BrokerArgs) -> anyhow::Result<Verdict> {
    let config = BrokerConfig::load(args.config.as_deref(), environment(), &args.set)?;
    if args.print_settings {
        return print_settings(&config, args.format);
    }
    logging::start(&args.logging)?;
    let broker = Broker::start(config).await?;
    args.format.print(&Serving::of(&broker), |serving| {
        let admin = serving.admin.as_deref().unwrap_or("off");
        format!(
            "ready: clients {}, Kafka clients {}, health and metrics {admin}",
            serving.grpc,
            serving.kafka_text()
        )
    })?;
    serve(broker).await
}

/// Serves until asked to stop, then stops in order.
pub(crate) async fn serve(broker: Broker) -> anyhow::Result<Verdict> {
    tokio::select! {
        asked = shutdown::requested() => asked?,
        () = broker.stopped() => {
            anyhow::bail!("the node has stopped by itself, its log says why");
        }
    }
    broker.shutdown().await?;
    Ok(Verdict::Fine)
}

/// The environment variables that may be settings.
pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !NOT_SETTINGS.contains(&name.as_str()))
        .collect()
}

#[derive(Debug, Serialize)]
struct PrintedSetting {
    name: &'static str,
    value: String,
    source: String,
    documentation: &'static str,
}

fn print_settings(config: &BrokerConfig, format: FormatArgs) -> anyhow::Result<Verdict> {
    let settings: Vec<_> = BrokerConfig::documented()
        .into_iter()
        .filter_map(|setting| {
            let set = config.value(setting.name)?;
            Some(PrintedSetting {
                name: setting.name,
                value: set.value.clone(),
                source: set.source.to_string(),
                documentation: setting.documentation,
            })
        })
        .collect();
    format.print(&settings, |settings| {
        let lines = settings.iter().map(|s| {
            format!(
                "# {}\n# from: {}\n{:?} = {:?}\n",
                s.documentation, s.source, s.name, s.value
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(Verdict::Fine)
}
