//! The same protocol over real sockets of loopback, with real keys, passes and certificates.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::BASE64;
use mesh::gossip::agent::{Agent, Config, Estate, LEAVE_MAX, Said};
use mesh::gossip::bans::bans_message;
use mesh::gossip::pass::{Signer, pass_message};
use mesh::model::endpoint::{Announcement, Catalog, MemberState, Role};
use mesh::model::name::NodeName;
use mesh::model::service::Protocol;
use mesh::model::snapshot::{BanList, GossipKeys, GossipPass};
use mesh::net::clock;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane's authority: a root, and an intermediate that signs passes.
struct Authority {
    root: Vec<u8>,
    intermediate: Vec<u8>,
    key: EcdsaKeyPair,
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

impl Authority {
    fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = ca("root").self_signed(&root_key).unwrap();
        let issuer = Issuer::new(ca("root"), &root_key);
        let intermediate = ca("intermediate").signed_by(&key, &issuer).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap();
        Self { root: root.der().to_vec(), intermediate: intermediate.der().to_vec(), key }
    }

    fn pass(&self, node: &NodeName, signer: &Signer) -> GossipPass {
        let not_after_ms = clock::wall_ms() + 3_600_000;
        let message = pass_message(node, &signer.public_key(), not_after_ms);
        let signature = self.key.sign(&SystemRandom::new(), &message).unwrap();
        GossipPass {
            node: node.clone(),
            key: signer.public_key_base64(),
            not_after_ms,
            signature: BASE64.encode(signature.as_ref()),
            issuer: BASE64.encode(&self.intermediate),
        }
    }
}

impl Authority {
    fn bans(&self, mesh: &str, revision: u64, nodes: &[&str]) -> BanList {
        let nodes: Vec<NodeName> = nodes.iter().map(|node| node.parse().unwrap()).collect();
        let message = bans_message(&mesh.parse().unwrap(), revision, &nodes);
        let signature = self.key.sign(&SystemRandom::new(), &message).unwrap();
        let (signature, issuer) = (BASE64.encode(signature.as_ref()), BASE64.encode(&self.intermediate));
        BanList { revision, nodes, signature, issuer }
    }
}

fn keys(ids: &[u8]) -> GossipKeys {
    GossipKeys { ring: ids.iter().map(|id| (*id, BASE64.encode(&[*id; 32]))).collect(), seeds: Vec::new() }
}

fn start(authority: &Authority, name: &str, keys: GossipKeys, seeds: &[SocketAddr]) -> Agent {
    start_from(authority, name, keys, seeds, None)
}

/// As [`start`], in place of another process.
fn start_from(
    authority: &Authority,
    name: &str,
    keys: GossipKeys,
    seeds: &[SocketAddr],
    estate: Option<Estate>,
) -> Agent {
    let node: NodeName = name.parse().unwrap();
    let signer = Signer::generate().unwrap();
    let pass = authority.pass(&node, &signer);
    Agent::start(Config {
        node,
        role: Role::Proxy,
        listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        advertise: IpAddr::V4(Ipv4Addr::LOCALHOST),
        epoch_ms: clock::wall_ms(),
        keys,
        pass,
        signer,
        roots: vec![authority.root.clone()],
        trust_domain: "test-mesh".parse().unwrap(),
        seeds: seeds.to_vec(),
        bans: None,
        known_peers: Vec::new(),
        estate,
    })
    .unwrap()
}

/// Returns what a node with `services` instances says.
fn said(services: u16) -> Said {
    let announcement = |port| Announcement {
        service: format!("service-{port}").parse().unwrap(),
        port,
        protocol: Protocol::Http,
        weight: 100,
        healthy: true,
    };
    Said {
        addr: "127.0.0.1:15008".parse().unwrap(),
        zone: None,
        build: "test".to_owned(),
        draining: false,
        services: (1..=services).map(announcement).collect(),
    }
}

