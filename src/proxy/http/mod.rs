//! The path of a request, in the order of its stages.
//!
//! [`observe`] knows what became of it, [`stall`] whether anything still does, [`payload`] keeps what may be sent again, [`message`] is
//! what a head says beyond itself, [`exchange`] moves what goes up and what comes down, [`reply`] is what we answer ourselves, [`client`] the
//! connections, [`websocket`] what HTTP/1 and HTTP/2 do not share of it, [`course`] which endpoint is tried next,
//! [`forward`] one way over them, [`tunnel`] what is no request any more, [`finish`] hands an answer to the caller,
//! [`mirror`] sends copies, [`filtering`] does what routes want besides, [`pipeline`] is the order of it all, [`serve`] the
//! connections it comes on.

pub(crate) mod message;
pub(crate) mod observe;
pub(crate) mod stall;
pub(crate) mod payload;
pub(crate) mod exchange;
pub(crate) mod reply;
pub(crate) mod client;
pub(crate) mod websocket;
pub(crate) mod permission;
pub(crate) mod course;
pub(crate) mod forward;
pub(crate) mod tunnel;
pub(crate) mod finish;
pub(crate) mod mirror;
pub(crate) mod filtering;
pub(crate) mod pipeline;
pub(crate) mod serve;
