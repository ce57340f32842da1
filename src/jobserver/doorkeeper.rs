//! Who may do what, for all interfaces.
//!
//! Each connection of CBOR-RPC and each request over HTTP has a [`Caller`]. What it may do is looked up once. After that a
//! check compares a few small numbers, until a token was changed, or some time has passed.

use super::sign_in_codes::{self, SignInCodes};
use crate::clock::Timestamp;
use crate::coordinate::{Author, Error, Result, Scopes, Secret, Token, TokenHash, TokenManager};
use crate::engine::KnownTokens;
use crate::server::Network;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Which CBOR-RPC clients need no token.
#[derive(Clone, Debug, Default)]
pub enum Anonymous {
    /// All of them.
    #[default]
    Everybody,
    /// Those that connect over a Unix socket, whose permissions say who may, and those from these networks.
    Only(Vec<Network>),
}

/// How a client reaches the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// By the protocol of the original daemons.
    CborRpc,
    /// By HTTP.
    Http,
}

/// Where something is to be done: a token may be limited to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realm<'a> {
    /// In the namespace of CBOR-RPC clients.
    Home,
    /// In the namespace of this name.
    In(&'a str),
    /// In all namespaces.
    All,
    /// In none: every token counts.
    Nowhere,
}

/// Who calls, and what it may do.
#[derive(Clone, Debug)]
pub struct Caller {
    interface: Interface,
    /// `None` over a Unix socket.
    address: Option<IpAddr>,
    /// `None` if it has shown none.
    token: Option<Arc<Token>>,
    /// What it may do where its token counts, as of `version`.
    scopes: Scopes,
    version: u64,
    /// When that is to be looked up again.
    look_up_at: Timestamp,
}

impl Caller {
    /// How it reaches the daemon.
    pub(super) fn interface(&self) -> Interface {
        self.interface
    }

    /// Where it calls from; `None` over a Unix socket.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// True if it has one of these scopes where its token counts, as of its last check.
    #[must_use]
    pub fn may(&self, scopes: Scopes) -> bool {
        self.scopes.has_any(scopes)
    }

    /// True if its token is not limited to a namespace.
    #[must_use]
    pub fn counts_everywhere(&self) -> bool {
        self.namespace().is_none()
    }

    /// The name of the token that it has shown.
    #[must_use]
    pub fn token_name(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.name.as_str())
    }

    /// The token that it has shown.
    pub(super) fn token(&self) -> Option<&Token> {
        self.token.as_deref()
    }

    /// The only namespace in which its token counts, if it is limited to one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.token.as_ref()?.namespace.as_deref()
    }

    /// As the author of a change.
    pub(super) fn as_author(&self) -> Author {
        Author {
            token: self.token.as_ref().map(|token| token.name.clone()),
            interface: match self.interface {
                Interface::CborRpc => "cborrpc",
                Interface::Http => "http",
            },
            address: self
                .address
                .map(|address| address.to_canonical().to_string()),
        }
    }

    /// As the one who makes tokens. `given` is what an unknown caller calls itself.
    #[must_use]
    pub fn as_token_manager(&self, given: Option<String>) -> TokenManager {
        match &self.token {
            Some(token) => TokenManager {
                name: token.name.clone(),
                namespace: token.namespace.clone(),
            },
            None => TokenManager {
                name: given.unwrap_or_else(|| self.place()),
                namespace: None,
            },
        }
    }

    /// Where it calls from.
    fn place(&self) -> String {
        match self.address {
            Some(address) => address.to_canonical().to_string(),
            None => "a Unix socket".to_owned(),
        }
    }
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no such token.
    #[error("the token is not known: it is misspelled, or was made for another daemon")]
    Unknown,
    /// It was revoked.
    #[error("the token {0:?} was revoked")]
    Revoked(String),
    /// It has expired.
    #[error("the token {0:?} has expired: make a new one, or replace its secret with rotate_token")]
    Expired(String),
    /// Too many tries have failed, so this is the answer to all that fail.
    #[error("too many tries with wrong tokens: try again in {} s", .0.as_secs())]
    TooMany(Duration),
}

