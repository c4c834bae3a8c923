//! The way to the servers: one of them, a cluster, or the master that sentinels name.
//!
//! | address | what it is |
//! |---|---|
//! | `redis://[USER:PASSWORD@]HOST[:PORT][/DB]` | one server |
//! | `redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT` | some nodes of a cluster |
//! | `redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/MASTER[/DB]` | some sentinels, and the master's name |
//!
//! `rediss` instead of `redis` asks for TLS. `?prefix=NAME` begins all keys (default `paklog`);
//! `sentinel_password` is for the sentinels themselves.

use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisConnectionInfo, RedisError,
    RedisResult, TlsMode,
};

/// What begins all keys, if the address does not say.
const PREFIX: &str = "paklog";

/// The same in layout 1.
const PREFIX_OF_LAYOUT_1: &str = "conveyor";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A big batch is one long command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The servers, and a connection to them while there is one.
pub(super) struct Link {
    route: Route,
    connection: Mutex<Option<Connection>>,
}

enum Route {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
}

#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What an address says.
pub(super) struct Address {
    route: Route,
    /// Begins all keys.
    pub(super) prefix: String,
    /// What began all keys of layout 1.
    pub(super) prefix_of_layout_1: String,
}

impl Address {
    /// Whether keys of one script must be in one hash slot.
    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self.route, Route::Cluster(_))
    }
}

impl Link {
    pub(super) fn new(address: Address) -> Self {
        Self {
            route: address.route,
            connection: Mutex::new(None),
        }
    }

    /// Sends a command; connects first if need be. After an error of the connection the next command
    /// connects anew.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let known = self.connection.lock().clone();
        let mut connection = if let Some(connection) = known {
            connection
        } else {
            let connection = self.route.connect().await?;
            *self.connection.lock() = Some(connection.clone());
            connection
        };
        let answer = match &mut connection {
            Connection::Single(connection) => command.query_async(connection).await,
            Connection::Cluster(connection) => command.query_async(connection).await,
        };
        if answer.as_ref().is_err_and(is_of_connection) {
            *self.connection.lock() = None;
        }
        answer
    }
}

/// Whether the connection is at fault, or leads to the wrong server (a master of yesterday).
fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "LOADING"))
}

impl Route {
    async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        Ok(match self {
            Self::Single(client) => Connection::Single(
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await?,
            ),
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
            Self::Sentinel(client) => {
                let mut client = client.lock().await;
                Connection::Single(client.get_async_connection_with_config(&config).await?)
            }
        })
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut prefix, mut sentinel_password) = (None, None);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decoded(value);
            match name {
                "prefix" if !value.is_empty() && !value.contains(['{', '}']) => {
                    prefix = Some(value);
                }
                "prefix" => return Err("prefix must be a name without braces".to_owned()),
                "sentinel_password" => sentinel_password = Some(value),
                other => {
                    return Err(format!(
                        "{other} is none of the address's parameters: prefix, sentinel_password"
                    ));
                }
            }
        }
        let (scheme, rest) = base.split_once("://").unwrap_or(("redis", base));
        let route = match scheme {
            "redis" | "rediss" => Client::open(base).map(|client| Route::Single(Box::new(client))),
            "redis+cluster" | "rediss+cluster" => cluster(scheme, rest),
            _ => sentinel(scheme, rest, sentinel_password)?,
        };
        let route = route.map_err(|error| format!("the address is not understood: {error}"))?;
        let prefix_or = |default: &str| prefix.clone().unwrap_or_else(|| default.to_owned());
        Ok(Self {
            route,
            prefix_of_layout_1: prefix_or(PREFIX_OF_LAYOUT_1),
            prefix: prefix_or(PREFIX),
        })
    }
}

fn plain_scheme(scheme: &str) -> &str {
    scheme.split('+').next().unwrap_or(scheme)
}

/// Hosts, with the user before each of them.
fn each_host<'u>(scheme: &'u str, authority: &'u str) -> impl Iterator<Item = String> + 'u {
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let scheme = plain_scheme(scheme);
    hosts
        .split(',')
        .map(move |host| format!("{scheme}://{user}{host}"))
}

fn cluster(scheme: &str, rest: &str) -> RedisResult<Route> {
    let authority = rest.trim_end_matches('/');
    let client = ClusterClient::builder(each_host(scheme, authority).collect::<Vec<_>>())
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(ANSWER_TIMEOUT)
        .build()?;
    Ok(Route::Cluster(Box::new(client)))
}

fn sentinel(
    scheme: &str,
    rest: &str,
    sentinel_password: Option<String>,
) -> Result<RedisResult<Route>, String> {
    let missing = || "name the master: redis+sentinel://HOST:26379,HOST:26379/MASTER".to_owned();
    let (authority, path) = rest.split_once('/').ok_or_else(missing)?;
    let (master, db) = path.split_once('/').unwrap_or((path, "0"));
    if master.is_empty() {
        return Err(missing());
    }
    let db: i64 = db
        .parse()
        .map_err(|_| format!("{db:?} is no number of a database"))?;
    let mut login = RedisConnectionInfo::default().set_db(db);
    let mut hosts = authority;
    if let Some((user, rest)) = authority.rsplit_once('@') {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        if !name.is_empty() {
            login = login.set_username(decoded(name));
        }
        login = login.set_password(decoded(password));
        hosts = rest;
    }
    let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(login);
    if scheme.starts_with("rediss") {
        node = node.set_tls_mode(TlsMode::Secure);
    }
    let own = sentinel_password.map_or_else(String::new, |password| {
        let password =
            percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC);
        format!(":{password}@")
    });
    let sentinels: Vec<_> = each_host(scheme, &format!("{own}{hosts}")).collect();
    let client = SentinelClient::build(sentinels, master, Some(node), SentinelServerType::Master);
    Ok(client.map(|client| Route::Sentinel(Box::new(tokio::sync::Mutex::new(client)))))
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(url: &str) -> Result<(&'static str, String), String> {
        let address: Address = url.parse()?;
        let kind = match address.route {
            Route::Single(_) => "single",
            Route::Cluster(_) => "cluster",
            Route::Sentinel(_) => "sentinel",
        };
        Ok((kind, address.prefix))
    }

    #[test]
    fn addresses_of_servers_clusters_and_sentinels() {
        for (url, expected) in [
            ("redis://:pw@h:6379/2?prefix=demo", ("single", "demo")),
            ("rediss://h", ("single", "paklog")),
            ("redis+cluster://u:pw@a:7000,b:7001", ("cluster", "paklog")),
            (
                "redis+sentinel://:pw@a:26379,b:26379/main/1",
                ("sentinel", "paklog"),
            ),
        ] {
            let expected = (expected.0, expected.1.to_owned());
            assert_eq!(kind(url), Ok(expected), "{url}");
        }
        assert!(
            kind("redis+sentinel://a:26379")
                .unwrap_err()
                .contains("name the master")
        );
        assert!(kind("redis://h?colour=red").unwrap_err().contains("colour"));
        assert!(
            kind("redis://h:port")
                .unwrap_err()
                .contains("not understood")
        );
    }

    #[test]
    fn every_node_gets_the_user() {
        let hosts: Vec<_> = each_host("rediss+cluster", "u:p@a:1,b:2").collect();
        assert_eq!(hosts, ["rediss://u:p@a:1", "rediss://u:p@b:2"]);
    }
}
