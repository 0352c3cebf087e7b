//! The `lb` program: `lb::cli` tells the story.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb::cli::main()
}
