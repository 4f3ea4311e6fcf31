//! The state of the control plane: a function of its commands, whatever they are.

use mesh::logic::state::command::{Admission, TokenUse};
use mesh::logic::state::record::{Issuance, JoinToken};
use mesh::logic::state::rotation::{self, KNOWN_MS, OPENS_MS, SEALS_MS};
use mesh::logic::state::{Change, Command, Event, Expected, Refusal, State, Written};
use mesh::model::endpoint::Role;
use mesh::model::identity::Subject;
use mesh::model::intention::Action;
use mesh::model::name::NodeName;
use mesh::model::resource::{Key, Kind, Resource};
use proptest::prelude::*;

fn node(index: u8) -> NodeName {
    format!("host-{index}").parse().unwrap()
}

fn intention(name: &str, destination: &str) -> Resource {
    let text = format!(
        r#"{{"apiVersion":"mesh/v1","kind":"Intention","metadata":{{"name":"{name}"}},
            "spec":{{"destination":"{destination}","sources":[{{"service":"*"}}],"action":"allow"}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn token(id: u8, role: Role, uses: u32, expires_ms: u64) -> JoinToken {
    JoinToken {
        id: format!("token{id}"),
        secret_hash: format!("hash{id}"),
        role,
        services: Vec::new(),
        uses_left: uses,
        expires_ms,
        created_ms: 0,
    }
}

fn admission(name: u8, key: u8, shown: u8) -> Admission {
    let token = TokenUse { id: format!("token{shown}"), secret_hash: format!("hash{shown}") };
    Admission {
        node: node(name),
        role: Role::Proxy,
        key: format!("key{key}"),
        services: Vec::new(),
        token: Some(token),
        replace: false,
    }
}

fn founded() -> State {
    let mut state = State::default();
    let trust_domain = "shop.test".parse().unwrap();
    let found = Change::Found { trust_domain, default_action: Action::Allow };
    state.apply(Command::new(0, found)).unwrap();
    state
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        4 => Just(Expected::Any),
        1 => Just(Expected::Absent),
        2 => (0u64..12).prop_map(Expected::Revision),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let role = prop_oneof![4 => Just(Role::Proxy), 1 => Just(Role::Control), 1 => Just(Role::Operator)];
    prop_oneof![
        (0u8..4, 0u8..3, expected()).prop_map(|(name, destination, expected)| {
            let resource = Box::new(intention(&format!("i{name}"), &format!("s{destination}")));
            Change::Put { resource, expected }
        }),
        (0u8..4, expected()).prop_map(|(name, expected)| {
            let key = intention(&format!("i{name}"), "any").key();
            Change::Delete { key, expected }
        }),
        (0u8..3, role, 0u32..3, 0u64..2_000)
            .prop_map(|(id, role, uses, expires)| Change::CreateToken(token(id, role, uses, expires))),
        (0u8..3).prop_map(|id| Change::RevokeToken { id: format!("token{id}") }),
        (0u8..3, 0u8..3, 0u8..3, any::<bool>()).prop_map(|(name, key, shown, replace)| {
            Change::Admit(Admission { replace, ..admission(name, key, shown) })
        }),
        (0u8..3, 0u8..3).prop_map(|(name, key)| Change::Rekey { node: node(name), key: format!("key{key}") }),
        (0u8..3, 0u8..20, 0u64..2_000).prop_map(|(name, serial, not_after_ms)| {
            let subject = Subject::Node(node(name));
            Change::Issue(vec![Issuance {
                serial: serial.to_string(),
                subject,
                node: node(name),
                not_after_ms,
            }])
        }),
        (0u8..3).prop_map(|name| Change::Ban(node(name))),
        (0u8..3).prop_map(|name| Change::Unban(node(name))),
        (0u8..3).prop_map(|name| Change::Drain(node(name))),
        (0u8..3).prop_map(|name| Change::Undrain(node(name))),
        (0u8..3).prop_map(|name| Change::Forget(node(name))),
        any::<bool>()
            .prop_map(|deny| { Change::SetDefaultAction(if deny { Action::Deny } else { Action::Allow }) }),
        (0u8..5).prop_map(|id| Change::InstallGossipKey { id, key: format!("secret{id}") }),
        (0u8..5).prop_map(|id| Change::PromoteGossipKey { id }),
        (0u8..5).prop_map(|id| Change::RetireGossipKey { id }),
    ]
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let command = (0u64..2_000, change()).prop_map(|(at_ms, change)| Command::new(at_ms, change));
    prop::collection::vec(command, 0..80)
}

proptest! {
    /// The log holds what did something; refused and idle commands leave no trace, so replaying it suffices.
    #[test]
    fn replaying_the_log_of_effective_commands_gives_the_same_state(commands in commands()) {
        let mut state = founded();
        let mut log = Vec::new();
        for command in commands {
            let written = serde_json::to_vec(&command).unwrap();
            if state.apply(command).is_ok_and(|events| !events.is_empty()) {
                log.push(written);
            }
        }

        let mut replayed = founded();
        for entry in &log {
            replayed.apply(serde_json::from_slice(entry).unwrap()).unwrap();
        }

        prop_assert_eq!(&replayed, &state);
        prop_assert_eq!(state.revision(), 1 + log.len() as u64);
    }

    #[test]
    fn a_snapshot_taken_at_any_moment_continues_as_the_original(commands in commands(), cut in 0usize..80) {
        let mut state = founded();
        let cut = cut.min(commands.len());
        for command in &commands[..cut] {
            let _ = state.apply(command.clone());
        }

        let text = serde_json::to_vec(&state).unwrap();
        let mut restored: State = serde_json::from_slice(&text).unwrap();

        prop_assert_eq!(&restored, &state);
        for command in &commands[cut..] {
            prop_assert_eq!(restored.apply(command.clone()), state.apply(command.clone()));
        }
        prop_assert_eq!(restored, state);
    }

    #[test]
    fn a_refused_or_idle_command_changes_nothing_and_every_other_makes_the_next_revision(commands in commands()) {
        let mut state = founded();
        for command in commands {
            let before = state.clone();
            match state.apply(command) {
                Ok(events) if !events.is_empty() => {
                    prop_assert_eq!(state.revision(), before.revision() + 1);
                    let concerned = events.iter().any(Event::concerns_proxies);
                    let policy = if concerned { state.revision() } else { before.policy_revision() };
                    prop_assert_eq!(state.policy_revision(), policy);
                }
                Ok(_) | Err(_) => prop_assert_eq!(&state, &before),
            }
        }
    }

    /// Counted independently: joins and takeovers by a token never exceed what the token allowed, none comes after its
    /// end, and a banned node is never let in.
    #[test]
    fn expired_used_up_and_revoked_tokens_admit_nothing(commands in commands()) {
        let mut state = founded();
        for command in commands {
            let before = state.clone();
            let at_ms = command.at_ms;
            let Change::Admit(admission) = command.change.clone() else {
                let _ = state.apply(command);
                continue;
            };
            let shown = admission.token.unwrap();
            if state.apply(command).is_ok_and(|events| !events.is_empty()) {
                let token = before.tokens().get(&shown.id).expect("a revoked token admits nothing");
                prop_assert!(token.expires_ms > at_ms);
                prop_assert!(token.uses_left > 0);
                prop_assert_eq!(token.role, admission.role);
                prop_assert!(!before.banned().contains_key(&admission.node));
                prop_assert_eq!(state.tokens()[&shown.id].uses_left, token.uses_left - 1);
            }
        }
    }

    #[test]
    fn at_most_three_gossip_keys_and_never_none_after_the_first(commands in commands()) {
        let mut state = founded();
        let mut any = false;
        for command in commands {
            let _ = state.apply(command);
            any |= !state.gossip().is_empty();
            prop_assert!(state.gossip().len() <= 3);
            prop_assert_eq!(any, !state.gossip().is_empty());
        }
    }
}

#[test]
fn nothing_is_accepted_before_the_mesh_is_founded_and_it_is_founded_once() {
    let mut state = State::default();
    let early = Command::new(1, Change::Ban(node(1)));
    assert_eq!(state.apply(early), Err(Refusal::NotFounded));

    let mut state = founded();
    let trust_domain = "other.test".parse().unwrap();
    let again = Change::Found { trust_domain, default_action: Action::Deny };
    assert!(matches!(state.apply(Command::new(1, again)), Err(Refusal::Founded(_))));
}

#[test]
fn an_object_keeps_its_birthday_and_counts_the_changes_of_its_body() {
    let mut state = founded();
    let put = |destination: &str, expected| Change::Put {
        resource: Box::new(intention("one", destination)),
        expected,
    };
    let key = Key { kind: Kind::Intention, namespace: "default".to_owned(), name: "one".to_owned() };

    state.apply(Command::new(0, put("web", Expected::Absent))).unwrap();
    let unchanged = state.apply(Command::new(5_000, put("web", Expected::Any))).unwrap();
    let changed = state.apply(Command::new(9_000, put("api", Expected::Revision(2)))).unwrap();
    let stale = state.apply(Command::new(9_000, put("db", Expected::Revision(2))));

    assert!(unchanged.is_empty());
    assert!(matches!(&changed[..], [Event::Object { written: Written::Updated, .. }]));
    let metadata = state.resources()[&key].metadata();
    assert_eq!(metadata.generation, Some(2));
    assert_eq!(metadata.resource_version.as_deref(), Some("3"));
    assert_eq!(metadata.creation_timestamp.as_deref(), Some("1970-01-01T00:00:00Z"));
    assert_eq!(stale, Err(Refusal::Conflict { key, expected: 2, current: 3 }));
}

#[test]
fn a_repeated_join_takes_no_second_use_and_a_stranger_does_not_get_the_name() {
    let mut state = founded();
    let join = |key, replace| Command::new(10, Change::Admit(Admission { replace, ..admission(1, key, 0) }));
    state.apply(Command::new(0, Change::CreateToken(token(0, Role::Proxy, 2, 1_000)))).unwrap();

    state.apply(join(1, false)).unwrap();
    assert_eq!(state.apply(join(1, false)), Ok(Vec::new()));
    assert_eq!(state.apply(join(2, false)), Err(Refusal::NameTaken(node(1))));
    assert_eq!(state.tokens()["token0"].uses_left, 1);

    state.apply(join(2, true)).unwrap();
    assert_eq!(state.nodes()[&node(1)].keys, ["key2"]);
    assert_eq!(
        state.apply(join(3, true)),
        Err(Refusal::TokenUsedUp { id: "token0".to_owned(), role: Role::Proxy })
    );
    assert_eq!(state.apply(join(2, false)), Ok(Vec::new()));
}

#[test]
fn a_node_holds_certificates_for_itself_and_for_the_services_of_its_token_only() {
    let mut state = founded();
    let limited = JoinToken { services: vec!["web".parse().unwrap()], ..token(0, Role::Proxy, 1, 1_000) };
    state.apply(Command::new(0, Change::CreateToken(limited))).unwrap();
    let wants = |service: &str| Admission { services: vec![service.parse().unwrap()], ..admission(1, 1, 0) };

    let refused = state.apply(Command::new(1, Change::Admit(wants("db"))));
    state.apply(Command::new(1, Change::Admit(wants("web")))).unwrap();

    assert!(matches!(refused, Err(Refusal::Service { .. })));
    let may = |subject: &str| state.may_hold(&node(1), &subject.parse().unwrap()).is_ok();
    assert!(may("web") && may("node/host-1"));
    assert!(!may("db") && !may("node/host-2") && !may("control/host-1") && !may("operator/ann"));
}

#[test]
fn an_operator_holds_one_certificate_and_shares_its_name_with_no_host() {
    let mut state = founded();
    let operator = |key| Admission { role: Role::Operator, replace: true, ..admission(1, key, 0) };
    let host = Admission { replace: true, ..admission(1, 3, 1) };
    for change in [
        Change::CreateToken(token(0, Role::Operator, 9, 1_000)),
        Change::CreateToken(token(1, Role::Proxy, 9, 1_000)),
        Change::Admit(operator(1)),
    ] {
        state.apply(Command::new(1, change)).unwrap();
    }

    let may = |subject: &str| state.may_hold(&node(1), &subject.parse().unwrap()).is_ok();
    assert!(may("operator/host-1"));
    assert!(!may("operator/ann") && !may("node/host-1") && !may("control/host-1") && !may("web"));
    let taken = state.apply(Command::new(2, Change::Admit(host.clone())));
    assert_eq!(taken, Err(Refusal::OtherKind(node(1), "an operator")));
    state.apply(Command::new(3, Change::Admit(operator(2)))).unwrap();
    state.apply(Command::new(4, Change::Forget(node(1)))).unwrap();
    state.apply(Command::new(5, Change::Admit(host))).unwrap();
    let taken = state.apply(Command::new(6, Change::Admit(operator(1))));
    assert_eq!(taken, Err(Refusal::OtherKind(node(1), "a host")));
}

#[test]
fn a_ban_outlives_the_record_of_its_node() {
    let mut state = founded();
    for change in [
        Change::CreateToken(token(0, Role::Proxy, 9, 1_000)),
        Change::Admit(admission(1, 1, 0)),
        Change::Ban(node(1)),
        Change::Forget(node(1)),
    ] {
        state.apply(Command::new(1, change)).unwrap();
    }

    let back = state.apply(Command::new(2, Change::Admit(admission(1, 2, 0))));

    assert_eq!(back, Err(Refusal::Banned(node(1))));
}

#[test]
fn a_host_that_was_removed_is_spared_until_it_joins_again_or_its_certificates_have_ended() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let mut state = founded();
    let join = |key| Change::Admit(Admission { replace: true, ..admission(1, key, 0) });
    for change in [Change::CreateToken(token(0, Role::Proxy, 9, DAY_MS)), join(1)] {
        state.apply(Command::new(1, change)).unwrap();
    }

    let gone = state.apply(Command::new(2, Change::Forget(node(1)))).unwrap();
    assert_eq!(gone, [Event::Draining { node: node(1) }, Event::Forgotten { node: node(1) }]);
    assert!(state.draining().contains_key(&node(1)));
    assert_eq!(state.policy_revision(), state.revision(), "proxies hear of it");

    let back = state.apply(Command::new(3, join(2))).unwrap();
    assert!(back.contains(&Event::Undrained { node: node(1) }) && state.draining().is_empty());

    state.apply(Command::new(4, Change::Forget(node(1)))).unwrap();
    for change in [
        Change::CreateToken(token(1, Role::Proxy, 9, 9 * DAY_MS)),
        Change::Admit(admission(2, 3, 1)),
        Change::Forget(node(2)),
    ] {
        state.apply(Command::new(4 + DAY_MS, change)).unwrap();
    }
    assert_eq!(state.draining().keys().collect::<Vec<_>>(), [&node(2)]);
}

/// Whatever the moments at which somebody looks: a key is known before it seals, and opens after it sealed.
#[test]
fn a_gossip_key_is_known_an_hour_before_it_seals_and_opens_a_day_after() {
    let mut state = founded();
    let install = Change::InstallGossipKey { id: 255, key: "first".to_owned() };
    state.apply(Command::new(0, install)).unwrap();
    let mut steps = Vec::new();
    for at_ms in (0..SEALS_MS * 2).step_by(600_000) {
        let settled = at_ms % 7 != 0;
        if let Some(change) = rotation::due(state.gossip(), settled, at_ms, || "next".to_owned()) {
            state.apply(Command::new(at_ms, change)).unwrap();
            steps.push((at_ms, state.gossip().iter().map(|key| key.id).collect::<Vec<_>>()));
        }
    }

    let rings: Vec<_> = steps.iter().map(|(_, ring)| ring.as_slice()).collect();
    assert_eq!(rings[..3], [&[255, 0][..], &[0, 255], &[0]]);
    assert!(
        steps[0].0 >= SEALS_MS && steps[1].0 >= steps[0].0 + KNOWN_MS && steps[2].0 >= steps[1].0 + OPENS_MS
    );
}
