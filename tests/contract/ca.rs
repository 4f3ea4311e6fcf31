//! A small certificate authority for tests, which also signs what no authority should.

use std::sync::Arc;
use std::time::Duration;

use mesh::identity::key::Key;
use mesh::identity::svid::Svid;
use mesh::identity::wallet::Wallet;
use mesh::model::identity::{SpiffeId, Subject, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

pub(crate) const HOUR_MS: u64 = 3_600_000;

/// A root and the intermediate that signs.
pub(crate) struct Ca {
    pub(crate) root: Vec<u8>,
    intermediate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a leaf shall say.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) uris: Vec<String>,
    pub(crate) node: String,
    pub(crate) not_before_ms: u64,
    pub(crate) not_after_ms: u64,
    pub(crate) is_ca: bool,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
}

pub(crate) fn domain() -> TrustDomain {
    "shop.test".parse().unwrap()
}

pub(crate) fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

impl Spec {
    /// An honest leaf, valid from an hour before `now_ms` to an hour after.
    pub(crate) fn of(id: &str, node: &str, now_ms: u64) -> Self {
        Self {
            uris: vec![SpiffeId::new(domain(), subject(id)).to_string()],
            node: node.to_owned(),
            not_before_ms: now_ms - HOUR_MS,
            not_after_ms: now_ms + HOUR_MS,
            is_ca: false,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

fn authority(params: &mut CertificateParams, name: &str, depth: u8) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
}

impl Ca {
    pub(crate) fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::default();
        authority(&mut params, "root", 1);
        let root = params.self_signed(&root_key).unwrap().der().to_vec();
        let mut between = CertificateParams::default();
        authority(&mut between, "intermediate", 0);
        let certificate = between.signed_by(&key, &Issuer::new(params, root_key)).unwrap();
        let intermediate = certificate.der().to_vec();
        Self { root, intermediate, issuer: Issuer::new(between, key) }
    }

    /// Signs whatever is asked for; returns the chain.
    pub(crate) fn sign(&self, request: &[u8], spec: &Spec) -> Vec<Vec<u8>> {
        let key = CertificateSigningRequestParams::from_der(&request.into()).unwrap().public_key;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, spec.node.as_str());
        params.serial_number =
            Some(SerialNumber::from_slice(&rand::random::<[u8; 8]>().map(|b| b & 0x7f | 1)));
        params.subject_alt_names =
            spec.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap())).collect();
        params.is_ca =
            if spec.is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&spec.usages);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_millis(spec.not_before_ms);
        params.not_after = epoch + Duration::from_millis(spec.not_after_ms);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        vec![leaf.der().to_vec(), self.intermediate.clone()]
    }

    pub(crate) fn svid(&self, spec: &Spec) -> Arc<Svid> {
        let key = Arc::new(Key::generate().unwrap());
        let chain = self.sign(&key.request().unwrap(), spec);
        Arc::new(Svid::new(chain, key).unwrap())
    }

    /// A wallet with honest SVIDs of `ids` on `node`.
    pub(crate) fn wallet(&self, node: &str, ids: &[&str], now_ms: u64) -> Wallet {
        let svids = ids.iter().map(|id| (subject(id), self.svid(&Spec::of(id, node, now_ms))));
        Wallet {
            trust_domain: domain(),
            bundle: vec![self.root.clone().into()],
            svids: svids.collect(),
            banned: [].into(),
        }
    }
}
