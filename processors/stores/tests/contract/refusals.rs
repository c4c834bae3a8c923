//! What is wrong outside, the address, the password, the certificate, the server, is told with the
//! setting that mends it; a server that is away is no fault.

use conveyor_processors::store::StoreError;
use conveyor_processors::{ColumnType, Declaration, Table};
use conveyor_stores::StoreAddress;

use crate::site::{open, run};

fn declaration() -> Declaration {
    let table = Table::new("t", &[("id", ColumnType::Text)]).column("x", ColumnType::Real);
    Declaration::new("p", 1).source("topic").table(table)
}

/// What opening and preparing a store comes to.
async fn prepare(url: &str) -> Result<(), StoreError> {
    let address: StoreAddress = url.parse().unwrap();
    address.open().await?.prepare(&declaration()).await
}

/// It is refused for good, and the message says all of that.
#[track_caller]
fn assert_refused(prepared: Result<(), StoreError>, said: &[&str]) {
    let error = prepared.expect_err("it is refused");
    assert!(!error.is_retriable(), "{error}");
    let message = error.to_string();
    for said in said {
        assert!(message.contains(said), "{message:?} does not say {said:?}");
    }
    assert!(
        !message.contains("hunter2"),
        "the password is in {message:?}"
    );
}

#[track_caller]
fn assert_away(prepared: Result<(), StoreError>) {
    let error = prepared.expect_err("nobody is there");
    assert!(error.is_retriable(), "{error}");
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::*;
    use conveyor_test_servers::postgres::{PgBouncer, Postgres, execute};
    use conveyor_test_servers::process::free_port;

    #[test]
    fn a_server_that_is_away_is_waited_for() {
        let mut server = Postgres::start(&["fsync=off"]);
        let url = server.url("postgres");
        server.stop();
        run(async {
            let store = open(&url).await;
            assert_away(store.prepare(&declaration()).await);
            server.start_again();
            store.prepare(&declaration()).await.unwrap();
        });
    }

    #[test]
    fn users_passwords_and_databases_are_named() {
        let server = Postgres::start_with_rules(
            "host all postgres 127.0.0.1/32 trust\n\
             host all secretive 127.0.0.1/32 scram-sha-256\n\
             host all reader 127.0.0.1/32 trust\n\
             hostssl all encrypted 127.0.0.1/32 trust\n",
            &["fsync=off"],
        );
        execute(
            &server.url("postgres"),
            "CREATE USER secretive PASSWORD 'hunter2'; CREATE USER reader; CREATE USER encrypted",
        );
        execute(
            &server.url("postgres"),
            "CREATE DATABASE own OWNER secretive",
        );
        let url = |user: &str, database: &str| {
            format!("postgres://{user}@127.0.0.1:{}/{database}", server.port)
        };
        run(async {
            prepare(&url("secretive:hunter2", "own")).await.unwrap();
            let wrong = prepare(&url("secretive:hunter22", "own")).await;
            assert_refused(
                wrong,
                &["password", "mend user and password in the address"],
            );
            let none = prepare(&url("secretive", "own")).await;
            assert_refused(none, &["wants a password"]);
            let missing = prepare(&url("postgres", "nowhere")).await;
            assert_refused(missing, &["nowhere", "create the database"]);
            let unknown = prepare(&url("stranger", "own")).await;
            assert_refused(unknown, &["stranger", "pg_hba.conf"]);
            let reader = prepare(&url("reader", "postgres")).await;
            assert_refused(reader, &["permission denied", "own the tables"]);
            let plain = prepare(&url("encrypted", "postgres")).await;
            assert_refused(plain, &["sslmode=require"]);
            let no_tls = prepare(&(url("postgres", "postgres") + "?sslmode=require")).await;
            assert_refused(no_tls, &["sslmode=disable"]);
            let no_file = url("postgres", "postgres") + "?sslmode=verify-full&sslrootcert=/no/ca";
            assert_refused(prepare(&no_file).await, &["sslrootcert=/no/ca"]);
            let mode = prepare(&(url("postgres", "postgres") + "?sslmode=maybe")).await;
            assert_refused(mode, &["sslmode=maybe"]);
            let nobody = format!("postgres://me@127.0.0.1:{}/x", free_port());
            assert_away(prepare(&nobody).await);
        });
    }

    #[test]
    fn tls_is_spoken_and_certificates_are_checked_as_asked() {
        let (server, authority) = Postgres::start_with_tls();
        let url = |host: &str, settings: &str| {
            let port = server.port;
            format!("postgres://postgres@{host}:{port}/postgres?{settings}")
        };
        let trusted = format!("sslrootcert={}", authority.display());
        run(async {
            let plain = prepare(&url("127.0.0.1", "sslmode=disable")).await;
            assert_refused(plain, &["sslmode=require"]);
            for settings in ["", "sslmode=require"] {
                prepare(&url("127.0.0.1", settings)).await.unwrap();
            }
            for mode in ["require", "verify-ca", "verify-full"] {
                let settings = format!("sslmode={mode}&{trusted}");
                prepare(&url("localhost", &settings)).await.unwrap();
            }
            // The certificate names localhost only.
            prepare(&url("127.0.0.1", &format!("sslmode=verify-ca&{trusted}")))
                .await
                .unwrap();
            let full = format!("sslmode=verify-full&{trusted}");
            let other = prepare(&url("127.0.0.1", &full)).await;
            assert_refused(other, &["not valid for name", "sslrootcert"]);
            let untrusted = prepare(&url("localhost", "sslmode=verify-full")).await;
            assert_refused(untrusted, &["sslrootcert"]);
        });
    }

    #[test]
    fn tables_that_somebody_changed_are_named() {
        let site = crate::server::postgres::site();
        run(async {
            let store = open(&site.url).await;
            execute(&site.url, "CREATE TABLE t (a int)");
            let taken = store.prepare(&declaration()).await;
            assert_refused(taken, &["public.t belongs to somebody else", "schema=NAME"]);
            execute(&site.url, "DROP TABLE t");
            store.prepare(&declaration()).await.unwrap();
            let elsewhere = format!("{}&schema=other", site.url);
            prepare(&elsewhere).await.unwrap();
            execute(&site.url, "UPDATE _conveyor_layout SET version = 7");
            let newer = store.prepare(&declaration()).await;
            assert_refused(newer, &["layout version 7", "schema=NAME"]);
            execute(&site.url, "DROP TABLE t");
            let declaration = declaration();
            let gone = store
                .read_table(&declaration, &declaration.tables()[0])
                .await;
            assert_refused(gone.map(|_| ()), &["somebody has changed its tables"]);
        });
    }

    #[test]
    fn a_pooler_without_its_server_is_waited_for() {
        let mut server = Postgres::start(&["fsync=off"]);
        let bouncer = PgBouncer::start(server.port);
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", bouncer.port);
        run(async {
            prepare(&url).await.unwrap();
            server.stop();
            assert_away(prepare(&url).await);
            server.start_again();
            let store = open(&url).await;
            crate::play::patient!(store.prepare(&declaration())).unwrap();
            let missing = format!("postgres://postgres@127.0.0.1:{}/nowhere", bouncer.port);
            assert_refused(prepare(&missing).await, &["nowhere", "create the database"]);
        });
    }
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use conveyor_test_servers::process::free_port;
    use conveyor_test_servers::redis::{Redis, cli};

    #[test]
    fn passwords_evictions_and_clusters_are_named() {
        let server = Redis::start(&["--requirepass", "hunter2"]);
        let at = |user: &str| format!("redis://{user}127.0.0.1:{}", server.port);
        run(async {
            prepare(&at(":hunter2@")).await.unwrap();
            let wrong = prepare(&at(":hunter22@")).await;
            assert_refused(wrong, &["mend user and password in the address"]);
            assert_refused(prepare(&at("")).await, &["mend user and password"]);
            let cluster = at(":hunter2@").replace("redis://", "redis+cluster://");
            assert_refused(prepare(&cluster).await, &["redis://"]);
            let settings = ["-a", "hunter2", "config", "set", "maxmemory", "100mb"];
            cli(server.port, &settings);
            cli(
                server.port,
                &[
                    "-a",
                    "hunter2",
                    "config",
                    "set",
                    "maxmemory-policy",
                    "allkeys-lru",
                ],
            );
            assert_refused(prepare(&at(":hunter2@")).await, &["noeviction"]);
            assert_away(prepare(&format!("redis://127.0.0.1:{}", free_port())).await);
            let sentinel = format!("redis+sentinel://127.0.0.1:{}/main", free_port());
            assert_away(prepare(&sentinel).await);
            assert_refused(prepare("redis://h?colour=red").await, &["colour"]);
        });
    }

    #[test]
    fn keys_that_somebody_else_writes_are_named() {
        let server = Redis::start(&[]);
        run(async {
            let store = open(&server.url()).await;
            store.prepare(&declaration()).await.unwrap();
            cli(server.port, &["set", "paklog:@p:positions", "mine"]);
            let declaration = declaration();
            let refused = store.positions(&declaration).await;
            assert_refused(refused.map(|_| ()), &["somebody else", "prefix=NAME"]);
        });
    }

    #[test]
    fn keys_of_the_first_layout_are_refused_and_a_build_beside_them_is_the_way_over() {
        let server = Redis::start(&[]);
        run(async {
            let old = "conveyor:{p}:@declaration";
            let noted = ["hset", old, "layout", "1", "version", "1", "tag", "1"];
            cli(server.port, &noted);
            let store = crate::site::open_builds(&server.url()).await;
            let said = [
                "layout version 1",
                "conveyor:{p}:",
                "`conveyor projection rebuild p`",
            ];
            assert_refused(store.prepare(&declaration()).await, &said);
            let build = conveyor_processors::BuildName::new("p", "2").unwrap();
            let beside = declaration().as_build(&build);
            store.prepare(&beside).await.unwrap();
            assert_refused(store.prepare(&declaration()).await, &said);
            store.switch(&build).await.unwrap();
            store.prepare(&declaration()).await.unwrap();
            let kept = cli(server.port, &["hget", old, "layout"]);
            assert_eq!(kept.trim(), "1", "old keys are left alone");
        });
    }

    #[test]
    fn a_full_server_pauses_and_writes_nothing() {
        let server = Redis::start(&[]);
        run(async {
            let store = open(&server.url()).await;
            let mut hand = crate::cases::Hand::new(&*store, declaration(), 0, 1).await;
            let table = std::sync::Arc::clone(&hand.declaration.tables()[0]);
            let key = conveyor_processors::RowKey::new("t", "a");
            let row = conveyor_processors::Row::new(&table, &key);
            let put = vec![conveyor_processors::Change::Put(row.clone())];
            cli(server.port, &["config", "set", "maxmemory", "1"]);
            let again = put.clone();
            let full = hand.transact(vec![key], move |_| {
                conveyor_processors::store::Outcome::Commit(again.clone())
            });
            assert_away(full.await.map(|_| ()));
            cli(server.port, &["config", "set", "maxmemory", "0"]);
            assert_eq!(
                store.read_table(&hand.declaration, &table).await.unwrap(),
                []
            );
            hand.write(put).await;
            assert_eq!(
                store.read_table(&hand.declaration, &table).await.unwrap(),
                [row]
            );
        });
    }
}

