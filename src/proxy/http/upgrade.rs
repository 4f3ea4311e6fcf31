//! Requests that become connections: WebSocket and any other change of protocol, and CONNECT.
//!
//! On a link a change of protocol is an extended CONNECT (RFC 8441), whatever the caller and the service speak; its status
//! 200 stands for 101.

use std::rc::Rc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::net::patience::Busy;
use crate::net::splice::splice;
use crate::net::task;
use crate::proxy::context::Context;
use crate::proxy::failure::Failure;
use crate::proxy::http::body::Hold;
use crate::proxy::http::observe::Watch;
use crate::proxy::tcp::Opened;

/// For both sides to hand over their connections, once the answer that says so is made.
const HAND_OVER_TIME: Duration = Duration::from_secs(10);

/// Two sides of a tunnel to be.
pub(crate) struct Ends {
    /// The caller's side.
    pub(crate) caller: OnUpgrade,
    /// The service's side.
    pub(crate) callee: OnUpgrade,
}

/// Carries bytes between two upgraded connections in a task of its own, until both have ended, `cut` says so, or the
/// drain is over.
pub(crate) fn tunnel(
    context: &Rc<Context>,
    ends: Ends,
    watch: Watch,
    hold: Hold,
    cut: impl Future<Output = ()> + 'static,
) {
    let mut drain = context.drain.clone();
    let carried = context.tasks.track_future(async move {
        let observation = watch.observation().clone();
        let _held = hold;
        let both = async { tokio::try_join!(ends.caller, ends.callee) };
        let Ok(Ok((caller, callee))) = timeout(HAND_OVER_TIME, both).await else {
            observation.failed(Failure::CallerGone);
            return;
        };
        let (mut caller, mut callee) = (TokioIo::new(caller), TokioIo::new(callee));
        let progress = |sent: u64, received: u64| {
            observation.sent(sent as usize);
            observation.received(received as usize);
        };
        tokio::select! {
            copied = splice(&mut caller, &mut callee, progress) => match copied {
                Ok(()) => observation.complete(),
                Err(_) => observation.failed(Failure::Truncated),
            },
            () = cut => observation.failed(Failure::Denied),
            () = drain.closing() => observation.failed(Failure::Truncated),
        }
    });
    task::spawn_local("tunnel", carried);
}

/// Carries bytes between a caller that asked for it by CONNECT and a TCP connection to a service.
pub(crate) fn connect(
    context: &Rc<Context>,
    caller: OnUpgrade,
    opened: Opened,
    watch: Watch,
    busy: Option<&Busy>,
) {
    if let Some(busy) = busy {
        busy.tunnel();
    }
    let tasks = context.tasks.clone();
    let context = context.clone();
    let carried = tasks.track_future(async move {
        watch.observation().complete();
        let Ok(Ok(caller)) = timeout(HAND_OVER_TIME, caller).await else { return };
        if let Err(error) = opened.carry(&context, &mut TokioIo::new(caller)).await {
            tracing::debug!(%error, "tunnel broke");
        }
    });
    task::spawn_local("connect", carried);
}
