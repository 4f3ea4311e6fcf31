//! Certificates are renewed in time, on disk before they are used, and asked for again when they do not come.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh::identity::renewer::{Issuer, Renewer, Unissued, Wish};
use mesh::identity::vault::Vault;
use mesh::identity::wallet::Wallet;
use mesh::model::identity::Subject;
use mesh::model::view::IdentityStatus;
use mesh::net::clock;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::contract::ca::{Ca, Spec, subject};

/// What the issuer does with its next requests; when the list is empty it issues.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Refuses,
    RefusesIfAskedFor(&'static str),
    SignsForSomebodyElse,
    SignsAsAnotherMesh,
    GivesTooFew,
}

struct Office {
    ca: Ca,
    other: Ca,
    moods: Mutex<Vec<Mood>>,
    /// Who was asked for, at each request.
    asked: watch::Sender<Vec<Vec<Wish>>>,
}

impl Office {
    fn new(moods: &[Mood]) -> Arc<Self> {
        let moods = Mutex::new(moods.iter().rev().copied().collect());
        Arc::new(Self { ca: Ca::new(), other: Ca::new(), moods, asked: watch::Sender::default() })
    }

    fn asked(&self) -> Vec<Vec<String>> {
        let names = |wishes: &Vec<Wish>| wishes.iter().map(|wish| wish.subject.to_string()).collect();
        self.asked.borrow().iter().map(names).collect()
    }
}

/// The one at the counter.
struct Clerk(Arc<Office>);

impl Issuer for Clerk {
    async fn issue(&self, wishes: Vec<Wish>) -> Result<Vec<Vec<Vec<u8>>>, Unissued> {
        let office = &self.0;
        office.asked.send_modify(|asked| asked.push(wishes.clone()));
        let mut moods = office.moods.lock().unwrap();
        let sign = |ca: &Ca, wish: &Wish, id: &str| {
            ca.sign(&wish.request, &Spec::of(id, "host-1", clock::wall_ms()))
        };
        let all = |ca: &Ca| wishes.iter().map(|wish| sign(ca, wish, &wish.subject.to_string())).collect();
        let refusal = || Err(Unissued("the office is closed".to_owned()));
        match moods.last().copied() {
            None => Ok(all(&office.ca)),
            // It stays like that.
            Some(Mood::RefusesIfAskedFor(id)) => {
                if wishes.iter().any(|wish| wish.subject == subject(id)) {
                    refusal()
                } else {
                    Ok(all(&office.ca))
                }
            }
            Some(mood) => {
                moods.pop();
                match mood {
                    Mood::SignsForSomebodyElse => {
                        Ok(wishes.iter().map(|wish| sign(&office.ca, wish, "api")).collect())
                    }
                    Mood::SignsAsAnotherMesh => Ok(all(&office.other)),
                    Mood::GivesTooFew => Ok(Vec::new()),
                    Mood::Refuses | Mood::RefusesIfAskedFor(_) => refusal(),
                }
            }
        }
    }
}

