//! Reading what a guest reports, out of its memory, as far as there is room.
//!
//! Nothing is copied before it is known to be wanted: the parameters of functions
//! are places in the guest's memory. Each text and each element of a list takes of
//! the room.

use netwasm_base::trace::Context;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, WasmList, WasmStr};

use self::trace_flags::TraceFlags;
use super::messages::{KeyValue, OtlpValue, Scope};
use super::values;

/// Maximum of attributes of anything, of events and of links: the defaults of
/// OpenTelemetry's SDKs.
const MOST: usize = 128;

/// Maximum of entries of a `tracestate`, and of its bytes: W3C Trace Context,
/// section 3.3.1.
const MOST_STATES: usize = 32;
const LONGEST_STATE: usize = 512;

/// Room that an element of a list takes, besides its texts.
const ELEMENT: usize = 16;

/// `datetime` of `wasi:clocks`.
#[derive(ComponentType, Lift, Clone, Copy)]
#[component(record)]
pub(super) struct WallTime {
    seconds: u64,
    nanoseconds: u32,
}

impl WallTime {
    /// Returns the nanoseconds since 1970.
    pub(super) fn nanoseconds(self) -> u64 {
        let whole = self.seconds.saturating_mul(1_000_000_000);
        whole.saturating_add(self.nanoseconds.into())
    }
}

/// `key-value`.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct AttributeOfGuest {
    key: WasmStr,
    value: WasmStr,
}

/// `instrumentation-scope`.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct ScopeOfGuest {
    name: WasmStr,
    version: Option<WasmStr>,
    #[component(name = "schema-url")]
    schema_url: Option<WasmStr>,
    attributes: WasmList<AttributeOfGuest>,
}

/// `resource`, which is not read: the service is what the host says it is.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct ResourceOfGuest {
    #[component(name = "attributes")]
    _attributes: WasmList<AttributeOfGuest>,
    #[component(name = "schema-url")]
    _schema_url: Option<WasmStr>,
}

/// `span-context`.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct ContextOfGuest {
    #[component(name = "trace-id")]
    trace_id: WasmStr,
    #[component(name = "span-id")]
    span_id: WasmStr,
    #[component(name = "trace-flags")]
    flags: TraceFlags,
    #[component(name = "is-remote")]
    pub(super) is_remote: bool,
    #[component(name = "trace-state")]
    state: WasmList<(WasmStr, WasmStr)>,
}

impl ContextOfGuest {
    pub(super) fn is_sampled(&self) -> bool {
        is_sampled(self.flags)
    }
}

pub(super) fn is_sampled(flags: TraceFlags) -> bool {
    flags.contains(TraceFlags::SAMPLED)
}

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a macro writes more than is used here"
)]
pub(super) mod trace_flags {
    wasmtime::component::flags! {
        TraceFlags {
            #[component(name = "sampled")]
            const SAMPLED;
        }
    }
}

/// Reason why something is not reported.
#[derive(Debug)]
pub(super) enum Unread {
    /// There is no room for it.
    TooLarge,
    /// The guest broke the rules of the call, and traps.
    Trap(wasmtime::Error),
}

impl From<wasmtime::Error> for Unread {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

/// Reads the memory of a guest that has called.
pub(super) struct Reader<'a, T: 'static> {
    store: StoreContextMut<'a, T>,
    /// Room that is left, in bytes.
    room: usize,
}

impl<'a, T: 'static> Reader<'a, T> {
    pub(super) fn new(store: StoreContextMut<'a, T>, room: usize) -> Self {
        Self { store, room }
    }

    pub(super) fn text(&mut self, text: &WasmStr) -> Result<String, Unread> {
        let text = text.to_str(&self.store)?;
        take(&mut self.room, text.len())?;
        Ok(text.into_owned())
    }

    /// Returns a text, which is empty if there is none.
    pub(super) fn text_or_none(&mut self, text: Option<&WasmStr>) -> Result<String, Unread> {
        text.map_or_else(|| Ok(String::new()), |text| self.text(text))
    }

    /// Returns a value of JSON.
    pub(super) fn value(&mut self, text: &WasmStr) -> Result<OtlpValue, Unread> {
        let text = text.to_str(&self.store)?;
        take(&mut self.room, text.len())?;
        Ok(values::of_json(&text))
    }

    /// Returns the elements of a list, `most` of them at most.
    fn first<I: Lift>(&mut self, list: &WasmList<I>, most: usize) -> Result<Vec<I>, Unread> {
        let count = list.len().min(most);
        take(&mut self.room, count.saturating_mul(ELEMENT))?;
        let elements = list.iter(&mut self.store)?.take(count);
        Ok(elements.collect::<wasmtime::Result<_>>()?)
    }

    /// Returns all elements of a list.
    pub(super) fn all<I: Lift>(&mut self, list: &WasmList<I>) -> Result<Vec<I>, Unread> {
        self.first(list, usize::MAX)
    }

    /// Returns what is made of all elements of a list.
    pub(super) fn each<I: Lift, M>(
        &mut self,
        list: &WasmList<I>,
        read: impl Fn(&mut Self, &I) -> Result<M, Unread>,
    ) -> Result<Vec<M>, Unread> {
        let elements = self.all(list)?;
        elements.iter().map(|it| read(self, it)).collect()
    }

