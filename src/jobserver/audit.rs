//! The method that lists the audit: that of all namespaces, or of the one to which the caller's token is limited.

use super::call::{Call, Progress};
use super::params::{Options, Params};
use super::reply::{check_answer_length, ok_list, write_name, write_time};
use crate::coordinate::storage::{AuditQuery, Storage};
use crate::coordinate::{AuditEntry, AuditId, Result};
use crate::limits;
use coordinated_client::cbor::Writer;

/// Lists the entries of the audit, the newest first.
pub(super) fn list_audit<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let options = Options::read(params.get("options"))?;
    let query = AuditQuery {
        namespace: call.caller.namespace().map(str::to_owned),
        before: options.get("before").optional_integer()?.map(AuditId),
        limit: options.get("limit").list_limit()?,
    };
    let is_long = query.limit > limits::LIST_INLINE_MAX;
    call.list(is_long, out, move |lister, out| {
        let mut list = Vec::new();
        let mut count = 0;
        lister.list_audit(&query, &mut |entry| {
            check_answer_length(list.len())?;
            count += 1;
            write_entry(&mut Writer::new(&mut list), entry);
            Ok(())
        })?;
        ok_list(out, count, &list);
        Ok(())
    })
}

fn write_entry(writer: &mut Writer<'_>, entry: &AuditEntry) {
    writer.map(10);
    writer.bytes(b"id");
    writer.integer(entry.id.0);
    writer.bytes(b"namespace");
    writer.text(&entry.namespace);
    writer.bytes(b"time");
    write_time(writer, Some(entry.at));
    writer.bytes(b"token");
    write_text(writer, entry.token.as_deref());
    writer.bytes(b"interface");
    writer.text(&entry.interface);
    writer.bytes(b"address");
    write_text(writer, entry.address.as_deref());
    writer.bytes(b"action");
    writer.text(&entry.action);
    writer.bytes(b"work_spec");
    write_name(writer, entry.work_spec.as_ref());
    writer.bytes(b"detail");
    writer.text(&entry.detail);
    writer.bytes(b"count");
    writer.unsigned(entry.count);
}

fn write_text(writer: &mut Writer<'_>, text: Option<&str>) {
    match text {
        Some(text) => writer.text(text),
        None => writer.null(),
    }
}
