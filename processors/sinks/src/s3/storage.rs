//! Where the objects lie: a bucket, or a folder for trials and tests.
//!
//! Positions need a write that is refused if somebody else has written meanwhile. A bucket has it
//! (`If-Match`, `If-None-Match`); in a folder a lock on a file stands in for it, among processes of
//! one machine. A folder's files are not synced.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conveyor_processors::TopicPartition;
use conveyor_processors::store::StoreError;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, RetryConfig, UpdateVersion,
};

use super::position::{Held, Position};
use crate::settings::S3Settings;

/// The region, if none is given.
const REGION: &str = "us-east-1";

/// How long one call may go on with tries of its own, before the driver hears of it.
const RETRY_TIMEOUT: Duration = Duration::from_secs(3);

/// The objects under one prefix.
#[derive(Debug)]
pub(super) struct Storage {
    name: String,
    objects: Arc<dyn ObjectStore>,
    prefix: String,
    /// Where positions lie, if not among the objects.
    folder: Option<PathBuf>,
}

impl Storage {
    pub(super) fn open(settings: &S3Settings) -> Result<Self, StoreError> {
        let name = format!("s3 {}", settings.url.shown());
        let failed = |reason: String| StoreError::Failed {
            store: name.clone(),
            reason,
        };
        let url = settings.url.as_str();
        if let Some(folder) = url.strip_prefix("file://") {
            let folder = PathBuf::from(folder);
            std::fs::create_dir_all(&folder)
                .map_err(|error| failed(format!("s3.url: the folder cannot be made: {error}")))?;
            let objects = LocalFileSystem::new_with_prefix(&folder);
            let objects = objects.map_err(|error| failed(format!("s3.url: {error}")))?;
            return Ok(Self {
                name,
                objects: Arc::new(objects),
                prefix: String::new(),
                folder: Some(folder),
            });
        }
        let (bucket, prefix) = bucket_of(url);
        if bucket.is_empty() {
            return Err(failed(
                "s3.url names no bucket: s3://BUCKET/PREFIX".to_owned(),
            ));
        }
        let objects = bucket_builder(settings, bucket).map_err(failed)?.build();
        let objects = objects.map_err(|error| failed(format!("s3 cannot be set up: {error}")))?;
        Ok(Self {
            objects: Arc::new(objects),
            prefix: prefix.to_owned(),
            folder: None,
            name,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn failed(&self, reason: &str) -> StoreError {
        StoreError::Failed {
            store: self.name.clone(),
            reason: reason.to_owned(),
        }
    }

    fn path(&self, name: &str) -> Path {
        match self.prefix.as_str() {
            "" => Path::from(name),
            prefix => Path::from(format!("{prefix}/{name}")),
        }
    }

    /// Looks whether it is there and may be read.
    pub(super) async fn look(&self) -> Result<(), StoreError> {
        // A name that nobody has: told apart from a bucket that nobody has.
        match self.objects.get(&self.path("_conveyor/none")).await {
            Err(error) if is_missing_object(&error) => Ok(()),
            Ok(_) => Ok(()),
            Err(error) => Err(self.sort(&error)),
        }
    }

    /// Writes an object, over one of the same name.
    pub(super) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let put = self.objects.put(&self.path(name), bytes.into()).await;
        put.map(drop).map_err(|error| self.sort(&error))
    }

    /// Where a partition stands; `None`: nowhere.
    pub(super) async fn read_position(
        &self,
        partition: &TopicPartition,
    ) -> Result<Option<Held>, StoreError> {
        let name = Position::name(partition);
        if let Some(folder) = &self.folder {
            let file = folder.join(name);
            let text = blocking(move || match std::fs::read_to_string(file) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            });
            let text = text.await.map_err(|error| self.failed(&error))?;
            return text
                .filter(|text| !text.is_empty())
                .map(|text| self.held(text.as_bytes(), text.clone()))
                .transpose();
        }
        let found = match self.objects.get(&self.path(&name)).await {
            Ok(found) => found,
            Err(error) if is_missing_object(&error) => return Ok(None),
            Err(error) => return Err(self.sort(&error)),
        };
        let version = found.meta.e_tag.clone().ok_or_else(|| {
            self.failed("it gives objects no ETag: positions cannot be written safely there")
        })?;
        let bytes = found.bytes().await.map_err(|error| self.sort(&error))?;
        self.held(&bytes, version).map(Some)
    }

    fn held(&self, bytes: &[u8], version: String) -> Result<Held, StoreError> {
        let position = serde_json::from_slice(bytes).map_err(|error| {
            self.failed(&format!(
                "a position under _conveyor/ is not understood: {error}"
            ))
        })?;
        Ok(Held { position, version })
    }

    /// Writes a position over the one that was found; `None`: it is another one by now.
    pub(super) async fn swap(
        &self,
        partition: &TopicPartition,
        found: Option<&Held>,
        position: Position,
    ) -> Result<Option<Held>, StoreError> {
        let name = Position::name(partition);
        let text = serde_json::to_string(&position).map_err(|e| self.failed(&e.to_string()))?;
        if let Some(folder) = &self.folder {
            let (file, found) = (folder.join(name), found.map(|held| held.version.clone()));
            let version = text.clone();
            let swapped = blocking(move || swap_file(&file, found.as_deref(), &text)).await;
            let swapped = swapped.map_err(|error| self.failed(&error))?;
            return Ok(swapped.then_some(Held { position, version }));
        }
        let mode = found.map_or(PutMode::Create, |held| {
            PutMode::Update(UpdateVersion {
                e_tag: Some(held.version.clone()),
                version: None,
            })
        });
        let options = PutOptions::from(mode);
        let path = self.path(&name);
        match self.objects.put_opts(&path, text.into(), options).await {
            Ok(put) => match put.e_tag {
                Some(version) => Ok(Some(Held { position, version })),
                None => Err(self.failed("it gives objects no ETag")),
            },
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
            Err(Error::NotImplemented { .. }) => Err(self
                .failed("it has no conditional writes: positions cannot be written safely there")),
            Err(error) => Err(self.sort(&error)),
        }
    }

    /// Sorts errors: those that time mends, and the others with the setting that mends them.
    fn sort(&self, error: &Error) -> StoreError {
        let reason = told(error);
        let failed = |mend: &str| self.failed(&format!("{reason}: {mend}"));
        if reason.contains("NoSuchBucket") {
            return failed("there is no such bucket: mend s3.url, or create it");
        }
        if reason.contains("certificate") {
            return failed("name who signed the server's certificate with s3.ca");
        }
        if reason.contains("InvalidContentType") || reason.contains("corrupt message") {
            return failed("the server does not speak TLS: write http:// in s3.endpoint");
        }
        match error {
            Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => failed(
                "mend s3.access_key_id and s3.secret_access_key; they must be allowed to read and \
                 write the objects under s3.url",
            ),
            Error::InvalidPath { .. } | Error::NotSupported { .. } => failed("mend s3.url"),
            Error::NotFound { .. } => failed("mend s3.url"),
            _ => StoreError::Unavailable {
                store: self.name.clone(),
                reason: format!("{reason}; are s3.url and s3.endpoint right?"),
            },
        }
    }
}

/// `s3://BUCKET/PREFIX` in two.
fn bucket_of(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("s3://").unwrap_or(url);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    (bucket, prefix.trim_matches('/'))
}

fn bucket_builder(settings: &S3Settings, bucket: &str) -> Result<AmazonS3Builder, String> {
    // The HTTP client asks for the process's provider of cryptography. Whoever set one was first.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let endpoint = settings.endpoint.as_ref().map(crate::Text::as_str);
    let mut client = ClientOptions::new()
        .with_timeout(Duration::from_millis(settings.request_timeout_ms))
        .with_connect_timeout(Duration::from_secs(5))
        .with_allow_http(endpoint.is_some_and(|it| it.starts_with("http://")));
    if let Some(ca) = &settings.ca {
        let unreadable =
            |reason: String| format!("s3.ca: {} cannot be read: {reason}", ca.as_str());
        let pem = std::fs::read(ca.as_str()).map_err(|error| unreadable(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem);
        for certificate in certificates.map_err(|error| unreadable(error.to_string()))? {
            client = client.with_root_certificate(certificate);
        }
    }
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 3,
        retry_timeout: RETRY_TIMEOUT,
    };
    let region = settings.region.as_ref().map_or(REGION, |it| it.as_str());
    // Credentials that are not given are those of the machine, as Amazon's own tools find them.
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_client_options(client)
        .with_retry(retry);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let (Some(id), Some(secret)) = (&settings.access_key_id, &settings.secret_access_key) {
        builder = builder
            .with_access_key_id(id.as_str())
            .with_secret_access_key(secret.as_str());
    }
    if let Some(token) = &settings.session_token {
        builder = builder.with_token(token.as_str());
    }
    Ok(builder)
}

/// Whether the bucket is there and the object is not.
fn is_missing_object(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && !told(error).contains("NoSuchBucket")
}

/// An error with its causes.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| error.to_string())?;
    done.map_err(|error| format!("s3.url: {error}"))
}

/// Writes a file if it still holds what was found; whether it did.
fn swap_file(file: &std::path::Path, found: Option<&str>, text: &str) -> std::io::Result<bool> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let lock = std::fs::File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(file.with_extension("lock"))?;
    lock.lock()?;
    // Written as a whole by renaming; the lock says whose turn it is.
    let mut now = String::new();
    match std::fs::File::open(file) {
        Ok(mut file) => drop(file.read_to_string(&mut now)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if now != found.unwrap_or_default() {
        return Ok(false);
    }
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, file)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_bucket_and_a_prefix() {
        assert_eq!(bucket_of("s3://b"), ("b", ""));
        assert_eq!(bucket_of("s3://b/a/c/"), ("b", "a/c"));
    }

    #[test]
    fn a_file_is_written_only_over_what_was_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x/position.json");
        assert!(swap_file(&file, None, "1").unwrap());
        assert!(!swap_file(&file, None, "2").unwrap());
        assert!(swap_file(&file, Some("1"), "2").unwrap());
        assert!(!swap_file(&file, Some("1"), "3").unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "2");
    }
}