struct World {
    office: Arc<Office>,
    wallets: Arc<watch::Sender<Arc<Wallet>>>,
    want: watch::Sender<BTreeSet<Subject>>,
    vault: Arc<Vault>,
    statuses: watch::Receiver<Vec<IdentityStatus>>,
    running: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl World {
    /// Begins with certificates of which `held` says the age and the life, in seconds.
    fn begin(office: &Arc<Office>, held: &[(&str, u64, u64)], wanted: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vault = Arc::new(Vault::open(dir.path()).unwrap());
        let mut wallet = office.ca.wallet("host-1", &[], 0);
        for (id, age_s, life_s) in held {
            let not_before_ms = clock::wall_ms() - age_s * 1000;
            let not_after_ms = not_before_ms + life_s * 1000;
            let spec = Spec { not_before_ms, not_after_ms, ..Spec::of(id, "host-1", not_after_ms) };
            wallet.svids.insert(subject(id), office.ca.svid(&spec));
        }
        let wallets = Arc::new(watch::Sender::new(Arc::new(wallet)));
        let (statuses, seen) = watch::channel(Vec::new());
        let want = watch::Sender::new(wanted.iter().map(|id| subject(id)).collect::<BTreeSet<_>>());
        let renewer = Renewer {
            wanted: want.subscribe(),
            wallets: wallets.clone(),
            vault: vault.clone(),
            issuer: Clerk(office.clone()),
            statuses,
        };
        let running = tokio::spawn(renewer.run());
        Self { office: office.clone(), wallets, want, vault, statuses: seen, running, _dir: dir }
    }

    fn serial(&self, id: &str) -> Option<String> {
        self.wallets.borrow().svid(&subject(id)).map(|svid| svid.serial.clone())
    }

    async fn until(&self, there: impl FnMut(&Arc<Wallet>) -> bool) {
        let mut wallets = self.wallets.subscribe();
        timeout(Duration::from_secs(30), wallets.wait_for(there)).await.expect("in time").unwrap();
    }

    async fn status(&self, there: impl FnMut(&Vec<IdentityStatus>) -> bool) -> Vec<IdentityStatus> {
        let mut statuses = self.statuses.clone();
        let seen = timeout(Duration::from_secs(30), statuses.wait_for(there)).await.expect("in time");
        seen.unwrap().clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.abort();
    }
}

#[tokio::test]
async fn due_certificates_are_renewed_together_and_fresh_ones_left_alone() {
    let office = Office::new(&[]);
    let world = World::begin(
        &office,
        &[("web", 6000, 7200), ("node/host-1", 7300, 7200), ("cart", 600, 7200)],
        &["cart", "web", "node/host-1"],
    );
    let (old, fresh) = (world.serial("web"), world.serial("cart"));

    world.until(|wallet| wallet.svid(&subject("web")).map(|svid| svid.serial.clone()) != old).await;
    let statuses = world.status(|all| all.iter().any(|status| status.renewals == 1)).await;

    assert_eq!(office.asked(), [["web.default", "node/host-1"]]);
    assert_eq!(world.serial("cart"), fresh);
    assert_eq!(statuses.iter().map(|status| status.renewals).collect::<Vec<_>>(), [0, 1, 1]);
    let web = &statuses[1];
    assert_eq!(Some(&web.serial), world.serial("web").as_ref());
    let life = web.not_after_ms - web.not_before_ms;
    assert!((500..=660).contains(&((web.renew_ms - web.not_before_ms) * 1000 / life)), "{web:?}");
}

#[tokio::test]
async fn one_that_was_issued_while_clocks_were_ahead_is_replaced_at_once() {
    let office = Office::new(&[]);
    let world = World::begin(&office, &[("cart", 600, 7200)], &["cart", "web"]);
    world.until(|wallet| wallet.svid(&subject("web")).is_some()).await;
    let (fresh, ahead_ms) = (world.serial("cart"), clock::wall_ms() + 3 * 86_400_000);
    let early = Spec {
        not_before_ms: ahead_ms,
        not_after_ms: ahead_ms + 86_400_000,
        ..Spec::of("web", "host-1", ahead_ms)
    };
    let early = office.ca.svid(&early);

    world.wallets.send_modify(|wallet| {
        let wallet = Arc::make_mut(wallet);
        wallet.svids.insert(subject("web"), early.clone());
    });

    let valid = |wallet: &Arc<Wallet>| {
        wallet.svid(&subject("web")).is_some_and(|svid| svid.not_before_ms <= clock::wall_ms())
    };
    world.until(valid).await;
    assert_eq!(world.serial("cart"), fresh);
}

#[tokio::test]
async fn what_is_in_the_wallet_is_on_disk() {
    let office = Office::new(&[]);
    let world = World::begin(&office, &[], &["web", "node/host-1"]);

    world.until(|wallet| wallet.svids.len() == 2).await;

    let kept: Vec<_> = world.vault.svids().unwrap().iter().map(|svid| svid.serial.clone()).collect();
    assert_eq!(kept, [world.serial("web").unwrap(), world.serial("node/host-1").unwrap()]);
}

#[tokio::test]
async fn refusals_are_told_and_retried_with_the_same_key_while_the_old_certificate_serves() {
    let office = Office::new(&[Mood::Refuses, Mood::Refuses]);
    // A short life makes for short waits.
    let world = World::begin(&office, &[("web", 14, 20)], &["web"]);
    let old = world.serial("web");

    let told = world.status(|all| all.iter().any(|status| status.last_error.is_some())).await;
    assert_eq!(told[0].last_error.as_deref(), Some("the office is closed"));
    assert_eq!(world.serial("web"), old);
    world.until(|wallet| wallet.svid(&subject("web")).map(|svid| svid.serial.clone()) != old).await;

    let requests: BTreeSet<_> =
        office.asked.borrow().iter().flatten().map(|wish| key_of(&wish.request)).collect();
    assert_eq!((office.asked().len(), requests.len()), (3, 1));
    let told = world.status(|all| all.iter().all(|status| status.last_error.is_none())).await;
    assert_eq!(told[0].renewals, 1);
}

/// The public key in a signing request.
fn key_of(request: &[u8]) -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    let request = rcgen::CertificateSigningRequestParams::from_der(&request.into()).unwrap();
    request.public_key.subject_public_key_info()
}

#[tokio::test]
async fn certificates_that_are_not_what_was_asked_for_are_not_used() {
    let moods = [Mood::SignsForSomebodyElse, Mood::SignsAsAnotherMesh, Mood::GivesTooFew];
    for mood in moods {
        let office = Office::new(&[mood]);
        let world = World::begin(&office, &[("web", 6000, 7200)], &["web"]);
        let old = world.serial("web");

        let told = world.status(|all| all.iter().any(|status| status.last_error.is_some())).await;

        assert_eq!(world.serial("web"), old, "{mood:?}: {told:?}");
        assert_eq!(world.vault.svids().unwrap().len(), 0, "{mood:?}");
    }
}

#[tokio::test]
async fn one_that_is_refused_does_not_hold_back_the_others() {
    let office = Office::new(&[Mood::RefusesIfAskedFor("secret")]);
    let world = World::begin(&office, &[], &["node/host-1", "secret", "web"]);

    world.until(|wallet| wallet.svids.len() == 2).await;

    let held: Vec<Subject> = world.wallets.borrow().svids.keys().cloned().collect();
    assert_eq!(held, [subject("web"), subject("node/host-1")]);
    assert!(world.office.asked().len() >= 3);
}

#[tokio::test]
async fn what_is_wanted_anew_is_asked_for_and_what_is_not_any_more_is_put_away() {
    let office = Office::new(&[]);
    let world = World::begin(&office, &[], &["web", "node/host-1"]);
    world.until(|wallet| wallet.svids.len() == 2).await;
    let node = world.serial("node/host-1");

    world.want.send_replace([subject("api"), subject("node/host-1")].into());
    world.until(|wallet| wallet.svid(&subject("api")).is_some()).await;

    let held: Vec<Subject> = world.wallets.borrow().svids.keys().cloned().collect();
    assert_eq!(held, [subject("api"), subject("node/host-1")]);
    assert_eq!(world.serial("node/host-1"), node);
    assert_eq!(office.asked(), [vec!["web.default", "node/host-1"], vec!["api.default"]]);
}
