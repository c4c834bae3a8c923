//! Decides: takes folders, metadata and settings apart and puts the plan together.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use conveyor_controller::{
    METADATA_TOPIC, QuotaEntity, QuotaKey, QuotaName, QuotaRate, topic_setting,
};
use conveyor_log::TopicPartition;
use conveyor_log::checkpoint::encode_uuid;
use conveyor_log::data_dir::IMPORT_FILE;
use uuid::Uuid;

use super::{
    LeftOut, Mode, Options, Plan, PlannedDirectory, PlannedPartition, PlannedTopic, Problem,
};
use crate::ImportError;
use crate::kraft::{self, KafkaMetadata, KafkaPartition, TOPIC_CONFIG};
use crate::source::{FolderKind, KafkaFolder, KafkaLogDir, MetaProperties};

/// Topics that only Kafka itself can use.
const KAFKA_ONLY: [(&str, &str); 2] = [
    (
        METADATA_TOPIC,
        "Kafka's metadata; what it says is taken over",
    ),
    ("__share_group_state", "share groups are not served"),
];

/// A partition's folder, wherever it lies.
#[derive(Debug, Clone)]
struct Found {
    path: PathBuf,
    directory: usize,
    topic_id: Option<Uuid>,
    bytes: u64,
    done: bool,
}

/// Collects what a plan consists of.
struct Planner<'a> {
    options: &'a Options,
    sources: Vec<KafkaLogDir>,
    found: BTreeMap<(String, i32), Found>,
    left_out: Vec<LeftOut>,
    problems: Vec<Problem>,
}

/// Looks at everything and decides; changes nothing.
pub(super) fn make(options: &Options) -> Result<Plan, ImportError> {
    let sources: Result<Vec<_>, _> = options
        .kafka_log_dirs
        .iter()
        .map(|path| KafkaLogDir::read(path))
        .collect();
    let mut planner = Planner {
        options,
        sources: sources?,
        found: BTreeMap::new(),
        left_out: Vec::new(),
        problems: Vec::new(),
    };
    let identity = planner.check_sources();
    planner.check_targets()?;
    planner.find_folders()?;
    let metadata = planner.metadata();
    let (cluster_id, node_id) = identity.unwrap_or_default();
    let topics = match &metadata {
        Some(metadata) => planner.topics_by_metadata(metadata, node_id),
        None => planner.topics_by_folders(),
    };
    let quotas = metadata
        .as_ref()
        .map_or_else(Vec::new, |m| planner.quotas(m));
    let bytes = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.bytes)
        .sum();
    planner.check_room(bytes);
    Ok(Plan {
        cluster_id,
        node_id,
        mode: options.mode,
        directories: planner.directories(),
        topics,
        bytes,
        left_out: planner.left_out,
        problems: planner.problems,
        next_producer_id: metadata.map_or(0, |metadata| metadata.next_producer_id),
        quotas,
        sources: planner.sources,
        recover: options.recover,
    })
}

