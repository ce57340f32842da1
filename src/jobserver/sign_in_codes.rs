//! Codes that sign a person in to the page: `coordinated ui` puts one into the link that it opens.

use crate::clock::Timestamp;
use crate::coordinate::TokenHash;
use rand::RngExt;
use rand::distr::Alphanumeric;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a code can be used.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// Letters and digits of a code: 190 random bits.
const CODE_LEN: usize = 32;

/// Codes at a time. The oldest one goes first.
const CODES_MAX: usize = 100;

/// The codes that were made and not used, the oldest first, with the tokens of those who asked for them.
#[derive(Debug, Default)]
pub(super) struct SignInCodes(Mutex<Vec<(String, TokenHash, Timestamp)>>);

impl SignInCodes {
    /// Makes a code.
    pub(super) fn make(&self, token: TokenHash, now: Timestamp) -> String {
        let code: String = rand::rng()
            .sample_iter(Alphanumeric)
            .take(CODE_LEN)
            .map(char::from)
            .collect();
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|(_, _, end)| *end > now);
        if codes.len() >= CODES_MAX {
            codes.remove(0);
        }
        codes.push((code.clone(), token, now.plus(LIFETIME)));
        code
    }

    /// Uses a code up. Returns the token of the one who asked for it, if it can still be used.
    pub(super) fn take(&self, code: &str, now: Timestamp) -> Option<TokenHash> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = codes.iter().position(|(known, ..)| known == code)?;
        let (_, token, end) = codes.remove(index);
        (end > now).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    #[test]
    fn a_code_can_be_used_once_and_for_a_minute() {
        let codes = SignInCodes::default();
        let token = TokenHash([1; 32]);
        let (first, second) = (codes.make(token, NOW), codes.make(token, NOW));
        let soon = NOW.plus(LIFETIME - Duration::from_micros(1));
        assert_eq!(codes.take(&first, soon), Some(token));
        assert_eq!(codes.take(&first, soon), None);
        assert_eq!(codes.take(&second, NOW.plus(LIFETIME)), None);
        assert_eq!(codes.take("", NOW), None);
    }

    #[test]
    fn codes_that_nobody_uses_are_bounded() {
        let codes = SignInCodes::default();
        let made: Vec<_> = (0..=CODES_MAX)
            .map(|_| codes.make(TokenHash([1; 32]), NOW))
            .collect();
        assert_eq!(codes.take(&made[0], NOW), None);
        assert!(codes.take(&made[1], NOW).is_some());
    }
}
