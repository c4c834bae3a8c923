//! `ListConfigResources`: what there is that has settings (KIP-1142). Version 0 lists subscriptions
//! of client metrics only.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use super::config_resource::ResourceType;
use super::{KafkaCall, KafkaService};
use crate::node::{Node, authorize_cluster};
use crate::request::Operation;

pub(super) async fn list_config_resources(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let refused = |code: ErrorCode| ListConfigResourcesResponse {
        error_code: call.code(code),
        ..ListConfigResourcesResponse::default()
    };
    if let Err(refusal) = authorize_cluster(call, Operation::DescribeConfigs) {
        return refused(refusal.code);
    }
    let wanted: Option<Vec<ResourceType>> = match (call.version, &request.resource_types[..]) {
        (0, _) => Some(vec![ResourceType::ClientMetrics]),
        (_, []) => Some(ResourceType::ALL.to_vec()),
        (_, numbers) => numbers
            .iter()
            .map(|&number| ResourceType::from_number(number))
            .collect(),
    };
    let Some(wanted) = wanted else {
        return refused(ErrorCode::UnsupportedVersion);
    };
    let resources = wanted.into_iter().flat_map(|kind| {
        names(service.node(), kind)
            .into_iter()
            .map(move |name| ConfigResource {
                resource_name: name,
                resource_type: kind.number(),
            })
    });
    ListConfigResourcesResponse {
        error_code: call.code(ErrorCode::None),
        config_resources: resources.collect(),
        ..ListConfigResourcesResponse::default()
    }
}

fn names(node: &Node, kind: ResourceType) -> Vec<Text> {
    match kind {
        ResourceType::Topic => {
            let image = node.metadata.image();
            let names = image.topics().map(|topic| Text::from(&topic.name));
            names.collect()
        }
        ResourceType::Broker => vec![node.node_id.to_string().into()],
        // No group has settings of its own, no subscription can be set, no logger be changed.
        ResourceType::Group | ResourceType::ClientMetrics | ResourceType::BrokerLogger => {
            Vec::new()
        }
    }
}
