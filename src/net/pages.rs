//! The pages of the program that are mapped into this process.
//!
//! A start runs code that never runs again: flags, settings, joining, the first certificates. With every page that it
//! touches the kernel maps those around it (`fault_around_bytes`, 64 KiB), and leaves them there: three quarters of what an
//! idle proxy has in memory would be program that it does not use. Given back, the pages stay in the page cache, where the
//! kernel may drop those that no process maps before all others, and what is used comes back with the next call, in tens
//! of microseconds altogether.

use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

use crate::net::disk::OWN_PROGRAM;

/// A part of the address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: usize,
    bytes: usize,
}

/// Gives back the mapped pages of the program itself. Nothing but time is lost by it.
///
/// # Errors
/// When `/proc` does not tell what is mapped: everything stays as it is.
#[inline(never)] // .ci/layout sees by it where a start ends
pub fn give_back() -> io::Result<()> {
    let program = fs::read_link(OWN_PROGRAM)?;
    for span in unchanged(&fs::read_to_string("/proc/self/smaps")?, &program.to_string_lossy()) {
        forget(span)?;
    }
    Ok(())
}

/// Finds in `smaps` (proc(5)) what is mapped of a file, cannot be written, and is as it is in the file down to the last page:
/// those that the loader has changed once (relocations) are nowhere else.
fn unchanged(smaps: &str, file: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut words = line.splitn(6, ' ');
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if first == "Anonymous:" {
            spans.extend(current.take().filter(|_| line.split_ascii_whitespace().nth(1) == Some("0")));
        } else if !first.ends_with(':') {
            let path = words.nth(3).unwrap_or("").trim_start();
            current = span(first).filter(|_| path == file && matches!(second, "r-xp" | "r--p"));
        }
    }
    spans
}

fn span(range: &str) -> Option<Span> {
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some(Span { start, bytes: end.checked_sub(start)? })
}

#[expect(unsafe_code, reason = "there is no safe way to say this to the kernel")]
fn forget(Span { start, bytes }: Span) -> io::Result<()> {
    let address = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: the span is a private mapping of the program's file that is not writable and of which no page was ever
    // changed, so each page comes back from the file with the same content when it is touched. It lasts as long as the
    // process: nothing unmaps or remaps the program.
    unsafe { madvise(address, bytes, Advice::LinuxDontNeed) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::net::pages::{Span, give_back, unchanged};

    const SMAPS: &str = "\
7f00000000-7f00002000 r--p 00000000 fd:01 42    /usr/local/my bin/mesh
Size:                  8 kB
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
7f00002000-7f00005000 r-xp 00002000 fd:01 42    /usr/local/my bin/mesh
Anonymous:             0 kB
7f00005000-7f00006000 r--p 00005000 fd:01 42    /usr/local/my bin/mesh
Anonymous:             4 kB
7f00006000-7f00007000 rw-p 00006000 fd:01 42    /usr/local/my bin/mesh
Anonymous:             0 kB
7f00007000-7f00008000 r--p 00000000 fd:01 43    /usr/lib/other
Anonymous:             0 kB
7f00009000-7f0000a000 r--p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_in_the_file_is_given_back() {
        let found = unchanged(SMAPS, "/usr/local/my bin/mesh");
        assert_eq!(
            found,
            [Span { start: 0x7f_0000_0000, bytes: 0x2000 }, Span { start: 0x7f_0000_2000, bytes: 0x3000 },]
        );
    }

    #[test]
    fn the_program_runs_on_and_is_smaller() {
        let mapped = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        // As a start does, touch much of it.
        let _ = fs::read_to_string("/proc/self/smaps").unwrap().lines().count();
        let before = mapped();
        give_back().unwrap();
        let after = mapped();
        assert!(after < before, "{before} KiB of files are mapped before, {after} KiB after");
    }
}
