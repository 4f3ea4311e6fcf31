//! Follows the orders of control: another program is to be the proxy of this host. It is downloaded, started to take over, and
//! left if it does not; then control is told why.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::api::client::{self, Client};
use crate::api::program::{Order, OrderRefused};
use crate::proxy::node::BUILD;
use crate::proxy::program;
use crate::proxy::successor::{self, Successor};

/// Time until the next attempt after the stream of orders ended, doubled up to the cap.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_CAP: Duration = Duration::from_secs(10);
/// A control plane that knows no orders may be another one some day.
const UNKNOWN_RETRY: Duration = Duration::from_mins(1);
/// How long the new process may take until it is the proxy, or has given up: more than handing over takes at most.
const TAKEN_MAX: Duration = Duration::from_mins(1);
/// The reason of a new process that gave up comes a moment before or after its end.
const REASON_MAX: Duration = Duration::from_millis(500);

/// What orders are carried out with.
pub(crate) struct Upgrader {
    pub(crate) client: Client,
    pub(crate) data_dir: PathBuf,
    pub(crate) successor: Successor,
    /// Why the last process that wanted to take over did not.
    pub(crate) failures: watch::Receiver<Option<String>>,
}

impl Upgrader {
    /// Follows orders until `over`: this process is no proxy any more.
    pub(crate) async fn run(mut self, over: impl Future<Output = ()>) {
        tokio::select! {
            () = over => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        let Some(own) = own_sum().await else { return };
        let mut wait = RETRY;
        // The last order that came to nothing, and why.
        let mut refused: Option<OrderRefused> = None;
        loop {
            match self.client.orders(BUILD, &own).await {
                Ok(mut orders) => {
                    wait = RETRY;
                    while let Some(Ok(order)) = orders.next().await {
                        refused = self.answer(order, &own, refused).await;
                    }
                }
                Err(client::Error::Problem(problem)) if problem.status == 404 => sleep(UNKNOWN_RETRY).await,
                Err(error) => tracing::debug!(%error, "no orders can be followed"),
            }
            sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
            wait = (wait * 2).min(RETRY_CAP);
        }
    }

    /// Carries out an order, unless that has come to nothing `before`, and tells why it does; returns that.
    async fn answer(
        &mut self,
        order: Order,
        own: &str,
        before: Option<OrderRefused>,
    ) -> Option<OrderRefused> {
        if order.program == own {
            return before;
        }
        let refused = match before.filter(|before| before.id == order.id) {
            Some(before) => before,
            None => OrderRefused { id: order.id, reason: self.obey(&order).await },
        };
        if let Err(error) = self.client.refuse_order(&refused).await {
            // The order comes again with the next stream.
            tracing::debug!(%error, "control does not hear why its program is not taken");
        }
        Some(refused)
    }

    /// Has another program take over; returns, if at all, why it did not.
    async fn obey(&mut self, order: &Order) -> String {
        tracing::info!(program = order.program, "control wants another program here");
        if let Err(reason) = successor::may_follow() {
            tracing::warn!(reason, "this program is kept");
            return reason.to_owned();
        }
        let reason = match program::fetch(&self.client, &self.data_dir, &order.program).await {
            Ok(program) => {
                let reason = self.hand_over(program.clone()).await;
                _ = fs::remove_file(program);
                reason
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!(reason, "this program is kept");
        reason
    }

    /// Starts a program that takes over: this is cut then. Returns why it did not.
    async fn hand_over(&mut self, program: PathBuf) -> String {
        self.failures.mark_unchanged();
        let successor = Successor { program, ..self.successor.clone() };
        let (pid, ended) = match successor.start() {
            Ok(started) => started,
            Err(error) => return format!("it cannot be started: {error}"),
        };
        let Ok(status) = timeout(TAKEN_MAX, ended).await else {
            if let Some(pid) = Pid::from_raw(pid) {
                _ = kill_process(pid, Signal::KILL);
            }
            return format!("it has not taken over within {TAKEN_MAX:?}");
        };
        let said = timeout(REASON_MAX, self.failures.changed()).await;
        if let Some(said) = said.ok().and_then(|_| self.failures.borrow().clone()) {
            return format!("it did not take over: {said}");
        }
        let status =
            status.ok().flatten().flatten().map_or_else(String::new, |status| format!(" ({status})"));
        format!("its process has ended{status} before it took over: the log of that host says why")
    }
}

async fn own_sum() -> Option<String> {
    match tokio::task::spawn_blocking(program::own_sum).await {
        Ok(Ok(sum)) => Some(sum),
        Ok(Err(error)) => {
            tracing::warn!(%error, "this program cannot be read: control will not be able to change it");
            None
        }
        Err(_) => None,
    }
}
