//! Room for the adapter in a Go module's memory.
//!
//! The adapter keeps a stack and its state in the module's memory: a page each,
//! which it asks of the module's `cabi_realloc`, or takes by `memory.grow`.
//! Since Go 1.24, the heap of `GOOS=wasip1` takes for its own all that lies
//! between the end of its data and the end of the memory, whoever made that
//! grow (`sbrk` in Go's `runtime/mem_wasm.go`), and would overwrite them.
//!
//! `osinit` rounds the end of the data up to a page, as the heap's start, and
//! then reads the memory's size. No other function does that. So the heap of
//! the changed module starts two pages later, its memory is two pages larger,
//! and its `cabi_realloc` hands out the two pages between data and heap.
//!
//! The heap of older versions takes what `memory.grow` returned, and never reads
//! the memory's size: they stay as they are.

use wasm_encoder::{BlockType, ConstExpr, Encode as _, Function};
use wasmparser::{
    Data, DataKind, FunctionBody, MemorySectionReader, Operator, Parser, Payload, TypeRef,
    TypeSectionReader,
};

use super::REALLOC;
use super::sections::{Section, appended, number, rewritten, write_number};

/// Size of a page.
const PAGE: u32 = 0x1_0000;

/// Number of pages that the adapter asks for.
const PAGES: u32 = 2;

/// `memory.size`, in code.
const MEMORY_SIZE: [u8; 2] = [0x3f, 0];

/// The number that `osinit` adds before it rounds down, and the one that the
/// changed module adds: of one length.
const ROUND_UP: [u8; 4] = [0x42, 0xff, 0xff, 0x03];
const ROUND_UP_AND_RESERVE: [u8; 4] = [0x42, 0xff, 0xff, 0x0b];

/// Identities of sections.
const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const MEMORIES: u8 = 5;
const GLOBALS: u8 = 6;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;

/// A Go module that has been judged.
#[derive(Debug)]
pub(super) enum Heap {
    /// It may be adapted as it is.
    Apart,
    /// The module with room for the adapter.
    Moved(Vec<u8>),
}

/// Returns a Go module whose heap is apart from what the adapter keeps. Returns
/// `None` if its runtime is not of the form that is known here.
pub(super) fn apart(module: &[u8]) -> Option<Heap> {
    let parts = Parts::of(module)?;
    let mut reading = parts.containing(&MEMORY_SIZE);
    reading.retain(|body| has(body, |op| matches!(op, Operator::MemorySize { .. })));
    let size = match &*reading {
        [] => return Some(Heap::Apart),
        [one] => parts.index_of(one)?,
        _ => return None,
    };
    let mut call = vec![0x10];
    size.encode(&mut call);
    let is_call = |op: &Operator<'_>| match op {
        Operator::Call { function_index } => *function_index == size,
        _ => false,
    };
    let mut callers = parts.containing(&call);
    callers.retain(|body| has(body, is_call));
    let [osinit] = &*callers else { return None };
    let rounding = Rounding::of(osinit)?;
    let data_end = parts.word(rounding.address)?;
    let is_behind =
        |data: &Segment<'_>| u64::from(data.start) + data.bytes.len() as u64 <= data_end;
    if !parts.data.iter().all(is_behind) {
        return None;
    }
    let room = u32::try_from(data_end.checked_next_multiple_of(PAGE.into())?).ok()?;
    if u64::from(room) > parts.memory.checked_mul(PAGE.into())? {
        return None;
    }
    let end = room.checked_add(PAGE * PAGES)?;
    Some(Heap::Moved(parts.moved(module, rounding.at, room..end)?))
}

/// Parts of a module that are needed.
#[derive(Debug, Default)]
struct Parts<'a> {
    types: u32,
    imported_functions: u32,
    globals: u32,
    /// Initial size of its memory in pages.
    memory: u64,
    code: Vec<FunctionBody<'a>>,
    data: Vec<Segment<'a>>,
}

