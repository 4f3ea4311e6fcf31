//! Starts `mesh`.

use std::process::ExitCode;

// Without huge pages, of which a process that holds a few megabytes touches many a little: an idle proxy would take 62 MiB
// instead of 21.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mesh::cli::main()
}
