//! `token`: makes, lists, replaces and revokes tokens, by a running daemon or, if none runs, in its database file.

use super::output::{Column, Format, Output, note, plain};
use super::pause::this_user;
use super::server::{Daemon, Server};
use crate::cli::values::{moment, now};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::coordinate::storage::Access;
use crate::coordinate::{self, Author, Operation, Scope, Secret, TOKEN_LIFETIME, TokenManager};
use crate::engine::{self, Engine};
use crate::store::{Options, SqliteStore};
use clap::builder::PossibleValuesParser;
use coordinated_client::{NewToken, Token, TokenExpiry, TokenInfo};
use serde_json::{Value as Json, json};
use std::error::Error;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// The arguments of `token`.
#[derive(clap::Args)]
#[command(after_long_help = "\
A token says who calls, and what it may do. As long as no token was ever made, everybody who can reach the daemon may do \
everything. Once there is one, each HTTP request needs a token; CBOR-RPC connections need one with `serve --cborrpc-auth \
required`. docs/security.md describes the scopes.

These commands use the running daemon, like the other commands. If none runs, name its file with --db.")]
pub(in crate::cli) struct TokenArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make a token, and print its secret, which is not shown again
    Create(CreateArgs),
    /// List all tokens, without their secrets
    List(ListArgs),
    /// Make a token invalid
    Revoke(RevokeArgs),
    /// Give a token another secret, and print that; the old one is invalid from then on
    Rotate(RotateArgs),
}

#[derive(clap::Args)]
struct CreateArgs {
    /// What to call it
    #[arg(value_name = "NAME")]
    name: String,

    /// What it allows; repeatable. Each of `metrics`, `read`, `operate` and `admin` includes those before it, and `admin`
    /// includes all; `submit` is for adding work units, `work` for workers
    #[arg(
        long,
        value_name = "SCOPE",
        required = true,
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(Scope::ALL.map(Scope::name))
    )]
    scope: Vec<String>,

    /// The only namespace in which it counts; all if not given
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,

    /// When it becomes invalid: after a time such as 30d, at a time such as 2027-01-31T12:00:00Z, or `never`. 90d if not
    /// given
    #[arg(long, value_name = "TIME", value_parser = parse_expiry)]
    expires: Option<TokenExpiry>,

    #[command(flatten)]
    place: TokenPlace,
}

#[derive(clap::Args)]
#[command(after_long_help = "\
JSON: a list of objects with name, prefix (how the secret begins), scopes, namespace, created, created_by, expires, \
last_used and revoked. Times are seconds since 1970, or null.")]
struct ListArgs {
    /// Also those that were revoked or have expired
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    place: TokenPlace,
}

#[derive(clap::Args)]
struct RevokeArgs {
    /// The token
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    place: TokenPlace,
}

#[derive(clap::Args)]
struct RotateArgs {
    /// The token
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    place: TokenPlace,
}

/// Where the tokens are.
#[derive(clap::Args)]
struct TokenPlace {
    /// The database file, if no daemon runs on it. `create` makes it if it is not there
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,

    #[command(flatten)]
    server: Server,
}

fn parse_expiry(text: &str) -> Result<TokenExpiry, String> {
    if text == "never" {
        return Ok(TokenExpiry::Never);
    }
    if let Ok(after) = humantime::parse_duration(text) {
        return Ok(TokenExpiry::At(now() + after.as_secs_f64()));
    }
    let at = humantime::parse_rfc3339_weak(text).map_err(|_| {
        "expected a time such as 30d or 2027-01-31T12:00:00Z, or 'never'".to_owned()
    })?;
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(TokenExpiry::At(since.as_secs_f64()))
}

