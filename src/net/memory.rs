//! Giving memory back that only the start of a process needed.

use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

/// Lets the kernel take away the pages of this program's code that are mapped; those that are used again come back from
/// its cache by themselves. A start touches most of the program, and what follows little of it. Returns how many bytes are
/// mapped so.
///
/// # Errors
/// When the kernel does not tell what is mapped, or refuses: nothing is lost then.
pub fn forget_the_start() -> io::Result<usize> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut forgotten = 0;
    for range in maps.lines().filter_map(|line| code(line, program.to_str()?)) {
        let (start, length) = range;
        #[expect(unsafe_code, reason = "there is no safe way to say it")]
        // SAFETY: the range is mapped from a file for reading and running only, so that no page of it has ever been written
        // to, and each that is missing is read from the file again. Nothing unmaps the program while it runs.
        let advised =
            unsafe { madvise(std::ptr::without_provenance_mut(start), length, Advice::LinuxDontNeed) };
        advised?;
        forgotten += length;
    }
    Ok(forgotten)
}

/// Returns the place and size of the mapping that a line of `maps` tells of, if it is code of `program`.
fn code(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    (rights == "r-xp" && path == program).then_some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use crate::net::memory::{code, forget_the_start};

    #[test]
    fn only_the_code_of_the_program_is_meant() {
        let line = |rights: &str, path: &str| {
            format!("7f0000001000-7f0000003000 {rights} 00001000 08:01 42    {path}")
        };
        assert_eq!(code(&line("r-xp", "/bin/mesh"), "/bin/mesh"), Some((0x7f00_0000_1000, 0x2000)));
        assert_eq!(code(&line("r--p", "/bin/mesh"), "/bin/mesh"), None);
        assert_eq!(code(&line("rw-p", "/bin/mesh"), "/bin/mesh"), None);
        assert_eq!(code(&line("r-xp", "/bin/other"), "/bin/mesh"), None);
        assert_eq!(code("7f0000001000-7f0000003000 r-xp 00000000 00:00 0", "/bin/mesh"), None);
    }

    #[test]
    fn the_program_goes_on_without_the_pages_it_has_forgotten() {
        let forgotten = forget_the_start().unwrap();

        assert!(forgotten > 0);
        assert!(forget_the_start().is_ok(), "what is needed comes back");
    }
}
