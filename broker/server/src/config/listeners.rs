//! The Kafka listeners, from Kafka's three settings: `listeners`, `advertised.listeners` and
//! `listener.security.protocol.map`.
//!
//! A listener has a name. Clients that come by it are told the address that is advertised for that
//! name, so that one node can serve `kafka:29092` inside a container network and `localhost:9092`
//! outside at the same time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ConfigError;

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const PROTOCOLS: &str = "listener.security.protocol.map";

/// A listener for Kafka's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaListener {
    /// Its name, in capitals.
    pub name: String,
    /// The host to bind to: an address, a name all of whose addresses are bound, or empty for all
    /// interfaces.
    pub host: String,
    /// The port to bind to; 0 for any free one.
    pub port: u16,
    /// What clients of this listener are told.
    pub advertised: Advertised,
}

/// Where clients of a listener are told to find the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advertised {
    /// Here.
    At {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// At the host that the listener is bound to, at the port that it got.
    AsBound,
    /// At the address that the client has reached: the listener is bound to all interfaces.
    AsReached,
}

impl KafkaListener {
    /// As in the setting, such as `PLAINTEXT://127.0.0.1:9092`.
    pub fn text(&self) -> String {
        format!("{}://{}:{}", self.name, in_url(&self.host), self.port)
    }
}

/// A host as it stands before `:port`: version 6 addresses in brackets.
pub(crate) fn in_url(host: &str) -> String {
    if host.contains(':') {
        return format!("[{host}]");
    }
    host.to_owned()
}

/// An end point as it stands in a setting.
struct EndPoint<'a> {
    name: String,
    host: &'a str,
    port: u16,
}

/// Reads the three settings.
pub(super) fn parse(
    listeners: &str,
    advertised: &str,
    protocols: &str,
) -> Result<Vec<KafkaListener>, ConfigError> {
    let bound = end_points(LISTENERS, listeners)?;
    let told = end_points(ADVERTISED, advertised)?;
    let protocols = protocol_map(protocols)?;
    for point in &told {
        if point.port == 0 {
            let reason = format!("{} has no port for clients to connect to", point.name);
            return Err(invalid(ADVERTISED, advertised, reason));
        }
        if is_wildcard(point.host) {
            let reason = format!(
                "{} cannot be reached at {:?}: give an address that clients can connect to",
                point.name, point.host
            );
            return Err(invalid(ADVERTISED, advertised, reason));
        }
        if !bound.iter().any(|listener| listener.name == point.name) {
            let reason = format!("{} is not in listeners ({listeners})", point.name);
            return Err(invalid(ADVERTISED, advertised, reason));
        }
    }
    let mut parsed = Vec::with_capacity(bound.len());
    for point in bound {
        served(&point.name, &protocols)?;
        let told = told.iter().find(|told| told.name == point.name);
        let advertised = match told {
            Some(told) => Advertised::At {
                host: told.host.to_owned(),
                port: told.port,
            },
            None if is_wildcard(point.host) => Advertised::AsReached,
            None => Advertised::AsBound,
        };
        parsed.push(KafkaListener {
            name: point.name,
            host: point.host.to_owned(),
            port: point.port,
            advertised,
        });
    }
    Ok(parsed)
}

fn invalid(name: &'static str, value: &str, reason: String) -> ConfigError {
    ConfigError::Invalid {
        name,
        value: value.to_owned(),
        reason,
    }
}

/// The end points of a setting, each name and each address once.
fn end_points<'a>(setting: &'static str, text: &'a str) -> Result<Vec<EndPoint<'a>>, ConfigError> {
    let mut points: Vec<EndPoint<'a>> = Vec::new();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let point = end_point(item).ok_or_else(|| {
            let reason = format!("{item:?} is not of the form NAME://host:port");
            invalid(setting, text, reason)
        })?;
        if points.iter().any(|other| other.name == point.name) {
            let reason = format!("{} stands there twice", point.name);
            return Err(invalid(setting, text, reason));
        }
        let same = |other: &&EndPoint<'_>| other.port == point.port && other.host == point.host;
        if let Some(other) = points.iter().find(same)
            && setting == LISTENERS
            && point.port != 0
        {
            let reason = format!("{} and {} have the same address", other.name, point.name);
            return Err(invalid(setting, text, reason));
        }
        points.push(point);
    }
    Ok(points)
}

