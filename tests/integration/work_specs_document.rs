//! docs/work_specs.md has every key of a work spec that the daemon reads, and no other.

use coordinated::coordinate::Meta;
use test_support::Server;

const DOCUMENT: &str = include_str!("../../docs/work_specs.md");

/// The table of keys: its cells, without the heading.
fn rows() -> Vec<Vec<&'static str>> {
    let table = DOCUMENT
        .split_once("## Keys of the daemon")
        .and_then(|(_, rest)| rest.split_once("\n| --- "))
        .and_then(|(_, rest)| rest.split_once("\n\n"))
        .expect("the table of keys")
        .0;
    let rows = table.lines().skip(1);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

fn key_of<'r>(row: &[&'r str]) -> &'r str {
    row[0].trim_matches('`')
}

#[test]
fn the_table_has_the_keys_of_the_code_each_with_type_default_meaning_and_version() {
    let rows = rows();
    let mut documented: Vec<&str> = rows.iter().map(|row| key_of(row)).collect();
    let mut known = Meta::KEYS.to_vec();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

/// Finds a type that was written down for a key by hand and is not that of the code.
#[test]
fn values_of_other_types_are_refused_with_the_key() {
    let server = Server::start();
    let mut client = server.connect();
    for row in rows() {
        let (key, kind) = (key_of(&row), row[1]);
        let wrong: &[&str] = match kind {
            "flag" => continue,
            _ if kind.contains("string") => &["5", "[]"],
            _ if kind.starts_with("integer") => &["'x'", "[]", "2.5"],
            _ => &["'x'", "[]", "NaN"],
        };
        let too_low = kind.contains("at least").then_some("-1");
        for value in wrong.iter().copied().chain(too_low) {
            let name = match key {
                "name" => "",
                // They belong to the workers if there is no schedule.
                key if Meta::KEYS_WITH_SCHEDULE.contains(&key) => {
                    "'name': 'ws', 'schedule': '@daily', "
                }
                _ => "'name': 'ws', ",
            };
            let definition = format!("{{{name}'{key}': {value}}}");
            let message = client.refused("set_work_spec", &definition);
            assert!(
                message.contains(&format!("{key:?}")),
                "{definition}: {message}"
            );
        }
    }
    assert_eq!(client.spec_names(), [""; 0]);
}

#[test]
fn the_example_is_accepted_as_it_is_and_a_typo_in_it_is_found() {
    let server = Server::start();
    let example = DOCUMENT
        .split_once("```yaml\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .expect("an example")
        .0;
    let load = |text: &str| {
        let file = server.folder().join("spec.yaml");
        std::fs::write(&file, text).expect("write");
        let file = file.to_str().expect("UTF-8");
        let environment = [("COORDINATED_SERVER", server.address())];
        let arguments = ["load", "-w", file, "--no-work"];
        test_support::run_to_end(server.folder(), &arguments, &environment)
    };
    server.connect().set_spec("{'name': 'albums'}");
    let exit = load(example);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{exit:?}");
    let exit = load(&example.replace("retry_backoff", "retry_backof"));
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(
        exit.stderr.contains("did you mean \"retry_backoff\"?"),
        "{exit:?}"
    );
    let exit = load(&example.replace("retries: 5", "retries: often"));
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let problem = "line 2: thumbnails: work spec key \"retries\": expected an integer of at least 0, got a text string";
    assert!(exit.stderr.contains(problem), "{exit:?}");
}
