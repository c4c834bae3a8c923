//! What every store promises, as one suite that each store is put through: whatever is killed,
//! whenever, and whoever else writes, the rows are the fold of the log up to the positions beside
//! them.
//!
//! `cases` knows no store; `site` names where a store is opened for one test.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::print_stderr, reason = "a failing run tells its seed")]

mod cases;
#[cfg(feature = "server")]
mod kill;
mod ledger;
mod lists;
#[cfg(feature = "mongodb")]
mod mongodb_documents;
#[cfg(feature = "mongodb")]
mod mongodb_views;
mod play;
#[cfg(feature = "postgres")]
mod postgres_days;
#[cfg(feature = "server")]
mod refusals;
#[cfg(feature = "server")]
mod server;
mod site;
mod sqlite_file;
mod victim;

/// All cases as tests of one store. `$open` makes a fresh, empty place for a store; `$cases` is how
/// many times the property is tried.
macro_rules! contract {
    ($store:ident, $open:expr, $cases:expr) => {
        mod $store {
            contract!(@case $open;
                positions::a_store_begins_nowhere_and_goes_on_where_it_stands;
                positions::a_projection_that_was_never_prepared_stands_nowhere;
                positions::a_batch_that_does_not_follow_on_is_refused;
                positions::positions_move_without_rows;
                positions::an_aborted_fold_leaves_nothing;
                fencing::a_woken_instance_is_fenced_before_and_after_the_new_owner_writes;
                fencing::a_claim_in_the_middle_of_a_transaction_loses_nothing;
                fencing::owners_that_follow_on_each_other_never_mix;
                values::values_of_every_type_come_back;
                values::rows_come_back_in_key_order_whatever_the_keys_hold;
                values::rows_are_changed_and_deleted;
                values::batches_may_be_big;
                sharing::instances_on_different_partitions_come_to_the_fold;
                sharing::instances_that_touch_the_same_rows_lose_nothing;
                sharing::what_a_fold_saw_to_be_absent_is_still_absent_when_it_writes;
                schema::another_version_or_another_shape_is_refused;
                schema::another_shape_is_built_beside_and_switched_to;
                schema::a_table_belongs_to_one_projection;
                schema::instances_may_prepare_at_once;
                builds::builds_are_made_switched_to_gone_back_from_and_dropped;
                builds::owners_at_work_are_fenced_by_a_switch_and_lose_nothing;
                builds::of_two_switches_at_once_one_comes_after_the_other;
                builds::readers_see_one_build_or_the_other;
                builds::a_killed_switch_leaves_the_old_build_or_the_new;
                lists::lists_follow_their_rows;
                lists::lists_go_with_their_build;
                lists::killed_writers_leave_lists_as_rows;
                crash::a_killed_process_leaves_the_fold_up_to_its_positions;
                crash::a_frozen_process_writes_nothing_after_its_partition_is_gone;
            );

            #[test]
            fn the_store_is_the_fold_up_to_its_positions() {
                crate::cases::crash::the_store_is_the_fold_up_to_its_positions($open, $cases);
            }
        }
    };
    (@case $open:expr; $($area:ident :: $case:ident;)*) => {
        $(
            #[test]
            fn $case() {
                let site = $open();
                crate::site::run(crate::cases::$area::$case(&site));
            }
        )*
    };
}

contract!(sqlite, crate::site::sqlite, 48);
#[cfg(feature = "postgres")]
contract!(postgres, crate::server::postgres::site, 8);
#[cfg(feature = "postgres")]
contract!(pgbouncer, crate::server::postgres::bouncer_site, 8);
#[cfg(feature = "redis")]
contract!(redis, crate::server::redis::site, 8);
#[cfg(feature = "redis")]
contract!(redis_cluster, crate::server::redis::cluster_site, 4);
#[cfg(feature = "redis")]
contract!(redis_sentinel, crate::server::redis::sentinel_site, 4);
#[cfg(feature = "mongodb")]
contract!(mongodb, crate::server::mongodb::site, 4);
#[cfg(feature = "mongodb")]
contract!(
    mongodb_standalone,
    crate::server::mongodb::standalone_site,
    4
);
