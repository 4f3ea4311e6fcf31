//! Intentions: deny wins, allow lists close, requests are told apart, audits change nothing, and every verdict names its
//! reason.

use http::Method;
use mesh::logic::authorize::request::Asked;
use mesh::logic::authorize::{Call, Intentions, Verdict, authorize};
use mesh::logic::http::fields::Fields;
use mesh::logic::request::Head;
use mesh::model::identity::Subject;
use mesh::model::intention::{
    Action, GrpcCondition, HeaderCondition, HeaderConditionKind, IntentionRule, IntentionSpec, Mode,
    PathCondition, PathConditionKind, SourceMatch,
};
use mesh::model::resource::Object;
use proptest::prelude::*;

use crate::property::route::metadata;

type Intention = Object<IntentionSpec>;

fn intention(name: &str, namespace: &str, destination: &str, sources: &[&str], action: Action) -> Intention {
    let source = |text: &&str| match (text.strip_prefix("node/"), text.strip_prefix("ns/")) {
        (Some(node), _) => SourceMatch { node: Some(node.to_owned()), ..SourceMatch::default() },
        (None, Some(whole)) => SourceMatch { namespace: Some(whole.to_owned()), ..SourceMatch::default() },
        (None, None) => SourceMatch { service: Some((*text).to_owned()), ..SourceMatch::default() },
    };
    let mut metadata = metadata(name, None);
    namespace.clone_into(&mut metadata.namespace);
    let sources = sources.iter().map(source).collect();
    let (mode, rules) = (None, Vec::new());
    Object::new(metadata, IntentionSpec { destination: destination.to_owned(), sources, action, mode, rules })
}

/// What is asked for, as text: a request, or a connection.
#[derive(Debug, Clone, Default)]
struct Wish {
    request: Option<(&'static str, &'static str)>,
    headers: Vec<(&'static str, &'static str)>,
}

fn judge(intentions: &Intentions, peer: &str, destination: &str, wish: &Wish) -> Verdict {
    let (peer, destination) = (peer.parse::<Subject>().unwrap(), destination.parse().unwrap());
    let mut fields = Fields::new();
    for (name, value) in &wish.headers {
        fields.append(name.as_bytes(), value.as_bytes());
    }
    let (method, path) = wish.request.unwrap_or(("GET", "/"));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let head = Head { method: &method, path, query: None, authority: None, fields: &fields };
    let asked = if wish.request.is_some() { Asked::Request(head) } else { Asked::Connection };
    authorize(intentions, &Call { peer: &peer, destination: &destination, asked })
}

fn verdict(intentions: &[Intention], default: Action, peer: &str, destination: &str) -> Verdict {
    judge(&Intentions::new(intentions, default, Mode::Enforce), peer, destination, &Wish::default())
}

fn allowed(by: &str) -> Verdict {
    Verdict::Allow { by: by.into(), audit: None }
}

fn reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Allow { by, .. } => by,
        Verdict::Deny { rule } => rule,
    }
}

#[test]
fn without_an_intention_the_default_decides() {
    let other = [intention("x", "default", "other", &["*"], Action::Deny)];
    for intentions in [&[][..], &other] {
        assert_eq!(verdict(intentions, Action::Allow, "a", "web"), allowed("default allow"));
        assert_eq!(
            verdict(intentions, Action::Deny, "a", "web"),
            Verdict::Deny { rule: "default deny".into() }
        );
    }
}

