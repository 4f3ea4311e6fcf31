//! The link between two proxies, over connections in memory: what streams promise, and what no peer can do.

mod scene;
mod streams;
mod hostile;
mod life;
