//! Reading results: this module knows their forms.

use super::{Error, Name, Result};
use crate::cbor::Value;

/// A result, and the method that it is the result of.
pub(super) struct Answer {
    method: String,
    value: Value,
}

impl Answer {
    pub(super) fn new(method: &str, value: Value) -> Self {
        Self {
            method: method.to_owned(),
            value,
        }
    }

    /// The result as it is.
    pub(super) fn value(self) -> Value {
        self.value
    }

    /// The value and the message of a pair, the form of most results.
    pub(super) fn pair(self) -> Result<(Answer, Option<String>)> {
        let [value, message] = match self.value {
            Value::Array(items) => items,
            Value::Tag(_, content) => match *content {
                Value::Array(items) => items,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
        .try_into()
        .map_err(|_| unreadable(&self.method, "expected a pair of a value and a message"))?;
        let message = match message {
            Value::Null => None,
            other => other.as_text_lossy().map(|text| text.into_owned()),
        };
        let answer = Self {
            method: self.method,
            value,
        };
        Ok((answer, message))
    }

    /// The value of a pair, and its message, which may be a note on success.
    ///
    /// # Errors
    /// `Refused` if the message says why there is no value.
    pub(super) fn accepted_with_message(self) -> Result<(Answer, Option<String>)> {
        let (answer, message) = self.pair()?;
        let is_failed = matches!(
            answer.value,
            Value::Null | Value::Bool(false) | Value::Int(0)
        );
        match message {
            Some(message) if is_failed => Err(Error::Refused {
                method: answer.method,
                message,
            }),
            message => Ok((answer, message)),
        }
    }

    /// The value of a pair.
    ///
    /// # Errors
    /// `Refused` if a message says why there is none.
    pub(super) fn accepted(self) -> Result<Answer> {
        Ok(self.accepted_with_message()?.0)
    }

    /// Makes sure that a pair reports success.
    ///
    /// # Errors
    /// `Refused` if it does not.
    pub(super) fn done(self) -> Result<()> {
        self.accepted()?.yes()
    }

    /// Makes sure that the value is true. The Go daemons answer false without a message if there was nothing to change.
    pub(super) fn yes(self) -> Result<()> {
        match self.value {
            Value::Bool(true) => Ok(()),
            Value::Bool(false) | Value::Null => Err(Error::Refused {
                message: format!("{} was refused without a reason", self.method),
                method: self.method,
            }),
            _ => Err(self.unexpected("true or false")),
        }
    }

    /// The map in a pair, or a bare map, as the Go daemons send some.
    pub(super) fn map_or_pair(self) -> Result<Answer> {
        match self.value {
            Value::Map(_) => Ok(self),
            _ => self.accepted(),
        }
    }

    /// The items of a list. The first Go daemons send null for an empty one.
    pub(super) fn items(self) -> Result<Vec<Answer>> {
        let items = match self.value {
            Value::Array(items) => items,
            Value::Tag(crate::cbor::TAG_TUPLE, content) => match *content {
                Value::Array(items) => items,
                _ => return Err(unreadable(&self.method, "expected a list")),
            },
            Value::Null => Vec::new(),
            _ => return Err(self.unexpected("a list")),
        };
        let items = items.into_iter();
        Ok(items.map(|item| Self::new(&self.method, item)).collect())
    }

    /// A fixed number of items of a list.
    pub(super) fn exactly<const N: usize>(self) -> Result<[Answer; N]> {
        let method = self.method.clone();
        let wrong = |_| unreadable(&method, &format!("expected a list of {N} items"));
        self.items()?.try_into().map_err(wrong)
    }

    /// The same if the last item may be missing, which then is null.
    pub(super) fn exactly_or_without_last<const N: usize>(self) -> Result<[Answer; N]> {
        let Self { method, value } = self;
        let mut items = Self::new(&method, value).items()?;
        if items.len() + 1 == N {
            items.push(Self::new(&method, Value::Null));
        }
        let wrong = |_| {
            unreadable(
                &method,
                &format!("expected a list of {N} items, or without the last one"),
            )
        };
        items.try_into().map_err(wrong)
    }

    /// The entries of a map.
    pub(super) fn entries(self) -> Result<Vec<(Answer, Answer)>> {
        let Value::Map(entries) = self.value else {
            return Err(self.unexpected("a map"));
        };
        let entries = entries.into_iter();
        let method = &self.method;
        Ok(entries
            .map(|(key, value)| (Self::new(method, key), Self::new(method, value)))
            .collect())
    }

    /// The value; `None` for null.
    pub(super) fn optional(self) -> Option<Answer> {
        (!self.value.is_null()).then_some(self)
    }

    /// The value under a name in a map; null if it is missing.
    pub(super) fn field(&self, name: &str) -> Answer {
        let value = self.value.get(name).cloned().unwrap_or(Value::Null);
        Self::new(&self.method, value)
    }

    /// A non-negative integer.
    pub(super) fn count(&self) -> Result<u64> {
        self.value
            .as_u64()
            .ok_or_else(|| self.unexpected("a count"))
    }

    /// A non-negative integer, or null.
    pub(super) fn optional_count(self) -> Result<Option<u64>> {
        self.optional().map(|answer| answer.count()).transpose()
    }

    /// An integer.
    pub(super) fn integer(&self) -> Result<i64> {
        self.value
            .as_i64()
            .ok_or_else(|| self.unexpected("an integer"))
    }

    /// A number.
    pub(super) fn number(&self) -> Result<f64> {
        self.value
            .as_f64()
            .ok_or_else(|| self.unexpected("a number"))
    }

    /// A number, or null.
    pub(super) fn optional_number(self) -> Result<Option<f64>> {
        self.optional().map(|answer| answer.number()).transpose()
    }

    /// A name.
    pub(super) fn name(&self) -> Result<Name> {
        Name::from_value(&self.value).ok_or_else(|| self.unexpected("a string"))
    }

    /// A name, or null.
    pub(super) fn optional_name(self) -> Result<Option<Name>> {
        self.optional().map(|answer| answer.name()).transpose()
    }

    /// A text for people; bytes that are not UTF-8 are replaced.
    pub(super) fn text(&self) -> Result<String> {
        let text = self.value.as_text_lossy().map(|text| text.into_owned());
        text.ok_or_else(|| self.unexpected("a string"))
    }

    /// A text for people, or null.
    pub(super) fn optional_text(self) -> Result<Option<String>> {
        self.optional().map(|answer| answer.text()).transpose()
    }

    /// The error that something else was expected.
    pub(super) fn unexpected(&self, expected: &str) -> Error {
        let found = self.value.kind_name();
        unreadable(&self.method, &format!("expected {expected}, got {found}"))
    }
}

fn unreadable(method: &str, problem: &str) -> Error {
    Error::Unreadable {
        method: method.to_owned(),
        problem: problem.to_owned(),
    }
}
