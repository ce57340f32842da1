//! How random sequences are drawn. Names come from small pools, so that operations meet; giving out,
//! reporting and adding are frequent, and what destroys much is rare.

use super::model::SCHEDULES;
use super::operations::{
    Cancel, Heartbeat, Json, Listing, NewUnit, Operation, Path, Report, Request, Run, Step, Target,
    Told, Which, run_name,
};
use coordinated::clock::Timestamp;
use coordinated::coordinate::{
    Control, IfExists, Lease, Name, Pause, PriorityChange, ReportKind, Retention, UnitStatus,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::strategy::LazyJust;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The last one is mostly not there.
pub const SPECS: [&str; 4] = ["alpha", "beta", "gamma", "nowhere"];
/// Connections.
pub const SESSIONS: usize = 3;
/// Unit names with their peculiarities: empty, prefixes of each other, before and behind the names of
/// the runs, no UTF-8.
const UNITS: [&[u8]; 9] = [
    b"",
    b"\0",
    b"a",
    b"ab",
    b"n",
    b"n10x",
    b"z",
    "\u{e9}".as_bytes(),
    b"\xff",
];
const RUN_NAMES: u8 = 60;
const GROUPS: [&str; 4] = ["anna", "bert", "b", "\u{e9}"];

/// All sequences: the specs that are there at first, and the steps.
pub fn sequences() -> impl Strategy<Value = Vec<Step>> {
    let specs = SPECS[..3].iter().map(|name| {
        definition(name).prop_map(|definition| Step::Run(0, Operation::SetSpec(definition)))
    });
    // A hundred operations in the mean, and no minimum, so that shrinking can leave steps out.
    let steps = vec(step(), 0..=320);
    (specs.collect::<Vec<_>>(), steps).prop_map(|(mut specs, steps)| {
        specs.extend(steps);
        specs
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (0..SESSIONS, operation()).prop_map(|(session, operation)| Step::Run(session, operation)),
        4 => (0..SESSIONS, operation()).prop_map(|(session, operation)| Step::Undone(session, operation)),
        25 => LazyJust::new(|| Step::Commit),
        1 => LazyJust::new(|| Step::Lose),
        11 => passing().prop_map(Step::Pass),
        1 => prop_oneof![-100..1_000_i64, -1_000_000..1_000_000_i64].prop_map(Step::SetClock),
        1 => seconds(0..1_000).prop_map(Step::Restart),
    ]
}

fn passing() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (0..2_000_000_u64).prop_map(Duration::from_micros),
        9 => (0..15_u64).prop_map(Duration::from_secs),
        2 => (15..400_u64).prop_map(Duration::from_secs),
        1 => Just(Duration::from_secs(100_000)),
    ]
}

fn operation() -> BoxedStrategy<Operation> {
    prop_oneof![
        21 => request().prop_map(Operation::GetWork),
        5 => (request(), seconds(0..60)).prop_map(|(request, wait)| Operation::WaitForWork(request, wait)),
        3 => (spec(), unit_names(), seconds(0..60))
            .prop_map(|(spec, names, wait)| Operation::WaitForUnits(spec, names, wait)),
        26 => (target(), report()).prop_map(|(target, report)| Operation::Report(target, report)),
        16 => (spec(), vec(new_unit(), 1..5), if_exists())
            .prop_map(|(spec, units, if_exists)| Operation::Add(spec, units, if_exists)),
        10 => (spec(), run(), if_exists())
            .prop_map(|(spec, run, if_exists)| Operation::AddRun(spec, run, if_exists)),
        4 => (spec(), unit_names(), priority_change())
            .prop_map(|(spec, names, change)| Operation::Prioritize(spec, names, change)),
        3 => (spec(), which()).prop_map(|(spec, which)| Operation::DeleteUnits(spec, which)),
        6 => (spec(), which(), cancel())
            .prop_map(|(spec, which, how)| Operation::Cancel(spec, which, how)),
        6 => any_definition().prop_map(Operation::SetSpec),
        4 => (spec(), control()).prop_map(|(spec, control)| Operation::Control(spec, control)),
        1 => spec().prop_map(Operation::DeleteSpec),
        2 => (1..20_usize).prop_map(Operation::Purge),
        4 => (option::of(select(&SPECS[..])), retention())
            .prop_map(|(spec, retention)| Operation::Archive(spec, retention)),
        5 => heartbeat().prop_map(Operation::Heartbeat),
        1 => worker().prop_map(Operation::Unregister),
        6 => on_locks(),
        12 => reading(),
        1 => prop_oneof![4 => LazyJust::new(|| Operation::Workers), 1 => LazyJust::new(|| Operation::Clear)],
    ]
    .boxed()
}

