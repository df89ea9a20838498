//! Requests for files: the responses of the `static` guest and the host. The
//! sending of the bytes is tested in `http_sending.rs`.

mod paths;
mod ranges;

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::{self, LONG_AGO, directory, site, write, write_old};

const WHOLE: &str = "0123456789";

#[test]
fn a_whole_file_comes_with_all_that_describes_it() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let reply = client.get("/some.txt", &[]);
    assert_eq!((reply.status, reply.text()), (200, WHOLE));
    let tag = reply.header("etag").expect("a tag");
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for (name, value) in [
        ("content-length", "10"),
        ("content-type", "text/plain; charset=utf-8"),
        ("last-modified", LONG_AGO),
        ("accept-ranges", "bytes"),
        ("vary", "Accept-Encoding"),
        ("server", "netwasm"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    for absent in ["connection", "transfer-encoding", "content-encoding"] {
        assert_eq!(reply.header(absent), None);
    }
    let date = reply.header("date").expect("a date");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
}

#[test]
fn head_says_what_get_would_say_and_sends_nothing() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    write_old(scratch.path(), "large.bin", vec![7; 100_000]);
    write_old(scratch.path(), "empty.txt", "");
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let without_date = |mut reply: harness::Reply| {
        reply.headers.retain(|line| line.0 != "date");
        reply.body.clear();
        reply
    };
    for target in ["/some.txt", "/large.bin", "/empty.txt", "/nothing", "/"] {
        let get = client.get(target, &[]);
        let head = client.head(target, &[]);
        assert_eq!(without_date(head), without_date(get), "{target}");
    }
    // HEAD ignores ranges (RFC 9110, section 14.2).
    let head = client.head("/some.txt", &[("Range", "bytes=1-2")]);
    assert_eq!((head.status, head.length()), (200, 10));
    let tag = head.header("etag").expect("a tag").to_owned();
    let head = client.head("/some.txt", &[("If-None-Match", &tag)]);
    assert_eq!(head.status, 304);
    // HEAD sent no body that would be taken for the next response.
    assert_eq!(client.get("/some.txt", &[]).text(), WHOLE);
}

#[test]
fn an_empty_file_has_length_zero_and_no_ranges() {
    let scratch = directory();
    write_old(scratch.path(), "empty.txt", "");
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let reply = client.get("/empty.txt", &[]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-length"), Some("0"));
    assert_eq!(reply.header("last-modified"), Some(LONG_AGO));
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"] {
        let reply = client.get("/empty.txt", &[("Range", range)]);
        assert_eq!(reply.status, 416, "{range}");
        assert_eq!(reply.header("content-range"), Some("bytes */0"));
        assert_eq!(reply.header("content-length"), Some("0"));
    }
    assert_eq!(client.get("/empty.txt", &[]).status, 200);
}

#[test]
fn a_file_that_changes_has_another_tag_and_its_new_bytes() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", "before");
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let before = client.get("/some.txt", &[]);
    let tag = before.header("etag").expect("a tag").to_owned();
    // The new content has the old length.
    write(scratch.path(), "some.txt", "after!");
    let after = client.get("/some.txt", &[("If-None-Match", &tag)]);
    assert_eq!((after.status, after.text()), (200, "after!"));
    assert_ne!(after.header("etag"), Some(&*tag));
    fs::remove_file(scratch.path().join("some.txt")).expect("removed");
    assert_eq!(client.get("/some.txt", &[]).status, 404);
}

