//! The list of all statements, for the tests that check each one's plan.

/// Every statement that the daemon runs, by name, except those that begin and end transactions. The statements of
/// `check` are not included: they scan whole tables on purpose.
#[must_use]
pub fn all_statements() -> Vec<(&'static str, &'static str)> {
    [
        super::specs::STATEMENTS,
        super::counts::STATEMENTS,
        super::units::STATEMENTS,
        super::queue::STATEMENTS,
        super::groups::STATEMENTS,
        super::archive::STATEMENTS,
        super::attempts::STATEMENTS,
        super::outputs::STATEMENTS,
        super::cancellations::STATEMENTS,
        super::lists::STATEMENTS,
        super::uploads::STATEMENTS,
        super::workers::STATEMENTS,
        super::locks::STATEMENTS,
        super::times::STATEMENTS,
        super::tokens::STATEMENTS,
        super::audit::STATEMENTS,
        super::history::STATEMENTS,
    ]
    .concat()
}