fn on_locks() -> impl Strategy<Value = Operation> {
    let timeout = || seconds(0..20);
    let owner = || select(vec![Name::from_text("w0"), Name::from_bytes("w1")]);
    prop_oneof![
        3 => (owner(), timeout(), paths()).prop_map(|(o, t, p)| Operation::Lock(o, t, p)),
        2 => (owner(), timeout(), paths()).prop_map(|(o, t, p)| Operation::LockSome(o, t, p)),
        1 => (owner(), timeout(), paths()).prop_map(|(o, t, p)| Operation::RenewLocks(o, t, p)),
        2 => (owner(), paths()).prop_map(|(o, p)| Operation::Unlock(o, p)),
        1 => path().prop_map(Operation::DeleteLocksUnder),
        2 => paths().prop_map(Operation::ReadLocks),
    ]
}

fn reading() -> impl Strategy<Value = Operation> {
    let listing = (
        option::of(statuses()),
        option::of(unit_name()),
        prop_oneof![Just(0_usize), Just(3), Just(1_000)],
    );
    let listing = listing.prop_map(|(statuses, start, limit)| Listing {
        statuses,
        start,
        limit,
    });
    prop_oneof![
        2 => spec().prop_map(Operation::Spec),
        1 => option::of(select(&SPECS[..])).prop_map(Operation::SpecNames),
        2 => (spec(), unit_names()).prop_map(|(spec, names)| Operation::Status(spec, names)),
        2 => (spec(), unit_names()).prop_map(|(spec, names)| Operation::Data(spec, names)),
        2 => (spec(), unit_name(), 0..4_usize).prop_map(|(spec, name, limit)| Operation::Attempts(spec, name, limit)),
        4 => (spec(), option::weighted(0.8, unit_name())).prop_map(|(spec, name)| Operation::Explain(spec, name)),
        3 => (spec(), listing).prop_map(|(spec, listing)| Operation::List(spec, listing)),
        1 => worker().prop_map(Operation::Worker),
        3 => worker().prop_map(Operation::Children),
    ]
}

// --- arguments ---

fn spec() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(SPECS[0]), 4 => Just(SPECS[1]), 3 => Just(SPECS[2])]
}

fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

fn worker() -> impl Strategy<Value = Name> {
    (0..4_u8, prop::bool::weighted(0.2)).prop_map(|(number, is_bytes)| {
        let name = format!("w{number}");
        if is_bytes {
            Name::from_bytes(name)
        } else {
            Name::from_text(name)
        }
    })
}

fn unit_name() -> impl Strategy<Value = Name> {
    prop_oneof![
        2 => (select(&UNITS[..]), any::<bool>()).prop_map(|(bytes, is_text)| {
            match std::str::from_utf8(bytes) {
                Ok(text) if is_text => Name::from_text(text),
                _ => Name::from_bytes(bytes),
            }
        }),
        3 => (0..RUN_NAMES).prop_map(run_name),
    ]
}

fn unit_names() -> impl Strategy<Value = Vec<Name>> {
    prop_oneof![
        4 => vec(unit_name(), 1..4),
        1 => (0..RUN_NAMES, 1..20_u8)
            .prop_map(|(first, count)| (first..first + count).map(run_name).collect()),
    ]
}

/// Mostly one of few, of every sign, so that several units have the same.
fn priority() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => Just(0.0),
        4 => select(vec![-1.0, 1.0, 0.5, -0.5, -0.0, 2.0]),
        1 => select(vec![f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e-300]),
        1 => -3.0..3.0_f64,
    ]
}

fn priority_change() -> impl Strategy<Value = PriorityChange> {
    prop_oneof![
        priority().prop_map(PriorityChange::Set),
        priority().prop_map(PriorityChange::Adjust),
    ]
}

