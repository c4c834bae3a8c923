//! Rebuilding a projection beside its live build, without taking that away from anybody.
//!
//! A rebuild is the projection's own driver, filling another build ([`InBuild`](crate::build::InBuild))
//! as a group of its own, `atp@2`, with side effects off ([`Filling`]). Its positions are in the
//! store, so it goes on after a kill where it stood. Meanwhile somebody looks at positions and log
//! every second or so ([`Progress`]), and makes the build live when it has caught up.
//!
//! * [`filling`]: what is different about a driver that fills such a build.
//! * [`progress`]: how far it is, how long it takes, whether it has caught up; pure.
//! * `range` (feature `driver`): which offsets of the log a rebuild is made of.

pub mod filling;
pub mod progress;
#[cfg(feature = "driver")]
pub mod range;

pub use filling::Filling;
pub use progress::{Goal, Look, Progress, Report};

use crate::build::{Build, BuildName};

/// The build that a rebuild of a projection is to fill: one that it began before and that is not
/// live, else a new one with the number after all others.
pub fn build_to_fill(builds: &[Build], projection: &str, version: u32) -> Option<BuildName> {
    let ours = || builds.iter().filter(|build| build.projection == projection);
    let live = ours().find(|build| build.is_live);
    let live_number = live.and_then(Build::number).unwrap_or(1);
    let begun = ours().filter(|build| !build.is_live && build.version == version);
    let begun = begun
        .filter_map(Build::number)
        .filter(|number| *number > live_number);
    let next = || ours().filter_map(Build::number).max().unwrap_or(1).max(1) + 1;
    let number = begun.max().unwrap_or_else(next);
    BuildName::new(projection, &number.to_string()).ok()
}

/// The build that was live before the present one: of those that are kept, the one with the highest
/// number below the live one's, else the highest.
pub fn build_before(builds: &[Build], projection: &str) -> Option<BuildName> {
    let ours = || builds.iter().filter(|build| build.projection == projection);
    let live = ours().find(|build| build.is_live).and_then(Build::number)?;
    let kept = || {
        ours()
            .filter(|build| !build.is_live)
            .filter_map(Build::number)
    };
    let before = kept().filter(|number| *number < live).max();
    let number = before.or_else(|| kept().max())?;
    BuildName::new(projection, &number.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(tag: &str, version: u32, is_live: bool) -> Build {
        Build {
            projection: "atp".to_owned(),
            tag: tag.to_owned(),
            is_live,
            version,
            tables: Vec::new(),
            positions: Vec::new(),
        }
    }

    fn to_fill(builds: &[Build], version: u32) -> String {
        build_to_fill(builds, "atp", version).unwrap().to_string()
    }

    #[test]
    fn a_rebuild_goes_on_with_what_it_began_and_else_takes_a_new_number() {
        assert_eq!(to_fill(&[], 1), "atp@2", "the live build will be the first");
        let live = build("1", 1, true);
        assert_eq!(to_fill(std::slice::from_ref(&live), 2), "atp@2");
        let begun = [live.clone(), build("2", 2, false)];
        assert_eq!(to_fill(&begun, 2), "atp@2");
        assert_eq!(to_fill(&begun, 3), "atp@3", "begun by another version");
        let switched = [build("2", 2, true), build("1", 1, false)];
        assert_eq!(
            to_fill(&switched, 2),
            "atp@3",
            "what was live before is not touched"
        );
        let past = [live, build("before_sale", 1, false)];
        assert_eq!(to_fill(&past, 1), "atp@2");
    }

    #[test]
    fn before_the_live_build_was_the_one_with_the_number_below() {
        let before = |builds: &[Build]| build_before(builds, "atp").map(|name| name.to_string());
        assert_eq!(before(&[build("1", 1, true)]), None);
        let switched = [
            build("3", 1, true),
            build("1", 1, false),
            build("2", 1, false),
        ];
        assert_eq!(before(&switched).as_deref(), Some("atp@2"));
        let gone_back = [build("1", 1, true), build("2", 1, false)];
        assert_eq!(
            before(&gone_back).as_deref(),
            Some("atp@2"),
            "and forth again"
        );
    }
}
