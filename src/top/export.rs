//! A frame as a file: text, or SVG that looks like the terminal.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use crate::top::theme::Theme;

/// Cell size of the SVG, in its units.
const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 18.0;
const MARGIN: f64 = 12.0;

/// Returns the frame as lines without trailing blanks.
pub fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let line: String = (buffer.area.left()..buffer.area.right()).map(|x| symbol(buffer, x, y)).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn symbol(buffer: &Buffer, x: u16, y: u16) -> &str {
    buffer.cell((x, y)).map_or(" ", Cell::symbol)
}

/// Returns the frame as an SVG image, without fonts of its own.
pub fn svg(buffer: &Buffer, theme: Theme) -> String {
    let (paper, ink) = if theme.name() == "light" { ("#ffffff", "#1c2128") } else { ("#11151c", "#d5dbe3") };
    let width = f64::from(buffer.area.width) * CELL_WIDTH + 2.0 * MARGIN;
    let height = f64::from(buffer.area.height) * CELL_HEIGHT + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.1} {height:.1}\" font-family=\"ui-monospace,'JetBrains Mono','DejaVu Sans Mono',\
         Menlo,monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{paper}\"/>\n"
    );
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut x = buffer.area.left();
        while x < buffer.area.right() {
            x = run(buffer, (x, y), (paper, ink), &mut out);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Writes the cells of one style from a cell on; returns the column after them.
fn run(buffer: &Buffer, (start, y): (u16, u16), (paper, ink): (&str, &str), out: &mut String) -> u16 {
    let Some(first) = buffer.cell((start, y)) else { return u16::MAX };
    let alike = |x: &u16| buffer.cell((*x, y)).is_some_and(|cell| cell.style() == first.style());
    let end = (start..buffer.area.right()).take_while(alike).last().map_or(start + 1, |x| x + 1);
    let text: String = (start..end).map(|x| symbol(buffer, x, y)).collect();
    let reversed = first.modifier.contains(Modifier::REVERSED);
    let (mut fore, mut back) = (hex(first.fg, ink), hex(first.bg, "none"));
    if reversed {
        back = std::mem::replace(&mut fore, if back == "none" { paper.to_owned() } else { back });
    }
    let (left, top) = (MARGIN + f64::from(start) * CELL_WIDTH, MARGIN + f64::from(y) * CELL_HEIGHT);
    let width = f64::from(end - start) * CELL_WIDTH;
    if back != "none" {
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{CELL_HEIGHT:.1}\" fill=\"{back}\"/>"
        );
    }
    if !text.trim().is_empty() {
        let bold = if first.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
        let dim = if first.modifier.contains(Modifier::DIM) { " opacity=\"0.6\"" } else { "" };
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            out,
            "<text x=\"{left:.1}\" y=\"{:.1}\" fill=\"{fore}\" textLength=\"{width:.1}\" xml:space=\"preserve\"{bold}{dim}>{escaped}</text>",
            top + CELL_HEIGHT * 0.76,
        );
    }
    end
}

/// The sixteen colours of a terminal, as most have them.
const SIXTEEN: [(Color, &str); 8] = [
    (Color::DarkGray, "#7c8694"),
    (Color::LightBlue, "#61afef"),
    (Color::Cyan, "#56b6c2"),
    (Color::Yellow, "#e5ba60"),
    (Color::LightRed, "#f26868"),
    (Color::Magenta, "#ce8cde"),
    (Color::Blue, "#4a7fd0"),
    (Color::White, "#ffffff"),
];

fn hex(color: Color, otherwise: &str) -> String {
    if let Color::Rgb(r, g, b) = color {
        return format!("#{r:02x}{g:02x}{b:02x}");
    }
    if let Color::Indexed(index) = color {
        let value = |level: u8| if level == 0 { 0 } else { 55 + level * 40 };
        let (r, g, b) = match index {
            232..=255 => (8 + (index - 232) * 10, 8 + (index - 232) * 10, 8 + (index - 232) * 10),
            16..=231 => (value((index - 16) / 36), value((index - 16) / 6 % 6), value((index - 16) % 6)),
            0..=15 => (128, 128, 128),
        };
        return format!("#{r:02x}{g:02x}{b:02x}");
    }
    let named = SIXTEEN.iter().find(|(name, _)| *name == color).map(|(_, hex)| *hex);
    named.unwrap_or(otherwise).to_owned()
}
