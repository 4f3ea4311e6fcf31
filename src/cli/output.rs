//! What people and scripts see: data on standard output, everything else on standard error.
//!
//! Tables have aligned columns and no borders; they are cut to the width of a terminal, never of a pipe. Colour is
//! used on terminals only, and not when `NO_COLOR` is set. A reader that goes away (`mesh get … | head -1`) is no
//! error: see [`is_broken_pipe`].

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

/// How a list is printed: `-o table|wide|json|yaml|name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// Aligned columns, all of them.
    Wide,
    /// One JSON array of objects, `[]` when there is none.
    Json,
    /// The same as YAML.
    Yaml,
    /// One name a line.
    Name,
}

/// What a piece of text means, and so its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be: green.
    Good,
    /// Look at it: yellow.
    Warning,
    /// Broken or refused: red.
    Bad,
    /// Of less interest: dim.
    Dim,
    /// A heading: bold.
    Strong,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
            Self::Strong => "\x1b[1m",
        }
    }

    /// Returns the text in this tone's colour, or as it is where there is no colour.
    pub fn paint(self, text: &str, colour: bool) -> String {
        if colour && self != Self::Plain && !text.is_empty() {
            format!("{}{text}\x1b[0m", self.code())
        } else {
            text.to_owned()
        }
    }
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Makes a cell with a meaning.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// A table for people.
#[derive(Debug, Clone, Default)]
pub struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// Spaces between columns.
const GAP: usize = 3;

