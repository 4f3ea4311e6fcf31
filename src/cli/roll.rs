//! `mesh upgrade --all`: the control plane's program on its way to every host, a few at a time, until the first that refuses.
//!
//! Nothing is remembered but by the hosts: each that was told carries it out or keeps what it has, whoever waits for it. A
//! command that was interrupted is given again, and goes on where the mesh stands.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use crate::api::client::{self, Client};
use crate::api::program::{ProgramRow, Programs};
use crate::cli::exit::{Exit, refuse};
use crate::cli::output::{self, Cell, Table, Tone};
use crate::logic::roll::{self, Host, Standing};
use crate::model::name::NodeName;
use crate::net::clock;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the control plane may be away in between, as when it is started anew.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// Within which time a proxy that is there says what it runs.
const REPORT_MAX: Duration = Duration::from_secs(5);

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Roll {
    /// Which hosts; empty for all.
    pub(crate) nodes: BTreeSet<NodeName>,
    /// Hosts of one service that change at the same time, at most.
    pub(crate) at_once: usize,
    /// How long one host may take.
    pub(crate) limit: Duration,
}

/// What this command has told, and when.
type Told = BTreeMap<NodeName, (u64, Instant)>;

impl Roll {
    /// Prints how every host stands, and who would be next to whom; changes nothing.
    ///
    /// # Errors
    /// When the control plane does not answer, or there is no such host.
    pub(crate) async fn plan(&self, client: &Client) -> anyhow::Result<Exit> {
        let programs = self.ask(client).await?;
        let mut hosts = self.hosts(&programs, &Told::new());
        let mut steps: BTreeMap<NodeName, usize> = BTreeMap::new();
        for step in 1.. {
            let next: Vec<_> = roll::next(&hosts, self.at_once).into_iter().cloned().collect();
            if next.is_empty() {
                break;
            }
            for host in hosts.iter_mut().filter(|host| next.contains(&host.node)) {
                host.standing = Standing::Current;
            }
            steps.extend(next.into_iter().map(|node| (node, step)));
        }
        let mut table = Table::new(&["STEP", "HOST", "SERVICES", "VERSION", "PROGRAM"]);
        for row in self.selected(&programs) {
            let step = match (steps.get(&row.node), &row.program) {
                (Some(step), _) => Cell::new(step.to_string(), Tone::Plain),
                (None, Some(_)) => Cell::new("done", Tone::Good),
                (None, None) => Cell::new("not there", Tone::Warning),
            };
            let services = row.services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let program = row.program.as_deref().map_or("", short);
            let words = [row.node.as_str(), &services, &row.build, program];
            table.row([step].into_iter().chain(words.map(|word| Cell::new(word, Tone::Plain))));
        }
        output::note(&format!(
            "version {} ({}) is on the control plane",
            programs.build,
            short(&programs.program)
        ));
        output::show(&table)?;
        Ok(Exit::Done)
    }

