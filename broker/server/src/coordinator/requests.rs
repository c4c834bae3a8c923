//! What the handlers of both protocols ask of the groups, whatever the wire format.

use conveyor_group::{
    ClassicDescription, FetchOffsetsRequest, FetchedOffset, GroupConfig, GroupCoordinator,
    GroupDescription, GroupError, ListedGroup,
};

use super::GroupHost;
use super::hosted::decided;
use super::machine::Decision;
use crate::node::Refusal;

impl GroupHost {
    /// Makes sure that there are coordinators: creates `__consumer_offsets` if it is not there.
    pub(crate) async fn prepare(&self) -> Result<(), Refusal> {
        self.shards.get_or_try_init(|| self.create_shards()).await?;
        Ok(())
    }

    /// All groups by id; an error if any shard cannot tell its own.
    pub(crate) async fn list(&self) -> Result<Vec<ListedGroup>, Refusal> {
        let mut listed = Vec::new();
        for shard in self.shards() {
            let groups = shard
                .change(|coordinator, _, _| Decision::nothing(coordinator.list()))
                .await?;
            listed.extend(groups);
        }
        listed.sort_by(|one, other| one.group_id.cmp(&other.group_id));
        Ok(listed)
    }

    /// A group by the consumer protocol.
    pub(crate) async fn describe(&self, group_id: &str) -> Result<GroupDescription, Refusal> {
        let wanted = group_id.to_owned();
        let found = self
            .read(group_id, move |coordinator| coordinator.describe(&wanted))
            .await?;
        Ok(found.ok_or_else(|| nobody(group_id))??)
    }

    /// A classic group, or one that only has offsets.
    pub(crate) async fn describe_classic(
        &self,
        group_id: &str,
    ) -> Result<ClassicDescription, Refusal> {
        let wanted = group_id.to_owned();
        let found = self
            .read(group_id, move |coordinator| {
                coordinator.describe_classic(&wanted)
            })
            .await?;
        Ok(found.ok_or_else(|| nobody(group_id))??)
    }

    /// Deletes a group without members, with its offsets.
    pub(crate) async fn delete(&self, group_id: &str) -> Result<(), Refusal> {
        let wanted = group_id.to_owned();
        self.change(group_id, move |coordinator, _, _| {
            decided(coordinator.delete_group(&wanted))
        })
        .await?
    }

    /// Reads committed offsets.
    pub(crate) async fn fetch_offsets(
        &self,
        request: FetchOffsetsRequest,
    ) -> Result<Vec<FetchedOffset>, Refusal> {
        let (group_id, asked) = (request.group_id.clone(), request.clone());
        let read = self
            .read(&group_id, move |coordinator| {
                coordinator.fetch_offsets(&request)
            })
            .await?;
        if let Some(found) = read {
            return Ok(found?);
        }
        // No group ever was: what an empty coordinator says is the answer.
        let empty = GroupCoordinator::new(GroupConfig::default());
        Ok(empty.fetch_offsets(&asked)?)
    }
}

fn nobody(group_id: &str) -> GroupError {
    GroupError::GroupIdNotFound {
        group_id: group_id.to_owned(),
    }
}
