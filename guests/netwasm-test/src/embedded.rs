//! A test binary that is the host of its own tests.
//!
//! ```text
//!   test --> Server --> this binary --exact netwasm_host --> netwasm's main
//!                       (arguments in a variable)
//! ```

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{Command, exit};

use crate::host::Host;

/// Name of the variable with the arguments of the host. Its presence makes the
/// binary the host.
const ARGUMENTS: &str = "NETWASM_TEST_HOST_ARGUMENTS";

/// Separates arguments. Cargo separates flags by it, too.
const SEPARATOR: u8 = 0x1f;

/// Name of the test that is the host.
const TEST: &str = "netwasm_host";

/// Makes this test binary the host of its tests: `cargo test` needs no
/// installed `netwasm`.
///
/// The crate of the tests has the host as a dev-dependency, and a file of tests
/// has the macro once, with the path of the host's main function:
///
/// ```ignore
/// use netwasm_test::Component;
///
/// netwasm_test::embedded_host!(netwasm::program::main);
///
/// #[test]
/// fn it_echoes() {
///     let server = Component::of_this_crate().host(embedded_host()).tcp().start();
///     // ...
/// }
/// ```
///
/// It defines a function `embedded_host`, and an ignored test `netwasm_host`:
/// the kit starts the binary once more with that test, which runs the host. The
/// first build compiles the host, for minutes.
#[macro_export]
macro_rules! embedded_host {
    ($main:path) => {
        /// Returns the host that this test binary contains.
        fn embedded_host() -> $crate::Host {
            $crate::private::embedded_in(::core::module_path!())
        }

        #[test]
        #[ignore = "is the host of other tests"]
        fn netwasm_host() {
            $crate::private::run_host($main);
        }
    };
}

/// Returns the host that the tests in a module have.
pub fn embedded_in(module: &str) -> Host {
    // The names of tests begin below the crate.
    let test = match module.split_once("::") {
        Some((_, below)) => format!("{below}::{TEST}"),
        None => TEST.to_owned(),
    };
    Host::embedded(test)
}

/// Runs the host, and ends the process with its exit code. Returns if the
/// process is not to be the host: somebody runs all ignored tests.
pub fn run_host(main: impl FnOnce(Vec<OsString>) -> u8) {
    if let Some(args) = std::env::var_os(ARGUMENTS) {
        exit(main(decode(&args)).into());
    }
}

/// Returns the command that runs a test of this binary as the host.
pub(crate) fn command(test: &str, args: &[OsString]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--ignored", "--exact", test])
        .args(["--nocapture", "--quiet", "--test-threads=1"])
        .env(ARGUMENTS, encode(args));
    Ok(command)
}

/// Joins the host's name and its arguments.
fn encode(args: &[OsString]) -> OsString {
    let mut bytes = b"netwasm".to_vec();
    for arg in args {
        bytes.push(SEPARATOR);
        bytes.extend_from_slice(arg.as_bytes());
    }
    OsString::from_vec(bytes)
}

fn decode(args: &OsStr) -> Vec<OsString> {
    args.as_bytes()
        .split(|&byte| byte == SEPARATOR)
        .map(|arg| OsStr::from_bytes(arg).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_arrive_as_they_are() {
        let args = ["run", "", "two words", "a\nb", "--"].map(OsString::from);
        let decoded = decode(&encode(&args));
        assert_eq!(decoded[0], "netwasm");
        assert_eq!(decoded[1..], args);
        assert_eq!(decode(&encode(&[])), ["netwasm"]);
    }

    #[test]
    fn the_host_is_a_test_below_the_crate() {
        assert_eq!(
            embedded_in("echo"),
            Host::embedded("netwasm_host".to_owned())
        );
        assert_eq!(
            embedded_in("all::net::tcp"),
            Host::embedded("net::tcp::netwasm_host".to_owned())
        );
    }
}
