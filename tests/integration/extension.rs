//! The extension for SQLite in `extension/`: it is built here, and loaded into the stock sqlite3.
//!
//! That of a Debian 12 is 3.40. CI has it; where there is none, the tests say that they could not run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use test_support::{Server, run_to_end, server_with_spec};

/// The built extension, as sqlite3 loads it; `None` where there is no sqlite3 to load it.
fn extension() -> Option<&'static Path> {
    static EXTENSION: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let Ok(version) = Command::new("sqlite3").arg("--version").output() else {
            assert!(
                std::env::var_os("COORDINATED_TEST_REQUIRES_SQLITE3").is_none(),
                "sqlite3 is required here, and is not on the PATH"
            );
            eprintln!("not run: there is no sqlite3 on the PATH");
            return None;
        };
        eprintln!("sqlite3 {}", String::from_utf8_lossy(&version.stdout));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("extension");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--package", "coordinated-extension"])
            .arg("--manifest-path")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .output()
            .expect("cargo");
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{said}");
        Some(target.join("debug/libcoordinated_cbor"))
    };
    EXTENSION.get_or_init(build).as_deref()
}

/// What sqlite3 prints for a query, with the extension loaded, and what it complains of.
fn ask(extension: &Path, db: &Path, query: &str) -> (String, String) {
    let output = Command::new("sqlite3")
        .arg("-readonly")
        .arg(db)
        .arg(format!(".load {}", extension.display()))
        .arg(query)
        .output()
        .expect("sqlite3");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The same from `coordinated sql`.
fn ask_ours(server: &Server, query: &str) -> String {
    let db = server.db().display().to_string();
    let arguments = ["sql", "--csv", "--db", &db, query];
    run_to_end(server.folder(), &arguments, &[]).stdout
}

#[test]
fn the_stock_sqlite3_shows_cbor_as_coordinated_sql_does() {
    let Some(extension) = extension() else {
        return;
    };
    let (server, mut client) = server_with_spec();
    client.add(
        "ws",
        r#"['a', {'n': 1, "f": 1.5, 'list': [true, null, {}]}], ['b', {'raw': h'ff', 1: 2}], ['c', {'t': 128(['x'])}]"#,
    );
    let query = "SELECT hex(cbor_json(data)) FROM work_unit ORDER BY id";
    let (printed, said) = ask(extension, &server.db(), query);
    assert_eq!(said, "");
    assert_eq!(printed.lines().count(), 3, "{printed}");
    let ours = ask_ours(&server, query);
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        ours.lines().skip(1).collect::<Vec<_>>()
    );
    let first = "SELECT cbor_json(data), json_array(cbor_json(data)) FROM work_unit WHERE CAST(name AS TEXT) = 'a'";
    let json = r#"{"n":1,"f":1.5,"list":[true,null,{}]}"#;
    assert_eq!(
        ask(extension, &server.db(), first).0,
        format!("{json}|[{json}]\n")
    );
}

#[test]
fn what_is_no_cbor_is_an_error_that_says_so_and_null_is_null() {
    let Some(extension) = extension() else {
        return;
    };
    let (server, _client) = server_with_spec();
    for (value, words) in [
        (
            "'text'",
            "cbor_json: takes a blob, not a value of type text",
        ),
        ("x'ff'", "cbor_json: not CBOR: byte 0"),
        ("x''", "cbor_json: not CBOR"),
    ] {
        let (printed, said) = ask(
            extension,
            &server.db(),
            &format!("SELECT cbor_json({value})"),
        );
        assert_eq!(printed, "");
        assert!(said.contains(words), "{words} in {said}");
    }
    let null = ask(extension, &server.db(), "SELECT cbor_json(NULL) IS NULL");
    assert_eq!(null.0, "1\n", "{}", null.1);
}
