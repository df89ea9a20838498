//! Tests of the limits of a head.

use super::*;

#[test]
fn a_request_line_over_the_limit_is_414_before_it_ends() {
    let limits = HeadLimits { line: 20, ..LIMITS };
    let line = "GET /12345 HTTP/1.0";
    let exact = HeadLimits {
        line: line.len(),
        ..LIMITS
    };
    let request = format!("{line}\r\n\r\n");
    let parse = |limits| Head::default().parse(request.as_bytes(), limits);
    assert_eq!(parse(&exact), Ok(Some(request.len())));
    let request = b"GET /1234567890 HTTP/1.0\r\n\r\n";
    assert_eq!(refused_within(request, &limits), 414);
    assert_eq!(
        refused_within(b"GET /123456789012345", &HeadLimits { line: 19, ..LIMITS }),
        414
    );
    let endless = [b"GET /".as_slice(), &[b'a'; 8 << 10]].concat();
    assert_eq!(refused(&endless), 414);
    assert_eq!(
        refused_within(
            &endless,
            &HeadLimits {
                bytes: 100,
                ..LIMITS
            }
        ),
        414
    );
}

#[test]
fn a_head_over_the_limit_is_431_before_it_ends() {
    let request = "GET / HTTP/1.0\r\nX: 1\r\n\r\n";
    let limits = HeadLimits {
        bytes: request.len(),
        ..LIMITS
    };
    let length = Head::default().parse(request.as_bytes(), &limits);
    assert_eq!(length, Ok(Some(request.len())));
    let limits = HeadLimits {
        bytes: request.len() - 1,
        ..LIMITS
    };
    assert_eq!(refused_within(request.as_bytes(), &limits), 431);
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 32 << 10]].concat();
    assert_eq!(refused(&endless), 431);
}

#[test]
fn too_many_header_lines_are_431_before_they_end() {
    let lines = |count| format!("GET / HTTP/1.0\r\n{}", "X: 1\r\n".repeat(count));
    let head = accepted(&format!("{}\r\n", lines(100)));
    assert_eq!(head.fields().count(), 100);
    assert_eq!(refused(format!("{}\r\n", lines(101)).as_bytes()), 431);
    assert_eq!(refused(format!("{}X", lines(100)).as_bytes()), 431);
    let limits = HeadLimits {
        fields: 0,
        ..LIMITS
    };
    assert_eq!(refused_within(lines(1).as_bytes(), &limits), 431);
}

#[test]
fn more_header_lines_than_fit_the_stack_are_taken_where_allowed() {
    let limits = HeadLimits {
        fields: 1000,
        ..LIMITS
    };
    let request = format!("GET / HTTP/1.0\r\n{}\r\n", "X: 1\r\n".repeat(1000));
    let mut head = Head::default();
    let length = head.parse(request.as_bytes(), &limits);
    assert_eq!(length, Ok(Some(request.len())));
    assert_eq!(head.fields().count(), 1000);
}

#[test]
fn the_request_line_is_known_for_the_log() {
    let mut head = Head::default();
    let line = |head: &Head| String::from_utf8_lossy(head.request_line()).into_owned();
    assert!(head.parse(b"GET /a HTTP/1.1\r\n\r\n", &LIMITS).is_err());
    assert_eq!(line(&head), "GET /a HTTP/1.1");
    assert!(
        head.parse(b"\r\nGET /b HTTP/1.1\r\nX : 1\r\n", &LIMITS)
            .is_err()
    );
    assert_eq!(line(&head), "GET /b HTTP/1.1");
    assert_eq!(head.parse(b"GET /c", &LIMITS), Ok(None));
    assert_eq!(line(&head), "");
    assert_eq!(head.parse(b"GET /c HTTP/1.1\r\n", &LIMITS), Ok(None));
    assert_eq!(line(&head), "GET /c HTTP/1.1");
    assert_eq!(head.method(), "");
    head.clear();
    assert!(head.parse(b"GET /d\xff HTTP/3\r\n", &LIMITS).is_err());
    assert_eq!(line(&head), "GET /d\u{fffd} HTTP/3");
    let limits = HeadLimits { line: 6, ..LIMITS };
    assert!(head.parse(b"GET /long", &limits).is_err());
    assert_eq!(line(&head), "GET /l");
}

#[test]
fn a_head_that_comes_byte_by_byte_is_searched_once() {
    let mut request = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    let mut head = Head::default();
    for _ in 0..1000 {
        request.push(b'x');
        assert_eq!(head.parse(&request, &LIMITS), Ok(None));
        assert_eq!(head.scan.searched, request.len());
        assert_eq!(head.scan.line, 25);
    }
}

#[test]
fn nothing_is_allocated_for_a_second_request() {
    let request = with("X: 1");
    let mut head = Head::default();
    head.parse(request.as_bytes(), &LIMITS).expect("a request");
    let buffers = |head: &Head| (head.text.as_ptr(), head.fields.as_ptr());
    let before = buffers(&head);
    head.parse(request.as_bytes(), &LIMITS).expect("a request");
    assert_eq!(buffers(&head), before);
}
