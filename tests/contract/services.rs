//! Services of one host: configured, added, kept, and whose calls leave as which of them.

use std::sync::Arc;
use std::time::Duration;

use mesh::identity::vault::Vault;
use mesh::model::identity::Subject;
use mesh::model::service::{LocalService, Owner};
use mesh::net::owner::{Holder, groups_at};
use mesh::net::task;
use mesh::proxy::bootstrap::Settings;
use mesh::proxy::callers::Callers;
use mesh::proxy::services::{ADDED_MAX, Services};
use proptest::prelude::*;
use tokio::sync::watch;

fn service(text: &str) -> LocalService {
    text.parse().unwrap()
}

fn settings(services: &[&str]) -> Settings {
    let services = services.iter().map(|text| service(text)).collect();
    Settings { services, zone: None, drain: Duration::from_secs(1) }
}

/// The services of a host whose configuration has these.
struct Host {
    services: Arc<Services>,
    configured: watch::Sender<Settings>,
    vault: Arc<Vault>,
    _folder: tempfile::TempDir,
}

impl Host {
    fn new(configured: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vault = Arc::new(Vault::open(folder.path()).unwrap());
        let configured = watch::Sender::new(settings(configured));
        let services = Services::load(vault.clone(), configured.subscribe()).unwrap();
        Self { services, configured, vault, _folder: folder }
    }

    fn texts(services: &Services) -> Vec<String> {
        services.settings().borrow().services.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn what_is_added_stands_beside_the_configuration_and_is_there_after_a_restart() {
    let host = Host::new(&["web=80"]);

    host.services.add(service("api=90/grpc@www-data")).unwrap();
    host.services.add(service("api=91")).unwrap();
    host.services.add(service("api=90")).unwrap();

    let expected = ["web.default=127.0.0.1:80", "api.default=127.0.0.1:91", "api.default=127.0.0.1:90"];
    assert_eq!(Host::texts(&host.services), expected);
    let again = Services::load(host.vault.clone(), host.configured.subscribe()).unwrap();
    assert_eq!(Host::texts(&again), expected);
    let rows = again.list(|name| name.name() == "web");
    let seen: Vec<_> = rows.iter().map(|row| (row.added, row.certificate)).collect();
    assert_eq!(seen, [(false, true), (true, false), (true, false)]);
    again.remove(&"api".parse().unwrap(), Some(91)).unwrap();
    again.remove(&"api".parse().unwrap(), None).unwrap();
    assert_eq!(Host::texts(&again), ["web.default=127.0.0.1:80"]);
}

#[test]
fn the_configuration_is_changed_only_where_it_is_written() {
    let host = Host::new(&["web=80"]);
    let web = "web".parse().unwrap();

    assert_eq!(host.services.add(service("web=80/http")).unwrap_err().status, 409);
    assert_eq!(host.services.remove(&web, None).unwrap_err().status, 409);
    assert_eq!(host.services.remove(&web, Some(81)).unwrap_err().status, 404);
    assert_eq!(host.services.remove(&"api".parse().unwrap(), None).unwrap_err().status, 404);
    host.services.add(service("web=81")).unwrap();
    assert_eq!(Host::texts(&host.services).len(), 2, "another instance of the same service");
}

#[test]
fn no_host_is_given_more_services_than_it_can_keep() {
    let host = Host::new(&[]);
    let many: Vec<LocalService> = (1..=ADDED_MAX).map(|port| service(&format!("s={port}"))).collect();
    host.vault.put("services", &many).unwrap();
    let services = Services::load(host.vault.clone(), host.configured.subscribe()).unwrap();

    assert_eq!(services.add(service("one-more=1")).unwrap_err().status, 409);
    services.add(service("s=1/http")).unwrap();
    assert_eq!(Host::texts(&services).len(), ADDED_MAX);
}

#[tokio::test]
async fn a_configuration_that_is_read_again_keeps_what_was_added() {
    let host = Host::new(&["web=80"]);
    host.services.add(service("api=90")).unwrap();
    task::spawn("services", host.services.clone().follow());
    let mut all = host.services.settings();

    // Until the follower listens, a change may come before it does.
    let changed = async {
        loop {
            host.configured.send_replace(settings(&["web=80", "api=90/http", "db=5432"]));
            if tokio::time::timeout(Duration::from_millis(50), all.changed()).await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), changed).await.unwrap();

    let expected = ["web.default=127.0.0.1:80", "api.default=127.0.0.1:90/http", "db.default=127.0.0.1:5432"];
    assert_eq!(Host::texts(&host.services), expected, "the configuration is right about api");
}

#[test]
fn a_process_speaks_as_the_service_of_its_group_else_of_its_user_else_for_none() {
    let services =
        ["web=80@61001", "api=81@61002", "all=82@cgroup:/", "gone=83@no-such-user-here"].map(service);
    let users = Callers::new(&services[..2], &Callers::default());
    let groups = Callers::new(&services, &users);
    let subject = |name: &str| Some(Subject::Service(name.parse().unwrap()));
    let found = |callers: &Callers, uid, cgroup| callers.find(Holder { uid, cgroup }).as_deref().cloned();

    assert_eq!(found(&users, 61_001, None), subject("web"));
    assert_eq!(found(&users, 61_002, Some(1)), subject("api"));
    assert_eq!(found(&users, 0, None), None);
    assert!(Callers::new(&[service("web=80")], &users).is_empty());
    if let Some(group) = groups_at("/").first() {
        assert_eq!(found(&groups, 61_001, Some(*group)), subject("all"));
    }
    assert_eq!(found(&groups, 61_001, Some(u64::MAX)), subject("web"));
    let (before, after) = (Holder { uid: 61_001, cgroup: None }, Holder { uid: 61_001, cgroup: None });
    let same = Arc::ptr_eq(&users.find(before).unwrap(), &groups.find(after).unwrap());
    assert!(same, "connections are kept by the pointer");
}

#[test]
fn what_is_no_owner_is_refused() {
    for text in ["", "a b", "unit:", "unit:../x", "cgroup:x", "cgroup:/a/../b", "user:", "uid:1", "a/b", ".x"]
    {
        assert!(format!("web=80@{text}").parse::<LocalService>().is_err(), "{text}");
    }
    assert_eq!(service("web=80@unit:web").owner, Some(Owner::Unit("web.service".to_owned())));
    assert_eq!(service("web=80@unit:web.scope").owner, Some(Owner::Unit("web.scope".to_owned())));
}

proptest! {
    #[test]
    fn a_service_is_read_as_it_is_written(
        name in "[a-z]{1,9}", namespace in "[a-l]{1,9}", port in 1u16..,
        protocol in proptest::option::of(prop_oneof!["http", "h2c", "grpc", "tcp"]),
        owner in proptest::option::of(prop_oneof!["[a-z][a-z0-9_-]{0,8}", "unit:[a-z]{1,8}\\.slice", "cgroup:/[a-z]{1,8}/[a-z.]{1,8}x"]),
    ) {
        let protocol = protocol.map(|protocol| format!("/{protocol}")).unwrap_or_default();
        let owner = owner.map(|owner| format!("@{owner}")).unwrap_or_default();
        let text = format!("{name}.{namespace}=127.0.0.1:{port}{protocol}{owner}");

        prop_assert_eq!(service(&text).to_string(), text);
    }
}