/// Makes, lists, replaces or revokes tokens.
pub(super) fn token(args: &TokenArgs) -> Result<(), Box<dyn Error>> {
    match &args.action {
        Action::Create(args) => {
            let new = NewToken {
                name: args.name.clone(),
                scopes: args.scope.clone(),
                namespace: args.namespace.clone(),
                expires: args.expires.unwrap_or_default(),
                by: Some(this_user()),
            };
            show_made(args.place.open(Missing::Made)?.create(&new)?)
        }
        Action::Rotate(args) => show_made(args.place.open(Missing::Refused)?.rotate(&args.name)?),
        Action::Revoke(args) => args.place.open(Missing::Refused)?.revoke(&args.name),
        Action::List(args) => {
            let mut tokens = args.place.open(Missing::Refused)?.list()?;
            if !args.all {
                let now = now();
                let is_valid = |expires: Option<f64>| expires.is_none_or(|expires| expires > now);
                tokens.retain(|token| token.revoked.is_none() && is_valid(token.expires));
            }
            list(&tokens, &args.format)
        }
    }
}

/// Prints the secret alone, so that programs can take it, and a note.
fn show_made((token, secret): (TokenInfo, Token)) -> Result<(), Box<dyn Error>> {
    let until = match token.expires {
        Some(expires) => format!("valid until {}", moment(expires)),
        None => "valid until it is revoked".to_owned(),
    };
    note(format!(
        "the token {:?} is {until}; keep it now, since it is not shown again",
        token.name
    ));
    let mut output = Output::new();
    output.line(secret.reveal())?;
    Ok(output.flush()?)
}

fn list(tokens: &[TokenInfo], format: &Format) -> Result<(), Box<dyn Error>> {
    let mut output = Output::new();
    if let Some(form) = format.for_programs() {
        let list = tokens.iter().map(|token| {
            json!({
                "name": token.name,
                "prefix": token.prefix,
                "scopes": token.scopes,
                "namespace": token.namespace,
                "created": token.created,
                "created_by": token.created_by,
                "expires": token.expires,
                "last_used": token.last_used,
                "revoked": token.revoked,
            })
        });
        output.document(form, &list.collect::<Json>())?;
        return Ok(output.flush()?);
    }
    let time = |time: Option<f64>| plain(time.map_or_else(|| "never".to_owned(), moment));
    let rows = tokens.iter().map(|token| {
        let namespace = token.namespace.as_deref();
        let ends = match token.revoked {
            Some(revoked) => plain(format!("revoked {}", moment(revoked))),
            None => time(token.expires),
        };
        vec![
            plain(&token.name),
            plain(format!("{}...", token.prefix)),
            plain(token.scopes.join(", ")),
            plain(namespace.map_or_else(|| "all".to_owned(), |name| format!("{name:?}"))),
            plain(&token.created_by),
            ends,
            time(token.last_used),
        ]
    });
    let columns = [
        Column::Text("Token"),
        Column::Text("Secret"),
        Column::Text("Scopes"),
        Column::Text("Namespace"),
        Column::Text("Made by"),
        Column::Text("Expires"),
        Column::Text("Last used"),
    ];
    output.table(&columns, rows.collect())?;
    Ok(output.flush()?)
}

/// Where the tokens are, opened.
enum Opened {
    Daemon(Box<Daemon>),
    File(Box<File>),
}

/// The database of a daemon that does not run. Nobody else can have it open as long as this exists.
struct File {
    engine: Engine<SqliteStore>,
    clock: SystemClock,
    by: TokenManager,
}

/// What becomes of a database file that is not there.
#[derive(PartialEq, Eq)]
enum Missing {
    /// It is made, as by the first start of a daemon.
    Made,
    Refused,
}

impl TokenPlace {
    fn open(&self, missing: Missing) -> Result<Opened, Box<dyn Error>> {
        let Some(db) = &self.db else {
            let daemon = self.server.connect()?;
            if !daemon.has("tokens") {
                return Err(format!("{} has no tokens", daemon.description()).into());
            }
            return Ok(Opened::Daemon(Box::new(daemon)));
        };
        if missing == Missing::Refused && !db.exists() {
            return Err(format!("there is no database {}", db.display()).into());
        }
        let mut clock = SystemClock::start();
        let now = clock.now();
        let store = SqliteStore::open(db, &Options::default(), now)?;
        let random = Box::new(rand::rng());
        let engine = Engine::new(store, engine::Settings::default(), random, now)?;
        let by = TokenManager {
            name: this_user(),
            namespace: None,
        };
        Ok(Opened::File(Box::new(File { engine, clock, by })))
    }
}

