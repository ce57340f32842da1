//! Who may do what in REST: for each place and method, the scopes of which a token needs one, and where it has to count.

use super::path::{Inner, OfAttempt, OfUnit, OfWorkSpec, OfWorker, Place};
use crate::coordinate::{Scope, Scopes};
use crate::jobserver::Realm;
use axum::http::Method;

/// To find out where things are: all need it.
const FIND: Scopes = Scopes::ALL;
/// To see numbers.
const COUNT: Scopes = Scopes::of(&[Scope::Metrics]);
/// To see what is stored.
const READ: Scopes = Scopes::of(&[Scope::Read]);
/// To see what workers need for their work.
const READ_FOR_WORK: Scopes = Scopes::of(&[Scope::Read, Scope::Work]);
/// To see what those need who add units, and workers.
const READ_FOR_ALL: Scopes = Scopes::of(&[Scope::Read, Scope::Submit, Scope::Work]);
const OPERATE: Scopes = Scopes::of(&[Scope::Operate]);
const ADMIN: Scopes = Scopes::of(&[Scope::Admin]);
const SUBMIT: Scopes = Scopes::of(&[Scope::Submit]);
const WORK: Scopes = Scopes::of(&[Scope::Work]);

/// What is needed for a method at a place; `None` if the place does not take the method.
pub(super) fn needed<'a>(place: &'a Place, method: &Method) -> Option<(Realm<'a>, Scopes)> {
    let is_get = method == Method::GET;
    Some(match place {
        Place::Root if is_get => (Realm::Nowhere, FIND),
        Place::Summary if is_get => (Realm::All, COUNT),
        Place::Namespaces if is_get => (Realm::All, READ),
        // The namespace is in the body.
        Place::Namespaces if method == Method::POST => (Realm::Nowhere, FIND),
        Place::In(namespace, inner) => (Realm::In(namespace), needed_in(inner, method)?),
        Place::Root | Place::Summary | Place::Namespaces => return None,
    })
}

/// The same in a namespace.
fn needed_in(inner: &Inner, method: &Method) -> Option<Scopes> {
    use OfAttempt as A;
    use OfUnit as U;
    use OfWorkSpec as S;
    use OfWorker as W;
    Some(match (inner, method.as_str()) {
        (Inner::Namespace, "GET") => FIND,
        (Inner::Namespace, "DELETE") => ADMIN,
        (Inner::Summary, "GET") => COUNT,
        (Inner::WorkSpecs, "GET") => READ_FOR_WORK,
        (Inner::WorkSpecs, "POST") => OPERATE,
        (Inner::WorkSpec(_, S::Itself), "GET") => READ_FOR_ALL,
        (Inner::WorkSpec(_, S::Itself), "PUT" | "DELETE") => OPERATE,
        (Inner::WorkSpec(_, S::Meta), "GET") => READ_FOR_WORK,
        (Inner::WorkSpec(_, S::Meta), "PUT") => OPERATE,
        (Inner::WorkSpec(_, S::Counts | S::Summary), "GET") => COUNT,
        (Inner::WorkSpec(_, S::Change | S::Adjust), "POST") => OPERATE,
        (Inner::WorkSpec(_, S::Units), "GET") => READ,
        (Inner::WorkSpec(_, S::Units), "POST") => SUBMIT,
        (Inner::WorkSpec(_, S::Units), "DELETE") => OPERATE,
        (Inner::Unit(_, _, U::Itself), "GET") => READ_FOR_ALL,
        (Inner::Unit(_, _, U::Itself), "PUT") => OPERATE,
        (Inner::Unit(_, _, U::Attempts | U::AttemptCount), "GET") => READ_FOR_WORK,
        (Inner::Attempt(_, _, _, A::Itself), "GET") => READ_FOR_WORK,
        (Inner::Attempt(_, _, _, A::Action(_)), "POST") => WORK,
        (Inner::Worker(_, W::Itself), "GET") => READ_FOR_WORK,
        (Inner::Worker(_, W::Itself), "PUT") => WORK,
        (Inner::Worker(_, W::RequestAttempts | W::MakeAttempt), "POST") => WORK,
        (Inner::Worker(_, W::ActiveAttempts | W::AllAttempts | W::ChildAttempts), "GET") => {
            READ_FOR_WORK
        }
        _ => return None,
    })
}
