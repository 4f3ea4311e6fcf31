//! How this host stands: what its proxy found out, and what only another process can try.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::api::client::{Client, Error};
use crate::api::host::{HostStatus, InterceptionStatus, RulesStatus};
use crate::cli::check::finding::{Category, Check, Mark, check};
use crate::cli::check::mesh::{SKEW_MS, SYNCHRONISE, skew};
use crate::cli::check::{certificate, disk, gossip};
use crate::cli::local_proxy::LocalProxy;
use crate::logic::intercept::TABLE;
use crate::model::name::MESH_DOMAIN;
use crate::net::{clock, nft, tool};

/// Beyond this, certificates that were just issued are refused: they are backdated by ten minutes.
const SKEW_MS_MAX: u64 = 540_000;

/// What is known of this host.
pub(crate) struct Host {
    /// What its proxy said; `None` when it did not answer.
    pub(crate) status: Option<HostStatus>,
    pub(crate) categories: Vec<Category>,
}

/// Examines this host with the help of its proxy; `None` when there is no sign of one.
///
/// # Errors
/// When a proxy was named that is not there.
pub(crate) async fn examine(proxy: &LocalProxy) -> anyhow::Result<Option<Host>> {
    let folder = proxy.folder();
    let address = proxy.admin()?;
    match Client::admin(&address).host().await {
        Ok(status) => {
            let categories = judge(&status).await;
            Ok(Some(Host { status: Some(status), categories }))
        }
        Err(Error::Unreachable(_)) if !proxy.is_named() && !folder.join("state").exists() => Ok(None),
        Err(error) => {
            let hint = format!(
                "it has its state in {}: 'systemctl start mesh-proxy' or 'mesh proxy' starts it, and \
                 'journalctl -u mesh-proxy' has its last words",
                folder.display()
            );
            let runs = check("the proxy of this host answers", Mark::Error, [error.to_string()], &hint);
            let checks = vec![runs, leftover_rules(true).await];
            Ok(Some(Host { status: None, categories: vec![Category::new("host-proxy", checks)] }))
        }
    }
}

async fn judge(host: &HostStatus) -> Vec<Category> {
    let now_ms = clock::wall_ms();
    let held = host.identities.iter().map(|status| (&host.node, status));
    let mut interception = Vec::new();
    match &host.interception {
        Some(found) => interception.extend([rules(found), way(found), resolver(host).await]),
        None => interception.push(leftover_rules(false).await),
    }
    vec![
        Category::new("host-proxy", proxy(host)),
        Category::new("host-identity", certificate::judge(held, now_ms)),
        gossip::of_host(host.reach.as_ref()),
        Category::new("host-interception", interception),
    ]
}

/// Judges the proxy itself: whether it serves, reaches control, and has room.
fn proxy(host: &HostStatus) -> Vec<Check> {
    let unready = host.unready.iter().map(|lack| format!("{}: {}", lack.check, lack.message));
    let answer = host.control.answer.as_ref();
    // A clock that is far off lets no connection come about by which it could be measured.
    let is_dated = host.control.error.as_ref().is_some_and(|error| error.contains("do the clocks agree?"));
    let error =
        host.control.error.iter().map(|error| format!("{}: {error}", host.control.addresses.join(", ")));
    let ahead_ms = answer.map(|answer| answer.ahead_ms).filter(|ms| ms.unsigned_abs() > SKEW_MS);
    let far =
        if ahead_ms.is_some_and(|ms| ms.unsigned_abs() > SKEW_MS_MAX) { Mark::Error } else { Mark::Warning };
    let skewed = answer.zip(ahead_ms).map(|(answer, ms)| skew(answer.node.as_str(), ms, "this host"));
    let other = answer.filter(|answer| answer.build != host.build);
    let other = other.map(|answer| format!("{} here, {} on {}", host.build, answer.build, answer.node));
    let few = u64::from(host.descriptors).saturating_mul(10) > host.descriptors_max.saturating_mul(8);
    let few = few.then(|| format!("{} of {} are open", host.descriptors, host.descriptors_max));
    vec![
        check("the proxy of this host answers", Mark::Error, [], ""),
        check(
            "it would serve traffic",
            Mark::Error,
            unready,
            "wait a moment ('mesh check --wait 30s'); its log says more",
        ),
        check(
            "it reaches the control plane",
            Mark::Warning,
            error,
            if is_dated {
                SYNCHRONISE
            } else {
                "is 'mesh control' running there, and TCP port 7443 open from here? Calls go on meanwhile"
            },
        ),
        check("its clock agrees with the control plane's", far, skewed, SYNCHRONISE),
        check("it runs the control plane's version", Mark::Warning, other, "run 'mesh upgrade' here"),
        disk::judge(&host.disk),
        check(
            "it has file descriptors left",
            Mark::Warning,
            few,
            "raise LimitNOFILE in its unit, or 'ulimit -n' where it is started",
        ),
    ]
}

