//! Places for stores on the servers that all tests of a run share.

use crate::site::Site;

#[cfg(feature = "postgres")]
pub(crate) mod postgres {
    use conveyor_test_servers::postgres::{Database, shared, shared_bouncer};
    use conveyor_test_servers::process::unique;

    use super::Site;

    /// A database of its own.
    pub(crate) fn site() -> Site {
        let database = Database::create(shared());
        Site::new(database.url(), database)
    }

    /// A schema of its own behind the pooler.
    pub(crate) fn bouncer_site() -> Site {
        let (port, schema) = (shared_bouncer(), unique("contract"));
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres?schema={schema}");
        Site::new(url, ())
    }
}

#[cfg(feature = "redis")]
pub(crate) mod redis {
    use conveyor_test_servers::process::unique;
    use conveyor_test_servers::redis::{shared, shared_cluster, shared_sentinel};

    use super::Site;

    /// Keys of its own.
    pub(crate) fn site() -> Site {
        Site::new(format!("{}?prefix={}", shared(), unique("contract")), ())
    }

    /// Keys of its own in a cluster, of which one node is named.
    pub(crate) fn cluster_site() -> Site {
        let (port, prefix) = (shared_cluster(), unique("contract"));
        Site::new(
            format!("redis+cluster://127.0.0.1:{port}?prefix={prefix}"),
            (),
        )
    }

    /// Keys of its own on the master that a sentinel names.
    pub(crate) fn sentinel_site() -> Site {
        let (port, prefix) = (shared_sentinel(), unique("contract"));
        let url = format!("redis+sentinel://127.0.0.1:{port}/main?prefix={prefix}");
        Site::new(url, ())
    }
}

#[cfg(feature = "mongodb")]
pub(crate) mod mongodb {
    use conveyor_test_servers::mongodb::{shared_database, shared_standalone_database};

    use super::Site;

    /// A database of its own, on a server with transactions.
    pub(crate) fn site() -> Site {
        let mut site = Site::new(shared_database(), ());
        site.slow = true;
        site
    }

    /// A database of its own, on a server without transactions.
    pub(crate) fn standalone_site() -> Site {
        let mut site = Site::new(shared_standalone_database(), ());
        site.slow = true;
        site
    }
}
