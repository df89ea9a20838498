//! The guest's functions that were running at a trap, for its log line.

use wasmtime::{FrameInfo, Trap, WasmBacktrace};

/// Most functions that a line names.
const MOST: usize = 6;

/// Number of parts of a path that are kept: a type and its method, or a module
/// and its function.
const PARTS: usize = 2;

/// Most types in each other, as in `<<T as A>::B as C>`, that are looked into.
const DEEPEST: usize = 8;

/// Longest name, in bytes.
const LONGEST: usize = 128;

/// Beginnings of what a toolchain or our library adds to a guest: panicking,
/// allocating, glue, tasks.
const OF_TOOLCHAINS: [&str; 16] = [
    "core::",
    "std::",
    "alloc::",
    "panic_abort::",
    "wit_bindgen::",
    "netwasm_guest::",
    "wasip2::",
    "wasip3::",
    "dlmalloc::",
    "rust_begin_unwind",
    "__rust",
    "__wasm",
    "__main",
    "__original_main",
    "_start",
    "abort",
];

/// Returns the names of the guest's functions that were running, the innermost
/// first, as `parse < Connection::data_received`. Leaves out those of its
/// toolchain, and those without a name: a stripped guest has none.
///
/// A handler that was stopped as it took too long may be inlined into a function of
/// its library, which has the only name then.
pub(crate) fn of_trap(error: &wasmtime::Error) -> Option<String> {
    let backtrace: &WasmBacktrace = error.downcast_ref()?;
    let symbols = || backtrace.frames().iter().filter_map(FrameInfo::func_name);
    let is_stopped = matches!(error.downcast_ref(), Some(Trap::Interrupt));
    line(symbols().filter_map(short)).or_else(|| match is_stopped {
        true => line(symbols().filter_map(of_library)),
        false => None,
    })
}

fn line(names: impl Iterator<Item = String>) -> Option<String> {
    let mut names: Vec<String> = names.collect();
    // Recursion, and closures of one function.
    names.dedup();
    let more = names.len() > MOST;
    names.truncate(MOST);
    if more {
        names.push("…".to_owned());
    }
    (!names.is_empty()).then(|| names.join(" < "))
}

/// Returns the name of a function as a person would write it; `None` for one
/// that nobody wrote.
fn short(symbol: &str) -> Option<String> {
    let name = demangled(symbol)?;
    if is_of_parameter(&name) {
        return None;
    }
    let path = path(&name, DEEPEST);
    match OF_TOOLCHAINS.iter().any(|start| path.starts_with(start)) {
        true => None,
        false => ending(&path),
    }
}

/// Like [`short`], for any function. A function of a type parameter has the name of
/// its trait.
fn of_library(symbol: &str) -> Option<String> {
    let name = demangled(symbol)?;
    let of_trait = || {
        let (inside, method) = split_at_close(name.strip_prefix('<')?)?;
        let (_, of_trait) = inside.split_once(" as ")?;
        ending(&format!("{}{method}", path(of_trait, DEEPEST)))
    };
    match is_of_parameter(&name) {
        true => of_trait(),
        false => ending(&path(&name, DEEPEST)),
    }
}

/// Returns the name of a function in its source; `None` for exports of a component,
/// and for glue that bindings generate.
fn demangled(symbol: &str) -> Option<String> {
    if symbol.contains(['#', '@']) || symbol.contains("cabi") {
        return None;
    }
    Some(match rustc_demangle::try_demangle(symbol) {
        Ok(name) => format!("{name:#}"),
        Err(_) => symbol.to_owned(),
    })
}

/// Returns the last parts of a path.
fn ending(path: &str) -> Option<String> {
    let written = |part: &&str| !part.is_empty() && !part.starts_with('{');
    let parts: Vec<&str> = path.split("::").filter(written).collect();
    let kept = parts.len().saturating_sub(PARTS);
    let mut name = parts.get(kept..).unwrap_or_default().join("::");
    if name.len() > LONGEST {
        name.truncate(name.floor_char_boundary(LONGEST));
        name.push('…');
    }
    (!name.is_empty()).then_some(name)
}

/// True for `<F as Trait>::method` with a type parameter `F` and a trait of a
/// toolchain: glue around a function that has a name of its own.
fn is_of_parameter(name: &str) -> bool {
    let qualified = name.strip_prefix('<').and_then(|it| it.split_once(" as "));
    qualified.is_some_and(|(of, of_trait)| {
        of.chars().all(char::is_alphanumeric)
            && OF_TOOLCHAINS.iter().any(|it| of_trait.starts_with(it))
    })
}

