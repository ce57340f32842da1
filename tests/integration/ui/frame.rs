//! What all pages have in common.

use super::{Browser, start};
use test_support::Server;

const PAGES: [&str; 11] = [
    "/ui/",
    "/ui/spec/s",
    "/ui/spec/s/units",
    "/ui/spec/s/unit/u",
    "/ui/failures",
    "/ui/workers",
    "/ui/locks",
    "/ui/operations",
    "/ui/daemon",
    "/ui/spec/s/bulk?action=delete",
    "/ui/nowhere",
];

fn server_with_unit(arguments: &[&str]) -> Server {
    let server = start(arguments);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    client.add("s", "['u', {}]");
    server
}

#[test]
fn a_browser_that_asks_for_the_root_is_sent_to_the_page_and_a_program_is_not() {
    let server = start(&[]);
    let browser = Browser::of(&server);
    let page = browser.get("/");
    assert_eq!((page.status, page.header("location")), (302, "/ui/"));
    assert_eq!(browser.get("/ui").header("location"), "/ui/");
    for accept in [
        "*/*",
        "application/json",
        "application/vnd.diffeo.coordinate.v1+json",
    ] {
        let agent = &browser.agent;
        let answer = agent
            .get(format!("{}/", browser.root))
            .header("accept", accept)
            .call();
        assert_eq!(answer.expect("an answer").status(), 200, "{accept}");
    }
}

#[test]
fn pages_allow_no_script_and_no_style_but_their_own_files() {
    let server = server_with_unit(&[]);
    let browser = Browser::of(&server);
    for path in PAGES {
        let page = browser.get(path);
        let policy = page.header("content-security-policy");
        for directive in [
            "default-src 'none'",
            "script-src 'self';",
            "style-src 'self';",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(directive), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(page.header("cache-control"), "no-store", "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(
            page.header("content-type"),
            "text/html; charset=utf-8",
            "{path}"
        );
        for inline in ["<style", " style=", " onclick=", "javascript:", "<script>"] {
            assert!(!page.html.contains(inline), "{path}: {inline}");
        }
    }
}

#[test]
fn files_of_the_page_may_be_kept_for_a_year_and_change_their_names_with_their_content() {
    let server = start(&[]);
    let browser = Browser::of(&server);
    let page = browser.get("/ui/");
    let mut files = page.attributes("src");
    files.extend(
        page.attributes("href")
            .into_iter()
            .filter(|url| url.contains("/assets/")),
    );
    assert_eq!(files.len(), 4, "{files:?}");
    let mut bytes = 0;
    for file in files {
        let answer = browser.get(&file);
        assert_eq!(answer.status, 200, "{file}");
        let kept = answer.header("cache-control");
        assert!(
            kept.contains("immutable") && kept.contains("max-age=31536000"),
            "{kept}"
        );
        bytes += answer.html.len();
        let other = file.replacen("/assets/", "/assets/0", 1);
        assert_eq!(browser.get(&other).status, 404, "{other}");
    }
    assert!(bytes < 40 << 10, "{bytes}");
}

#[test]
fn pages_are_compressed_for_those_who_take_that() {
    let server = server_with_unit(&[]);
    let browser = Browser::of(&server);
    for path in ["/ui/", "/ui/nowhere"] {
        let plain = browser.get(path);
        assert_eq!(plain.header("content-encoding"), "");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: br, gzip\r\nConnection: close\r\n\r\n"
        );
        let answer = raw(&server, &request);
        let head = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(head.contains("content-encoding: gzip"), "{head}");
        assert!(answer.len() < plain.html.len(), "{path}");
    }
}

fn raw(server: &Server, request: &str) -> Vec<u8> {
    use std::io::{Read, Write};
    let http = server.http();
    let address = http.strip_prefix("http://").expect("a URL");
    let mut stream = std::net::TcpStream::connect(address).expect("it connects");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}

