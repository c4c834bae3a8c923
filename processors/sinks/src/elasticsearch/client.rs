//! Requests to the servers of one cluster: address, credentials, TLS, and what HTTP's answers mean.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use conveyor_processors::store::StoreError;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Response, StatusCode};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::settings::ElasticsearchSettings;

/// The longest that a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is told of an answer that nobody expects.
const TEXT_BYTES_MAX: usize = 500;

/// Sends requests.
#[derive(Debug)]
pub(super) struct Client {
    name: String,
    urls: Vec<String>,
    /// Which of them is asked.
    turn: AtomicUsize,
    http: reqwest::Client,
}

/// What a `_bulk` request came to, unless it has to be tried again.
#[derive(Debug)]
pub(super) enum Answered {
    /// An answer for each document.
    Bulk(Vec<u8>),
    /// The request was refused as a whole for what is in it.
    Refused(String),
}

impl Client {
    pub(super) fn new(settings: &ElasticsearchSettings) -> Result<Self, StoreError> {
        let shown: Vec<_> = settings.urls.iter().map(crate::Text::shown).collect();
        let name = format!("elasticsearch {}", shown.join(","));
        let failed = |reason: String| StoreError::Failed {
            store: name.clone(),
            reason,
        };
        let mut urls = Vec::with_capacity(settings.urls.len());
        for url in &settings.urls {
            let parsed = reqwest::Url::parse(url.as_str());
            let parsed = parsed
                .ok()
                .filter(|it| matches!(it.scheme(), "http" | "https"));
            let parsed = parsed.ok_or_else(|| {
                let shown = url.shown();
                failed(format!(
                    "elasticsearch.urls: {shown} is no http:// or https:// address"
                ))
            })?;
            urls.push(parsed.as_str().trim_end_matches('/').to_owned());
        }
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls(settings).map_err(failed)?)
            .default_headers(headers(settings).map_err(failed)?)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(Duration::from_millis(settings.request_timeout_ms))
            // A bulk request that is sent elsewhere would lose its body or its credentials.
            .redirect(Policy::none())
            .build()
            .map_err(|error| failed(told(&error)))?;
        Ok(Self {
            name,
            urls,
            turn: AtomicUsize::new(0),
            http,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn unavailable(&self, reason: String) -> StoreError {
        StoreError::Unavailable {
            store: self.name.clone(),
            reason,
        }
    }

    pub(super) fn failed(&self, reason: &str) -> StoreError {
        StoreError::Failed {
            store: self.name.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Looks who answers.
    pub(super) async fn greet(&self) -> Result<(), StoreError> {
        let response = self.send(|url| self.http.get(url)).await?;
        let status = response.status();
        let body = self.body(response).await?;
        if !status.is_success() {
            return Err(self.refusal(status, &body));
        }
        let greeting: Value = serde_json::from_slice(&body).unwrap_or_default();
        let version = &greeting["version"];
        let Some(number) = version["number"].as_str() else {
            let url = "elasticsearch.urls names something else than Elasticsearch or OpenSearch";
            return Err(self.failed(url));
        };
        let product = version["distribution"].as_str().unwrap_or("elasticsearch");
        let major = number
            .split('.')
            .next()
            .and_then(|it| it.parse::<u32>().ok());
        if product == "elasticsearch" && major.is_some_and(|major| major < 7) {
            return Err(self.failed(&format!(
                "it is Elasticsearch {number}, 7 or later is needed"
            )));
        }
        tracing::info!(store = self.name, product, number, "server found");
        Ok(())
    }

    /// One `_bulk` request.
    pub(super) async fn bulk(&self, body: String) -> Result<Answered, StoreError> {
        let request = |url: &str| {
            self.http
                .post(format!("{url}/_bulk"))
                .header(CONTENT_TYPE, "application/x-ndjson")
                .body(body.clone())
        };
        let response = self.send(request).await?;
        let status = response.status();
        let body = self.body(response).await?;
        match status {
            StatusCode::OK => Ok(Answered::Bulk(body)),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Ok(Answered::Refused(
                format!("status {status}: {}", text(&body)),
            )),
            status => Err(self.refusal(status, &body)),
        }
    }

    /// Sends to one server; one that cannot be reached is not asked next time.
    async fn send(&self, request: impl Fn(&str) -> RequestBuilder) -> Result<Response, StoreError> {
        let turn = self.turn.load(Ordering::Relaxed);
        let url = &self.urls[turn % self.urls.len()];
        request(url).send().await.map_err(|error| {
            self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
            self.unreachable(&error)
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> StoreError {
        let reason = told(error);
        if reason.contains("certificate") {
            let mend = "name who signed the server's certificate with elasticsearch.ca, and the \
                        server as the certificate does in elasticsearch.urls";
            return self.failed(&format!("{reason}: {mend}"));
        }
        if reason.contains("InvalidContentType") || reason.contains("corrupt message") {
            let mend = "the server does not speak TLS: write http:// in elasticsearch.urls";
            return self.failed(&format!("{reason}: {mend}"));
        }
        self.unavailable(format!("{reason}; are elasticsearch.urls right?"))
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, StoreError> {
        let body = response.bytes().await;
        let body = body.map_err(|error| self.unavailable(told(&error)))?;
        Ok(body.to_vec())
    }

    /// What an answer means that is no success.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> StoreError {
        let reason = format!("status {status}: {}", text(body));
        match status {
            StatusCode::UNAUTHORIZED => self.failed(&format!(
                "{reason}: mend user and password of elasticsearch, or its api_key"
            )),
            StatusCode::FORBIDDEN => self.failed(&format!(
                "{reason}: the user or key of elasticsearch must be allowed to write the index \
                 and to create it"
            )),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => self.unavailable(reason),
            status if status.is_server_error() => self.unavailable(reason),
            _ => self.failed(&format!("{reason}: mend elasticsearch.urls")),
        }
    }
}

/// The beginning of an answer.
fn text(body: &[u8]) -> String {
    let end = body.len().min(TEXT_BYTES_MAX);
    String::from_utf8_lossy(&body[..end]).into_owned()
}

/// An error with its causes, without the address, which may hold a password.
fn told(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in time"
    } else {
        "the request failed"
    };
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    let told = causes.map(ToString::to_string);
    let told: Vec<_> = std::iter::once(what.to_owned()).chain(told).collect();
    told.join(": ")
}

fn headers(settings: &ElasticsearchSettings) -> Result<HeaderMap, String> {
    let credentials = match (&settings.user, &settings.password, &settings.api_key) {
        (Some(user), Some(password), _) => {
            let pair = format!("{}:{}", user.as_str(), password.as_str());
            format!("Basic {}", STANDARD.encode(pair))
        }
        (_, _, Some(key)) => format!("ApiKey {}", key.as_str()),
        _ => return Ok(HeaderMap::new()),
    };
    let mut value = HeaderValue::from_str(&credentials)
        .map_err(|_| "elasticsearch.api_key holds what no header can".to_owned())?;
    value.set_sensitive(true);
    Ok([(AUTHORIZATION, value)].into_iter().collect())
}

fn tls(settings: &ElasticsearchSettings) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = &settings.ca {
        let unreadable =
            |reason: String| format!("elasticsearch.ca: {} cannot be read: {reason}", ca.as_str());
        let certificates = CertificateDer::pem_file_iter(ca.as_str())
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable(error.to_string()))?;
        roots.add_parsable_certificates(certificates);
        if roots.is_empty() {
            return Err(unreadable("it holds no certificate".to_owned()));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
