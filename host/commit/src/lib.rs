//! The commit that a program is built from, as a macro.
//!
//! ```text
//!   NETWASM_COMMIT --> .cargo_vcs_info.json --> git --> "0123456789ab 2026-11-30"
//!   (a packager)       (a package of cargo)    (a checkout)
//! ```
//!
//! A macro and not a build script: after a commit, only the one file that calls
//! the macro is compiled. A build script would have its whole package compiled again,
//! libraries and tests included.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use proc_macro::TokenStream;

/// Variable that names the commit, for builds outside of a checkout.
const COMMIT: &str = "NETWASM_COMMIT";

/// Variable with the time of the sources in seconds since 1970:
/// <https://reproducible-builds.org/specs/source-date-epoch/>.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// File that `cargo package` adds.
const PACKAGED: &str = ".cargo_vcs_info.json";

/// Number of a hash's digits that are told.
const DIGITS: usize = 12;

/// Becomes a string: the first 12 digits of the commit's hash, `-dirty` if files
/// of the checkout differ from it, and its date. Becomes an empty string if the
/// commit is unknown.
///
/// The file that calls this is compiled again once the variables or the checkout's
/// `HEAD` have changed.
#[proc_macro]
pub fn commit(_: TokenStream) -> TokenStream {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let (text, watched) = of_environment()
        .or_else(|| of_package(&package))
        .map(|text| (text, Vec::new()))
        .or_else(|| of_checkout(&package))
        .unwrap_or_default();
    let mut code = String::from("{");
    for variable in [COMMIT, EPOCH] {
        // Writing to a string cannot fail.
        let _ = write!(code, "const _: Option<&str> = option_env!({variable:?});");
    }
    for file in watched {
        // Named for the compiler's list of files; the content is not used.
        let _ = write!(code, "const _: &[u8] = include_bytes!({file:?});");
    }
    let _ = write!(code, "{text:?} }}");
    code.parse().unwrap_or_default()
}

fn of_environment() -> Option<String> {
    let commit = env::var(COMMIT).ok().filter(|commit| !commit.is_empty())?;
    Some(shown(&commit, false))
}

fn of_package(package: &Path) -> Option<String> {
    let text = fs::read_to_string(package.join(PACKAGED)).ok()?;
    let plain: String = text.split_whitespace().collect();
    let (_, rest) = plain.split_once("\"sha1\":\"")?;
    let (hash, _) = rest.split_once('"')?;
    Some(shown(hash, plain.contains("\"dirty\":true")))
}

/// Returns a commit of which no more is known than these two.
fn shown(commit: &str, is_dirty: bool) -> String {
    let is_hash = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let short = match commit.get(..DIGITS) {
        Some(short) if is_hash => short,
        _ => commit,
    };
    let dirty = if is_dirty { "-dirty" } else { "" };
    let seconds = env::var(EPOCH).ok().and_then(|text| text.parse().ok());
    let date = seconds.map_or_else(String::new, |seconds| format!(" {}", date(seconds)));
    format!("{short}{dirty}{date}")
}

/// Returns the commit of a checkout, and the files that tell when it is another.
fn of_checkout(package: &Path) -> Option<(String, Vec<String>)> {
    // Sources that were unpacked inside another repository are not its own.
    git(package, &["ls-files", "--error-unmatch", "Cargo.toml"])?;
    let abbreviated = format!("--abbrev={DIGITS}");
    let commit = git(
        package,
        &[
            "show",
            "--no-patch",
            &abbreviated,
            "--format=%h %cs",
            "HEAD",
        ],
    )?;
    let (hash, date) = commit.split_once(' ')?;
    let changes = git(package, &["status", "--porcelain", "--untracked-files=no"])?;
    let dirty = if changes.is_empty() { "" } else { "-dirty" };
    let branch = git(package, &["symbolic-ref", "--quiet", "HEAD"]);
    // The log of HEAD grows with each commit; the branch's file may be packed.
    let files = ["HEAD", "logs/HEAD", branch.as_deref().unwrap_or("HEAD")];
    let paths = files.iter().filter_map(|file| {
        let path = ["rev-parse", "--path-format=absolute", "--git-path", file];
        git(package, &path).filter(|path| Path::new(path).is_file())
    });
    Some((format!("{hash}{dirty} {date}"), paths.collect()))
}

/// Returns what git prints; `None` if it fails, or is not there.
fn git(package: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(package).args(args);
    // Another git may be at work.
    let output = command.env("GIT_OPTIONAL_LOCKS", "0").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Returns the day of a time in seconds since 1970, as `2026-11-30`: the
/// algorithm `civil_from_days` of <https://howardhinnant.github.io/date_algorithms.html>.
fn date(seconds: u64) -> String {
    // Years begin in March, so that the leap day is their last.
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_day() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_796_083_199, "2026-11-30"),
            (4_102_444_800, "2100-01-01"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }

    #[test]
    fn a_package_says_what_it_was_made_from() {
        let folder = env::temp_dir().join(format!("netwasm-commit-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a directory");
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let text =
            format!("{{\n  \"git\": {{\n    \"sha1\": \"{hash}\",\n    \"dirty\": true\n  }}\n}}");
        fs::write(folder.join(PACKAGED), text).expect("a file");
        let found = of_package(&folder).expect("a commit");
        assert!(found.starts_with("0123456789ab-dirty"), "{found}");
        assert_eq!(of_checkout(&folder), None);
        fs::remove_dir_all(&folder).expect("it is removed");
    }
}
