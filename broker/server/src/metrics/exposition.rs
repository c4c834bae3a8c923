//! The node's figures as Prometheus text.
//!
//! Names that start with `kafka_` are those that Kafka's dashboards and alerts read (the Strimzi
//! rules); the others are ours. Totals come without a `topic` label beside the series of each topic,
//! because dashboards tell them apart by its absence. Nothing is shown that is not so: no JVM, no
//! replicas that do not exist.

use std::fmt::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Counter, Histogram, TopicMetrics};
use crate::node::Node;
use crate::request::Api;

const QUANTILES: [f64; 5] = [0.5, 0.75, 0.95, 0.99, 0.999];

/// All figures now. Reads a few words of each partition.
pub(crate) fn render(node: &Node) -> String {
    let mut page = Page::default();
    node_figures(&mut page, node);
    topic_figures(&mut page, node);
    log_figures(&mut page, node);
    request_figures(&mut page, node);
    process_figures(&mut page);
    page.text
}

/// Text that grows by one family of series after the other.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
        push(
            &mut self.text,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
        );
        Family {
            text: &mut self.text,
            name: name.to_owned(),
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.family(name, "gauge", help).series("", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.family(name, "counter", help).series("", value);
    }
}

struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Family<'_> {
    /// One series; `labels` without braces.
    fn series(&mut self, labels: &str, value: impl fmt::Display) {
        if labels.is_empty() {
            push(self.text, format_args!("{} {value}\n", self.name));
        } else {
            push(
                self.text,
                format_args!("{}{{{labels}}} {value}\n", self.name),
            );
        }
    }

    fn summary(&mut self, labels: &str, histogram: &Histogram, unit: fn(Duration) -> f64) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (quantile, value) in QUANTILES.iter().zip(histogram.quantiles(QUANTILES)) {
            self.series(
                &format!("{labels}{comma}quantile=\"{quantile}\""),
                unit(value),
            );
        }
        let braces = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let (name, count, sum) = (&self.name, histogram.count(), unit(histogram.sum()));
        push(
            self.text,
            format_args!("{name}_count{braces} {count}\n{name}_sum{braces} {sum}\n"),
        );
    }
}

