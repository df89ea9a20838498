//! Containers of `wasi:blobstore`: directories of the host.

use std::path::PathBuf;
use std::str::FromStr;

/// Name of the entry whose sub-directories are the containers.
const ANY: &str = "*";

/// A container of objects, or many: `--blobstore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobContainer {
    /// Name that the guest opens it by. `None`: the sub-directories of the
    /// directory are containers, each by its name.
    pub name: Option<String>,
    /// Directory on the host.
    pub directory: PathBuf,
    /// True if the guest may write and delete there.
    pub writable: bool,
}

/// Parses `NAME=DIR` or `*=DIR`, either with `:ro` or `:rw`. Without `:rw` the
/// guest may only read.
impl FromStr for BlobContainer {
    type Err = BlobContainerError;

    fn from_str(text: &str) -> Result<Self, BlobContainerError> {
        let (paths, writable) = match text.rsplit_once(':') {
            Some((paths, "ro")) => (paths, false),
            Some((paths, "rw")) => (paths, true),
            _ => (text, false),
        };
        let (name, directory) = paths.split_once('=').unwrap_or((paths, ""));
        if name.is_empty() || directory.is_empty() {
            return Err(BlobContainerError(text.to_owned()));
        }
        Ok(Self {
            name: (name != ANY).then(|| name.to_owned()),
            directory: PathBuf::from(directory),
            writable,
        })
    }
}

impl BlobContainer {
    /// Returns the name as it is given.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(ANY)
    }
}

/// Error for a text that is no `--blobstore`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a container: write NAME=DIR, or NAME=DIR:rw to write there as well")]
pub struct BlobContainerError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_read_as_they_are_documented() {
        for (text, name, directory, writable) in [
            ("images=./a=b", Some("images"), "./a=b", false),
            (
                "images=/srv/images:ro",
                Some("images"),
                "/srv/images",
                false,
            ),
            ("*=/srv:rw", None, "/srv", true),
            ("a=/with:colon", Some("a"), "/with:colon", false),
        ] {
            let container: BlobContainer = text.parse().expect("a container");
            assert_eq!(container.name.as_deref(), name);
            assert_eq!(container.directory, PathBuf::from(directory));
            assert_eq!(container.writable, writable, "{text}");
        }
        for text in ["", "images", "=/srv", "images=", "images=:rw"] {
            let error = text.parse::<BlobContainer>().expect_err("no container");
            assert!(error.to_string().contains("NAME=DIR"), "{error}");
        }
    }
}