/// Knows who may do what.
#[derive(Debug)]
pub struct Doorkeeper {
    tokens: Arc<KnownTokens>,
    /// The namespace of CBOR-RPC clients.
    namespace: String,
    anonymous: Anonymous,
    tries: Mutex<FailedTries>,
    codes: SignInCodes,
}

/// How long what was looked up is used: uses of a token are noted that often.
const LOOKED_UP_FOR: Duration = Duration::from_secs(60);

impl Doorkeeper {
    pub(super) fn new(tokens: Arc<KnownTokens>, namespace: String, anonymous: Anonymous) -> Self {
        Self {
            tokens,
            namespace,
            anonymous,
            tries: Mutex::default(),
            codes: SignInCodes::default(),
        }
    }

    /// The namespace of CBOR-RPC clients.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A caller who has shown no token.
    #[must_use]
    pub fn greet(&self, interface: Interface, address: Option<IpAddr>) -> Caller {
        self.caller(interface, address, None, Timestamp(0))
    }

    /// True if HTTP clients need a token: one was made at some time.
    #[must_use]
    pub fn http_needs_token(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// The caller who shows this secret.
    ///
    /// # Errors
    /// See [`TokenError`]. A valid token is always accepted, however many wrong ones came from the same address: secrets can't
    /// be guessed, and nobody should be able to lock out others.
    pub fn recognize(
        &self,
        interface: Interface,
        address: Option<IpAddr>,
        secret: &str,
        now: Timestamp,
    ) -> Result<Caller, TokenError> {
        let hash = Secret::parse(secret).map(|secret| secret.hash());
        let known = hash.ok_or(TokenError::Unknown);
        let known = known.and_then(|hash| self.recognize_again(interface, address, &hash, now));
        let error = match known {
            Ok(caller) => return Ok(caller),
            Err(error) => error,
        };
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        match tries.note(address, now) {
            Some(wait) => Err(TokenError::TooMany(wait)),
            None => Err(error),
        }
    }

    /// The caller who has shown the secret with this hash before.
    ///
    /// # Errors
    /// If the token is not valid any more.
    pub fn recognize_again(
        &self,
        interface: Interface,
        address: Option<IpAddr>,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Caller, TokenError> {
        match self.tokens.find(hash) {
            None => Err(TokenError::Unknown),
            Some(token) if token.revoked.is_some() => Err(TokenError::Revoked(token.name.clone())),
            Some(token) if token.is_expired(now) => Err(TokenError::Expired(token.name.clone())),
            Some(token) => Ok(self.caller(interface, address, Some(token), now)),
        }
    }

    /// Makes a code that signs a person in to the page with the token of a caller, once. Returns it, and until when it can be
    /// used.
    ///
    /// # Errors
    /// `Refused` if the caller has shown no token.
    pub(super) fn make_sign_in_code(
        &self,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<(String, Timestamp)> {
        let Some(token) = &caller.token else {
            return Err(Error::Refused(
                "a token is needed: the page is then used with that token".to_owned(),
            ));
        };
        Ok((
            self.codes.make(token.hash, now),
            now.plus(sign_in_codes::LIFETIME),
        ))
    }

    /// Uses up a code that signs in to the page. Returns the token that was shown for it, if the code can still be used.
    #[must_use]
    pub fn take_sign_in_code(&self, code: &str, now: Timestamp) -> Option<TokenHash> {
        self.codes.take(code, now)
    }

    /// Checks that a caller has one of some scopes where it wants to do something. If these are none, everybody may do it.
    ///
    /// # Errors
    /// `Unauthenticated` if it has shown no token, or if that is not valid any more; `Forbidden` if the token does not count
    /// there, or lacks the scope.
    pub fn check(
        &self,
        caller: &mut Caller,
        realm: Realm<'_>,
        sufficient: Scopes,
        now: Timestamp,
    ) -> Result<()> {
        if caller.version != self.tokens.version() || now >= caller.look_up_at {
            let token = caller.token.take();
            *caller = self.caller(caller.interface, caller.address, token, now);
        }
        let may = caller.scopes.has_any(sufficient) && self.counts_in(realm, caller.namespace());
        if may || sufficient.is_empty() {
            return Ok(());
        }
        Err(self.refusal(caller, realm, sufficient, now))
    }

    /// Looks up what a caller may do.
    fn caller(
        &self,
        interface: Interface,
        address: Option<IpAddr>,
        token: Option<Arc<Token>>,
        now: Timestamp,
    ) -> Caller {
        let version = self.tokens.version();
        // It may have been revoked since it was found.
        let token = token.map(|token| self.tokens.find(&token.hash).unwrap_or(token));
        let scopes = match &token {
            None => self.scopes_without_token(interface, address),
            Some(token) => {
                self.tokens.note_use(token.id, now);
                scopes_of(token, now)
            }
        };
        let soon = now.plus(LOOKED_UP_FOR);
        let expires = token.as_ref().and_then(|token| token.expires);
        Caller {
            interface,
            address,
            look_up_at: match &token {
                None => Timestamp(i64::MAX),
                Some(_) => expires.map_or(soon, |expires| expires.min(soon)),
            },
            token,
            scopes,
            version,
        }
    }

    fn scopes_without_token(&self, interface: Interface, address: Option<IpAddr>) -> Scopes {
        let may_do_everything = match (interface, &self.anonymous, address) {
            (Interface::Http, _, _) => !self.http_needs_token(),
            (Interface::CborRpc, Anonymous::Everybody, _) => true,
            (Interface::CborRpc, Anonymous::Only(_), None) => true,
            (Interface::CborRpc, Anonymous::Only(networks), Some(address)) => {
                networks.iter().any(|network| network.contains(address))
            }
        };
        match may_do_everything {
            true => Scopes::ALL,
            false => Scopes::NONE,
        }
    }

    /// True if a token that is limited to a namespace, or to none, counts somewhere.
    fn counts_in(&self, realm: Realm<'_>, limited_to: Option<&str>) -> bool {
        limited_to.is_none_or(|namespace| match realm {
            Realm::Home => namespace == self.namespace,
            Realm::In(name) => namespace == name,
            Realm::All => false,
            Realm::Nowhere => true,
        })
    }

    fn refusal(
        &self,
        caller: &Caller,
        realm: Realm<'_>,
        sufficient: Scopes,
        now: Timestamp,
    ) -> Error {
        let Some(token) = &caller.token else {
            return Error::Unauthenticated(
                match caller.interface {
                    Interface::Http => {
                        "a token is needed: send it in the header Authorization, as Bearer TOKEN or as the password of Basic"
                    }
                    Interface::CborRpc => {
                        "a token is needed: show it by the method authenticate; commands of coordinated take it from \
                         COORDINATED_TOKEN"
                    }
                }
                .to_owned(),
            );
        };
        let name = &token.name;
        if token.revoked.is_some() {
            return Error::Unauthenticated(TokenError::Revoked(name.clone()).to_string());
        }
        if token.is_expired(now) {
            return Error::Unauthenticated(TokenError::Expired(name.clone()).to_string());
        }
        if !self.counts_in(realm, token.namespace.as_deref()) {
            let namespace = token.namespace.as_deref().unwrap_or_default();
            let place = match realm {
                Realm::In(name) => format!("the namespace {name:?}"),
                Realm::Home => format!("the namespace {:?}", self.namespace),
                Realm::All | Realm::Nowhere => "all namespaces".to_owned(),
            };
            return Error::Forbidden(format!(
                "the token {name:?} counts only in the namespace {namespace:?}, and this is about {place}"
            ));
        }
        Error::Forbidden(format!(
            "the scope {} is needed, and the token {name:?} has {}",
            OneOf(sufficient),
            AllOf(token.scopes)
        ))
    }
}

fn scopes_of(token: &Token, now: Timestamp) -> Scopes {
    match token.revoked.is_none() && !token.is_expired(now) {
        true => token.scopes.with_included(),
        false => Scopes::NONE,
    }
}

/// Scopes of which one is enough, in words.
struct OneOf(Scopes);

impl fmt::Display for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string().replace(' ', " or "))
    }
}