async fn sees(agent: &Agent, what: &str, done: impl Fn(&Catalog) -> bool) -> Arc<Catalog> {
    let mut catalog = agent.catalog();
    let found = tokio::time::timeout(PATIENCE, catalog.wait_for(|catalog| done(catalog))).await;
    if let Ok(found) = found {
        return Arc::clone(&found.expect("the agent runs as long as it is held"));
    }
    panic!("never saw: {what}; sees {:#?}, {:?}", agent.catalog().borrow(), agent.counts())
}

fn state(catalog: &Catalog, node: &str) -> Option<MemberState> {
    catalog.members.get(&node.parse().unwrap()).map(|member| member.state)
}

fn all_alive(catalog: &Catalog, names: &[&str]) -> bool {
    names.iter().all(|name| state(catalog, name) == Some(MemberState::Alive))
}

fn services(catalog: &Catalog, node: &str) -> usize {
    let member = catalog.members.get(&node.parse().unwrap());
    member.and_then(|member| member.record.as_ref()).map_or(0, |record| record.services.len())
}

#[tokio::test]
async fn agents_find_each_other_and_hear_what_the_others_say() {
    let authority = Authority::new();
    let names = ["a", "b", "c", "d", "e"];
    let first = start(&authority, "a", keys(&[1]), &[]);
    let seed = [first.local_addr()];
    let mut agents = vec![first];
    agents.extend(names[1..].iter().map(|name| start(&authority, name, keys(&[1]), &seed)));
    for agent in &agents {
        agent.announce(said(2));
        agent.ready().await;
    }

    for agent in &agents {
        sees(agent, "all", |catalog| names.iter().all(|name| services(catalog, name) == 2)).await;
    }
    // Too long for a packet: fetched by exchange.
    agents[3].announce(said(500));
    for agent in &agents {
        sees(agent, "many services, and all alive", |catalog| {
            services(catalog, "d") == 500 && all_alive(catalog, &names)
        })
        .await;
    }

    assert_eq!(agents[0].peers().len(), 4);
}

#[tokio::test]
async fn a_crash_a_good_bye_and_a_return_are_told_apart() {
    let authority = Authority::new();
    let a = start(&authority, "a", keys(&[1]), &[]);
    let seed = [a.local_addr()];
    let b = start(&authority, "b", keys(&[1]), &seed);
    let c = start(&authority, "c", keys(&[1]), &seed);
    for agent in [&a, &b, &c] {
        agent.announce(said(1));
    }
    sees(&a, "b and c", |catalog| services(catalog, "b") == 1 && services(catalog, "c") == 1).await;
    sees(&b, "c", |catalog| services(catalog, "c") == 1).await;

    drop(c);
    sees(&a, "c dead", |catalog| state(catalog, "c") == Some(MemberState::Dead)).await;
    let c = start(&authority, "c", keys(&[1]), &seed);
    c.announce(said(3));
    sees(&b, "c again", |catalog| {
        services(catalog, "c") == 3 && state(catalog, "c") == Some(MemberState::Alive)
    })
    .await;
    sees(&c, "b", |catalog| services(catalog, "b") == 1).await;
    let began = clock::now();
    b.leave().await;

    assert!(began.elapsed() < LEAVE_MAX * 2, "it ends whatever happens");
    for agent in [&a, &c] {
        let catalog = sees(agent, "b left", |catalog| {
            matches!(state(catalog, "b"), Some(MemberState::Left | MemberState::Dead))
        })
        .await;
        assert_eq!(state(&catalog, "b"), Some(MemberState::Left));
    }
}

