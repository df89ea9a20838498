//! Files that a run uses without being told: the cache, and the system's
//! authorities.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytesize::ByteSize;
use rustix::fs::{Access, access};

use netwasm_net::trust;
use netwasm_runtime::cache_directory;

use super::Finding;

/// Space that the cache should have left, in bytes.
const LITTLE_SPACE: u64 = 256 << 20;

const CACHE: &str = "cache";

pub(super) fn findings() -> Vec<Finding> {
    let cache = match cache_directory() {
        Some(directory) => cache(&directory),
        None => Finding::slow(
            CACHE,
            "neither XDG_CACHE_HOME nor HOME names a directory: components are compiled at each start",
            "export XDG_CACHE_HOME=/var/cache",
        ),
    };
    vec![cache, authorities()]
}

/// Looks at the cache as a run would use it: it makes the directory if it is not
/// there, and a file for each component.
fn cache(directory: &Path) -> Finding {
    let shown = directory.display();
    let Ok(metadata) = fs::metadata(directory) else {
        // The first one above it that is there.
        let above = directory.ancestors().find(|path| path.exists());
        let above = above.unwrap_or(directory);
        return match access(above, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Finding::ok(CACHE, format!("{shown} will be made")),
            Err(error) => Finding::slow(
                CACHE,
                format!(
                    "{shown} cannot be made in {} ({error}): components are compiled at each start",
                    above.display()
                ),
                "export XDG_CACHE_HOME=DIR with a directory of the run's user",
            ),
        };
    };
    let user = rustix::process::geteuid().as_raw();
    if metadata.mode() & 0o022 != 0 || ![user, 0].contains(&metadata.uid()) {
        return Finding::wrong(
            CACHE,
            format!("others may write to {shown}, which has native code"),
            format!("chown {user} {shown} && chmod 700 {shown}"),
        );
    }
    let trial = directory.join(format!("doctor-{}.tmp", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).open(&trial);
    if let Err(error) = written {
        return Finding::slow(
            CACHE,
            format!(
                "{shown} cannot be written to ({error}): new components are compiled at each start"
            ),
            format!("chown {user} {shown} && chmod 700 {shown}, on a file system that is writable"),
        );
    }
    // Nothing is left of it but perhaps an empty file, which the cache removes.
    let _ = fs::remove_file(&trial);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok());
    let (count, size) = sizes.fold((0_u64, 0), |(count, size), it| (count + 1, size + it.len()));
    let free = rustix::fs::statvfs(directory).map(|it| it.f_bavail.saturating_mul(it.f_frsize));
    let free = free.unwrap_or(u64::MAX);
    let iec = |bytes| ByteSize::b(bytes).display().iec().to_string();
    let found = format!("{shown} has {count} files, {}", iec(size));
    match free < LITTLE_SPACE {
        true => Finding::slow(
            CACHE,
            format!("{found}, and its file system has {} left", iec(free)),
            format!("rm -r {shown}, or free some of its disk"),
        ),
        false => Finding::ok(CACHE, found),
    }
}

fn authorities() -> Finding {
    const NAME: &str = "authorities";
    let found = trust::system_authorities();
    let cure = "apt-get install ca-certificates, or SSL_CERT_FILE=FILE";
    let count = found.count;
    if let (1.., Some(error)) = (count, found.errors.first()) {
        return Finding::wrong(NAME, format!("{count} are read, not all: {error}"), cure);
    }
    match (count, found.named) {
        (0, true) => Finding::wrong(
            NAME,
            "SSL_CERT_FILE or SSL_CERT_DIR names none: outgoing TLS trusts nobody",
            "unset SSL_CERT_FILE SSL_CERT_DIR, or let them name some; --ca FILE adds one",
        ),
        (0, false) => Finding::slow(
            NAME,
            "the system knows none: outgoing TLS trusts those that are built in, which age",
            cure,
        ),
        (_, true) => Finding::ok(
            NAME,
            format!("{count}, of SSL_CERT_FILE or SSL_CERT_DIR alone"),
        ),
        (_, false) => Finding::ok(NAME, format!("{count} of the system")),
    }
}
