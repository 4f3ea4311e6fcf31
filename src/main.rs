//! Starts `mesh`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, of which a process that holds a few megabytes touches many a little: an idle
    // proxy would take 62 MiB instead of 21. A kernel that knows no such switch has no huge pages to give.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    mesh::cli::main()
}
