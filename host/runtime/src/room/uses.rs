//! Features of WebAssembly that take room of their own.

use wasmparser::{CompositeInnerType, HeapType, Parser, Payload, RefType, TypeRef};

/// Features of WebAssembly that a component uses, as its binary form tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// True if it needs a heap of collected objects: for languages with garbage
    /// collection, and for exceptions.
    pub(crate) gc: bool,
    /// True if it has memory that threads share.
    pub(crate) shared_memory: bool,
}

impl Uses {
    /// Reads a component in binary form. Leaves unreadable bytes to the
    /// compiler to report.
    pub(crate) fn of_binary(component: &[u8]) -> Self {
        let mut uses = Self::default();
        for payload in Parser::new(0).parse_all(component) {
            match payload {
                Ok(payload) => uses.see(payload),
                Err(_) => break,
            }
        }
        uses
    }

    fn see(&mut self, payload: Payload<'_>) {
        match payload {
            Payload::TypeSection(groups) => {
                for group in groups.into_iter().flatten() {
                    self.gc |= group.types().any(|ty| {
                        let kind = &ty.composite_type.inner;
                        !matches!(kind, CompositeInnerType::Func(_))
                    });
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports().flatten() {
                    match import.ty {
                        TypeRef::Tag(_) => self.gc = true,
                        TypeRef::Memory(memory) => self.shared_memory |= memory.shared,
                        TypeRef::Table(table) => self.gc |= !of_functions(table.element_type),
                        _ => {}
                    }
                }
            }
            Payload::TagSection(_) => self.gc = true,
            Payload::TableSection(tables) => {
                for table in tables.into_iter().flatten() {
                    self.gc |= !of_functions(table.ty.element_type);
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories.into_iter().flatten() {
                    self.shared_memory |= memory.shared;
                }
            }
            _ => {}
        }
    }
}

/// True if references are not to collected objects. For a type given by number,
/// its definition decides.
fn of_functions(references: RefType) -> bool {
    match references.heap_type() {
        HeapType::Abstract { .. } => references.is_func_ref(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(module: &str) -> Uses {
        // In a nested component, as tools emit them.
        let text = format!("(component (component (core module {module})))");
        Uses::of_binary(&wat::parse_str(text).expect("a component"))
    }

    #[test]
    fn what_needs_a_heap_of_objects_is_told_from_what_does_not() {
        for module in [
            "(type (struct))",
            "(type (array i8))",
            "(tag)",
            r#"(import "" "" (tag))"#,
            "(table 1 externref)",
            r#"(import "" "" (table 1 anyref))"#,
        ] {
            assert!(uses(module).gc, "{module}");
        }
        for module in [
            "(table 1 funcref) (memory 1)",
            "(type (func (param i32))) (func (type 0))",
            r#"(import "" "" (table 1 funcref)) (import "" "" (memory 1))"#,
        ] {
            assert_eq!(uses(module), Uses::default(), "{module}");
        }
        assert!(uses("(memory 1 1 shared)").shared_memory);
        assert_eq!(Uses::of_binary(b"nonsense"), Uses::default());
    }
}
