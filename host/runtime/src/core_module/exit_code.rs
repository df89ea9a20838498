//! Exit codes of adapted commands. The adapter tells only success or failure:
//! its `proc_exit` calls `exit` of `wasi:cli/exit`. A module whose `proc_exit`
//! is `exit-with-code` of that interface keeps its code.

use wasmparser::{BinaryReader, ImportSectionReader, Imports};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::sections::{Section, rewritten, write_number};

/// Import of preview 1 that ends a program.
const PROC_EXIT: &str = "proc_exit";

/// Its replacement.
const EXIT: &str = "wasi:cli/exit@";
const EXIT_WITH_CODE: &str = "exit-with-code";

/// Identity of the section of imports.
const IMPORTS: u8 = 2;

/// Returns a command that ends with its own exit code. `p1` is the module name
/// of preview 1, and `adapter` has the version of WASI 0.2. Returns `None` if
/// the module does not import `proc_exit`, or in a form that is not known here.
pub(super) fn kept(module: &[u8], p1: &str, adapter: &[String]) -> Option<Vec<u8>> {
    let version = adapter.iter().find_map(|name| name.strip_prefix(EXIT))?;
    let interface = format!("{EXIT}{version}");
    let mut found = false;
    let mut changed = rewritten(module, |id, content| {
        if id != IMPORTS {
            return Some(Section::Kept);
        }
        let (imports, is_there) = renamed(content, p1, &interface)?;
        found |= is_there;
        Some(Section::Changed(imports))
    })?;
    if !found {
        return None;
    }
    let text = format!(
        "package netwasm:adapted;\n\
         world command {{ import wasi:cli/exit@{version}; }}\n\
         package wasi:cli@{version} {{\n\
             interface exit {{ exit-with-code: func(status-code: u8); }}\n\
         }}\n"
    );
    let mut resolve = Resolve::default();
    let package = resolve.push_str("adapted.wit", &text).ok()?;
    let world = resolve.select_world(&[package], Some("command")).ok()?;
    embed_component_metadata(&mut changed, &resolve, world, StringEncoding::UTF8).ok()?;
    Some(changed)
}

/// Returns the content of a section of imports in which `proc_exit` is
/// `exit-with-code`, and true if it was there.
fn renamed(content: &[u8], p1: &str, interface: &str) -> Option<(Vec<u8>, bool)> {
    let section = ImportSectionReader::new(BinaryReader::new(content, 0)).ok()?;
    let mut changed = Vec::with_capacity(content.len() + interface.len());
    write_number(&mut changed, usize::try_from(section.count()).ok()?);
    let items: Vec<_> = section
        .into_iter_with_offsets()
        .collect::<Result<_, _>>()
        .ok()?;
    let mut found = false;
    for (number, (start, item)) in items.iter().enumerate() {
        let end = items
            .get(number + 1)
            .map_or(content.len(), |(next, _)| *next);
        match item {
            Imports::Single(_, import) if import.module == p1 && import.name == PROC_EXIT => {
                let name_end = import.name.as_bytes().as_ptr_range().end as usize;
                let ty = content.get(name_end - content.as_ptr() as usize..end)?;
                for name in [interface, EXIT_WITH_CODE] {
                    write_number(&mut changed, name.len());
                    changed.extend(name.as_bytes());
                }
                changed.extend(ty);
                found = true;
            }
            _ => changed.extend(content.get(*start..end)?),
        }
    }
    Some((changed, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_import_is_another_and_the_rest_stays() {
        let module = wat::parse_str(
            r#"(module
                (import "p1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
                (import "p1" "proc_exit" (func $exit (param i32)))
                (import "other" "proc_exit" (func (param i32)))
                (func (export "_start") (call $exit (i32.const 7)))
                (memory 1) (data (i32.const 0) "data"))"#,
        );
        let module = module.expect("a module");
        let adapter = ["wasi:cli/exit@0.2.12".to_owned()];
        let changed = kept(&module, "p1", &adapter).expect("it has proc_exit");
        wasmparser::validate(&changed).expect("it is a module");
        let names = |module: &[u8]| {
            let outline = super::super::Outline::of(module).expect("a module");
            let imports = outline.imports.into_iter();
            imports
                .map(|(from, name)| format!("{from} {name}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&changed),
            [
                "other proc_exit",
                "p1 fd_write",
                "wasi:cli/exit@0.2.12 exit-with-code"
            ]
        );
        let none = wat::parse_str("(module (func (export \"_start\")))").expect("a module");
        assert_eq!(kept(&none, "p1", &adapter), None);
        assert_eq!(kept(b"\0asm\x01\0\0\0\x02\xff", "p1", &adapter), None);
        assert_eq!(kept(&module, "p1", &[]), None);
    }
}
