//! Compaction of topics with `cleanup.policy=compact`.

use std::time::Duration;

use crate::background::duration;
use crate::node::Node;

/// Looks for logs worth compacting until `sleep` says that the node stops.
pub(crate) fn run(node: &Node, sleep: &dyn Fn(Duration) -> bool) {
    while !sleep(duration(node.config.cleaner_backoff_ms)) {
        for partition in node.partitions().online() {
            if !partition.config().cleanup_policy.compact {
                continue;
            }
        }
    }
}