#[test]
fn a_precompressed_sibling_is_sent_to_who_accepts_it() {
    let scratch = directory();
    for (name, contents) in [
        ("page.html", "<p>as it is</p>"),
        ("page.html.gz", "in gzip"),
        ("page.html.br", "in brotli"),
        ("page.html.zst", "in zstandard"),
        ("code.js", "let it = 'be';"),
        ("code.js.gz", "code in gzip"),
        ("photo.png", "a photo"),
        ("photo.png.gz", "nobody wants this"),
    ] {
        write_old(scratch.path(), name, contents);
    }
    let server = site(scratch.path())
        .listen("--https", "127.0.0.1:0")
        .certificate("cert.pem", "key.pem")
        .start();
    let mut plain = server.browse();
    let mut secure = server.browse_secure();
    for (target, accepts, coding, body) in [
        ("/page.html", "gzip, deflate, br, zstd", "br", "in brotli"),
        ("/page.html", "gzip", "gzip", "in gzip"),
        ("/page.html", "zstd", "zstd", "in zstandard"),
        ("/page.html", "gzip;q=1.0, br;q=0.1", "gzip", "in gzip"),
        ("/page.html", "*", "br", "in brotli"),
        ("/page.html", "br;q=0", "", "<p>as it is</p>"),
        ("/page.html", "identity", "", "<p>as it is</p>"),
        ("/page.html", "", "", "<p>as it is</p>"),
        ("/code.js", "br, zstd, gzip", "gzip", "code in gzip"),
        ("/code.js", "br, zstd", "", "let it = 'be';"),
        ("/photo.png", "gzip", "", "a photo"),
        ("/page.html.gz", "gzip", "", "in gzip"),
    ] {
        let asked = [("Accept-Encoding", accepts)];
        for reply in [plain.get(target, &asked), secure.get(target, &asked)] {
            assert_eq!((reply.status, reply.text()), (200, body), "{accepts}");
            let told = reply.header("content-encoding").unwrap_or_default();
            assert_eq!(told, coding, "{target} {accepts}");
            let varies = target.ends_with(".html") || target.ends_with(".js");
            let vary = varies.then_some("Accept-Encoding");
            assert_eq!(reply.header("vary"), vary, "{target}");
        }
    }
    let asked = [("Accept-Encoding", "gzip")];
    let compressed = plain.get("/page.html", &asked);
    let media = Some("text/html; charset=utf-8");
    assert_eq!(compressed.header("content-type"), media);
    let tag = compressed.header("etag").expect("a tag");
    // A tag is valid only for its own coding.
    assert_eq!(
        plain.get("/page.html", &[("If-None-Match", tag)]).status,
        200
    );
    let again = [("Accept-Encoding", "gzip"), ("If-None-Match", tag)];
    assert_eq!(plain.get("/page.html", &again).status, 304);
    // Ranges apply to the compressed bytes.
    let part = [("Accept-Encoding", "gzip"), ("Range", "bytes=3-6")];
    let part = secure.get("/page.html", &part);
    assert_eq!((part.status, part.text()), (206, "gzip"));
    assert_eq!(part.header("content-range"), Some("bytes 3-6/7"));
    assert_eq!(part.header("content-encoding"), Some("gzip"));
}

