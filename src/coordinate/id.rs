//! What things are identified by in the database.

/// Identifies a namespace: a world of its own of work specs and workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId(pub i64);

/// Identifies a work spec in the file. A spec that is deleted and set again gets another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkSpecId(pub i64);

/// Identifies a work unit in the file. Never used again while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkUnitId(pub i64);

/// Identifies an attempt. Later attempts have larger ones, and none is used again, so that programs can fence what they do
/// with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub i64);

/// Identifies a token in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub i64);

/// Identifies an entry of the audit. Later ones have larger ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuditId(pub i64);
