//! What others see, as snapshots.
