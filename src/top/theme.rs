//! Colours and glyphs by meaning. Views name a role; what it looks like is decided here, for each theme, for as many
//! colours as the terminal has, and for terminals that know no more than ASCII.

use ratatui::style::{Color, Modifier, Style};

use crate::top::health::Status;

/// What something on the screen means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named for what they mean")]
pub enum Role {
    Text,
    Strong,
    Dim,
    Border,
    Accent,
    Ok,
    Warn,
    Bad,
    Idle,
    Deny,
    /// Of the heat map, 0 (few) to 7 (most).
    Heat(u8),
}

impl From<Status> for Role {
    fn from(status: Status) -> Self {
        match status {
            Status::Ok => Self::Ok,
            Status::Idle => Self::Idle,
            Status::Deny => Self::Deny,
            Status::Warn => Self::Warn,
            Status::Bad => Self::Bad,
        }
    }
}

/// How many colours the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// None: bold, dim and reverse only.
    Mono,
    /// The sixteen of the terminal's own palette.
    Sixteen,
    /// The cube of 256.
    Indexed,
    /// 24 bits.
    True,
}

type Rgb = (u8, u8, u8);

/// The colours of one theme. `text` is left to the terminal where it is `None`.
#[derive(Debug)]
struct Palette {
    name: &'static str,
    text: Option<Rgb>,
    strong: Option<Rgb>,
    dim: Rgb,
    border: Rgb,
    accent: Rgb,
    ok: Rgb,
    warn: Rgb,
    bad: Rgb,
    idle: Rgb,
    deny: Rgb,
    selected: Rgb,
    heat: [Rgb; 8],
}

/// From slate to pale sea green: lightness alone tells the steps apart, so every kind of colour vision can.
const HEAT_ON_DARK: [Rgb; 8] = [
    (58, 72, 98),
    (66, 88, 118),
    (60, 98, 128),
    (54, 112, 134),
    (56, 130, 140),
    (74, 150, 146),
    (108, 172, 152),
    (152, 198, 168),
];
/// The same, for paper: pale to dark.
const HEAT_ON_LIGHT: [Rgb; 8] = [
    (188, 206, 206),
    (164, 196, 194),
    (132, 182, 180),
    (98, 164, 166),
    (66, 142, 150),
    (44, 118, 136),
    (32, 92, 118),
    (22, 62, 94),
];

static PALETTES: [Palette; 5] = [
    Palette {
        name: "dark",
        text: None,
        strong: None,
        dim: (124, 134, 148),
        border: (72, 82, 96),
        accent: (97, 175, 239),
        ok: (115, 180, 130),
        warn: (229, 186, 96),
        bad: (242, 104, 104),
        idle: (124, 134, 148),
        deny: (206, 140, 222),
        selected: (38, 48, 64),
        heat: HEAT_ON_DARK,
    },
    Palette {
        name: "light",
        text: None,
        strong: None,
        dim: (104, 110, 120),
        border: (168, 174, 184),
        accent: (0, 92, 176),
        ok: (20, 118, 66),
        warn: (150, 94, 0),
        bad: (190, 20, 36),
        idle: (104, 110, 120),
        deny: (136, 40, 152),
        selected: (218, 228, 242),
        heat: HEAT_ON_LIGHT,
    },
    Palette {
        name: "high-contrast",
        text: Some((255, 255, 255)),
        strong: Some((255, 255, 255)),
        dim: (200, 200, 200),
        border: (170, 170, 170),
        accent: (0, 215, 255),
        ok: (95, 255, 135),
        warn: (255, 235, 0),
        bad: (255, 85, 85),
        idle: (200, 200, 200),
        deny: (255, 135, 255),
        selected: (0, 60, 140),
        heat: HEAT_ON_DARK,
    },
    Palette {
        name: "okabe-ito",
        text: None,
        strong: None,
        dim: (130, 138, 148),
        border: (78, 86, 98),
        accent: (86, 180, 233),
        ok: (0, 158, 115),
        warn: (230, 159, 0),
        bad: (213, 94, 0),
        idle: (130, 138, 148),
        deny: (204, 121, 167),
        selected: (36, 50, 66),
        heat: HEAT_ON_DARK,
    },
    Palette {
        name: "mono",
        text: None,
        strong: None,
        dim: (128, 128, 128),
        border: (128, 128, 128),
        accent: (255, 255, 255),
        ok: (255, 255, 255),
        warn: (255, 255, 255),
        bad: (255, 255, 255),
        idle: (128, 128, 128),
        deny: (255, 255, 255),
        selected: (64, 64, 64),
        heat: HEAT_ON_DARK,
    },
];