#[test]
fn an_allow_intention_closes_the_service_to_everybody_else() {
    let list = [intention("callers", "default", "web", &["api"], Action::Allow)];

    assert_eq!(verdict(&list, Action::Allow, "api", "web"), allowed("intention default/callers"));
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
fn a_rule_that_decides_is_named() {
    let mut readers = intention("web", "default", "web", &["api"], Action::Allow);
    let rule = |name: &str, method: &str| IntentionRule {
        name: (!name.is_empty()).then(|| name.to_owned()),
        methods: vec![method.to_owned()],
        ..IntentionRule::default()
    };
    readers.spec.rules = vec![rule("read", "GET"), rule("", "HEAD")];
    let asked = |method| Wish { request: Some((method, "/")), headers: Vec::new() };
    let judged =
        |wish: &Wish| judge(&Intentions::new([&readers], Action::Allow, Mode::Enforce), "api", "web", wish);

    assert_eq!(judged(&asked("GET")), allowed("intention default/web/read"));
    assert_eq!(judged(&asked("HEAD")), allowed("intention default/web/1"));
    let closed = Verdict::Deny { rule: "allow list of intention default/web".into() };
    assert_eq!(judged(&asked("POST")), closed);
    assert_eq!(judged(&Wish::default()), closed, "nobody knows what is said on a connection");
}

#[test]
fn an_audited_intention_refuses_nothing_and_says_what_it_would() {
    let mut deny = intention("nobody", "default", "web", &["*"], Action::Deny);
    deny.spec.mode = Some(Mode::Audit);

    let found = verdict(&[deny], Action::Allow, "api", "web");

    let audit = Some("intention default/nobody".into());
    assert_eq!(found, Verdict::Allow { by: "default allow".into(), audit });
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
    assert!(covers("shop", "*", "ns/x", "any.x", "web.shop"));
    assert!(!covers("shop", "*", "ns/x", "any.y", "web.shop"));
    assert!(!covers("shop", "*", "ns/x", "node/x", "web.shop"));
    assert!(covers("shop", "*", "node/x", "node/x", "web.shop"));
    assert!(!covers("shop", "*", "node/x", "node/y", "web.shop"));
}

fn any_intention() -> impl Strategy<Value = Intention> {
    let destination = prop_oneof!["[ab]", "[ab]\\.[st]", Just("*".to_owned())];
    let source =
        prop_oneof!["[ab]", "[ab]\\.[st]", "\\*\\.[st]", Just("*".to_owned()), "node/[xy*]", "ns/[st]"];
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

/// Paths as callers may spell them, and what servers make of each.
const PATHS: [(&str, &str); 9] = [
    ("/", "/"),
    ("/a", "/a"),
    ("/a/", "/a/"),
    ("/a/b", "/a/b"),
    ("/ab", "/ab"),
    ("/x/../a", "/a"),
    ("/%61/b", "/a/b"),
    ("//a", "/a"),
    ("/a;v=1/b", "/a/b"),
];

fn any_rule() -> impl Strategy<Value = IntentionRule> {
    let kind = prop_oneof![Just(PathConditionKind::Exact), Just(PathConditionKind::PathPrefix)];
    let path = (kind, prop::sample::select(vec!["/", "/a", "/a/b"]))
        .prop_map(|(kind, value)| PathCondition { kind, value: value.to_owned() });
    let kinds = [HeaderConditionKind::Exact, HeaderConditionKind::Prefix, HeaderConditionKind::Present];
    let header = (prop::sample::select(kinds.to_vec()), prop::sample::select(vec!["1", "12"])).prop_map(
        |(kind, value)| {
            let value = if kind == HeaderConditionKind::Present { String::new() } else { value.to_owned() };
            HeaderCondition { name: "X-Key".to_owned(), kind, value }
        },
    );
    let grpc = (prop::option::of(Just("a".to_owned())), prop::option::of(Just("b".to_owned())))
        .prop_filter("one of them", |(service, method)| service.is_some() || method.is_some())
        .prop_map(|(service, method)| GrpcCondition { service, method });
    let methods =
        prop::collection::vec(prop::sample::select(vec!["GET".to_owned(), "POST".to_owned()]), 0..2);
    let lists = (
        methods,
        prop::collection::vec(path, 0..2),
        prop::collection::vec(header, 0..2),
        prop::collection::vec(grpc, 0..2),
    );
    lists.prop_map(|(methods, paths, headers, grpc)| IntentionRule {
        name: None,
        methods,
        paths,
        headers,
        grpc,
    })
}

fn any_careful_intention() -> impl Strategy<Value = Intention> {
    let modes = prop_oneof![2 => Just(None), 1 => Just(Some(Mode::Enforce)), 1 => Just(Some(Mode::Audit))];
    (any_intention(), prop::collection::vec(any_rule(), 0..3), modes).prop_map(|(mut object, rules, mode)| {
        (object.spec.rules, object.spec.mode) = (rules, mode);
        object
    })
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let paths: Vec<&str> = PATHS.iter().map(|(sent, _)| *sent).collect();
    let request = (prop::sample::select(vec!["GET", "POST", "PUT"]), prop::sample::select(paths));
    let value = prop::sample::select(vec![("x-key", "1"), ("x-key", "123"), ("x-other", "1")]);
    (prop::option::weighted(0.9, request), prop::collection::vec(value, 0..3))
        .prop_map(|(request, headers)| Wish { request, headers })
}

/// The documentation of `IntentionRule`, word by word: does a rule take a wish, in doubt or only for certain?
fn takes(rule: &IntentionRule, wish: &Wish, in_doubt: bool) -> bool {
    let silent =
        rule.methods.is_empty() && rule.paths.is_empty() && rule.headers.is_empty() && rule.grpc.is_empty();
    let Some((method, sent)) = wish.request else { return silent || in_doubt };
    let resolved = PATHS.iter().find(|(path, _)| *path == sent).unwrap().1;
    let under = |path: &str, wanted: &PathCondition| match wanted.kind {
        PathConditionKind::Exact => path == wanted.value,
        PathConditionKind::PathPrefix => {
            let whole = wanted.value.trim_end_matches('/');
            path == whole || path.starts_with(&format!("{whole}/"))
        }
    };
    let called = |path: &str, wanted: &GrpcCondition| {
        let mut parts = path.splitn(3, '/').skip(1);
        let (Some(service), Some(method)) = (parts.next(), parts.next()) else { return false };
        wanted.service.as_deref().is_none_or(|name| name == service)
            && wanted.method.as_deref().is_none_or(|name| name == method)
    };
    let spelled = |fits: &dyn Fn(&str) -> bool| {
        if in_doubt { fits(sent) || fits(resolved) } else { fits(sent) && fits(resolved) }
    };
    let carries = |wanted: &HeaderCondition| {
        let values: Vec<_> =
            wish.headers.iter().filter(|(name, _)| *name == "x-key").map(|(_, value)| value).collect();
        let fits = |value: &&&str| match wanted.kind {
            HeaderConditionKind::Exact => **value == wanted.value,
            HeaderConditionKind::Prefix => value.starts_with(&wanted.value),
            HeaderConditionKind::Present => true,
        };
        let fitting = values.iter().filter(|value| fits(value)).count();
        fitting > 0 && (in_doubt || fitting == values.len())
    };
    (rule.methods.is_empty() || rule.methods.iter().any(|name| name == method))
        && (rule.paths.is_empty() || spelled(&|path| rule.paths.iter().any(|wanted| under(path, wanted))))
        && (rule.grpc.is_empty() || spelled(&|path| rule.grpc.iter().any(|wanted| called(path, wanted))))
        && rule.headers.iter().all(carries)
}

/// The documentation of `IntentionSpec`, word by word, on texts alone. Looks at what is audited only when asked to.
fn reference(
    intentions: &[Intention],
    (default, audits): (Action, bool),
    (peer, called): (&str, &str),
    wish: &Wish,
) -> bool {
    let full = |text: &str, namespace: &str| {
        if text.contains('.') { text.to_owned() } else { format!("{text}.{namespace}") }
    };
    let about: Vec<_> = intentions
        .iter()
        .filter(|object| audits || object.spec.mode != Some(Mode::Audit))
        .filter(|object| {
            let namespace = &object.metadata.namespace;
            match object.spec.destination.as_str() {
                "*" => called.ends_with(&format!(".{namespace}")),
                name => full(name, namespace) == called,
            }
        })
        .collect();
    let names = |object: &Intention| {
        object.spec.sources.iter().any(|source| match (&source.service, &source.namespace, &source.node) {
            (Some(any), ..) if any == "*" => !peer.contains('/'),
            (Some(text), ..) if text.starts_with('*') => !peer.contains('/') && peer.ends_with(&text[1..]),
            (Some(text), ..) => full(text, &object.metadata.namespace) == peer,
            (None, Some(whole), _) => !peer.contains('/') && peer.ends_with(&format!(".{whole}")),
            (None, None, Some(any)) if any == "*" => peer.starts_with("node/"),
            (None, None, node) => node.as_ref().is_some_and(|node| peer == format!("node/{node}")),
        })
    };
    let speaks = |object: &&&Intention, in_doubt| {
        let rules = &object.spec.rules;
        names(object) && (rules.is_empty() || rules.iter().any(|rule| takes(rule, wish, in_doubt)))
    };
    let list = |action| about.iter().filter(move |object| object.spec.action == action);
    if list(Action::Deny).any(|object| speaks(&object, true)) {
        false
    } else if list(Action::Allow).next().is_some() {
        list(Action::Allow).any(|object| speaks(&object, false))
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
        prop_assert_eq!(found, reference(&intentions, (default, false), (&peer, &called), &Wish::default()));
    }

    #[test]
    fn requests_are_told_apart_and_audits_found_as_by_a_naive_reference(
        intentions in proptest::collection::vec(any_careful_intention(), 0..5),
        default in prop_oneof![Just(Action::Allow), Just(Action::Deny)],
        (peer, called) in any_call(),
        wish in any_wish(),
    ) {
        let enforced = reference(&intentions, (default, false), (&peer, &called), &wish);
        let whole = reference(&intentions, (default, true), (&peer, &called), &wish);

        let usual = judge(&Intentions::new(&intentions, default, Mode::Enforce), &peer, &called, &wish);
        let audit = judge(&Intentions::new(&intentions, default, Mode::Audit), &peer, &called, &wish);

        prop_assert_eq!(usual.is_allowed(), enforced);
        if let Verdict::Allow { audit, .. } = &usual {
            prop_assert_eq!(audit.is_some(), !whole);
        }
        let Verdict::Allow { audit, .. } = audit else { panic!("the mesh-wide audit refuses nothing") };
        prop_assert_eq!(audit.is_some(), !(enforced && whole));
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
