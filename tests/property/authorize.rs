//! Intentions: deny wins, allow lists close, and every verdict names its reason.

use mesh::logic::authorize::{Intentions, Verdict, authorize};
use mesh::model::identity::Subject;
use mesh::model::intention::{Action, IntentionSpec, SourceMatch};
use mesh::model::resource::Object;
use proptest::prelude::*;

use crate::property::route::metadata;

type Intention = Object<IntentionSpec>;

fn intention(name: &str, namespace: &str, destination: &str, sources: &[&str], action: Action) -> Intention {
    let source = |text: &&str| match text.strip_prefix("node/") {
        Some(node) => SourceMatch { service: None, node: Some(node.to_owned()) },
        None => SourceMatch { service: Some((*text).to_owned()), node: None },
    };
    let mut metadata = metadata(name, None);
    namespace.clone_into(&mut metadata.namespace);
    let sources = sources.iter().map(source).collect();
    Object::new(metadata, IntentionSpec { destination: destination.to_owned(), sources, action })
}

fn verdict(intentions: &[Intention], default: Action, peer: &str, destination: &str) -> Verdict {
    let peer: Subject = peer.parse().unwrap();
    authorize(&Intentions::new(intentions, default), &peer, &destination.parse().unwrap())
}

fn reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Allow { by } => by,
        Verdict::Deny { rule } => rule,
    }
}

#[test]
fn without_an_intention_the_default_decides() {
    let other = [intention("x", "default", "other", &["*"], Action::Deny)];
    for intentions in [&[][..], &other] {
        assert_eq!(
            verdict(intentions, Action::Allow, "a", "web"),
            Verdict::Allow { by: "default allow".into() }
        );
        assert_eq!(
            verdict(intentions, Action::Deny, "a", "web"),
            Verdict::Deny { rule: "default deny".into() }
        );
    }
}

#[test]
fn an_allow_intention_closes_the_service_to_everybody_else() {
    let list = [intention("callers", "default", "web", &["api"], Action::Allow)];

    assert_eq!(
        verdict(&list, Action::Allow, "api", "web"),
        Verdict::Allow { by: "intention default/callers".into() }
    );
    for other in ["db", "api.shop", "node/api", "control/api", "operator/ann"] {
        assert_eq!(
            verdict(&list, Action::Allow, other, "web"),
            Verdict::Deny { rule: "allow list of intention default/callers".into() },
            "{other}"
        );
    }
    assert!(verdict(&list, Action::Allow, "db", "web.shop").is_allowed());
}

#[test]
fn deny_wins_wherever_it_is_written() {
    let intentions = [
        intention("allow", "default", "web", &["*"], Action::Allow),
        intention("deny", "default", "*", &["*.shop"], Action::Deny),
    ];

    assert!(verdict(&intentions, Action::Allow, "api", "web").is_allowed());
    let denied = Verdict::Deny { rule: "intention default/deny".into() };
    assert_eq!(verdict(&intentions, Action::Allow, "api.shop", "web"), denied);
}

#[test]
fn patterns_cover_what_they_say() {
    let covers = |namespace, destination, source, peer, called| {
        let deny = [intention("x", namespace, destination, &[source], Action::Deny)];
        !verdict(&deny, Action::Allow, peer, called).is_allowed()
    };

    assert!(covers("shop", "web", "api", "api.shop", "web.shop"));
    assert!(!covers("shop", "web", "api", "api.default", "web.shop"));
    assert!(!covers("shop", "web", "api", "api.shop", "web.default"));
    assert!(covers("default", "web.shop", "api.shop", "api.shop", "web.shop"));
    assert!(covers("shop", "*", "*", "x.y", "anything.shop"));
    assert!(!covers("shop", "*", "*", "x.y", "anything.default"));
    assert!(!covers("shop", "*", "*", "node/x", "web.shop"));
    assert!(covers("shop", "*", "node/*", "node/x", "web.shop"));
    assert!(!covers("shop", "*", "node/*", "control/x", "web.shop"));
    assert!(covers("shop", "*", "node/x", "node/x", "web.shop"));
    assert!(!covers("shop", "*", "node/x", "node/y", "web.shop"));
}

fn any_intention() -> impl Strategy<Value = Intention> {
    let destination = prop_oneof!["[ab]", "[ab]\\.[st]", Just("*".to_owned())];
    let source = prop_oneof!["[ab]", "[ab]\\.[st]", "\\*\\.[st]", Just("*".to_owned()), "node/[xy*]"];
    let actions = prop_oneof![Just(Action::Allow), Just(Action::Deny)];
    let parts = ("[st]", "[a-z]{4}", destination, proptest::collection::vec(source, 1..3), actions);
    parts.prop_map(|(namespace, name, destination, sources, action)| {
        let sources: Vec<_> = sources.iter().map(String::as_str).collect();
        intention(&name, &namespace, &destination, &sources, action)
    })
}

