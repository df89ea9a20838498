//! The host's own words on an error, in the form that the client asks for.
//!
//! `Accept` alone decides, whatever goes wrong where, so that a client gets one form
//! from a server. `netwasm_guest::http` has the same rules for what a handler
//! refuses.

use std::borrow::Cow;

/// Form of an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorForm {
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

/// A quality in thousandths, and how exactly the type was named that has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Quality {
    exactness: u8,
    thousandths: u16,
}

impl ErrorForm {
    /// Returns the form for a client, by the lines of its `Accept`: RFC 9110, section
    /// 12.5.1.
    pub fn of<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let [mut json, mut html, mut text] = [Quality::default(); 3];
        let lines = accept.into_iter();
        for range in lines.flat_map(|line| line.split(|byte| *byte == b',')) {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let given =
                parts.find_map(|it| it.strip_prefix(b"q=").or_else(|| it.strip_prefix(b"Q=")));
            let thousandths = given.map_or(1000, thousandths);
            let raise = |quality: &mut Quality, exactness| {
                *quality = (*quality).max(Quality {
                    exactness,
                    thousandths,
                });
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
            } else if is(b"application/xhtml+xml") {
                // HTML itself counts more, with whatever quality.
                raise(&mut html, 2);
            } else if is(b"text/html") {
                raise(&mut html, 3);
            } else if is(b"text/plain") {
                raise(&mut text, 3);
            } else if is(b"application/json")
                || end.is_some_and(|it| it.eq_ignore_ascii_case(b"+json"))
            {
                raise(&mut json, 3);
            }
        }
        let [json, html, text] = [json, html, text].map(|it| it.thousandths);
        if html > 0 && html >= json {
            Self::Page
        } else if json > 0 && json >= text {
            Self::Problem
        } else {
            Self::Text
        }
    }

    /// Returns the media type, and the words.
    pub(crate) fn tell(self, status: u16, name: &str, reason: &str) -> (&'static str, String) {
        match (self, reason) {
            (Self::Text, "") => ("text/plain; charset=utf-8", format!("{status} {name}\n")),
            (Self::Text, reason) => (
                "text/plain; charset=utf-8",
                format!("{status} {name}: {reason}\n"),
            ),
            (Self::Page, reason) => {
                let mut page = format!("<h1>{status} {name}</h1>");
                if !reason.is_empty() {
                    page += &format!("<p>{}</p>", of_html(reason));
                }
                ("text/html; charset=utf-8", page)
            }
            (Self::Problem, reason) => {
                let mut object = format!("{{\"title\":\"{name}\",\"status\":{status}");
                if !reason.is_empty() {
                    object += &format!(",\"detail\":\"{}\"", of_json(reason));
                }
                object.push('}');
                ("application/problem+json", object)
            }
        }
    }
}

/// Returns a quality as it is written (RFC 9110, section 12.4.2): up to three digits
/// after a point. One that is malformed is 0.
fn thousandths(value: &[u8]) -> u16 {
    match value {
        [b'0', b'.', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => digits
            .iter()
            .zip([100, 10, 1])
            .map(|(digit, place)| u16::from(digit - b'0') * place)
            .sum(),
        [b'1'] | [b'1', b'.', ..] => 1000,
        _ => 0,
    }
}

/// Escapes text for HTML.
fn of_html(text: &str) -> Cow<'_, str> {
    match text.contains(['<', '>', '&']) {
        true => {
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            text.replace('>', "&gt;").into()
        }
        false => text.into(),
    }
}

/// Escapes text for a string of JSON: RFC 8259, section 7.
fn of_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => escaped.extend(['\\', letter]),
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_form_that_it_asks_for() {
        for (accept, form) in [
            ("", ErrorForm::Text),
            ("*/*", ErrorForm::Problem),
            // Of curl, fetch, axios, jQuery, and a form's script.
            ("application/json", ErrorForm::Problem),
            ("application/json, text/plain, */*", ErrorForm::Problem),
            (
                "application/json, text/javascript, */*; q=0.01",
                ErrorForm::Problem,
            ),
            ("application/problem+json", ErrorForm::Problem),
            ("Application/Vnd.Api+JSON", ErrorForm::Problem),
            ("application/*", ErrorForm::Problem),
            // Of browsers.
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                ErrorForm::Page,
            ),
            ("text/html, application/json", ErrorForm::Page),
            ("text/html;q=0.5, application/json", ErrorForm::Problem),
            ("application/json;q=0.55,text/html;q=0.6", ErrorForm::Page),
            ("text/html;q=0, */*", ErrorForm::Problem),
            ("text/html;q=0, application/xhtml+xml", ErrorForm::Text),
            ("application/xhtml+xml, */*;q=0.1", ErrorForm::Page),
            ("text/html;q=1., application/json;q=1.000", ErrorForm::Page),
            ("text/html;q=0., */*", ErrorForm::Problem),
            ("text/html;q=.5, */*", ErrorForm::Problem),
            ("text/html;q=0.x, application/json;q=", ErrorForm::Text),
            ("text/plain", ErrorForm::Text),
            ("text/*;q=0.5, */*;q=0.1", ErrorForm::Text),
            ("application/json;q=0, */*", ErrorForm::Text),
            ("image/png", ErrorForm::Text),
            ("text/event-stream", ErrorForm::Text),
            (";;,,=;q=x", ErrorForm::Text),
        ] {
            assert_eq!(ErrorForm::of([accept.as_bytes()]), form, "{accept}");
        }
        assert_eq!(ErrorForm::of([]), ErrorForm::Text);
        let lines = [&b"image/png"[..], b"application/json"];
        assert_eq!(ErrorForm::of(lines), ErrorForm::Problem);
    }

    #[test]
    fn each_form_says_what_went_wrong() {
        let told = |form: ErrorForm, reason| form.tell(404, "Not Found", reason).1;
        assert_eq!(told(ErrorForm::Text, ""), "404 Not Found\n");
        assert_eq!(told(ErrorForm::Text, "a"), "404 Not Found: a\n");
        assert_eq!(told(ErrorForm::Page, ""), "<h1>404 Not Found</h1>");
        assert_eq!(
            told(ErrorForm::Page, "<b> & c"),
            "<h1>404 Not Found</h1><p>&lt;b&gt; &amp; c</p>"
        );
        assert_eq!(
            told(ErrorForm::Problem, ""),
            r#"{"title":"Not Found","status":404}"#
        );
        assert_eq!(
            told(ErrorForm::Problem, "a \"b\"\n\\"),
            r#"{"title":"Not Found","status":404,"detail":"a \"b\" \\"}"#
        );
    }
}
