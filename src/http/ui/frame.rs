//! What all pages have around their content, and where links lead.

use super::{Ui, assets, name_in_url, sign_in};
use crate::coordinate::storage::Storage;
use crate::coordinate::{Name, Scope, Scopes};
use crate::jobserver::Caller;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_ENCODING, COOKIE};
use axum::http::request::Parts;
use std::convert::Infallible;
use std::sync::Arc;

/// The page of the navigation that a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    None,
    Overview,
    Failures,
    Workers,
    Locks,
    Operations,
    Audit,
    Daemon,
}

impl Tab {
    /// Those in the navigation, with their titles, their paths and their keys.
    pub(super) const ALL: [(Self, &'static str, &'static str, char); 7] = [
        (Self::Overview, "Overview", "", 'o'),
        (Self::Failures, "Failures", "failures", 'f'),
        (Self::Workers, "Workers", "workers", 'w'),
        (Self::Locks, "Locks", "locks", 'l'),
        (Self::Operations, "Operations", "operations", 'p'),
        (Self::Audit, "Audit", "audit", 'a'),
        (Self::Daemon, "Daemon", "daemon", 'd'),
    ];
}

/// What all pages have around their content.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    base: Arc<str>,
    pub(super) tab: Tab,
    /// The colours that the person has chosen: `light`, `dark`, or nothing for those of the system.
    pub(super) theme: &'static str,
    /// True if pages are sent compressed.
    pub(super) takes_gzip: bool,
    /// True if the person may change something.
    pub(super) may_operate: bool,
    /// True if the person may see the audit and manage tokens.
    pub(super) may_administer: bool,
    /// True if the person may see what concerns all namespaces, as the daemon itself does.
    pub(super) sees_all: bool,
    /// The name of the token with which the person has signed in.
    pub(super) person: Option<String>,
}

impl Frame {
    pub(super) fn new(base: &Arc<str>, headers: &HeaderMap) -> Self {
        let texts = |name| {
            headers
                .get_all(name)
                .into_iter()
                .filter_map(|it| it.to_str().ok())
        };
        let cookies = || {
            texts(COOKIE)
                .flat_map(|cookies| cookies.split(';'))
                .map(str::trim)
        };
        let theme = cookies().find_map(|cookie| cookie.strip_prefix("coordinated-theme="));
        let takes_gzip = texts(ACCEPT_ENCODING)
            .flat_map(|encodings| encodings.split(','))
            .any(|encoding| encoding.trim() == "gzip");
        Self {
            base: Arc::clone(base),
            tab: Tab::None,
            theme: match theme {
                Some("light") => "light",
                Some("dark") => "dark",
                _ => "",
            },
            takes_gzip,
            may_operate: false,
            may_administer: false,
            sees_all: true,
            person: None,
        }
    }

    /// The frame of a page for somebody.
    fn for_caller(mut self, caller: &Caller) -> Self {
        self.may_operate = caller.may(Scopes::of(&[Scope::Operate]));
        self.may_administer = caller.may(Scopes::of(&[Scope::Admin]));
        self.sees_all = caller.counts_everywhere();
        self.person = caller.token_name().map(str::to_owned);
        self
    }

    /// The frame of a page in the navigation.
    pub(super) fn on(mut self, tab: Tab) -> Self {
        self.tab = tab;
        self
    }

    /// True if the person may see a page of the navigation.
    pub(super) fn shows(&self, tab: &Tab) -> bool {
        match tab {
            Tab::Audit => self.may_administer,
            Tab::Daemon => self.sees_all,
            _ => true,
        }
    }

    /// The URL of a page.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/ui/{path}", self.base)
    }

    /// The URL of a file of ours.
    pub(super) fn asset(&self, name: &str) -> String {
        self.url(&format!("assets/{}", assets::versioned(name)))
    }

    /// The URL of a work spec.
    pub(super) fn spec(&self, spec: &Name) -> String {
        self.url(&format!("spec/{}", name_in_url(spec)))
    }

    /// The URL of a unit.
    pub(super) fn unit(&self, spec: &Name, unit: &Name) -> String {
        format!("{}/unit/{}", self.spec(spec), name_in_url(unit))
    }

    /// The URL of a worker.
    pub(super) fn worker(&self, worker: &Name) -> String {
        self.url(&format!("worker/{}", name_in_url(worker)))
    }
}

impl<S: Storage> FromRequestParts<Arc<Ui<S>>> for Frame {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        ui: &Arc<Ui<S>>,
    ) -> Result<Self, Self::Rejection> {
        let frame = Self::new(&ui.base, &parts.headers);
        Ok(frame.for_caller(&sign_in::caller_of(ui, parts)))
    }
}
