//! Every screen as text: its glyphs, and the style of every cell, because a picture without colours lets colours rot.
//!
//! `MESH_UPDATE_SCREENS=1 cargo test --test fast screens` writes the files anew; look at the difference before keeping it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use mesh::model::view::MeshView;
use mesh::top::event::{Event, Key, Wish};
use mesh::top::health::STATUSES;
use mesh::top::keys::{KEYS, label};
use mesh::top::state::State;
use mesh::top::terminal::offscreen;
use mesh::top::theme::{Depth, Theme};
use mesh::top::update::update;
use mesh::top::view;
use ratatui::buffer::Buffer;

use crate::shop;

/// A console under test.
struct Console {
    state: State,
    now_ms: u64,
}

impl Console {
    fn new() -> Self {
        let theme = Theme::named("dark", Depth::True, false).unwrap();
        Self { state: State::new((120, 40), theme, "https://ctl-1:7443".to_owned(), 0), now_ms: 0 }
    }

    /// A console that has watched the shop up to a second.
    fn watching(until: u64) -> Self {
        static WATCHED: Mutex<BTreeMap<u64, (State, u64)>> = Mutex::new(BTreeMap::new());
        let mut watched = WATCHED.lock().unwrap();
        let (state, now_ms) = watched.entry(until).or_insert_with(|| {
            let mut console = Self::new();
            for second in until.saturating_sub(300)..=until {
                console.see(shop::mesh(second));
            }
            (console.state, console.now_ms)
        });
        Self { state: state.clone(), now_ms: *now_ms }
    }

    fn see(&mut self, mesh: MeshView) {
        self.now_ms += 1000;
        self.event(Event::View(Arc::new(mesh)));
    }

    fn event(&mut self, event: Event) -> Option<Wish> {
        update(&mut self.state, self.now_ms, event).wish
    }

    fn key(&mut self, key: Key) -> &mut Self {
        self.event(Event::Key(key));
        self
    }

    fn press(&mut self, keys: &str) -> &mut Self {
        keys.chars().for_each(|c| {
            self.key(if c == '\n' { Key::Enter } else { Key::Char(c) });
        });
        self
    }

    fn lose(&mut self, seconds: u64) -> &mut Self {
        self.event(Event::Lost { reason: "connection refused".to_owned(), retry_in_ms: 3000 });
        self.now_ms += seconds * 1000;
        self.event(Event::Dialing { attempt: 6 });
        self.event(Event::Lost { reason: "connection refused".to_owned(), retry_in_ms: 3000 });
        self.event(Event::Tick);
        self
    }

    fn draw(&mut self, columns: u16, rows: u16, depth: Depth, ascii: bool) -> Buffer {
        self.event(Event::Resize(columns, rows));
        self.state.theme = Theme::named("dark", depth, ascii).unwrap();
        offscreen(&self.state, columns, rows)
    }

    fn text(&mut self, columns: u16, rows: u16) -> String {
        mesh::top::export::text(&self.draw(columns, rows, Depth::True, false))
    }
}

const LATE: u64 = shop::INCIDENT + 60;

/// Every screen by name.
fn scenes() -> Vec<(&'static str, Console)> {
    let at = |keys: &str| {
        let mut console = Console::watching(LATE);
        console.press(keys);
        console
    };
    let mut healthy = Console::new();
    for second in 0..25 {
        healthy.see(shop::mesh(second));
    }
    let mut empty = Console::new();
    let nobody =
        MeshView { services: Vec::new(), edges: Vec::new(), identities: Vec::new(), ..shop::mesh(5) };
    empty.see(nobody);
    let mut lost = Console::watching(LATE);
    lost.lose(38);
    let mut first = Console::new();
    first.state.looked_in =
        vec!["$MESH_CONTROL (unset)".to_owned(), "/var/lib/mesh/control.sock (absent)".to_owned()];
    first.lose(2);
    vec![
        ("overview", at("")),
        ("overview-healthy", healthy),
        ("overview-empty", empty),
        ("overview-stale", lost),
        ("overview-paused", at(" <")),
        ("first-run", first),
        ("topology", at("2")),
        ("topology-one", at("2o")),
        ("services", at("3")),
        ("service", at(":service payments\n")),
        ("edges", at("4s")),
        ("edge", at("\n")),
        ("nodes", at("5")),
        ("node", at(":node vm-17\n")),
        ("identities", at("6")),
        ("denials", at("7")),
        ("events", at("8")),
        ("filtering", at("3/svc:p* rps>100")),
        ("help", at("?")),
    ]
}

