//! Reads the command line and runs one command.

use mimalloc::MiMalloc;
use std::process::ExitCode;

// HTTP allocates on one thread what the event loop frees on another. The allocators of glibc and musl take locks for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    coordinated::cli::run()
}
