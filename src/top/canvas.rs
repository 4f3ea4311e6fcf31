//! What views draw on, what they are shown, and what makes something a view.
//!
//! Everything on the screen passes through [`Canvas::put`]: clipped, one cell a character, in the colours and glyphs of
//! the theme.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::model::view::{EdgeView, MeshView, ServiceView};
use crate::top::health::Status;
use crate::top::history::Series;
use crate::top::state::State;
use crate::top::target::{EdgeId, Target};
use crate::top::theme::{Role, Theme};

/// A view of the mesh: a tab of the console. Nothing here changes the state.
pub trait View: Sync {
    /// Returns the word on its tab.
    fn title(&self) -> &'static str;

    /// Returns other names by which a command line may call it.
    fn aliases(&self) -> &'static [&'static str];

    /// Returns the keys worth naming at the bottom, beside those that work everywhere.
    fn hints(&self, scene: &Scene<'_>) -> &'static str;

    /// Returns the titles of the columns by which its lines can be ordered.
    fn columns(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Returns what the cursor can stand on: panels, each with its lines from top to bottom.
    fn panels(&self, scene: &Scene<'_>) -> Vec<Vec<Target>>;

    /// Draws it into `area`.
    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect);

    /// Returns whether it has a page of its own about `target`.
    fn details(&self, _target: &Target) -> bool {
        false
    }

    /// Returns the line on which the cursor stands before it is moved.
    fn start(&self, _scene: &Scene<'_>) -> usize {
        0
    }

    /// Returns what lies left (`-1`) or right (`1`) of `from`; `None` when sides mean nothing here.
    fn beside(&self, _scene: &Scene<'_>, _from: &Target, _side: i8) -> Option<Target> {
        None
    }

    /// Returns its lines as text for scripts, the titles first.
    fn table(&self, scene: &Scene<'_>) -> Vec<Vec<String>>;

    /// Returns its lines as JSON.
    fn records(&self, scene: &Scene<'_>) -> serde_json::Value;
}

/// What a view is shown: the state, the mesh at the moment on the screen, and where the cursor is.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// All that is on the screen.
    pub state: &'a State,
    /// The mesh: newest, or frozen.
    pub mesh: &'a MeshView,
    /// What the cursor is on.
    pub selected: Option<&'a Target>,
}

impl<'a> Scene<'a> {
    /// Returns the scene of `state`, without a cursor; `None` before the first data.
    pub fn of(state: &'a State) -> Option<Self> {
        state.shown().map(|mesh| Self { state, mesh, selected: None })
    }

    /// Returns what the place is about, if about one thing.
    pub fn focus(&self) -> Option<&'a Target> {
        self.state.place.focus.as_ref()
    }

    /// Returns how a service is.
    pub fn service_status(&self, service: &ServiceView) -> Status {
        self.state.health().of(&Series::Service(service.name.clone()), &service.traffic)
    }

    /// Returns how an edge is.
    pub fn edge_status(&self, edge: &EdgeView) -> Status {
        self.state.health().of(&Series::Edge(EdgeId::from(edge)), &edge.traffic)
    }

    /// Returns the edge of that name.
    pub fn edge(&self, id: &EdgeId) -> Option<&'a EdgeView> {
        self.mesh.edges.iter().find(|edge| {
            edge.source == id.source && edge.destination == id.destination && edge.protocol == id.protocol
        })
    }

    /// Returns the service of that name.
    pub fn service(&self, name: &crate::model::name::ServiceName) -> Option<&'a ServiceView> {
        self.mesh.services.iter().find(|service| service.name == *name)
    }
}

/// A part of the screen, in a theme.
#[derive(Debug)]
pub struct Canvas<'a> {
    buffer: &'a mut Buffer,
    clip: Rect,
    theme: Theme,
}

impl<'a> Canvas<'a> {
    /// Returns the whole of `buffer` as a canvas.
    pub fn new(buffer: &'a mut Buffer, theme: Theme) -> Self {
        let clip = buffer.area;
        Self { buffer, clip, theme }
    }

    /// Returns the theme.
    pub fn theme(&self) -> Theme {
        self.theme
    }

