//! What `conveyor processors run --config FILE` runs, as people write it in TOML.
//!
//! Two steps: the text becomes a [`File`] (unknown keys and wrong values are refused with their
//! line), then a [`Plan`], in which every name has been looked up. Nothing is connected to here.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use conveyor_paklog::projection::NAMES;
use conveyor_processors::driver::DriverConfig;
use conveyor_processors::parked::Limits;
use conveyor_sinks::{SinkSettings, Text};
use conveyor_stores::StoreAddress;
use serde::de::{Deserialize, Deserializer, Error as _};
use toml::Spanned;

/// The whole file.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bootstrap: Option<Text>,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    stores: BTreeMap<String, StoreSection>,
    #[serde(default)]
    projections: BTreeMap<ProjectionName, ProjectionSection>,
    #[serde(default)]
    sinks: BTreeMap<String, Spanned<SinkSettings>>,
}

/// What holds for all that say nothing else.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Defaults {
    store: Option<Spanned<String>>,
    batch_records_max: Option<Spanned<usize>>,
    error_topic: Option<Text>,
    parked_keys_max: Option<NonZeroUsize>,
    parked_records_max: Option<NonZeroUsize>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreSection {
    address: Spanned<Text>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ProjectionSection {
    store: Option<Spanned<String>>,
    batch_records_max: Option<Spanned<usize>>,
    error_topic: Option<Text>,
    parked_keys_max: Option<NonZeroUsize>,
    parked_records_max: Option<NonZeroUsize>,
}

/// The name of a projection that there is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ProjectionName(&'static str);

impl<'de> Deserialize<'de> for ProjectionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = NAMES.into_iter().find(|known| *known == name);
        known.map(Self).ok_or_else(|| {
            let all = NAMES.join(", ");
            D::Error::custom(format!(
                "there is no projection {name}, expected one of {all}"
            ))
        })
    }
}

/// What is to run, and where.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Nodes to ask first, if the file names them.
    pub(crate) bootstrap: Option<String>,
    /// By name.
    pub(crate) projections: BTreeMap<&'static str, PlannedProjection>,
    /// By name.
    pub(crate) sinks: BTreeMap<String, SinkSettings>,
    /// Where records go that a sink can never write, if it says nothing else.
    pub(crate) error_topic: String,
}

/// One projection, with the defaults filled in.
#[derive(Debug)]
pub(crate) struct PlannedProjection {
    /// Where it is kept.
    pub(crate) address: StoreAddress,
    pub(crate) batch_records_max: usize,
    pub(crate) error_topic: String,
    /// How much may wait in each partition.
    pub(crate) parked: Limits,
}

impl PlannedProjection {
    /// With nothing but its place said.
    pub(crate) fn plain(address: StoreAddress) -> Self {
        let standard = DriverConfig::default();
        Self {
            address,
            batch_records_max: standard.batch_records_max,
            error_topic: standard.error_topic,
            parked: standard.parked,
        }
    }

    /// How its driver works.
    pub(crate) fn driver_config(&self) -> DriverConfig {
        DriverConfig {
            batch_records_max: self.batch_records_max,
            error_topic: self.error_topic.clone(),
            parked: self.parked,
            ..DriverConfig::default()
        }
    }
}

/// The file cannot be used. Says where and why.
#[derive(Debug, thiserror::Error)]
#[error("{file}{at}: {reason}")]
pub(crate) struct ConfigError {
    file: String,
    at: Line,
    reason: String,
}

/// A line, from 1, or the file as a whole.
#[derive(Clone, Copy, Debug)]
struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// Reads a file and looks every name up.
pub(crate) fn load(path: &Path) -> Result<Plan, ConfigError> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Reading { file, text: &text }.plan(),
        Err(error) => Err(ConfigError {
            file,
            at: Line(None),
            reason: format!("cannot be read: {error}"),
        }),
    }
}

/// A sink is asked and told of by its name, as a projection is, so that no two can have the same.
fn check_sink_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!(
            "sinks.{name}: a sink's name is made of a-z, A-Z, 0-9, dots, _ and -"
        ));
    }
    if NAMES.contains(&name) {
        return Err(format!(
            "sinks.{name}: a projection is named so; choose another name for the sink"
        ));
    }
    Ok(())
}

/// A file being read: knows which line something stands in.
struct Reading<'t> {
    file: String,
    text: &'t str,
}

