//! What each operation does to the file, committed for itself in a queue of a million units: statements,
//! and pages that its commit adds to the write-ahead log. And what a unit takes in the file.
//!
//! `cargo bench --bench pages`. Prints the tables that docs/performance.md quotes. They depend on no clock
//! and no disk.

mod queue;

use coordinated::store::all_statements;
use queue::operations::OPERATIONS;
use queue::{LONG, Meter, Queue};
use rusqlite::auto_extension::register_auto_extension;
use rusqlite::{Connection, ffi};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use test_support::world::World;

/// Calls of each operation, of which the mean is taken.
const CALLS: u64 = 100;

/// Units in the files of which the bytes are counted.
const COUNTED_UNITS: u64 = 200_000;

/// The parts of a log file: its header, the headers of its frames, and their pages.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;
const PAGE: u64 = 4096;

/// Looks at the length of the log come with every so many commits, not with an operation.
const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";

thread_local! {
    /// The statements that have begun on this thread.
    static BEGUN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Has every connection that is opened from now on note its statements.
fn trace_all_connections() {
    unsafe extern "C" fn on_open(
        db: *mut ffi::sqlite3,
        _: *mut *mut c_char,
        _: *const ffi::sqlite3_api_routines,
    ) -> c_int {
        // SAFETY: SQLite hands over a connection that is being opened.
        unsafe { ffi::sqlite3_trace_v2(db, ffi::SQLITE_TRACE_STMT, Some(note), null_mut()) }
    }
    unsafe extern "C" fn note(
        _: c_uint,
        _: *mut c_void,
        _: *mut c_void,
        sql: *mut c_void,
    ) -> c_int {
        // SAFETY: of a statement that begins SQLite hands over the text, ended by a zero.
        let sql = unsafe { CStr::from_ptr(sql.cast()) };
        let sql = sql.to_string_lossy().trim().to_owned();
        BEGUN.with_borrow_mut(|begun| begun.push(sql));
        0
    }
    // SAFETY: `on_open` opens and closes nothing, and leaves the list of extensions alone.
    unsafe { register_auto_extension(on_open) }.expect("connections are traced");
}

/// What commits do to the file.
struct Ledger {
    reader: Connection,
    log: PathBuf,
    wal_pages_before: u64,
    calls: u64,
    statements: usize,
    /// Those of the last call.
    last_statements: Vec<String>,
    pages: usize,
    /// The numbers of the pages that are not in `trees` yet.
    unknown_pages: Vec<u32>,
    /// How often pages of each table and index were written.
    trees: BTreeMap<String, usize>,
}

impl Ledger {
    fn new(database: &Path) -> Self {
        Self {
            reader: Connection::open(database).expect("a connection"),
            log: PathBuf::from(format!("{}-wal", database.display())),
            wal_pages_before: 0,
            calls: 0,
            statements: 0,
            last_statements: Vec::new(),
            pages: 0,
            unknown_pages: Vec::new(),
            trees: BTreeMap::new(),
        }
    }
}

fn wal_pages(world: &mut World) -> u64 {
    let log = world.store.wal_pages().expect("the log");
    log.expect("a file has a log").pages
}

impl Meter for Ledger {
    fn start(&mut self, world: &mut World) {
        self.wal_pages_before = wal_pages(world);
        BEGUN.take();
    }

    fn stop(&mut self, world: &mut World) {
        let mut statements = BEGUN.take();
        statements.retain(|sql| sql != LOOK);
        self.calls += 1;
        self.statements += statements.len();
        self.last_statements = statements;

        let before = self.wal_pages_before;
        let after = wal_pages(world);
        // If there are fewer, the log has begun anew.
        let frames = if after < before {
            0..after
        } else {
            before..after
        };
        let log = File::open(&self.log).expect("the log is there");
        for frame in frames {
            let mut number = [0; 4];
            log.read_exact_at(&mut number, LOG_HEADER + frame * (FRAME_HEADER + PAGE))
                .expect("a frame");
            self.pages += 1;
            self.unknown_pages.push(u32::from_be_bytes(number));
        }
    }

    fn before_restoring(&mut self) {
        if self.unknown_pages.is_empty() {
            return;
        }
        let trees = trees_of_pages(&self.reader);
        for page in self.unknown_pages.drain(..) {
            let tree = trees.get(&page).map_or("free pages", String::as_str);
            *self.trees.entry(tree.to_owned()).or_default() += 1;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "means of small numbers")]
fn mean(sum: usize, count: u64) -> f64 {
    sum as f64 / count as f64
}

/// The name of a statement in the program, else its text.
fn shown(sql: &str) -> String {
    let named = all_statements()
        .into_iter()
        .find(|(_, text)| text.trim() == sql);
    named.map_or_else(|| format!("`{sql}`"), |(name, _)| name.to_owned())
}

/// A list in which what repeats stands once.
fn shown_list(statements: &[String]) -> String {
    let mut shown_ones: Vec<(String, usize)> = Vec::new();
    for statement in statements {
        let statement = shown(statement);
        match shown_ones.iter_mut().find(|(known, _)| *known == statement) {
            Some((_, count)) => *count += 1,
            None => shown_ones.push((statement, 1)),
        }
    }
    let with_counts = shown_ones
        .into_iter()
        .map(|(statement, count)| match count {
            1 => statement,
            _ => format!("{statement} ({count})"),
        });
    with_counts.collect::<Vec<_>>().join(", ")
}

fn print_operations(dir: &Path) {
    let path = dir.join("operations.db");
    Queue::make(&path, LONG);
    let mut queue = Queue::open(&path, LONG, World::open);
    println!("| | statements | pages | KiB | pages of |");
    println!("| --- | --- | --- | --- | --- |");
    let mut lists = String::new();
    for operation in OPERATIONS {
        let name = operation.name;
        let mut ledger = Ledger::new(&path);
        (operation.round)(&mut queue, &mut ledger, CALLS.min(operation.calls_max));
        ledger.before_restoring();
        let calls = ledger.calls;
        let trees: Vec<String> = ledger
            .trees
            .iter()
            .map(|(tree, count)| format!("{tree} {:.2}", mean(*count, calls)))
            .collect();
        println!(
            "| {name} | {:.0} | {:.1} | {:.0} | {} |",
            mean(ledger.statements, calls),
            mean(ledger.pages, calls),
            mean(ledger.pages * (FRAME_HEADER + PAGE) as usize, calls) / 1024.0,
            trees.join(", ")
        );
        lists += &format!("- {name}: {}\n", shown_list(&ledger.last_statements));
    }
    println!("\nStatements of one call:\n\n{lists}");
}

/// What table or index each page belongs to.
fn trees_of_pages(connection: &Connection) -> HashMap<u32, String> {
    let sql = "SELECT pageno, iif(pageno = 1, 'file header', name) FROM dbstat";
    let mut statement = connection.prepare(sql).expect("dbstat");
    let pages = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    pages
        .expect("the pages")
        .collect::<rusqlite::Result<_>>()
        .expect("a page")
}

fn print_bytes(dir: &Path) {
    println!("| bytes for each unit | entries | in pages | content | unused | rest |");
    println!("| --- | --- | --- | --- | --- | --- |");
    type Make = fn(&Path, u64);
    let makes: [(&str, Make); 4] = [
        ("available, names in order", Queue::make),
        ("available, random names", Queue::make_random),
        ("finished", |path, units| {
            Queue::make_finished(path, units, false)
        }),
        ("finished with data", |path, units| {
            Queue::make_finished(path, units, true)
        }),
    ];
    for (index, (what, make)) in makes.into_iter().enumerate() {
        let path = dir.join(format!("bytes{index}.db"));
        make(&path, COUNTED_UNITS);
        let connection = Connection::open(&path).expect("a connection");
        let mut trees = connection
            .prepare(
                "SELECT name, sum(CASE WHEN pagetype = 'leaf' OR payload > 0 THEN ncell ELSE 0 END),
                        sum(pgsize), sum(payload), sum(unused)
                   FROM dbstat GROUP BY name HAVING sum(pgsize) > 100000 ORDER BY sum(pgsize) DESC",
            )
            .expect("dbstat");
        let trees = trees
            .query_map([], |row| {
                let numbers: [usize; 4] = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
                Ok((row.get::<_, String>(0)?, numbers))
            })
            .expect("the trees");
        let mut total = 0;
        for tree in trees {
            let (name, numbers) = tree.expect("a tree");
            total += numbers[1];
            let [_, pages, content, unused] = numbers.map(|sum| mean(sum, COUNTED_UNITS));
            println!(
                "| {what}: {name} | {} | {pages:.1} | {content:.1} | {unused:.1} | {:.1} |",
                numbers[0],
                pages - content - unused
            );
        }
        println!(
            "| {what}: all | | {:.1} | | | |",
            mean(total, COUNTED_UNITS)
        );
    }
}

fn main() {
    trace_all_connections();
    let dir = tempfile::tempdir().expect("a temporary folder");
    print_operations(dir.path());
    print_bytes(dir.path());
}