    /// Returns a canvas on which only `area` can be drawn.
    pub fn within(&mut self, area: Rect) -> Canvas<'_> {
        Canvas { clip: self.clip.intersection(area), buffer: self.buffer, theme: self.theme }
    }

    /// Draws one character.
    pub fn cell(&mut self, x: u16, y: u16, glyph: char, role: Role) {
        let (glyph, style) = (self.theme.glyph(glyph), self.theme.style(role));
        if self.clip.contains((x, y).into())
            && let Some(cell) = self.buffer.cell_mut((x, y))
        {
            cell.modifier = ratatui::style::Modifier::empty();
            cell.set_char(glyph).set_style(style);
        }
    }

    /// Draws `text` from a cell to the right and returns the column after it.
    pub fn put(&mut self, x: u16, y: u16, text: &str, role: Role) -> u16 {
        let mut x = x;
        for glyph in text.chars() {
            self.cell(x, y, glyph, role);
            x = x.saturating_add(1);
        }
        x
    }

    /// Draws `text` so that it ends before column `end`.
    pub fn put_right(&mut self, end: u16, y: u16, text: &str, role: Role) {
        let width = text.chars().count() as u16;
        self.put(end.saturating_sub(width), y, text, role);
    }

    /// Returns a pen at a cell, for text in several roles up to column `end`.
    pub fn pen(&mut self, x: u16, y: u16, end: u16) -> Pen<'_, 'a> {
        Pen { canvas: self, x, y, end }
    }

    /// Draws a box with a title on its upper border and a note at the right of it; returns the inside.
    pub fn frame(&mut self, area: Rect, title: &str, note: &str) -> Rect {
        if area.width < 2 || area.height < 2 {
            return Rect::new(area.x, area.y, 0, 0);
        }
        let (left, top, right, bottom) = (area.x, area.y, area.right() - 1, area.bottom() - 1);
        for x in left + 1..right {
            self.cell(x, top, '─', Role::Border);
            self.cell(x, bottom, '─', Role::Border);
        }
        for y in top + 1..bottom {
            self.cell(left, y, '│', Role::Border);
            self.cell(right, y, '│', Role::Border);
        }
        let corners = [(left, top, '┌'), (right, top, '┐'), (left, bottom, '└'), (right, bottom, '┘')];
        for (x, y, corner) in corners {
            self.cell(x, y, corner, Role::Border);
        }
        let mut upper = self.within(Rect::new(left + 1, top, area.width - 2, 1));
        let room = usize::from(area.width.saturating_sub(6));
        let title_width = title.chars().count().min(room);
        if !title.is_empty() {
            upper.put(left + 2, top, &format!(" {} ", crate::top::format::fit(title, room)), Role::Strong);
        }
        if !note.is_empty() && note.chars().count() + title_width + 6 < usize::from(area.width) {
            upper.put_right(right.saturating_sub(1), top, &format!(" {note} "), Role::Dim);
        }
        Rect::new(left + 1, top + 1, area.width - 2, area.height - 2)
    }

    /// Marks a line as the one the cursor is on.
    pub fn select(&mut self, area: Rect) {
        let style = self.theme.selection();
        self.buffer.set_style(self.clip.intersection(area), style);
    }

    /// Fades all of `area`: what is drawn there is no longer so.
    pub fn fade(&mut self, area: Rect) {
        let style = self.theme.faded();
        let area = self.clip.intersection(area);
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                if let Some(cell) = self.buffer.cell_mut((x, y)) {
                    cell.modifier = ratatui::style::Modifier::empty();
                    cell.set_style(style);
                }
            }
        }
    }
}

/// Writes along a line in several roles.
#[derive(Debug)]
pub struct Pen<'c, 'a> {
    canvas: &'c mut Canvas<'a>,
    x: u16,
    y: u16,
    end: u16,
}

impl Pen<'_, '_> {
    /// Writes `text`, cut with an ellipsis at the end of the line.
    pub fn write(&mut self, text: &str, role: Role) -> &mut Self {
        let room = usize::from(self.end.saturating_sub(self.x));
        if room > 0 {
            let text = crate::top::format::fit(text, room);
            self.x = self.canvas.put(self.x, self.y, &text, role);
        }
        self
    }

    /// Writes `text` if all of it fits.
    pub fn write_whole(&mut self, text: &str, role: Role) -> &mut Self {
        if text.chars().count() <= usize::from(self.end.saturating_sub(self.x)) {
            self.write(text, role);
        }
        self
    }

    /// Leaves `cells` blank.
    pub fn skip(&mut self, cells: u16) -> &mut Self {
        self.x = self.x.saturating_add(cells);
        self
    }

    /// Goes on at column `x`, unless it is past it.
    pub fn at(&mut self, x: u16) -> &mut Self {
        self.x = self.x.max(x);
        self
    }

    /// Returns the cells left on the line.
    pub fn room(&self) -> usize {
        usize::from(self.end.saturating_sub(self.x))
    }

    /// Returns the column that is next.
    pub fn x(&self) -> u16 {
        self.x
    }
}
