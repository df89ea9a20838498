//! The description of a component: its exports and imports, and what its
//! sections say of it.

use std::collections::BTreeMap;

use wasmparser::{Encoding, Parser, Payload};

use crate::media::Interface;

/// Sections that describe a component, by the conventions of WebAssembly's
/// tools, and the annotations that they become.
const SECTIONS: [(&str, &str); 7] = [
    ("authors", "org.opencontainers.image.authors"),
    ("description", "org.opencontainers.image.description"),
    ("homepage", "org.opencontainers.image.url"),
    ("licenses", "org.opencontainers.image.licenses"),
    ("revision", "org.opencontainers.image.revision"),
    ("source", "org.opencontainers.image.source"),
    ("version", "org.opencontainers.image.version"),
];

/// Largest section that becomes an annotation, in bytes.
const MOST: usize = 4096;

/// Description of a component.
#[derive(Debug)]
pub(crate) struct Described {
    /// System that it is for, as CNCF's layout has it.
    pub(crate) os: &'static str,
    /// Exports and imports; `None` for a core module.
    pub(crate) interface: Option<Interface>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Describes a component or a core module.
///
/// # Errors
/// Says why it is neither.
pub(crate) fn describe(bytes: &[u8]) -> Result<Described, String> {
    if !bytes.starts_with(b"\0asm") {
        return Err(match bytes.trim_ascii_start().first() {
            None => "it is empty".into(),
            Some(b'(' | b';') => "it is in text form, and registries have the binary one: \
                                  `wasm-tools parse` makes it"
                .into(),
            Some(_) => "it is not WebAssembly".into(),
        });
    }
    let mut interface = Interface::default();
    let mut annotations = BTreeMap::new();
    let mut depth = 0_usize;
    let mut is_component = false;
    let wrong = |error: &dyn std::fmt::Display| format!("its binary form is wrong: {error}");
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| wrong(&error))? {
            Payload::Version { encoding, .. } if depth == 0 => {
                is_component = encoding == Encoding::Component;
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            // The last one ends the outermost.
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    let import = import.map_err(|error| wrong(&error))?;
                    interface.imports.push(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    let export = export.map_err(|error| wrong(&error))?;
                    interface.exports.push(export.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if depth == 0 => {
                let mut sections = SECTIONS.iter();
                let known = sections.find(|(name, _)| *name == section.name());
                let text = std::str::from_utf8(section.data());
                if let (Some((_, annotation)), Ok(text)) = (known, text)
                    && (1..=MOST).contains(&text.len())
                {
                    annotations.insert((*annotation).to_owned(), text.to_owned());
                }
            }
            _ => {}
        }
    }
    interface.exports.sort_unstable();
    interface.imports.sort_unstable();
    Ok(Described {
        os: if is_component { "wasip2" } else { "wasip1" },
        interface: is_component.then_some(interface),
        annotations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a section: its number, its length, its bytes.
    fn section(id: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("short");
        [[id, length].as_slice(), bytes].concat()
    }

    fn custom(name: &str, text: &str) -> Vec<u8> {
        let length = u8::try_from(name.len()).expect("short");
        section(
            0,
            &[[length].as_slice(), name.as_bytes(), text.as_bytes()].concat(),
        )
    }

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn only_the_outermost_component_is_described() {
        let inner = [MODULE, &custom("version", "inner")].concat();
        // Types: one empty instance type. Import `a:b/c`, export it as `d:e/f`.
        let bytes = [
            COMPONENT,
            &section(1, &inner),
            &section(7, &[1, 0x42, 0]),
            &section(10, &[[1, 0, 5].as_slice(), b"a:b/c", &[5, 0]].concat()),
            &section(11, &[[1, 0, 5].as_slice(), b"d:e/f", &[5, 0, 0]].concat()),
            &custom("version", "1.2"),
            &custom("homepage", "https://a.example"),
            &custom("licenses", ""),
            &custom("name", "x"),
        ]
        .concat();
        let described = describe(&bytes).expect("a component");
        assert_eq!(described.os, "wasip2");
        let interface = described.interface.expect("a component's");
        assert_eq!(interface.imports, ["a:b/c"]);
        assert_eq!(interface.exports, ["d:e/f"]);
        let annotations: Vec<_> = described.annotations.into_iter().collect();
        assert_eq!(
            annotations,
            [
                (
                    "org.opencontainers.image.url".into(),
                    "https://a.example".into()
                ),
                ("org.opencontainers.image.version".into(), "1.2".into()),
            ]
        );
        let module = describe(&inner).expect("a module");
        assert_eq!((module.os, module.interface), ("wasip1", None));
    }

    #[test]
    fn other_files_are_told() {
        for (bytes, told) in [
            (b"".as_slice(), "empty"),
            (b"  (component)", "text form"),
            (b"\x7fELF", "not WebAssembly"),
            (b"\0asm\x0d\0\x01\0\x01\xff", "is wrong"),
        ] {
            let error = describe(bytes).expect_err(told);
            assert!(error.contains(told), "{error}");
        }
    }
}
