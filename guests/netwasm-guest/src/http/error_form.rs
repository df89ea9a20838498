//! The form of an error, by what the client accepts.

use super::percent::escape;

/// Form of an error. `Accept` alone decides, by the rules of the host, so that a
/// client gets one form from a handler and its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// A line of text: for clients that do not tell what they accept, or accept
    /// text.
    #[default]
    Text,
    /// A page of HTML: for clients that name HTML and prefer nothing else, as
    /// browsers do.
    Page,
    /// An object of JSON (RFC 9457): for clients that name JSON, or accept anything.
    Problem,
}

/// How exactly a type was named, and the quality in thousandths that it has.
type Quality = (u8, u16);

impl ErrorForm {
    /// Returns the form for a client, by its `Accept`: RFC 9110, section 12.5.1.
    pub(crate) fn of(accept: &[u8]) -> Self {
        let [mut json, mut html, mut text]: [Quality; 3] = [(0, 0); 3];
        for range in accept.split(|byte| *byte == b',') {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let given = parts.find(|it| matches!(it, [b'q' | b'Q', b'=', ..]));
            let thousandths = given.map_or(1000, thousandths);
            let raise = |quality: &mut Quality, exactness| {
                *quality = (*quality).max((exactness, thousandths));
            };
            let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
            let end = name.last_chunk::<5>();
            if is(b"*/*") {
                raise(&mut json, 1);
                raise(&mut text, 1);
            } else if is(b"application/*") {
                raise(&mut json, 2);
            } else if is(b"text/*") {
                raise(&mut text, 2);
            } else if is(b"text/html") || is(b"application/xhtml+xml") {
                raise(&mut html, 3);
            } else if is(b"text/plain") {
                raise(&mut text, 3);
            } else if is(b"application/json")
                || end.is_some_and(|it| it.eq_ignore_ascii_case(b"+json"))
            {
                raise(&mut json, 3);
            }
        }
        if html.1 > 0 && html.1 >= json.1 {
            Self::Page
        } else if json.1 > 0 && json.1 >= text.1 {
            Self::Problem
        } else {
            Self::Text
        }
    }

    /// Returns the media type, and the words.
    pub(super) fn tell(self, status: u16, name: &str, reason: &str) -> (&'static str, String) {
        match self {
            Self::Text => {
                let colon = if reason.is_empty() { "" } else { ": " };
                (
                    "text/plain; charset=utf-8",
                    format!("{status} {name}{colon}{reason}\n"),
                )
            }
            Self::Page => {
                let mut page = format!("<h1>{status} {name}</h1>");
                if !reason.is_empty() {
                    page += &format!("<p>{}</p>", escape(reason));
                }
                ("text/html; charset=utf-8", page)
            }
            Self::Problem => ("application/problem+json", problem(status, name, reason)),
        }
    }
}

/// Returns an object of JSON: RFC 9457.
pub(super) fn problem(status: u16, name: &str, reason: &str) -> String {
    let mut object = format!("{{\"title\":\"{name}\",\"status\":{status}");
    if !reason.is_empty() {
        object.push_str(",\"detail\":\"");
        push_json(reason, &mut object);
        object.push('"');
    }
    object.push('}');
    object
}

/// Returns a quality as it is written: up to three digits after a point.
fn thousandths(given: &[u8]) -> u16 {
    match given {
        [_, _, b'0', b'.', digits @ ..] => digits
            .iter()
            .zip([100, 10, 1])
            .map(|(digit, place)| u16::from(digit.wrapping_sub(b'0').min(9)) * place)
            .sum(),
        [_, _, b'0', ..] => 0,
        _ => 1000,
    }
}

/// Appends the content of a string of JSON: RFC 8259, section 7.
fn push_json(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_form_that_it_asks_for() {
        for (accept, form) in [
            ("", ErrorForm::Text),
            ("*/*", ErrorForm::Problem),
            ("application/json, text/plain, */*", ErrorForm::Problem),
            ("Application/Vnd.Api+JSON", ErrorForm::Problem),
            ("text/html,application/xml;q=0.9,*/*;q=0.8", ErrorForm::Page),
            ("text/html, application/json", ErrorForm::Page),
            ("text/html;q=0.5, application/json", ErrorForm::Problem),
            ("application/json;q=0.55,text/html;q=0.6", ErrorForm::Page),
            ("text/html;q=0, */*", ErrorForm::Problem),
            ("text/*;q=0.5, */*;q=0.1", ErrorForm::Text),
            ("application/json; q=0, */*", ErrorForm::Text),
            ("image/png", ErrorForm::Text),
            (";;,,=;q=x", ErrorForm::Text),
        ] {
            assert_eq!(ErrorForm::of(accept.as_bytes()), form, "{accept}");
        }
    }
}