#[cfg(feature = "mongodb")]
mod mongodb {
    use super::*;
    use crate::server::mongodb::{site, standalone_site};
    use conveyor_test_servers::process::free_port;

    #[test]
    fn what_the_server_can_do_is_found_out_and_told() {
        run(async {
            let (with, without) = (site(), standalone_site());
            let with = open(&with.url).await;
            assert!(
                with.describe().ends_with("(with transactions)"),
                "{}",
                with.describe()
            );
            let without = open(&without.url).await;
            assert!(
                without.describe().contains("(without transactions"),
                "{}",
                without.describe()
            );
        });
    }

    #[test]
    fn addresses_and_servers_that_are_away_are_told_apart() {
        run(async {
            let wrong = prepare("mongodb://127.0.0.1:port/x").await;
            assert_refused(wrong, &["the address is not understood"]);
            let setting = prepare("mongodb://127.0.0.1/x?tls=perhaps").await;
            assert_refused(setting, &["the address is not understood"]);
            let away = format!(
                "mongodb://me:hunter2@127.0.0.1:{}/x?serverSelectionTimeoutMS=300",
                free_port()
            );
            assert_away(prepare(&away).await);
            let store = open(&away).await;
            let told = store.describe();
            assert!(
                told.contains("not reached yet") && !told.contains("hunter2"),
                "{told}"
            );
        });
    }
}