impl Opened {
    fn create(self, new: &NewToken) -> Result<(TokenInfo, Token), Box<dyn Error>> {
        let mut file = match self {
            Self::Daemon(mut daemon) => return Ok(daemon.client.create_token(new)?),
            Self::File(file) => file,
        };
        let scopes: Result<_, _> = new
            .scopes
            .iter()
            .map(|name| name.parse::<Scope>())
            .collect();
        let new = coordinate::NewToken {
            name: new.name.clone(),
            scopes: scopes?,
            namespace: new.namespace.clone(),
            expires: match new.expires {
                TokenExpiry::Default => Some(file.clock.now().plus(TOKEN_LIFETIME)),
                TokenExpiry::At(time) => Some(Timestamp::from_seconds(time)),
                TokenExpiry::Never => None,
            },
        };
        let made = file.change(|op, by| op.create_token(by, new.clone()))?;
        Ok(as_client_sees(made))
    }

    fn rotate(self, name: &str) -> Result<(TokenInfo, Token), Box<dyn Error>> {
        match self {
            Self::Daemon(mut daemon) => Ok(daemon.client.rotate_token(name, Some(&this_user()))?),
            Self::File(file) => {
                let made = file.change(|op, by| op.rotate_token(by, name))?;
                Ok(as_client_sees(made))
            }
        }
    }

    fn revoke(self, name: &str) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Daemon(mut daemon) => Ok(daemon.client.revoke_token(name)?),
            Self::File(file) => {
                file.change(|op, by| op.revoke_token(by, name))?;
                Ok(())
            }
        }
    }

    fn list(self) -> Result<Vec<TokenInfo>, Box<dyn Error>> {
        match self {
            Self::Daemon(mut daemon) => Ok(daemon.client.list_tokens()?),
            Self::File(file) => {
                let tokens = file.change(|op, by| op.tokens(by))?;
                Ok(tokens.into_iter().map(info).collect())
            }
        }
    }
}

impl File {
    /// Runs an operation, commits and closes the database.
    fn change<T>(
        mut self: Box<Self>,
        mut run: impl FnMut(&mut Operation<'_, SqliteStore>, &TokenManager) -> coordinate::Result<T>,
    ) -> Result<T, Box<dyn Error>> {
        let (now, by) = (self.clock.now(), &self.by);
        let author = || Author {
            interface: "file",
            ..Author::default()
        };
        let done = self.engine.run(Access::Write, now, |mut operation| {
            let done = run(&mut operation, by)?;
            operation.keep_change("", author, None)?;
            Ok(done)
        });
        let committed = self.engine.commit();
        self.engine.into_store().close()?;
        let done = done?;
        committed?;
        Ok(done)
    }
}

fn as_client_sees((token, secret): (coordinate::Token, Secret)) -> (TokenInfo, Token) {
    (info(token), Token::from(secret.reveal()))
}

fn info(token: coordinate::Token) -> TokenInfo {
    let seconds = |time: Option<Timestamp>| time.map(|time| time.as_seconds());
    TokenInfo {
        name: token.name,
        prefix: token.prefix,
        scopes: token.scopes.iter().map(|scope| scope.to_string()).collect(),
        namespace: token.namespace,
        created: token.created.as_seconds(),
        created_by: token.created_by,
        expires: seconds(token.expires),
        last_used: seconds(token.last_used),
        revoked: seconds(token.revoked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_token_expires_after_a_time_at_a_time_or_never() {
        assert_eq!(parse_expiry("never"), Ok(TokenExpiry::Never));
        let at = parse_expiry("2027-01-31T12:00:00Z");
        assert_eq!(at, Ok(TokenExpiry::At(1_801_396_800.0)));
        let expected = now() + Duration::from_secs(30 * 86_400).as_secs_f64();
        match parse_expiry("30d") {
            Ok(TokenExpiry::At(at)) => assert!((at - expected).abs() < 60.0, "{at}"),
            other => panic!("{other:?}"),
        }
        assert!(parse_expiry("tomorrow").is_err());
    }
}