/// Gives every style a letter, the plainest a blank.
fn styles(buffer: &Buffer, legend: &mut BTreeMap<String, char>) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        for x in 0..buffer.area.width {
            let cell = buffer.cell((x, y)).unwrap();
            let style = format!("{:?} on {:?} {:?}", cell.fg, cell.bg, cell.modifier);
            let next = char::from(b'a' + (legend.len() as u8) % 26);
            line.push(match style.as_str() {
                "Reset on Reset NONE" => ' ',
                _ => *legend.entry(style).or_insert(next),
            });
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn picture(console: &mut Console) -> String {
    let mut out = String::new();
    let mut legend = BTreeMap::new();
    for (columns, rows) in [(80, 24), (120, 40)] {
        let buffer = console.draw(columns, rows, Depth::True, false);
        let _ = write!(out, "== {columns}x{rows}\n{}", mesh::top::export::text(&buffer));
        let _ = write!(out, "== {columns}x{rows} styles\n{}", styles(&buffer, &mut legend));
    }
    let mono = console.draw(80, 24, Depth::Mono, false);
    let _ = write!(out, "== 80x24 styles without colour\n{}", styles(&mono, &mut legend));
    let ascii = console.draw(80, 24, Depth::True, true);
    let _ = write!(out, "== 80x24 ascii\n{}", mesh::top::export::text(&ascii));
    for (columns, rows) in [(200, 60), (40, 12), (40, 10), (24, 4)] {
        let _ = write!(out, "== {columns}x{rows}\n{}", console.text(columns, rows));
    }
    out.push_str("== styles\n");
    let mut letters: Vec<(char, String)> =
        legend.into_iter().map(|(style, letter)| (letter, style)).collect();
    letters.sort();
    for (letter, style) in letters {
        let _ = writeln!(out, "{letter} {style}");
    }
    out
}

#[test]
fn every_screen_looks_as_it_was_approved() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/contract/screens");
    let update = std::env::var_os("MESH_UPDATE_SCREENS").is_some();
    let mut different = Vec::new();

    for (name, mut console) in scenes() {
        let path = folder.join(format!("{name}.txt"));
        let seen = picture(&mut console);
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, seen).unwrap();
        } else if std::fs::read_to_string(&path).ok().as_ref() != Some(&seen) {
            different.push(name);
        }
    }

    assert!(different.is_empty(), "these look different: {different:?}; see the head of this file");
}

// --- what holds for every screen --------------------------------------------------------------------------------------

#[test]
fn colour_and_its_absence_say_the_same() {
    for (name, mut console) in scenes() {
        let coloured = mesh::top::export::text(&console.draw(100, 30, Depth::True, false));
        for depth in [Depth::Mono, Depth::Sixteen, Depth::Indexed] {
            let other = mesh::top::export::text(&console.draw(100, 30, depth, false));

            assert_eq!(coloured, other, "{name} differs with {depth:?}");
        }
    }
}

#[test]
fn ascii_terminals_get_nothing_else_and_the_same_layout() {
    for (name, mut console) in scenes() {
        let utf8 = console.draw(100, 30, Depth::True, false);
        let ascii = console.draw(100, 30, Depth::True, true);

        let body = |buffer: &Buffer| {
            buffer.content.iter().take(100 * 29).map(|c| c.symbol() == " ").collect::<Vec<_>>()
        };
        assert!(ascii.content.iter().all(|cell| cell.symbol().is_ascii()), "{name}");
        assert_eq!(body(&utf8), body(&ascii), "{name}");
    }
}

#[test]
fn the_help_page_is_the_key_table() {
    let page = Console::watching(3).press("?").text(120, 60);

    for binding in KEYS {
        let told = |line: &str| line.contains(binding.help) && line.contains(&label(binding));
        assert!(page.lines().any(told), "{} is missing", binding.help);
    }
}

#[test]
fn every_key_means_one_thing() {
    let mut seen = BTreeMap::new();

    for binding in KEYS {
        for key in binding.keys {
            assert!(seen.insert(*key, binding.help).is_none(), "{key} is bound twice");
        }
    }
}

#[test]
fn every_status_has_a_glyph_and_a_word_of_its_own() {
    let glyphs: BTreeMap<char, &str> =
        STATUSES.iter().map(|status| (status.glyph(), status.word())).collect();
    let words: BTreeMap<&str, char> = STATUSES.iter().map(|status| (status.word(), status.glyph())).collect();

    assert_eq!(glyphs.len(), STATUSES.len());
    assert_eq!(words.len(), STATUSES.len());
    for ascii in [false, true] {
        let theme = Theme::named("dark", Depth::Mono, ascii).unwrap();
        let drawn: BTreeMap<char, char> = glyphs.keys().map(|glyph| (theme.glyph(*glyph), *glyph)).collect();
        assert_eq!(drawn.len(), STATUSES.len(), "two look the same in ASCII");
    }
}

#[test]
fn a_healthy_mesh_is_quiet() {
    let mut console = Console::new();
    for second in 0..60 {
        console.see(MeshView { identities: Vec::new(), ..shop::mesh(second) });
    }
    let theme = Theme::named("dark", Depth::True, false).unwrap();
    let loud: Vec<_> =
        [mesh::top::theme::Role::Warn, mesh::top::theme::Role::Bad, mesh::top::theme::Role::Deny]
            .into_iter()
            .map(|role| theme.style(role).fg)
            .collect();

    let screen = console.draw(120, 40, Depth::True, false);

    let shouting =
        screen.content.iter().filter(|cell| loud.contains(&Some(cell.fg)) && cell.symbol() != " ").count();
    assert!(shouting * 100 <= screen.content.len() * 2, "{shouting} cells");
}