/// Judges the rules for interception.
fn rules(found: &InterceptionStatus) -> Check {
    let (mark, finding) = match found.rules {
        RulesStatus::Own => (Mark::Success, None),
        RulesStatus::Foreign => (Mark::Error, Some("they are another proxy's".to_owned())),
        RulesStatus::Missing => (Mark::Error, Some("somebody has removed them".to_owned())),
        RulesStatus::Unknown => (Mark::Warning, found.error.clone()),
    };
    let description = format!("the rules for interception are in force ({})", found.mode);
    check(
        &description,
        mark,
        finding,
        "'mesh intercept show' prints them; the proxy installs them again within ten seconds when they are gone, and \
         'systemctl restart mesh-proxy' at once: two proxies cannot intercept on one host",
    )
}

/// Judges whether connections to virtual addresses leave their application at all.
fn way(found: &InterceptionStatus) -> Check {
    let missing = found.way.as_ref().map(|_| "the kernel knows no way to virtual addresses".to_owned());
    let hint = format!("'{}' makes one", found.way.as_deref().unwrap_or_default());
    check("connections by name have a way to the proxy", Mark::Error, missing, &hint)
}

/// Looks for rules that lead to no proxy; with `all` to none at all, else to none of this one.
async fn leftover_rules(all: bool) -> Check {
    let description = "no rules for interception are left over";
    let hint = "'mesh intercept clear' removes them";
    let left = match nft::table(TABLE).await {
        Ok(Some(_)) if all => Some("connections of this host to the mesh lead nowhere".to_owned()),
        Ok(Some(_)) => Some("this proxy does not intercept, and rules are in force".to_owned()),
        // Without the tool there are none, and who may not look cannot know.
        Ok(None) | Err(_) => None,
    };
    check(description, Mark::Error, left, hint)
}

/// Asks the host's own resolver, as applications do.
async fn resolver(host: &HostStatus) -> Check {
    let description = "names below .mesh resolve on this host";
    let hint = "'getent hosts NAME.mesh' must ask by DNS: 'hosts:' in /etc/nsswitch.conf needs 'dns' or 'resolve', and \
                /etc/resolv.conf a name server to which 'ip route get ADDRESS' knows a way; with systemd-resolved, \
                'resolvectl domain' shows ~mesh at the link mesh0";
    let Some((service, expected)) = &host.names.example else {
        return check(description, Mark::Success, [], "");
    };
    if host.names.listen.is_empty() {
        return check(
            description,
            Mark::Error,
            ["its name server is off".to_owned()],
            "leave out '--dns off'",
        );
    }
    let name = format!("{service}.{MESH_DOMAIN}");
    let found = match tool::run("getent", &["ahosts", &name], "").await {
        Ok(text) => text,
        Err(tool::Error::Refused { .. }) => {
            return check(
                description,
                Mark::Error,
                [format!("{name} is unknown to the host's resolver")],
                hint,
            );
        }
        Err(error @ tool::Error::Missing(_)) => {
            return check(description, Mark::Warning, [error.to_string()], hint);
        }
        Err(tool::Error::Broken { .. }) => {
            let found = format!("the host's resolver does not answer when it is asked for {name}");
            return check(description, Mark::Error, [found], hint);
        }
    };
    let found: BTreeSet<IpAddr> =
        found.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    let is_right = !found.is_empty() && found.iter().all(|address| expected.contains(address));
    let list = |each: &mut dyn Iterator<Item = &IpAddr>| {
        each.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let wrong = (!is_right).then(|| {
        format!(
            "{name} is {} to the host's resolver, and should be {}",
            list(&mut found.iter()),
            list(&mut expected.iter())
        )
    });
    check(description, Mark::Error, wrong, hint)
}
