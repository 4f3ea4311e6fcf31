//! What is measured and how it adds up. Latencies are microseconds inside, seconds in Prometheus, milliseconds in JSON.

pub mod histogram;
pub mod asked;
pub mod report;
pub mod total;
pub mod window;
pub mod hours;
pub mod rollup;
pub mod view;
