//! Version of a file, and the entity tag made from it (RFC 9110, section
//! 8.8.3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netwasm_net::files::Metadata;

/// Age from which a file's time is reliable. A younger file may change again
/// without its time showing it, because of the resolution of clocks and file
/// systems (RFC 9110, section 8.8.1 and 8.8.2.2).
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// Seconds since 1970, and nanoseconds of the next, as in file systems.
type FileTime = (i64, u32);

/// Earliest time that counts as genuine, in seconds since 1970: 1990, as the
/// web is no older. Reproducible builds give all files one time, usually an
/// earlier one: 0 or 1 (Nix, `OSTree`, Bazel), 1980 (zip) or 1985 (npm).
const OLDEST: i64 = 631_152_000;

/// Later such times: 2000 and 2010 (Bazel's rules).
const CONSTANTS: [FileTime; 2] = [(946_684_800, 0), (1_262_304_000, 0)];

/// Version of a file, which tells files of one length apart.
///
/// The time of the content's last change is best: copies on several machines
/// share it, so that a client may ask any of them. If tools have set it to a
/// constant, two builds share it, too. Then the time of the inode's last change
/// serves. It differs between machines, which only costs a transfer. It is not
/// a date of the content, so there is no `Last-Modified`. A read-only image may
/// have constants there, too.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    Modified(FileTime),
    Changed(FileTime, u64),
    Unknown,
}

impl Version {
    pub(crate) fn of(metadata: Metadata) -> Self {
        let tells = |time: FileTime| time.0 >= OLDEST && !CONSTANTS.contains(&time);
        match metadata {
            Metadata { modified, .. } if tells(modified) => Self::Modified(modified),
            Metadata { changed, inode, .. } if tells(changed) => Self::Changed(changed, inode),
            _ => Self::Unknown,
        }
    }
}

/// A file's own entity tag, made from its time, length and coding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileTag {
    bytes: [u8; 64],
    length: usize,
}

