//! Names of services as hosts see them: the address that stands for each, and what a name server says of them.

pub mod similar;
pub mod book;
pub mod zone;
