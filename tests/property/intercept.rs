//! Rules for interception: what they say, and what they never touch.

use std::net::IpAddr;

use mesh::logic::intercept::{Exception, Mode, Rules, clear, release_names, remove};
use proptest::prelude::*;

fn rules() -> Rules {
    Rules {
        instance: "abc".to_owned(),
        mark: 0x6d65_7368,
        capture_v4: Some(15_002),
        capture_v6: Some(15_002),
        names: Some((15_053, ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()].into())),
        strict: Some(([8080, 9000].into(), vec!["10.0.0.0/8=8080".parse().unwrap()])),
    }
}

/// The rules of one chain.
fn chain(text: &str, name: &str) -> Vec<String> {
    let start = format!("\tchain {name} {{");
    let lines = text.lines().skip_while(|line| *line != start).skip(1);
    lines.take_while(|line| *line != "\t}").map(|line| line.trim().to_owned()).collect()
}

#[test]
fn the_table_is_made_anew_as_a_whole_and_is_the_only_one_that_is_named() {
    let text = rules().install();

    assert!(text.starts_with("table inet mesh\ndelete table inet mesh\ntable inet mesh {\n"), "{text}");
    for text in [text, remove("abc"), clear(), release_names()] {
        for line in text.lines().filter(|line| !line.starts_with('\t')) {
            assert!(line == "}" || line.is_empty() || line.contains("inet mesh"), "{line}");
        }
        assert!(!text.contains("flush ruleset"));
    }
}

#[test]
fn what_the_proxy_sends_is_let_through_before_anything_is_captured() {
    for chain in ["capture", "names"].map(|name| chain(&rules().to_string(), name)) {
        assert_eq!(chain[0], "type nat hook output priority -100; policy accept;");
        assert_eq!(chain[1], "meta mark 0x6d657368 accept");
        assert!(chain.len() > 2);
    }
}

#[test]
fn only_virtual_addresses_and_the_name_servers_of_the_host_are_captured() {
    let text = rules().to_string();

    assert_eq!(
        chain(&text, "capture")[2..],
        [
            "ip daddr 240.0.0.0/5 meta l4proto tcp redirect to :15002",
            "ip6 daddr fd6d:6573:6800::/64 meta l4proto tcp redirect to :15002",
        ]
    );
    assert_eq!(
        chain(&text, "names")[2..],
        [
            "ip daddr 10.0.0.2 udp dport 53 redirect to :15053",
            "ip daddr 10.0.0.2 tcp dport 53 redirect to :15053",
            "ip6 daddr fd00::2 udp dport 53 redirect to :15053",
            "ip6 daddr fd00::2 tcp dport 53 redirect to :15053",
        ]
    );
}

#[test]
fn strict_closes_the_ports_of_services_to_all_but_this_host_and_the_exceptions() {
    let text = rules().to_string();

    assert_eq!(
        chain(&text, "strict"),
        [
            "type filter hook input priority -10; policy accept;",
            "iif lo accept",
            "ip saddr 10.0.0.0/8 tcp dport 8080 accept",
            "tcp dport { 8080, 9000 } reject with tcp reset",
        ]
    );
    assert!(chain(&Rules { strict: None, ..rules() }.to_string(), "strict").is_empty());
    let nothing = Rules { strict: Some(([].into(), vec![])), ..rules() };
    assert_eq!(chain(&nothing.to_string(), "strict").len(), 2, "nft takes no empty set");
}

#[test]
fn a_table_is_removed_only_together_with_the_chain_of_its_maker() {
    assert_eq!(remove("abc"), "delete chain inet mesh made_by_abc\ndelete table inet mesh\n");
    assert!(rules().to_string().contains("chain made_by_abc {"));
}

#[test]
fn what_is_no_exception_or_mode_is_refused() {
    for text in [
        "",
        "0",
        "65536",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/8=",
        "10.0.0.0/8=0",
        "x=1",
        "10.0.0.1:80",
        "=80",
    ] {
        assert!(text.parse::<Exception>().is_err(), "{text}");
    }
    assert_eq!("strict".parse(), Ok(Mode::Strict));
    assert_eq!("true".parse(), Ok(Mode::On));
    assert!("Strict".parse::<Mode>().is_err());
}

proptest! {
    #[test]
    fn an_exception_is_read_as_it_is_written(
        source in proptest::option::of(any::<IpAddr>().prop_flat_map(|addr| {
            let most: u8 = if addr.is_ipv4() { 32 } else { 128 };
            (Just(addr), 0..=most)
        })),
        port in 1u16..,
        with_port: bool,
    ) {
        let port = (with_port || source.is_none()).then_some(port);
        let exception = Exception { source, port };

        prop_assert_eq!(exception.to_string().parse(), Ok(exception));
    }
}