/// A theme on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    index: usize,
    depth: Depth,
    ascii: bool,
}

/// Returns the names of all themes.
pub fn names() -> impl Iterator<Item = &'static str> {
    PALETTES.iter().map(|palette| palette.name)
}

impl Theme {
    /// Returns the theme of that name; `None` when there is none.
    pub fn named(name: &str, depth: Depth, ascii: bool) -> Option<Self> {
        let index = PALETTES.iter().position(|palette| palette.name == name)?;
        Some(Self { index, depth, ascii })
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        self.palette().name
    }

    /// Returns the theme for a light background, or for a dark one.
    #[must_use]
    pub fn on(self, light: bool) -> Self {
        Self::named(if light { "light" } else { "dark" }, self.depth, self.ascii).unwrap_or(self)
    }

    /// Returns the theme after this one, round and round.
    #[must_use]
    pub fn next(self) -> Self {
        Self { index: (self.index + 1) % PALETTES.len(), ..self }
    }

    /// Returns whether only ASCII is drawn.
    pub fn is_ascii(self) -> bool {
        self.ascii
    }

    fn palette(self) -> &'static Palette {
        PALETTES.get(self.index).unwrap_or(&PALETTES[0])
    }

    fn depth(self) -> Depth {
        if self.palette().name == "mono" { Depth::Mono } else { self.depth }
    }

    /// Returns what a role looks like.
    pub fn style(self, role: Role) -> Style {
        let style = match self.depth() {
            Depth::Mono => Style::new().fg(Color::Reset),
            Depth::Sixteen => Self::sixteen(role),
            Depth::Indexed | Depth::True => match self.rgb(role) {
                Some(rgb) => Style::new().fg(self.color(rgb)),
                None => Style::new().fg(Color::Reset),
            },
        };
        style.add_modifier(self.modifier(role))
    }

    /// Returns what something looks like that is no longer so.
    pub fn faded(self) -> Style {
        let modifier = if self.depth() == Depth::Mono { Modifier::DIM } else { Modifier::empty() };
        self.style(Role::Dim).add_modifier(modifier)
    }

    /// Returns what is put over a selected line.
    pub fn selection(self) -> Style {
        match self.depth() {
            Depth::Mono | Depth::Sixteen => Style::new().add_modifier(Modifier::REVERSED),
            Depth::Indexed | Depth::True => Style::new().bg(self.color(self.palette().selected)),
        }
    }

    fn modifier(self, role: Role) -> Modifier {
        match role {
            Role::Strong | Role::Bad => Modifier::BOLD,
            Role::Accent if self.depth() == Depth::Mono => Modifier::BOLD,
            Role::Dim | Role::Border | Role::Idle if self.depth() == Depth::Mono => Modifier::DIM,
            Role::Text
            | Role::Dim
            | Role::Border
            | Role::Accent
            | Role::Ok
            | Role::Warn
            | Role::Idle
            | Role::Deny
            | Role::Heat(_) => Modifier::empty(),
        }
    }

    fn sixteen(role: Role) -> Style {
        let color = match role {
            Role::Text | Role::Strong => Color::Reset,
            Role::Dim | Role::Border | Role::Idle => Color::DarkGray,
            Role::Accent => Color::LightBlue,
            Role::Ok => Color::Cyan,
            Role::Bad => Color::LightRed,
            Role::Deny => Color::Magenta,
            Role::Heat(level) if level < 3 => Color::Blue,
            Role::Heat(level) if level < 6 => Color::Cyan,
            Role::Warn | Role::Heat(_) => Color::Yellow,
        };
        Style::new().fg(color)
    }

    fn rgb(self, role: Role) -> Option<Rgb> {
        let palette = self.palette();
        Some(match role {
            Role::Text => return palette.text,
            Role::Strong => return palette.strong,
            Role::Dim => palette.dim,
            Role::Border => palette.border,
            Role::Accent => palette.accent,
            Role::Ok => palette.ok,
            Role::Warn => palette.warn,
            Role::Bad => palette.bad,
            Role::Idle => palette.idle,
            Role::Deny => palette.deny,
            Role::Heat(level) => return palette.heat.get(usize::from(level.min(7))).copied(),
        })
    }

    fn color(self, (r, g, b): Rgb) -> Color {
        if self.depth() == Depth::True { Color::Rgb(r, g, b) } else { Color::Indexed(nearest((r, g, b))) }
    }

    /// Returns the character drawn for `c`: itself, its ASCII stand-in, or `?` for what is not one cell wide.
    pub fn glyph(self, c: char) -> char {
        if (' '..='~').contains(&c) {
            return c;
        }
        let listed = GLYPHS.iter().find(|(glyph, _)| *glyph == c).map(|(_, ascii)| *ascii);
        let stand_in = listed.or_else(|| line_stand_in(c));
        match stand_in {
            Some(ascii) if self.ascii => ascii,
            Some(_) => c,
            None if !self.ascii && is_plain_letter(c) => c,
            None => '?',
        }
    }
}

