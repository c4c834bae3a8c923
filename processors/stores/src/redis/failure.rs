//! What goes wrong with Redis: what time mends, and everything else with the setting that mends it.

use conveyor_processors::store::StoreError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::names::Names;
use super::{ELSEWHERE, LAYOUT_VERSION};

/// What went wrong, before it is known whose business it was.
#[derive(Debug)]
pub(super) enum Failure {
    Redis(RedisError),
    Schema(String),
    Failed(String),
    Store(StoreError),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Sorts errors: those that time mends, and the others with the setting that mends them.
pub(super) fn sort(failure: Failure, store: &str, projection: &str) -> StoreError {
    let store = store.to_owned();
    let error = match failure {
        Failure::Store(error) => return error,
        Failure::Failed(reason) => return StoreError::Failed { store, reason },
        Failure::Schema(reason) => {
            return StoreError::Schema {
                store,
                projection: projection.to_owned(),
                reason,
            };
        }
        Failure::Redis(error) => error,
    };
    let reason = error.to_string();
    let failed = |mend: &str| StoreError::Failed {
        store: store.clone(),
        reason: format!("{reason}: {mend}"),
    };
    match (error.kind(), error.code().unwrap_or_default()) {
        (ErrorKind::AuthenticationFailed, _) | (_, "WRONGPASS" | "NOAUTH") => {
            failed("mend user and password in the address, redis://USER:PASSWORD@…")
        }
        // Before it knows somebody, a server reads but short commands.
        _ if reason.contains("unauthenticated") => {
            failed("mend user and password in the address, redis://USER:PASSWORD@…")
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => failed(
            "the user must be allowed EVAL, the commands on hashes and (sorted) sets, and all keys that \
             begin with the address's prefix",
        ),
        (ErrorKind::MasterNameNotFoundBySentinel, _) => {
            failed("mend the master's name in the address, redis+sentinel://…/MASTER")
        }
        (ErrorKind::InvalidClientConfig, _) => failed("mend the address"),
        (_, "WRONGTYPE") => StoreError::Schema {
            store,
            projection: projection.to_owned(),
            reason: format!("{reason}: somebody else writes to its keys; take {ELSEWHERE}"),
        },
        (ErrorKind::UnexpectedReturnType | ErrorKind::Parse, _) => {
            failed("somebody else writes to its keys, or this is no Redis server")
        }
        (ErrorKind::Server(ServerErrorKind::ResponseError), _)
            if reason.contains("cluster support disabled") =>
        {
            failed("this is no cluster: take redis:// instead of redis+cluster://")
        }
        (ErrorKind::Server(ServerErrorKind::Moved), _) => {
            failed("this is a cluster: take redis+cluster:// instead of redis://")
        }
        (ErrorKind::Extension, "OOM" | "MISCONF" | "BUSY" | "NOREPLICAS") => {
            StoreError::Unavailable { store, reason }
        }
        (ErrorKind::Extension | ErrorKind::Server(ServerErrorKind::ResponseError), _) => {
            StoreError::Failed { store, reason }
        }
        _ => StoreError::Unavailable { store, reason },
    }
}

pub(super) fn damaged(what: &str) -> Failure {
    Failure::Schema(format!(
        "{what:?} is not what this program writes: somebody else writes to its keys; take {ELSEWHERE}"
    ))
}

/// Why keys of another layout are left alone, and the way over from the first.
pub(super) fn other_layout(layout: u32, projection: &str, live: &Names) -> String {
    if layout != 1 {
        return format!(
            "its keys have layout version {layout}, this program writes {LAYOUT_VERSION}: use the \
             program that wrote them, or {ELSEWHERE}"
        );
    }
    let old = live.declaration_of_layout_1();
    let old = old.strip_suffix("@declaration").unwrap_or(old);
    format!(
        "its keys have layout version 1 ({old}…), this program writes version {LAYOUT_VERSION} \
         ({}…): build it beside them and switch with `conveyor projection rebuild {projection}` and \
         delete the old keys afterwards, or build it anew in {ELSEWHERE}",
        live.space()
    )
}

/// A server that throws keys away when its memory is full would throw rows and positions away.
pub(super) fn refuse_eviction(memory: &str) -> Result<(), Failure> {
    let value = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).unwrap_or_default()
    };
    let (limit, policy) = (value("maxmemory:"), value("maxmemory_policy:"));
    if limit != "0" && policy.starts_with("allkeys") {
        return Err(Failure::Failed(format!(
            "its maxmemory-policy is {policy}: it would throw rows and positions away when its \
             memory is full; set maxmemory-policy noeviction (or one of volatile-*), or use a \
             server of its own"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_evict_are_refused() {
        let memory = |limit, policy| {
            format!("# Memory\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n")
        };
        assert!(
            refuse_eviction(&memory("0", "allkeys-lru")).is_ok(),
            "without a limit nothing is evicted"
        );
        assert!(refuse_eviction(&memory("100", "noeviction")).is_ok());
        assert!(
            refuse_eviction(&memory("100", "volatile-lru")).is_ok(),
            "our keys have no end"
        );
        assert!(refuse_eviction(&memory("100", "allkeys-lfu")).is_err());
        assert!(refuse_eviction("").is_ok(), "not everybody may ask");
    }
}
