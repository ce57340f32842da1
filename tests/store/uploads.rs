//! How far uploads have come, on a store with a hand-set clock.

use coordinated::coordinate::{
    Added, Error, IfExists, Result, UploadStep, Uploaded, UploadedLines,
};
use coordinated_client::cbor::Item;
use serde_json::json;
use test_support::world::{World, cbor, name};

fn upload(
    world: &mut World,
    id: &str,
    before: &Uploaded,
    line: &serde_json::Value,
) -> Result<UploadStep> {
    let line = cbor(line);
    world.run(|op| {
        let last = before.lines + 1;
        let lines = UploadedLines {
            lines: vec![(last, Item::from_checked(&line))],
            last,
        };
        op.upload_units(&name("spec"), Some(id), before, &lines, IfExists::Refuse)
    })
}

fn known(world: &mut World, id: &str) -> Uploaded {
    world.run(|op| op.uploaded(&name("spec"), id)).unwrap()
}

fn world() -> World {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    world
}

#[test]
fn an_upload_is_as_far_as_its_units_and_a_step_from_elsewhere_adds_nothing() {
    let mut world = world();
    let start = Uploaded::default();
    let step = upload(&mut world, "u", &start, &json!({"a": {}, "b": {}})).unwrap();
    assert!(step.bad_line.is_none());
    let added = Added {
        new: 2,
        ..Added::default()
    };
    assert_eq!(step.uploaded, Uploaded { lines: 1, added });
    assert_eq!(known(&mut world, "u"), step.uploaded);
    // A line that can't be used, a unit that exists, and a request that has not seen the first step.
    let bad = upload(&mut world, "u", &step.uploaded, &json!(["c", 5])).unwrap();
    assert_eq!(bad.bad_line.map(|(line, _)| line), Some(2));
    assert_eq!(bad.uploaded, step.uploaded);
    for (before, line) in [(step.uploaded, json!("a")), (start, json!("c"))] {
        let refused = upload(&mut world, "u", &before, &line);
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    }
    assert_eq!(known(&mut world, "u"), step.uploaded);
    assert_eq!(world.counts("spec").available, 2);
}

#[test]
fn of_very_many_uploads_the_oldest_ones_are_forgotten() {
    let mut world = world();
    for number in 0..=10_000 {
        let id = number.to_string();
        upload(&mut world, &id, &Uploaded::default(), &json!(id)).unwrap();
    }
    assert_eq!(known(&mut world, "0"), Uploaded::default());
    for id in ["1", "10000"] {
        assert_eq!(known(&mut world, id).lines, 1, "{id}");
    }
}
