//! Information about the server.

use super::{Coordinate, Error, Result};
use crate::cbor::Value;

/// Information about a `coordinated` daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerInfo {
    /// Its name: `coordinated`.
    pub server: String,
    /// Its version.
    pub version: String,
    /// The version of its additions to the original protocol.
    pub protocol: u64,
    /// The names of these additions.
    pub features: Vec<String>,
    /// When it was started, in seconds since 1970.
    pub started: f64,
    /// Its clock, in seconds since 1970.
    pub now: f64,
    /// The URLs at which it serves HTTP.
    pub http: Vec<String>,
}

impl ServerInfo {
    /// True if the daemon has an addition.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|name| name == feature)
    }
}

impl Coordinate {
    /// Information about the daemon; `None` if it is one of the original servers, which have neither this method nor any
    /// of the additions.
    pub fn server_info(&mut self) -> Result<Option<ServerInfo>> {
        let answer = match self.call_with("server_info", []) {
            Err(Error::Failed { .. }) => return Ok(None),
            other => other?,
        };
        let mut features = Vec::new();
        for feature in answer.field("features").items()? {
            features.push(feature.text()?);
        }
        let mut http = Vec::new();
        // Earlier versions don't tell it.
        if let Some(urls) = answer.field("http").optional() {
            for url in urls.items()? {
                http.push(url.text()?);
            }
        }
        Ok(Some(ServerInfo {
            server: answer.field("server").text()?,
            version: answer.field("version").text()?,
            protocol: answer.field("protocol").count()?,
            features,
            started: answer.field("started").number()?,
            now: answer.field("now").number()?,
            http,
        }))
    }

    /// The server's configuration: a map.
    pub fn get_config(&mut self) -> Result<Value> {
        Ok(self.call_with("get_config", [])?.accepted()?.value())
    }

    /// The server's clock, in whole seconds since 1970. The Python server does not have it.
    pub fn now(&mut self) -> Result<i64> {
        self.call_with("now", [])?.integer()
    }
}
