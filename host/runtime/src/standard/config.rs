//! `wasi:config`: the values of `--config-var`.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower};

use super::Guest;

/// The names of the interface: the drafts have the same functions.
pub(super) const NAMES: [&str; 4] = [
    "wasi:config/store@0.2.0-draft",
    // Of Spin.
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/runtime@0.2.0-draft",
];

/// `error`, of which there is none: all values are at hand.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "the type has to have the cases of the interface")]
enum ConfigFailure {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type Value = Result<Option<String>, ConfigFailure>;
type Values = Result<Vec<(String, String)>, ConfigFailure>;

pub(super) fn add_to_linker<T: Guest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut interface = linker.instance(name)?;
        interface.func_wrap(
            "get",
            |store: StoreContextMut<'_, T>, (key,): (String,)| -> wasmtime::Result<(Value,)> {
                let values = &store.data().env().config;
                Ok((Ok(values.get(&key).cloned()),))
            },
        )?;
        interface.func_wrap(
            "get-all",
            |store: StoreContextMut<'_, T>, (): ()| -> wasmtime::Result<(Values,)> {
                let values = &store.data().env().config;
                let pair = |(key, value): (&String, &String)| (key.clone(), value.clone());
                Ok((Ok(values.iter().map(pair).collect()),))
            },
        )?;
    }
    Ok(())
}
