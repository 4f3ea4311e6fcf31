//! Help: the key table as it is, and the filter language.

use ratatui::layout::Rect;

use crate::top::canvas::{Canvas, Scene, View};
use crate::top::filter::{FIELDS, QUANTITIES};
use crate::top::health::STATUSES;
use crate::top::keys::{KEYS, label};
use crate::top::target::Target;
use crate::top::theme::{Role, names};
use crate::top::widget::table::first_line;

/// The view.
#[derive(Debug)]
pub struct Help;

/// Returns the page: a heading, or what is pressed and what it does.
pub fn lines() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut group = "";
    for binding in KEYS {
        if binding.group != group {
            group = binding.group;
            lines.push((group.to_owned(), String::new()));
        }
        lines.push((label(binding), binding.help.to_owned()));
    }
    lines.push(("filter".to_owned(), String::new()));
    lines.push(("text".to_owned(), format!("{}  * is anything", FIELDS.join(" "))));
    lines.push(("numbers".to_owned(), QUANTITIES.join(" ")));
    lines.push(("word".to_owned(), "looked for everywhere".to_owned()));
    lines.push(("-term".to_owned(), "what must not be".to_owned()));
    lines.push(("for example".to_owned(), "svc:pay* err%>1 p99>200ms -is:idle".to_owned()));
    lines.push(("signs".to_owned(), String::new()));
    for status in STATUSES {
        lines.push((status.glyph().to_string(), status.word().to_owned()));
    }
    lines.push(("themes".to_owned(), String::new()));
    lines.push((":theme".to_owned(), names().collect::<Vec<_>>().join(" ")));
    lines
}

impl View for Help {
    fn title(&self) -> &'static str {
        "Help"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["keys", "h"]
    }

    fn hints(&self, _scene: &Scene<'_>) -> &'static str {
        ""
    }

    fn panels(&self, _scene: &Scene<'_>) -> Vec<Vec<Target>> {
        vec![(0..lines().len()).map(Target::Line).collect()]
    }

    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
        let cursor = match scene.selected {
            Some(Target::Line(line)) => *line,
            _ => 0,
        };
        draw(cursor, canvas, area);
    }

    fn table(&self, _scene: &Scene<'_>) -> Vec<Vec<String>> {
        let mut table = vec![vec!["KEYS".to_owned(), "WHAT".to_owned()]];
        table.extend(lines().into_iter().map(|(keys, what)| vec![keys, what]));
        table
    }

    fn records(&self, _scene: &Scene<'_>) -> serde_json::Value {
        serde_json::json!(lines())
    }
}

/// Draws the page around line `cursor`, in as many columns as fit.
pub fn draw(cursor: usize, canvas: &mut Canvas<'_>, area: Rect) {
    let lines = lines();
    let columns = (area.width / 58).clamp(1, 3);
    let height = usize::from(area.height).max(1);
    let first = if columns > 1 && lines.len() <= height * usize::from(columns) {
        0
    } else {
        first_line(cursor, lines.len(), height * usize::from(columns))
    };
    let width = area.width / columns;
    for (index, (keys, what)) in lines.iter().enumerate().skip(first).take(height * usize::from(columns)) {
        let place = index - first;
        let x = area.x + (place / height) as u16 * width + 1;
        let y = area.y + (place % height) as u16;
        let mut pen = canvas.pen(x, y, (x + width).saturating_sub(2).min(area.right()));
        if what.is_empty() {
            pen.write(&keys.to_uppercase(), Role::Accent);
        } else {
            pen.skip(1).write(keys, Role::Strong).at(x + 14).skip(1);
            pen.write(what, Role::Text);
        }
        if index == cursor {
            canvas.cell(x.saturating_sub(1), y, '▸', Role::Dim);
        }
    }
}
