//! The columns of traffic, the same wherever something has some: how much of it is well, how much there is, how long it
//! takes.

use crate::model::view::{EdgeView, RouteView, ServiceView, TrafficView};
use crate::top::canvas::Scene;
use crate::top::health::{Status, judge};
use crate::top::theme::Role;
use crate::top::widget::table::{Cell, Column, Rank, Width, percentile, rate, success};

/// Something that has traffic.
pub trait Flow {
    /// Returns its traffic.
    fn traffic(&self) -> &TrafficView;
    /// Returns how it is.
    fn status(&self, scene: &Scene<'_>) -> Status;
}

impl Flow for EdgeView {
    fn traffic(&self) -> &TrafficView {
        &self.traffic
    }

    fn status(&self, scene: &Scene<'_>) -> Status {
        scene.edge_status(self)
    }
}

impl Flow for ServiceView {
    fn traffic(&self) -> &TrafficView {
        &self.traffic
    }

    fn status(&self, scene: &Scene<'_>) -> Status {
        scene.service_status(self)
    }
}

impl Flow for RouteView {
    fn traffic(&self) -> &TrafficView {
        &self.traffic
    }

    fn status(&self, _scene: &Scene<'_>) -> Status {
        judge(&self.traffic, None)
    }
}

/// Returns the share of success.
pub const fn ok<T: Flow>() -> Column<T> {
    Column {
        title: "OK%",
        width: Width::Fixed(7),
        right: true,
        drop: 1,
        cell: |scene, row, _| success(row.traffic(), row.status(scene)),
        rank: Some(|_, row| Rank::Number(1.0 - row.traffic().success().unwrap_or(1.0))),
    }
}

/// Returns requests per second.
pub const fn rps<T: Flow>() -> Column<T> {
    Column {
        title: "RPS",
        width: Width::Fixed(7),
        right: true,
        drop: 2,
        cell: |_, row, _| rate(row.traffic().requests_per_second),
        rank: Some(|_, row| Rank::Number(row.traffic().requests_per_second)),
    }
}

/// Returns the median latency.
pub const fn p50<T: Flow>() -> Column<T> {
    Column {
        title: "P50",
        width: Width::Fixed(8),
        right: true,
        drop: 5,
        cell: |_, row, _| percentile(row.traffic(), row.traffic().latency_ms.p50),
        rank: Some(|_, row| Rank::Number(row.traffic().latency_ms.p50.unwrap_or(-1.0))),
    }
}

/// Returns the latency that 95 of 100 stay below.
pub const fn p95<T: Flow>() -> Column<T> {
    Column {
        title: "P95",
        width: Width::Fixed(8),
        right: true,
        drop: 6,
        cell: |_, row, _| percentile(row.traffic(), row.traffic().latency_ms.p95),
        rank: Some(|_, row| Rank::Number(row.traffic().latency_ms.p95.unwrap_or(-1.0))),
    }
}

/// Returns the latency that 99 of 100 stay below.
pub const fn p99<T: Flow>() -> Column<T> {
    Column {
        title: "P99",
        width: Width::Fixed(8),
        right: true,
        drop: 3,
        cell: |_, row, _| percentile(row.traffic(), row.traffic().latency_ms.p99),
        rank: Some(|_, row| Rank::Number(row.traffic().latency_ms.p99.unwrap_or(-1.0))),
    }
}

/// Returns retries as a share of requests; `drop` as in [`Column`].
pub const fn retries<T: Flow>(drop: u8) -> Column<T> {
    Column {
        title: "RETRY",
        width: Width::Fixed(7),
        right: true,
        drop,
        cell: |_, row, _| retry_share(row.traffic()),
        rank: Some(|_, row| Rank::Number(row.traffic().retries_per_second)),
    }
}

fn retry_share(traffic: &TrafficView) -> Cell {
    if traffic.requests_per_second <= 0.0 || traffic.retries_per_second <= 0.0 {
        return Cell::new("0%", Role::Dim);
    }
    let share = traffic.retries_per_second / traffic.requests_per_second * 100.0;
    Cell::new(format!("{:.0}%", share.min(999.0).ceil()), if share >= 10.0 { Role::Warn } else { Role::Text })
}
