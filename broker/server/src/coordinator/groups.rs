//! `ListGroups`, `DescribeGroups`, `DeleteGroups`.

use std::collections::BTreeMap;

use conveyor_group::{FetchOffsetsRequest, FetchedOffset, GroupError, GroupState, ListedGroup};
use conveyor_grpc::v1::{self, ItemError};

use super::GroupHost;
use super::cluster::ClusterSnapshot;
use super::described::{Described, type_name};
use super::lag::{self, Committed};
use super::refusal::{authorize_group, told};
use crate::node::Refusal;
use crate::request::{Call, Operation, Resource};

pub(super) async fn list(
    host: &GroupHost,
    call: &Call,
    request: v1::ListGroupsRequest,
) -> v1::ListGroupsResponse {
    let is_wanted = |group: &ListedGroup| {
        let name = group.state.name();
        request.states.is_empty()
            || request
                .states
                .iter()
                .any(|state| state.eq_ignore_ascii_case(name))
    };
    let outcome = host.list().await;
    let error = outcome.as_ref().err().map(|refusal| {
        let (error_code, error_message) = told(call, &Err::<(), _>(refusal.clone()));
        ItemError {
            error_code,
            error_message,
        }
    });
    let mut listed = outcome.unwrap_or_default();
    listed.retain(|group| {
        is_wanted(group) && call.may(Operation::Describe, Resource::Group(&group.group_id))
    });
    let groups = listed.into_iter().map(|group| v1::ListedGroup {
        group_id: group.group_id,
        state: group.state.name().to_owned(),
        r#type: type_name(group.kind),
        protocol_type: group.protocol_type,
    });
    v1::ListGroupsResponse {
        groups: groups.collect(),
        error,
    }
}

pub(super) async fn describe(
    host: &GroupHost,
    call: &Call,
    request: v1::DescribeGroupsRequest,
) -> v1::DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    let mut lookups = lag::LOOKUPS_MAX;
    for group_id in request.group_ids {
        let outcome = describe_one(host, call, &group_id, &mut lookups).await;
        let (error_code, error_message) = told(call, &outcome);
        groups.push(outcome.unwrap_or_else(|_| v1::DescribedGroup {
            group_id,
            error_code,
            error_message,
            state: GroupState::Dead.name().to_owned(),
            ..Default::default()
        }));
    }
    v1::DescribeGroupsResponse { groups }
}

async fn describe_one(
    host: &GroupHost,
    call: &Call,
    group_id: &str,
    lookups: &mut usize,
) -> Result<v1::DescribedGroup, Refusal> {
    authorize_group(call, Operation::Describe, group_id)?;
    let wanted = group_id.to_owned();
    let found = host
        .read(group_id, move |coordinator| -> Result<_, GroupError> {
            let group = match coordinator.describe(&wanted) {
                Ok(group) => Described::Consumer(group),
                Err(_) => Described::Classic(coordinator.describe_classic(&wanted)?),
            };
            let offsets = coordinator.fetch_offsets(&FetchOffsetsRequest {
                group_id: wanted,
                member_epoch: -1,
                ..FetchOffsetsRequest::default()
            })?;
            Ok((group, offsets))
        })
        .await?;
    let nobody = || GroupError::GroupIdNotFound {
        group_id: group_id.to_owned(),
    };
    let (group, offsets) = found.ok_or_else(nobody)??;

    let cluster = ClusterSnapshot::take(&host.node().metadata);
    let mut group = group.write(&cluster);
    let places = places(&group, offsets)
        .into_iter()
        .filter(|(place, _)| call.may(Operation::Describe, Resource::Topic(&place.0)));
    group.lag = lag::measure(host.node(), places.collect(), lookups).await?;
    Ok(group)
}

/// Every partition that the group has an offset for or a member owns.
fn places(
    group: &v1::DescribedGroup,
    offsets: Vec<FetchedOffset>,
) -> BTreeMap<(String, i32), Committed> {
    let mut places: BTreeMap<(String, i32), Committed> = BTreeMap::new();
    for fetched in offsets {
        let place = places
            .entry((fetched.topic, fetched.partition))
            .or_default();
        place.offset = fetched.committed.ok().flatten();
    }
    for member in &group.members {
        for topic in member.assignment.iter().flat_map(|own| &own.topics) {
            for partition in &topic.partitions {
                let place = places.entry((topic.topic.clone(), *partition)).or_default();
                place.member_id.clone_from(&member.member_id);
            }
        }
    }
    places
}

pub(super) async fn delete(
    host: &GroupHost,
    call: &Call,
    request: v1::DeleteGroupsRequest,
) -> v1::DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.group_ids.len());
    for group_id in request.group_ids {
        let outcome = delete_one(host, call, &group_id).await;
        let (error_code, error_message) = told(call, &outcome);
        results.push(v1::GroupResult {
            group_id,
            error_code,
            error_message,
        });
    }
    v1::DeleteGroupsResponse { results }
}

async fn delete_one(host: &GroupHost, call: &Call, group_id: &str) -> Result<(), Refusal> {
    authorize_group(call, Operation::Delete, group_id)?;
    host.delete(group_id).await
}