impl Planner<'_> {
    fn problem(&mut self, place: &dyn Display, what: impl Into<String>, remedy: &str) {
        self.problems.push(Problem::new(&place, what, remedy));
    }

    /// Whether the directories can be used; cluster and node that they belong to.
    fn check_sources(&mut self) -> Option<(String, i32)> {
        let mut identity: Option<(String, i32)> = None;
        let mut problems = Vec::new();
        for source in &self.sources {
            let place = source.path.display();
            let Some(meta) = &source.meta else {
                problems.push(Problem::new(
                    &place,
                    "there is no meta.properties: this is no log directory of Kafka's",
                    "name the directories of its setting log.dirs",
                ));
                continue;
            };
            let own = (meta.cluster_id.clone(), meta.node_id);
            if identity.get_or_insert_with(|| own.clone()) != &own {
                let what = format!(
                    "it belongs to node {} of cluster {}",
                    meta.node_id, meta.cluster_id
                );
                problems.push(Problem::new(&place, what, "import one broker at a time"));
            }
            problems.extend(source_problems(source, meta, self.options.recover));
        }
        self.problems.extend(problems);
        identity
    }

    /// Whether our directories are empty, or belong to an import that was interrupted.
    fn check_targets(&mut self) -> Result<(), ImportError> {
        let (targets, sources) = (&self.options.data_dirs, &self.options.kafka_log_dirs);
        if targets.len() != 1 && targets.len() != sources.len() {
            let what = format!(
                "{} data directories for {} of Kafka's",
                targets.len(),
                sources.len()
            );
            self.problem(
                &"--data-dir",
                what,
                "give one, or one for each --kafka-log-dir",
            );
        }
        for target in targets {
            if sources.iter().any(|source| same_place(source, target)) {
                let remedy =
                    "give an empty directory; with --move on the same volume it costs nothing";
                self.problem(&target.display(), "it is Kafka's own directory", remedy);
            } else if !is_empty(target)? && !target.join(IMPORT_FILE).exists() {
                let remedy = "give an empty directory, or one that does not exist yet";
                self.problem(&target.display(), "it is not empty", remedy);
            }
        }
        Ok(())
    }

    fn target_of(&self, directory: usize) -> &PathBuf {
        let targets = &self.options.data_dirs;
        targets.get(directory).unwrap_or(&targets[0])
    }

    fn directories(&self) -> Vec<PlannedDirectory> {
        let sources = self.sources.iter().enumerate();
        let planned = sources.map(|(index, source)| PlannedDirectory {
            kafka_log_dir: source.path.clone(),
            data_dir: self.target_of(index).clone(),
            clean: source.is_clean,
        });
        planned.collect()
    }

    /// Sorts the folders of all directories, and those that a former run has brought over.
    fn find_folders(&mut self) -> Result<(), ImportError> {
        let mut places: Vec<(usize, KafkaLogDir, bool)> = Vec::new();
        for (index, path) in self.options.kafka_log_dirs.iter().enumerate() {
            let target = self.target_of(index).clone();
            // What has arrived counts, not what is still in its old place.
            if target.join(IMPORT_FILE).exists() && !places.iter().any(|(_, d, _)| d.path == target)
            {
                places.push((index, KafkaLogDir::read(&target)?, true));
            }
            places.push((index, KafkaLogDir::read(path)?, false));
        }
        places.sort_by_key(|(_, _, done)| !done);
        for (index, directory, done) in places {
            for folder in directory.folders {
                let path = directory.path.join(&folder.name);
                self.take_folder(index, path, folder, done);
            }
        }
        Ok(())
    }

    fn take_folder(&mut self, directory: usize, path: PathBuf, folder: KafkaFolder, done: bool) {
        let shown = path.display().to_string();
        let mut leave = |why: &str| {
            self.left_out.push(LeftOut {
                what: shown.clone(),
                why: why.to_owned(),
            });
        };
        match folder.kind {
            FolderKind::Partition {
                partition,
                topic_id,
            } => {
                let name = partition.topic.to_string();
                if let Some((_, why)) = KAFKA_ONLY.iter().find(|(topic, _)| *topic == name) {
                    if !done && name != METADATA_TOPIC {
                        leave(why);
                    }
                    return;
                }
                if self.options.exclude.contains(&name) {
                    leave("its topic is left out on request");
                    return;
                }
                let found = Found {
                    path,
                    directory,
                    topic_id,
                    bytes: folder.bytes,
                    done,
                };
                if !folder.swaps.is_empty() {
                    let what = format!("compaction was interrupted ({})", folder.swaps.join(", "));
                    self.problem(&shown, what, "start Kafka once more and stop it in order");
                } else if let Some(other) = self.found.get(&(name.clone(), partition.partition)) {
                    if !other.done {
                        let what = format!("it also lies in {}", other.path.display());
                        self.problem(
                            &shown,
                            what,
                            "find out which is the right one, remove the other",
                        );
                    }
                } else {
                    self.found.insert((name, partition.partition), found);
                }
            }
            FolderKind::Future => {
                let remedy = "start Kafka and let it finish moving the replica";
                self.problem(
                    &shown,
                    "a replica is on its way between directories",
                    remedy,
                );
            }
            FolderKind::Deleted => leave("Kafka has deleted this partition"),
            FolderKind::Stray => leave("Kafka has found this replica not to belong to it"),
            FolderKind::Other => leave("this is no folder of a partition"),
        }
    }

    /// Kafka's metadata, if it is in any of the directories.
    fn metadata(&mut self) -> Option<KafkaMetadata> {
        let named = self.options.kafka_metadata_dir.iter();
        let candidates = named.chain(&self.options.kafka_log_dirs);
        let folder = candidates
            .flat_map(|path| [path.join(kraft::FOLDER), path.clone()])
            .find(|path| path.ends_with(kraft::FOLDER) && path.is_dir());
        let Some(folder) = folder else {
            self.left_out.push(LeftOut {
                what: "settings of topics, quotas".to_owned(),
                why: format!(
                    "there is no {} here: name the controller's directory by --kafka-metadata-dir to \
                     take them over",
                    kraft::FOLDER
                ),
            });
            return None;
        };
        match KafkaMetadata::read(&folder) {
            Ok(metadata) => Some(metadata),
            Err(error) => {
                let remedy = "start Kafka once more and stop it in order";
                self.problem(&folder.display(), error.to_string(), remedy);
                None
            }
        }
    }

    fn topics_by_metadata(&mut self, metadata: &KafkaMetadata, node_id: i32) -> Vec<PlannedTopic> {
        let mut topics = Vec::new();
        for (id, topic) in &metadata.topics {
            let name = &topic.name;
            let is_kafkas = KAFKA_ONLY.iter().any(|(kafkas, _)| kafkas == name);
            if is_kafkas || self.options.exclude.contains(name) {
                continue;
            }
            let mut partitions = Vec::new();
            for (&number, state) in &topic.partitions {
                let found = self.found.remove(&(name.clone(), number));
                if let Some(found) =
                    self.check_partition((name, number), *id, state, node_id, found)
                {
                    partitions.push(self.planned(name, number, state.leader_epoch + 1, found));
                }
            }
            let configs = metadata.configs.get(&(TOPIC_CONFIG, name.clone()));
            let configs = self.configs(name, configs);
            topics.push(planned_topic(name, *id, partitions, configs));
        }
        let unknown = std::mem::take(&mut self.found);
        self.left_out
            .extend(unknown.into_values().map(|found| LeftOut {
                what: found.path.display().to_string(),
                why: "Kafka's metadata does not know its topic any more".to_owned(),
            }));
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// The folder of a partition if it is the one that the metadata means.
    fn check_partition(
        &mut self,
        (topic, number): (&str, i32),
        id: Uuid,
        state: &KafkaPartition,
        node_id: i32,
        found: Option<Found>,
    ) -> Option<Found> {
        const EXCLUDE: &str = "import the broker that leads it, or leave the topic out (--exclude)";
        let place = format!("{topic}-{number}");
        let Some(found) = found else {
            let what = if state.replicas.contains(&node_id) {
                "its folder is in none of the directories".to_owned()
            } else {
                format!("it lies on other nodes ({:?})", state.replicas)
            };
            let remedy = "name all directories of log.dirs, or leave the topic out (--exclude)";
            self.problem(&place, what, remedy);
            return None;
        };
        match found.topic_id {
            Some(found) if found == id => {}
            Some(_) => {
                let remedy = "start Kafka once more: it moves the folder of the former topic away";
                let what = "its folder is of another topic of the same name";
                self.problem(&place, what, remedy);
                return None;
            }
            None => self.no_topic_id(&found.path),
        }
        // The last one to stop leads to the end, or is among the last that had every record. A
        // partition of one replica has no better one anywhere.
        let is_last = state.isr.contains(&node_id) || state.eligible.contains(&node_id);
        let leads = state.leader == node_id
            || (state.leader == -1 && is_last)
            || state.replicas == [node_id];
        if !leads {
            let what = format!(
                "node {} leads it: the replica here may miss records",
                state.leader
            );
            self.problem(&place, what, EXCLUDE);
            return None;
        }
        Some(found)
    }

    /// Topics as their folders tell, when there is no metadata.
    fn topics_by_folders(&mut self) -> Vec<PlannedTopic> {
        let mut by_name: BTreeMap<String, Vec<(i32, Found)>> = BTreeMap::new();
        for ((name, number), found) in std::mem::take(&mut self.found) {
            by_name.entry(name).or_default().push((number, found));
        }
        let mut topics = Vec::new();
        for (name, folders) in by_name {
            let id = folders.iter().find_map(|(_, found)| found.topic_id);
            for (_, found) in &folders {
                match (found.topic_id, id) {
                    (None, _) => self.no_topic_id(&found.path),
                    (own, id) if own != id => {
                        let what = "it is of another topic of the same name";
                        let remedy = "start Kafka once more: it moves the wrong one away";
                        self.problem(&found.path.display(), what, remedy);
                    }
                    _ => {}
                }
            }
            let missing = (0..)
                .zip(&folders)
                .find(|(expected, (number, _))| expected != number);
            if let Some((expected, _)) = missing {
                let what = "its folder is in none of the directories";
                let remedy = "name all directories of log.dirs, or leave the topic out (--exclude)";
                self.problem(&format!("{name}-{expected}"), what, remedy);
            }
            let partitions = folders
                .into_iter()
                // The term is known once the log has been read.
                .map(|(number, found)| self.planned(&name, number, 0, found))
                .collect();
            let configs = if name.starts_with("__") {
                BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())])
            } else {
                BTreeMap::new()
            };
            topics.push(planned_topic(
                &name,
                id.unwrap_or_default(),
                partitions,
                configs,
            ));
        }
        topics
    }

    fn no_topic_id(&mut self, folder: &Path) {
        let what = "there is no topic id (partition.metadata): the folder is of ZooKeeper's time";
        let remedy = "let a Kafka of 2.8 to 3.9 give topics their ids and move to KRaft first";
        self.problem(&folder.display(), what, remedy);
    }

    fn planned(
        &self,
        topic: &str,
        partition: i32,
        leader_epoch: i32,
        found: Found,
    ) -> PlannedPartition {
        let name = TopicPartition::new(topic, partition).folder_name();
        PlannedPartition {
            partition,
            target: self.target_of(found.directory).join(name),
            source: found.path,
            bytes: found.bytes,
            leader_epoch,
            end_offset: None,
            records: None,
            done: found.done,
            directory: found.directory,
            gaps_below: None,
        }
    }

    /// The settings that mean something here, in normal form.
    fn configs(
        &mut self,
        topic: &str,
        configs: Option<&BTreeMap<String, String>>,
    ) -> BTreeMap<String, String> {
        let mut kept = BTreeMap::new();
        for (name, value) in configs.into_iter().flatten() {
            if name == "remote.storage.enable" && value == "true" {
                let what = "its older records lie in tiered storage";
                let remedy =
                    "disable tiered storage for it first, or leave the topic out (--exclude)";
                self.problem(&topic, what, remedy);
                continue;
            }
            let normal = topic_setting(name).map(|setting| setting.normalize(value));
            let why = match normal {
                Some(Ok(value)) => {
                    kept.insert(name.clone(), value);
                    continue;
                }
                Some(Err(error)) => error.to_string(),
                None => "there is no such setting here".to_owned(),
            };
            self.left_out.push(LeftOut {
                what: format!("setting {name}={value} of topic {topic}"),
                why,
            });
        }
        kept
    }

    fn quotas(&mut self, metadata: &KafkaMetadata) -> Vec<(QuotaEntity, QuotaKey, QuotaRate)> {
        let mut kept = Vec::new();
        for (entity, limits) in &metadata.quotas {
            let known = quota_entity(entity);
            for (key, value) in limits {
                let parts = (
                    known.clone(),
                    QuotaKey::from_name(key),
                    QuotaRate::new(*value),
                );
                if let (Some(entity), Some(key), Some(rate)) = parts {
                    kept.push((entity, key, rate));
                } else {
                    self.left_out.push(LeftOut {
                        what: format!("quota {key}={value} of {entity:?}"),
                        why: "such limits are not kept here".to_owned(),
                    });
                }
            }
        }
        let mut leave = |count: u64, what: &str| {
            if count > 0 {
                self.left_out.push(LeftOut {
                    what: format!("{count} {what}"),
                    why: "they are not kept here".to_owned(),
                });
            }
        };
        leave(metadata.access_rules, "access rules");
        leave(metadata.credentials, "SCRAM credentials");
        let of_brokers = |((kind, _), configs): (&(i8, String), &BTreeMap<_, _>)| {
            (*kind != TOPIC_CONFIG).then_some(configs.len() as u64)
        };
        let dynamic = metadata.configs.iter().filter_map(of_brokers).sum();
        leave(
            dynamic,
            "dynamic settings of brokers, groups and client metrics",
        );
        kept
    }

    /// Whether a copy fits.
    fn check_room(&mut self, bytes: u64) {
        if self.options.mode != Mode::Copy {
            return;
        }
        let target = self.options.data_dirs[0].clone();
        let present = target.ancestors().find(|path| path.exists());
        let present = present.unwrap_or_else(|| Path::new("/")).to_owned();
        let Ok(stats) = rustix::fs::statvfs(&present) else {
            return;
        };
        let available = stats.f_bavail.saturating_mul(stats.f_frsize);
        if available < bytes {
            let what = format!("{bytes} bytes are to be copied, there is room for {available}");
            let remedy = "use --link or --move on the same volume, or another volume";
            self.problem(&target.display(), what, remedy);
        }
    }
}

