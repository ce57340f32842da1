//! Which units of a work spec are meant.

use super::{Name, UnitStatus};

/// Conditions on the units of a work spec. All of them must be met.
#[derive(Clone, Debug, Default)]
pub struct UnitSelection {
    /// Only units of these names.
    pub names: Option<Vec<Name>>,
    /// Only those in one of these statuses.
    pub statuses: Option<Vec<UnitStatus>>,
    /// Only those whose names come after this one, by bytes.
    pub after: Option<Name>,
    /// At most this many, those with the lowest names.
    pub limit: Option<usize>,
}

impl UnitSelection {
    /// True if it has no condition, so that all units are meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.names.is_none()
            && self.statuses.is_none()
            && self.after.is_none()
            && self.limit.is_none()
    }

    /// The names that it asks for, without those that come too early, sorted by their bytes, each once. `None` if it asks
    /// for no names.
    #[must_use]
    pub fn sorted_names(&self) -> Option<Vec<&Name>> {
        let names = self.names.as_ref()?;
        let is_behind = |name: &&Name| self.after.as_ref().is_none_or(|after| *name > after);
        let mut names: Vec<&Name> = names.iter().filter(is_behind).collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_taken_once_and_only_from_behind_the_given_one() {
        let names = ["c", "a", "b", "c"].map(Name::from_text);
        let selection = UnitSelection {
            names: Some(names.to_vec()),
            after: Some(Name::from_text("a")),
            ..UnitSelection::default()
        };
        let expected = [Name::from_text("b"), Name::from_text("c")];
        assert_eq!(selection.sorted_names(), Some(expected.iter().collect()));
        assert_eq!(UnitSelection::default().sorted_names(), None);
        assert!(UnitSelection::default().is_all() && !selection.is_all());
    }
}
