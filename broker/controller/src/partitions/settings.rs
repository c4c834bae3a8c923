//! What a change of `min.insync.replicas` means for partitions.
//!
//! A replica is eligible to lead as long as nothing can have been acknowledged without it. With a
//! smaller `min.insync.replicas` the present in-sync set may become large enough to acknowledge: then
//! nobody outside it is eligible any more, from the same moment on.

use conveyor_record::mutants;
use uuid::Uuid;

use crate::draft::Draft;
use crate::partitions::PartitionUpdate;

/// Brings partitions in line with the settings of the draft: those of one topic, or all.
pub(crate) fn follow_min_insync_replicas(draft: &mut Draft, topic_id: Option<Uuid>) {
    if mutants::on("controller: smaller min.insync.replicas keeps eligible replicas") {
        return;
    }
    draft.update_partitions(|image, topic, index, partition| {
        let meant = topic_id.is_none_or(|id| topic.id == id);
        let listed = !partition.elr.is_empty() || !partition.last_known_elr.is_empty();
        (meant && listed).then(|| PartitionUpdate::new(image, topic, index, partition))
    });
}
