//! The operators' page, as a browser without JavaScript has it.

mod actions;
mod frame;
mod hostile;
mod pages;
mod sign_in;

use test_support::{PATIENCE, Server};

/// Starts a daemon that serves HTTP at a free port, with further arguments of `serve`.
fn start(arguments: &[&str]) -> Server {
    let mut all = vec!["--http", "127.0.0.1:0"];
    all.extend_from_slice(arguments);
    Server::start_with(&all)
}

/// What a browser does: it asks for pages, and sends forms.
struct Browser {
    agent: ureq::Agent,
    /// Without a slash at its end.
    root: String,
}

/// What it gets.
#[derive(Debug)]
struct Page {
    status: u16,
    headers: ureq::http::HeaderMap,
    html: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("text"))
    }

    /// Fails unless the page has all of these texts.
    fn has(&self, texts: &[&str]) {
        assert_eq!(self.status, 200, "{}", self.html);
        for text in texts {
            assert!(self.html.contains(text), "no {text:?} in {}", self.html);
        }
    }

    fn has_no(&self, text: &str) {
        assert!(!self.html.contains(text), "{text:?} in {}", self.html);
    }

    /// The values of all attributes of a name.
    fn attributes(&self, name: &str) -> Vec<String> {
        let begin = format!(" {name}=\"");
        let rest = self.html.split(&begin).skip(1);
        let values = rest.map(|rest| rest.split('"').next().expect("a value"));
        values
            .map(|value| value.replace("&#38;", "&").replace("&amp;", "&"))
            .collect()
    }

    /// The hidden fields of its forms.
    fn hidden_fields(&self) -> Vec<(String, String)> {
        let inputs = self.html.split("<input type=\"hidden\" name=\"").skip(1);
        let field = |input: &str| {
            let (name, rest) = input.split_once("\" value=\"").expect("a value");
            let value = rest.split('"').next().expect("a value");
            (name.to_owned(), value.to_owned())
        };
        inputs.map(field).collect()
    }
}

impl Browser {
    fn of(server: &Server) -> Self {
        Self::at(&server.http())
    }

    fn at(root: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        Self {
            agent: config.into(),
            root: root.trim_end_matches('/').to_owned(),
        }
    }

    fn get(&self, path: &str) -> Page {
        self.get_with(path, &[])
    }

    fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Page {
        let mut request = self
            .agent
            .get(format!("{}{path}", self.root))
            .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        page_of(request.call().expect("an answer"))
    }

    /// Sends a form, and returns the answer to that.
    fn send(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.send_with(path, fields, &[])
    }

    fn send_with(&self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Page {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.root))
            .header("origin", &self.root)
            .header("sec-fetch-site", "same-origin");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        page_of(
            request
                .send_form(fields.iter().copied())
                .expect("an answer"),
        )
    }

    /// Sends a form, and goes where the answer leads.
    fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let page = self.send(path, fields);
        assert_eq!(page.status, 303, "{page:?}");
        self.get(page.header("location"))
    }
}

fn page_of(mut answer: ureq::http::Response<ureq::Body>) -> Page {
    Page {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        html: answer.body_mut().read_to_string().expect("a body"),
    }
}
