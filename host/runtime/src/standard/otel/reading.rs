//! Reading what a guest reports, out of its memory, as far as there is room.
//!
//! Nothing is copied before it is known to be wanted: the parameters of functions
//! are places in the guest's memory. Each text and each element of a list takes of
//! the room, and each text that is decoded takes of the work, so that a call takes
//! no longer than it should: texts may lie in the same memory.

use std::borrow::Cow;

use netwasm_base::trace::{Context, LONGEST_STATE};
use netwasm_otlp::attributes::{KeyValue, OtlpValue, Scope};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, WasmList, WasmStr};

use self::trace_flags::TraceFlags;
use super::values;

/// Maximum of attributes of anything, of events and of links: the defaults of
/// OpenTelemetry's SDKs.
const MOST: usize = 128;

/// Maximum of entries of a `tracestate`: W3C Trace Context, section 3.3.1.
const MOST_STATES: usize = 32;

/// Longest name, in bytes, beyond which it is cut.
pub(super) const LONGEST_NAME: usize = 4 << 10;

/// Most room that an element of a list takes besides its texts, in bytes.
const ELEMENT: usize = 64;

/// Bytes that may be decoded for each one of room. The text that exceeds it is
/// the last one.
const WORK: usize = 4;

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
    /// There is no room for it, or it has taken too much work.
    TooLarge,
    /// The guest broke the rules of the call, and traps.
    Trap(wasmtime::Error),
}

impl From<wasmtime::Error> for Unread {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

/// Bounds of what a call takes.
#[derive(Debug)]
struct Budget {
    /// Room that is left, in bytes.
    room: usize,
    /// Bytes that may yet be decoded.
    work: usize,
}

impl Budget {
    fn new(room: usize) -> Self {
        Self {
            room,
            work: room.saturating_mul(WORK),
        }
    }

    /// Takes room.
    fn take(&mut self, bytes: usize) -> Result<(), Unread> {
        self.room = self.room.checked_sub(bytes).ok_or(Unread::TooLarge)?;
        Ok(())
    }

    /// Takes work. One last piece of it may be larger than what is left.
    fn spend(&mut self, bytes: usize) {
        self.work = self.work.saturating_sub(bytes.max(1));
    }

    fn is_spent(&self) -> bool {
        self.work == 0
    }

    /// Returns the beginning of a text that is no longer than `most` and than the
    /// room that is left, which it takes.
    fn cut<'t>(&mut self, text: &'t str, most: usize) -> &'t str {
        let most = most.min(self.room);
        let cut = text.get(..text.floor_char_boundary(most)).unwrap_or("");
        self.room -= cut.len();
        cut
    }
}

/// Reads the memory of a guest that has called.
pub(super) struct Reader<'a, T: 'static> {
    store: StoreContextMut<'a, T>,
    budget: Budget,
}

