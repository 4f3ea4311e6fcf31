//! Traffic policies, written with `mesh apply`, felt by calls: what is refused, given up, tried again, left out, and who
//! takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use mesh::net::clock;

use crate::stage::instance::{Answer, Instance, ask, greeted};
use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer;
use crate::stage::place::Place;
use crate::stage::process::curl;
use crate::stage::wait::{seconds, until};

/// The service `web` twice and `mail`, which is TCP and speaks first, once; a caller that is the service `shop`.
pub(crate) struct Market {
    pub(crate) caller: Proxy,
    pub(crate) servers: Vec<Proxy>,
    pub(crate) web: [Instance; 2],
    pub(crate) mesh: Mesh,
    token: String,
}

impl Market {
    pub(crate) fn new() -> Self {
        let here = Place::here();
        let mesh = Mesh::start(&here);
        let token = mesh.token(&["--uses", "4"]);
        let web = ["first", "second"].map(|name| Instance::start(&here, name));
        let server = |node: &str, web: &Instance| {
            mesh.proxy(&here, node).join(&token).service(&format!("web={}/http", web.port))
        };
        let gone = here.free_port();
        let first = server("server-1", &web[0])
            .service(&format!("mail={}/tcp", peer::greeter(&here, "mail").port()))
            .service(&format!("gone={gone}/http"))
            .service(&format!("deaf={gone}/tcp"));
        let servers = vec![first.start(), server("server-2", &web[1]).start()];
        let caller =
            mesh.proxy(&here, "caller").join(&token).service("shop=9").upstream("mail").upstream("deaf");
        let log = mesh.folder().join("access.log");
        let caller = caller.flag("--access-log", log.to_str().unwrap()).start();
        let market = Self { caller, servers, web, mesh, token };
        market.knows(&["server-1", "server-2"]);
        market
    }

    /// Waits until the caller knows these instances of `web`.
    pub(crate) fn knows(&self, nodes: &[&str]) {
        let wanted: BTreeSet<_> = nodes.iter().map(|node| (*node).to_owned()).collect();
        until(&format!("the caller knows {nodes:?}"), seconds(20), || {
            let view = self.caller.view();
            let web = view["services"].as_array()?.iter().find(|one| one["name"] == "web.default")?.clone();
            let ready = web["instances"].as_array()?.iter().filter(|one| one["standing"] == "ready");
            let ready: BTreeSet<_> = ready.filter_map(|one| Some(one["node"].as_str()?.to_owned())).collect();
            (ready == wanted).then_some(())
        });
        self.caller.reaches("web");
    }

    /// Writes a manifest; returns when every proxy obeys it.
    pub(crate) fn obeys(&self, manifest: &str) {
        let file = self.mesh.folder().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.mesh.cli(&["apply", "--wait=20s", "-f", file.to_str().unwrap()]).ok();
        self.web.iter().for_each(|web| _ = web.asked());
    }

    /// Has calls to `service` go by this policy and no other.
    pub(crate) fn policy(&self, service: &str, spec: &str) {
        self.obeys(&format!(
            "apiVersion: mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: {service}}}\nspec: {{targetRef: {{name: {service}}}, \
             {spec}}}\n"
        ));
    }

    pub(crate) fn get(&self, fields: &[&str]) -> Answer {
        ask(self.caller.address("outbound"), "web", "GET", fields)
    }

    fn all(&self, count: usize, fields: &[&str]) -> Vec<Answer> {
        (0..count).map(|_| self.get(fields)).collect()
    }

    /// Sends requests at the same time.
    pub(crate) fn at_once(&self, count: usize) -> Vec<Answer> {
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..count).map(|_| scope.spawn(|| self.get(&[]))).collect();
            asking.into_iter().map(|asking| asking.join().unwrap()).collect()
        })
    }

    /// Takes so long for an answer, at both instances.
    pub(crate) fn holds(&self, time: Duration) {
        self.web.iter().for_each(|web| web.holds(time));
    }

    fn answers(&self, status: u16) {
        self.web.iter().for_each(|web| web.answers(status));
    }

    fn asked(&self) -> usize {
        self.web.iter().map(Instance::asked).sum()
    }

    /// What the access log of the caller says, a call a line.
    pub(crate) fn log(&self) -> PathBuf {
        self.mesh.folder().join("access.log")
    }
}

