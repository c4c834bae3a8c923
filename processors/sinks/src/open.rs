//! From settings to a sink that can run.

use std::sync::Arc;
use std::time::Duration;

use conveyor_processors::store::StoreError;
use conveyor_sdk::Client;

use crate::document::Mapping;
#[cfg(any(feature = "mongodb", feature = "elasticsearch"))]
use crate::documents::Documents;
use crate::driver::{SinkConfig, SinkDriver};
use crate::settings::{SinkSettings, TargetSettings};
use crate::target::Target;

/// A sink with its target.
pub struct Sink {
    target: Arc<dyn Target>,
    config: SinkConfig,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Opens a sink; `error_topic` is where records go that can never be written, unless its own settings
/// say otherwise; `take_over`: own partitions even if a newer owner is known. A server that is away is
/// no error. To be called within a tokio runtime.
pub async fn open(
    name: &str,
    settings: &SinkSettings,
    error_topic: &str,
    take_over: bool,
) -> Result<Sink, StoreError> {
    let failed = |reason: String| StoreError::Failed {
        store: format!("sink {name}"),
        reason,
    };
    let target = settings
        .check()
        .map_err(|error| failed(error.to_string()))?;
    let target = open_target(name, target, settings, take_over).await?;
    let group = settings.group.as_ref().map_or(name, |group| group.as_str());
    let own_topic = settings.error_topic.as_ref();
    Ok(Sink {
        target,
        config: SinkConfig {
            name: name.to_owned(),
            group: group.to_owned(),
            topics: settings
                .topics
                .iter()
                .map(|t| t.as_str().to_owned())
                .collect(),
            error_topic: own_topic
                .map_or(error_topic, |topic| topic.as_str())
                .to_owned(),
            limits: settings.batch_limits(),
            backoff_first: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(10),
            stall_after: Duration::from_secs(30),
        },
    })
}

#[cfg_attr(
    not(all(feature = "mongodb", feature = "elasticsearch", feature = "s3")),
    allow(
        unused_variables,
        clippy::unused_async,
        reason = "a target that was left out of the build needs nothing"
    )
)]
async fn open_target(
    name: &str,
    target: TargetSettings,
    settings: &SinkSettings,
    take_over: bool,
) -> Result<Arc<dyn Target>, StoreError> {
    let mapping = Mapping::new(settings.decode, settings.document.clone());
    match target {
        #[cfg(feature = "mongodb")]
        TargetSettings::Mongodb(target) => {
            let writer = crate::mongodb::MongodbWriter::open(&target, mapping.is_keyed()).await?;
            Ok(Arc::new(Documents::new(writer, mapping)))
        }
        #[cfg(feature = "elasticsearch")]
        TargetSettings::Elasticsearch(target) => {
            let writer = crate::elasticsearch::ElasticsearchWriter::open(&target)?;
            Ok(Arc::new(Documents::new(writer, mapping)))
        }
        #[cfg(feature = "s3")]
        TargetSettings::S3(target) => Ok(Arc::new(crate::s3::S3Target::open(
            name,
            &target,
            settings.decode,
            take_over,
        )?)),
        #[allow(
            unreachable_patterns,
            reason = "only if a target was left out of the build"
        )]
        _ => Err(StoreError::Failed {
            store: format!("sink {name}"),
            reason: "this program was built without that target; build it with the cargo features \
                     mongodb, elasticsearch and s3"
                .to_owned(),
        }),
    }
}

impl Sink {
    /// Where it writes, for people, without secrets.
    pub fn describe(&self) -> String {
        self.target.describe()
    }

    /// What runs it.
    pub fn driver(self, client: Client) -> SinkDriver {
        SinkDriver::new(client, self.target, self.config)
    }
}
