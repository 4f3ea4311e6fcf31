//! The questions asked around every call: until when ([`timeouts`], [`deadline`]), is there room for it ([`limits`],
//! [`concurrency`]), is it too often ([`rate`]), how did it end ([`outcome`]), may it be tried again ([`retry`], out of a
//! [`budget`], after a [`backoff`]), is this endpoint worth trying ([`avoid`], [`outlier`]), is this instance healthy
//! ([`probe`]); and what if it were not ([`fault`]).

pub mod backoff;
pub mod timeouts;
pub mod deadline;
pub mod limits;
pub mod concurrency;
pub mod rate;
pub mod outcome;
pub mod budget;
pub mod retry;
pub mod avoid;
pub mod outlier;
pub mod probe;
pub mod fault;
