//! The certificate authority: what its certificates say, what it keeps where, and what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use data_encoding::BASE64;
use mesh::control::authority::{self, Authority, Error, Wish};
use mesh::control::root::Brought;
use mesh::gossip::bans;
use mesh::gossip::pass::Checker;
use mesh::model::identity::{Subject, TrustDomain};
use mesh::model::name::NodeName;
use mesh::model::snapshot::BanList;
use mesh::net::disk::Db;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::*;

const NOW_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

fn domain() -> TrustDomain {
    "shop.test".parse().unwrap()
}

fn open(dir: &Path, brought: Option<&Brought>, now_ms: u64) -> Result<Authority, Error> {
    let db = Arc::new(Db::open(&dir.join("store"), 1)?);
    Authority::open(dir, &db, &domain(), brought, now_ms)
}

fn csr(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.serialize_request(key).unwrap().der().to_vec()
}

fn sign(authority: &Authority, subject: &str, now_ms: u64) -> authority::Leaf {
    let subject: Subject = subject.parse().unwrap();
    let key = KeyPair::generate().unwrap();
    let proven = authority::prove(&subject, &csr(&key)).unwrap();
    let node = "host-1".parse().unwrap();
    authority.sign(&Wish { node: &node, subject: &subject, hosts: &[], now_ms }, &proven).unwrap()
}

fn verify(authority: &Authority, chain: &[Vec<u8>], at_ms: u64) -> Result<(), webpki::Error> {
    let roots: Vec<_> = authority.bundle().into_iter().map(CertificateDer::from).collect();
    let anchors: Vec<_> = roots.iter().map(|root| webpki::anchor_from_trusted_cert(root).unwrap()).collect();
    let leaf = CertificateDer::from(chain[0].as_slice());
    let intermediates = [CertificateDer::from(chain[1].as_slice())];
    webpki::EndEntityCert::try_from(&leaf)?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &intermediates,
            UnixTime::since_unix_epoch(std::time::Duration::from_millis(at_ms)),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
}

#[test]
fn a_leaf_is_an_svid_to_the_letter_whatever_its_request_said() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path(), None, NOW_MS).unwrap();

    let leaf = sign(&authority, "web.shop", NOW_MS);

    verify(&authority, &leaf.chain, NOW_MS).unwrap();
    let (_, parsed) = X509Certificate::from_der(&leaf.chain[0]).unwrap();
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names, &[GeneralName::URI("spiffe://shop.test/ns/shop/svc/web")]);
    assert_eq!(parsed.subject().to_string(), "CN=host-1");
    let basic = parsed.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca);
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.flags == 1);
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert_eq!(parsed.validity().not_before.timestamp() as u64 * 1000, NOW_MS - HOUR_MS / 6);
    assert_eq!(parsed.validity().not_after.timestamp() as u64 * 1000, NOW_MS + DAY_MS);
    assert_eq!(leaf.not_after_ms, NOW_MS + DAY_MS);
    assert_eq!(parsed.raw_serial().len(), 16);
    assert_eq!(leaf.serial.len(), 32);
    assert_ne!(sign(&authority, "web.shop", NOW_MS).serial, leaf.serial);
}

#[test]
fn a_restart_keeps_root_intermediate_and_serving_key() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), None, NOW_MS).unwrap();
    let (bundle, pin) = (first.bundle(), first.serving_pin());
    let chain = sign(&first, "web", NOW_MS).chain;
    drop(first);

    let second = open(dir.path(), None, NOW_MS + HOUR_MS).unwrap();

    assert_eq!(second.bundle(), bundle);
    assert_eq!(second.serving_pin(), pin);
    assert_eq!(sign(&second, "web", NOW_MS).chain[1], chain[1]);
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("root"), mode("root/root.key")), (0o700, 0o600));
}

#[test]
fn the_intermediate_is_renewed_at_half_its_life_and_old_leaves_stay_good() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path(), None, NOW_MS).unwrap();
    let later = NOW_MS + 183 * DAY_MS;
    let old = sign(&authority, "web", later);

    assert!(!authority.renew_intermediate(NOW_MS + 180 * DAY_MS).unwrap());
    assert!(authority.renew_intermediate(later).unwrap());

    let new = sign(&authority, "web", later);
    assert_ne!(new.chain[1], old.chain[1]);
    verify(&authority, &old.chain, later).unwrap();
    verify(&authority, &new.chain, later).unwrap();
}

