//! Tokens: secrets that say who calls, and what they may do.

use super::{Scopes, TokenId};
use crate::clock::Timestamp;
use rand::{Rng, RngExt};
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;

/// How long a token is valid if nothing else is said: 90 days.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// How many tokens there may be, 1,000, with those that are not valid any more: all are kept in memory.
pub const TOKENS_MAX: usize = 1_000;

/// How long a token that was revoked or has expired is kept, 90 days, so that people can look up what it was.
pub const TOKEN_KEPT: Duration = Duration::from_secs(90 * 86_400);

/// What is known of a token. It does not contain the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Identifies it in the file.
    pub id: TokenId,
    /// What people call it. Of all tokens of a name at most one is not revoked.
    pub name: String,
    /// How its secret is recognized.
    pub hash: TokenHash,
    /// How its secret begins, so that people recognize it.
    pub prefix: String,
    /// What it allows.
    pub scopes: Scopes,
    /// The only namespace in which it counts, or `None` for all of them.
    pub namespace: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// From when on it is not valid; `None` for never. A date that a person chose, so it stays when the clock is set.
    pub expires: Option<Timestamp>,
    /// About when it was last used; `None` for never.
    pub last_used: Option<Timestamp>,
    /// When it was revoked; `None` if it was not.
    pub revoked: Option<Timestamp>,
}

impl Token {
    /// True if it has expired.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What is asked for in a new token.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// See [`Token::name`].
    pub name: String,
    /// See [`Token::scopes`].
    pub scopes: Scopes,
    /// See [`Token::namespace`].
    pub namespace: Option<String>,
    /// See [`Token::expires`].
    pub expires: Option<Timestamp>,
}

/// Who manages tokens.
#[derive(Clone, Debug, Default)]
pub struct TokenManager {
    /// What is noted as the maker of a token.
    pub name: String,
    /// The only namespace whose tokens it may manage; `None` for all tokens.
    pub namespace: Option<String>,
}

/// The SHA-256 hash of a secret. A fast hash is enough, since a secret is not a password: it has 178 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

/// A secret: `cdt_`, 30 random letters and digits, and 6 that are a checksum, so that programs which look for leaked
/// secrets recognize it with certainty.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

const START: &str = "cdt_";
const RANDOM_LEN: usize = 30;
const CHECK_LEN: usize = 6;
/// How much of a secret is shown later.
const PREFIX_LEN: usize = START.len() + 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl Secret {
    /// A new one. The source of chance has to be one for secrets, as that of the daemon is.
    pub fn draw(random: &mut dyn Rng) -> Self {
        let mut text = START.to_owned();
        for _ in 0..RANDOM_LEN {
            text.push(char::from(DIGITS[random.random_range(0..DIGITS.len())]));
        }
        let check = checksum(&text);
        text.push_str(&check);
        Self(text)
    }

    /// Reads one. `None` if the text can't be one: it has another form, or its checksum is wrong.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_whole = text.len() == START.len() + RANDOM_LEN + CHECK_LEN
            && text.starts_with(START)
            && text[START.len()..]
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric());
        let body = text.get(..START.len() + RANDOM_LEN)?;
        let is_right = is_whole && text.get(body.len()..) == Some(&*checksum(body));
        is_right.then(|| Self(text.to_owned()))
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(&self.0).into())
    }

    /// How it begins.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0[..PREFIX_LEN]
    }

    /// All of it, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// The CRC-32 of a text in base 62.
fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut digits = [0; CHECK_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[rest % DIGITS.len()];
        rest /= DIGITS.len();
    }
    digits.map(char::from).iter().collect()
}

/// Not the secret, which must not get into a log.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}...)", self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn a_secret_is_read_again_and_one_with_a_wrong_letter_is_not() {
        let mut random = SmallRng::seed_from_u64(1);
        let secret = Secret::draw(&mut random);
        let text = secret.reveal();
        assert_eq!(text.len(), 40);
        assert_eq!(Secret::parse(text), Some(secret.clone()));
        for position in 0..text.len() {
            let mut wrong = text.to_owned().into_bytes();
            wrong[position] = if wrong[position] == b'x' { b'y' } else { b'x' };
            let wrong = String::from_utf8(wrong).expect("ASCII");
            assert_eq!(Secret::parse(&wrong), None, "{wrong}");
        }
        for text in [
            "",
            "cdt_",
            &text[..39],
            &format!("{text}0"),
            "cdt_\u{e9}",
            &"\u{e9}".repeat(20),
        ] {
            assert_eq!(Secret::parse(text), None, "{text}");
        }
        assert!(!format!("{secret:?}").contains(text));
        assert_ne!(Secret::draw(&mut random).hash(), secret.hash());
    }

    #[test]
    fn the_checksum_is_that_of_crc_32_in_base_62() {
        // CRC-32 of these digits is 0xcbf43926, the check value of its definition.
        assert_eq!(checksum("123456789"), "3jZRME");
    }
}
