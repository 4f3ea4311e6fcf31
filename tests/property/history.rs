//! What objects were: kept in bounds, found again, also where nobody kept it from the beginning.

use mesh::logic::state::history::{GONE_MAX, VERSIONS_MAX};
use mesh::logic::state::{Change, Command, Expected, Refusal, State, Write, Written};
use mesh::model::intention::Action;
use mesh::model::resource::{Key, Kind, Resource};

fn founded() -> State {
    let mut state = State::default();
    let found = Change::Found { trust_domain: "shop.test".parse().unwrap(), default_action: Action::Allow };
    state.apply(Command::new(0, found)).unwrap();
    state
}

fn object(name: &str, destination: &str) -> Box<Resource> {
    let text = format!(
        r#"{{"apiVersion":"mesh/v1","kind":"Intention","metadata":{{"name":"{name}"}},
            "spec":{{"destination":"{destination}","sources":[{{"service":"*"}}],"action":"allow"}}}}"#
    );
    Box::new(serde_json::from_str(&text).unwrap())
}

fn put(name: &str, destination: &str) -> Change {
    Change::Put { resource: object(name, destination), expected: Expected::Any }
}

fn key(name: &str) -> Key {
    Key { kind: Kind::Intention, namespace: "default".to_owned(), name: name.to_owned() }
}

#[test]
fn a_state_that_was_kept_before_histories_were_opens_and_begins_them_with_what_is_stored() {
    let mut state = founded();
    state.apply(Command::new(5, put("one", "web"))).unwrap();
    let mut older = serde_json::to_value(&state).unwrap();
    older.as_object_mut().unwrap().remove("histories").unwrap();
    let older_command = r#"{"at_ms":9,"change":{"put":{"resource":RESOURCE,"expected":"any"}}}"#;
    let text = serde_json::to_string(&object("one", "api")).unwrap();

    let mut state: State = serde_json::from_value(older).unwrap();
    let stored = state.history(&key("one"));
    state.apply(serde_json::from_str(&older_command.replace("RESOURCE", &text)).unwrap()).unwrap();

    assert_eq!(stored.len(), 1);
    let changes: Vec<_> =
        state.history(&key("one")).iter().map(|version| (version.at_ms, version.change)).collect();
    assert_eq!(changes, [(0, Written::Created), (9, Written::Updated)]);
    let before = state.earlier(&key("one"), None).unwrap();
    assert_eq!(before, stored[0].object);
}

#[test]
fn histories_are_bounded_for_each_object_and_for_those_that_are_gone() {
    let mut state = founded();
    for round in 0..VERSIONS_MAX as u64 + 5 {
        state.apply(Command::new(round, put("one", &format!("s{round}")))).unwrap();
    }
    let history = state.history(&key("one"));
    for name in 0..GONE_MAX + 3 {
        let name = format!("gone-{name}");
        state.apply(Command::new(100, put(&name, "web"))).unwrap();
        let expected = Expected::Any;
        state.apply(Command::new(100, Change::Delete { key: key(&name), expected })).unwrap();
    }

    assert_eq!(history.len(), VERSIONS_MAX);
    assert_eq!(history.last().unwrap().object, state.resources()[&key("one")]);
    let kept = |name: usize| !state.history(&key(&format!("gone-{name}"))).is_empty();
    assert_eq!([0, 2, 3, GONE_MAX + 2].map(kept), [false, false, true, true]);
    assert_eq!(state.history(&key("one")), history, "others take no room from it");
}

#[test]
fn objects_applied_together_are_all_written_or_none_is() {
    let mut state = founded();
    state.apply(Command::new(0, put("one", "web"))).unwrap();
    let write = |name: &str, expected| Write::Put { resource: object(name, "api"), expected };
    let before = state.clone();

    let half = vec![write("new", Expected::Any), write("absent", Expected::Revision(1))];
    let refused = state.apply(Command::new(1, Change::Apply(half)));
    let unchanged = state.clone();
    let whole = vec![write("new", Expected::Absent), write("newer", Expected::Any)];
    let done = state.apply(Command::new(1, Change::Apply(whole))).unwrap();

    assert!(matches!(refused, Err(Refusal::NoObject(_))), "{refused:?}");
    assert_eq!(unchanged, before);
    assert_eq!((done.len(), state.revision()), (2, before.revision() + 1));
    assert_eq!(state.history(&key("new")).len(), 1);
}
