//! The questions asked around every call: until when ([`deadline`]), how long to wait before the next try ([`backoff`]), is
//! this endpoint worth trying ([`avoid`]), is this instance healthy ([`probe`]).

pub mod backoff;
pub mod deadline;
pub mod avoid;
pub mod probe;