#[test]
fn a_steady_second_changes_few_cells_of_the_heat_map() {
    let mut console = Console::watching(150);
    let before = console.draw(120, 40, Depth::True, false);
    console.see(shop::mesh(151));
    let after = console.draw(120, 40, Depth::True, false);

    let heat = |x: u16, y: u16| (1..75).contains(&x) && (32..39).contains(&y);
    let changed = before.diff(&after).into_iter().filter(|(x, y, _)| heat(*x, *y)).count();
    assert!(changed <= 3 * 8, "{changed} cells of the heat map changed: it scrolls");
}

// --- what people do ---------------------------------------------------------------------------------------------------

#[test]
fn from_a_red_line_to_its_two_sides_is_one_key() {
    let text = Console::watching(LATE).press("\n").text(120, 40);

    assert!(text.contains("edge checkout→payments"), "{text}");
    assert!(text.contains("client sees") && text.contains("server sees"));
}

#[test]
fn losing_the_stream_keeps_the_data_and_says_its_age() {
    let mut console = Console::watching(LATE);
    console.lose(38);

    let text = console.text(120, 40);

    assert!(
        text.contains("× STALE 38s") && text.contains("connection refused") && text.contains("retry in 3s")
    );
    assert!(text.contains("payments") && text.contains("94.21"));
}

#[test]
fn a_gap_in_the_data_is_drawn_as_a_gap_and_stays_one() {
    let mut console = Console::watching(60);
    console.lose(30);
    for second in 95..110 {
        console.see(shop::mesh(second));
    }

    let text = console.press("8").text(120, 40);

    let rates = text.lines().find(|line| line.contains("│ rps")).unwrap();
    assert!(rates.contains('┊'), "{rates}");
    assert!(text.contains("● LIVE"));
}

#[test]
fn a_console_that_never_connected_says_what_to_do() {
    let mut console = Console::new();
    console.lose(2);

    let text = console.text(80, 24);

    for next in ["connection refused", "mesh control", "mesh demo", "mesh top --proxy", "r retry now"] {
        assert!(text.contains(next), "{next} is missing in\n{text}");
    }
    assert_eq!(console.event(Event::Key(Key::Char('r'))), Some(Wish::Retry));
}

#[test]
fn pausing_freezes_every_view_and_leaves_time_to_go_back_to() {
    let mut console = Console::watching(LATE);
    console.press(" ");
    let frozen = console.text(120, 40);
    for second in LATE + 1..LATE + 20 {
        console.see(shop::mesh(second));
    }

    assert_eq!(console.text(120, 40), frozen);
    console.press("<<");
    assert!(console.text(120, 40).contains("‖ PAUSED 12:02:2"));
    console.press("F");
    assert!(console.text(120, 40).contains("● LIVE 12:04:39"));
}

#[test]
fn forty_by_ten_still_shows_what_needs_attention_and_less_is_one_line() {
    let mut console = Console::watching(LATE);

    assert!(console.text(40, 10).contains("× checkout→payments"));
    let line = console.text(19, 4);
    assert_eq!(line.lines().filter(|line| !line.is_empty()).count(), 1);
    assert!(!console.text(12, 2).to_lowercase().contains("small"));
}

#[test]
fn a_filter_narrows_and_a_wrong_one_is_shown_as_wrong() {
    let mut console = Console::watching(LATE);

    let narrowed = console.press("3/svc:pay*").text(100, 30);
    assert!(narrowed.contains("× payments") && !narrowed.contains("edge-gw"));
    console.key(Key::Esc);
    let wrong = console.press("/speed>3").text(100, 30);
    assert!(wrong.contains("not understood: speed>3"), "{wrong}");
    assert!(console.key(Key::Esc).text(100, 30).contains("edge-gw"));
}

#[test]
fn commands_go_to_views_and_to_things() {
    let mut console = Console::watching(LATE);

    assert!(console.press(":service pay\n").text(100, 30).contains("service payments"));
    assert!(console.press(":node vm-17\n").text(100, 30).contains("node vm-17"));
    assert!(console.press(":edges checkout->pay\n").text(100, 30).contains("edge checkout→payments"));
    assert!(console.press("[[").text(100, 30).contains("service payments"));
    assert!(console.press(":nonsense\n").text(100, 30).contains("no view or command 'nonsense'"));
    assert_eq!(console.press(":q").event(Event::Key(Key::Enter)), Some(Wish::Quit));
}

#[test]
fn every_view_says_the_command_that_prints_it() {
    for index in 1..=8 {
        let mut console = Console::watching(3);
        console.key(Key::Char(char::from_digit(index, 10).unwrap()));

        let wish = console.event(Event::Key(Key::Char('c')));

        let Some(Wish::Copy(command)) = wish else { panic!("nothing was copied") };
        let name = command.rsplit(' ').next().unwrap();
        assert_eq!(view::named(name), Some(index as usize - 1), "{command}");
    }
}