#[test]
fn a_root_brought_along_signs_the_intermediate_and_its_key_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key).unwrap();
    let brought = Brought { certificate: dir.path().join("own.pem"), key: dir.path().join("own.key") };
    fs::write(&brought.certificate, root.pem()).unwrap();
    fs::write(&brought.key, key.serialize_pem()).unwrap();
    let data = dir.path().join("data");

    let first = open(&data, Some(&brought), NOW_MS).unwrap();
    assert_eq!(first.bundle(), [root.der().to_vec()]);
    verify(&first, &sign(&first, "web", NOW_MS).chain, NOW_MS).unwrap();
    drop(first);
    fs::remove_file(&brought.key).unwrap();

    let second = open(&data, None, NOW_MS).unwrap();
    assert!(!data.join("root/root.key").exists());
    assert!(matches!(second.renew_intermediate(NOW_MS + 200 * DAY_MS), Err(Error::RootElsewhere)));
    verify(&second, &sign(&second, "web", NOW_MS).chain, NOW_MS).unwrap();
}

#[test]
fn another_root_for_the_same_mesh_and_a_key_of_another_certificate_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), None, NOW_MS).unwrap());
    let other = tempfile::tempdir().unwrap();
    drop(open(other.path(), None, NOW_MS).unwrap());
    let (root, mine) = (other.path().join("root"), dir.path().join("root"));

    let brought = Brought { certificate: root.join("root.pem"), key: root.join("root.key") };
    assert!(matches!(open(dir.path(), Some(&brought), NOW_MS), Err(Error::OtherRoot)));

    let mixed = Brought { certificate: root.join("root.pem"), key: mine.join("root.key") };
    let empty = tempfile::tempdir().unwrap();
    let error = open(empty.path(), Some(&mixed), NOW_MS).unwrap_err().to_string();
    assert!(error.contains("root.key") && error.contains("not the key of the root certificate"), "{error}");
    assert!(!empty.path().join("root/root.pem").exists());
}

#[test]
fn a_mesh_that_lost_its_root_certificate_does_not_make_another() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), None, NOW_MS).unwrap());
    fs::remove_file(dir.path().join("root/root.pem")).unwrap();

    let error = open(dir.path(), None, NOW_MS).unwrap_err();

    assert!(error.to_string().contains("root.pem"), "{error}");
}

#[test]
fn a_request_signed_by_another_key_or_cut_short_is_refused() {
    let subject: Subject = "web".parse().unwrap();
    let (one, other) = (csr(&KeyPair::generate().unwrap()), csr(&KeyPair::generate().unwrap()));
    let mut mixed = one.clone();
    let tail = mixed.len() - 40;
    mixed[tail..].copy_from_slice(&other[other.len() - 40..]);

    assert!(authority::prove(&subject, &one).is_ok());
    assert!(matches!(authority::prove(&subject, &mixed), Err(Error::Request { .. })));
    assert!(matches!(authority::prove(&subject, &one[..50]), Err(Error::Request { .. })));
    assert!(matches!(authority::prove(&subject, b""), Err(Error::Request { .. })));
}

#[test]
fn a_gossip_pass_is_signed_by_the_intermediate_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path(), None, NOW_MS).unwrap();

    let pass = authority.pass(&"host-1".parse().unwrap(), &[7; 32], NOW_MS).unwrap();

    let issuer = BASE64.decode(pass.issuer.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&issuer).unwrap();
    let mut message = b"mesh gossip pass v1\0host-1\0".to_vec();
    message.extend_from_slice(&[7; 32]);
    message.extend_from_slice(&pass.not_after_ms.to_be_bytes());
    let key =
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &*certificate.public_key().subject_public_key.data);
    key.verify(&message, &BASE64.decode(pass.signature.as_bytes()).unwrap()).unwrap();
    assert_eq!(pass.not_after_ms, NOW_MS + DAY_MS);
}

#[test]
fn a_list_of_bans_is_believed_below_its_root_alone_and_as_it_was_signed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = open(dir.path(), None, NOW_MS).unwrap();
    let nodes: Vec<NodeName> = ["host-1", "host-2"].map(|node| node.parse().unwrap()).to_vec();

    let list = authority.bans(7, &nodes).unwrap();

    let checker = Checker::new(authority.bundle());
    let foreign = Checker::new(open(other.path(), None, NOW_MS).unwrap().bundle());
    let changed = BanList { nodes: nodes[..1].to_vec(), ..list.clone() };
    let later = BanList { revision: 8, ..list.clone() };
    let is_genuine =
        |list: &BanList, mesh: &str, at_ms| bans::is_genuine(list, &checker, &mesh.parse().unwrap(), at_ms);
    assert!(is_genuine(&list, "shop.test", NOW_MS) && is_genuine(&list, "shop.test", NOW_MS + 300 * DAY_MS));
    assert!(!bans::is_genuine(&list, &foreign, &domain(), NOW_MS));
    assert!(!is_genuine(&changed, "shop.test", NOW_MS) && !is_genuine(&later, "shop.test", NOW_MS));
    assert!(!is_genuine(&list, "other.test", NOW_MS), "of another mesh");
    assert!(!is_genuine(&list, "shop.test", NOW_MS + 400 * DAY_MS), "its signer has expired");
}
