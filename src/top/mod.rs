//! The live console.

pub mod format;
pub mod event;
pub mod keys;
pub mod target;
pub mod history;
pub mod health;
pub mod lint;
pub mod filter;
pub mod theme;
pub mod state;
pub mod canvas;
pub mod layout;
pub mod widget;
pub mod view;
pub mod update;
pub mod screen;
