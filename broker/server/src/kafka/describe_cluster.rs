//! `DescribeCluster`: its id and its nodes, with the addresses of the listener that is asked.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::{KafkaCall, KafkaService, authorized_operations};
use crate::node::Refusal;

/// Clients that look for brokers.
const BROKERS: i8 = 1;
/// Clients that look for controllers.
const CONTROLLERS: i8 = 2;

pub(super) async fn describe_cluster(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let node = service.node();
    if let Err(refusal) = check_endpoint(request.endpoint_type) {
        return DescribeClusterResponse {
            error_code: call.code(refusal.code),
            error_message: Some(refusal.message.into()),
            ..DescribeClusterResponse::default()
        };
    }
    let (host, port) = call.endpoint();
    let rack = &node.config.rack;
    let image = node.metadata.image();
    let unset = DescribeClusterResponse::default().cluster_authorized_operations;
    DescribeClusterResponse {
        error_code: call.code(ErrorCode::None),
        endpoint_type: BROKERS,
        cluster_id: image.cluster_id().unwrap_or_default().into(),
        controller_id: node.node_id.value(),
        brokers: vec![DescribeClusterBroker {
            broker_id: node.node_id.value(),
            host: host.into(),
            port: i32::from(port),
            rack: (!rack.is_empty()).then(|| Text::from(rack)),
            is_fenced: false,
        }],
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            authorized_operations::of_cluster(call)
        } else {
            unset
        },
        ..DescribeClusterResponse::default()
    }
}

fn check_endpoint(endpoint_type: i8) -> Result<(), Refusal> {
    match endpoint_type {
        BROKERS => Ok(()),
        CONTROLLERS => Err(Refusal::new(
            ErrorCode::MismatchedEndpointType,
            "this is a listener for clients of brokers, not of controllers",
        )),
        other => Err(Refusal::new(
            ErrorCode::UnsupportedEndpointType,
            format!("endpoint type {other} is not known"),
        )),
    }
}
