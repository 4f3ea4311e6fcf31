//! Links between two proxies, and to applications, over connections in memory: what streams promise, and what no peer can do.

mod scene;
mod streams;
mod hostile;
mod life;
mod http2;