/// Counts answers by status and reason.
pub(crate) fn counted(answers: &[Answer]) -> BTreeMap<(u16, &str), usize> {
    answers.iter().fold(BTreeMap::new(), |mut counts, answer| {
        *counts.entry((answer.status, answer.reason())).or_default() += 1;
        counts
    })
}

fn bodies(answers: &[Answer]) -> BTreeSet<&str> {
    answers.iter().map(|answer| answer.body.as_str()).collect()
}

/// A metric of a proxy, over all series that have these labels.
pub(crate) fn metric(proxy: &Proxy, name: &str, labels: &[&str]) -> u64 {
    let text = curl(&Place::here(), &[&format!("http://{}/metrics", proxy.address("admin"))]).ok();
    let series = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    let series = series.filter(|(found, _)| labels.iter().all(|label| found.contains(label)));
    series.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

const HALF_A_SECOND: Duration = Duration::from_millis(500);

#[test]
fn what_is_above_a_limit_is_refused_with_its_reason_and_the_rest_is_served() {
    let market = Market::new();

    // Of each instance, three a minute for each caller.
    market.policy(
        "web",
        "loadBalancing: {policy: RoundRobin}, rateLimit: {perSource: {requests: 3, interval: 1m}}",
    );
    let answers = market.all(40, &[]);
    assert_eq!(counted(&answers), [((200, ""), 6), ((429, "RL"), 34)].into());
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!((1..=60).contains(&refused.field("retry-after").unwrap().parse::<u32>().unwrap()), "{refused:?}");
    let other = ask(market.servers[1].address("outbound"), "web", "GET", &[]);
    assert_eq!((other.status, other.reason()), (200, ""), "another caller has a share of its own");
    market.policy(
        "web",
        "loadBalancing: {policy: RoundRobin}, rateLimit: {total: {requests: 2, interval: 1m}}",
    );
    assert_eq!(counted(&market.all(20, &[])), [((200, ""), 4), ((429, "RL"), 16)].into());
    let other = ask(market.servers[1].address("outbound"), "web", "GET", &[]);
    assert_eq!((other.status, other.reason()), (429, "RL"), "all callers share this one");
    market.policy("mail", "rateLimit: {total: {requests: 1, interval: 1m}}");
    let mail = market.caller.upstream("mail.default");
    assert_eq!([(); 3].map(|()| greeted(mail).is_some()), [true, false, false]);

    // Of each caller's proxy, two under way.
    market.policy("web", "circuitBreaking: {maxRequests: 2}");
    market.holds(seconds(1));
    assert_eq!(counted(&market.at_once(8)), [((200, ""), 2), ((503, "UO"), 6)].into());
    assert_eq!(market.asked(), 2, "nobody sees the rest");
    market.policy("mail", "circuitBreaking: {maxConnections: 2}");
    let held = [(); 3].map(|()| greeted(mail));
    assert_eq!(held.each_ref().map(Option::is_some), [true, true, false]);
    drop(held);
    until("there is room again", seconds(5), || greeted(mail));

    // Of each instance, one at a time.
    market
        .policy("web", "loadBalancing: {policy: RoundRobin}, concurrency: {limit: 1}, retry: {attempts: 0}");
    let answers = market.at_once(8);
    assert_eq!(counted(&answers), [((200, ""), 2), ((503, "UO"), 6)].into());
    assert_eq!(market.asked(), 2, "an instance does not see what its proxy refuses");
    market.holds(Duration::ZERO);
    assert_eq!(market.get(&[]).status, 200);
}

#[test]
fn calls_are_delayed_aborted_and_given_up_as_policies_and_routes_say() {
    let market = Market::new();

    market.policy("web", "faultInjection: {abort: {percent: 100, httpStatus: 555}}");
    assert_eq!(counted(&market.all(3, &[])), [((555, "FI"), 3)].into());
    assert_eq!(market.asked(), 0);
    market.policy("web", "faultInjection: {delay: {percent: 100, duration: 500ms}}");
    let late = market.get(&[]);
    assert_eq!((late.status, market.asked()), (200, 1));
    assert!(late.took >= HALF_A_SECOND && late.took < seconds(3), "{late:?}");

    // One attempt may take less than the request: another one is made elsewhere.
    market.policy("web", "timeouts: {request: 10s, backendRequest: 500ms}");
    market.web[0].holds(seconds(3));
    let answers = market.all(12, &[]);
    assert_eq!(counted(&answers), [((200, ""), 12)].into());
    assert!(answers.iter().all(|answer| answer.body == "second" && answer.took < seconds(3)), "{answers:?}");
    assert!(market.web[0].asked() > 0, "the slow one was never tried");

    // The request as a whole: nothing is made of what is over.
    market.policy("web", "timeouts: {request: 300ms}");
    market.holds(seconds(2));
    let given_up = market.get(&[]);
    assert_eq!((given_up.status, given_up.reason()), (504, "UT"));
    assert!(given_up.took < seconds(2), "{given_up:?}");
    // The time of a route counts before that of the policy.
    market.obeys(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web}\nspec:\n  parentRefs: [{kind: Service, \
         group: '', name: web}]\n  rules:\n    - matches: [{headers: [{name: x-patient, value: 'yes'}]}]\n      \
         timeouts: {request: 8s}\n      backendRefs: [{name: web}]\n    - backendRefs: [{name: web}]\n",
    );
    market.holds(Duration::from_millis(700));
    let (patient, other) = (market.get(&["x-patient: yes"]), market.get(&[]));
    assert_eq!((patient.status, other.status, other.reason()), (200, 504, "UT"));
}