fn delay() -> impl Strategy<Value = Option<Duration>> {
    option::weighted(
        0.2,
        prop_oneof![1 => Just(Duration::ZERO), 4 => seconds(1..20)],
    )
}

fn new_unit() -> impl Strategy<Value = NewUnit> {
    let group = option::weighted(0.7, select(&GROUPS[..]));
    (unit_name(), data(), option::of(priority()), delay(), group).prop_map(
        |(name, data, priority, delay, group)| NewUnit {
            name,
            data,
            priority,
            delay,
            group,
        },
    )
}

fn if_exists() -> impl Strategy<Value = IfExists> {
    prop_oneof![
        3 => Just(IfExists::Reset),
        1 => Just(IfExists::Skip),
        1 => Just(IfExists::Refuse),
    ]
}

fn run() -> impl Strategy<Value = Run> {
    let groups = option::of((select(&GROUPS[..]), select(&GROUPS[..])));
    (
        0..RUN_NAMES,
        1..25_u8,
        option::of(priority()),
        delay(),
        groups,
    )
        .prop_map(|(first, count, priority, delay, groups)| Run {
            first,
            count,
            priority,
            delay,
            groups,
        })
}

fn data() -> impl Strategy<Value = Json> {
    prop_oneof![
        2 => Just(json!({})),
        2 => (0..1_000_u32).prop_map(|n| json!({"n": n})),
        1 => Just(json!({"traceback": "Traceback: boom"})),
        4 => output().prop_map(|output| json!({"output": output})),
    ]
    .prop_map(Json)
}

/// What a finished unit leaves for the next spec, well-formed or not.
fn output() -> impl Strategy<Value = Value> {
    let key = || {
        let runs = (0..RUN_NAMES).prop_map(|number| format!("n{number:02}"));
        prop_oneof![
            runs,
            select(vec!["", "a", "z", "\u{e9}"]).prop_map(str::to_owned)
        ]
    };
    let item = prop_oneof![
        4 => key().prop_map(Value::from),
        3 => (key(), -2..3_i8).prop_map(|(key, p)| json!([key, {"n": p}, {"priority": p}])),
        1 => (key(), select(&GROUPS[..])).prop_map(|(key, group)| json!([key, null, {"group": group}])),
        1 => (key(), 1..9_u8).prop_map(|(key, delay)| json!([key, null, {"delay": delay}, 0.5])),
        1 => select(vec![json!(7), json!(["k"]), json!(["k", 5]), json!(["k", {}, 3]), json!(["k", {}, null, "x"])]),
    ];
    prop_oneof![
        4 => vec(item, 0..4).prop_map(Value::from),
        2 => key().prop_map(|key| json!({key: {"n": 1}})),
        1 => select(vec![json!(5), json!(0), json!("text"), json!({"k": 5})]),
    ]
}

fn any_definition() -> impl Strategy<Value = Json> {
    prop_oneof![
        12 => select(&SPECS[..3]).prop_flat_map(definition),
        1 => select(vec![json!({"name": "alpha", "weight": "heavy"}), json!({"weight": 1}),
            json!({"name": "beta", "weight": -1}), json!({"name": "beta", "order": "fifo"}), json!({"name": "beta", "max_running": 2.5})]).prop_map(Json),
    ]
}