#[derive(Debug)]
struct Segment<'a> {
    start: u32,
    bytes: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Returns `None` if the module is broken, or not as Go's linker writes it.
    fn of(module: &'a [u8]) -> Option<Self> {
        let mut parts = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::TypeSection(section) => parts.types = plain(&section)?,
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import.ok()?.ty {
                            TypeRef::Func(_) => parts.imported_functions += 1,
                            _ => return None,
                        }
                    }
                }
                Payload::MemorySection(section) => parts.memory = initial(&section)?,
                Payload::GlobalSection(section) => parts.globals = section.count(),
                Payload::CodeSectionEntry(body) => parts.code.push(body),
                Payload::DataSection(section) => {
                    for data in section {
                        parts.data.push(Segment::of(&data.ok()?)?);
                    }
                }
                _ => {}
            }
        }
        Some(parts)
    }

    /// Returns the bodies of the functions that contain some bytes, as
    /// instructions or within them.
    fn containing(&self, bytes: &[u8]) -> Vec<FunctionBody<'a>> {
        let contains =
            |body: &&FunctionBody<'_>| body.as_bytes().windows(bytes.len()).any(|it| it == bytes);
        self.code.iter().filter(contains).cloned().collect()
    }

    fn index_of(&self, body: &FunctionBody<'_>) -> Option<u32> {
        let own = self.code.iter().position(|it| it.range() == body.range())?;
        self.imported_functions
            .checked_add(u32::try_from(own).ok()?)
    }

    /// Returns the eight bytes that a new instance's memory has at an address,
    /// as a number.
    fn word(&self, address: u32) -> Option<u64> {
        let mut word = [0; 8];
        for (place, byte) in (address..).zip(&mut word) {
            for data in &self.data {
                let Some(offset) = place.checked_sub(data.start) else {
                    continue;
                };
                if let Some(written) = data.bytes.get(usize::try_from(offset).ok()?) {
                    *byte = *written;
                }
            }
        }
        Some(u64::from_le_bytes(word))
    }

    /// Returns the module with a `cabi_realloc` that hands out `room`. `round_up`
    /// is the place of the instruction to be changed.
    fn moved(&self, module: &[u8], round_up: usize, room: std::ops::Range<u32>) -> Option<Vec<u8>> {
        let mut module = module.to_vec();
        let place = module.get_mut(round_up..round_up + ROUND_UP.len())?;
        if place != ROUND_UP {
            return None;
        }
        place.copy_from_slice(&ROUND_UP_AND_RESERVE);
        let function = self
            .imported_functions
            .checked_add(u32::try_from(self.code.len()).ok()?)?;
        let mut left = vec![TYPES, FUNCTIONS, MEMORIES, GLOBALS, EXPORTS, CODE];
        let moved = rewritten(&module, |id, content| {
            let Some(place) = left.iter().position(|it| *it == id) else {
                return Some(Section::Kept);
            };
            left.remove(place);
            let mut item = Vec::new();
            match id {
                // Four numbers, and the result.
                TYPES => item.extend([0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f]),
                FUNCTIONS => self.types.encode(&mut item),
                MEMORIES => return larger(content).map(Section::Changed),
                GLOBALS => {
                    // A number that may be written.
                    item.extend([0x7f, 1]);
                    ConstExpr::i32_const(room.start.cast_signed()).encode(&mut item);
                }
                EXPORTS => {
                    REALLOC.encode(&mut item);
                    item.push(0);
                    function.encode(&mut item);
                }
                _ => handing_out(self.globals, room.end).encode(&mut item),
            }
            appended(content, &item).map(Section::Changed)
        });
        moved.filter(|_| left.is_empty())
    }
}

impl<'a> Segment<'a> {
    fn of(data: &Data<'a>) -> Option<Self> {
        let DataKind::Active { offset_expr, .. } = &data.kind else {
            return None;
        };
        let start = match offset_expr.get_operators_reader().read() {
            Ok(Operator::I32Const { value }) => value.cast_unsigned(),
            _ => return None,
        };
        Some(Self {
            start,
            bytes: data.data,
        })
    }
}

/// The instructions of `osinit` that make the heap's start of the data's end.
#[derive(Debug)]
struct Rounding {
    /// Address of the data's end.
    address: u32,
    /// Place in the module of the instruction that has the number to add.
    at: usize,
}

impl Rounding {
    /// Returns `None` unless there is exactly one.
    fn of(osinit: &FunctionBody<'_>) -> Option<Self> {
        let instructions = osinit.get_operators_reader().ok()?;
        let instructions: Result<Vec<_>, _> = instructions.into_iter_with_offsets().collect();
        let instructions = instructions.ok()?;
        let mut found = instructions.windows(7).filter_map(|these| match these {
            [
                (Operator::I64Const { value }, _),
                (Operator::I32WrapI64, _),
                (Operator::I64Load { memarg }, _),
                (Operator::I64Const { value: 0xffff }, at),
                (Operator::I64Add, _),
                (Operator::I64Const { value: -0x1_0000 }, _),
                (Operator::I64And, _),
            ] => {
                let address = u64::try_from(*value).ok()?.checked_add(memarg.offset)?;
                Some(Self {
                    address: u32::try_from(address).ok()?,
                    at: *at,
                })
            }
            _ => None,
        });
        let rounding = found.next()?;
        found.next().is_none().then_some(rounding)
    }
}

/// Returns the number of types, if each is a group of its own.
fn plain(section: &TypeSectionReader<'_>) -> Option<u32> {
    for group in section.clone() {
        if group.ok()?.types().len() != 1 {
            return None;
        }
    }
    Some(section.count())
}

/// Returns the initial size of the one memory in pages.
fn initial(section: &MemorySectionReader<'_>) -> Option<u64> {
    let mut memories = section.clone().into_iter();
    let memory = memories.next()?.ok()?;
    let is_plain = !memory.memory64
        && !memory.shared
        && memory.maximum.is_none()
        && memory.page_size_log2.is_none();
    (is_plain && memories.next().is_none()).then_some(memory.initial)
}