impl Table {
    /// Begins a table. A header that begins with `>` stands over a column that is aligned to the right (numbers).
    pub fn new(headers: &[&'static str]) -> Self {
        Self { headers: headers.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; an empty cell is shown as `-`. Cells beyond the headers are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().take(self.headers.len()).collect();
        row.resize(self.headers.len(), Cell::default());
        for cell in &mut row {
            cell.text = cell.text.replace(['\n', '\r', '\t', '\x1b'], " ");
            if cell.text.is_empty() {
                "-".clone_into(&mut cell.text);
            }
        }
        self.rows.push(row);
    }

    /// Adds a column at the end, a cell for each row there is.
    pub fn column(&mut self, header: &'static str, cells: impl IntoIterator<Item = Cell>) {
        self.headers.push(header);
        for (row, mut cell) in self.rows.iter_mut().zip(cells) {
            if cell.text.is_empty() {
                "-".clone_into(&mut cell.text);
            }
            row.push(cell);
        }
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the lines, with colour or without, none wider than `width` (`None`: as wide as it gets).
    pub fn render(&self, width: Option<usize>, colour: bool) -> String {
        let titles: Vec<String> =
            self.headers.iter().map(|h| h.trim_start_matches('>').to_uppercase()).collect();
        let widths: Vec<usize> = titles
            .iter()
            .enumerate()
            .map(|(column, title)| {
                let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| chars(&cell.text));
                cells.chain([chars(title)]).max().unwrap_or(0)
            })
            .collect();
        let head: Vec<Cell> = titles.into_iter().map(|title| Cell::new(title, Tone::Strong)).collect();

        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            self.render_row(row, &widths, width, colour, &mut text);
        }
        text
    }

    fn render_row(
        &self,
        row: &[Cell],
        widths: &[usize],
        limit: Option<usize>,
        colour: bool,
        text: &mut String,
    ) {
        let mut line = String::new();
        let mut used = 0;
        let last = row.len().saturating_sub(1);
        for (column, ((cell, width), header)) in row.iter().zip(widths).zip(&self.headers).enumerate() {
            let room = limit.map_or(usize::MAX, |limit| limit.saturating_sub(used));
            if room == 0 {
                break;
            }
            let shown = cut(&cell.text, room);
            let pad = " ".repeat(width.saturating_sub(chars(&shown)).min(room - chars(&shown)));
            let painted = cell.tone.paint(&shown, colour);
            let (before, after) = if header.starts_with('>') { (&pad, &painted) } else { (&painted, &pad) };
            line.push_str(before);
            line.push_str(after);
            used += chars(&shown) + pad.len();
            if column != last {
                let gap = GAP.min(limit.map_or(GAP, |limit| limit.saturating_sub(used)));
                line.push_str(&" ".repeat(gap));
                used += gap;
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Returns the first `room` characters; the last is `…` when some are missing.
fn cut(text: &str, room: usize) -> String {
    if chars(text) <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('…');
    short
}

// --- writing --------------------------------------------------------------------------------------------------------

/// Prints a list in the wanted format. `table` is asked for its columns (`true`: all of them), `name` for the one
/// name of an item.
///
/// # Errors
/// Those of standard output.
pub fn list<T: Serialize>(
    format: Format,
    items: &[T],
    table: impl FnOnce(bool) -> Table,
    name: impl Fn(&T) -> String,
) -> io::Result<()> {
    match format {
        Format::Json => json(&items),
        Format::Yaml => yaml(&items),
        Format::Name => items.iter().try_for_each(|item| line(&name(item))),
        Format::Table => show(&table(false)),
        Format::Wide => show(&table(true)),
    }
}

/// Prints a table. One without rows is said to be empty on standard error.
///
/// # Errors
/// Those of standard output.
pub fn show(table: &Table) -> io::Result<()> {
    if table.is_empty() {
        note("nothing found");
        return Ok(());
    }
    write(&table.render(width(), colour(&io::stdout())))
}

/// Prints a value as indented JSON.
///
/// # Errors
/// Those of standard output.
pub fn json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    text.push('\n');
    write(&text)
}

/// Prints a value as YAML.
///
/// # Errors
/// Those of standard output.
pub fn yaml<T: Serialize>(value: &T) -> io::Result<()> {
    write(&yaml_text(value)?)
}

/// Returns a value as YAML, with a line feed at its end.
///
/// # Errors
/// When the value has none.
pub fn yaml_text<T: Serialize>(value: &T) -> io::Result<String> {
    let mut text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Prints one line of data.
///
/// # Errors
/// Those of standard output.
pub fn line(text: &str) -> io::Result<()> {
    write(&format!("{text}\n"))
}

/// Returns what is known of one thing, a line for each name and its value.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| chars(name)).max().unwrap_or(0) + GAP;
    let lines: Vec<_> = facts.iter().map(|(name, value)| format!("{name:<width$}{value}")).collect();
    lines.join("\n") + "\n"
}

/// Prints data as it is and flushes it, so that a reader of a pipe sees it at once.
///
/// # Errors
/// Those of standard output.
pub fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Tells people something that is not data. Nobody listening is not an error.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Tells people of something to look at.
pub fn warn(text: &str) {
    let colour = colour(&io::stderr());
    note(&format!("{} {text}", Tone::Warning.paint("warning:", colour)));
}

/// Tells people why the command failed: what happened, and what caused it.
pub fn error(error: &anyhow::Error) {
    let colour = colour(&io::stderr());
    note(&format!("{} {}", Tone::Bad.paint("error:", colour), words(error)));
}

/// Returns what happened and what caused it, each said once: many errors quote their cause.
pub fn words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if words.is_empty() {
            words = cause;
        } else if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// Whether the reader of our output went away, which is its right and ends the command quietly with status 0.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether text for this stream may be coloured.
pub fn colour(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    stream.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Returns the width of the terminal, `None` when standard output is not one.
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Returns a moment for people: RFC 3339, UTC, to the millisecond.
pub fn moment(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|at| format!("{at:.3}")).unwrap_or_default()
}

/// Returns how long something took, in the largest unit of which it is at least one: `412 µs`, `3.1 ms`, `2.40 s`.
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// Parses a length of time as people write it.
///
/// # Errors
/// What one looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text);
    parsed.map_err(|_| "expected a number and a unit, such as 500ms, 30s, 5m or 1h30m".to_owned())
}

/// Returns a length of time as people write it: `8s`, `12m`, `5h`, `3d`.
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

// --- waiting --------------------------------------------------------------------------------------------------------

/// How long a wait may last before it is shown.
const SPINNER_DELAY: Duration = Duration::from_millis(300);
const SPINNER_FRAME: Duration = Duration::from_millis(90);
const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Shows on standard error, when that is a terminal, that a wait goes on; erases itself when it is dropped.
#[derive(Debug)]
pub struct Spinner {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Waiting {
    text: String,
    over: bool,
}

impl Spinner {
    /// Begins a wait. Nothing is shown for the first 0.3 s.
    pub fn start(text: impl Into<String>) -> Self {
        let shared = Arc::new((Mutex::new(Waiting { text: text.into(), over: false }), Condvar::new()));
        let shown = io::stderr().is_terminal();
        let thread = shown.then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || spin(&shared))
        });
        Self { shared, thread }
    }

    /// Changes what is being waited for.
    pub fn say(&self, text: impl Into<String>) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).text = text.into();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.shared.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn spin((waiting, changed): &(Mutex<Waiting>, Condvar)) {
    let mut delay = SPINNER_DELAY;
    let mut shown = false;
    let mut frames = FRAMES.iter().cycle();
    let mut state = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let slept = changed.wait_timeout_while(state, delay, |waiting| !waiting.over);
        state = slept.unwrap_or_else(PoisonError::into_inner).0;
        if state.over {
            break;
        }
        if let Some(frame) = frames.next() {
            let _ = write!(io::stderr().lock(), "\r\x1b[2K{frame} {}", state.text);
        }
        shown = true;
        delay = SPINNER_FRAME;
    }
    if shown {
        let _ = write!(io::stderr().lock(), "\r\x1b[2K");
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::output::{Cell, Table, Tone, age, words};

    fn sample() -> Table {
        let mut table = Table::new(&["name", ">rps", "state"]);
        table.row(["web.default".into(), "12.5".into(), Cell::new("healthy", Tone::Good)]);
        table.row(["a".into(), "1300".into(), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_have_upper_case_headers() {
        let text = sample().render(None, false);

        assert_eq!(
            text,
            "NAME           RPS   STATE\nweb.default   12.5   healthy\na             1300   -\n"
        );
    }

    #[test]
    fn lines_are_cut_to_the_width_of_the_terminal() {
        for width in 1..40 {
            let text = sample().render(Some(width), false);

            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
        }
        assert!(sample().render(Some(25), false).contains("hea…"));
    }

    #[test]
    fn colour_does_not_move_columns() {
        let plain = sample().render(None, false);
        let mut painted = sample().render(None, true);

        assert!(painted.contains("\x1b[32mhealthy\x1b[0m"));
        for code in ["\x1b[32m", "\x1b[1m", "\x1b[0m"] {
            painted = painted.replace(code, "");
        }
        assert_eq!(painted, plain);
    }

    #[test]
    fn cells_cannot_break_lines_or_send_escapes() {
        let mut table = Table::new(&["name"]);
        table.row(["a\nb\x1b[31m".into()]);

        assert_eq!(table.render(None, false), "NAME\na b [31m\n");
    }

    #[test]
    fn a_cause_that_its_error_quotes_is_said_once() {
        let cause = || anyhow::anyhow!("address in use");

        let quoted = cause().context("cannot listen: address in use; choose another");
        let bare = cause().context("cannot listen").context("cannot start");

        assert_eq!(words(&quoted), "cannot listen: address in use; choose another");
        assert_eq!(words(&bare), "cannot start: cannot listen: address in use");
    }

    #[test]
    fn ages_are_short() {
        let ages = [0, 119_000, 120_000, 7_200_000, 172_800_000].map(age);

        assert_eq!(ages, ["0s", "119s", "2m", "2h", "2d"]);
    }
}