fn definition(name: &'static str) -> impl Strategy<Value = Json> {
    let limit = || option::weighted(0.2, 0..5_i64);
    let scheduling = (
        option::weighted(0.3, select(vec![0.0, 1.0, -1.5])),
        option::weighted(0.3, 0..100_i64),
        option::weighted(0.2, -5..25_i64),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        option::of(select(vec![0.0, 0.5, 3.0])),
        option::weighted(0.1, Just("java")),
    );
    let then = option::weighted(0.5, select(&SPECS[..]));
    let retrying = (
        option::weighted(0.5, 0..4_i64),
        option::weighted(0.6, select(vec![0.0, 0.5, 4.0])),
        option::weighted(0.4, select(vec![1.0, 2.0, 1.5])),
        option::weighted(0.3, select(vec![1.0, 6.0])),
        option::weighted(0.3, 0..3_i64),
    );
    let timed = (
        option::weighted(0.2, select(&SCHEDULES[..])),
        option::weighted(0.5, Just("Etc/UTC")),
        option::weighted(0.5, Just("queue")),
        option::weighted(0.5, Just("skip")),
    );
    let queueing = (
        option::weighted(0.5, select(vec!["added", "added", "name"])),
        prop::bool::weighted(0.3),
        option::weighted(0.3, 0..3_i64),
    );
    let halt = vec![
        json!({"failures": 1}),
        json!({"failures": 3}),
        json!({"rate": 1, "min": 2}),
        json!({"failures": 4, "rate": 0.7, "min": 2}),
        json!({"rate": 0.5, "min": 1}),
    ];
    let limits = (
        option::weighted(0.25, select(vec!["4/s", "1/s", "30/m"])),
        option::weighted(0.5, select(vec![1, 3])),
        option::weighted(0.25, select(halt)),
    );
    (
        scheduling,
        limit(),
        limit(),
        limit(),
        then,
        retrying,
        timed,
        queueing,
        limits,
    )
        .prop_map(
            move |(
                scheduling,
                max_running,
                max_getwork,
                max_retries,
                then,
                retrying,
                timed,
                queueing,
                limits,
            )| {
                let (schedule, timezone, overlap, missed) = timed;
                let (order, fair, max_running_per_group) = queueing;
                let (max_rate, max_rate_burst, halt_after) = limits;
                let (retries, retry_delay, retry_backoff, retry_delay_max, max_lost) = retrying;
                let (priority, weight, nice, disabled, continuous, interval, runtime) = scheduling;
                let entries = [
                    ("name", Some(json!(name))),
                    ("priority", priority.map(Value::from)),
                    ("weight", weight.map(Value::from)),
                    ("nice", nice.map(Value::from)),
                    ("disabled", disabled.then(|| json!(true))),
                    ("continuous", continuous.then(|| json!(true))),
                    ("interval", interval.map(Value::from)),
                    ("runtime", runtime.map(Value::from)),
                    ("max_running", max_running.map(Value::from)),
                    ("max_getwork", max_getwork.map(Value::from)),
                    ("max_retries", max_retries.map(Value::from)),
                    ("then", then.map(Value::from)),
                    ("retries", retries.map(Value::from)),
                    ("retry_delay", retry_delay.map(Value::from)),
                    ("retry_backoff", retry_backoff.map(Value::from)),
                    ("retry_delay_max", retry_delay_max.map(Value::from)),
                    ("max_lost", max_lost.map(Value::from)),
                    ("schedule", schedule.map(|(schedule, _)| json!(schedule))),
                    ("timezone", timezone.map(Value::from)),
                    ("overlap", overlap.map(Value::from)),
                    ("missed", missed.map(Value::from)),
                    ("order", order.map(Value::from)),
                    ("fair", fair.then(|| json!(true))),
                    (
                        "max_running_per_group",
                        max_running_per_group.map(Value::from),
                    ),
                    ("max_rate", max_rate.map(Value::from)),
                    ("max_rate_burst", max_rate_burst.map(Value::from)),
                    ("halt_after", halt_after),
                ];
                let there = entries
                    .into_iter()
                    .filter_map(|(key, value)| Some((key.to_owned(), value?)));
                Json(Value::Object(there.collect::<Map<_, _>>()))
            },
        )
}

fn control() -> impl Strategy<Value = Control> {
    (
        option::weighted(0.4, option::weighted(0.3, pause())),
        option::weighted(0.3, prop_oneof![1 => Just(0_i64), 5 => 1..50_i64]),
        option::weighted(0.2, prop_oneof![Just(0.0), Just(-1.0), Just(2.5)]),
        option::weighted(0.2, option::of(seconds(0..4))),
        option::weighted(0.3, option::of(1..4_u64)),
        option::weighted(0.2, any::<bool>()),
    )
        .prop_map(
            |(paused, weight, priority, interval, max_running, continuous)| Control {
                paused,
                weight,
                priority,
                interval,
                max_running,
                continuous,
            },
        )
}

fn pause() -> impl Strategy<Value = Pause> {
    let text = |text: &'static str| option::of(Just(text.to_owned()));
    let since = prop_oneof![Just(Timestamp(5)), Just(Timestamp(i64::MAX))];
    (
        text("disk full"),
        text("me@host"),
        option::weighted(0.3, since),
    )
        .prop_map(|(reason, by, since)| Pause { reason, by, since })
}