/// Returns the content of a section of one memory with its initial size
/// increased.
fn larger(content: &[u8]) -> Option<Vec<u8>> {
    let (count, rest) = number(content)?;
    let [flags @ 0, rest @ ..] = rest else {
        return None;
    };
    let (initial, rest) = number(rest)?;
    let mut changed = Vec::new();
    write_number(&mut changed, count);
    changed.push(*flags);
    write_number(&mut changed, initial.checked_add(PAGES as usize)?);
    changed.extend(rest);
    Some(changed)
}

/// Returns a `cabi_realloc` that hands out pages from the one in a global up to
/// `end`, and traps if asked for something else.
fn handing_out(global: u32, end: u32) -> Function {
    let page = PAGE.cast_signed();
    let mut function = Function::new([]);
    let mut code = function.instructions();
    // The old address, and the new size.
    code.local_get(0).if_(BlockType::Empty).unreachable().end();
    code.local_get(3).i32_const(page).i32_gt_u();
    code.if_(BlockType::Empty).unreachable().end();
    code.global_get(global)
        .i32_const(end.cast_signed())
        .i32_ge_u();
    code.if_(BlockType::Empty).unreachable().end();
    code.global_get(global);
    code.global_get(global)
        .i32_const(page)
        .i32_add()
        .global_set(global);
    code.end();
    function
}

/// True if an instruction of a function is one that `wanted` is true for.
fn has(body: &FunctionBody<'_>, wanted: impl Fn(&Operator<'_>) -> bool) -> bool {
    let Ok(mut instructions) = body.get_operators_reader() else {
        return false;
    };
    while !instructions.eof() {
        match instructions.read() {
            Ok(instruction) if wanted(&instruction) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with the parts of Go's that matter: `$size` is `currentMemory`,
    /// `$init` is `osinit`, and address 8 holds the end of the data.
    fn module(init: &str, end: &str) -> Vec<u8> {
        let text = format!(
            r#"(module
                (type $call (func (param i32) (result i32)))
                (import "p1" "fd_write" (func $write (type $call)))
                (memory (export "memory") 3)
                (global $sp (mut i32) (i32.const 0))
                (func $size (result i32) (memory.size))
                (func $init
                    (i64.store (i32.const 16) {init})
                    (i64.store (i32.const 24) (i64.extend_i32_u (call $size))))
                (func (export "_start") (call $init))
                (data (i32.const 8) "{end}"))"#
        );
        wat::parse_str(text).expect("a module")
    }

    const ROUNDED: &str = "(i64.and
        (i64.add (i64.load (i32.wrap_i64 (i64.const 8))) (i64.const 0xffff))
        (i64.const -0x10000))";

    #[test]
    fn the_heap_starts_behind_the_adapters_pages() {
        let changed = apart(&module(ROUNDED, "\\34\\12\\01"));
        let Some(Heap::Moved(changed)) = changed else {
            panic!("{changed:?}");
        };
        wasmparser::validate(&changed).expect("it is a module");
        let engine = wasmtime::Engine::default();
        let changed = wasmtime::Module::new(&engine, changed).expect("it compiles");
        let mut store = wasmtime::Store::new(&engine, ());
        let write = wasmtime::Func::wrap(&mut store, |_: i32| 0_i32);
        let instance =
            wasmtime::Instance::new(&mut store, &changed, &[write.into()]).expect("an instance");
        let realloc = instance
            .get_typed_func::<(i32, i32, i32, i32), i32>(&mut store, REALLOC)
            .expect("cabi_realloc");
        let mut ask = |size| realloc.call(&mut store, (0, 0, 8, size));
        assert_eq!(ask(0x1_0000).expect("a page"), 0x2_0000);
        ask(0x1_0001).expect_err("more than a page");
        assert_eq!(ask(0x1_0000).expect("a page"), 0x3_0000);
        ask(0x1_0000).expect_err("a third page");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start");
        start
            .expect("_start")
            .call(&mut store, ())
            .expect("a start");
        let memory = instance.get_memory(&mut store, "memory").expect("a memory");
        let word = |at: usize| {
            let bytes = memory.data(&store).get(at..at + 8).expect("a word");
            u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
        };
        assert_eq!((word(16), word(24)), (0x4_0000, 5));
    }

    #[test]
    fn what_is_not_known_is_not_changed() {
        let rounded = |init: &str, end: &str| apart(&module(init, end));
        // Data behind the end, an end behind the memory, no rounding, and two.
        assert!(rounded(ROUNDED, "\\01").is_none());
        assert!(rounded(ROUNDED, "\\34\\12\\03").is_none());
        assert!(rounded("(i64.const 0x20000)", "\\34\\12\\01").is_none());
        let twice = format!("(i64.add {ROUNDED} {ROUNDED})");
        assert!(rounded(&twice, "\\34\\12\\01").is_none());
        let older = wat::parse_str("(module (memory 1) (func (drop (memory.grow (i32.const 1)))))");
        let older = apart(&older.expect("a module"));
        assert!(matches!(older, Some(Heap::Apart)), "{older:?}");
    }
}
