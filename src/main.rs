//! The `lb` program: `lb::cli` tells the story.

use std::process::ExitCode;

/// A worker allocates and frees a few buffers for each request, and this allocator does so with fewer instructions than the
/// system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lb::cli::main()
}
