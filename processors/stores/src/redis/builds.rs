//! Builds of a projection beside each other. All its builds are in one hash slot, so one script makes
//! another one live: readers see all rows of the old build or all of the new.
//!
//! Rows are found by their keys, so the script renames every row and list of both builds, and the server
//! answers nobody meanwhile: about a second for each million rows. A build is removed in small pieces.

use std::collections::HashMap;

use conveyor_processors::build::{Build, BuildName};

use super::names::partition_of;
use super::{Failure, Inner, damaged, held_of, script};
use crate::declared;
use crate::fence::Held;

const SWITCH: &str = include_str!("switch.lua");
const CATALOGUE: &str = include_str!("catalogue.lua");
const DROP: &str = include_str!("drop.lua");

/// Rows that one script removes: a millisecond or two.
const ROWS_PER_DROP: usize = 1_000;

impl Inner {
    pub(super) async fn builds(&self) -> Result<Vec<Build>, Failure> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.space.projections());
        let projections: Vec<String> = self.link.query(&command).await?;
        let mut builds = Vec::new();
        for projection in projections {
            let names = self.space.live(&projection);
            let mut command = script(CATALOGUE, &[names.builds()]);
            command.arg(names.own());
            type Noted = (String, u32, String, String, HashMap<String, String>);
            let noted: Vec<Noted> = self.link.query(&command).await?;
            for (name, version, text, tag, stored) in noted {
                let positions = positions_of(stored)?;
                builds.push(declared::build_of(&name, tag, version, &text, positions));
            }
        }
        declared::sort(&mut builds);
        Ok(builds)
    }

    pub(super) async fn switch(&self, incoming: &BuildName) -> Result<(), Failure> {
        let live = self.space.live(incoming.projection());
        let build = self.space.of_build(incoming);
        let mut command = script(SWITCH, &[live.declaration(), build.declaration()]);
        command
            .arg(live.space())
            .arg(live.own())
            .arg(incoming.projection())
            .arg(incoming.tag());
        let refused: Option<String> = self.link.query(&command).await?;
        match refused.as_deref() {
            None => Ok(()),
            Some("dropping") => Err(Failure::Schema(declared::is_dropped(incoming))),
            live_tag => declared::missing(incoming, live_tag).map_err(Failure::Schema),
        }
    }

    pub(super) async fn drop_build(&self, build: &BuildName) -> Result<(), Failure> {
        let names = self.space.of_build(build);
        let keys = [
            names.declaration(),
            names.positions(),
            names.versions(),
            names.builds(),
            self.space.live(build.projection()).declaration(),
            names.lists(),
        ];
        let mut command = script(DROP, &keys);
        command
            .arg(names.space())
            .arg(names.own())
            .arg(build.tag())
            .arg(build.as_str())
            .arg(ROWS_PER_DROP);
        loop {
            match self.link.query::<u8>(&command).await? {
                0 => {}
                1 => return Ok(()),
                _ => return Err(Failure::Schema(declared::is_live(build))),
            }
        }
    }
}

/// All positions of a build, in partition order.
pub(super) fn positions_of(
    stored: HashMap<String, String>,
) -> Result<Vec<conveyor_processors::Position>, Failure> {
    let mut positions = Vec::new();
    for (field, value) in stored {
        let partition = partition_of(&field).ok_or_else(|| damaged(&field))?;
        let held = held_of(std::iter::once(partition), &[Some(value)])?;
        positions.extend(held.iter().filter_map(Held::position));
    }
    positions.sort_by(|left, right| left.topic_partition.cmp(&right.topic_partition));
    Ok(positions)
}