fn end_point(text: &str) -> Option<EndPoint<'_>> {
    let (name, address) = text.split_once("://")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(inner) => {
            let inner = inner.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None if host.contains(':') => return None,
        None => host,
    };
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return None;
    }
    Some(EndPoint {
        name: name.to_ascii_uppercase(),
        host,
        port,
    })
}

/// Whether it stands for all interfaces.
fn is_wildcard(host: &str) -> bool {
    host.is_empty()
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_unspecified())
}

fn protocol_map(text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut protocols = BTreeMap::new();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let Some((name, protocol)) = item.split_once(':') else {
            let reason = format!("{item:?} is not of the form NAME:PROTOCOL");
            return Err(invalid(PROTOCOLS, text, reason));
        };
        let protocol = protocol.trim().to_ascii_uppercase();
        if !matches!(
            &*protocol,
            "PLAINTEXT" | "SSL" | "SASL_PLAINTEXT" | "SASL_SSL"
        ) {
            let reason =
                format!("{protocol} is none of PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL");
            return Err(invalid(PROTOCOLS, text, reason));
        }
        protocols.insert(name.trim().to_ascii_uppercase(), protocol);
    }
    Ok(protocols)
}

/// Refuses a listener whose way of securing connections is not there.
fn served(name: &str, protocols: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let reason = match protocols.get(name).map(String::as_str) {
        Some("PLAINTEXT") => return Ok(()),
        None if name == "PLAINTEXT" => return Ok(()),
        Some(protocol) => format!(
            "listener {name} has protocol {protocol}, which this broker does not serve yet: \
             use PLAINTEXT, on a network that you trust"
        ),
        None => format!("listener {name} has no protocol: add {name}:PLAINTEXT"),
    };
    Err(invalid(PROTOCOLS, &format_map(protocols), reason))
}

fn format_map(protocols: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = protocols
        .iter()
        .map(|(name, protocol)| format!("{name}:{protocol}"))
        .collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "PLAINTEXT:PLAINTEXT,SSL:SSL,INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT";

    fn at(host: &str, port: u16) -> Advertised {
        Advertised::At {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn each_listener_has_the_address_that_is_advertised_for_its_name() {
        let parsed = parse(
            "INSIDE://0.0.0.0:29092, outside://:9092",
            "OUTSIDE://localhost:9092,INSIDE://kafka:29092",
            MAP,
        )
        .unwrap();
        assert_eq!(parsed[0].name, "INSIDE");
        assert_eq!(parsed[0].advertised, at("kafka", 29092));
        assert_eq!(
            (parsed[1].name.as_str(), parsed[1].host.as_str()),
            ("OUTSIDE", "")
        );
        assert_eq!(parsed[1].advertised, at("localhost", 9092));
    }

    #[test]
    fn without_an_advertised_address_it_is_the_bound_or_the_reached_one() {
        let parsed = parse("PLAINTEXT://[::1]:0,INSIDE://[::]:9092", "", MAP).unwrap();
        assert_eq!(parsed[0].host, "::1");
        assert_eq!(parsed[0].text(), "PLAINTEXT://[::1]:0");
        assert_eq!(parsed[0].advertised, Advertised::AsBound);
        assert_eq!(parsed[1].advertised, Advertised::AsReached);
        assert_eq!(parse("", "", MAP).unwrap(), []);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (listeners, advertised, map, part) in [
            ("127.0.0.1:9092", "", MAP, "NAME://host:port"),
            ("PLAINTEXT://host", "", MAP, "NAME://host:port"),
            ("PLAINTEXT://::1:9092", "", MAP, "NAME://host:port"),
            ("PLAINTEXT://a:1,PLAINTEXT://b:2", "", MAP, "twice"),
            ("PLAINTEXT://a:1,INSIDE://a:1", "", MAP, "same address"),
            ("SSL://a:1", "", MAP, "does not serve yet"),
            ("OTHER://a:1", "", MAP, "no protocol"),
            ("PLAINTEXT://a:1", "", "PLAINTEXT", "NAME:PROTOCOL"),
            ("PLAINTEXT://a:1", "", "PLAINTEXT:TLS", "none of"),
            (
                "PLAINTEXT://a:1",
                "PLAINTEXT://0.0.0.0:1",
                MAP,
                "cannot be reached",
            ),
            ("PLAINTEXT://a:1", "PLAINTEXT://b:0", MAP, "no port"),
            ("PLAINTEXT://a:1", "INSIDE://b:1", MAP, "not in listeners"),
        ] {
            let error = parse(listeners, advertised, map).unwrap_err().to_string();
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }
}