    /// Returns what is made of the elements of a list for which there is room, 128
    /// at most, and the number of the others.
    pub(super) fn fitting<I: Lift, M>(
        &mut self,
        list: &WasmList<I>,
        read: impl Fn(&mut Self, &I) -> Result<M, Unread>,
    ) -> Result<(Vec<M>, u32), Unread> {
        let elements = match self.first(list, MOST) {
            Ok(elements) => elements,
            Err(Unread::TooLarge) => Vec::new(),
            Err(trap) => return Err(trap),
        };
        let mut all = Vec::with_capacity(elements.len());
        for element in &elements {
            match read(self, element) {
                Ok(made) => all.push(made),
                Err(Unread::TooLarge) => {}
                Err(trap) => return Err(trap),
            }
        }
        let others = u32::try_from(list.len() - all.len()).unwrap_or(u32::MAX);
        Ok((all, others))
    }

    pub(super) fn attribute(&mut self, pair: &AttributeOfGuest) -> Result<KeyValue, Unread> {
        Ok(KeyValue {
            key: self.text(&pair.key)?,
            value: Some(self.value(&pair.value)?),
        })
    }

    /// Returns the attributes for which there is room, and the number of the
    /// others.
    pub(super) fn attributes(
        &mut self,
        list: &WasmList<AttributeOfGuest>,
    ) -> Result<(Vec<KeyValue>, u32), Unread> {
        self.fitting(list, Self::attribute)
    }

    /// Returns a scope, and the URL of its schema.
    pub(super) fn scope(&mut self, scope: &ScopeOfGuest) -> Result<(Scope, String), Unread> {
        let (attributes, dropped) = self.attributes(&scope.attributes)?;
        let read = Scope {
            name: self.text(&scope.name)?,
            version: self.text_or_none(scope.version.as_ref())?,
            attributes,
            dropped_attributes_count: dropped,
        };
        Ok((read, self.text_or_none(scope.schema_url.as_ref())?))
    }

    /// Returns the identity of a span; `None` if it is none.
    pub(super) fn identity(&mut self, context: &ContextOfGuest) -> Result<Option<Context>, Unread> {
        let trace = self.trace_id(&context.trace_id)?;
        let span = self.span_id(&context.span_id)?;
        Ok(trace.zip(span).map(|(trace, span)| Context {
            trace,
            span,
            sampled: context.is_sampled(),
        }))
    }

    /// Returns the `tracestate` of a span: empty if anything in it is malformed.
    pub(super) fn state(&mut self, context: &ContextOfGuest) -> Result<String, Unread> {
        let pairs = self.first(&context.state, MOST_STATES)?;
        let mut all = String::new();
        for (key, value) in &pairs {
            let (key, value) = (self.text(key)?, self.text(value)?);
            let comma = if all.is_empty() { "" } else { "," };
            let entry = format!("{comma}{key}={value}");
            if !is_state(&key, &value) || all.len() + entry.len() > LONGEST_STATE {
                return Ok(String::new());
            }
            all.push_str(&entry);
        }
        Ok(all)
    }

    /// Returns the number of a trace; `None` if it is none.
    pub(super) fn trace_id(&mut self, text: &WasmStr) -> Result<Option<[u8; 16]>, Unread> {
        let text = text.to_str(&self.store)?;
        Ok(digits(&text, 32).map(u128::to_be_bytes))
    }

    /// Returns the number of a span; `None` if it is none.
    pub(super) fn span_id(&mut self, text: &WasmStr) -> Result<Option<[u8; 8]>, Unread> {
        let text = text.to_str(&self.store)?;
        let number = digits(&text, 16).and_then(|it| u64::try_from(it).ok());
        Ok(number.map(u64::to_be_bytes))
    }
}

/// Takes room.
fn take(room: &mut usize, bytes: usize) -> Result<(), Unread> {
    *room = room.checked_sub(bytes).ok_or(Unread::TooLarge)?;
    Ok(())
}

/// Reads a number that is not zero, of so many hexadecimal digits at most: the
/// library for Rust leaves out zeros at the beginning.
fn digits(text: &str, most: usize) -> Option<u128> {
    let fits = text.len() <= most && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16);
    number.ok().filter(|number| fits && *number != 0)
}

/// True if an entry of a `tracestate` can stand in a list of such.
fn is_state(key: &str, value: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    !key.is_empty() && key.bytes().chain(value.bytes()).all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_may_lack_zeros_at_its_beginning() {
        assert_eq!(digits("0af7651916cd43dd8448eb211c80319c", 32), {
            Some(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c)
        });
        assert_eq!(digits("b7ad", 16), Some(0xb7ad));
        for wrong in ["", "0", "0000000000000000", "+1", "b7ad6b71692033310", "xy"] {
            assert_eq!(digits(wrong, 16), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_beyond_all_clocks_is_the_last_one() {
        let time = |seconds, nanoseconds| WallTime {
            seconds,
            nanoseconds,
        };
        assert_eq!(time(1, 2).nanoseconds(), 1_000_000_002);
        assert_eq!(time(u64::MAX, u32::MAX).nanoseconds(), u64::MAX);
    }

    #[test]
    fn an_entry_of_a_state_has_no_separators() {
        assert!(is_state("vendor", "a b;c"));
        for (key, value) in [
            ("", "v"),
            ("k", "a,b"),
            ("k=", "v"),
            ("k", "\n"),
            ("k", "ä"),
        ] {
            assert!(!is_state(key, value), "{key} {value}");
        }
    }

    #[test]
    fn room_is_taken_as_long_as_there_is_some() {
        let mut room = 10;
        assert!(take(&mut room, 7).is_ok());
        assert!(matches!(take(&mut room, 4), Err(Unread::TooLarge)));
        // What does not fit takes nothing.
        assert!(take(&mut room, 3).is_ok());
        assert_eq!(room, 0);
    }
}