#[tokio::test]
async fn another_process_speaks_on_in_the_place_of_one_and_back_and_nobody_is_missed() {
    let authority = Authority::new();
    let a = start(&authority, "a", keys(&[1]), &[]);
    let b = start(&authority, "b", keys(&[1]), &[a.local_addr()]);
    for agent in [&a, &b] {
        agent.announce(said(1));
    }
    sees(&a, "b", |catalog| services(catalog, "b") == 1).await;
    sees(&b, "a", |catalog| services(catalog, "a") == 1).await;
    let mut seen = b.catalog();
    let watching = mesh::net::task::spawn("test", async move {
        while seen.changed().await.is_ok() {
            let catalog = seen.borrow_and_update().clone();
            assert!(all_alive(&catalog, &["a", "b"]) && services(&catalog, "a") > 0, "{catalog:#?}");
        }
    });

    // One that takes over, and does not stay.
    let second = start_from(&authority, "a", keys(&[1]), &[], a.pause().await);
    assert_eq!(second.local_addr(), a.local_addr());
    for node in ["a", "b"] {
        assert_eq!(services(&second.catalog().borrow(), node), 1, "{node} is known from the start");
    }
    second.announce(said(2));
    sees(&b, "what the second process says", |catalog| services(catalog, "a") == 2).await;
    b.announce(said(5));
    sees(&second, "what others say", |catalog| services(catalog, "b") == 5).await;
    drop(second);
    a.resume();
    sees(&b, "what the first process said", |catalog| services(catalog, "a") == 1).await;
    sees(&a, "what it missed", |catalog| services(catalog, "b") == 5).await;

    // And one that does.
    let third = start_from(&authority, "a", keys(&[1]), &[], a.pause().await);
    drop(a);
    third.announce(said(3));
    sees(&b, "what the third process says", |catalog| services(catalog, "a") == 3).await;
    third.ready().await;
    drop(b);
    assert!(watching.await.unwrap().is_some(), "a node was missed");
}

#[tokio::test]
async fn a_banned_node_is_left_out_at_once_whatever_it_says_until_the_ban_is_taken_back() {
    let authority = Authority::new();
    let a = start(&authority, "a", keys(&[1]), &[]);
    let b = start(&authority, "b", keys(&[1]), &[a.local_addr()]);
    let c = start(&authority, "c", keys(&[1]), &[a.local_addr()]);
    for agent in [&a, &b, &c] {
        agent.announce(said(1));
    }
    sees(&a, "all", |catalog| services(catalog, "b") == 1 && services(catalog, "c") == 1).await;
    sees(&b, "c", |catalog| services(catalog, "c") == 1).await;

    for agent in [&a, &b] {
        agent.ban(["c".parse().unwrap()].into());
        sees(agent, "no c", |catalog| state(catalog, "c").is_none() && services(catalog, "b") == 1).await;
    }
    c.announce(said(2));
    b.announce(said(3));
    let seen = sees(&a, "what b said after c", |catalog| services(catalog, "b") == 3).await;
    assert_eq!(state(&seen, "c"), None);

    for agent in [&a, &b] {
        agent.ban([].into());
        sees(agent, "c again", |catalog| services(catalog, "c") > 0).await;
    }
    c.announce(said(4));
    sees(&a, "what c says now", |catalog| services(catalog, "c") == 4).await;
}

/// Waits until an agent knows the list of bans of a revision; fails when it knows a later one.
async fn knows_bans(agent: &Agent, revision: u64) -> Arc<BanList> {
    let mut bans = agent.bans();
    let told = |bans: &Option<Arc<BanList>>| bans.as_ref().is_some_and(|list| list.revision >= revision);
    let found = tokio::time::timeout(PATIENCE, bans.wait_for(told)).await.expect("in time");
    let list = found.expect("the agent runs as long as it is held").clone().unwrap();
    assert_eq!(list.revision, revision, "{:?}", list.nodes);
    list
}

