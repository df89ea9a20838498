//! The handler's edits of the header of a response.

use http::{HeaderMap, HeaderName, HeaderValue};

use netwasm_exchange::forward::Edits;

/// Returns the fields that the handler has left, in their order.
pub(super) fn remaining(edits: &Edits, headers: HeaderMap) -> HeaderMap {
    if edits.remove.is_empty() && edits.set.is_empty() {
        return headers;
    }
    let mut left = HeaderMap::with_capacity(headers.len());
    for (name, value) in &headers {
        if !edits.drops(name.as_str()) {
            left.append(name.clone(), value.clone());
        }
    }
    left
}

/// Adds the handler's fields to the header of a response. They were checked.
pub(super) fn add(edits: &Edits, headers: &mut HeaderMap) {
    for (name, value) in edits.set.iter().chain(&edits.add) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            // Headers beyond the map's capacity are left out.
            let _ = headers.try_append(name, value);
        }
    }
}
