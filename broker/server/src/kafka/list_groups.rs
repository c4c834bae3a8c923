//! `ListGroups`: the groups that this node coordinates, of both kinds.

use std::sync::Arc;

use conveyor_group::ListedGroup;
use conveyor_kafka::Text;
use conveyor_kafka::messages::list_groups::{self, ListGroupsRequest, ListGroupsResponse};

use super::{KafkaCall, KafkaService};
use crate::request::{Operation, Resource};

pub(super) async fn list_groups(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let listed = service.groups.list().await;
    let error_code = call.outcome_code(&listed);
    let may_see_all = call.may(Operation::Describe, Resource::Cluster);
    let may_see = |group: &ListedGroup| {
        may_see_all || call.may(Operation::Describe, Resource::Group(&group.group_id))
    };
    let groups = listed.unwrap_or_default().into_iter().filter(|group| {
        names(&request.states_filter, group.state.name())
            && names(&request.types_filter, group.kind.name())
            && may_see(group)
    });
    let groups = groups.map(|group| list_groups::ListedGroup {
        group_id: group.group_id.into(),
        protocol_type: group.protocol_type.into(),
        group_state: Text::from_static(group.state.name()),
        // Kafka writes it small here.
        group_type: group.kind.name().to_lowercase().into(),
    });
    ListGroupsResponse {
        error_code,
        groups: groups.collect(),
        ..ListGroupsResponse::default()
    }
}

/// Whether a filter lets a name pass; an empty one lets all pass.
fn names(filter: &[Text], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(name))
}
