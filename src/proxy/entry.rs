//! How a proxy becomes the node that it is: by what is on its disk, or by a token, which may take a while.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::api::client;
use crate::identity::vault::Vault;
use crate::model::identity::Subject;
use crate::model::token::Token;
use crate::net::clock;
use crate::proxy::bootstrap::Options;
use crate::proxy::membership::{Error, Membership};

/// How long joining is tried while no control plane answers; a service manager starts the process again after that.
const JOIN_MAX: Duration = Duration::from_mins(1);
/// How long it is tried while control takes the name for another host's: one that has just ended, or was set up anew, is
/// missed by then.
const NAME_MAX: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// The status of a refusal that time may heal: another host has the name.
const CONFLICT: u16 = 409;

/// Finds the membership on disk, or joins with the token, trying again for as long as that may help, until it is to `stop`.
/// Who `takes_over` goes on as the node that the other process is.
///
/// # Errors
/// When this host is no member, nor becomes one.
pub(crate) async fn enter(
    options: &Options,
    vault: &Vault,
    subjects: &BTreeSet<Subject>,
    (takes_over, stop): (bool, impl Future<Output = ()>),
) -> Result<Membership, Error> {
    let mut stop = pin!(stop);
    if let Some(membership) = Membership::load(vault, &options.node, options.join.as_ref())? {
        return match &options.join {
            Some(token) if !takes_over && !membership.came_by(token) => tokio::select! {
                entered = reenter(membership, vault, subjects, token) => entered,
                () = &mut stop => Err(stopped(None)),
            },
            Some(_) | None => Ok(membership),
        };
    }
    let token = options.join.as_ref().ok_or(Error::NoToken)?;
    let mut attempts = Attempts { began: clock::now(), told: None };
    tokio::select! {
        joined = attempts.join(options, vault, subjects, token) => joined,
        () = &mut stop => Err(stopped(attempts.told)),
    }
}

/// Says what was not done, and what to do.
fn stopped(reason: Option<String>) -> Error {
    let reason = reason.unwrap_or_else(|| "no control plane had answered yet".to_owned());
    tracing::warn!(
        %reason,
        "told to end before this host had joined; nothing was changed: start it again with the same --join once that is \
         mended, 'mesh check --pre --join TOKEN' tries the way"
    );
    Error::Stopped(reason)
}

/// Attempts to join.
struct Attempts {
    began: Instant,
    /// Why the last one failed.
    told: Option<String>,
}

impl Attempts {
    async fn join(
        &mut self,
        options: &Options,
        vault: &Vault,
        subjects: &BTreeSet<Subject>,
        token: &Token,
    ) -> Result<Membership, Error> {
        loop {
            let error = match Membership::join(vault, &options.node, subjects, token).await {
                Ok(joined) => {
                    tracing::info!(mesh = %joined.snapshot.trust_domain, "joined");
                    return Ok(joined);
                }
                Err(error) => error,
            };
            let Some((patience, reason)) = patience(&error) else { return Err(error) };
            if self.began.elapsed() >= patience {
                return Err(error);
            }
            if self.told.as_ref() != Some(&reason) {
                tracing::warn!(%reason, ?patience, "cannot join yet; trying again");
            }
            self.told = Some(reason);
            sleep(RETRY).await;
        }
    }
}

/// Returns for how long an error may heal by itself, and what it says; `None` for one that does not.
fn patience(error: &Error) -> Option<(Duration, String)> {
    let Error::Join(error) = error else { return None };
    match error {
        client::Error::Unreachable(reason) => Some((JOIN_MAX, reason.clone())),
        client::Error::Problem(problem) if problem.status == CONFLICT => {
            Some((NAME_MAX, problem.to_string()))
        }
        client::Error::Problem(_)
        | client::Error::WrongPin(_)
        | client::Error::Broken(_)
        | client::Error::TimedOut => None,
    }
}

/// Joins again with a token that is new here, if control no longer takes this node for a member; else the token stays
/// unused. Where that fails too, the proxy serves on for as long as its certificates last.
async fn reenter(
    membership: Membership,
    vault: &Vault,
    subjects: &BTreeSet<Subject>,
    token: &Token,
) -> Result<Membership, Error> {
    let Some(reason) = membership.refusal(token).await? else { return Ok(membership) };
    match Membership::join(vault, &membership.node, subjects, token).await {
        Ok(joined) => {
            tracing::info!(mesh = %joined.snapshot.trust_domain, reason, "joined again");
            Ok(joined)
        }
        Err(error) => {
            tracing::error!(%error, reason, "cannot join again; serving on with what is known");
            Ok(membership)
        }
    }
}
