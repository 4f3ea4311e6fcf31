//! What can happen to the console: a key, a turn of the wheel, another size, data, the loss of data, a second.

use std::fmt;
use std::sync::Arc;

use crate::model::view::MeshView;

/// A key as the console knows them. Everything else is ignored where keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named for the key")]
pub enum Key {
    Char(char),
    Ctrl(char),
    Enter,
    Esc,
    Tab,
    BackTab,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char(' ') => f.write_str("space"),
            Self::Char(c) => write!(f, "{c}"),
            Self::Ctrl(c) => write!(f, "ctrl-{c}"),
            Self::Enter => f.write_str("⏎"),
            Self::Esc => f.write_str("esc"),
            Self::Tab => f.write_str("tab"),
            Self::BackTab => f.write_str("shift-tab"),
            Self::Backspace => f.write_str("backspace"),
            Self::Up => f.write_str("↑"),
            Self::Down => f.write_str("↓"),
            Self::Left => f.write_str("←"),
            Self::Right => f.write_str("→"),
            Self::Home => f.write_str("home"),
            Self::End => f.write_str("end"),
            Self::PageUp => f.write_str("pgup"),
            Self::PageDown => f.write_str("pgdn"),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A key was pressed.
    Key(Key),
    /// The wheel was turned: lines down, negative for up.
    Wheel(i8),
    /// A click on a cell: column, row.
    Click(u16, u16),
    /// The terminal has another size: columns, rows.
    Resize(u16, u16),
    /// A connection is being made; counts the attempts since the last data.
    Dialing {
        /// 1 for the first.
        attempt: u32,
    },
    /// The terminal has said whether its background is light.
    Background {
        /// Whether it is.
        light: bool,
    },
    /// The mesh as it is.
    View(Arc<MeshView>),
    /// The stream of views ended.
    Lost {
        /// Why, in words.
        reason: String,
        /// When it will be tried again, from the moment of this event.
        retry_in_ms: u64,
    },
    /// Time has passed.
    Tick,
}

/// What an event asks of the shell around the pure state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Leave at once.
    Quit,
    /// Hand the terminal back to the shell, as ctrl-z does.
    Suspend,
    /// Draw every cell again.
    Repaint,
    /// Connect now rather than after the wait.
    Retry,
    /// Put a text on the clipboard of the terminal.
    Copy(String),
    /// Switch the reporting of the mouse on or off.
    Mouse(bool),
    /// Write the frame to a file.
    Save,
}
