//! A mesh: one control plane and the proxies that join it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::stage::place::Place;
use crate::stage::process::{Done, Process, curl, run_with, status_of};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

/// A running control plane with its folder. Proxies keep theirs in the same one.
pub(crate) struct Mesh {
    pub(crate) control: Process,
    place: Place,
    folder: TempDir,
    listen: Option<SocketAddr>,
    gossip: Option<SocketAddr>,
}

impl Mesh {
    /// Starts a control plane on a host and waits until it serves.
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    /// As [`Mesh::start`], with more flags.
    pub(crate) fn start_with(place: &Place, flags: &[&str]) -> Self {
        Self::start_in(place, tempfile::Builder::new().prefix("mesh-e2e-").tempdir().unwrap(), flags)
    }

    /// As [`Mesh::start_with`], in a folder of one's own making.
    pub(crate) fn start_in(place: &Place, folder: TempDir, flags: &[&str]) -> Self {
        let control = start_control(place, folder.path(), None, None, flags);
        let mut mesh = Self { control, place: place.clone(), folder, listen: None, gossip: None };
        mesh.wait_for_control();
        mesh
    }

    fn wait_for_control(&mut self) {
        let data = self.data();
        wait_until_ready(&self.place, &data, &mut self.control);
        self.listen = Some(address(&data, "listen"));
        self.gossip = Some(address(&data, "gossip"));
    }

    /// Starts the control plane again, on its data and its ports. It must not be running.
    pub(crate) fn restart_control(&mut self) {
        self.control.kill();
        let _ = fs::remove_file(self.data().join("addresses.json"));
        self.control = start_control(&self.place, self.folder.path(), self.listen, self.gossip, &[]);
        self.wait_for_control();
    }

    /// The folder that everything of this mesh is in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The control plane's data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// Where the API listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        address(&self.data(), "listen")
    }

    /// Where control's health and metrics answer.
    pub(crate) fn admin(&self) -> SocketAddr {
        address(&self.data(), "admin")
    }

    /// Runs a client command as the administrator.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Done {
        let control = format!("unix://{}", self.data().join("control.sock").display());
        run_with(&self.place, seconds(30), program::mesh(), arguments, |command| {
            command.env("MESH_CONTROL", control).env("HOME", self.folder());
        })
    }

    /// Runs a client command that prints JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.cli(arguments).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}:\n{text}"))
    }

    /// Makes a join token.
    pub(crate) fn token(&self, flags: &[&str]) -> String {
        self.cli(&[&["token", "create"], flags].concat()).ok().trim().to_owned()
    }

    /// Writes a manifest and applies it.
    pub(crate) fn apply(&self, manifest: &str) -> Done {
        let file = self.folder().join("manifest.yaml");
        fs::write(&file, manifest).unwrap();
        self.cli(&["apply", "-f", file.to_str().unwrap()])
    }

    /// Begins to describe a proxy.
    pub(crate) fn proxy(&self, place: &Place, node: &str) -> ProxyPlan {
        ProxyPlan {
            place: place.clone(),
            node: node.to_owned(),
            data: self.folder().join(node),
            logs: self.folder().to_owned(),
            flags: Vec::new(),
            ports: BTreeMap::from(["outbound", "inbound", "gossip", "admin"].map(|name| (name, 0))),
            names: false,
            environment: Vec::new(),
            file: None,
            is_open: false,
            is_anywhere: false,
            program: program::mesh().to_owned(),
        }
    }

    /// The mesh as consoles see it.
    pub(crate) fn view(&self) -> Value {
        self.json(&["top", "--once", "-o", "json"])
    }

    /// The edge between two parties in `mesh edges -o json`, once it is there.
    pub(crate) fn edge(&self, source: &str, destination: &str) -> Value {
        until(&format!("an edge from {source} to {destination}"), seconds(15), || {
            let edges = self.json(&["edges", "-o", "json"]);
            let found = edges
                .as_array()?
                .iter()
                .find(|edge| edge["source"] == source && edge["destination"] == destination);
            found.cloned()
        })
    }
}

fn start_control(
    place: &Place,
    folder: &Path,
    listen: Option<SocketAddr>,
    gossip: Option<SocketAddr>,
    flags: &[&str],
) -> Process {
    let at =
        |given: Option<SocketAddr>| given.map_or_else(|| format!("{}:0", place.ip()), |at| at.to_string());
    let mut command = Command::new(program::mesh());
    command.arg("control").arg("--data-dir").arg(folder.join("control"));
    command.args(["--listen", &at(listen), "--gossip", &at(gossip), "--admin", "127.0.0.1:0"]);
    command.args(["--advertise", &place.ip().to_string(), "--name", "control-1"]).args(flags);
    command.env("HOME", folder);
    Process::start(place, folder, "control", command)
}