#[test]
fn requests_are_tried_again_as_often_as_allowed_and_as_the_budget_lasts() {
    const AMPLE: &str = "budget: {percent: 100, minRetriesPerSecond: 1000}";
    let market = Market::new();
    let policy = |retry: &str| {
        market.policy(
            "web",
            &format!("outlierDetection: {{consecutiveGatewayErrors: 0}}, retry: {{backoff: 1ms, {retry}}}"),
        );
    };
    let post = || ask(market.caller.address("outbound"), "web", "POST", &["content-length: 0"]);

    market.answers(503);
    for attempts in [0, 1, 3] {
        policy(&format!("attempts: {attempts}, {AMPLE}"));
        assert_eq!(market.get(&[]).status, 503);
        assert_eq!(market.asked(), 1 + attempts);
    }
    assert_eq!((post().status, market.asked()), (503, 1), "it may have been done already");
    policy(&format!("attempts: 3, codes: [503], {AMPLE}"));
    assert_eq!((post().status, market.asked()), (503, 4), "who lists a code says that nothing was done");
    market.answers(500);
    assert_eq!((market.get(&[]).status, market.asked()), (500, 1), "which is not listed");

    market.answers(503);
    policy("attempts: 3, budget: {percent: 0, minRetriesPerSecond: 0}");
    assert_eq!((market.all(5, &[]).len(), market.asked()), (5, 5), "no retry is within this budget");
    policy("attempts: 3, budget: {percent: 0, minRetriesPerSecond: 1, interval: 5s}");
    // What was tried again before counts for five seconds.
    let asked = until("a retry is within the budget", seconds(15), || {
        market.all(10, &[]);
        Some(market.asked()).filter(|asked| *asked > 10)
    });
    assert!(asked <= 10 + 6, "{} retries at one a second, for each worker half of it", asked - 10);

    market.web[1].answers(200);
    policy(&format!("attempts: 2, {AMPLE}"));
    let answers = market.all(20, &[]);
    assert_eq!(counted(&answers), [((200, ""), 20)].into());
    assert_eq!(bodies(&answers), ["second"].into());
    assert!(metric(&market.caller, "mesh_retries_total", &["destination=\"web.default\""]) > 0);
}

