//! `stamp GUEST IN.wasm OUT.wasm` writes a component with a digest of the
//! sources of `guests/GUEST`; `guests/build` uses it.

use std::path::Path;
use std::process::ExitCode;

use netwasm_guest_stamp::{Error, digest, read, stamp, write};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [guest, from, to] = arguments.as_slice() else {
        eprintln!("usage: stamp GUEST IN.wasm OUT.wasm");
        return ExitCode::from(2);
    };
    match run(guest, Path::new(from), Path::new(to)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot stamp {from}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(guest: &str, from: &Path, to: &Path) -> Result<(), Error> {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    write(to, &stamp(&read(from)?, &digest(workspace, guest)?)?)
}
