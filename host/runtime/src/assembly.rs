//! The bytes of a component, from all files that it is made of: its own, which
//! may be in text form or a core module, and those that are composed with it.

use std::path::PathBuf;

use netwasm_base::config::{ComponentSource, Limits};
use netwasm_base::error::Error;

use crate::cache::Stamps;
use crate::component::{self, Binary, Read};
use crate::composition::{Part, Wiring, compose};

/// A component in binary form.
pub(crate) struct Assembled {
    pub(crate) bytes: Vec<u8>,
    /// Size of its files in bytes.
    pub(crate) size: u64,
    /// True if its own file has a core module.
    pub(crate) adapted: bool,
    /// Set if it is composed.
    pub(crate) wiring: Option<Wiring>,
    /// Stamps of its files, if they tell of each later change.
    pub(crate) stamps: Option<Stamps>,
}

/// Makes a component of its file, and composes it with `plugs`.
///
/// # Errors
/// Fails with the name of a file that cannot be read, or is neither a component
/// nor a core module for WASI p1, or does not fit the others.
pub(crate) fn assemble(
    source: &ComponentSource,
    read: Read,
    plugs: &[PathBuf],
    limits: &Limits,
) -> Result<Assembled, Error> {
    let name = source.to_string();
    let mut size = read.bytes.len() as u64;
    let mut stamps = vec![read.stamp];
    let Binary { bytes, adapted } = binary(&name, read.bytes)?;
    // Text is read again: its binary form is not in the file.
    if !adapted && bytes.len() as u64 != size {
        stamps = vec![None];
    }
    if plugs.is_empty() {
        return Ok(Assembled {
            bytes,
            size,
            adapted,
            wiring: None,
            stamps: Stamps::of(stamps),
        });
    }
    let mut parts = vec![Part {
        name: name.clone(),
        bytes,
    }];
    for plug in plugs {
        let source = ComponentSource::File(plug.clone());
        let Read { bytes, stamp } = component::read(&source, limits)?;
        size += bytes.len() as u64;
        stamps.push(stamp);
        let name = source.to_string();
        let Binary { bytes, .. } = binary(&name, bytes)?;
        parts.push(Part { name, bytes });
    }
    let (bytes, wiring) = compose(parts).map_err(|reason| Error::Component { name, reason })?;
    Ok(Assembled {
        bytes,
        size,
        adapted,
        wiring: Some(wiring),
        stamps: Stamps::of(stamps),
    })
}

/// Converts text and core modules to components in binary form, and explains
/// bytes that are neither.
fn binary(name: &str, bytes: Vec<u8>) -> Result<Binary, Error> {
    component::to_binary(bytes).map_err(|reason| Error::component(name, reason))
}
