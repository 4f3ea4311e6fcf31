//! Records of TLS: no bytes make the opener panic, what is sealed opens as the same, and nothing else opens.

use mesh::identity::record::{CONTENT_BYTES_MAX, Kind, Opened, Opener, Sealer};
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::{AeadKey, Iv};

fn secrets() -> (u64, ConnectionTrafficSecrets) {
    let (key, iv) = (AeadKey::from([7; 32]), Iv::from([9; 12]));
    (3, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv })
}

/// Fails on bytes that break the rule.
pub(crate) fn check(input: &[u8]) {
    let mut opener = Opener::new(secrets()).expect("a cipher that is spoken");
    let mut bytes = input.to_vec();
    if let Ok(Some(size)) = Opener::size(&bytes)
        && let Some(record) = bytes.get_mut(..size)
    {
        assert!(opener.open(record).is_err(), "nobody has sealed this");
    }

    let content = &input[..input.len().min(CONTENT_BYTES_MAX)];
    let mut sealer = Sealer::new(secrets()).expect("a cipher that is spoken");
    let mut opener = Opener::new(secrets()).expect("a cipher that is spoken");
    let mut sealed = vec![0; content.len() + 64];
    for kind in [Kind::Data, Kind::Handshake, Kind::Alert] {
        let size = sealer.seal(kind, content, &mut sealed).expect("it fits");
        assert_eq!(Opener::size(&sealed), Ok(Some(size)));
        let opened = opener.open(&mut sealed[..size]);
        assert_eq!(opened, Ok(Opened { kind, content }));
    }
}
