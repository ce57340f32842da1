//! URLs: what each one names, and how they are written.

use super::error::RestError;
use crate::coordinate::{Attempt, AttemptId, Name};
use crate::http::name_in_url::{self, encode, into_name};
use axum::http::StatusCode;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// What the path of a request names.
#[derive(Debug)]
pub(super) enum Place {
    Root,
    Summary,
    Namespaces,
    /// Something in a namespace.
    In(Arc<str>, Inner),
}

/// What is in a namespace.
#[derive(Debug)]
pub(super) enum Inner {
    Namespace,
    Summary,
    WorkSpecs,
    WorkSpec(Name, OfWorkSpec),
    Unit(Name, Name, OfUnit),
    Attempt(Name, Name, AttemptId, OfAttempt),
    Workers,
    Worker(Name, OfWorker),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum OfWorkSpec {
    Itself,
    Meta,
    Counts,
    Summary,
    Change,
    Adjust,
    Units,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum OfUnit {
    Itself,
    Attempts,
    AttemptCount,
    /// Only what is below it is anything.
    Attempt,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum OfAttempt {
    Itself,
    Action(Action),
}

/// What can be done with an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Renew,
    Expire,
    Finish,
    Fail,
    Retry,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum OfWorker {
    Itself,
    RequestAttempts,
    MakeAttempt,
    ActiveAttempts,
    AllAttempts,
    ChildAttempts,
}

impl Place {
    /// Reads a path.
    ///
    /// # Errors
    /// If there is nothing at it, or if it has a name that can't be decoded.
    pub(super) fn parse(path: &str) -> Result<Self, RestError> {
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let (name, inner) = match &segments[..] {
            [""] => return Ok(Self::Root),
            ["summary"] => return Ok(Self::Summary),
            ["namespace"] => return Ok(Self::Namespaces),
            ["namespace", name, inner @ ..] if !name.is_empty() => (name, inner),
            _ => return Err(nothing_at(path)),
        };
        let namespace = String::from_utf8(decode(name)?)
            .map_err(|_| RestError::bad_request("the name of the namespace is not UTF-8"))?;
        Ok(Self::In(namespace.into(), Inner::parse(inner, path)?))
    }
}

impl Inner {
    fn parse(segments: &[&str], path: &str) -> Result<Self, RestError> {
        Ok(match *segments {
            [] => Self::Namespace,
            ["summary"] => Self::Summary,
            ["work_spec"] => Self::WorkSpecs,
            ["work_spec", spec, ref rest @ ..] if !spec.is_empty() => {
                let spec = name(spec)?;
                match *rest {
                    [] => Self::WorkSpec(spec, OfWorkSpec::Itself),
                    ["meta"] => Self::WorkSpec(spec, OfWorkSpec::Meta),
                    ["counts"] => Self::WorkSpec(spec, OfWorkSpec::Counts),
                    ["summary"] => Self::WorkSpec(spec, OfWorkSpec::Summary),
                    ["change"] => Self::WorkSpec(spec, OfWorkSpec::Change),
                    ["adjust"] => Self::WorkSpec(spec, OfWorkSpec::Adjust),
                    ["work_unit"] => Self::WorkSpec(spec, OfWorkSpec::Units),
                    ["work_unit", unit, ref rest @ ..] if !unit.is_empty() => {
                        return Self::parse_unit(spec, name(unit)?, rest, path);
                    }
                    _ => return Err(nothing_at(path)),
                }
            }
            ["worker"] => Self::Workers,
            ["worker", worker, ref rest @ ..] if !worker.is_empty() => {
                let part = match *rest {
                    [] => OfWorker::Itself,
                    ["request_attempts"] => OfWorker::RequestAttempts,
                    ["make_attempt"] => OfWorker::MakeAttempt,
                    ["active_attempts"] => OfWorker::ActiveAttempts,
                    ["all_attempts"] => OfWorker::AllAttempts,
                    ["child_attempts"] => OfWorker::ChildAttempts,
                    _ => return Err(nothing_at(path)),
                };
                Self::Worker(name(worker)?, part)
            }
            _ => return Err(nothing_at(path)),
        })
    }

    fn parse_unit(
        spec: Name,
        unit: Name,
        segments: &[&str],
        path: &str,
    ) -> Result<Self, RestError> {
        Ok(match *segments {
            [] => Self::Unit(spec, unit, OfUnit::Itself),
            ["attempts"] => Self::Unit(spec, unit, OfUnit::Attempts),
            ["num-attempts"] => Self::Unit(spec, unit, OfUnit::AttemptCount),
            ["attempt"] => Self::Unit(spec, unit, OfUnit::Attempt),
            ["attempt", _worker, id, ref rest @ ..] => {
                let id = id
                    .parse()
                    .map_err(|_| RestError::new(StatusCode::NOT_FOUND, "no such attempt"))?;
                let part = match *rest {
                    [] => OfAttempt::Itself,
                    ["renew"] => OfAttempt::Action(Action::Renew),
                    ["expire"] => OfAttempt::Action(Action::Expire),
                    ["finish"] => OfAttempt::Action(Action::Finish),
                    ["fail"] => OfAttempt::Action(Action::Fail),
                    ["retry"] => OfAttempt::Action(Action::Retry),
                    _ => return Err(nothing_at(path)),
                };
                Self::Attempt(spec, unit, AttemptId(id), part)
            }
            _ => return Err(nothing_at(path)),
        })
    }
}

fn nothing_at(path: &str) -> RestError {
    RestError::new(StatusCode::NOT_FOUND, format!("nothing is at {path}"))
}

fn name(segment: &str) -> Result<Name, RestError> {
    decode(segment).map(into_name)
}

/// The bytes of the name that a segment of a path is.
///
/// # Errors
/// If it begins with a `-` that is not followed by base64.
fn decode(segment: &str) -> Result<Vec<u8>, RestError> {
    decode_bytes(percent_decode_str(segment).collect())
}

/// The same of a segment without percent-encoding.
pub(super) fn decode_bytes(segment: Vec<u8>) -> Result<Vec<u8>, RestError> {
    name_in_url::decode(segment).map_err(RestError::bad_request)
}

/// The template of a query for units.
pub(super) const UNIT_QUERY: &str = "{?name*,status*,previous,limit}";

/// Writes URLs, below a path that is before all of them.
#[derive(Clone, Debug)]
pub(super) struct Urls {
    pub(super) base: Arc<str>,
}

impl Urls {
    pub(super) fn namespace(&self, namespace: &str) -> String {
        format!("{}/namespace/{}", self.base, encode(namespace.as_bytes()))
    }

    pub(super) fn work_spec(&self, namespace: &str, work_spec: &Name) -> String {
        let namespace = self.namespace(namespace);
        format!("{namespace}/work_spec/{}", encode(work_spec.bytes()))
    }

    pub(super) fn unit(&self, namespace: &str, work_spec: &Name, unit: &Name) -> String {
        let work_spec = self.work_spec(namespace, work_spec);
        format!("{work_spec}/work_unit/{}", encode(unit.bytes()))
    }

    pub(super) fn worker(&self, namespace: &str, worker: &Name) -> String {
        let namespace = self.namespace(namespace);
        format!("{namespace}/worker/{}", encode(worker.bytes()))
    }
}

/// The URL of an attempt at the unit of a URL.
pub(super) fn attempt_url(unit_url: &str, attempt: &Attempt) -> String {
    let worker = encode(attempt.worker.as_ref().map_or(&[][..], Name::bytes));
    format!("{unit_url}/attempt/{worker}/{}", attempt.id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_themselves_in_urls_or_base64_behind_a_dash() {
        for (name, segment) in [
            ("", "-"),
            (".", "-Lg"),
            ("..", "-Li4"),
            ("-", "-LQ"),
            ("-dash", "-LWRhc2g"),
            ("foo", "foo"),
            ("a b/\u{e9}", "-YSBiL8Op"),
            ("caf\u{e9}", "-Y2Fmw6k"),
            ("2026-11-24T03:06:05Z", "2026-11-24T03:06:05Z"),
        ] {
            assert_eq!(encode(name.as_bytes()), segment);
            assert_eq!(decode(segment).expect("a name"), name.as_bytes());
        }
        assert_eq!(decode("a%20b").expect("a name"), b"a b");
        assert!(decode("-!").is_err());
        assert_eq!(decode(&encode(b"\xff")).expect("a name"), b"\xff");
    }

    #[test]
    fn paths_with_needless_slashes_name_nothing() {
        for path in [
            "/namespace/",
            "/namespace//work_spec",
            "/namespace/n/",
            "/namespace/n/work_spec/",
            "/namespace/n/work_spec/s/work_unit/",
            "/namespace/n/nonesuch",
        ] {
            assert!(Place::parse(path).is_err(), "{path}");
        }
        assert!(matches!(Place::parse("/"), Ok(Place::Root)));
    }
}