/// Every glyph the console draws, with its ASCII stand-in. All are one cell wide everywhere outside of CJK locales.
#[rustfmt::skip]
static GLYPHS: &[(char, char)] = &[
    ('●', '*'), ('○', 'o'), ('×', 'x'), ('⊘', 'D'), ('▸', '>'), ('◂', '<'), ('▾', 'v'), ('▴', '^'),
    ('→', '>'), ('←', '<'), ('↑', '^'), ('↓', 'v'), ('↺', '@'), ('⏎', '>'), ('…', '.'), ('–', '-'), ('·', '.'),
    ('•', '*'), ('√', 'v'), ('≤', '<'), ('≥', '>'), ('‖', '='), ('Σ', 'S'), ('µ', 'u'),
    ('▁', '_'), ('▂', '.'), ('▃', '-'), ('▄', '-'), ('▅', '='), ('▆', '='), ('▇', '#'), ('█', '#'), ('▏', '|'),
    ('▎', '|'), ('▍', '|'), ('▌', '|'), ('▋', '#'), ('▊', '#'), ('▉', '#'), ('░', ':'), ('▒', '='), ('▓', '%'),
];

/// Returns the ASCII stand-in of a box-drawing character.
fn line_stand_in(c: char) -> Option<char> {
    Some(match c {
        '─' | '╌' | '╴' | '╶' | '╼' | '╾' => '-',
        '│' | '╵' | '╷' => '|',
        '┊' => ':',
        '━' | '═' | '╸' | '╺' => '=',
        '┃' | '║' | '╹' | '╻' | '╽' | '╿' => '#',
        '\u{2500}'..='\u{257f}' => '+',
        _ => return None,
    })
}

/// Letters of Latin, Greek and Cyrillic: one cell each, and what names and messages may hold.
fn is_plain_letter(c: char) -> bool {
    matches!(c, '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{24f}' | '\u{391}'..='\u{3ff}' | '\u{410}'..='\u{44f}')
}

/// Returns the index of the colour of the 6×6×6 cube or the grey ramp that is nearest.
fn nearest(rgb: Rgb) -> u8 {
    let level = |part: u8| -> u8 {
        match part {
            0..48 => 0,
            48..115 => 1,
            _ => (part - 35) / 40,
        }
    };
    let value = |level: u8| -> u8 { if level == 0 { 0 } else { 55 + level * 40 } };
    let distance = |other: Rgb| -> u32 {
        let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
        square(rgb.0, other.0) + square(rgb.1, other.1) + square(rgb.2, other.2)
    };
    let levels = (level(rgb.0), level(rgb.1), level(rgb.2));
    let cube = distance((value(levels.0), value(levels.1), value(levels.2)));
    let mean = ((u16::from(rgb.0) + u16::from(rgb.1) + u16::from(rgb.2)) / 3) as u8;
    let step = (mean.saturating_sub(3) / 10).min(23);
    let grey = 8 + step * 10;
    if distance((grey, grey, grey)) < cube {
        232 + step
    } else {
        16 + 36 * levels.0 + 6 * levels.1 + levels.2
    }
}
