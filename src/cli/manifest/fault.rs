//! Something wrong in a manifest, shown with its line.

use std::fmt;

const LINE_CHARS_MAX: usize = 120;

/// A place in a file; lines and columns (of characters) from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file as it was named, or `standard input`.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Something wrong or doubtful in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub origin: Origin,
    /// What, and what was expected.
    pub message: String,
    /// The text of that line.
    pub line: String,
}

impl Fault {
    /// Describes what is wrong at a place of `text`, the whole file.
    pub fn new(text: &str, origin: Origin, message: impl Into<String>) -> Self {
        let line = text.lines().nth(origin.line.saturating_sub(1)).unwrap_or_default().to_owned();
        Self { origin, message: message.into(), line }
    }
}

impl fmt::Display for Fault {
    /// Writes the place and the message, then the line, then a caret under the column.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)?;
        if self.line.trim().is_empty() {
            return Ok(());
        }
        let before = self.origin.column.saturating_sub(1);
        let skipped = if before < LINE_CHARS_MAX { 0 } else { before - LINE_CHARS_MAX / 2 };
        let shown: Vec<char> = self.line.chars().skip(skipped).take(LINE_CHARS_MAX).collect();
        let number = self.origin.line.to_string();
        // Tabs stay tabs, so that the caret stands under its character whatever their width.
        let pad = shown.iter().take(before - skipped).map(|c| if *c == '\t' { '\t' } else { ' ' });
        writeln!(f)?;
        writeln!(f, "  {number} | {}", shown.iter().collect::<String>())?;
        write!(f, "  {:width$} | {}^", "", pad.collect::<String>(), width = number.len())
    }
}