fn push(text: &mut String, arguments: fmt::Arguments<'_>) {
    if text.write_fmt(arguments).is_err() {
        unreachable!("writing to a string does not fail");
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn node_figures(page: &mut Page, node: &Node) {
    let image = node.metadata.image();
    let metrics = &node.metrics;
    let partitions = image.partition_count();
    let offline = node.offline_partitions();
    let dirs = node.storage.directories();
    let offline_dirs = dirs.iter().filter(|dir| dir.offline().is_some()).count();
    let uptime = (node.now_ms() - node.started_ms) as f64 / 1_000.0;
    page.gauge(
        "conveyor_uptime_seconds",
        "Time since the node started.",
        uptime,
    );
    page.gauge(
        "kafka_server_kafkaserver_brokerstate",
        "3 while running, 6 while stopping.",
        if node.stopping.is_cancelled() { 6 } else { 3 },
    );
    page.gauge(
        "kafka_server_replicamanager_leadercount",
        "Partitions led by this node.",
        partitions - offline,
    );
    page.gauge(
        "kafka_server_replicamanager_partitioncount",
        "Partitions on this node.",
        partitions,
    );
    page.gauge(
        "kafka_server_replicamanager_offlinereplicacount",
        "Partitions whose log cannot be opened.",
        offline,
    );
    page.gauge(
        "kafka_server_replicamanager_underreplicatedpartitions",
        "Partitions with fewer replicas in sync than they have.",
        0,
    );
    page.gauge(
        "kafka_server_replicamanager_underminisrpartitioncount",
        "Partitions with fewer replicas in sync than min.insync.replicas.",
        node.under_min_isr(),
    );
    page.gauge(
        "kafka_controller_kafkacontroller_activecontrollercount",
        "1 on the node that is the controller.",
        1,
    );
    page.gauge(
        "kafka_controller_kafkacontroller_offlinepartitionscount",
        "Partitions without a leader.",
        offline,
    );
    page.gauge(
        "kafka_controller_kafkacontroller_globaltopiccount",
        "Topics of the cluster.",
        image.topics().len(),
    );
    page.gauge(
        "kafka_controller_kafkacontroller_globalpartitioncount",
        "Partitions of the cluster.",
        partitions,
    );
    page.gauge(
        "kafka_controller_kafkacontroller_activebrokercount",
        "Nodes that serve.",
        image.brokers().len(),
    );
    page.gauge(
        "kafka_log_logmanager_offlinelogdirectorycount",
        "Data directories that take no writes.",
        offline_dirs,
    );
    page.gauge(
        "kafka_brokers",
        "Nodes of the cluster.",
        image.brokers().len(),
    );
    let open = metrics.connections_open.load(Ordering::Relaxed);
    page.family(
        "kafka_server_socket_server_metrics_connection_count",
        "gauge",
        "Connections open now.",
    )
    .series("listener=\"GRPC\"", open);
    page.counter(
        "conveyor_connections_accepted_total",
        "Connections taken.",
        metrics.connections_accepted.get(),
    );
    page.counter(
        "conveyor_connections_refused_total",
        "Connections closed because of max.connections.",
        metrics.connections_refused.get(),
    );
    page.counter(
        "conveyor_retention_removed_bytes_total",
        "Bytes removed by retention.",
        metrics.retention_bytes.get(),
    );
    page.counter(
        "conveyor_log_cleaner_read_bytes_total",
        "Bytes read by the log cleaner.",
        metrics.cleaner_bytes.get(),
    );
    let mut queued = page.family(
        "conveyor_queued_request_bytes",
        "gauge",
        "Bytes of batches between socket and acknowledgement.",
    );
    for dir in dirs {
        queued.series(
            &format!(
                "directory=\"{}\"",
                escape(&dir.path().display().to_string())
            ),
            dir.queued_bytes(),
        );
    }
    let mut total = page.family(
        "conveyor_volume_total_bytes",
        "gauge",
        "Size of a data directory's volume.",
    );
    for dir in dirs {
        let size = dir.room().map_or(0, |room| room.total_bytes);
        total.series(
            &format!(
                "directory=\"{}\"",
                escape(&dir.path().display().to_string())
            ),
            size,
        );
    }
    let mut available = page.family(
        "conveyor_volume_available_bytes",
        "gauge",
        "Free space of a data directory's volume.",
    );
    for dir in dirs {
        let free = dir.room().map_or(0, |room| room.available_bytes);
        available.series(
            &format!(
                "directory=\"{}\"",
                escape(&dir.path().display().to_string())
            ),
            free,
        );
    }
    page.family(
        "conveyor_append_seconds",
        "summary",
        "From queueing a batch to its acknowledgement.",
    )
    .summary("", &metrics.append, |duration| duration.as_secs_f64());
}

fn topic_figures(page: &mut Page, node: &Node) {
    type Pick = fn(&TopicMetrics) -> &Counter;
    let families: [(&str, &str, Pick); 8] = [
        ("bytesin", "Bytes of batches appended.", |topic| {
            &topic.bytes_in
        }),
        ("bytesout", "Bytes of batches sent.", |topic| {
            &topic.bytes_out
        }),
        ("messagesin", "Records appended.", |topic| {
            &topic.messages_in
        }),
        ("bytesrejected", "Bytes of batches refused.", |topic| {
            &topic.bytes_rejected
        }),
        (
            "totalproducerequests",
            "Batches sent by producers.",
            |topic| &topic.produce_requests,
        ),
        ("failedproducerequests", "Batches refused.", |topic| {
            &topic.failed_produce_requests
        }),
        ("totalfetchrequests", "Reads by consumers.", |topic| {
            &topic.fetch_requests
        }),
        ("failedfetchrequests", "Reads that failed.", |topic| {
            &topic.failed_fetch_requests
        }),
    ];
    let topics = node.metrics.topics();
    for (name, help, pick) in families {
        let name = format!("kafka_server_brokertopicmetrics_{name}_total");
        let mut family = page.family(&name, "counter", help);
        family.series(
            "",
            topics
                .iter()
                .map(|(_, topic)| pick(topic).get())
                .sum::<u64>(),
        );
        for (topic, metrics) in &topics {
            family.series(&format!("topic=\"{topic}\""), pick(metrics).get());
        }
    }
}

fn log_figures(page: &mut Page, node: &Node) {
    let mut partitions = node.partitions().online();
    partitions.sort_by(|a, b| (a.topic(), a.index()).cmp(&(b.topic(), b.index())));
    type Pick = fn(&crate::partition::Partition) -> i64;
    let families: [(&str, &str, Pick); 6] = [
        (
            "kafka_log_log_size",
            "Bytes of a partition's segments.",
            |p| p.reader().size_bytes() as i64,
        ),
        ("kafka_log_log_logstartoffset", "First offset.", |p| {
            p.reader().log_start_offset().value()
        }),
        (
            "kafka_log_log_logendoffset",
            "Offset of the next record.",
            |p| p.reader().log_end_offset().value(),
        ),
        ("kafka_log_log_numlogsegments", "Segments.", |p| {
            p.reader().segment_count() as i64
        }),
        (
            "kafka_topic_partition_current_offset",
            "High watermark.",
            |p| p.reader().high_watermark().value(),
        ),
        (
            "kafka_topic_partition_oldest_offset",
            "First offset.",
            |p| p.reader().log_start_offset().value(),
        ),
    ];
    for (name, help, pick) in families {
        let mut family = page.family(name, "gauge", help);
        for partition in &partitions {
            let labels = format!(
                "topic=\"{}\",partition=\"{}\"",
                partition.topic(),
                partition.index()
            );
            family.series(&labels, pick(partition));
        }
    }
    let mut topics = page.family("kafka_topic_partitions", "gauge", "Partitions of a topic.");
    for topic in node.metadata.image().topics() {
        topics.series(&format!("topic=\"{}\"", topic.name), topic.partitions.len());
    }
}

fn request_figures(page: &mut Page, node: &Node) {
    let used: Vec<Api> = Api::ALL
        .iter()
        .copied()
        .filter(|api| node.metrics.api(*api).requests.get() > 0)
        .collect();
    let mut requests = page.family(
        "kafka_network_requestmetrics_requests_total",
        "counter",
        "Calls.",
    );
    for api in &used {
        requests.series(
            &format!("request=\"{api}\""),
            node.metrics.api(*api).requests.get(),
        );
    }
    let mut errors = page.family(
        "kafka_network_requestmetrics_errors_total",
        "counter",
        "Items by outcome.",
    );
    for api in &used {
        for (code, count) in node.metrics.api(*api).errors() {
            errors.series(
                &format!("request=\"{api}\",error=\"{}\"", code.name()),
                count,
            );
        }
    }
    let mut times = page.family(
        "kafka_network_requestmetrics_totaltimems",
        "summary",
        "Time to serve a call; streams excluded.",
    );
    for api in used.iter().filter(|api| !api.is_stream()) {
        times.summary(
            &format!("request=\"{api}\""),
            &node.metrics.api(*api).latency,
            millis,
        );
    }
    let mut throttle = page.family(
        "conveyor_request_throttle_seconds",
        "summary",
        "Pauses asked for by quotas.",
    );
    for api in &used {
        throttle.summary(
            &format!("request=\"{api}\""),
            &node.metrics.api(*api).throttle,
            |pause| pause.as_secs_f64(),
        );
    }
}

fn process_figures(page: &mut Page) {
    let Ok(text) = std::fs::read_to_string("/proc/self/status") else {
        return;
    };
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(kib) = field("VmRSS:") {
        page.gauge(
            "process_resident_memory_bytes",
            "Memory in use.",
            kib * 1_024,
        );
    }
    if let Some(threads) = field("Threads:") {
        page.gauge("process_threads", "Threads.", threads);
    }
}

/// Label values are quoted; file names may hold anything.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
