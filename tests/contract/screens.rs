//! Every screen as text: its glyphs, and the style of every cell, because a picture without colours lets colours rot.
//!
//! `MESH_UPDATE_SCREENS=1 cargo test --test fast screens` writes the files anew; look at the difference before keeping it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use mesh::model::view::MeshView;
use mesh::top::canvas::Scene;
use mesh::top::event::{Event, Key, Wish};
use mesh::top::health::STATUSES;
use mesh::top::keys::{KEYS, label};
use mesh::top::state::State;
use mesh::top::terminal::offscreen;
use mesh::top::theme::{Depth, Theme};
use mesh::top::update::update;
use mesh::top::view;
use ratatui::buffer::Buffer;

#[path = "../data/shop.rs"]
mod shop;

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
        let mut console = Self::new();
        for second in until.saturating_sub(300)..=until {
            console.see(shop::mesh(second));
        }
        console
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
