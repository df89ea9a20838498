//! `wasi:clocks/timezone`: guests are told UTC, as by wasmtime. The host's zone is
//! none of their business, and mostly that of nobody they serve.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::Guest;

/// The interface of 0.2, and that of 0.3.
pub(super) const NAMES: [&str; 2] = ["wasi:clocks/timezone@0.2.12", "wasi:clocks/timezone@0.3.0"];

/// `datetime` of 0.2.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Datetime {
    #[component(name = "seconds")]
    _seconds: u64,
    #[component(name = "nanoseconds")]
    _nanoseconds: u32,
}

/// `instant` of 0.3.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Instant {
    #[component(name = "seconds")]
    _seconds: i64,
    #[component(name = "nanoseconds")]
    _nanoseconds: u32,
}

/// `timezone-display` of 0.2.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Display {
    #[component(name = "utc-offset")]
    utc_offset: i32,
    #[component(name = "name")]
    name: String,
    #[component(name = "in-daylight-saving-time")]
    in_daylight_saving_time: bool,
}

pub(super) fn add_to_linker<T: Guest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let [old, new] = NAMES;
    let mut interface = linker.instance(old)?;
    interface.func_wrap("display", |_: StoreContextMut<'_, T>, (_,): (Datetime,)| {
        let utc = Display {
            utc_offset: 0,
            name: "UTC".to_owned(),
            in_daylight_saving_time: false,
        };
        Ok((utc,))
    })?;
    interface.func_wrap(
        "utc-offset",
        |_: StoreContextMut<'_, T>, (_,): (Datetime,)| Ok((0_i32,)),
    )?;
    let mut interface = linker.instance(new)?;
    interface.func_wrap("iana-id", |_: StoreContextMut<'_, T>, (): ()| {
        Ok((Some("Etc/UTC".to_owned()),))
    })?;
    interface.func_wrap(
        "utc-offset",
        |_: StoreContextMut<'_, T>, (_,): (Instant,)| Ok((Some(0_i64),)),
    )?;
    interface.func_wrap("to-debug-string", |_: StoreContextMut<'_, T>, (): ()| {
        Ok(("UTC".to_owned(),))
    })
}
