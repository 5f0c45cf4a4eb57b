//! The `kindred` program.

use std::process::ExitCode;

/// Training frees gigabytes of small strings once they are numbered: the system's allocator would keep them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kindred::cli::main()
}
