//! How often the interesting things have happened, so that a run that tests nothing is noticed.

macro_rules! coverage {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts of what happened.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Coverage {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Coverage {
            /// Adds another run's counts.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// The counts with their names.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

coverage! {
    /// Batches acknowledged.
    acknowledged,
    /// Batches found to be in the log already when a producer tried again.
    duplicates,
    /// Batches read by consumers.
    read,
    /// Leaderships begun.
    elections,
    /// Decisions that made an in-sync set smaller.
    shrinks,
    /// Decisions that made an in-sync set larger.
    grows,
    /// Decisions that left members as eligible leaders outside the in-sync set.
    eligible_outside,
    /// Proposals that the controller refused.
    refusals,
    /// Logs cut at a place that the epochs told.
    truncations,
    /// Batches cut thereby.
    batches_cut,
    /// Logs begun anew.
    restarts_of_logs,
    /// Processes killed.
    kills,
    /// Nodes without power.
    power_cuts,
    /// Times that all nodes lost power at once.
    blackouts,
    /// Machines stopped in the middle of a change of the disk.
    halts,
    /// Syncs that failed.
    failed_syncs,
    /// Slow disks.
    slow_disks,
    /// Nodes that stood still.
    pauses,
    /// Cuts in the network.
    cuts,
    /// Clocks that jumped.
    jumps,
    /// Disks wiped.
    wipes,
    /// Controller crashes.
    controller_crashes,
    /// Leaders that gave up.
    given_up,
    /// Brokers fenced for their silence.
    fenced,
    /// Log starts raised.
    deletions,
}