    /// Has the hosts upgraded, and tells of each.
    ///
    /// # Errors
    /// When the control plane is away for too long, or there is no such host. Hosts that were told go on.
    pub(crate) async fn run(&self, client: &Client) -> anyhow::Result<Exit> {
        let mut programs = self.ask(client).await?;
        output::note(&format!("the control plane runs {}", version(&programs.build, &programs.program)));
        let (mut told, mut seen) = (Told::new(), BTreeMap::new());
        let until = clock::now() + REPORT_MAX;
        loop {
            let hosts = self.hosts(&programs, &told);
            // One that has just begun to run another program has not told of it yet.
            let is_early = clock::now() < until;
            for host in hosts.iter().filter(|host| !is_early || host.standing != Standing::Away) {
                if seen.insert(host.node.clone(), host.standing.clone()).as_ref() != Some(&host.standing) {
                    tell(host, &programs, told.contains_key(&host.node))?;
                }
            }
            let next = roll::next(&hosts, self.at_once);
            let is_waiting = hosts.iter().any(|host| match host.standing {
                Standing::Changing => true,
                Standing::Away => is_early,
                Standing::Current | Standing::Behind | Standing::Failed(_) => false,
            });
            if next.is_empty() && !is_waiting {
                return Ok(conclude(&hosts, &told));
            }
            for node in next {
                match client.upgrade(node).await {
                    Ok(order) => _ = told.insert(node.clone(), (order.id, clock::now())),
                    // Whether it is still there, and what it runs, is seen at the next look.
                    Err(client::Error::Problem(problem)) if problem.status == 409 => {}
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
            programs = self.ask(client).await?;
        }
    }

    /// Asks for the programs, again while the control plane is away.
    async fn ask(&self, client: &Client) -> anyhow::Result<Programs> {
        let deadline = clock::now() + AWAY_MAX;
        let mut said = false;
        let programs = loop {
            match client.programs().await {
                Ok(programs) => break programs,
                Err(error) if error.is_transient() && said && clock::now() < deadline => {}
                Err(error) if error.is_transient() && !said && clock::now() < deadline => {
                    said = true;
                    output::warn(&format!("{error}; waiting for it"));
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let known: BTreeSet<_> = programs.proxies.iter().map(|row| &row.node).collect();
        if let Some(unknown) = self.nodes.iter().find(|node| !known.contains(node)) {
            let text = format!(
                "there is no proxy {unknown} in this mesh: 'mesh top --view nodes' shows those that are"
            );
            return Err(refuse(Exit::NotFound, text));
        }
        Ok(programs)
    }

    fn selected<'a>(&self, programs: &'a Programs) -> impl Iterator<Item = &'a ProgramRow> {
        programs.proxies.iter().filter(|row| self.nodes.is_empty() || self.nodes.contains(&row.node))
    }

    /// Returns how the hosts stand. What failed before this command began is tried again.
    fn hosts(&self, programs: &Programs, told: &Told) -> Vec<Host> {
        let host = |row: &ProgramRow| {
            let own = told.get(&row.node);
            let is_ours = own.is_some_and(|(id, _)| row.order == Some(*id));
            let is_late = own.is_some_and(|(_, since)| since.elapsed() > self.limit);
            let standing = match (&row.program, &row.refused) {
                (Some(program), _) if *program == programs.program => Standing::Current,
                (_, Some(reason)) if is_ours => Standing::Failed(reason.clone()),
                _ if is_late => Standing::Failed(format!("nothing came of it within {:?}", self.limit)),
                (_, None) if row.order.is_some() => Standing::Changing,
                (None, _) => Standing::Away,
                (Some(_), _) => Standing::Behind,
            };
            Host { node: row.node.clone(), services: row.services.iter().cloned().collect(), standing }
        };
        self.selected(programs).map(host).collect()
    }
}

/// Tells how a host stands, now that it stands differently.
fn tell(host: &Host, programs: &Programs, is_told: bool) -> io::Result<()> {
    let node = &host.node;
    let row = programs.proxies.iter().find(|row| row.node == *node);
    let had = row.and_then(|row| Some(version(&row.build, row.program.as_ref()?)));
    let had = had.unwrap_or_else(|| row.map_or_else(String::new, |row| row.build.clone()));
    let new = version(&programs.build, &programs.program);
    let (tone, sign, text) = match &host.standing {
        Standing::Current if is_told => (Tone::Good, "√", format!("{node}: runs {new}")),
        Standing::Current => (Tone::Dim, "-", format!("{node}: runs it already")),
        Standing::Behind => return Ok(()),
        Standing::Changing => (Tone::Plain, "…", format!("{node}: from {had} to {new}")),
        Standing::Failed(reason) => (Tone::Bad, "×", format!("{node}: keeps {had}: {reason}")),
        Standing::Away => (
            Tone::Warning,
            "‼",
            if had.is_empty() {
                format!("{node}: left out: it has not reported yet; is its proxy running and connected?")
            } else {
                format!(
                    "{node}: left out: it is not there, or its version ({had}) knows only 'mesh upgrade' on that host"
                )
            },
        ),
    };
    output::line(&format!("  {} {text}", tone.paint(sign, output::colour(&io::stdout()))))
}

/// Says how it ended.
fn conclude(hosts: &[Host], told: &Told) -> Exit {
    let count = |is: fn(&Standing) -> bool| hosts.iter().filter(|host| is(&host.standing)).count();
    let current = count(|standing| *standing == Standing::Current);
    let behind = count(|standing| *standing == Standing::Behind);
    let away = count(|standing| *standing == Standing::Away);
    let failed = count(|standing| matches!(standing, Standing::Failed(_)));
    output::note(&format!(
        "{current} of {} hosts run it, {} were changed",
        hosts.len(),
        told.len().saturating_sub(failed)
    ));
    if failed > 0 && behind > 0 {
        output::note(&format!("stopped at the first failure: {behind} more were not touched"));
    }
    if failed > 0 || away > 0 {
        output::note("the same command goes on from here");
        return Exit::Refused;
    }
    Exit::Done
}

fn version(build: &str, program: &str) -> String {
    format!("{build} ({})", short(program))
}

fn short(sum: &str) -> &str {
    sum.get(..12).unwrap_or(sum)
}
