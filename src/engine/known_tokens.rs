//! The tokens in memory, where any thread can look them up.

use crate::clock::Timestamp;
use crate::coordinate::{Token, TokenHash, TokenId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The committed tokens, also those that are not valid any more.
#[derive(Debug, Default)]
pub struct KnownTokens {
    by_hash: RwLock<HashMap<TokenHash, Arc<Token>>>,
    version: AtomicU64,
    has_uses: AtomicBool,
    /// Uses that have not been written to the file.
    uses: Mutex<HashMap<TokenId, Timestamp>>,
}

impl KnownTokens {
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        let known = Self::default();
        known.replace(tokens);
        known
    }

    /// Replaces all of them.
    pub(super) fn replace(&self, tokens: Vec<Token>) {
        let by_hash = tokens
            .into_iter()
            .map(|token| (token.hash, Arc::new(token)))
            .collect();
        let mut known = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        *known = by_hash;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever the tokens do. Cheap.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// True if no token was ever made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let known = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        known.is_empty()
    }

    /// The token of a secret with this hash.
    #[must_use]
    pub fn find(&self, hash: &TokenHash) -> Option<Arc<Token>> {
        let known = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).cloned()
    }

    /// Notes that a token was used.
    pub fn note_use(&self, id: TokenId, now: Timestamp) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.insert(id, now);
        self.has_uses.store(true, Ordering::Release);
    }

    /// True if there are uses to be written. Cheap.
    pub(super) fn has_uses(&self) -> bool {
        self.has_uses.load(Ordering::Acquire)
    }

    /// The uses since the last call, one of each token.
    pub(super) fn take_uses(&self) -> HashMap<TokenId, Timestamp> {
        self.has_uses.store(false, Ordering::Release);
        std::mem::take(&mut *self.uses.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