/// Returns a path without the arguments of generics, with `<T as Trait>` as
/// `T`, up to `deepest` of those in each other.
fn path(name: &str, deepest: usize) -> String {
    let mut kept = String::new();
    let mut left = name;
    // Names are the guest's: there may be thousands of brackets.
    loop {
        if let Some(qualified) = left.strip_prefix('<')
            && let Some((inner, rest)) = split_at_close(qualified)
        {
            let of = inner.split(" as ").next().unwrap_or_default();
            let of = of.trim_start_matches(['&', '*']);
            let of = of.trim_start_matches("mut ").trim_start_matches("dyn ");
            if let Some(deepest) = deepest.checked_sub(1) {
                kept.push_str(&path(of, deepest));
            }
            left = rest;
        } else if let Some((before, arguments)) = left.split_once('<') {
            kept.push_str(before);
            left = split_at_close(arguments).map_or("", |(_, rest)| rest);
        } else {
            kept.push_str(left);
            return kept;
        }
    }
}

/// Splits at the `>` that closes a bracket opened before the text.
fn split_at_close(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut last) = (0, ' ');
    for (at, letter) in text.char_indices() {
        match letter {
            '<' => depth += 1,
            // An arrow closes nothing. Legacy mangling writes it as `.>`.
            '>' if matches!(last, '-' | '.') => {}
            '>' if depth == 0 => {
                let (inside, rest) = text.split_at(at);
                return Some((inside, rest.strip_prefix('>').unwrap_or_default()));
            }
            '>' => depth -= 1,
            _ => {}
        }
        last = letter;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_a_person_wrote() {
        for (symbol, name) in [
            ("_ZN5shout5parse17h05af221e174051e9E", Some("shout::parse")),
            (
                "<shout::Connection as shout::exports::net::GuestConnection>::data_received",
                Some("Connection::data_received"),
            ),
            ("shout::site::handle::{{closure}}", Some("site::handle")),
            (
                "shout::Table<u8, fn() -> u8>::insert::<Vec<u8>>",
                Some("Table::insert"),
            ),
            (
                "<&mut dyn shout::Read as Other<u8>>::read",
                Some("Read::read"),
            ),
            // Legacy mangling, in which an arrow is `.>`.
            (
                "_ZN80_$LT$shout..App$u20$as$u20$other..Handler$LT$fn$LP$A$RP$$u20$.$GT$$u20$B$GT$$GT$4call17h05af221e174051e9E",
                Some("App::call"),
            ),
            (
                "_ZN94_$LT$F$u20$as$u20$netwasm_guest..http..handler..Handler$LT$fn$LP$A$RP$$u20$.$GT$$u20$B$GT$$GT$4call17h05af221e174051e9E",
                None,
            ),
            ("<F as shout::Handler<fn(A) .> B>>::call", Some("F::call")),
            // v0.
            (
                "_RNvXC4todoNtC4todo3AppINtC13netwasm_guest7HandlerFhEhE4call",
                Some("App::call"),
            ),
            ("core::panicking::panic_fmt", None),
            ("__main_void", None),
            ("<alloc::vec::Vec<T> as core::ops::Index>::index", None),
            (
                "netwasm:net/tcp-handler@0.1.0#[method]connection.data-received",
                None,
            ),
            ("shout::_export_method_connection_data_received_cabi", None),
            ("js_call", Some("js_call")),
            ("<", None),
        ] {
            assert_eq!(short(symbol).as_deref(), name, "{symbol}");
        }
    }

    #[test]
    fn names_of_any_length_and_depth_are_cut() {
        let many = |part: &str| part.repeat(100_000 / part.len());
        for (symbol, name) in [
            (many("a<b>"), Some("a".repeat(LONGEST) + "…")),
            (many("<"), None),
            (many("<") + &many(">"), None),
            (
                format!("{}T{}::f", many("<"), many(">")),
                Some("f".to_owned()),
            ),
            (format!("{}T as A>::B as A>::f", many("<")), None),
            (many("é"), Some("é".repeat(LONGEST / 2) + "…")),
        ] {
            assert_eq!(short(&symbol), name, "{}", &symbol[..10]);
        }
    }

    #[test]
    fn recursion_is_one_name_and_a_long_line_is_cut() {
        let told = |symbols: &[&str]| line(symbols.iter().filter_map(|it| short(it)));
        let symbols = ["a", "b", "b", "b", "c"];
        assert_eq!(told(&symbols).as_deref(), Some("a < b < c"));
        let many = ["a", "b"].repeat(50);
        let cut = "a < b < a < b < a < b < …";
        assert_eq!(told(&many).as_deref(), Some(cut));
        assert_eq!(told(&["abort"]), None);
    }

    #[test]
    fn a_function_of_a_library_has_a_name_too() {
        for (symbol, name) in [
            (
                "<F as netwasm_guest::http::handler::Handler<fn(A) -> R>>::call::{{closure}}",
                Some("Handler::call"),
            ),
            (
                "netwasm_guest::http::router::Router::respond",
                Some("Router::respond"),
            ),
            (
                "<alloc::vec::Vec<T> as core::ops::Index>::index",
                Some("Vec::index"),
            ),
            ("abort", Some("abort")),
            ("netwasm:net/http-handler@0.2.0#handle", None),
            ("<F as core::", None),
        ] {
            assert_eq!(of_library(symbol).as_deref(), name, "{symbol}");
        }
    }
}
