//! Signing in, and what a person may see and do.

use super::{Browser, Page, start};
use crate::tokens::create;
use test_support::{Client, Server, run_to_end};

/// A daemon with a work spec, a unit, and a token of each of these scopes, which has the scope's name.
fn server_with_tokens<const N: usize>(
    scopes: [&str; N],
    arguments: &[&str],
) -> (Server, Client, [String; N]) {
    let server = start(arguments);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    client.add("s", "['u', {}]");
    let tokens = scopes.map(|scope| create(&mut client, scope, &format!("'{scope}'"), ""));
    (server, client, tokens)
}

/// The cookie of a page, as a browser sends it.
fn cookie_of(page: &Page) -> String {
    let cookie = page.header("set-cookie").split(';').next();
    cookie.expect("a cookie").to_owned()
}

/// Signs in. Returns the cookie.
fn sign_in(browser: &Browser, token: &str) -> String {
    let page = browser.send("/ui/sign-in", &[("token", token)]);
    assert_eq!((page.status, page.header("location")), (303, "/ui/"));
    cookie_of(&page)
}

fn see(browser: &Browser, path: &str, cookie: &str) -> Page {
    browser.get_with(path, &[("cookie", cookie)])
}

fn change(browser: &Browser, path: &str, cookie: &str) -> Page {
    browser.send_with(path, &[("reason", "why")], &[("cookie", cookie)])
}

#[test]
fn without_tokens_nobody_signs_in() {
    let server = start(&[]);
    let page = Browser::of(&server).get("/ui/");
    page.has(&["Work specs"]);
    page.has_no("Sign out");
}

#[test]
fn a_browser_is_led_to_the_form_and_then_to_the_page_that_it_wanted() {
    let (server, _client, [token]) = server_with_tokens(["read"], &[]);
    let browser = Browser::of(&server);
    let wanted = "/ui/spec/s/units?status=available&prefix=u";
    let page = browser.get(wanted);
    assert_eq!(page.status, 303);
    let form = browser.get(page.header("location"));
    form.has(&["type=\"password\""]);
    let next = form.attributes("value");
    assert_eq!(next, [wanted]);
    let page = browser.send("/ui/sign-in", &[("token", &token), ("next", wanted)]);
    assert_eq!((page.status, page.header("location")), (303, wanted));
    let page = see(&browser, wanted, &cookie_of(&page));
    page.has(&["Units", "<bdi>read</bdi>", "Sign out"]);
}

#[test]
fn a_wrong_token_is_refused_and_after_ten_of_them_the_form_says_to_wait() {
    let (server, _client, [token]) = server_with_tokens(["read"], &[]);
    let browser = Browser::of(&server);
    for _ in 0..10 {
        let page = browser.send("/ui/sign-in", &[("token", "cdt_wrong")]);
        assert_eq!(page.status, 401);
        assert_eq!(page.header("set-cookie"), "");
        assert!(page.html.contains("the token is not known"), "{page:?}");
        assert!(!page.html.contains("cdt_wrong"), "{page:?}");
    }
    assert_eq!(browser.send("/ui/sign-in", &[]).status, 429);
    sign_in(&browser, &token);
}

#[test]
fn the_form_leads_to_no_other_site() {
    let (server, _client, [token]) = server_with_tokens(["read"], &[]);
    let browser = Browser::of(&server);
    for next in [
        "https://example.com/",
        "//example.com/ui/",
        "/ui/..//example.com",
        "/ui",
        "/ui/\r\nset-cookie: a=b",
        "/rpc",
    ] {
        let page = browser.send("/ui/sign-in", &[("token", &token), ("next", next)]);
        let location = page.header("location");
        assert!(location.starts_with("/ui/"), "{next}: {location}");
        assert_eq!(page.headers.get_all("set-cookie").iter().count(), 1);
    }
}

