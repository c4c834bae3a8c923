//! What an operator of a `PostgreSQL` database sees of a table kept apart by day, and does to it.

use std::sync::Arc;

use conveyor_processors::{
    BuildName, Change, ColumnType, Declaration, OwnerEpoch, Row, RowKey, Store, StoreError, Table,
};
use conveyor_test_servers::postgres::execute;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::cases::Hand;
use crate::server::postgres as server;
use crate::site::{Site, run};

fn moves() -> Declaration {
    let key = [("off", ColumnType::Integer), ("day", ColumnType::Integer)];
    let table = Table::new("moves", &key)
        .column("sku", ColumnType::Text)
        .by_day("day")
        .index("sku");
    Declaration::new("moves", 1).source("topic").table(table)
}

fn key(off: i64, day: i64) -> RowKey {
    RowKey::of("moves", [off.into(), day.into()])
}

async fn write(hand: &mut Hand<'_>, rows: &[(i64, i64)]) {
    let table = Arc::clone(&hand.declaration.tables()[0]);
    let put = |(off, day): &(i64, i64)| {
        let mut row = Row::new(&table, &key(*off, *day));
        row.set("sku", format!("SKU-{off}"));
        Change::Put(row)
    };
    hand.write(rows.iter().map(put).collect()).await;
}

async fn ask(site: &Site, sql: &str) -> Vec<String> {
    let base = site.url.split('?').next().unwrap();
    let (client, connection) = tokio_postgres::connect(base, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let rows = client.simple_query(sql).await.unwrap();
    connection.abort();
    let rows = rows.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    rows.collect()
}

async fn partitions(site: &Site, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE i.inhparent = '{table}'::regclass \
         ORDER BY 1"
    );
    ask(site, &sql).await
}

async fn days(store: &dyn Store, declaration: &Declaration) -> Vec<(i64, i64)> {
    let rows = store
        .read_table(declaration, &declaration.tables()[0])
        .await;
    let key = |row: &Row| (row.integer("off"), row.integer("day"));
    rows.unwrap().iter().map(key).collect()
}

#[test]
fn a_day_has_its_partition_and_what_no_date_names_has_one_too() {
    let site = server::site();
    run(async {
        let store = site.open().await;
        let mut hand = Hand::new(&*store, moves(), 0, 1).await;
        let rows = [
            (1, 20_261_123),
            (2, 20_261_124),
            (3, 20_000_101),
            (4, 20_991_231),
            (5, 19_991_231),
            (6, 21_000_101),
            (7, i64::MIN),
            (8, i64::MAX),
            (9, 0),
        ];
        for row in rows {
            write(&mut hand, &[row]).await;
        }
        assert_eq!(days(&*store, &moves()).await, rows);
        let named = |suffix: &str| format!("moves__1_{suffix}");
        let expected = [
            "after",
            "before",
            "d20000101",
            "d20261123",
            "d20261124",
            "d20991231",
        ];
        assert_eq!(partitions(&site, "moves").await, expected.map(named));
        let sql = "SELECT count(*) FROM moves__1_d20261123";
        assert_eq!(ask(&site, sql).await, ["1"]);
        let sql = "SELECT count(*) FROM moves__1_before";
        assert_eq!(ask(&site, sql).await, ["3"]);

        // Rows are changed and deleted where they are, in one batch over days old and new.
        write(
            &mut hand,
            &[(1, 20_261_123), (10, 20_261_125), (7, i64::MIN)],
        )
        .await;
        hand.write(vec![
            Change::Delete(key(2, 20_261_124)),
            Change::Delete(key(8, i64::MAX)),
        ])
        .await;
        assert_eq!(days(&*store, &moves()).await.len(), 8);
        assert_eq!(partitions(&site, "moves").await.len(), 7);
    });
}

