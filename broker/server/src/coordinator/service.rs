//! Connects the generated trait with the handlers.

use std::sync::Arc;

use conveyor_grpc::v1;
use tonic::{Request, Response, Status};

use super::{GroupHost, groups, membership, offsets};
use crate::request::{Api, Call};

/// The service of the groups.
#[derive(Debug, Clone)]
pub(super) struct GroupServices {
    host: Arc<GroupHost>,
}

impl GroupServices {
    pub(super) fn new(host: Arc<GroupHost>) -> Self {
        Self { host }
    }

    fn admit<T>(&self, api: Api, request: &Request<T>) -> Result<Call, Status> {
        let admitted = self.host.node().gate.admit(api, request);
        admitted.map_err(Status::from)
    }
}

#[tonic::async_trait]
impl v1::group_service_server::GroupService for GroupServices {
    async fn consumer_group_heartbeat(
        &self,
        request: Request<v1::ConsumerGroupHeartbeatRequest>,
    ) -> Result<Response<v1::ConsumerGroupHeartbeatResponse>, Status> {
        let call = self.admit(Api::ConsumerGroupHeartbeat, &request)?;
        let response = membership::heartbeat(&self.host, &call, request.into_inner());
        Ok(Response::new(response.await))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        let call = self.admit(Api::CommitOffsets, &request)?;
        let response = offsets::commit(&self.host, &call, request.into_inner());
        Ok(Response::new(response.await))
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Result<Response<v1::FetchOffsetsResponse>, Status> {
        let call = self.admit(Api::FetchOffsets, &request)?;
        let response = offsets::fetch(&self.host, &call, request.into_inner());
        Ok(Response::new(response.await))
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let call = self.admit(Api::ListGroups, &request)?;
        let response = groups::list(&self.host, &call, request.into_inner());
        Ok(Response::new(response.await))
    }

    async fn describe_groups(
        &self,
        request: Request<v1::DescribeGroupsRequest>,
    ) -> Result<Response<v1::DescribeGroupsResponse>, Status> {
        let call = self.admit(Api::DescribeGroups, &request)?;
        let response = groups::describe(&self.host, &call, request.into_inner());
        Ok(Response::new(response.await))
    }

    async fn delete_groups(
        &self,
        request: Request<v1::DeleteGroupsRequest>,
    ) -> Result<Response<v1::DeleteGroupsResponse>, Status> {
        let call = self.admit(Api::DeleteGroups, &request)?;
        let response = groups::delete(&self.host, &call, request.into_inner());
        Ok(Response::new(response.await))
    }

    async fn delete_offsets(
        &self,
        request: Request<v1::DeleteOffsetsRequest>,
    ) -> Result<Response<v1::DeleteOffsetsResponse>, Status> {
        let call = self.admit(Api::DeleteOffsets, &request)?;
        let response = offsets::delete(&self.host, &call, request.into_inner());
        Ok(Response::new(response.await))
    }
}