impl Reading<'_> {
    fn plan(&self) -> Result<Plan, ConfigError> {
        let file: File = toml::from_str(self.text).map_err(|error| ConfigError {
            file: self.file.clone(),
            at: Line(error.span().map(|span| self.line(span.start))),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        let mut addresses = BTreeMap::new();
        for (name, section) in &file.stores {
            let address: StoreAddress = section.address.as_ref().as_str().parse().map_err(
                |error: conveyor_stores::address::AddressError| {
                    let key = format!("stores.{name}.address: {error}");
                    self.refuse(Some(section.address.span().start), key)
                },
            )?;
            addresses.insert(name.as_str(), address);
        }
        let mut projections = BTreeMap::new();
        for (ProjectionName(name), section) in &file.projections {
            let planned = self.projection(name, section, &file.defaults, &addresses)?;
            projections.insert(*name, planned);
        }
        let mut sinks = BTreeMap::new();
        for (name, section) in file.sinks {
            let at = section.span().start;
            let settings = section.into_inner();
            check_sink_name(&name).map_err(|reason| self.refuse(Some(at), reason))?;
            settings
                .check()
                .map_err(|error| self.refuse(Some(at), format!("sinks.{name}.{error}")))?;
            sinks.insert(name, settings);
        }
        if projections.is_empty() && sinks.is_empty() {
            let reason = format!(
                "nothing to run: add a table [projections.NAME] for each projection, NAME one of \
                 {}, or a table [sinks.NAME] for each sink",
                NAMES.join(", ")
            );
            return Err(self.refuse(None, reason));
        }
        Ok(Plan {
            bootstrap: file.bootstrap.map(|text| text.as_str().to_owned()),
            projections,
            sinks,
            error_topic: file.defaults.error_topic.map_or_else(
                || DriverConfig::default().error_topic,
                |text| text.as_str().to_owned(),
            ),
        })
    }

    fn projection(
        &self,
        name: &str,
        section: &ProjectionSection,
        defaults: &Defaults,
        addresses: &BTreeMap<&str, StoreAddress>,
    ) -> Result<PlannedProjection, ConfigError> {
        let address = self.store_of(name, section, defaults, addresses)?;
        let standard = DriverConfig::default();
        let batch = section.batch_records_max.as_ref();
        let batch = batch.or(defaults.batch_records_max.as_ref());
        if let Some(batch) = batch.filter(|batch| *batch.as_ref() == 0) {
            let reason = "batch_records_max: must be 1 or more".to_owned();
            return Err(self.refuse(Some(batch.span().start), reason));
        }
        let error_topic = section
            .error_topic
            .as_ref()
            .or(defaults.error_topic.as_ref());
        let keys_max = section.parked_keys_max.or(defaults.parked_keys_max);
        let records_max = section.parked_records_max.or(defaults.parked_records_max);
        Ok(PlannedProjection {
            parked: Limits {
                keys_max: keys_max.map_or(standard.parked.keys_max, NonZeroUsize::get),
                records_max: records_max.map_or(standard.parked.records_max, NonZeroUsize::get),
            },
            address,
            batch_records_max: batch.map_or(standard.batch_records_max, |batch| *batch.as_ref()),
            error_topic: error_topic.map_or(standard.error_topic, |text| text.as_str().to_owned()),
        })
    }

    /// Its own store, the default one, or the only one.
    fn store_of(
        &self,
        name: &str,
        section: &ProjectionSection,
        defaults: &Defaults,
        addresses: &BTreeMap<&str, StoreAddress>,
    ) -> Result<StoreAddress, ConfigError> {
        let known = || addresses.keys().copied().collect::<Vec<_>>().join(", ");
        let Some(chosen) = section.store.as_ref().or(defaults.store.as_ref()) else {
            return match addresses.first_key_value() {
                Some((_, only)) if addresses.len() == 1 => Ok(only.clone()),
                Some(_) => Err(self.refuse(
                    None,
                    format!(
                        "projections.{name}.store: is missing: set it, or defaults.store, to one \
                         of {}",
                        known()
                    ),
                )),
                None => Err(self.refuse(
                    None,
                    format!(
                        "projections.{name} has no store: add [stores.main] with its address, \
                         such as \"sqlite:read-models.sqlite\""
                    ),
                )),
            };
        };
        let found = addresses.get(chosen.as_ref().as_str());
        let address = found.ok_or_else(|| {
            let reason = format!(
                "projections.{name}.store: there is no store {}, expected one of {}",
                chosen.as_ref(),
                known()
            );
            self.refuse(Some(chosen.span().start), reason)
        })?;
        Ok(address.clone())
    }

    fn refuse(&self, at: Option<usize>, reason: String) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            at: Line(at.map(|at| self.line(at))),
            reason,
        }
    }

    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Plan, ConfigError> {
        let file = "processors.toml".to_owned();
        Reading { file, text }.plan()
    }

    fn refused(text: &str) -> String {
        plan(text).unwrap_err().to_string()
    }

    #[test]
    fn defaults_fill_in_what_a_projection_leaves_out() {
        let plan = plan(
            "bootstrap = 'h:1'\n\
             [defaults]\nstore = 'main'\nbatch_records_max = 7\n\
             [stores]\nmain.address = 'sqlite:a'\ncache.address = 'redis://:secret@h'\n\
             [projections.atp]\nstore = 'cache'\nerror_topic = 'bad'\nparked_keys_max = 3\n\
             [projections.wave_progress]\n",
        )
        .unwrap();
        let (atp, waves) = (&plan.projections["atp"], &plan.projections["wave_progress"]);
        assert_eq!(plan.bootstrap.as_deref(), Some("h:1"));
        assert_eq!(atp.address.to_string(), "redis://:***@h");
        assert_eq!((atp.batch_records_max, &*atp.error_topic), (7, "bad"));
        let limits = |planned: &PlannedProjection| planned.driver_config().parked;
        let standard = Limits::default();
        assert_eq!(limits(waves), standard);
        assert_eq!(
            (limits(atp).keys_max, limits(atp).records_max),
            (3, standard.records_max)
        );
        assert_eq!(waves.address.to_string(), "sqlite:a");
        assert_eq!(waves.error_topic, "error-events");
        let only = super::Reading {
            file: String::new(),
            text: "stores.it.address = 'x'\nprojections.atp = {}",
        };
        assert_eq!(
            only.plan().unwrap().projections["atp"].address.to_string(),
            "x"
        );
    }

    #[test]
    fn mistakes_are_told_with_their_line_and_what_is_allowed() {
        let stores = "[stores]\nmain.address = 'sqlite:a'\ncache.address = 'redis://h'\n";
        let unknown = refused("[projections.atp]\nstoer = 'main'\n");
        assert!(unknown.starts_with("processors.toml:2: "), "{unknown}");
        assert!(unknown.contains("unknown field `stoer`") && unknown.contains("`store`"));

        let projection = refused("[projections.apt]\n");
        assert!(
            projection.starts_with("processors.toml:1: "),
            "{projection}"
        );
        assert!(projection.contains("no projection apt") && projection.contains("wave_progress"));

        let store = refused(&format!("{stores}[projections.atp]\nstore = 'man'\n"));
        assert!(
            store.starts_with("processors.toml:5: projections.atp.store"),
            "{store}"
        );
        assert!(store.ends_with("expected one of cache, main"), "{store}");

        let which = refused(&format!("{stores}[projections.atp]\n"));
        assert!(which.contains("set it, or defaults.store"), "{which}");

        let address = refused("stores.main.address = 'mysql://h'\nprojections.atp = {}");
        assert!(address.starts_with("processors.toml:1: stores.main.address: mysql://"));

        let kind = refused("[defaults]\nbatch_records_max = 'many'\n");
        assert!(kind.starts_with("processors.toml:2: ") && kind.contains("expected usize"));
        let zero = refused("stores.a.address = 'x'\n[projections.atp]\nbatch_records_max = 0\n");
        assert_eq!(
            zero,
            "processors.toml:3: batch_records_max: must be 1 or more"
        );

        let unset = refused("stores.a.address = 'redis://:${CONVEYOR_NOT_SET}@h'\n");
        assert!(unset.starts_with("processors.toml:1: "), "{unset}");
        assert!(unset.contains("no variable CONVEYOR_NOT_SET"), "{unset}");

        let sink = refused("\n[sinks.x]\ntopics = ['t']\n");
        assert!(
            sink.starts_with("processors.toml:2: sinks.x.target: there is none"),
            "{sink}"
        );
        let taken = refused("\n[sinks.atp]\ntopics = ['t']\n");
        assert!(
            taken.starts_with("processors.toml:2: sinks.atp: a projection is named so"),
            "{taken}"
        );
        let name = refused("[sinks.'a/b']\ntopics = ['t']\n");
        assert!(
            name.contains("sinks.a/b: a sink's name is made of"),
            "{name}"
        );
        let inside = refused("[sinks.x]\ntopics = ['t']\ns3 = { url = 's3://b', fromat = 'x' }");
        assert!(inside.starts_with("processors.toml:3: "), "{inside}");
        assert!(
            inside.contains("`fromat`") && inside.contains("`format`"),
            "{inside}"
        );

        assert!(refused("").contains("nothing to run"));
        assert!(refused("[stores").starts_with("processors.toml:1: "));
    }
}
