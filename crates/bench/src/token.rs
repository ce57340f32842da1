//! The token that connections show.

use coordinated_client::Token;
use std::sync::LazyLock;

/// The token in COORDINATED_TOKEN, if there is one.
pub(super) fn from_environment() -> Option<&'static Token> {
    static TOKEN: LazyLock<Option<Token>> = LazyLock::new(|| {
        let text = std::env::var("COORDINATED_TOKEN").unwrap_or_default();
        let text = text.trim();
        (!text.is_empty()).then(|| Token::from(text))
    });
    TOKEN.as_ref()
}
