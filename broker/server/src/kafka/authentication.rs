//! Where a connection stands with proving who its client is (SASL, KIP-43, KIP-152).
//!
//! On a listener without authentication nobody is asked, and SASL requests are told so. On one with
//! it a client names a mechanism, exchanges bytes with it until that is satisfied, and is its
//! principal from then on; until then nothing but this and `ApiVersions` is answered, and after a
//! refusal nothing at all. Which mechanisms there are is not known here: the listener says. Today no
//! listener has one, as the setting `listener.security.protocol.map` refuses SASL.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::ApiKey;

use crate::node::Refusal;
use crate::request::Principal;

/// A way to prove who one is, such as SCRAM.
pub(crate) trait Mechanism: fmt::Debug + Send + Sync {
    /// Its name, such as `SCRAM-SHA-512`.
    fn name(&self) -> &'static str;
    /// An exchange with one client.
    fn start(&self) -> Box<dyn Exchange>;
}

/// The exchange of one client with a mechanism.
pub(crate) trait Exchange: fmt::Debug + Send {
    /// Takes the client's bytes.
    fn step(&mut self, token: &[u8]) -> Step;
}

/// What a mechanism answers.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "no mechanism is there yet to answer so")
)]
#[derive(Debug)]
pub(crate) enum Step {
    /// More bytes are needed; these go to the client.
    Continue(Bytes),
    /// The client is who it says; these bytes go to it.
    Done(Principal, Bytes),
    /// It is not, for a reason that it may know.
    Refused(String),
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Authentication {
    mechanisms: Arc<[Arc<dyn Mechanism>]>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The listener asks nobody.
    NotRequired,
    /// The client has to name a mechanism.
    Handshake,
    /// It has, and proves itself.
    Exchange(Box<dyn Exchange>),
    /// It has proved itself.
    Done,
    /// It could not.
    Failed,
}

impl Authentication {
    /// Of a new connection on a listener with these mechanisms; none if nobody has to prove anything.
    pub(super) fn new(mechanisms: &Arc<[Arc<dyn Mechanism>]>) -> Self {
        Self {
            mechanisms: Arc::clone(mechanisms),
            state: if mechanisms.is_empty() {
                State::NotRequired
            } else {
                State::Handshake
            },
        }
    }

    /// Whether a request is answered now.
    pub(super) fn admits(&self, key: ApiKey) -> bool {
        match &self.state {
            State::NotRequired | State::Done => true,
            State::Failed => false,
            State::Handshake => {
                matches!(key, ApiKey::ApiVersions | ApiKey::SaslHandshake)
            }
            State::Exchange(_) => key == ApiKey::SaslAuthenticate,
        }
    }

    /// The names of the mechanisms.
    pub(super) fn mechanisms(&self) -> impl Iterator<Item = &'static str> {
        self.mechanisms.iter().map(|mechanism| mechanism.name())
    }

    /// The client names a mechanism; a client that is known already may prove itself anew (KIP-368).
    pub(super) fn choose(&mut self, name: &str) -> Result<(), ErrorCode> {
        match self.state {
            State::Handshake | State::Done => {}
            State::NotRequired | State::Exchange(_) | State::Failed => {
                return Err(ErrorCode::IllegalSaslState);
            }
        }
        let chosen = self
            .mechanisms
            .iter()
            .find(|mechanism| mechanism.name() == name);
        let Some(chosen) = chosen else {
            self.state = State::Failed;
            return Err(ErrorCode::UnsupportedSaslMechanism);
        };
        self.state = State::Exchange(chosen.start());
        Ok(())
    }

    /// The client's bytes; the bytes to answer, and who it is once that is known.
    pub(super) fn authenticate(
        &mut self,
        token: &[u8],
    ) -> Result<(Bytes, Option<Principal>), Refusal> {
        let State::Exchange(exchange) = &mut self.state else {
            let message = if self.mechanisms.is_empty() {
                "this listener has no authentication: connect without SASL"
            } else {
                "name a mechanism first"
            };
            return Err(Refusal::new(ErrorCode::IllegalSaslState, message));
        };
        match exchange.step(token) {
            Step::Continue(answer) => Ok((answer, None)),
            Step::Done(principal, answer) => {
                self.state = State::Done;
                Ok((answer, Some(principal)))
            }
            Step::Refused(reason) => {
                self.state = State::Failed;
                Err(Refusal::new(ErrorCode::SaslAuthenticationFailed, reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for a name, then for the word.
    #[derive(Debug)]
    struct Password;

    #[derive(Debug, Default)]
    struct Asking {
        name: Option<String>,
    }

    impl Mechanism for Password {
        fn name(&self) -> &'static str {
            "PASSWORD"
        }

        fn start(&self) -> Box<dyn Exchange> {
            Box::new(Asking::default())
        }
    }

    impl Exchange for Asking {
        fn step(&mut self, token: &[u8]) -> Step {
            match self.name.take() {
                None => {
                    self.name = Some(String::from_utf8_lossy(token).into_owned());
                    Step::Continue(Bytes::from_static(b"word?"))
                }
                Some(name) if token == b"open" => Step::Done(Principal::user(&name), Bytes::new()),
                Some(_) => Step::Refused("wrong word".to_owned()),
            }
        }
    }

    fn required() -> Authentication {
        let mechanisms: [Arc<dyn Mechanism>; 1] = [Arc::new(Password)];
        Authentication::new(&mechanisms.into())
    }

    #[test]
    fn without_mechanisms_everything_is_answered_and_sasl_refused() {
        let mut open = Authentication::new(&Arc::from([]));
        assert!(open.admits(ApiKey::Produce) && open.admits(ApiKey::SaslHandshake));
        assert_eq!(open.choose("PLAIN"), Err(ErrorCode::IllegalSaslState));
        let refused = open.authenticate(b"x").unwrap_err();
        assert_eq!(refused.code, ErrorCode::IllegalSaslState);
    }

    #[test]
    fn a_client_names_a_mechanism_proves_itself_and_is_known() {
        let mut client = required();
        assert!(client.admits(ApiKey::ApiVersions) && !client.admits(ApiKey::Metadata));
        assert_eq!(
            client.authenticate(b"x").unwrap_err().code,
            ErrorCode::IllegalSaslState
        );
        client.choose("PASSWORD").unwrap();
        assert!(client.admits(ApiKey::SaslAuthenticate) && !client.admits(ApiKey::ApiVersions));
        assert_eq!(
            client.authenticate(b"ada").unwrap(),
            (Bytes::from("word?"), None)
        );
        let (_, principal) = client.authenticate(b"open").unwrap();
        assert_eq!(principal, Some(Principal::user("ada")));
        assert!(client.admits(ApiKey::Metadata));
        client.choose("PASSWORD").unwrap();
        assert!(!client.admits(ApiKey::Metadata), "it proves itself anew");
    }

    #[test]
    fn after_a_refusal_nothing_is_answered() {
        let mut unknown = required();
        assert_eq!(
            unknown.choose("PLAIN"),
            Err(ErrorCode::UnsupportedSaslMechanism)
        );
        assert!(!unknown.admits(ApiKey::ApiVersions));
        let mut wrong = required();
        wrong.choose("PASSWORD").unwrap();
        wrong.authenticate(b"ada").unwrap();
        let refused = wrong.authenticate(b"shut").unwrap_err();
        assert_eq!(refused.code, ErrorCode::SaslAuthenticationFailed);
        assert!(!wrong.admits(ApiKey::SaslHandshake));
    }
}