#[test]
fn under_a_base_path_every_link_and_form_leads_to_a_page_below_it() {
    let server = server_with_unit(&["--http-base-path", "/jobs/x/"]);
    let http = server.http();
    let root = http.split("/jobs").next().expect("a root");
    let browser = Browser::at(root);
    for path in PAGES {
        let page = browser.get(&format!("/jobs/x{path}"));
        assert!(page.html.contains("<main"), "{path}: {page:?}");
        let mut urls = page.attributes("href");
        urls.extend(page.attributes("src"));
        urls.extend(page.attributes("action"));
        urls.retain(|url| url != "#main");
        assert!(urls.len() > 8, "{path}");
        for url in urls {
            assert!(url.starts_with("/jobs/x/ui/"), "{path}: {url}");
        }
    }
    for url in browser.get("/jobs/x/ui/spec/s").attributes("href") {
        if url != "#main" {
            assert_eq!(browser.get(&url).status, 200, "{url}");
        }
    }
    assert_eq!(browser.get("/jobs/x").header("location"), "/jobs/x/ui/");
    assert_eq!(browser.get("/ui/").status, 404);
    let page = browser.submit("/jobs/x/ui/spec/s/pause", &[("reason", "")]);
    page.has(&["paused"]);
}

#[test]
fn errors_are_pages_and_say_what_is_wrong() {
    let server = server_with_unit(&[]);
    let browser = Browser::of(&server);
    for (path, status, text) in [
        ("/ui/nowhere", 404, "nothing is at /ui/nowhere"),
        ("/ui/spec/none", 404, "There is no such work spec"),
        ("/ui/spec/s/unit/none", 404, "There is no such work unit"),
        ("/ui/spec/-!", 400, "base64"),
        ("/ui/operations/7", 404, "no operation 7"),
        ("/ui/locks?from=x", 400, "not the path of a lock"),
        ("/ui/spec/s/bulk?action=x", 400, "retry, delete or priority"),
    ] {
        let page = browser.get(path);
        assert_eq!(page.status, status, "{path}");
        assert!(page.html.contains(text), "{path}: {}", page.html);
        assert!(page.html.contains("<nav"), "{path}");
    }
    // What takes forms only.
    assert_eq!(browser.get("/ui/spec/s/pause").status, 405);
}

#[test]
fn the_colours_that_were_chosen_are_in_the_page_as_it_comes() {
    let server = start(&[]);
    let browser = Browser::of(&server);
    browser.get("/ui/").has_no("data-theme");
    let page = browser.get_with("/ui/", &[("cookie", "a=b; coordinated-theme=dark")]);
    page.has(&["data-theme=\"dark\""]);
    let page = browser.get_with("/ui/", &[("cookie", "coordinated-theme=\"><script>")]);
    page.has_no("data-theme");
}

#[test]
fn the_command_ui_prints_where_the_page_is() {
    let server = server_with_unit(&["--http-base-path", "/jobs"]);
    let ui = |server: &Server| {
        let arguments = ["ui", "--print", "--server", server.address()];
        test_support::run_to_end(server.folder(), &arguments, &[])
    };
    let url = ui(&server).stdout;
    assert_eq!(url, format!("{}/ui/\n", server.http()));
    let root = url.split("/jobs").next().expect("a root");
    assert_eq!(Browser::at(root).get("/jobs/ui/").status, 200);
    let without = Server::start();
    let exit = ui(&without);
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("serves no web page"), "{exit:?}");
}

#[test]
fn the_command_ui_opens_the_page_if_there_is_a_desktop() {
    let server = start(&[]);
    // A program that a desktop has, which notes what it is to open.
    let program = server.folder().join("xdg-open");
    std::fs::write(&program, "#!/bin/sh\nprintf %s \"$1\" >opened\n").expect("a program");
    let all_may_run = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, all_may_run).expect("it may be run");
    let path = server.folder().display().to_string();
    let opened = server.folder().join("opened");
    let ui = |arguments: &[&str], display: &str| {
        let arguments = [&["ui", "--server", server.address()], arguments].concat();
        let path = format!("{path}:/usr/bin:/bin");
        let environment = [
            ("PATH", &*path),
            ("DISPLAY", display),
            ("WAYLAND_DISPLAY", ""),
        ];
        let exit = test_support::run_to_end(server.folder(), &arguments, &environment);
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let page = std::fs::read_to_string(&opened).ok();
        // It is not there if nothing was opened.
        let _ = std::fs::remove_file(&opened);
        page
    };
    let page = format!("{}/ui/", server.http());
    assert_eq!(ui(&[], ":0"), Some(page));
    assert_eq!(ui(&["--print"], ":0"), None);
    assert_eq!(ui(&[], ""), None);
}
