//! The lists that tables declare, as readers of each store find them, by its own client.

use std::collections::BTreeMap;

use conveyor_processors::table::NamePart;
use conveyor_processors::{Builds, Declaration, Row, Store, Table, Value};

use crate::site::Site;

/// Members and scores, by the list's name.
pub(crate) type Listed = BTreeMap<String, Vec<(String, Option<i64>)>>;

/// What the lists must hold: what follows from the rows.
async fn expected(store: &dyn Store, declaration: &Declaration) -> Listed {
    let mut listed = Listed::new();
    for table in declaration.tables() {
        for row in store.read_table(declaration, table).await.unwrap() {
            for list in table.lists().iter().filter(|list| list.lists(row.values())) {
                let parts = list.pattern.parts().iter().map(|part| match part {
                    NamePart::Word(word) => word.clone(),
                    NamePart::Column(column) => text(&row, *column).replace(':', "%3A"),
                });
                let score = list.score.map(|score| match &row.values()[score] {
                    Value::Integer(number) | Value::Timestamp(number) => *number,
                    other => panic!("{other:?} is no score"),
                });
                let member = (text(&row, list.member), score);
                let name = parts.collect::<Vec<_>>().join(":");
                listed.entry(name).or_default().push(member);
            }
        }
    }
    for members in listed.values_mut() {
        members.sort_by(|left, right| (left.1, &left.0).cmp(&(right.1, &right.0)));
    }
    listed
}

fn text(row: &Row, column: usize) -> String {
    match &row.values()[column] {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        other => panic!("{other:?} has no name"),
    }
}

/// What is listed is what the rows say, and the store has it in the form that its readers use.
pub(crate) async fn assert_listed(site: &Site, store: &dyn Store, declaration: &Declaration) {
    let expected = expected(store, declaration).await;
    let scheme = site.url.split(':').next().unwrap();
    match scheme {
        #[cfg(feature = "redis")]
        "redis" | "redis+cluster" | "redis+sentinel" => {
            assert_eq!(redis::listed(&site.url, declaration).await, expected);
        }
        _ => assert_indexed(site, declaration).await,
    }
}

/// A store that searches has an index over just the rows of each list.
async fn assert_indexed(site: &Site, declaration: &Declaration) {
    for table in declaration.tables() {
        let found = indexes(&site.url, table).await;
        for list in table.lists() {
            let bound = list
                .at_most
                .map(|(column, bound)| (name(table, column), bound));
            let score = list.score.map(|score| name(table, score));
            let is_of_list = |index: &&String| {
                let last = list
                    .index_columns()
                    .into_iter()
                    .map(|column| name(table, column));
                last.into_iter().all(|column| index.contains(column))
                    && score.is_none_or(|_| index.contains("NOT NULL") || index.contains("$type"))
                    && bound.is_none_or(|(column, bound)| {
                        index.contains("<=")
                            && index.contains(column)
                            && index.contains(&bound.to_string())
                            || index.contains("$lte")
                    })
            };
            let described = list.describe(table);
            assert!(
                found.iter().any(|index| is_of_list(&index)),
                "{described}: {found:?}"
            );
        }
    }
}

fn name(table: &Table, column: usize) -> &'static str {
    table.columns()[column].name
}

/// All indexes of a table, as the store tells them.
async fn indexes(url: &str, table: &Table) -> Vec<String> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let file = rusqlite::Connection::open(path).unwrap();
        let sql =
            "SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql NOTNULL";
        let mut statement = file.prepare(sql).unwrap();
        let rows = statement.query_map([table.stored_name()], |row| row.get(0));
        return rows.unwrap().collect::<Result<_, _>>().unwrap();
    }
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres") {
        return postgres::indexes(url, table).await;
    }
    #[cfg(feature = "mongodb")]
    if url.starts_with("mongodb") {
        return mongodb::indexes(url, table).await;
    }
    panic!("{url} is no store of this build");
}

/// Nothing is left of a build that was dropped.
pub(crate) async fn assert_nothing_left(site: &Site, build: &conveyor_processors::BuildName) {
    #[cfg(feature = "redis")]
    if site.url.starts_with("redis") {
        let left = redis::keys_of(&site.url, build).await;
        assert_eq!(left, [""; 0], "of {build}");
    }
    let store: std::sync::Arc<dyn Builds> = site.open_builds().await;
    let builds = store.builds().await.unwrap();
    assert!(builds.iter().all(|known| known.tag != build.tag()));
}

#[cfg(feature = "postgres")]
mod postgres {
    use conveyor_processors::Table;
    use tokio_postgres::NoTls;

    pub(super) async fn indexes(url: &str, table: &Table) -> Vec<String> {
        let (base, schema) = match url.split_once("?schema=") {
            Some((base, schema)) => (base, schema),
            None => (url, "public"),
        };
        let (client, connection) = tokio_postgres::connect(base, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let sql = format!(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = '{schema}' AND tablename = '{}'",
            table.stored_name()
        );
        let rows = client.simple_query(&sql).await.unwrap();
        connection.abort();
        let rows = rows.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        rows.collect()
    }
}

#[cfg(feature = "mongodb")]
mod mongodb {
    use conveyor_processors::Table;
    use futures::TryStreamExt;
    use mongodb::Client;
    use mongodb::bson::Document;

