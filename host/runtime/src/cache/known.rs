//! Facts about components' files, so that a start need neither read nor parse
//! what has not changed.

use std::fmt::Write as _;
use std::hash::Hash;

use super::{Cache, ComponentHash, Key, Stamps, verified};

/// Facts about a component in binary form, which it takes to load its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Hash of its bytes.
    pub(crate) hash: ComponentHash,
    /// True if it needs a heap of collected objects.
    pub(crate) gc: bool,
    /// Names that it exports.
    pub(crate) exports: Vec<String>,
}

impl Facts {
    /// Writes the facts as text: the hash, a line of flags, and a line for each
    /// export.
    fn to_text(&self) -> String {
        let mut text = String::new();
        for byte in self.hash {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push_str(if self.gc { "\ngc" } else { "\n" });
        for export in &self.exports {
            text.push('\n');
            text.push_str(export);
        }
        text
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let digits = lines.next()?;
        let mut hash = ComponentHash::default();
        for (place, byte) in hash.iter_mut().enumerate() {
            let digits = digits.get(2 * place..2 * place + 2)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self {
            hash,
            gc: lines.next()? == "gc",
            exports: lines.map(ToOwned::to_owned).collect(),
        })
    }
}

impl Cache {
    /// Returns what is known of the component of files with these stamps.
    pub(crate) fn facts(&self, stamps: &Stamps) -> Option<Facts> {
        let key = of_files(stamps);
        // A damaged file is made again.
        let kept = verified(&self.path(&key), &key).ok()?;
        let text = String::from_utf8(kept.read().ok()?).ok()?;
        Facts::from_text(&text)
    }

    /// Notes what is known of the component of files with these stamps.
    pub(crate) fn note(&self, stamps: &Stamps, facts: &Facts) {
        // No component has such a name, and it would be read as two.
        if facts.exports.iter().any(|name| name.contains('\n')) {
            return;
        }
        if let Err(error) = self.write(&of_files(stamps), facts.to_text().as_bytes()) {
            tracing::debug!(%error, "the next start reads the component again");
        }
    }
}

/// Returns the key of what is known of the component of some files. Another
/// release may want to know more.
fn of_files(stamps: &Stamps) -> Key {
    Key::new(concat!("component ", env!("CARGO_PKG_VERSION")), |hasher| {
        stamps.hash(hasher);
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use netwasm_base::stamp::Stamp;

    use super::*;

    #[test]
    fn facts_are_found_by_the_files_stamp_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache {
            directory: directory.path().join("components"),
            most: super::super::MOST_KNOWN,
        };
        let stamp = |name: &str, content: &str| {
            let path = directory.path().join(name);
            fs::write(&path, content).expect("written");
            let stamp = Stamp::of(&fs::metadata(path).expect("a file"));
            Stamps::of([stamp]).expect("a regular file")
        };
        let (one, other) = (stamp("one", "bytes"), stamp("other", "bytes"));
        for (gc, exports) in [
            (false, vec![]),
            (true, vec!["wasi:cli/run@0.2.0".to_owned(), "f".to_owned()]),
        ] {
            let facts = Facts {
                hash: crate::cache::hash(b"bytes"),
                gc,
                exports,
            };
            cache.note(&one, &facts);
            assert_eq!(cache.facts(&one), Some(facts));
            assert_eq!(cache.facts(&other), None);
        }
    }
}