/// A proxy, before it is started.
pub(crate) struct ProxyPlan {
    place: Place,
    node: String,
    data: PathBuf,
    logs: PathBuf,
    flags: Vec<String>,
    ports: BTreeMap<&'static str, u16>,
    names: bool,
    environment: Vec<(String, String)>,
    /// Its file, and the services that it had at first.
    file: Option<(PathBuf, Vec<String>)>,
    is_open: bool,
    is_anywhere: bool,
    program: PathBuf,
}

impl ProxyPlan {
    /// Runs another file than the program under test.
    pub(crate) fn program(mut self, file: &Path) -> Self {
        file.clone_into(&mut self.program);
        self
    }

    /// Opens its outbound listener to other hosts, on this port.
    pub(crate) fn open(mut self, port: u16) -> Self {
        self.ports.insert("outbound", port);
        self.is_open = true;
        self
    }

    /// Listens on whatever addresses its host has, and finds out itself where others reach it.
    pub(crate) fn anywhere(mut self) -> Self {
        self.is_anywhere = true;
        self
    }

    /// Joins with this token.
    pub(crate) fn join(self, token: &str) -> Self {
        self.flag("--join", token)
    }

    /// Runs a service here: `web=8080/http`.
    pub(crate) fn service(self, service: &str) -> Self {
        self.flag("--service", service)
    }

    /// Has its services, those said so far, in its file and not in flags, so that others may take their place.
    pub(crate) fn services_in_file(mut self) -> Self {
        let flags = std::mem::take(&mut self.flags);
        let (services, rest): (Vec<_>, Vec<_>) = flags.chunks(2).partition(|flag| flag[0] == "--service");
        let services: Vec<_> = services.into_iter().map(|flag| flag[1].clone()).collect();
        self.flags = rest.concat();
        let file = self.logs.join(format!("{}.yaml", self.node));
        write_services(&file, &services);
        self.file = Some((file.clone(), services));
        self.flag("--config", file.to_str().unwrap())
    }

    /// Opens a local port, chosen by the proxy, to a service.
    pub(crate) fn upstream(self, service: &str) -> Self {
        self.flag("--upstream", &format!("{service}=127.0.0.1:0"))
    }

    /// Intercepts connections of its host, and answers its questions about names: for hosts of their own.
    pub(crate) fn intercept(mut self, mode: &str) -> Self {
        self.names = true;
        self.flag("--intercept", mode)
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a flag with a value.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(self) -> Proxy {
        let process = self.spawn();
        let mut proxy = Proxy { plan: self, process };
        proxy.wait_until_ready();
        proxy
    }

    /// Starts it and returns how it ended, for one that is expected to be refused.
    pub(crate) fn refused(self) -> (Option<i32>, String) {
        let mut process = self.spawn();
        let status = until(&format!("{} gives up", self.node), seconds(20), || process.ended());
        (status.code(), process.log())
    }

    /// Starts it.
    pub(crate) fn spawn(&self) -> Process {
        self.spawn_with(&[])
    }

    fn spawn_with(&self, more: &[&str]) -> Process {
        let ip = self.place.ip();
        let mut command = Command::new(&self.program);
        command.arg("proxy").arg("--data-dir").arg(&self.data);
        for (name, port) in &self.ports {
            let outside = matches!(*name, "inbound" | "gossip") || *name == "outbound" && self.is_open;
            let ip = match (outside, self.is_anywhere) {
                (true, true) => "0.0.0.0".to_owned(),
                (true, false) => ip.to_string(),
                (false, _) => "127.0.0.1".to_owned(),
            };
            command.args([format!("--{name}"), format!("{ip}:{port}")]);
        }
        command.args(["--node", &self.node]).args(&self.flags).args(more);
        if !self.is_anywhere {
            command.args(["--advertise", &ip.to_string()]);
        }
        if !self.names {
            command.args(["--dns", "off"]);
        }
        command.env("HOME", &self.logs).envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start(&self.place, &self.logs, &self.node, command)
    }
}

/// A running proxy.
pub(crate) struct Proxy {
    plan: ProxyPlan,
    pub(crate) process: Process,
}

impl Proxy {
    fn wait_until_ready(&mut self) {
        wait_until_ready(&self.plan.place, &self.plan.data, &mut self.process);
    }

