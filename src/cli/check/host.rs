//! How this host stands: what its proxy found out, and what only another process can try.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use crate::api::client::{Client, Error};
use crate::api::host::{HostStatus, InterceptionStatus, RulesStatus};
use crate::cli::check::finding::{Category, Check, Mark, check};
use crate::cli::check::mesh::{SKEW_MS, SYNCHRONISE, skew};
use crate::cli::check::{certificate, disk, gossip};
use crate::cli::local_proxy::LocalProxy;
use crate::logic::intercept::TABLE;
use crate::logic::pki::trust;
use crate::model::name::MESH_DOMAIN;
use crate::net::{clock, nft, tool};

/// The service of an installed proxy.
const UNIT: &str = "/etc/systemd/system/mesh-proxy.service";
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
        Err(Error::Unreachable(_))
            if !proxy.is_named() && !folder.join("state").exists() && !Path::new(UNIT).exists() =>
        {
            Ok(None)
        }
        Err(error) => {
            let (finding, hint) = absent(&error, &folder);
            let runs = check("the proxy of this host answers", Mark::Error, [finding], &hint);
            let checks = vec![runs, leftover_rules(true).await];
            Ok(Some(Host { status: None, categories: vec![Category::new("host-proxy", checks)] }))
        }
    }
}

/// Says of a proxy that does not answer what that may mean, and what to do.
fn absent(error: &Error, folder: &Path) -> (String, String) {
    let finding = match &error {
        Error::Unreachable(reason) => format!("no proxy answers: {reason}"),
        Error::Problem(_) | Error::WrongPin(_) | Error::Broken(_) | Error::TimedOut => {
            format!("the proxy does not answer: {error}")
        }
    };
    let start = if Path::new(UNIT).exists() {
        "'systemctl status mesh-proxy' says whether it runs, 'journalctl -u mesh-proxy' has its last words, and 'systemctl \
         restart mesh-proxy' starts it"
    } else {
        "'mesh proxy', with the flags that it had, starts it; its last words are where its standard error went"
    };
    let state = if folder.join("state").exists() {
        format!("it has its state in {}", folder.display())
    } else {
        format!("it has not joined yet, as there is no state in {}", folder.display())
    };
    (finding, format!("{state}: {start}"))
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
    let is_dated = host.control.error.as_ref().is_some_and(|error| trust::is_about_time(error));
    let error =
        host.control.error.iter().map(|error| format!("{}: {error}", host.control.addresses.join(", ")));
    let other = answer.filter(|answer| answer.build != host.build);
    let other = other.map(|answer| format!("{} here, {} on {}", host.build, answer.build, answer.node));
    let few = u64::from(host.descriptors).saturating_mul(10) > host.descriptors_max.saturating_mul(8);
    let few = few.then(|| format!("{} of {} are open", host.descriptors, host.descriptors_max));
    let excluded = host.excluded.as_ref().map(|reason| {
        let hint = "until that is mended, every call from here and to here fails";
        check("others take this node for a member", Mark::Error, [reason.clone()], hint)
    });
    // What was not asked is not well.
    let version = answer.map(|_| {
        check("it runs the control plane's version", Mark::Warning, other, "run 'mesh upgrade' here")
    });
    let mut checks = vec![
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
        clocks(host),
    ];
    checks.extend(excluded);
    checks.extend(version);
    checks.extend([
        disk::judge(&host.disk),
        check(
            "it has file descriptors left",
            Mark::Warning,
            few,
            "raise LimitNOFILE in its unit, or 'ulimit -n' where it is started",
        ),
    ]);
    checks
}

/// Compares this host's clock with that of the control plane.
fn clocks(host: &HostStatus) -> Check {
    let description = "its clock agrees with the control plane's";
    let answer = host.control.answer.as_ref();
    let Some(ahead_ms) = host.control.ahead_ms.or(answer.map(|answer| answer.ahead_ms)) else {
        let hint =
            "it is measured once the control plane answers; 'timedatectl' or chrony tell what else they know";
        return check(description, Mark::Warning, ["it could not be measured".to_owned()], hint);
    };
    let is_beyond = |most_ms| ahead_ms.unsigned_abs() > most_ms;
    let whose = answer.map_or("the control plane", |answer| answer.node.as_str());
    let skewed = is_beyond(SKEW_MS).then(|| skew(whose, ahead_ms, "this host"));
    let mark = if is_beyond(SKEW_MS_MAX) { Mark::Error } else { Mark::Warning };
    check(description, mark, skewed, SYNCHRONISE)
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