fn any_call() -> impl Strategy<Value = (String, String)> {
    (prop_oneof!["[ab]\\.[st]", "node/[xy]", "control/x"], "[ab]\\.[st]")
}

/// The documentation of `IntentionSpec`, word by word, on texts alone.
fn reference(intentions: &[Intention], default: Action, peer: &str, called: &str) -> bool {
    let full = |text: &str, namespace: &str| {
        if text.contains('.') { text.to_owned() } else { format!("{text}.{namespace}") }
    };
    let about: Vec<_> = intentions
        .iter()
        .filter(|object| {
            let namespace = &object.metadata.namespace;
            match object.spec.destination.as_str() {
                "*" => called.ends_with(&format!(".{namespace}")),
                name => full(name, namespace) == called,
            }
        })
        .collect();
    let names = |object: &Intention| {
        object.spec.sources.iter().any(|source| match (&source.service, &source.node) {
            (Some(any), _) if any == "*" => !peer.contains('/'),
            (Some(text), _) if text.starts_with('*') => !peer.contains('/') && peer.ends_with(&text[1..]),
            (Some(text), _) => full(text, &object.metadata.namespace) == peer,
            (None, Some(any)) if any == "*" => peer.starts_with("node/"),
            (None, node) => node.as_ref().is_some_and(|node| peer == format!("node/{node}")),
        })
    };
    let list = |action| about.iter().filter(move |object| object.spec.action == action);
    if list(Action::Deny).any(|object| names(object)) {
        false
    } else if list(Action::Allow).next().is_some() {
        list(Action::Allow).any(|object| names(object))
    } else {
        default == Action::Allow
    }
}

proptest! {
    #[test]
    fn verdicts_are_those_of_a_naive_reference(
        intentions in proptest::collection::vec(any_intention(), 0..6),
        default in prop_oneof![Just(Action::Allow), Just(Action::Deny)],
        (peer, called) in any_call(),
    ) {
        let found = verdict(&intentions, default, &peer, &called).is_allowed();
        prop_assert_eq!(found, reference(&intentions, default, &peer, &called));
    }

    #[test]
    fn a_further_deny_never_allows_more(
        intentions in proptest::collection::vec(any_intention(), 0..6),
        mut more in any_intention(),
        (peer, called) in any_call(),
    ) {
        let before = verdict(&intentions, Action::Allow, &peer, &called).is_allowed();
        more.spec.action = Action::Deny;
        let mut all = intentions;
        all.push(more);
        prop_assert!(before || !verdict(&all, Action::Allow, &peer, &called).is_allowed());
    }

    #[test]
    fn every_verdict_names_an_intention_that_exists_or_the_default(
        intentions in proptest::collection::vec(any_intention(), 0..6),
        (peer, called) in any_call(),
    ) {
        for default in [Action::Allow, Action::Deny] {
            let verdict = verdict(&intentions, default, &peer, &called);
            let reason = reason(&verdict);
            let names = |object: &Intention| {
                let name = format!("intention {}/{}", object.metadata.namespace, object.metadata.name);
                reason == name || reason == format!("allow list of {name}")
            };
            prop_assert!(reason.starts_with("default ") || intentions.iter().any(names), "{}", reason);
        }
    }

    #[test]
    fn the_order_of_intentions_does_not_matter(
        (one, other) in proptest::collection::vec(any_intention(), 0..6)
            .prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        (peer, called) in any_call(),
    ) {
        let names: std::collections::BTreeSet<_> =
            one.iter().map(|object| (&object.metadata.namespace, &object.metadata.name)).collect();
        prop_assume!(names.len() == one.len());
        prop_assert_eq!(verdict(&one, Action::Deny, &peer, &called), verdict(&other, Action::Deny, &peer, &called));
    }

    #[test]
    fn the_default_matters_only_where_no_allow_list_is(
        intentions in proptest::collection::vec(any_intention(), 0..6),
        (peer, called) in any_call(),
    ) {
        let open = verdict(&intentions, Action::Allow, &peer, &called);
        let closed = verdict(&intentions, Action::Deny, &peer, &called);
        prop_assert!(open == closed || reason(&open) == "default allow" && reason(&closed) == "default deny");
    }
}