impl FileTag {
    /// Returns the tag of a file. `coding` is set for a compressed sibling.
    /// `None` if nothing tells versions of the file apart.
    pub(crate) fn new(metadata: Metadata, coding: Option<&str>, now: SystemTime) -> Option<Self> {
        let (time, inode) = match Version::of(metadata) {
            Version::Modified(time) => (time, None),
            Version::Changed(time, inode) => (time, Some(inode)),
            Version::Unknown => return None,
        };
        let mut tag = Self {
            bytes: [0; 64],
            length: 0,
        };
        tag.push(if is_settled(time, now) {
            b"\""
        } else {
            b"W/\""
        });
        let (seconds, nanoseconds) = time;
        let nanoseconds = seconds
            .wrapping_mul(1_000_000_000)
            .wrapping_add(i64::from(nanoseconds));
        tag.push_hexadecimal(nanoseconds.cast_unsigned());
        for number in inode.into_iter().chain([metadata.length]) {
            tag.push(b"-");
            tag.push_hexadecimal(number);
        }
        if let Some(coding) = coding {
            tag.push(b"-");
            tag.push(coding.as_bytes());
        }
        tag.push(b"\"");
        Some(tag)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        // The longest needs 59: three numbers of 16 digits, `W/`, the quotes,
        // and a coding of 4 letters, with three dashes.
        if let Some(free) = self.bytes.get_mut(self.length..end) {
            free.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn push_hexadecimal(&mut self, number: u64) {
        let digits = (64 - (number | 1).leading_zeros()).div_ceil(4);
        for place in (0..digits).rev() {
            let digit = (number >> (4 * place)) as u8 & 0xf;
            self.push(&[digit + if digit < 10 { b'0' } else { b'a' - 10 }]);
        }
    }
}

/// True if a file was last changed long enough ago. A time in the future does
/// not count, because then one of the clocks is wrong.
pub(crate) fn is_settled((seconds, nanoseconds): FileTime, now: SystemTime) -> bool {
    let Ok(seconds) = u64::try_from(seconds) else {
        return true;
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(Duration::new(seconds, nanoseconds))
        .is_some_and(|age| age >= SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 2_000_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn metadata(modified: FileTime, changed: FileTime, length: u64) -> Metadata {
        Metadata {
            length,
            modified,
            changed,
            inode: 0x1a,
        }
    }

    fn text(metadata: Metadata, coding: Option<&str>, now: SystemTime) -> Option<String> {
        let tag = FileTag::new(metadata, coding, now)?;
        Some(String::from_utf8(tag.as_bytes().to_vec()).expect("text"))
    }

    fn own(modified: FileTime, length: u64, now: SystemTime) -> String {
        // As of a copy that keeps the time of the content.
        let metadata = metadata(modified, (NOW - 10, 0), length);
        text(metadata, None, now).expect("a tag")
    }

    #[test]
    fn a_tag_tells_apart_times_lengths_and_codings() {
        let now = at(2_000_000_000);
        let tag = own((1_000_000_000, 1), 0x400, now);
        assert_eq!(tag, "\"de0b6b3a7640001-400\"");
        assert_ne!(tag, own((1_000_000_000, 2), 0x400, now));
        assert_ne!(tag, own((1_000_000_001, 1), 0x400, now));
        assert_ne!(tag, own((1_000_000_000, 1), 0x401, now));
        let file = metadata((1_000_000_000, 1), (0, 0), 0);
        let coded = text(file, Some("gzip"), now);
        assert_eq!(coded.as_deref(), Some("\"de0b6b3a7640001-0-gzip\""));
    }

    #[test]
    fn copies_that_keep_the_time_have_one_tag() {
        let now = at(2_000_000_000);
        let one = metadata((1_000_000_000, 1), (1_100_000_000, 2), 7);
        let other = Metadata {
            changed: (1_200_000_000, 3),
            inode: 99,
            ..one
        };
        assert_eq!(text(one, None, now), text(other, None, now));
    }

    #[test]
    fn files_whose_time_is_a_constant_are_told_apart_by_their_inode() {
        let now = at(2_000_000_000);
        for constant in [
            -5,
            0,
            1,
            315_532_800,
            499_162_500,
            946_684_800,
            1_262_304_000,
        ] {
            let one = metadata((constant, 0), (1_000_000_000, 1), 7);
            let tag = text(one, None, now);
            assert_eq!(
                tag.as_deref(),
                Some("\"de0b6b3a7640001-1a-7\""),
                "{constant}"
            );
            for other in [
                Metadata {
                    changed: (1_000_000_000, 2),
                    ..one
                },
                Metadata { inode: 0x1b, ..one },
                Metadata { length: 8, ..one },
            ] {
                assert_ne!(text(other, None, now), tag, "{constant}");
            }
        }
        // A second later it is no constant.
        let file = metadata((946_684_801, 0), (1_000_000_000, 1), 7);
        let tag = text(file, None, now).expect("a tag");
        assert_eq!(tag.matches('-').count(), 1, "{tag}");
    }

    #[test]
    fn where_all_times_are_constants_there_is_no_tag() {
        let now = at(2_000_000_000);
        for (modified, changed) in [(0, 0), (1, 1), (315_532_800, 0), (0, 946_684_800)] {
            let file = metadata((modified, 0), (changed, 0), 7);
            assert_eq!(text(file, None, now), None, "{modified}, {changed}");
        }
    }

    #[test]
    fn the_longest_tag_is_whole() {
        let file = Metadata {
            inode: u64::MAX,
            ..metadata((0, 0), (i64::MAX, 0), u64::MAX)
        };
        let tag = text(file, Some("zstd"), UNIX_EPOCH).expect("a tag");
        let number = "ffffffffffffffff";
        let end = format!("-{number}-{number}-zstd\"");
        assert!(tag.starts_with("W/\"") && tag.ends_with(&end), "{tag}");
        assert_eq!(tag.len(), 59, "{tag}");
    }

    #[test]
    fn the_tag_of_a_file_that_may_change_again_is_weak() {
        let now = 1_000_000_000;
        for (ago, nanoseconds, weak) in [(2, 0, false), (2, 1, true), (0, 0, true), (-9, 0, true)] {
            let modified = (now - ago, nanoseconds);
            let tag = own(modified, 1, at(now.unsigned_abs()));
            assert_eq!(tag.starts_with("W/\""), weak, "{modified:?}");
            let changed = metadata((0, 0), modified, 1);
            let tag = text(changed, None, at(now.unsigned_abs())).expect("a tag");
            assert_eq!(tag.starts_with("W/\""), weak, "{modified:?}");
        }
    }
}
