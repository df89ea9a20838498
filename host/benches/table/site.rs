//! Content of the HTTP servers: a page that they make, and files.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Body that every server returns for `GET /`.
pub(crate) const PAGE: &str = "<h1>Home</h1>";
/// `Content-Type` of [`PAGE`].
pub(crate) const PAGE_TYPE: &str = "text/html; charset=utf-8";

/// Body that a server returns for what is sent to `/taken`.
pub(crate) const TAKEN: &str = "taken";

const DIRECTORY: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/site");
const FILES: [Resource; 3] = [Resource::Small, Resource::Large, Resource::Huge];

/// Resource that is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The page.
    Page,
    /// The answer of the `wasi:http` probes.
    Hello,
    /// The answer of the probe of events.
    Done,
    /// A MiB that the server makes, piece by piece.
    Made,
    /// The answer to 16 KiB that are sent.
    Taken,
    /// A file of 1 KiB.
    Small,
    /// A file of 1 MiB.
    Large,
    /// A file of 10 MiB.
    Huge,
}

impl Resource {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::Hello => "/hello",
            Self::Done => "/busy?ms=0",
            Self::Made => "/sized?1048576",
            Self::Taken => "/taken",
            Self::Small => "/small.html",
            Self::Large => "/large.html",
            Self::Huge => "/huge.html",
        }
    }

    /// Returns the body of the request, unless it has none.
    pub(crate) fn sent(self) -> Option<Vec<u8>> {
        (self == Self::Taken).then(|| vec![b'x'; 16 << 10])
    }

    /// Returns the body of the response.
    pub(crate) fn body(self) -> Vec<u8> {
        let text = |size| b"Once upon a time, ".iter().copied().cycle().take(size);
        match self {
            Self::Page => PAGE.into(),
            Self::Hello => "hello\n".into(),
            Self::Done => "done\n".into(),
            Self::Made => vec![b'x'; 1 << 20],
            Self::Taken => TAKEN.into(),
            Self::Small => text(1 << 10).collect(),
            Self::Large => text(1 << 20).collect(),
            Self::Huge => text(10 << 20).collect(),
        }
    }
}

/// Returns the directory of the files, and writes those that are missing.
pub(crate) fn directory() -> io::Result<&'static str> {
    fs::create_dir_all(DIRECTORY)?;
    for resource in FILES {
        let path = Path::new(DIRECTORY).join(resource.path().trim_start_matches('/'));
        let body = resource.body();
        if fs::metadata(&path).is_ok_and(|file| file.len() == body.len() as u64) {
            continue;
        }
        fs::write(&path, body)?;
        // The ETag of a file that was just written is weak, and so longer.
        let before = SystemTime::now() - Duration::from_secs(3600);
        File::options()
            .write(true)
            .open(&path)?
            .set_modified(before)?;
    }
    Ok(DIRECTORY)
}
