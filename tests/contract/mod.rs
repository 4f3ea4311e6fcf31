//! What others see, as snapshots.

mod disk;
mod store;
mod authority;