#[test]
fn dropped_days_come_back_when_written_to_and_detached_ones_are_told() {
    let site = server::site();
    run(async {
        let store = site.open().await;
        let mut hand = Hand::new(&*store, moves(), 0, 1).await;
        write(&mut hand, &[(1, 20_261_123), (2, 20_261_124)]).await;
        execute(&site.url, "DROP TABLE moves__1_d20261123");
        assert_eq!(days(&*store, &moves()).await, [(2, 20_261_124)]);
        write(&mut hand, &[(3, 20_261_123)]).await;
        assert_eq!(
            days(&*store, &moves()).await,
            [(2, 20_261_124), (3, 20_261_123)]
        );

        execute(
            &site.url,
            "ALTER TABLE moves DETACH PARTITION moves__1_d20261124",
        );
        let table = Arc::clone(&hand.declaration.tables()[0]);
        let row = Row::new(&table, &key(4, 20_261_124));
        let told = hand
            .transact(vec![key(4, 20_261_124)], move |_| {
                conveyor_processors::store::Outcome::Commit(vec![Change::Put(row.clone())])
            })
            .await;
        let Err(StoreError::Schema { reason, .. }) = told else {
            panic!("{told:?}");
        };
        assert!(
            reason.contains("moves__1_d20261124") && reason.contains("attach"),
            "{reason}"
        );
    });
}

#[test]
fn partitions_go_with_their_build() {
    for site in [server::site(), server::bouncer_site()] {
        run(async {
            let store = site.open_builds().await;
            let build = BuildName::new("moves", "2").unwrap();
            let beside = moves().as_build(&build);
            let mut live = Hand::new(&*store, moves(), 0, 1).await;
            write(&mut live, &[(1, 20_261_123)]).await;
            let mut hand = Hand::new(&*store, beside.clone(), 0, 1).await;
            write(&mut hand, &[(1, 20_261_123), (2, 20_261_124)]).await;
            store.switch(&build).await.unwrap();
            assert_eq!(days(&*store, &moves()).await.len(), 2);

            // The live build makes its days under the name that it was built as.
            let mut live = Hand::new(&*store, moves(), 0, 9).await;
            write(&mut live, &[(3, 20_261_125)]).await;
            let first = BuildName::new("moves", "1").unwrap();
            let kept = moves().as_build(&first);
            assert_eq!(days(&*store, &kept).await.len(), 1);
            store.switch(&first).await.unwrap();
            let mut live = Hand::new(&*store, moves(), 0, 19).await;
            write(&mut live, &[(4, 20_261_125)]).await;
            store.switch(&build).await.unwrap();
            assert_eq!(days(&*store, &moves()).await.len(), 3);
            store.drop_build(&first).await.unwrap();
            let schema = site
                .url
                .split_once("?schema=")
                .map_or("public", |(_, schema)| schema);
            let sql = format!(
                "SELECT relname FROM pg_class WHERE relname LIKE 'moves\\_\\_%' AND relkind IN ('r', 'p') \
                 AND relnamespace = '{schema}'::regnamespace ORDER BY 1"
            );
            let named = |suffix: &str| format!("moves__2_{suffix}");
            let expected = ["after", "before", "d20261123", "d20261124", "d20261125"];
            assert_eq!(ask(&site, &sql).await, expected.map(named));
        });
    }
}

#[test]
fn instances_make_the_same_days_at_once() {
    for site in [server::site(), server::bouncer_site()] {
        run(async {
            let first = site.open().await;
            first.prepare(&moves()).await.unwrap();
            let writers: Vec<_> = (0..4)
                .map(|partition| {
                    let url = site.url.clone();
                    tokio::spawn(async move {
                        let store = crate::site::open(&url).await;
                        let mut hand = Hand::new(&*store, moves(), partition, 1).await;
                        for day in 0..12 {
                            let off = i64::from(partition) * 100 + day;
                            write(
                                &mut hand,
                                &[(off, 20_261_101 + day), (off, 20_261_102 + day)],
                            )
                            .await;
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
            assert_eq!(days(&*first, &moves()).await.len(), 4 * 24);
        });
    }
}

/// Whoever is no longer the owner hears that, and not what is wrong with tables of another build.
#[test]
fn a_former_owner_is_fenced_before_it_makes_days() {
    let site = server::site();
    run(async {
        let store = site.open().await;
        let mut former = Hand::new(&*store, moves(), 0, 1).await;
        let partition = conveyor_processors::TopicPartition::new("topic", 0);
        let heir = site.open().await;
        heir.claim(&moves(), OwnerEpoch(2), &[partition], false)
            .await
            .unwrap();
        let table = Arc::clone(&former.declaration.tables()[0]);
        let row = Row::new(&table, &key(1, 20_261_123));
        let told = former
            .transact(vec![key(1, 20_261_123)], move |_| {
                conveyor_processors::store::Outcome::Commit(vec![Change::Put(row.clone())])
            })
            .await;
        assert!(matches!(told, Err(StoreError::Fenced { .. })), "{told:?}");
        assert_eq!(partitions(&site, "moves").await.len(), 2);
    });
}