#[test]
fn the_type_is_told_by_the_extension() {
    let scratch = directory();
    let types = [
        ("page.html", "text/html; charset=utf-8"),
        ("PAGE.HTM", "text/html; charset=utf-8"),
        ("some.txt", "text/plain; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("code.js", "text/javascript; charset=utf-8"),
        ("code.mjs", "text/javascript; charset=utf-8"),
        ("data.json", "application/json"),
        ("image.svg", "image/svg+xml"),
        ("image.png", "image/png"),
        ("image.jpeg", "image/jpeg"),
        ("image.webp", "image/webp"),
        ("image.avif", "image/avif"),
        ("font.woff2", "font/woff2"),
        ("film.mp4", "video/mp4"),
        ("film.webm", "video/webm"),
        ("code.wasm", "application/wasm"),
        ("paper.pdf", "application/pdf"),
        ("archive.tar.gz", "application/gzip"),
        ("feed.xml", "text/xml"),
        ("what.unheard-of", "application/octet-stream"),
        ("README", "application/octet-stream"),
    ];
    for (name, _) in types {
        write(scratch.path(), name, "x");
    }
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    for (name, media) in types {
        let reply = client.get(&format!("/{name}"), &[]);
        assert_eq!(reply.header("content-type"), Some(media), "{name}");
    }
}

#[test]
fn a_directory_is_its_index_behind_a_slash() {
    let scratch = directory();
    for name in ["sub", "a dir", "empty"] {
        fs::create_dir(scratch.path().join(name)).expect("a directory");
    }
    write(scratch.path(), "index.html", "the first page");
    write(scratch.path(), "sub/index.html", "the second page");
    write(scratch.path(), "a dir/index.html", "the third page");
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    for (target, text) in [
        ("/", "the first page"),
        ("/index.html", "the first page"),
        ("/?query=/sub", "the first page"),
        ("/sub/", "the second page"),
        ("/sub/index.html", "the second page"),
        ("/a%20dir/", "the third page"),
        ("http://localhost", "the first page"),
        ("http://localhost/sub/", "the second page"),
    ] {
        let reply = client.get(target, &[]);
        assert_eq!((reply.status, reply.text()), (200, text), "{target}");
        let media = Some("text/html; charset=utf-8");
        assert_eq!(reply.header("content-type"), media);
    }
    for (target, location) in [
        ("/sub", "/sub/"),
        ("/sub?a=b&c=%2f", "/sub/?a=b&c=%2f"),
        ("/a%20dir", "/a%20dir/"),
        // The location never names another host.
        ("//sub", "/sub/"),
        ("//localhost/..", ""),
    ] {
        let reply = client.get(target, &[]);
        if location.is_empty() {
            assert!(matches!(reply.status, 400 | 404), "{target}");
        } else {
            assert_eq!(reply.status, 301, "{target}");
            assert_eq!(reply.header("location"), Some(location));
        }
    }
    // A directory without an index, a file with a trailing slash, a path below
    // a file.
    for target in ["/empty/", "/index.html/", "/sub/index.html/x"] {
        assert_eq!(client.get(target, &[]).status, 404, "{target}");
    }
}

#[test]
fn a_directory_is_listed_only_where_that_is_asked_for() {
    let scratch = directory();
    fs::create_dir_all(scratch.path().join("files/deeper")).expect("directories");
    for name in ["b & c.txt", "<i>.html", ".hidden", "ü.txt"] {
        write(scratch.path(), &format!("files/{name}"), "some");
    }
    symlink("/etc/passwd", scratch.path().join("files/out")).expect("a link");
    let server = site(scratch.path()).start();
    assert_eq!(server.get("/files/").status, 404);
    let server = site(scratch.path()).guest_args(&["--list"]).start();
    let mut client = server.browse();
    let reply = client.get("/files/", &[]);
    let media = Some("text/html; charset=utf-8");
    assert_eq!((reply.status, reply.header("content-type")), (200, media));
    let page = reply.text();
    for shown in [
        "<a href=\"../\">",
        "<a href=\"deeper/\">deeper/</a>",
        "<a href=\"b%20%26%20c.txt\">b &amp; c.txt</a>",
        "<a href=\"%3Ci%3E.html\">&lt;i&gt;.html</a>",
        "<a href=\"%C3%BC.txt\">ü.txt</a>",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    assert!(!page.contains("hidden") && !page.contains("out"), "{page}");
    // Every link works.
    for link in page.split("href=\"").skip(1) {
        let link = link.split('"').next().expect("its end");
        let status = client.get(&format!("/files/{link}"), &[]).status;
        let expected = if link == "../" { 400 } else { 200 };
        assert_eq!(status, expected, "{link}");
    }
    assert_eq!(client.get("/files/.hidden", &[]).status, 404);
}

#[test]
fn a_fallback_answers_where_nothing_exists() {
    let scratch = directory();
    fs::create_dir(scratch.path().join("folder")).expect("a directory");
    write_old(scratch.path(), "app.html", "the application");
    write_old(scratch.path(), "app.js", "its code");
    let server = site(scratch.path())
        .guest_args(&["--fallback", "/app.html"])
        .start();
    let mut client = server.browse();
    for target in ["/", "/users/5", "/users/5?tab=1", "/a/b/c.html"] {
        let reply = client.get(target, &[]);
        let expected = (200, "the application");
        if target == "/" {
            // The directory exists but has no index.
            assert_eq!(reply.status, 404);
            continue;
        }
        assert_eq!((reply.status, reply.text()), expected, "{target}");
    }
    assert_eq!(client.get("/app.js", &[]).text(), "its code");
    let tag = client.head("/users/5", &[]);
    let tag = tag.header("etag").expect("a tag");
    let asked = [("If-None-Match", tag)];
    assert_eq!(client.get("/users/6", &asked).status, 304);
    // The fallback does not apply to refused paths.
    assert_eq!(client.get("/%2e%2e/x", &[]).status, 400);
    assert_eq!(client.get("/.git/config", &[]).status, 404);
}

#[test]
fn other_methods_are_refused_with_those_that_are_allowed() {
    let scratch = directory();
    write(scratch.path(), "some.txt", WHOLE);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    for method in ["POST", "PUT", "DELETE", "PATCH", "PROPFIND", "get"] {
        for target in ["/some.txt", "/nothing"] {
            let asked = [("Content-Length", "0")];
            let reply = client.ask(method, target, &asked);
            assert_eq!(reply.status, 405, "{method}");
            assert_eq!(reply.header("allow"), Some("GET, HEAD"), "{method}");
        }
    }
    // The connection goes on.
    assert_eq!(client.get("/some.txt", &[]).text(), WHOLE);
}