/// Scopes in words.
struct AllOf(Scopes);

impl fmt::Display for AllOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string().replace(' ', ", "))
    }
}

/// How many tries with wrong tokens an address has in a minute. Further ones are told to wait.
const TRIES_MAX: u32 = 10;
const TRIES_TIME: Duration = Duration::from_secs(60);
/// How many addresses are counted one by one, 1,000; others share a count. So nobody can fill the memory.
const ADDRESSES_MAX: usize = 1_000;
/// How often a line is logged about wrong tokens.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Counts tries with wrong tokens, by address.
#[derive(Debug, Default)]
struct FailedTries {
    by_address: HashMap<IpAddr, Tries>,
    next_line: Timestamp,
    /// How many were not logged since the last line.
    suppressed: u64,
}

#[derive(Debug)]
struct Tries {
    since: Timestamp,
    count: u32,
}

impl FailedTries {
    /// Notes one. If there were too many, returns how long the address should wait.
    fn note(&mut self, address: Option<IpAddr>, now: Timestamp) -> Option<Duration> {
        self.log(address, now);
        let is_over = |tries: &Tries| now.since(tries.since) >= TRIES_TIME || now < tries.since;
        let mut counted = counted_as(address);
        if !self.by_address.contains_key(&counted) && self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.retain(|_, tries| !is_over(tries));
            if self.by_address.len() >= ADDRESSES_MAX {
                counted = OTHERS;
            }
        }
        let tries = self.by_address.entry(counted).or_insert(Tries {
            since: now,
            count: 0,
        });
        if is_over(tries) {
            *tries = Tries {
                since: now,
                count: 0,
            };
        }
        tries.count = tries.count.saturating_add(1);
        let end = tries.since.plus(TRIES_TIME);
        // Rounded up, so that it is over then.
        let wait = Duration::from_secs(end.since(now).as_secs() + 1);
        (tries.count > TRIES_MAX).then_some(wait)
    }

    fn log(&mut self, address: Option<IpAddr>, now: Timestamp) {
        let last = self.next_line.minus(LOG_EVERY);
        if now < self.next_line && now >= last {
            self.suppressed += 1;
            return;
        }
        self.next_line = now.plus(LOG_EVERY);
        let suppressed = std::mem::take(&mut self.suppressed);
        match address {
            Some(peer) => tracing::warn!(%peer, suppressed, "a token was not accepted"),
            None => tracing::warn!(
                peer = "a Unix socket",
                suppressed,
                "a token was not accepted"
            ),
        }
    }
}

