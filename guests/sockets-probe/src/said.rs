//! Results as the text that a step prints.

use std::fmt::Display;

use crate::addresses::ip_text;
use crate::bindings::netwasm::net::sockets::{self, Failure};

/// Line that a step prints.
pub(crate) type Said = Result<String, String>;

pub(crate) fn found(look_up: u32) -> Said {
    let addresses = sockets::found(look_up).map_err(failed)?;
    let addresses: Vec<_> = addresses.into_iter().map(ip_text).collect();
    Ok(addresses.join(" "))
}

pub(crate) fn received(data: Result<Vec<u8>, Failure>) -> Said {
    let data = data.map_err(failed)?;
    Ok(match data.len() {
        0 => "end".to_owned(),
        1..=100 => format!("{:?}", String::from_utf8_lossy(&data)),
        count => format!("{count} bytes"),
    })
}

pub(crate) fn said(result: Result<impl ToText, Failure>) -> Said {
    result.map(|value| value.to_text()).map_err(failed)
}

/// Text of a result.
pub(crate) trait ToText {
    fn to_text(&self) -> String;
}

impl ToText for () {
    fn to_text(&self) -> String {
        "ok".to_owned()
    }
}

macro_rules! to_text {
    ($($number:ty)*) => {$(
        impl ToText for $number {
            fn to_text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
to_text!(u32 u64 i32);

pub(crate) fn failed(failure: Failure) -> String {
    let code = kebab(&format!("{:?}", failure.code));
    match failure.text.as_str() {
        "" => code,
        text => format!("{code} ({text})"),
    }
}

/// Returns `addr-in-use` for `Errno::AddrInUse`.
fn kebab(name: &str) -> String {
    let name = name.rsplit("::").next().unwrap_or_default();
    let mut kebab = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

pub(crate) fn error(error: impl Display) -> String {
    error.to_string()
}
