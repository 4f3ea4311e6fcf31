//! How certificates stand: how much of their life is left, and whether they are renewed.

use crate::cli::check::finding::{Check, Mark, check};
use crate::cli::output;
use crate::logic::pki::rotation::{Stage, Validity};
use crate::model::name::NodeName;
use crate::model::view::IdentityStatus;

const HINT: &str = "the proxy there must reach the control plane's port 7443, with a clock that is right and room on its \
                    disk: 'mesh check' there tries each; it renews by itself then. A node that was removed joins again \
                    with --join TOKEN";

/// Judges the certificates that nodes hold at `now_ms`.
pub(crate) fn judge<'a>(
    held: impl Iterator<Item = (&'a NodeName, &'a IdentityStatus)>,
    now_ms: u64,
) -> Vec<Check> {
    let (mut over, mut late, mut failing) = (Vec::new(), Vec::new(), Vec::new());
    for (node, status) in held {
        let validity = Validity { not_before_ms: status.not_before_ms, not_after_ms: status.not_after_ms };
        let left = output::age(status.not_after_ms.saturating_sub(now_ms));
        let why = status.last_error.as_deref().unwrap_or("no renewal was tried");
        let line = format!("{} on {node}: {left} left, {why}", status.subject);
        if now_ms < status.not_before_ms {
            over.push(format!("{} on {node}: not valid yet by the clock here", status.subject));
            continue;
        }
        match validity.stage(now_ms) {
            Stage::Sound if status.last_error.is_some() => failing.push(line),
            Stage::Sound => {}
            Stage::Late => late.push(line),
            Stage::Critical | Stage::Expired => over.push(line),
        }
    }
    vec![
        check("every certificate is valid, and not about to end (95 % of its life)", Mark::Error, over, HINT),
        check("certificates are renewed in time (80 % of their life)", Mark::Warning, late, HINT),
        check("no renewal of a certificate has failed", Mark::Warning, failing, HINT),
    ]
}
