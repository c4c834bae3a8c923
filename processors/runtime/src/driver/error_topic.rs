//! Publishes rejected records to the log, with an acknowledgement for each.

use std::sync::Arc;
use std::time::Duration;

use conveyor_sdk::{Client, Error as SdkError, Producer, ProducerConfig, ProducerRecord};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::rejected::{PublishError, Rejected, RejectedSink};

/// How long the last acknowledgements may take when the driver stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The topic of records that could not be applied.
#[derive(Debug)]
pub struct ErrorTopic {
    topic: Arc<str>,
    /// `None`: nothing is published.
    producer: Option<Producer>,
}

impl ErrorTopic {
    /// A producer of its own for this topic.
    pub fn new(client: &Client, topic: &str) -> Result<Self, SdkError> {
        // Rejected records are rare and somebody waits for them: no lingering.
        let config = ProducerConfig {
            linger_ms: 0,
            ..ProducerConfig::default()
        };
        Ok(Self {
            topic: topic.into(),
            producer: Some(Producer::new(client, config)?),
        })
    }

    /// One that takes everything and publishes nothing.
    pub fn silent() -> Self {
        Self {
            topic: "".into(),
            producer: None,
        }
    }

    /// Waits a little for the last acknowledgements.
    pub async fn close(&self) {
        if let Some(producer) = &self.producer
            && let Err(error) = producer.close(CLOSE_TIMEOUT).await
        {
            tracing::warn!(topic = %self.topic, %error, "error producer was not closed in order");
        }
    }

    fn record(&self, rejected: &Rejected) -> ProducerRecord {
        let mut record = ProducerRecord::new(Arc::clone(&self.topic));
        record.key.clone_from(&rejected.record.key);
        record.value.clone_from(&rejected.record.value);
        let header = |h: crate::record::Header| conveyor_sdk::producer::Header {
            key: h.key,
            value: h.value,
        };
        record.headers = rejected.headers().into_iter().map(header).collect();
        record
    }

    fn error(&self, count: usize, error: &SdkError) -> PublishError {
        PublishError {
            count,
            topic: self.topic.to_string(),
            reason: error.to_string(),
            retriable: error.is_retriable(),
        }
    }
}

impl RejectedSink for ErrorTopic {
    fn publish<'a>(&'a self, rejected: &'a [Rejected]) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            let Some(producer) = &self.producer else {
                return Ok(());
            };
            let mut reports = Vec::with_capacity(rejected.len());
            for one in rejected {
                let sent = producer.send(self.record(one)).await;
                reports.push(sent.map_err(|error| self.error(rejected.len(), &error))?);
            }
            for report in reports {
                report
                    .await
                    .map_err(|error| self.error(rejected.len(), &error))?;
            }
            Ok(())
        }
        .boxed()
    }
}