fn source_problems(source: &KafkaLogDir, meta: &MetaProperties, recover: bool) -> Vec<Problem> {
    let place = source.path.display();
    let mut problems = Vec::new();
    if meta.version == 0 {
        problems.push(Problem::new(
            &place,
            "the broker still works with ZooKeeper (meta.properties version 0)",
            "move it to KRaft with Kafka 3.9 first",
        ));
    }
    if source.is_locked {
        let what = "a broker is running on it (.lock is held)";
        problems.push(Problem::new(&place, what, "stop it"));
    } else if !source.is_clean && !recover {
        problems.push(Problem::new(
            &place,
            "the broker did not stop in order (.kafka_cleanshutdown is missing)",
            "start Kafka and stop it in order, or let --recover cut what is torn at the end of its logs",
        ));
    }
    problems
}

fn planned_topic(
    name: &str,
    id: Uuid,
    partitions: Vec<PlannedPartition>,
    configs: BTreeMap<String, String>,
) -> PlannedTopic {
    PlannedTopic {
        name: name.to_owned(),
        topic_id: encode_uuid(id),
        partitions,
        configs,
        id,
    }
}

fn quota_entity(parts: &[(String, Option<String>)]) -> Option<QuotaEntity> {
    let mut entity = QuotaEntity::default();
    for (kind, name) in parts {
        let name = name.clone().map_or(QuotaName::Default, QuotaName::Named);
        match kind.as_str() {
            "user" => entity.user = Some(name),
            "client-id" => entity.client_id = Some(name),
            _ => return None,
        }
    }
    Some(entity)
}

fn same_place(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

fn is_empty(path: &Path) -> Result<bool, ImportError> {
    match std::fs::read_dir(path) {
        // A fresh volume has a folder of its own.
        Ok(mut entries) => {
            Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(ImportError::io("list", path)(error)),
    }
}
