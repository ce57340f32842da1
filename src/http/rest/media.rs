//! Media types: which one an answer has, and which ones a body may have. All of them mean the same JSON.

use super::error::RestError;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};

/// The type of answers to clients that ask for no other one.
pub(super) const V1: &str = "application/vnd.diffeo.coordinate.v1+json";

const TYPES: [&str; 4] = [
    V1,
    "application/vnd.diffeo.coordinate+json",
    "application/json",
    "text/json",
];

/// The type of the answer to a request: of the ranges in `Accept` that one which the client likes best. Among equals the
/// most specific one counts, then the first.
///
/// # Errors
/// If the header can't be read, or if the client takes none of the types.
pub(super) fn of_answer(headers: &HeaderMap) -> Result<&'static str, RestError> {
    let mut ranges = Vec::new();
    for value in headers.get_all(ACCEPT) {
        let value = value.to_str().map_err(|_| bad_accept())?;
        for range in value.split(',').map(str::trim) {
            if !range.is_empty() {
                ranges.push(Range::parse(range)?);
            }
        }
    }
    if ranges.is_empty() {
        return Ok(V1);
    }
    let mut best: Option<&Range> = None;
    for range in ranges.iter().filter(|range| range.quality > 0.0) {
        let rank = |range: &Range| (range.quality, range.precision);
        if best.is_none_or(|best| rank(range) > rank(best)) {
            best = Some(range);
        }
    }
    best.map(|best| best.media).ok_or_else(|| {
        let message = "No acceptable representation for response";
        RestError::new(StatusCode::NOT_ACCEPTABLE, message)
    })
}

/// A range of `Accept` that one of the types is in.
struct Range {
    /// The type that it stands for. Of an unknown one, the quality is 0.
    media: &'static str,
    quality: f32,
    /// The more, the fewer types it names.
    precision: u8,
}

impl Range {
    fn parse(text: &str) -> Result<Self, RestError> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        if !name.contains('/') {
            return Err(bad_accept());
        }
        let mut quality = 1.0;
        for part in parts {
            if let Some((key, value)) = part.split_once('=')
                && key.trim().eq_ignore_ascii_case("q")
            {
                quality = value.trim().parse().map_err(|_| bad_accept())?;
            }
        }
        if !(0.0..=1.0).contains(&quality) {
            return Err(bad_accept());
        }
        let (media, precision) = match &*name {
            "*/*" => (V1, 0),
            "application/*" => (V1, 1),
            "text/*" => ("text/json", 1),
            name => match TYPES.iter().find(|media| **media == name) {
                Some(media) => (*media, 2),
                None => (V1, 0),
            },
        };
        let is_known = name.ends_with("/*") || TYPES.contains(&&*name);
        Ok(Self {
            media,
            quality: if is_known && !is_foreign(&name) {
                quality
            } else {
                0.0
            },
            precision,
        })
    }
}

/// True for a range such as `image/*`.
fn is_foreign(name: &str) -> bool {
    name.ends_with("/*") && !matches!(name, "*/*" | "application/*" | "text/*")
}

fn bad_accept() -> RestError {
    RestError::new(StatusCode::BAD_REQUEST, "Invalid Accept: header")
}

/// Checks the type of a body.
///
/// # Errors
/// If it is none of the types.
pub(super) fn check_body(headers: &HeaderMap) -> Result<(), RestError> {
    let given = match headers.get(CONTENT_TYPE) {
        None => "application/octet-stream",
        Some(value) => value.to_str().unwrap_or_default(),
    };
    let name = given.split(';').next().unwrap_or_default().trim();
    if TYPES.iter().any(|media| name.eq_ignore_ascii_case(media)) {
        return Ok(());
    }
    if !name.contains('/') {
        let message = format!("Invalid Content-Type: header {name:?}");
        return Err(RestError::new(StatusCode::BAD_REQUEST, message));
    }
    let message = format!("Unsupported media type {name:?}");
    Err(RestError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(accept: &str) -> Result<&'static str, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        of_answer(&headers).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn the_answer_has_the_type_that_the_client_likes_best() {
        for (accept, media) in [
            ("", V1),
            ("*/*", V1),
            ("application/*", V1),
            ("text/*", "text/json"),
            ("application/json", "application/json"),
            ("Application/JSON; charset=utf-8", "application/json"),
            (
                "text/html, application/json;q=0.5, */*;q=0.1",
                "application/json",
            ),
            ("text/html,application/xhtml+xml,*/*;q=0.8", V1),
            ("*/*, text/*, text/json, application/json", "text/json"),
            (
                "text/json;q=0.5, application/json;q=0.6",
                "application/json",
            ),
            (
                "application/vnd.diffeo.coordinate+json",
                "application/vnd.diffeo.coordinate+json",
            ),
        ] {
            assert_eq!(answer(accept), Ok(media), "{accept}");
        }
    }

    #[test]
    fn a_client_that_takes_none_of_the_types_or_writes_nonsense_is_told() {
        for (accept, status) in [
            ("text/html", 406),
            ("image/*", 406),
            ("application/json;q=0", 406),
            ("application/json;q=2", 400),
            ("application/json;q=x", 400),
            ("json", 400),
        ] {
            assert_eq!(answer(accept), Err(status), "{accept}");
        }
    }
}
