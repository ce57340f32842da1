//! Who has signed in: kept in memory, so that people sign in again after a restart of the daemon.

use crate::coordinate::TokenHash;
use rand::RngExt;
use rand::distr::Alphanumeric;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sessions at a time. A further one ends the one that was not used for the longest time.
const SESSIONS_MAX: usize = 1_000;

/// How long a session may be unused, 12 hours.
const IDLE_MAX: Duration = Duration::from_secs(12 * 3_600);

/// How long a session lasts at most, 7 days.
const LIFETIME_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Letters and digits of an id: 190 random bits.
const ID_LEN: usize = 32;

/// The sessions by their ids, which are secret.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Debug)]
struct Session {
    token: TokenHash,
    begun: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.used) >= IDLE_MAX || now.duration_since(self.begun) >= LIFETIME_MAX
    }
}

impl Sessions {
    /// Begins a session of somebody who has shown a token. Returns its id.
    pub(super) fn begin(&self, token: TokenHash, now: Instant) -> String {
        let id: String = rand::rng()
            .sample_iter(Alphanumeric)
            .take(ID_LEN)
            .map(char::from)
            .collect();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, session| !session.is_over(now));
        }
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                sessions.remove(&oldest);
            }
        }
        let session = Session {
            token,
            begun: now,
            used: now,
        };
        sessions.insert(id.clone(), session);
        id
    }

    /// The token of a session.
    pub(super) fn token_of(&self, id: &str, now: Instant) -> Option<TokenHash> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(id)?;
        if session.is_over(now) {
            sessions.remove(id);
            return None;
        }
        session.used = now;
        Some(session.token)
    }

    /// Ends a session.
    pub(super) fn end(&self, id: &str) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(byte: u8) -> TokenHash {
        TokenHash([byte; 32])
    }

    #[test]
    fn a_session_is_over_when_it_is_ended_or_unused_for_12_hours_or_after_7_days() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let hours = |hours: u64| start + Duration::from_secs(hours * 3_600);
        let [ended, unused, used] = [1, 2, 3].map(|byte| sessions.begin(token(byte), start));
        assert_eq!(sessions.token_of(&ended, hours(1)), Some(token(1)));
        sessions.end(&ended);
        assert_eq!(sessions.token_of(&ended, hours(1)), None);
        for hour in (0..7 * 24).step_by(11) {
            assert_eq!(
                sessions.token_of(&used, hours(hour)),
                Some(token(3)),
                "{hour}"
            );
        }
        assert_eq!(sessions.token_of(&used, hours(7 * 24)), None);
        assert_eq!(sessions.token_of(&unused, hours(12)), None);
        assert_eq!(sessions.token_of("", start), None);
    }

    #[test]
    fn sessions_are_bounded_and_the_one_that_is_unused_for_the_longest_time_ends() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let at = |second: usize| start + Duration::from_secs(second as u64);
        let ids: Vec<String> = (0..SESSIONS_MAX)
            .map(|n| sessions.begin(token(1), at(n)))
            .collect();
        assert!(sessions.token_of(&ids[0], at(SESSIONS_MAX)).is_some());
        sessions.begin(token(2), at(SESSIONS_MAX));
        let now = at(SESSIONS_MAX);
        assert!(sessions.token_of(&ids[0], now).is_some());
        assert!(sessions.token_of(&ids[1], now).is_none());
        assert!(sessions.token_of(&ids[2], now).is_some());
    }
}
