//! Scopes: what a token allows.

use std::fmt;
use std::str::FromStr;

/// What a token allows. Each of `metrics`, `read`, `operate` and `admin` includes those before it, and `admin` also the other
/// two: who may make tokens could make one with any scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To see numbers: counts and measurements.
    Metrics,
    /// To see everything that is stored, except tokens.
    Read,
    /// To change what is there: set, pause and delete work specs, retry and delete units.
    Operate,
    /// To do everything, also to make tokens.
    Admin,
    /// To add work units.
    Submit,
    /// To do work: get units, report on them, and lock.
    Work,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 6] = [
        Self::Metrics,
        Self::Read,
        Self::Operate,
        Self::Admin,
        Self::Submit,
        Self::Work,
    ];

    /// Its name, on the wire and in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
            Self::Submit => "submit",
            Self::Work => "work",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope '{0}': use metrics, read, operate, admin, submit or work")]
pub struct ParseScopeError(String);

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| ParseScopeError(text.to_owned()))
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self::of(&Scope::ALL);

    /// These.
    #[must_use]
    pub const fn of(scopes: &[Scope]) -> Self {
        let (mut bits, mut rest) = (0, scopes);
        while let [first, others @ ..] = rest {
            bits |= 1 << *first as u8;
            rest = others;
        }
        Self(bits)
    }

    /// True if there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These, and those that they include.
    #[must_use]
    pub const fn with_included(self) -> Self {
        const READ: Scopes = Scopes::of(&[Scope::Metrics, Scope::Read]);
        const OPERATE: Scopes = Scopes::of(&[Scope::Metrics, Scope::Read, Scope::Operate]);
        if self.has_any(Self::of(&[Scope::Admin])) {
            Self::ALL
        } else if self.has_any(Self::of(&[Scope::Operate])) {
            Self(self.0 | OPERATE.0)
        } else if self.has_any(Self::of(&[Scope::Read])) {
            Self(self.0 | READ.0)
        } else {
            self
        }
    }

    /// True if one of these is among `others`.
    #[must_use]
    pub const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// The scopes, in order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        let is_in = move |scope: &Scope| self.has_any(Self::of(&[*scope]));
        Scope::ALL.into_iter().filter(is_in)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let add = |set: Self, scope| Self(set.0 | Self::of(&[scope]).0);
        scopes.into_iter().fold(Self::NONE, add)
    }
}

/// Their names, separated by spaces: the form in the file.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Scope::name).collect();
        f.write_str(&names.join(" "))
    }
}

impl FromStr for Scopes {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_ascii_whitespace().map(str::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_include_those_below_them_and_admin_includes_all() {
        for (scope, included) in [
            (Scope::Metrics, "metrics"),
            (Scope::Read, "metrics read"),
            (Scope::Operate, "metrics read operate"),
            (Scope::Admin, "metrics read operate admin submit work"),
            (Scope::Submit, "submit"),
            (Scope::Work, "work"),
        ] {
            assert_eq!(Scopes::of(&[scope]).with_included().to_string(), included);
        }
    }

    #[test]
    fn scopes_are_written_as_their_names_and_read_again() {
        for text in ["", "read", "metrics submit work"] {
            assert_eq!(text.parse::<Scopes>().expect("scopes").to_string(), text);
        }
        assert!("read root".parse::<Scopes>().is_err());
    }
}