#[test]
fn an_instance_that_fails_is_left_out_for_a_while_and_a_new_one_is_let_in_slowly() {
    let mut market = Market::new();
    let ejected = |market: &Market| {
        metric(&market.caller, "mesh_endpoint_ejected", &["service=\"web.default\"", "endpoint=\"server-1\""])
    };
    market.policy(
        "web",
        "loadBalancing: {policy: RoundRobin}, retry: {attempts: 0}, outlierDetection: {consecutive5xxErrors: 3, \
         baseEjectionTime: 3s}",
    );
    assert_eq!(bodies(&market.all(10, &[])), ["first", "second"].into());

    market.web[0].answers(500);
    let answers = until("it has failed three times", seconds(10), || {
        let answers = market.all(6, &[]);
        (answers.iter().filter(|answer| answer.status == 500).count() == 3).then_some(answers)
    });
    let since = clock::now();
    assert_eq!(ejected(&market), 1, "{answers:?}");
    let mut left_out = Vec::new();
    while since.elapsed() < seconds(2) && left_out.len() < 30 {
        left_out.push(market.get(&[]));
    }
    assert_eq!(bodies(&left_out), ["second"].into());
    assert!(left_out.len() >= 5, "{}", left_out.len());
    market.web[0].answers(200);
    until("it is called again", seconds(10), || (market.get(&[]).body == "first").then_some(()));
    assert_eq!(ejected(&market), 0);
    assert_eq!(counted(&market.all(20, &[])), [((200, ""), 20)].into());

    market
        .policy("web", "loadBalancing: {policy: RoundRobin}, slowStart: {window: 1m, minWeightPercent: 10}");
    let third = Instance::start(&Place::here(), "third");
    let server = market.mesh.proxy(&Place::here(), "server-3").join(&market.token);
    market.servers.push(server.service(&format!("web={}/http", third.port)).start());
    market.knows(&["server-1", "server-2", "server-3"]);
    let answers = market.all(100, &[]);
    let new = answers.iter().filter(|answer| answer.body == "third").count();
    assert!((1..=15).contains(&new), "{new} of 100, of which a third would be its share");
}

#[test]
fn a_key_or_a_cookie_leads_to_the_same_instance_whoever_calls() {
    let market = Market::new();
    let users: Vec<_> = (0..24).map(|user| format!("x-user: user-{user}")).collect();
    let map = |from: &Proxy| -> Vec<_> {
        let ask = |user: &String| ask(from.address("outbound"), "web", "GET", &[user]).body;
        users.iter().map(ask).collect()
    };

    market.policy("web", "loadBalancing: {policy: ConsistentHash, consistentHash: {header: x-user}}");
    let first = map(&market.caller);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2, "{first:?}");
    assert_eq!(map(&market.caller), first);
    assert_eq!(map(&market.servers[1]), first, "another caller comes to the same ones");
    assert_eq!(bodies(&market.all(24, &[])).len(), 2, "without the field it is any");
    market.policy("web", "loadBalancing: {policy: ConsistentHash, consistentHash: {cookie: user}}");
    let answers = market.all(10, &["cookie: a=b; user=paul"]);
    assert_eq!(bodies(&answers).len(), 1, "{answers:?}");

    market.policy(
        "web",
        "loadBalancing: {policy: RoundRobin}, sessionAffinity: {type: Cookie, sessionName: basket}",
    );
    for _ in 0..4 {
        let new = market.get(&[]);
        let cookie = new.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("basket="), "{cookie}");
        let answers = market.all(10, &[&format!("cookie: {cookie}")]);
        assert_eq!(bodies(&answers), [new.body.as_str()].into());
    }
    assert_eq!(bodies(&market.all(10, &[])).len(), 2);
}