#[tokio::test]
async fn a_list_of_bans_reaches_all_and_whoever_comes_later_and_nobody_but_the_authority_makes_one() {
    let (authority, impostor) = (Authority::new(), Authority::new());
    let a = start(&authority, "a", keys(&[1]), &[]);
    let seed = [a.local_addr()];
    let (b, c) = (start(&authority, "b", keys(&[1]), &seed), start(&authority, "c", keys(&[1]), &seed));
    for agent in [&a, &b, &c] {
        agent.announce(said(1));
    }
    for agent in [&a, &b, &c] {
        sees(agent, "all", |catalog| ["a", "b", "c"].iter().all(|name| services(catalog, name) == 1)).await;
    }

    let first = authority.bans("test-mesh", 5, &["x"]);
    a.tell_bans(first.clone());
    for agent in [&a, &b, &c] {
        assert_eq!(*knows_bans(agent, 5).await, first);
    }
    let late = start(&authority, "d", keys(&[1]), &seed);
    late.announce(said(1));
    late.ready().await;
    assert_eq!(*knows_bans(&late, 5).await, first);

    // A node that bans on its own, changes a list, or takes one from elsewhere is heard by nobody.
    let changed = BanList { revision: 9, nodes: vec!["a".parse().unwrap()], ..first };
    for forged in [changed, impostor.bans("test-mesh", 9, &["a"]), authority.bans("other-mesh", 9, &["a"])] {
        let liar = start(&authority, "liar", keys(&[1]), &seed);
        liar.announce(said(1));
        liar.ready().await;
        liar.tell_bans(forged);
        let before = liar.counts().exchanges;
        let told = async {
            while liar.counts().exchanges < before + 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("it has told two members");
        liar.leave().await;
    }

    // And a ban that is taken back goes the same way; those who had believed the others would not hear of it.
    let last = authority.bans("test-mesh", 6, &[]);
    b.tell_bans(last.clone());
    for agent in [&a, &b, &c, &late] {
        assert_eq!(*knows_bans(agent, 6).await, last);
    }
}

#[tokio::test]
async fn keys_are_replaced_without_anyone_being_missed() {
    let authority = Authority::new();
    let a = start(&authority, "a", keys(&[1]), &[]);
    let b = start(&authority, "b", keys(&[1]), &[a.local_addr()]);
    let c = start(&authority, "c", keys(&[1]), &[a.local_addr()]);
    let all = [&a, &b, &c];
    for (count, ring) in [&[1][..], &[1, 2], &[2, 1], &[2]].iter().enumerate() {
        for agent in all {
            agent.rekey(keys(ring));
        }

        for agent in all {
            agent.announce(said(count as u16 + 1));
        }

        for agent in all {
            sees(agent, "all after a step", |catalog| {
                let names = ["a", "b", "c"];
                names.iter().all(|name| services(catalog, name) == count + 1) && all_alive(catalog, &names)
            })
            .await;
        }
    }

    assert_eq!(all.map(|agent| agent.counts().forged), [0; 3]);
}

#[tokio::test]
async fn who_has_another_key_is_not_heard() {
    let authority = Authority::new();
    let a = start(&authority, "a", keys(&[1]), &[]);
    let mut wrong = keys(&[1]);
    wrong.ring[0].1 = BASE64.encode(&[9; 32]);
    let stranger = start(&authority, "x", wrong, &[a.local_addr()]);
    let b = start(&authority, "b", keys(&[1]), &[a.local_addr()]);
    for agent in [&a, &b, &stranger] {
        agent.announce(said(1));
    }

    stranger.ready().await;
    sees(&a, "b", |catalog| services(catalog, "b") == 1).await;

    assert!(stranger.counts().exchanges_failed > 0);
    assert_eq!(stranger.catalog().borrow().members.len(), 1);
    assert_eq!(a.catalog().borrow().members.len(), 2);
}

#[tokio::test]
async fn a_member_whose_pass_leads_to_no_root_has_no_record() {
    let (authority, impostor) = (Authority::new(), Authority::new());
    let a = start(&authority, "a", keys(&[1]), &[]);
    let b = start(&impostor, "b", keys(&[1]), &[a.local_addr()]);
    let c = start(&authority, "c", keys(&[1]), &[a.local_addr()]);
    for agent in [&a, &b, &c] {
        agent.announce(said(1));
    }

    let catalog = sees(&a, "b without a record, c with one", |catalog| {
        state(catalog, "b") == Some(MemberState::Alive) && services(catalog, "c") == 1
    })
    .await;

    assert_eq!(catalog.members.get(&"b".parse().unwrap()).unwrap().record, None);
}
