//! `CommitOffsets`, `FetchOffsets`, `DeleteOffsets`.

use conveyor_group::{
    CommitRequest, DeleteOffsetsRequest, FetchOffsetsRequest, FetchedOffset, OffsetResult,
    OffsetToCommit,
};
use conveyor_grpc::v1;
use conveyor_record::{LeaderEpoch, Offset};

use super::GroupHost;
use super::hosted::decided;
use super::refusal::{authorize_group, told};
use crate::node::{Refusal, authorize_topic};
use crate::request::{Call, Operation};

/// A partition of a request, and why it may not be touched, if it may not.
type Place = (String, i32, Option<Refusal>);

pub(super) async fn commit(
    host: &GroupHost,
    call: &Call,
    request: v1::CommitOffsetsRequest,
) -> v1::CommitOffsetsResponse {
    let places: Vec<Place> = request
        .offsets
        .iter()
        .map(|offset| {
            let refusal = authorize_topic(call, Operation::Read, &offset.topic).err();
            (offset.topic.clone(), offset.partition, refusal)
        })
        .collect();
    let outcome = commit_allowed(host, call, request, &places).await;
    v1::CommitOffsetsResponse {
        results: results(call, places, outcome),
    }
}

async fn commit_allowed(
    host: &GroupHost,
    call: &Call,
    request: v1::CommitOffsetsRequest,
    places: &[Place],
) -> Result<Vec<OffsetResult>, Refusal> {
    authorize_group(call, Operation::Read, &request.group_id)?;
    let allowed = request
        .offsets
        .into_iter()
        .zip(places)
        .filter(|(_, place)| place.2.is_none());
    let offsets = allowed.map(|(offset, _)| OffsetToCommit {
        topic: offset.topic,
        partition: offset.partition,
        offset: Offset(offset.offset),
        leader_epoch: LeaderEpoch(offset.leader_epoch),
        metadata: offset.metadata,
    });
    let commit = CommitRequest {
        group_id: request.group_id,
        member_id: request.member_id,
        instance_id: None,
        member_epoch: request.member_epoch,
        offsets: offsets.collect(),
    };
    let group_id = commit.group_id.clone();
    host.change(&group_id, move |coordinator, cluster, now_ms| {
        decided(coordinator.commit_offsets(now_ms, &commit, cluster))
    })
    .await?
}

pub(super) async fn delete(
    host: &GroupHost,
    call: &Call,
    request: v1::DeleteOffsetsRequest,
) -> v1::DeleteOffsetsResponse {
    let places: Vec<Place> = request
        .partitions
        .into_iter()
        .map(|place| {
            let refusal = authorize_topic(call, Operation::Read, &place.topic).err();
            (place.topic, place.partition, refusal)
        })
        .collect();
    let outcome = delete_allowed(host, call, request.group_id, &places).await;
    let (error_code, error_message) = told(call, &outcome);
    let results = if outcome.is_ok() {
        results(call, places, outcome)
    } else {
        Vec::new()
    };
    v1::DeleteOffsetsResponse {
        error_code,
        error_message,
        results,
    }
}

async fn delete_allowed(
    host: &GroupHost,
    call: &Call,
    group_id: String,
    places: &[Place],
) -> Result<Vec<OffsetResult>, Refusal> {
    authorize_group(call, Operation::Delete, &group_id)?;
    let allowed = places.iter().filter(|place| place.2.is_none());
    let partitions = allowed
        .map(|(topic, partition, _)| (topic.clone(), *partition))
        .collect();
    let delete = DeleteOffsetsRequest {
        group_id: group_id.clone(),
        partitions,
    };
    host.change(&group_id, move |coordinator, _, _| {
        decided(coordinator.delete_offsets(&delete))
    })
    .await?
}

/// One result for each place of the request, in its order.
fn results(
    call: &Call,
    places: Vec<Place>,
    outcome: Result<Vec<OffsetResult>, Refusal>,
) -> Vec<v1::OffsetResult> {
    let (mut decided, refused) = match outcome {
        Ok(decided) => (decided.into_iter(), None),
        Err(refusal) => (Vec::new().into_iter(), Some(refusal)),
    };
    let result = |(topic, partition, refusal): Place| {
        let outcome = match refusal.or_else(|| refused.clone()) {
            Some(refusal) => Err(refusal),
            // The coordinator was given the allowed places, and answers in their order.
            None => decided
                .next()
                .map_or(Ok(()), |decided| decided.result.map_err(Refusal::from)),
        };
        let (error_code, error_message) = told(call, &outcome);
        v1::OffsetResult {
            topic,
            partition,
            error_code,
            error_message,
        }
    };
    places.into_iter().map(result).collect()
}

pub(super) async fn fetch(
    host: &GroupHost,
    call: &Call,
    request: v1::FetchOffsetsRequest,
) -> v1::FetchOffsetsResponse {
    let is_for_all = request.partitions.is_empty();
    let outcome = fetch_all(host, call, request).await;
    let (error_code, error_message) = told(call, &outcome);
    let mut offsets = Vec::new();
    for fetched in outcome.unwrap_or_default() {
        let allowed = authorize_topic(call, Operation::Describe, &fetched.topic);
        if allowed.is_err() && is_for_all {
            continue;
        }
        offsets.push(committed_offset(call, fetched, &allowed));
    }
    v1::FetchOffsetsResponse {
        error_code,
        error_message,
        offsets,
    }
}

async fn fetch_all(
    host: &GroupHost,
    call: &Call,
    request: v1::FetchOffsetsRequest,
) -> Result<Vec<FetchedOffset>, Refusal> {
    authorize_group(call, Operation::Describe, &request.group_id)?;
    let wanted = request
        .partitions
        .into_iter()
        .map(|place| (place.topic, place.partition));
    let wanted: Vec<(String, i32)> = wanted.collect();
    let fetch = FetchOffsetsRequest {
        group_id: request.group_id,
        member_id: request.member_id,
        member_epoch: request.member_epoch,
        require_stable: request.require_stable,
        partitions: (!wanted.is_empty()).then_some(wanted),
    };
    host.fetch_offsets(fetch).await
}

fn committed_offset(
    call: &Call,
    fetched: FetchedOffset,
    allowed: &Result<(), Refusal>,
) -> v1::CommittedOffset {
    let committed = match allowed {
        Ok(()) => fetched.committed.map_err(Refusal::from),
        Err(refusal) => Err(refusal.clone()),
    };
    let (error_code, _) = told(call, &committed);
    let (offset, leader_epoch, metadata) = committed.ok().flatten().map_or_else(
        || (-1, -1, String::new()),
        |committed| {
            (
                committed.offset.value(),
                committed.leader_epoch.value(),
                committed.metadata,
            )
        },
    );
    v1::CommittedOffset {
        topic: fetched.topic,
        partition: fetched.partition,
        error_code,
        offset,
        leader_epoch,
        metadata,
    }
}
