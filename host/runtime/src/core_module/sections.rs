//! A module's sections, and the numbers in them.

use std::io::Write as _;

use wasmparser::BinaryReader;

/// Length of a module's magic number and version.
const PREAMBLE: usize = 8;

/// Fate of a section.
pub(super) enum Section {
    Kept,
    /// Its new content.
    Changed(Vec<u8>),
}

/// Returns a module of which `change`, by identity and content, has changed
/// sections. Returns `None` if `change` does, or if the module is broken.
pub(super) fn rewritten(
    module: &[u8],
    mut change: impl FnMut(u8, &[u8]) -> Option<Section>,
) -> Option<Vec<u8>> {
    let mut changed = module.get(..PREAMBLE)?.to_vec();
    let mut rest = module.get(PREAMBLE..)?;
    while let [id, after @ ..] = rest {
        let (size, content) = number(after)?;
        let content = content.get(..size)?;
        let end = content.as_ptr_range().end as usize - rest.as_ptr() as usize;
        let (section, others) = rest.split_at_checked(end)?;
        match change(*id, content)? {
            Section::Kept => changed.extend(section),
            Section::Changed(content) => {
                changed.push(*id);
                write_number(&mut changed, content.len());
                changed.extend(content);
            }
        }
        rest = others;
    }
    Some(changed)
}

/// Returns a section's content with another item at its end.
pub(super) fn appended(content: &[u8], item: &[u8]) -> Option<Vec<u8>> {
    let (count, items) = number(content)?;
    let mut changed = Vec::with_capacity(content.len() + item.len() + 1);
    write_number(&mut changed, count.checked_add(1)?);
    changed.extend(items);
    changed.extend(item);
    Some(changed)
}

/// Reads an unsigned number in LEB128, and returns what follows it.
pub(super) fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut reader = BinaryReader::new(bytes, 0);
    let number = reader.read_var_u32().ok()?;
    let rest = bytes.get(reader.original_position()..)?;
    Some((usize::try_from(number).ok()?, rest))
}

/// Appends a number in LEB128.
pub(super) fn write_number(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        let more = if number == 0 { 0 } else { 0x80 };
        // Writing to a vector does not fail.
        let _ = bytes.write_all(&[low | more]);
        if number == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for value in [0, 1, 127, 128, 300, 1 << 20] {
            let mut bytes = Vec::new();
            write_number(&mut bytes, value);
            bytes.push(9);
            assert_eq!(number(&bytes), Some((value, &[9][..])));
        }
    }
}