    pub(super) async fn indexes(url: &str, table: &Table) -> Vec<String> {
        let client = Client::with_uri_str(url).await.unwrap();
        let database = client.default_database().unwrap();
        // The live build's documents are behind a view.
        let mut found = Vec::new();
        for name in database.list_collection_names().await.unwrap() {
            if name.starts_with(&format!("{}__", table.name())) {
                let collection = database.collection::<Document>(&name);
                let indexes = collection.list_indexes().await.unwrap();
                let indexes: Vec<_> = indexes.try_collect().await.unwrap();
                found.extend(indexes.iter().map(|index| format!("{index:?}")));
            }
        }
        found
    }
}

#[cfg(feature = "redis")]
mod redis {
    use conveyor_processors::{BuildName, Declaration};
    use conveyor_test_servers::redis::cli;
    use redis::aio::ConnectionLike;
    use redis::cluster::ClusterClient;
    use redis::{Client, Cmd, cmd};

    use super::Listed;

    /// A client that knows nothing of the store, and what all keys of a projection begin with.
    pub(super) struct Reader {
        connection: Box<dyn ConnectionLike + Send>,
        ports: Vec<u16>,
        space: String,
    }

    impl Reader {
        async fn new(url: &str, projection: &str) -> Self {
            let (base, prefix) = url.split_once("?prefix=").unwrap();
            let (scheme, rest) = base.split_once("://").unwrap();
            let port = |address: &str| address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
            let (mut space, mut ports) = (format!("{prefix}:"), Vec::new());
            let connection: Box<dyn ConnectionLike + Send> = match scheme {
                "redis+cluster" => {
                    space = format!("{{{projection}}}{space}");
                    let nodes = cli(port(rest), &["cluster", "nodes"]);
                    let address = |line: &str| {
                        let address = line.split_whitespace().nth(1)?;
                        address.split('@').next().map(port)
                    };
                    ports = nodes.lines().filter_map(address).collect();
                    let client = ClusterClient::new(vec![format!("redis://{rest}")]).unwrap();
                    Box::new(client.get_async_connection().await.unwrap())
                }
                "redis+sentinel" => {
                    let sentinel = port(rest.split('/').next().unwrap());
                    let master = ["sentinel", "get-master-addr-by-name", "main"];
                    let master = cli(sentinel, &master);
                    let address = master.trim().replace('\n', ":");
                    ports.push(port(&address));
                    single(&format!("redis://{address}")).await
                }
                _ => {
                    ports.extend(
                        rest.rsplit_once(':')
                            .and_then(|(_, port)| port.parse::<u16>().ok()),
                    );
                    single(base).await
                }
            };
            Self {
                connection,
                ports,
                space,
            }
        }

        async fn ask<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> T {
            let answer = self.connection.req_packed_command(command).await.unwrap();
            redis::from_redis_value(answer).unwrap()
        }
    }

    async fn single(url: &str) -> Box<dyn ConnectionLike + Send> {
        let client = Client::open(url).unwrap();
        Box::new(client.get_multiplexed_async_connection().await.unwrap())
    }

    /// All lists of a build.
    pub(super) async fn listed(url: &str, declaration: &Declaration) -> Listed {
        let mut reader = Reader::new(url, declaration.name()).await;
        let build = declaration.build().map(|build| format!("@{}", build.tag()));
        let build = build.unwrap_or_default();
        let own = format!("{}@{}:lists{build}", reader.space, declaration.name());
        let names: Vec<String> = reader.ask(cmd("SMEMBERS").arg(own)).await;
        let mut listed = Listed::new();
        for name in names {
            let (stem, rest) = name.split_at(name.find(':').unwrap_or(name.len()));
            let key = format!("{}{stem}{build}{rest}", reader.space);
            let kind: String = reader.ask(cmd("TYPE").arg(&key)).await;
            let members: Vec<(String, Option<i64>)> = if kind == "zset" {
                let range: Vec<(String, f64)> = reader
                    .ask(cmd("ZRANGE").arg(&key).arg(0).arg(-1).arg("WITHSCORES"))
                    .await;
                let scored = range.into_iter();
                scored
                    .map(|(member, score)| (member, Some(score as i64)))
                    .collect()
            } else {
                let mut members: Vec<String> = reader.ask(cmd("SMEMBERS").arg(&key)).await;
                members.sort();
                members.into_iter().map(|member| (member, None)).collect()
            };
            assert!(!members.is_empty(), "{key} is told and empty");
            listed.insert(name, members);
        }
        listed
    }

    /// The keys of a build that is not live. Empty for a server that is not of this machine.
    pub(super) async fn keys_of(url: &str, build: &BuildName) -> Vec<String> {
        let reader = Reader::new(url, build.projection()).await;
        let mut found = Vec::new();
        for port in &reader.ports {
            let pattern = format!("{}*@{}*", reader.space, build.tag());
            let keys = cli(*port, &["--scan", "--pattern", &pattern]);
            found.extend(
                keys.lines()
                    .filter(|key| !key.is_empty())
                    .map(str::to_owned),
            );
        }
        found
    }
}
