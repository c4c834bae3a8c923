//! Kafka's APIs: one handler file each, one row each in the table of [`apis`].
//!
//! A handler gets the decoded request and the [`KafkaCall`], checks, asks the parts that decide (the
//! same that the gRPC handlers ask), and translates into the response. It knows no socket and no
//! frame: [`KafkaService::handle`] takes one apart, finds the API and version, and encodes what comes
//! back. Produce alone is answered later than it is handled (see [`produce`]).
//!
//! Rules that hold for all (Kafka's): a version that is not served closes the connection, except
//! for `ApiVersions`, whose answer then is of version 0 and tells the versions; every item that is
//! asked about is answered, in the order asked; a text kept beyond the request is a copy, since
//! [`conveyor_kafka::Text`] keeps its whole frame alive.

mod api_versions;
mod apis;
mod call;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod delete_groups;
mod describe_groups;
mod find_coordinator;
mod group_call;
mod heartbeat;
mod join_group;
mod leave_group;
mod list_groups;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod service;
mod sync_group;

pub(crate) use call::{KafkaCall, Session};
pub(crate) use produce::PendingProduce;
pub(crate) use service::{Answer, KafkaService, RequestError};

mod produce;
