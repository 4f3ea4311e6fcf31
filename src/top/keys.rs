//! Every key of the console, as data: what `update` obeys and what the help page shows.

use crate::top::event::Key;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "said by the help text of their binding")]
pub enum Action {
    Down,
    Up,
    Left,
    Right,
    First,
    Last,
    HalfDown,
    HalfUp,
    PageDown,
    PageUp,
    NextPanel,
    PreviousPanel,
    Tab,
    LastView,
    Back,
    Forward,
    Leave,
    Open,
    Filter,
    Command,
    Faults,
    Sort,
    Reverse,
    SortName,
    SortErrors,
    SortRate,
    SortLatency,
    Topology,
    Layout,
    Why,
    Copy,
    Pause,
    Earlier,
    Later,
    MinuteEarlier,
    MinuteLater,
    Live,
    Zoom,
    Theme,
    Mouse,
    Save,
    Repaint,
    Suspend,
    Help,
    Quit,
}

/// One line of the key table.
#[derive(Debug)]
pub struct Binding {
    /// The keys, any of which will do.
    pub keys: &'static [Key],
    /// What they do.
    pub action: Action,
    /// Under which heading the help page lists it.
    pub group: &'static str,
    /// What it does, in a few words.
    pub help: &'static str,
}

const fn bind(group: &'static str, keys: &'static [Key], action: Action, help: &'static str) -> Binding {
    Binding { keys, action, group, help }
}

/// The table.
#[rustfmt::skip]
pub static KEYS: &[Binding] = &[
    bind("move", &[Key::Char('j'), Key::Down], Action::Down, "next line"),
    bind("move", &[Key::Char('k'), Key::Up], Action::Up, "previous line"),
    bind("move", &[Key::Char('h'), Key::Left], Action::Left, "to the caller; previous panel"),
    bind("move", &[Key::Char('l'), Key::Right], Action::Right, "to the called; next panel"),
    bind("move", &[Key::Char('g'), Key::Home], Action::First, "first line"),
    bind("move", &[Key::Char('G'), Key::End], Action::Last, "last line"),
    bind("move", &[Key::Ctrl('d')], Action::HalfDown, "half a page down"),
    bind("move", &[Key::Ctrl('u')], Action::HalfUp, "half a page up"),
    bind("move", &[Key::Ctrl('f'), Key::PageDown], Action::PageDown, "a page down"),
    bind("move", &[Key::Ctrl('b'), Key::PageUp], Action::PageUp, "a page up"),
    bind("move", &[Key::Tab], Action::NextPanel, "next panel"),
    bind("move", &[Key::BackTab], Action::PreviousPanel, "previous panel"),
    bind("go", &[Key::Enter], Action::Open, "open what the cursor is on"),
    bind("go", &[Key::Esc], Action::Leave, "up one level; ends filter, pause, zoom"),
    bind("go", &[Key::Char('1'), Key::Char('2'), Key::Char('3'), Key::Char('4'), Key::Char('5'),
                 Key::Char('6'), Key::Char('7'), Key::Char('8'), Key::Char('9')], Action::Tab, "go to a view"),
    bind("go", &[Key::Char('-')], Action::LastView, "the place before this one"),
    bind("go", &[Key::Char('[')], Action::Back, "back in the history of places"),
    bind("go", &[Key::Char(']')], Action::Forward, "forward in it"),
    bind("go", &[Key::Char('T')], Action::Topology, "this in the topology"),
    bind("go", &[Key::Char(':')], Action::Command, "command: a view's name, :q, :theme NAME"),
    bind("go", &[Key::Char('?')], Action::Help, "this page"),
    bind("go", &[Key::Char('q'), Key::Ctrl('c')], Action::Quit, "quit"),
    bind("find", &[Key::Char('/')], Action::Filter, "filter the lines"),
    bind("find", &[Key::Char('f')], Action::Faults, "only what is at fault"),
    bind("find", &[Key::Char('s')], Action::Sort, "sort by the next column"),
    bind("find", &[Key::Char('r')], Action::Reverse, "reverse; while not connected, retry now"),
    bind("find", &[Key::Char('N')], Action::SortName, "sort by name"),
    bind("find", &[Key::Char('E')], Action::SortErrors, "sort by errors"),
    bind("find", &[Key::Char('R')], Action::SortRate, "sort by rate"),
    bind("find", &[Key::Char('L')], Action::SortLatency, "sort by latency"),
    bind("time", &[Key::Char(' ')], Action::Pause, "pause everything, or go on"),
    bind("time", &[Key::Char(',')], Action::Earlier, "a second earlier"),
    bind("time", &[Key::Char('.')], Action::Later, "a second later"),
    bind("time", &[Key::Char('<')], Action::MinuteEarlier, "a minute earlier"),
    bind("time", &[Key::Char('>')], Action::MinuteLater, "a minute later"),
    bind("time", &[Key::Char('F')], Action::Live, "back to live"),
    bind("act", &[Key::Char('x')], Action::Why, "copy the command that says why"),
    bind("act", &[Key::Char('c')], Action::Copy, "copy the command that prints this"),
    bind("act", &[Key::Ctrl('s')], Action::Save, "save the frame as SVG"),
    bind("screen", &[Key::Char('z')], Action::Zoom, "this panel alone"),
    bind("screen", &[Key::Char('o')], Action::Layout, "topology: one service, or all"),
    bind("screen", &[Key::Ctrl('t')], Action::Theme, "next theme"),
    bind("screen", &[Key::Char('M')], Action::Mouse, "mouse on or off"),
    bind("screen", &[Key::Ctrl('l')], Action::Repaint, "draw again"),
    bind("screen", &[Key::Ctrl('z')], Action::Suspend, "suspend"),
];

/// Returns what `key` asks for outside a prompt.
pub fn action(key: Key) -> Option<Action> {
    KEYS.iter().find(|binding| binding.keys.contains(&key)).map(|binding| binding.action)
}

/// Returns the keys of a binding as text: `j ↓`, `1…9`.
pub fn label(binding: &Binding) -> String {
    match binding.keys {
        [first, .., last] if binding.keys.len() > 3 => format!("{first}…{last}"),
        keys => keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}