#[test]
fn scripts_and_other_sites_do_not_get_the_cookie_and_it_is_good_for_the_page_only() {
    let (server, _client, [token]) = server_with_tokens(
        ["admin"],
        &[
            "--http-trusted-proxy",
            "127.0.0.1/32",
            "--http-base-path",
            "/jobs",
        ],
    );
    let browser = Browser::of(&server);
    let page = browser.send("/ui/sign-in", &[("token", &token)]);
    let cookie = page.header("set-cookie");
    assert!(
        cookie.ends_with("; Path=/jobs/ui; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    assert!(!cookie.contains(&token), "{cookie}");
    let secure = browser.send_with(
        "/ui/sign-in",
        &[("token", &token)],
        &[("x-forwarded-proto", "https")],
    );
    assert!(
        secure.header("set-cookie").ends_with("; Secure"),
        "{secure:?}"
    );
    let cookie = cookie_of(&page);
    see(&browser, "/ui/", &cookie).has(&["<bdi>admin</bdi>"]);
    assert_eq!(see(&browser, "/rpc", &cookie).status, 401);
}

#[test]
fn who_may_only_see_gets_no_forms_and_is_refused_what_they_would_do() {
    let (server, mut client, [reader, operator, metrics]) =
        server_with_tokens(["read", "operate", "metrics"], &[]);
    client.take_key("w", "u");
    client.updated("s", "u", "{'status': 5, 'data': {'traceback': 'boom'}}");
    client.set_spec("{'name': 'other'}");
    client.call("lock", "'w', 100, [['a']]");
    let browser = Browser::of(&server);
    let reads = sign_in(&browser, &reader);
    let operates = sign_in(&browser, &operator);
    let forms = |page: &Page| {
        let posts = page.html.matches("method=\"post\"").count();
        posts + page.html.matches("class=\"button\"").count()
    };
    for path in [
        "/ui/",
        "/ui/spec/s",
        "/ui/spec/s/units",
        "/ui/spec/s/unit/u",
        "/ui/failures",
        "/ui/locks",
        "/ui/workers",
        "/ui/operations",
        "/ui/daemon",
        "/ui/spec/s/bulk?action=retry&status=failed",
    ] {
        let (seen, with_forms) = (see(&browser, path, &reads), see(&browser, path, &operates));
        seen.has(&[]);
        with_forms.has(&[]);
        // One of them signs out.
        assert_eq!(forms(&seen), 1, "{path}: {}", seen.html);
        assert!(forms(&with_forms) >= forms(&seen), "{path}");
    }
    assert!(forms(&see(&browser, "/ui/spec/s", &operates)) > 3);
    let refused = change(&browser, "/ui/spec/s/pause", &reads);
    assert_eq!(refused.status, 403);
    assert!(
        refused.html.contains("the scope operate is needed"),
        "{refused:?}"
    );
    assert_eq!(change(&browser, "/ui/spec/s/pause", &operates).status, 303);
    // Who may not even see.
    let counts = sign_in(&browser, &metrics);
    let page = see(&browser, "/ui/", &counts);
    assert_eq!(page.status, 403);
    assert!(page.html.contains("<h1>"), "{page:?}");
    let listen = |cookie| browser.get_with("/ui/events", &[("cookie", cookie)]).status;
    assert_eq!((listen(&counts), listen("")), (403, 303));
}

#[test]
fn a_token_of_the_namespace_that_is_shown_sees_nothing_about_others_or_the_daemon() {
    let (server, mut client, [all]) = server_with_tokens(["read"], &[]);
    let here = create(&mut client, "here", "'read'", "'namespace': ''");
    let elsewhere = create(&mut client, "elsewhere", "'read'", "'namespace': 'other'");
    let browser = Browser::of(&server);
    let [all, here, elsewhere] = [all, here, elsewhere].map(|token| sign_in(&browser, &token));
    see(&browser, "/ui/", &all).has(&["/ui/daemon", "Write-ahead log"]);
    let page = see(&browser, "/ui/", &here);
    page.has(&["Work specs"]);
    for text in ["/ui/daemon", "Write-ahead log"] {
        page.has_no(text);
    }
    assert_eq!(see(&browser, "/ui/daemon", &here).status, 403);
    assert_eq!(see(&browser, "/ui/", &elsewhere).status, 403);
}

#[test]
fn what_somebody_changes_is_in_the_audit_under_the_name_of_the_token() {
    let (server, mut client, [token]) = server_with_tokens(["operate"], &[]);
    client.take_key("w", "u");
    client.updated("s", "u", "{'status': 4}");
    let browser = Browser::of(&server);
    let cookie = sign_in(&browser, &token);
    change(&browser, "/ui/spec/s/pause", &cookie);
    see(&browser, "/ui/spec/s", &cookie).has(&["by <bdi>operate</bdi>"]);
    change(&browser, "/ui/spec/s/unit/u/retry", &cookie);
    let entries = client.value("list_audit", "{'limit': 2}").to_string();
    for text in ["retry", "control_work_spec"] {
        assert!(entries.contains(text), "{entries}");
    }
    assert_eq!(
        entries.matches("'operate'").count() + entries.matches("\"operate\"").count(),
        2,
        "{entries}"
    );
    assert_eq!(client.counts("s").into_iter().collect::<Vec<_>>(), [(1, 1)]);
}

#[test]
fn a_session_ends_when_the_person_signs_out_or_the_token_is_revoked() {
    let (server, mut client, [one, other]) = server_with_tokens(["read", "operate"], &[]);
    let browser = Browser::of(&server);
    let (out, stays) = (sign_in(&browser, &one), sign_in(&browser, &one));
    let revoked = sign_in(&browser, &other);
    let page = change(&browser, "/ui/sign-out", &out);
    assert_eq!((page.status, page.header("location")), (303, "/ui/sign-in"));
    assert!(
        page.header("set-cookie").ends_with("; Max-Age=0"),
        "{page:?}"
    );
    assert_eq!(see(&browser, "/ui/", &out).status, 303);
    see(&browser, "/ui/", &stays).has(&["Work specs"]);
    client.call("revoke_token", "'operate'");
    let page = see(&browser, "/ui/", &revoked);
    assert_eq!(page.status, 303, "{page:?}");
}

#[test]
fn a_link_of_the_command_signs_in_once() {
    let (server, _client, [token]) =
        server_with_tokens(["operate"], &["--http-base-path", "/jobs"]);
    let link = |token: &str| {
        let environment = [
            ("COORDINATED_SERVER", server.address()),
            ("COORDINATED_TOKEN", token),
        ];
        run_to_end(server.folder(), &["ui", "--print"], &environment)
    };
    let printed = link(&token);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let root = server.http();
    let path = printed.stdout.trim().strip_prefix(&root);
    let path = path.unwrap_or_else(|| panic!("{}", printed.stdout));
    let browser = Browser::of(&server);
    assert!(path.starts_with("/ui/sign-in?code="), "{path}");
    let page = browser.get(path);
    assert_eq!((page.status, page.header("location")), (303, "/jobs/ui/"));
    see(&browser, "/ui/", &cookie_of(&page)).has(&["<bdi>operate</bdi>", "Sign out"]);
    // Once.
    let again = browser.get(path);
    again.has(&["this link was used before", "type=\"password\""]);
    assert_eq!(again.header("set-cookie"), "");
    browser
        .get("/ui/sign-in?code=nonesuch")
        .has(&["this link was used before"]);
    // Without a token the command only says where the page is.
    assert!(link("").stdout.trim().ends_with("/jobs/ui/"));
    assert_eq!(link("cdt_wrong").code, Some(1));
}

#[test]
fn the_audit_tells_administrators_what_was_changed_and_by_whom() {
    let (server, mut client, [reader, operator, admin]) =
        server_with_tokens(["read", "operate", "admin"], &[]);
    let browser = Browser::of(&server);
    let [reads, operates, administers] =
        [reader, operator, admin].map(|token| sign_in(&browser, &token));
    for refused in [&reads, &operates] {
        assert_eq!(see(&browser, "/ui/audit", refused).status, 403);
        see(&browser, "/ui/", refused).has_no("/ui/audit");
    }
    see(&browser, "/ui/", &administers).has(&["/ui/audit", "data-key=\"a\""]);
    change(&browser, "/ui/spec/s/pause", &operates);
    client.set_spec("{'name': '<b>other</b>'}");
    client.call(
        "control_work_spec",
        "'<b>other</b>', {'status': 2, 'reason': '<script>'}",
    );
    let all = see(&browser, "/ui/audit", &administers);
    all.has(&[
        "<bdi>operate</bdi>",
        "127.0.0.1 (http)",
        "127.0.0.1 (cborrpc)",
        "paused: why",
        "&#60;script&#62;",
        "&#60;b&#62;other&#60;/b&#62;",
        "<code>create_token</code>",
    ]);
    let by_person = see(&browser, "/ui/audit?who=operate", &administers);
    by_person.has(&["paused: why", "All entries"]);
    by_person.has_no("(cborrpc)");
    let by_spec = see(
        &browser,
        "/ui/audit?work_spec=s&action=control_work_spec",
        &administers,
    );
    by_spec.has(&["paused: why"]);
    by_spec.has_no("#60;script");
    see(&browser, "/ui/audit?who=nobody", &administers).has(&["There are no such entries"]);
    assert_eq!(
        see(&browser, "/ui/audit?before=x", &administers).status,
        400
    );
}

#[test]
fn the_audit_is_shown_in_pages_also_with_a_filter() {
    let server = start(&[]);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    client.set_spec("{'name': 'rare'}");
    client.call("control_work_spec", "'rare', {'weight': 7}");
    for weight in 1..=240 {
        client.call("control_work_spec", &format!("'s', {{'weight': {weight}}}"));
    }
    client.call("control_work_spec", "'rare', {'weight': 8}");
    let browser = Browser::of(&server);
    let pages = |first: &str| {
        let mut next = Some(first.to_owned());
        let mut weights = Vec::new();
        while let Some(path) = next {
            let page = browser.get(&path);
            page.has(&["<h1>Audit</h1>"]);
            let found = page.html.split("<bdi>weight ").skip(1);
            weights.push(found.count());
            let links = page.attributes("href");
            next = links.into_iter().find(|link| link.contains("before="));
        }
        weights
    };
    let shown = pages("/ui/audit");
    assert_eq!(shown.iter().sum::<usize>(), 242);
    assert_eq!(shown[..2], [100, 100]);
    assert_eq!(pages("/ui/audit?work_spec=rare"), [2]);
    assert_eq!(pages("/ui/audit?work_spec=s"), [100, 100, 40]);
}

#[test]
fn administrators_make_rotate_and_revoke_tokens_on_the_page_of_the_daemon() {
    let (server, _client, [operator, admin]) = server_with_tokens(["operate", "admin"], &[]);
    let browser = Browser::of(&server);
    let [operates, administers] = [operator, admin].map(|token| sign_in(&browser, &token));
    see(&browser, "/ui/daemon", &operates).has_no("Tokens");
    see(&browser, "/ui/daemon", &administers).has(&["<bdi>operate</bdi>", "Make a token"]);
    let send = |path: &str, fields: &[(&str, &str)], cookie: &str| {
        browser.send_with(path, fields, &[("cookie", cookie)])
    };
    let fields = [
        ("name", "grafana"),
        ("scope", "read"),
        ("scope", "metrics"),
        ("days", "7"),
    ];
    assert_eq!(send("/ui/daemon/tokens", &fields, &operates).status, 403);
    let made = send("/ui/daemon/tokens", &fields, &administers);
    let secret_of = |page: &Page| {
        let (_, rest) = page.html.split_once("data-copy>").expect("a secret");
        rest.split('<').next().expect("its end").to_owned()
    };
    let first = secret_of(&made);
    assert!(first.starts_with("cdt_"), "{first}");
    assert_eq!(made.header("cache-control"), "no-store");
    see(&browser, "/ui/", &sign_in(&browser, &first)).has(&["<bdi>grafana</bdi>"]);
    let page = see(&browser, "/ui/daemon", &administers);
    page.has(&["<bdi>grafana</bdi>", "metrics, read", "in 6 d 23 h"]);
    page.has_no(&first);
    let rotated = send(
        "/ui/daemon/tokens/rotate",
        &[("name", "grafana")],
        &administers,
    );
    let second = secret_of(&rotated);
    assert_ne!(first, second);
    assert_eq!(
        browser.send("/ui/sign-in", &[("token", &first)]).status,
        401
    );
    sign_in(&browser, &second);
    let revoked = send(
        "/ui/daemon/tokens/revoke",
        &[("name", "grafana")],
        &administers,
    );
    assert_eq!(
        (revoked.status, revoked.header("location")),
        (303, "/ui/daemon")
    );
    assert_eq!(
        browser.send("/ui/sign-in", &[("token", &second)]).status,
        401
    );
    see(&browser, "/ui/daemon", &administers).has(&["revoked"]);
    for (wrong, status) in [
        (&[("name", "x"), ("scope", "all")][..], 400),
        (&[("name", "x")], 400),
        (&[("scope", "read")], 400),
        (&[("name", "x"), ("scope", "read"), ("days", "0")], 400),
        (&[("name", "admin"), ("scope", "read")], 409),
    ] {
        assert_eq!(
            send("/ui/daemon/tokens", wrong, &administers).status,
            status,
            "{wrong:?}"
        );
    }
    let audit = see(&browser, "/ui/audit?action=revoke_token", &administers);
    audit.has(&["<bdi>grafana</bdi>", "<bdi>admin</bdi>"]);
}
