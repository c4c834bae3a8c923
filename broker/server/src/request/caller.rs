//! Who makes a request, as the connection that it came by knows it.

use std::net::SocketAddr;
use std::sync::Arc;

use tonic::transport::server::TcpConnectInfo;

use super::{Denied, Principal};

/// Metadata key by which a client of the gRPC listener names itself.
pub const CLIENT_ID_HEADER: &str = "x-conveyor-client-id";
/// Longest client id kept; the rest is cut.
const CLIENT_ID_LENGTH_MAX: usize = 255;

/// Who asks; cheap to clone, so that a connection makes one for all its requests.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Who it is, as far as the connection has proved it.
    pub(super) principal: Principal,
    /// How the client names itself; empty if it does not.
    pub(super) client_id: Arc<str>,
    /// Where it comes from.
    pub(super) peer: Option<SocketAddr>,
}

impl Caller {
    /// Somebody on a connection that names itself so.
    pub(crate) fn new(principal: Principal, client_id: &str, peer: Option<SocketAddr>) -> Self {
        Self {
            principal,
            client_id: kept(client_id),
            peer,
        }
    }

    /// The connection has proved who it is.
    pub(crate) fn become_principal(&mut self, principal: Principal) {
        self.principal = principal;
    }

    /// The same somebody on the same connection, with another name from now on.
    pub(crate) fn rename(&mut self, client_id: &str) {
        // Compared with what is kept of it: a name too long to keep is not made anew each time.
        let client_id = cut(client_id);
        if *self.client_id != *client_id {
            self.client_id = kept(client_id);
        }
    }
}

impl<T> From<&tonic::Request<T>> for Caller {
    fn from(request: &tonic::Request<T>) -> Self {
        let client_id = request.metadata().get(CLIENT_ID_HEADER);
        let client_id = client_id.and_then(|value| value.to_str().ok());
        let peer = request.extensions().get::<TcpConnectInfo>();
        Self::new(
            Principal::anonymous(),
            client_id.unwrap_or_default(),
            peer.and_then(TcpConnectInfo::remote_addr),
        )
    }
}

impl From<Denied> for tonic::Status {
    fn from(denied: Denied) -> Self {
        Self::permission_denied(denied.to_string())
    }
}

/// At most so many bytes of a name, whole characters.
fn cut(client_id: &str) -> &str {
    &client_id[..client_id.floor_char_boundary(CLIENT_ID_LENGTH_MAX)]
}

/// What is kept of a name: logs and metrics need no escaping for control characters.
fn kept(client_id: &str) -> Arc<str> {
    let client_id = cut(client_id);
    if client_id.contains(char::is_control) {
        return client_id.replace(char::is_control, "?").into();
    }
    client_id.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_without_control_characters_and_not_endlessly() {
        let mut caller = Caller::new(Principal::anonymous(), "a\nb", None);
        assert_eq!(&*caller.client_id, "a?b");
        caller.rename(&"é".repeat(500));
        assert_eq!(caller.client_id.len(), 254);
        let same = Arc::clone(&caller.client_id);
        caller.rename(&"é".repeat(600));
        assert!(Arc::ptr_eq(&same, &caller.client_id));
    }
}
