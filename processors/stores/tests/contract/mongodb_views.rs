//! What readers of a `MongoDB` database see, who know nothing of builds: the view of a table, by the
//! driver and not by the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};

use crate::cases::builds::{build, fill};
use crate::play::patient;
use crate::server::mongodb as server;
use crate::site::{Site, run};

async fn count(client: &Client) -> usize {
    let database = client.default_database().unwrap();
    let view = database.collection::<Document>("movement");
    let rows = view.find(doc! {}).await.unwrap();
    rows.try_collect::<Vec<_>>().await.unwrap().len()
}

/// The view shows all of one build or all of the other, whenever one looks. The stand-in does not
/// turn views over, and its views are made anew: there it may show nothing for a moment.
fn a_view_shows_one_build_or_the_other(site: &Site) {
    run(async {
        let store = site.open_builds().await;
        fill(&*store, None, 1, 10).await.unwrap();
        fill(&*store, Some("2"), 1, 99).await.unwrap();
        let client = Client::with_uri_str(&site.url).await.unwrap();
        let first = count(&client).await;
        store.switch(&build("2")).await.unwrap();
        let second = count(&client).await;
        assert!(first > 0 && first < second, "{first} {second}");
        let may_miss = std::env::var("CONVEYOR_TEST_MONGODB_URL").is_err();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let reading = tokio::spawn(async move {
            let (mut firsts, mut seconds) = (0, 0);
            while !stopped.load(Ordering::SeqCst) {
                let seen = count(&client).await;
                let nothing = may_miss && seen == 0;
                assert!(
                    nothing || seen == first || seen == second,
                    "{seen} of {first} or {second}"
                );
                firsts += usize::from(seen == first);
                seconds += usize::from(seen == second);
            }
            (firsts, seconds)
        });
        for tag in ["1", "2", "1", "2", "1", "2"] {
            patient!(store.switch(&build(tag))).unwrap();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        stop.store(true, Ordering::SeqCst);
        let (firsts, seconds) = reading.await.unwrap();
        assert!(
            firsts > 0 && seconds > 0,
            "{firsts} and {seconds}: it shows nothing"
        );
    });
}

#[test]
fn with_transactions_a_view_shows_one_build_or_the_other() {
    a_view_shows_one_build_or_the_other(&server::site());
}

#[test]
fn without_transactions_a_view_shows_one_build_or_the_other() {
    a_view_shows_one_build_or_the_other(&server::standalone_site());
}
