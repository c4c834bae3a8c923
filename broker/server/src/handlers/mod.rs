//! One file per API. A handler checks, asks the parts that decide, and translates; it decides
//! nothing that is not about the request itself.
//!
//! The service types only connect the generated traits with the handlers.

mod configs;
mod delete_records;
mod describe;
mod fetch;
pub(crate) mod fetch_stream;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod partition_records;
mod produce;
pub(crate) mod produce_stream;
mod topics;

use std::pin::Pin;
use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{self, ItemError};
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use metadata::{create_missing, missing_topic};

use crate::node::{Node, Refusal};
use crate::partition::Admission;
use crate::records::produce::CheckedBatch;
use crate::records::read::Isolation;
use crate::request::{Api, Call};
use crate::transaction::{Asked, TransactionHost};

/// The services of a node, all but the groups'.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) node: Arc<Node>,
    pub(crate) transactions: Arc<TransactionHost>,
}

impl Services {
    pub(crate) fn new(node: Arc<Node>, transactions: Arc<TransactionHost>) -> Self {
        Self { node, transactions }
    }

    /// Leave for a batch of a transaction; `None` for one outside transactions. Partitions join the
    /// transaction by it.
    async fn admit(
        &self,
        call: &Call,
        checked: &CheckedBatch,
        transactional_id: Option<&str>,
    ) -> Result<Option<Admission>, Refusal> {
        let admission = self
            .transactions
            .admit_batch(call, checked, transactional_id, Asked::Add);
        admission.await
    }
}

/// The two hot streams never come here: `listener/hot_streams.rs` takes them before tonic's codec
/// would copy their batches.
fn served_by_the_listener() -> Status {
    Status::internal("this stream is served by the listener")
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::metadata_service_server::MetadataService for Services {
    async fn get_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::GetMetadataResponse>, Status> {
        let call = self.node.gate.admit(Api::GetMetadata, &request)?;
        metadata::get_metadata(&self.node, &call, request.into_inner())
            .await
            .map(Response::new)
    }
}

#[tonic::async_trait]
impl v1::produce_service_server::ProduceService for Services {
    type ProduceStreamStream = ResponseStream<v1::ProduceStreamResponse>;

    async fn init_producer_id(
        &self,
        request: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        let call = self.node.gate.admit(Api::InitProducerId, &request)?;
        let request = request.into_inner();
        Ok(Response::new(
            init_producer_id::init_producer_id(self, &call, &request).await,
        ))
    }

    async fn produce(
        &self,
        request: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        let call = self.node.gate.admit(Api::Produce, &request)?;
        produce::produce(self, call, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn produce_stream(
        &self,
        _: Request<Streaming<v1::ProduceStreamRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        Err(served_by_the_listener())
    }
}

#[tonic::async_trait]
impl v1::fetch_service_server::FetchService for Services {
    type FetchStreamStream = ResponseStream<v1::FetchStreamResponse>;

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        let call = self.node.gate.admit(Api::Fetch, &request)?;
        fetch::fetch(&self.node, call, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn fetch_stream(
        &self,
        _: Request<Streaming<v1::FetchStreamRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        Err(served_by_the_listener())
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let call = self.node.gate.admit(Api::ListOffsets, &request)?;
        let response = list_offsets::list_offsets(&self.node, &call, request.into_inner());
        Ok(Response::new(response.await))
    }
}

#[tonic::async_trait]
impl v1::admin_service_server::AdminService for Services {
    async fn create_topics(
        &self,
        request: Request<v1::CreateTopicsRequest>,
    ) -> Result<Response<v1::CreateTopicsResponse>, Status> {
        let call = self.node.gate.admit(Api::CreateTopics, &request)?;
        Ok(Response::new(
            topics::create_topics(&self.node, &call, request.into_inner()).await,
        ))
    }

    async fn delete_topics(
        &self,
        request: Request<v1::DeleteTopicsRequest>,
    ) -> Result<Response<v1::DeleteTopicsResponse>, Status> {
        let call = self.node.gate.admit(Api::DeleteTopics, &request)?;
        Ok(Response::new(
            topics::delete_topics(&self.node, &call, request.into_inner()).await,
        ))
    }

    async fn create_partitions(
        &self,
        request: Request<v1::CreatePartitionsRequest>,
    ) -> Result<Response<v1::CreatePartitionsResponse>, Status> {
        let call = self.node.gate.admit(Api::CreatePartitions, &request)?;
        Ok(Response::new(
            topics::create_partitions(&self.node, &call, request.into_inner()).await,
        ))
    }

    async fn describe_configs(
        &self,
        request: Request<v1::DescribeConfigsRequest>,
    ) -> Result<Response<v1::DescribeConfigsResponse>, Status> {
        let call = self.node.gate.admit(Api::DescribeConfigs, &request)?;
        Ok(Response::new(configs::describe_configs(
            &self.node,
            &call,
            &request.into_inner(),
        )))
    }

    async fn incremental_alter_configs(
        &self,
        request: Request<v1::IncrementalAlterConfigsRequest>,
    ) -> Result<Response<v1::IncrementalAlterConfigsResponse>, Status> {
        let call = self
            .node
            .gate
            .admit(Api::IncrementalAlterConfigs, &request)?;
        let response = configs::incremental_alter_configs(&self.node, &call, request.into_inner());
        Ok(Response::new(response.await))
    }

    async fn delete_records(
        &self,
        request: Request<v1::DeleteRecordsRequest>,
    ) -> Result<Response<v1::DeleteRecordsResponse>, Status> {
        let call = self.node.gate.admit(Api::DeleteRecords, &request)?;
        let response = delete_records::delete_records(&self.node, &call, request.into_inner());
        Ok(Response::new(response.await))
    }

    async fn describe_logs(
        &self,
        request: Request<v1::DescribeLogsRequest>,
    ) -> Result<Response<v1::DescribeLogsResponse>, Status> {
        let call = self.node.gate.admit(Api::DescribeLogs, &request)?;
        let request = request.into_inner();
        Ok(Response::new(
            describe::describe_logs(&self.node, &call, &request).await,
        ))
    }

    async fn describe_cluster(
        &self,
        request: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        let call = self.node.gate.admit(Api::DescribeCluster, &request)?;
        Ok(Response::new(describe::describe_cluster(&self.node, &call)))
    }
}

/// The error fields of an item.
fn item_error(refusal: &Refusal) -> ItemError {
    ItemError {
        error_code: refusal.code.code(),
        error_message: refusal.message.clone(),
    }
}

/// Nothing went wrong.
fn no_error() -> i32 {
    ErrorCode::None.code()
}

/// Which records a consumer may see; `None` for a number that stands for nothing.
fn isolation(number: i32) -> Option<Isolation> {
    Some(match v1::IsolationLevel::try_from(number).ok()? {
        v1::IsolationLevel::Unspecified | v1::IsolationLevel::ReadUncommitted => {
            Isolation::Uncommitted
        }
        v1::IsolationLevel::ReadCommitted => Isolation::Committed,
    })
}
