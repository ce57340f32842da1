//! The arguments of `serve` about tokens.

use crate::jobserver::Anonymous;
use crate::server::Network;
use clap::ValueEnum;
use std::time::Duration;

#[derive(clap::Args)]
#[command(next_help_heading = "Tokens and audit")]
pub(super) struct TokenArgs {
    /// Whether CBOR-RPC clients need a token: `optional`, none does; `required`, all do, except over a Unix socket and from
    /// networks in --allow-anonymous. Over HTTP every request needs one once a token was made (`coordinated token create`)
    #[arg(
        long,
        env = "COORDINATED_CBORRPC_AUTH",
        value_name = "MODE",
        default_value = "optional"
    )]
    cborrpc_auth: Auth,

    /// Networks whose CBOR-RPC clients need no token with --cborrpc-auth required, such as 127.0.0.0/8, separated by
    /// commas: for old clients, which have none
    #[arg(
        long,
        env = "COORDINATED_ALLOW_ANONYMOUS",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    allow_anonymous: Vec<Network>,

    /// How many days the entries of the audit are kept, which say who has changed what (`coordinated audit`). There are
    /// at most a million; the oldest ones go first
    #[arg(
        long,
        env = "COORDINATED_AUDIT_DAYS",
        value_name = "N",
        default_value = "90"
    )]
    audit_days: u16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Auth {
    Optional,
    Required,
}

impl TokenArgs {
    /// How long entries of the audit are kept.
    pub(super) fn audit_kept(&self) -> Duration {
        Duration::from_secs(u64::from(self.audit_days) * 86_400)
    }

    /// Which CBOR-RPC clients need no token.
    pub(super) fn anonymous(&self) -> Anonymous {
        match self.cborrpc_auth {
            Auth::Optional => Anonymous::Everybody,
            Auth::Required => Anonymous::Only(self.allow_anonymous.clone()),
        }
    }
}
