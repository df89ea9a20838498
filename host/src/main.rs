//! The program `netwasm`.

use std::process::ExitCode;

/// mimalloc, because a request of `wasi:http` makes many small allocations and
/// frees them on the thread that made them. With the C library's allocator, a
/// request costs an eighth more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let commit = netwasm_commit::commit!();
    ExitCode::from(netwasm::program::main_of(commit, std::env::args_os()))
}
