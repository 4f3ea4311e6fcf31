//! Leaves: whatever is not an SVID to the letter is refused, and what is accepted is said truly.

use std::collections::BTreeSet;

use mesh::logic::pki::trust::{ExtendedKeyUsage, Flaw, KeyUsage, Leaf, judge};
use mesh::model::identity::{SpiffeId, Subject, TrustDomain};
use mesh::model::name::NodeName;
use proptest::option;
use proptest::prelude::*;

const DOMAINS: [&str; 2] = ["shop.test", "other.test"];
const NODES: [&str; 3] = ["host-1", "host-2", "host-3.example"];

fn uri() -> impl Strategy<Value = String> {
    let domain = prop::sample::select(DOMAINS.to_vec());
    let path = prop_oneof![
        4 => Just("/ns/default/svc/web".to_owned()),
        4 => prop::sample::select(NODES.to_vec()).prop_map(|node| format!("/node/{node}")),
        1 => prop::sample::select(NODES.to_vec()).prop_map(|node| format!("/control/{node}")),
        1 => Just("/operator/ann".to_owned()),
        1 => "[/a-z.?#%-]{0,12}",
    ];
    (domain, path).prop_map(|(domain, path)| format!("spiffe://{domain}{path}"))
}

fn key_usage() -> impl Strategy<Value = KeyUsage> {
    (
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(critical, digital_signature, key_cert_sign, crl_sign)| KeyUsage {
            critical,
            digital_signature,
            key_cert_sign,
            crl_sign,
        })
}

prop_compose! {
    fn leaf()(
        uris in prop_oneof![8 => prop::collection::vec(uri(), 1), 1 => prop::collection::vec(uri(), 0..4)],
        common_name in option::weighted(0.95, prop_oneof![
            9 => prop::sample::select(NODES.to_vec()).prop_map(str::to_owned),
            1 => "[ A-Za-z.]{0,8}",
        ]),
        is_ca in prop::bool::weighted(0.1),
        key_usage in option::weighted(0.95, key_usage()),
        extended_key_usage in option::weighted(0.8,
            (prop::bool::weighted(0.9), prop::bool::weighted(0.9))
                .prop_map(|(server_auth, client_auth)| ExtendedKeyUsage { server_auth, client_auth })),
        not_before_ms in 0_u64..100,
        life in 0_u64..100,
    ) -> Leaf {
        let not_after_ms = not_before_ms + life;
        Leaf { uris, common_name, is_ca, key_usage, extended_key_usage, not_before_ms, not_after_ms }
    }
}

fn good() -> Leaf {
    Leaf {
        uris: vec!["spiffe://shop.test/ns/default/svc/web".to_owned()],
        common_name: Some("host-1".to_owned()),
        is_ca: false,
        key_usage: Some(KeyUsage {
            critical: true,
            digital_signature: true,
            key_cert_sign: false,
            crl_sign: false,
        }),
        extended_key_usage: None,
        not_before_ms: 10,
        not_after_ms: 20,
    }
}

fn domain() -> TrustDomain {
    DOMAINS[0].parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_accepted_has_nothing_wrong_with_it(
        leaf in leaf(),
        banned in prop::collection::btree_set(prop::sample::select(NODES.to_vec()), 0..2),
        now_ms in 0_u64..200,
    ) {
        let banned: BTreeSet<NodeName> = banned.into_iter().map(|node| node.parse().unwrap()).collect();
        let verdict = judge(&leaf, Some(&domain()), &banned, now_ms);

        let id = match leaf.uris.as_slice() {
            [uri] => uri.parse::<SpiffeId>().ok(),
            _ => None,
        };
        let node = leaf.common_name.as_deref().and_then(|name| name.parse::<NodeName>().ok());
        let own = |id: &SpiffeId, node: &NodeName| match &id.subject {
            Subject::Node(name) | Subject::Control(name) => name == node,
            Subject::Service(_) | Subject::Operator(_) => true,
        };
        let usage = leaf.key_usage.is_some_and(|usage| {
            usage.critical && usage.digital_signature && !usage.key_cert_sign && !usage.crl_sign
        });
        let extended = leaf.extended_key_usage.is_none_or(|usage| usage.server_auth && usage.client_auth);
        let in_time = (leaf.not_before_ms..=leaf.not_after_ms).contains(&now_ms);
        match (id, node) {
            (Some(id), Some(node))
                if id.trust_domain == domain() && own(&id, &node) && usage && extended && in_time
                    && !leaf.is_ca && !banned.contains(&node) =>
            {
                let bearer = verdict.unwrap();
                prop_assert_eq!(bearer.id, id);
                prop_assert_eq!(bearer.node, node);
            }
            _ => prop_assert!(verdict.is_err(), "{:?}", verdict),
        }
    }

    #[test]
    fn a_second_uri_is_always_too_much(uris in prop::collection::vec(uri(), 2..5)) {
        let count = uris.len();

        let verdict = judge(&Leaf { uris, ..good() }, Some(&domain()), &BTreeSet::new(), 15);

        prop_assert_eq!(verdict, Err(Flaw::Uris(count)));
    }

    #[test]
    fn banning_never_lets_more_in(leaf in leaf(), now_ms in 0_u64..200) {
        let all: BTreeSet<NodeName> = NODES.iter().map(|node| node.parse().unwrap()).collect();

        if judge(&leaf, Some(&domain()), &all, now_ms).is_ok() {
            prop_assert!(judge(&leaf, Some(&domain()), &BTreeSet::new(), now_ms).is_ok());
        }
    }
}

#[test]
fn a_good_leaf_is_accepted_for_as_long_as_it_is_valid_and_in_any_mesh_before_joining() {
    let at = |now_ms| judge(&good(), Some(&domain()), &BTreeSet::new(), now_ms);

    assert_eq!(at(9), Err(Flaw::Early));
    assert!(at(10).is_ok());
    assert!(at(20).is_ok());
    assert_eq!(at(21), Err(Flaw::Expired));
    let other: TrustDomain = DOMAINS[1].parse().unwrap();
    assert_eq!(judge(&good(), Some(&other), &BTreeSet::new(), 15), Err(Flaw::TrustDomain(domain())));
    assert!(judge(&good(), None, &BTreeSet::new(), 15).is_ok());
}
