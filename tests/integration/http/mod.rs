//! HTTP, from outside: a real client for what clients do, and bare sockets for what they must not do.

mod guard;
mod limits;
mod metrics;
mod openapi;
mod rest;
mod rpc;
mod running;
mod upload;

use serde_json::Value as Json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use test_support::{PATIENCE, Server};

/// Starts a daemon that serves HTTP at a free port, with further arguments of `serve`.
pub(crate) fn start(arguments: &[&str]) -> Server {
    let mut all = vec!["--http", "127.0.0.1:0"];
    all.extend_from_slice(arguments);
    Server::start_with(&all)
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    content_type: String,
    pub(crate) retry_after: Option<String>,
    location: Option<String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The name of the problem that the answer is.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        let name = problem["type"].as_str().expect("a type");
        name.strip_prefix("urn:coordinated:problem:")
            .expect("a type of ours")
            .to_owned()
    }
}

/// A client that takes every status for an answer.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    root: String,
}

impl Client {
    pub(crate) fn of(server: &Server) -> Client {
        Client::at(&server.http())
    }

    pub(crate) fn at(root: &str) -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        Client {
            agent: config.into(),
            root: root.to_owned(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    /// Any request.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.root));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).expect("a request");
        answer_of(self.agent.run(request).expect("an answer"))
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(format!("{}{path}", self.root));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer_of(request.call().expect("an answer"))
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, body, &[])
    }

    pub(crate) fn post_with(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.post(format!("{}{path}", self.root));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer_of(request.send(body).expect("an answer"))
    }

    /// Calls a method that succeeds.
    pub(crate) fn call(&self, method: &str, params: &str) -> Json {
        let answer = self.post(&format!("/rpc/{method}"), params);
        assert_eq!(answer.status, 200, "{method} {params}: {answer:?}");
        assert_eq!(answer.content_type, "application/json");
        answer.json()
    }
}

fn answer_of(mut answer: ureq::http::Response<ureq::Body>) -> Answer {
    let header = |name| {
        let value = answer.headers().get(name)?;
        Some(value.to_str().expect("text").to_owned())
    };
    Answer {
        status: answer.status().as_u16(),
        content_type: header("content-type").unwrap_or_default(),
        retry_after: header("retry-after"),
        location: header("location"),
        body: answer.body_mut().read_to_string().expect("a body"),
    }
}

/// A bare connection.
pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) fn connect(server: &Server) -> Raw {
        let address = server.http();
        let stream = TcpStream::connect(address.strip_prefix("http://").expect("a URL"));
        let stream = stream.expect("it connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Raw(stream)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).expect("it is sent");
    }

    /// All that comes until the daemon closes the connection. A reset ends it, too.
    pub(crate) fn until_closed(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The next bytes that come.
    fn some(&mut self) -> String {
        let mut bytes = [0; 4096];
        let len = self.0.read(&mut bytes).expect("an answer");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    /// True if nothing comes for a while.
    fn is_silent(&mut self) -> bool {
        let timeout = Some(Duration::from_millis(200));
        self.0.set_read_timeout(timeout).expect("a timeout");
        let is_silent = self.0.read(&mut [0]).is_err();
        self.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        is_silent
    }
}