fn statuses() -> impl Strategy<Value = Vec<UnitStatus>> {
    prop_oneof![
        select(&UnitStatus::ALL[..]).prop_map(|status| vec![status]),
        subsequence(&UnitStatus::ALL[..], 0..=5),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        1 => LazyJust::new(|| Which::All),
        4 => (unit_names(), option::of(statuses())).prop_map(|(names, statuses)| Which::Named(names, statuses)),
        2 => statuses().prop_map(Which::InStatus),
    ]
}

fn cancel() -> impl Strategy<Value = Cancel> {
    let grace = prop_oneof![1 => Just(Duration::ZERO), 4 => seconds(5..60)];
    let reason = select(vec![None, Some("why"), Some("why not")]);
    (reason, grace).prop_map(|(reason, grace)| Cancel { reason, grace })
}

fn retention() -> impl Strategy<Value = Retention> {
    let age = prop_oneof![3 => seconds(0..20), 1 => seconds(20..2_000)];
    (option::weighted(0.6, 0..6_u64), option::weighted(0.6, age))
        .prop_map(|(count, age)| Retention { count, age })
}

fn lease() -> impl Strategy<Value = Duration> {
    prop_oneof![3 => seconds(1..20), 1 => Just(Duration::from_secs(300)), 1 => Just(Duration::from_secs(86_400))]
}

fn request() -> impl Strategy<Value = Request> {
    let max_units = prop_oneof![12 => Just(1_usize), 6 => 2..6_usize, 1 => Just(40)];
    let one_of_them = spec().prop_map(|spec| vec![Name::from_text(spec)]);
    let work_specs = prop_oneof![2 => Just(Vec::new()), 3 => one_of_them];
    let runtimes =
        prop_oneof![6 => Just(vec![""]), 1 => Just(vec!["java"]), 1 => Just(vec!["", "java"])];
    (worker(), max_units, lease(), work_specs, runtimes).prop_map(
        |(worker, max_units, lease, work_specs, runtimes)| Request {
            worker,
            max_units,
            lease,
            work_specs,
            runtimes: runtimes.into_iter().map(str::to_owned).collect(),
        },
    )
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        5 => (0..6_usize).prop_map(Target::HandedOutHere),
        2 => (0..SESSIONS, 0..6_usize).prop_map(|(session, ago)| Target::HandedOut(session, ago)),
        4 => any::<Index>().prop_map(Target::AnyUnit),
        1 => (spec(), unit_name()).prop_map(|(spec, name)| Target::Named(spec, name)),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    let kind = prop_oneof![
        4 => Just(ReportKind::Finished),
        2 => Just(ReportKind::Failed),
        3 => Just(ReportKind::Available),
        1 => Just(ReportKind::Pending),
        2 => Just(ReportKind::Renew),
    ];
    let lease = option::weighted(
        0.4,
        prop_oneof![2 => lease().prop_map(Lease::For), 1 => Just(Lease::Over)],
    );
    let told = (prop::bool::weighted(0.1), any::<Index>())
        .prop_map(|(at_any_unit, index)| Told { at_any_unit, index });
    (
        kind,
        lease,
        option::of(data()),
        option::weighted(0.4, told),
        option::weighted(0.2, worker()),
        delay(),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(kind, lease, data, attempt, worker, delay, is_final)| Report {
                kind,
                lease,
                data,
                attempt,
                worker,
                delay,
                is_final,
            },
        )
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    let mode = option::of(select(vec!["RUN", "IDLE"]).prop_map(Name::from_text));
    (
        worker(),
        mode,
        seconds(0..200),
        option::of(data()),
        option::of(worker()),
    )
        .prop_map(|(worker, mode, lifetime, environment, parent)| Heartbeat {
            worker,
            mode,
            lifetime,
            environment,
            parent,
        })
}

fn path() -> impl Strategy<Value = Path> {
    select(all_paths())
}

fn paths() -> impl Strategy<Value = Vec<Path>> {
    vec(path(), 1..3)
}

/// All paths that are drawn: the root, some above each other, and some that only look so.
pub fn all_paths() -> Vec<Path> {
    let paths: [&[&str]; 6] = [&[], &["a"], &["a", "b"], &["a", ""], &["a\0"], &["b"]];
    paths.iter().map(|labels| labels.to_vec()).collect()
}