    /// Kills it, and starts it again on the same ports; its clients find it where it was.
    pub(crate) fn restart(&mut self) {
        for (name, port) in &mut self.plan.ports {
            *port = address(&self.plan.data, name).port();
        }
        self.process.kill();
        let _ = fs::remove_file(self.plan.data.join("addresses.json"));
        self.process = self.plan.spawn();
        self.wait_until_ready();
    }

    /// Starts it on its host as that is after a boot, with what is on its disk; it must have been killed.
    pub(crate) fn boot(&mut self, place: &Place) {
        self.plan.place = place.clone();
        let _ = fs::remove_file(self.plan.data.join("addresses.json"));
        self.process = self.plan.spawn();
        self.wait_until_ready();
    }

    /// Starts a process that is to take over from it, with more flags, and returns that.
    pub(crate) fn successor(&self, flags: &[&str]) -> Process {
        self.plan.spawn_with(&[&["--take-over"], flags].concat())
    }

    /// Has another process take over from it, with more flags; returns when the old one has ended.
    pub(crate) fn hand_over(&mut self, flags: &[&str]) {
        let successor = self.successor(flags);
        let name = self.plan.node.clone();
        let status = until(&format!("{name} hands over and ends"), seconds(120), || self.process.ended());
        self.process = successor;
        assert!(status.success(), "{status}:\n{}", self.process.log());
        self.wait_until_ready();
    }

    /// Waits until it has handed over to a process that it has started itself, and ended.
    pub(crate) fn has_handed_over(&mut self) {
        let name = self.plan.node.clone();
        let status = until(&format!("{name} hands over and ends"), seconds(120), || self.process.ended());
        assert!(status.success(), "{status}:\n{}", self.process.log());
    }

    /// Runs the services of its file and these, from now on.
    pub(crate) fn also_runs(&self, more: &[String]) {
        let (file, services) = self.plan.file.as_ref().expect("its services are in a file");
        write_services(file, &[services, more].concat());
        kill_process(self.process.pid(), Signal::HUP).unwrap();
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.plan.data
    }

    /// Where it listens: `outbound`, `inbound`, `gossip`, `admin`, `capture`.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        address(&self.plan.data, name)
    }

    /// The local port of an upstream, by the full name of its service.
    pub(crate) fn upstream(&self, service: &str) -> SocketAddr {
        read_addresses(&self.plan.data).unwrap()["upstreams"][service].as_str().unwrap().parse().unwrap()
    }

    /// Sends a request for a service to the outbound listener with curl.
    pub(crate) fn get(&self, service: &str, path: &str, flags: &[&str]) -> Done {
        let url = format!("http://{}{path}", self.address("outbound"));
        let host = format!("Host: {service}.mesh");
        curl(&self.plan.place, &[&["-H", &host], flags, &[&url]].concat())
    }

    /// As [`Proxy::get`], for the status alone.
    pub(crate) fn status(&self, service: &str, path: &str, flags: &[&str]) -> u16 {
        let flags = [&["-o", "/dev/null", "-w", "%{http_code}"], flags].concat();
        self.get(service, path, &flags).out.parse().unwrap_or(0)
    }

    /// The mesh as this proxy sees it.
    pub(crate) fn view(&self) -> Value {
        let text = curl(&self.plan.place, &[&format!("http://{}/view", self.address("admin"))]).ok();
        serde_json::from_str(&text).unwrap()
    }

    /// As [`Proxy::status`], without curl: for many requests. `None` when there is no answer.
    pub(crate) fn quick_status(&self, service: &str) -> Option<u16> {
        status_of(&self.plan.place, self.address("outbound"), &format!("{service}.mesh"), "/")
    }

    /// Waits until a service answers 200 through this proxy.
    pub(crate) fn reaches(&self, service: &str) {
        until(&format!("{} reaches {service}", self.plan.node), seconds(15), || {
            (self.quick_status(service) == Some(200)).then_some(())
        });
    }
}

fn wait_until_ready(place: &Place, data: &Path, process: &mut Process) {
    until("it is ready", seconds(20), || {
        process.assert_alive();
        let admin = read_addresses(data)?["admin"].as_str()?.parse().ok()?;
        (status_of(place, admin, "localhost", "/readyz") == Some(200)).then_some(())
    });
}

fn write_services(file: &Path, services: &[String]) {
    fs::write(file, format!("service: [{}]\n", services.join(", "))).unwrap();
}

fn read_addresses(data: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(data.join("addresses.json")).ok()?).ok()
}

fn address(data: &Path, name: &str) -> SocketAddr {
    let addresses = read_addresses(data).expect("a running process has written addresses.json");
    addresses[name].as_str().unwrap_or_else(|| panic!("no {name} in {addresses}")).parse().unwrap()
}
