//! The data path from end to end, in one process: two or more proxies with their workers, applications behind them, callers
//! before them, over loopback.

mod mesh;
mod app;
mod caller;
mod http1;
mod http2;
mod endpoints;
mod tunnels;
mod tcp;
mod policy;
mod intentions;
mod drain;
mod cases;
mod retries;
mod chain;
mod ejection;
mod admission;
mod balancing;
mod patience;
mod routes;
