//! Methods about tokens: who calls, and who may call.

use super::call::{Call, Progress};
use super::doorkeeper::Interface;
use super::params::{Options, Param, Params};
use super::reply::{FailedValue, ok_list, ok_pair, write_time};
use crate::clock::Timestamp;
use crate::coordinate::storage::Storage;
use crate::coordinate::{Error, NewToken, Result, Scope, Scopes, Secret, TOKEN_LIFETIME, Token};
use coordinated_client::cbor::Writer;

/// How long a token's name may be, and what its maker is called.
const NAME_BYTES_MAX: usize = 200;

/// Says who the connection is.
pub(super) fn authenticate<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let secret = text(&params.get("token"))?;
    if call.caller.interface() != Interface::CborRpc {
        return Err(Error::Refused(
            "over HTTP each request has its token in the header Authorization".to_owned(),
        ));
    }
    let (doorkeeper, now) = (call.doorkeeper, call.operation.now);
    let caller = doorkeeper
        .recognize(Interface::CborRpc, call.caller.address(), &secret, now)
        .map_err(|error| Error::Unauthenticated(error.to_string()))?;
    if let Some(token) = caller.token() {
        ok_pair(out, |writer| write_token(writer, token, None));
    }
    call.recognized = Some(caller);
    Ok(Progress::Done)
}

/// Makes a token.
pub(super) fn create_token<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let options = Options::read(params.get("options"))?;
    let new = NewToken {
        name: text(&params.get("name"))?,
        scopes: scopes(&options.get("scopes"))?,
        namespace: match options.get("namespace").item() {
            Some(_) => Some(
                options
                    .get("namespace")
                    .optional_text(NAME_BYTES_MAX)?
                    .unwrap_or_default(),
            ),
            None => None,
        },
        expires: expires(&options.get("expires"), call.operation.now)?,
    };
    let by = call
        .caller
        .as_token_manager(options.get("by").optional_text(NAME_BYTES_MAX)?);
    let made = call.operation.create_token(&by, new);
    write_made(call, made, out)
}

/// Gives a token another secret.
pub(super) fn rotate_token<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let options = Options::read(params.get("options"))?;
    let name = text(&params.get("name"))?;
    let by = call
        .caller
        .as_token_manager(options.get("by").optional_text(NAME_BYTES_MAX)?);
    let made = call.operation.rotate_token(&by, &name);
    write_made(call, made, out)
}

/// Revokes a token.
pub(super) fn revoke_token<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let name = text(&params.get("name"))?;
    let by = call.caller.as_token_manager(None);
    let revoked = call.operation.revoke_token(&by, &name);
    if call
        .failures
        .write(out, FailedValue::False, revoked)?
        .is_some()
    {
        super::reply::true_pair(out);
    }
    Ok(Progress::Done)
}

/// Makes a code for the page.
pub(super) fn create_sign_in_code<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let made = call
        .doorkeeper
        .make_sign_in_code(call.caller, call.operation.now);
    if let Some((code, expires)) = call.failures.write(out, FailedValue::Null, made)? {
        ok_pair(out, |writer| {
            writer.map(2);
            writer.bytes(b"code");
            writer.text(&code);
            writer.bytes(b"expires");
            write_time(writer, Some(expires));
        });
    }
    Ok(Progress::Done)
}

/// Lists all tokens, without their secrets.
pub(super) fn list_tokens<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let tokens = call.operation.tokens(&call.caller.as_token_manager(None))?;
    let mut list = Vec::new();
    for token in &tokens {
        write_token(&mut Writer::new(&mut list), token, None);
    }
    ok_list(out, tokens.len(), &list);
    Ok(Progress::Done)
}

fn write_made<S: Storage>(
    call: &Call<'_, S>,
    made: Result<(Token, Secret)>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    if let Some((token, secret)) = call.failures.write(out, FailedValue::Null, made)? {
        ok_pair(out, |writer| write_token(writer, &token, Some(&secret)));
    }
    Ok(Progress::Done)
}

fn write_token(writer: &mut Writer<'_>, token: &Token, secret: Option<&Secret>) {
    writer.map(if secret.is_some() { 10 } else { 9 });
    if let Some(secret) = secret {
        writer.bytes(b"token");
        writer.text(secret.reveal());
    }
    writer.bytes(b"name");
    writer.text(&token.name);
    writer.bytes(b"prefix");
    writer.text(&token.prefix);
    writer.bytes(b"scopes");
    writer.array(token.scopes.iter().count());
    for scope in token.scopes.iter() {
        writer.text(scope.name());
    }
    writer.bytes(b"namespace");
    match &token.namespace {
        Some(namespace) => writer.text(namespace),
        None => writer.null(),
    }
    writer.bytes(b"created");
    write_time(writer, Some(token.created));
    writer.bytes(b"created_by");
    writer.text(&token.created_by);
    writer.bytes(b"expires");
    write_time(writer, token.expires);
    writer.bytes(b"last_used");
    write_time(writer, token.last_used);
    writer.bytes(b"revoked");
    write_time(writer, token.revoked);
}

/// A text that is not empty.
fn text(param: &Param<'_>) -> Result<String> {
    let text = param.optional_text(NAME_BYTES_MAX)?;
    text.ok_or_else(|| param.error("expected a text that is not empty"))
}

fn scopes(param: &Param<'_>) -> Result<Scopes> {
    let names = param.optional_names()?.unwrap_or_default();
    names
        .iter()
        .map(|name| {
            let name = String::from_utf8_lossy(name.bytes());
            name.parse::<Scope>().map_err(|error| param.error(error))
        })
        .collect()
}

/// When a token expires: a number of seconds since 1970, or the text `never`; after a while if nothing is said.
fn expires(param: &Param<'_>, now: Timestamp) -> Result<Option<Timestamp>> {
    match param.item() {
        None => Ok(Some(now.plus(TOKEN_LIFETIME))),
        Some(item)
            if item
                .as_string_bytes()
                .is_some_and(|text| &*text == b"never") =>
        {
            Ok(None)
        }
        Some(_) => Ok(param.optional_number()?.map(Timestamp::from_seconds)),
    }
}
