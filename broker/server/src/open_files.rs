//! How many files the process may have open.
//!
//! Each open log needs a few descriptors for each segment that is read or written, and each client
//! one. Systems often start processes with a soft limit of 1,024 and let them raise it themselves.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below it a node with a few hundred partitions may run out.
const ENOUGH: u64 = 65_536;

/// Raises the soft limit of open files to the hard one. Not being allowed to is no reason not to
/// start: what needs a descriptor that is not there is refused and can be tried again.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        warn_if_low(limit.current);
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            tracing::info!(
                before = limit.current,
                now = raised.current,
                "limit of open files raised"
            );
            warn_if_low(raised.current);
        }
        Err(error) => {
            tracing::warn!(%error, limit = limit.current, "limit of open files cannot be raised");
        }
    }
}

fn warn_if_low(limit: Option<u64>) {
    if let Some(limit) = limit.filter(|limit| *limit < ENOUGH) {
        tracing::warn!(
            limit,
            "few open files are allowed; raise the hard limit (ulimit -Hn)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let low = Rlimit {
            current: Some(900),
            maximum: hard,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }
}
