//! The parameters behind the question mark of a URL.

use super::error::RestError;
use super::path::decode_bytes;
use crate::coordinate::{UnitSelection, UnitStatus};
use crate::http::name_in_url::into_name;
use percent_encoding::percent_decode;

/// The parameters in their order, decoded.
pub(in super::super) fn parameters(
    query: Option<&str>,
) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let parts = query.unwrap_or_default().split('&');
    parts.filter(|part| !part.is_empty()).map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode(spaced.as_bytes()).collect()
        };
        (decode(key), decode(value))
    })
}

/// Which units a query asks for.
///
/// # Errors
/// If a value can't be used.
pub(super) fn unit_selection(query: Option<&str>) -> Result<UnitSelection, RestError> {
    let mut selection = UnitSelection::default();
    for (key, value) in parameters(query) {
        match &*key {
            b"name" => selection
                .names
                .get_or_insert_default()
                .push(into_name(value)),
            b"status" => {
                let statuses = selection.statuses.get_or_insert_default();
                statuses.extend(status_of(&value)?);
            }
            // The client of the original encodes this name as in a path, and no others.
            b"previous" if !value.is_empty() => {
                selection.after = Some(into_name(decode_bytes(value)?));
            }
            b"limit" => {
                let limit = String::from_utf8_lossy(&value);
                let limit: i64 = limit.parse().map_err(|_| {
                    RestError::bad_request(format!("limit: expected an integer, got {limit:?}"))
                })?;
                selection.limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
            }
            _ => {}
        }
    }
    Ok(selection)
}

/// A status by its name; `None` for `any`, which no unit has.
fn status_of(name: &[u8]) -> Result<Option<UnitStatus>, RestError> {
    if name == b"any" {
        return Ok(None);
    }
    let mut all = UnitStatus::ALL.into_iter();
    match all.find(|status| status_name(*status).as_bytes() == name) {
        Some(status) => Ok(Some(status)),
        None => Err(RestError::bad_request(format!(
            "status: expected available, pending, finished, failed or delayed, got {:?}",
            String::from_utf8_lossy(name)
        ))),
    }
}

pub(super) fn status_name(status: UnitStatus) -> &'static str {
    match status {
        UnitStatus::Available => "available",
        UnitStatus::Delayed => "delayed",
        UnitStatus::Pending => "pending",
        UnitStatus::Finished => "finished",
        UnitStatus::Failed => "failed",
    }
}

/// True if the parameter `counts` says yes.
pub(super) fn wants_counts(query: Option<&str>) -> bool {
    let yes = ["1", "t", "y", "true", "on", "yes"];
    let mut counts = parameters(query).filter(|(key, _)| key == b"counts");
    counts.next().is_some_and(|(_, value)| {
        yes.iter()
            .any(|yes| value.eq_ignore_ascii_case(yes.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinate::Name;

    #[test]
    fn a_query_for_units_is_read_with_repeated_parameters() {
        let query = "name=a+b&name=-dash&status=failed&status=any&previous=-YSBi&limit=3&other=1";
        let selection = unit_selection(Some(query)).expect("a query");
        let names = ["a b", "-dash"].map(Name::from_text);
        assert_eq!(selection.names.as_deref(), Some(&names[..]));
        assert_eq!(selection.statuses, Some(vec![UnitStatus::Failed]));
        assert_eq!(selection.after, Some(Name::from_text("a b")));
        assert_eq!(selection.limit, Some(3));
        for query in [None, Some(""), Some("limit=0"), Some("limit=-1&previous=")] {
            assert!(
                unit_selection(query).expect("a query").is_all(),
                "{query:?}"
            );
        }
        for query in ["limit=x", "status=bogus", "previous=-!"] {
            assert!(unit_selection(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn counts_are_wanted_if_the_parameter_says_yes() {
        for (query, wanted) in [
            ("counts=true", true),
            ("counts=Y", true),
            ("counts=0", false),
            ("counts=maybe", false),
            ("", false),
        ] {
            assert_eq!(wants_counts(Some(query)), wanted, "{query}");
        }
    }
}
