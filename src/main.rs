//! The `kindred` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    kindred::cli::main()
}