/// The addresses that have no count of their own, and Unix sockets.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The address as which one is counted. A machine usually has 2^64 addresses of IPv6, which differ in their second half.
fn counted_as(address: Option<IpAddr>) -> IpAddr {
    match address.map(|address| address.to_canonical()) {
        None => OTHERS,
        Some(IpAddr::V4(address)) => IpAddr::V4(address),
        Some(IpAddr::V6(address)) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64) -> Timestamp {
        Timestamp(1_700_000_000_000_000).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn an_address_has_ten_wrong_tokens_a_minute_and_others_have_their_own() {
        let mut tries = FailedTries::default();
        let (a, b) = ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        for _ in 0..10 {
            assert_eq!(tries.note(a, after(0)), None);
        }
        let wait = tries.note(a, after(20)).expect("it has to wait");
        assert_eq!(wait, Duration::from_secs(41));
        assert_eq!(
            tries.note("::ffff:192.0.2.1".parse().ok(), after(20)),
            Some(wait)
        );
        assert_eq!(tries.note(b, after(20)), None);
        assert_eq!(tries.note(a, after(61)), None);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address_and_the_table_is_bounded() {
        let mut tries = FailedTries::default();
        for n in 0..10 {
            assert_eq!(
                tries.note(format!("2001:db8::{n}").parse().ok(), after(0)),
                None
            );
        }
        assert!(
            tries
                .note("2001:db8::ffff".parse().ok(), after(0))
                .is_some()
        );
        for n in 0..100_000_u32 {
            tries.note(Some(IpAddr::V4(n.into())), after(1));
        }
        assert!(tries.by_address.len() <= ADDRESSES_MAX + 1);
        // Those beyond it share a count, which ends like others.
        assert!(tries.note("198.51.100.1".parse().ok(), after(2)).is_some());
        assert_eq!(tries.note("198.51.100.1".parse().ok(), after(100)), None);
    }
}
