//! The audit: what was changed by calls that control the queue, and by whom.

use super::answer::Answer;
use super::{Coordinate, Name, Result, options};

/// An entry of the audit.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Identifies it. Later ones have larger ids.
    pub id: u64,
    /// The namespace in which it happened, which may be gone.
    pub namespace: String,
    /// When it happened, in seconds since 1970.
    pub time: f64,
    /// The name of the token of the one who did it; `None` if it had shown none.
    pub token: Option<String>,
    /// By which protocol: `cborrpc` or `http`.
    pub interface: String,
    /// From where; `None` over a Unix socket.
    pub address: Option<String>,
    /// What was done, in one word.
    pub action: String,
    /// The work spec that it concerns, if it is about one.
    pub work_spec: Option<Name>,
    /// More about it, for people.
    pub detail: String,
    /// How many things were changed.
    pub count: u64,
}

impl Coordinate {
    /// At most `limit` entries of the audit, the newest first: those before an entry, or all. Only `coordinated` supports
    /// it.
    pub fn list_audit(&mut self, before: Option<u64>, limit: u64) -> Result<Vec<AuditEntry>> {
        let options = options([
            ("before", before.map(Into::into)),
            ("limit", Some(limit.into())),
        ]);
        let entries = self
            .call_with("list_audit", [options])?
            .accepted()?
            .items()?;
        entries.into_iter().map(|answer| entry(&answer)).collect()
    }
}

fn entry(answer: &Answer) -> Result<AuditEntry> {
    Ok(AuditEntry {
        id: answer.field("id").count()?,
        namespace: answer.field("namespace").text()?,
        time: answer.field("time").number()?,
        token: answer.field("token").optional_text()?,
        interface: answer.field("interface").text()?,
        address: answer.field("address").optional_text()?,
        action: answer.field("action").text()?,
        work_spec: answer.field("work_spec").optional_name()?,
        detail: answer.field("detail").text()?,
        count: answer.field("count").count()?,
    })
}
