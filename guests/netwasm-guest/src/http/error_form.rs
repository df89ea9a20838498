//! Errors in the form that the client accepts.

use super::percent::escape;
use super::response::reason_phrase;

/// An error whose words are yet to be made.
pub(crate) struct Told {
    reason: String,
    /// Makes them. By a pointer, so that a guest without errors has no code for
    /// them.
    words: Words,
}

/// Makes the media type and the words of an error: by its status, its reason, and
/// what the client accepts; a page if that is not known.
type Words = fn(u16, &str, Option<&[u8]>) -> (&'static str, String);

impl Told {
    pub(super) fn new(reason: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            words: |status, reason, accept| {
                let form = accept.map_or(ErrorForm::Page, ErrorForm::of);
                form.tell(status, reason)
            },
        }
    }

    /// Returns the media type, and the words.
    pub(super) fn words(&self, status: u16, accept: Option<&[u8]>) -> (&'static str, String) {
        (self.words)(status, &self.reason, accept)
    }

    /// Returns the bare reason.
    pub(crate) fn into_reason(self) -> String {
        self.reason
    }
}

/// Form of an error. `Accept` alone decides, by the rules of the host, so that a
/// client gets one form from a handler and its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorForm {
    /// A line of text: for clients that do not tell what they accept, or accept
    /// text.
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
    fn of(accept: &[u8]) -> Self {
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
        if html.1 > 0 && html.1 >= json.1 {
            Self::Page
        } else if json.1 > 0 && json.1 >= text.1 {
            Self::Problem
        } else {
            Self::Text
        }
    }

    /// Returns the media type, and the words.
    fn tell(self, status: u16, reason: &str) -> (&'static str, String) {
        // Code that formats numbers would be a third of this.
        let name = reason_phrase(status);
        let code = digits(status);
        let has_reason = !reason.is_empty();
        match self {
            Self::Text => {
                let colon = if has_reason { ": " } else { "" };
                (
                    "text/plain; charset=utf-8",
                    [&*code, " ", name, colon, reason, "\n"].concat(),
                )
            }
            Self::Page => {
                let (before, after) = if has_reason {
                    ("<p>", "</p>")
                } else {
                    ("", "")
                };
                let reason = escape(reason);
                (
                    "text/html; charset=utf-8",
                    ["<h1>", &code, " ", name, "</h1>", before, &reason, after].concat(),
                )
            }
            Self::Problem => ("application/problem+json", problem(status, reason)),
        }
    }
}

/// Returns an object of JSON: RFC 9457.
pub(super) fn problem(status: u16, reason: &str) -> String {
    let (before, after) = match reason {
        "" => ("", ""),
        _ => (",\"detail\":\"", "\""),
    };
    let name = reason_phrase(status);
    let (code, reason) = (digits(status), of_json(reason));
    [
        "{\"title\":\"",
        name,
        "\",\"status\":",
        &code,
        before,
        &reason,
        after,
        "}",
    ]
    .concat()
}

/// Returns the three digits of a status.
fn digits(status: u16) -> String {
    let digit = |place| char::from(b'0' + u8::try_from(status / place % 10).unwrap_or_default());
    [100, 10, 1].map(digit).iter().collect()
}

/// Returns a quality as it is written (RFC 9110, section 12.4.2): up to three digits
/// after a point. One that is malformed is 0.
fn thousandths(given: &[u8]) -> u16 {
    match given {
        [_, _, b'0', b'.', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => digits
            .iter()
            .zip([100, 10, 1])
            .map(|(digit, place)| u16::from(digit - b'0') * place)
            .sum(),
        [_, _, b'1'] | [_, _, b'1', b'.', ..] => 1000,
        _ => 0,
    }
}

/// Returns text as the content of a string of JSON: RFC 8259, section 7.
fn of_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            '\n' => escaped.push_str("\\n"),
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
            ("application/json, text/plain, */*", ErrorForm::Problem),
            ("Application/Vnd.Api+JSON", ErrorForm::Problem),
            ("text/html,application/xml;q=0.9,*/*;q=0.8", ErrorForm::Page),
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
            ("text/*;q=0.5, */*;q=0.1", ErrorForm::Text),
            ("application/json; q=0, */*", ErrorForm::Text),
            ("image/png", ErrorForm::Text),
            (";;,,=;q=x", ErrorForm::Text),
        ] {
            assert_eq!(ErrorForm::of(accept.as_bytes()), form, "{accept}");
        }
    }

    #[test]
    fn each_form_says_what_went_wrong() {
        let told = |form: ErrorForm, reason| form.tell(404, reason).1;
        assert_eq!(told(ErrorForm::Text, ""), "404 Not Found\n");
        assert_eq!(told(ErrorForm::Text, "a"), "404 Not Found: a\n");
        assert_eq!(told(ErrorForm::Page, ""), "<h1>404 Not Found</h1>");
        assert_eq!(
            told(ErrorForm::Page, "<b>"),
            "<h1>404 Not Found</h1><p>&lt;b&gt;</p>"
        );
        assert_eq!(
            told(ErrorForm::Problem, "a \"b\"\n\u{7}\\"),
            r#"{"title":"Not Found","status":404,"detail":"a \"b\"\n \\"}"#
        );
        assert_eq!(
            told(ErrorForm::Problem, ""),
            r#"{"title":"Not Found","status":404}"#
        );
    }
}
