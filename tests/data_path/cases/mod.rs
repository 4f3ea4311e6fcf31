//! The cases that a data plane owes an answer to, by their numbers in the table of black-box cases: each through real
//! sockets and real workers, with one proxy (its outbound side calls its own inbound side) and with two.

pub(crate) mod scene;
mod wire;
mod frames;
mod two;
pub(crate) mod service;
mod ask;
mod framing;
mod heads;
mod connections;
mod bodies;
mod expect;
mod upgrades;
mod http2;
mod answers;
mod floods;
mod failures;
mod limits;
mod timeouts;
mod refusals;
mod resending;
mod choices;
mod identities;
mod leaving;
mod counts;
mod tcp;
mod stuck;
mod logs;