impl<'a, T: 'static> Reader<'a, T> {
    pub(super) fn new(store: StoreContextMut<'a, T>, room: usize) -> Self {
        Self {
            store,
            budget: Budget::new(room),
        }
    }

    /// Adds room.
    pub(super) fn add_room(&mut self, bytes: usize) {
        self.budget.room = self.budget.room.saturating_add(bytes);
    }

    /// Returns a text, all of it.
    pub(super) fn text(&mut self, text: &WasmStr) -> Result<String, Unread> {
        let text = decode(&self.store, &mut self.budget, text)?;
        self.budget.take(text.len())?;
        Ok(text.into_owned())
    }

    /// Returns a text, which is cut after so many bytes, and where the room ends.
    pub(super) fn cut(&mut self, text: &WasmStr, most: usize) -> Result<String, Unread> {
        let text = decode(&self.store, &mut self.budget, text)?;
        Ok(self.budget.cut(&text, most).to_owned())
    }

    /// Returns a name, which is cut, and empty if there is none.
    pub(super) fn name(&mut self, text: Option<&WasmStr>) -> Result<String, Unread> {
        text.map_or_else(|| Ok(String::new()), |text| self.cut(text, LONGEST_NAME))
    }

    /// Returns a value of JSON.
    pub(super) fn value(&mut self, text: &WasmStr) -> Result<OtlpValue, Unread> {
        let text = decode(&self.store, &mut self.budget, text)?;
        self.budget.take(text.len())?;
        Ok(values::of_json(&text))
    }

    /// Returns a value of JSON. Of one for which there is no room, it is the
    /// beginning, as text.
    pub(super) fn value_or_cut(&mut self, text: &WasmStr) -> Result<OtlpValue, Unread> {
        let text = decode(&self.store, &mut self.budget, text)?;
        let cut = self.budget.cut(&text, usize::MAX);
        Ok(match cut.len() == text.len() {
            true => values::of_json(cut),
            false => values::of_beginning(cut),
        })
    }

    /// Returns the elements of a list, `most` of them at most.
    fn first<I: Lift>(&mut self, list: &WasmList<I>, most: usize) -> Result<Vec<I>, Unread> {
        let count = list.len().min(most);
        let each = size_of::<I>().min(ELEMENT);
        self.budget.take(count.saturating_mul(each))?;
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
        let name = self.name(Some(&scope.name))?;
        let version = self.name(scope.version.as_ref())?;
        let schema_url = self.name(scope.schema_url.as_ref())?;
        let (attributes, dropped) = self.attributes(&scope.attributes)?;
        let read = Scope {
            name,
            version,
            attributes,
            dropped_attributes_count: dropped,
        };
        Ok((read, schema_url))
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
        Ok(self.digits(text, 32)?.map(u128::to_be_bytes))
    }

    /// Returns the number of a span; `None` if it is none.
    pub(super) fn span_id(&mut self, text: &WasmStr) -> Result<Option<[u8; 8]>, Unread> {
        let number = self.digits(text, 16)?;
        let number = number.and_then(|it| u64::try_from(it).ok());
        Ok(number.map(u64::to_be_bytes))
    }

    fn digits(&mut self, text: &WasmStr, most: usize) -> Result<Option<u128>, Unread> {
        let text = decode(&self.store, &mut self.budget, text)?;
        self.budget.take(text.len())?;
        Ok(digits(&text, most))
    }
}

/// Returns a text: the one place where the guest's memory is read for one.
fn decode<'s, T: 'static>(
    store: &'s StoreContextMut<'_, T>,
    budget: &mut Budget,
    text: &WasmStr,
) -> Result<Cow<'s, str>, Unread> {
    if budget.is_spent() {
        return Err(Unread::TooLarge);
    }
    let text = text.to_str(store)?;
    budget.spend(text.len());
    Ok(text)
}

/// Reads a number that is not zero, of so many hexadecimal digits at most: the
/// library for Rust leaves out zeros at the beginning.
fn digits(text: &str, most: usize) -> Option<u128> {
    if text.len() > most || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(text, 16);
    number.ok().filter(|number| *number != 0)
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
        let mut budget = Budget::new(10);
        assert!(budget.take(7).is_ok());
        assert!(matches!(budget.take(4), Err(Unread::TooLarge)));
        // A text that does not fit takes nothing.
        assert!(budget.take(3).is_ok());
        assert_eq!(budget.room, 0);
    }

    #[test]
    fn work_ends_with_the_text_that_exceeds_it() {
        let mut budget = Budget::new(10);
        budget.spend(39);
        assert!(!budget.is_spent());
        budget.spend(1 << 30);
        assert!(budget.is_spent());
        // Texts without a byte are work, too.
        let mut budget = Budget::new(10);
        (0..10 * WORK).for_each(|_| budget.spend(0));
        assert!(budget.is_spent());
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let mut budget = Budget::new(7);
        assert_eq!(budget.cut("aäb", 2), "a");
        assert_eq!(budget.cut("aäb", 9), "aäb");
        assert_eq!(budget.cut("aäb", 9), "a");
        assert_eq!(budget.cut("ä", 9), "");
        assert_eq!(budget.room, 1);
    }
}
