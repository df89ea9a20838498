//! Files for widely used clients: curl and a browser.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{
    Run, START, Server, cert, directory, pattern, repository, same, site, skipped, text,
    unix_address, within, write, write_old,
};

/// curl(1), which trusts the test authority.
struct Curl {
    base: String,
    directory: std::path::PathBuf,
}

/// Outcome of a run of curl.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    /// Output of `--write-out`: the status, and the number of bytes received.
    told: String,
}

impl Curl {
    fn new(server: &Server, scheme: &str, directory: &Path) -> Self {
        // The certificate is for the name `localhost`.
        let port = server.address(scheme).port();
        Self {
            base: format!("{scheme}://localhost:{port}"),
            directory: directory.to_owned(),
        }
    }

    /// Runs curl. It writes what it receives to the file `out`, unless
    /// `arguments` say otherwise.
    fn run(&self, arguments: &[&str], target: &str) -> Done {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*"])
            .args(["--max-time", "60", "--cacert", text(&cert("ca.pem"))])
            .args(["--write-out", "%{http_code} %{size_download}"])
            .args(arguments)
            // curl uses the first `--output`.
            .args(["--output", "out"])
            .arg(format!("{}{target}", self.base))
            .current_dir(&self.directory)
            .output()
            .expect("curl runs");
        Done {
            code: output.status.code(),
            told: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }

    /// Runs curl, checks what it reports, and returns what it wrote to `out`.
    fn fetch(&self, arguments: &[&str], target: &str, told: &str) -> Vec<u8> {
        let out = self.directory.join("out");
        let _ = fs::remove_file(&out);
        let done = self.run(arguments, target);
        assert_eq!((done.code, done.told.as_str()), (Some(0), told), "{target}");
        // curl writes no file for an empty body.
        fs::read(out).unwrap_or_default()
    }
}

/// Returns true if a program is installed. If not, reports the test as skipped.
fn is_there(program: &str) -> bool {
    let tried = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if tried.is_err() {
        skipped(&format!("there is no {program} here"));
    }
    tried.is_ok()
}

fn both(directory: &Path) -> Run {
    site(directory)
        .listen("--https", "127.0.0.1:0")
        .certificate("cert.pem", "key.pem")
}

#[test]
fn curl_downloads_resumes_and_asks_for_parts() {
    if !is_there("curl") {
        return;
    }
    let scratch = directory();
    let bytes = pattern(3_000_000);
    write_old(scratch.path(), "some.bin", &bytes);
    write_old(scratch.path(), "some.txt", "0123456789");
    write(scratch.path(), "index.html", "<p>Hello</p>");
    let server = both(scratch.path()).start();
    for scheme in ["http", "https"] {
        let here = directory();
        let curl = Curl::new(&server, scheme, here.path());
        assert_eq!(curl.fetch(&[], "/", "200 12"), b"<p>Hello</p>");
        same(&curl.fetch(&[], "/some.bin", "200 3000000"), &bytes);
        assert_eq!(
            curl.fetch(&["--http1.0"], "/some.txt", "200 10"),
            b"0123456789"
        );
        assert_eq!(curl.run(&["--head"], "/some.bin").told, "200 0");
        assert_eq!(curl.run(&[], "/nothing").told.get(..3), Some("404"));
        assert_eq!(
            curl.run(&["--data", "x"], "/some.txt").told.get(..3),
            Some("405")
        );

        // Resumes a partial download.
        write(here.path(), "part.bin", &bytes[..1_234_567]);
        let resumed = ["--continue-at", "-", "--output", "part.bin"];
        let done = curl.run(&resumed, "/some.bin");
        assert_eq!((done.code, done.told.as_str()), (Some(0), "206 1765433"));
        same(
            &fs::read(here.path().join("part.bin")).expect("the file"),
            &bytes,
        );
        // Nothing is left to resume.
        let done = curl.run(&resumed, "/some.bin");
        assert_eq!(done.told.get(..3), Some("416"), "{done:?}");
        same(
            &fs::read(here.path().join("part.bin")).expect("the file"),
            &bytes,
        );

        // Downloads only if the file is newer than the local one.
        let out = here.path().join("out");
        let newer = ["--time-cond", text(&out)];
        curl.fetch(&["--remote-time"], "/some.txt", "200 10");
        assert_eq!(curl.run(&newer, "/some.txt").told, "304 0");
        let date = ["--time-cond", "1 Jan 1990"];
        assert_eq!(curl.run(&date, "/some.txt").told, "200 10");
        // Compares with the tag that was saved.
        let save = ["--etag-save", "etag.txt"];
        curl.fetch(&save, "/some.txt", "200 10");
        let compare = ["--etag-compare", "etag.txt"];
        assert_eq!(curl.run(&compare, "/some.txt").told, "304 0");

        let range = ["--range", "3-5"];
        assert_eq!(curl.fetch(&range, "/some.txt", "206 3"), b"345");
        let range = ["--range", "-2"];
        assert_eq!(curl.fetch(&range, "/some.txt", "206 2"), b"89");
        let several = curl.run(&["--range", "0-1,5-6,-1"], "/some.txt");
        assert_eq!(several.told.get(..3), Some("206"));
        let body = fs::read_to_string(&out).expect("the parts");
        for part in [
            "0-1/10\r\n\r\n01\r\n",
            "5-6/10\r\n\r\n56\r\n",
            "9-9/10\r\n\r\n9\r\n",
        ] {
            assert!(
                body.contains(&format!("Content-Range: bytes {part}")),
                "{body}"
            );
        }
    }
}

#[test]
fn curl_follows_the_redirect_to_a_directory() {
    if !is_there("curl") {
        return;
    }
    let scratch = directory();
    fs::create_dir(scratch.path().join("some dir")).expect("a directory");
    write(scratch.path(), "some dir/index.html", "here");
    let server = both(scratch.path()).start();
    for scheme in ["http", "https"] {
        let here = directory();
        let curl = Curl::new(&server, scheme, here.path());
        let body = curl.fetch(&["--location"], "/some%20dir?a=b", "200 4");
        assert_eq!(body, b"here");
    }
}

#[test]
fn curl_decodes_a_compressed_sibling() {
    if !is_there("curl") || !is_there("gzip") {
        return;
    }
    let scratch = directory();
    let page = "<p>a page that says the same many times</p>\n".repeat(1000);
    let path = write(scratch.path(), "page.html", &page);
    let status = Command::new("gzip").arg("--keep").arg(&path).status();
    assert!(status.expect("gzip runs").success());
    let length = fs::metadata(scratch.path().join("page.html.gz"))
        .expect("the sibling")
        .len();
    assert!(length < 1000, "{length}");
    let server = both(scratch.path()).start();
    for scheme in ["http", "https"] {
        let here = directory();
        let curl = Curl::new(&server, scheme, here.path());
        let gzip = ["--compressed", "--header", "Accept-Encoding: gzip"];
        let told = format!("200 {length}");
        same(&curl.fetch(&gzip, "/page.html", &told), page.as_bytes());
        let told = format!("200 {}", page.len());
        same(&curl.fetch(&[], "/page.html", &told), page.as_bytes());
    }
}

#[test]
fn curl_asks_over_a_unix_socket() {
    if !is_there("curl") {
        return;
    }
    let scratch = directory();
    let bytes = pattern(1_000_000);
    write(scratch.path(), "some.bin", &bytes);
    let socket = scratch.path().join("site.sock");
    let server = site(scratch.path())
        .listen("--http", &unix_address(&socket))
        .start();
    let here = directory();
    let curl = Curl::new(&server, "http", here.path());
    let over = ["--unix-socket", text(&socket)];
    same(&curl.fetch(&over, "/some.bin", "200 1000000"), &bytes);
}

/// A headless browser, killed on drop.
struct Browser(Child);

impl Browser {
    /// Opens a page with Chromium. Returns `None` if none is installed.
    fn open(url: &str, profile: &Path) -> Option<Self> {
        let programs = ["chromium", "chromium-browser", "google-chrome"];
        let spawn = |program: &&str| {
            Command::new(program)
                .args(["--headless", "--no-sandbox", "--disable-gpu"])
                .args(["--disable-dev-shm-usage", "--no-first-run"])
                .args(["--disable-quic", "--disable-background-networking"])
                .args(["--disable-component-update", "--disable-sync"])
                .args(["--autoplay-policy=no-user-gesture-required", "--mute-audio"])
                .args(["--ignore-certificate-errors", "--no-proxy-server"])
                .arg("--remote-debugging-port=0")
                .arg(format!("--user-data-dir={}", profile.display()))
                .arg(url)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        };
        let child = programs.iter().find_map(spawn);
        if child.is_none() {
            skipped("there is no Chromium here");
        }
        child.map(Self)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its child processes end with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A page that requests `/report?...` once everything is loaded, and the video
/// was sought near its end and near its start, and played from the middle.
const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>A page</title>
<link rel="stylesheet" href="style.css">
<p id="styled">styled</p>
<img id="square" src="square.svg" alt="">
<img id="dot" src="dot.png" alt="">
<video id="film" src="film.mp4" preload="metadata" muted></video>
<script type="module">
import { answer } from "./code.mjs";
const report = (what) => fetch("/report?" + what);
const once = (target, name) => new Promise((resolve, reject) => {
  target.addEventListener(name, resolve, { once: true });
  target.addEventListener("error", () => reject(new Error(name)), { once: true });
});
const film = document.getElementById("film");
async function seek(seconds) {
  const seeked = once(film, "seeked");
  film.currentTime = seconds;
  await seeked;
  return film.currentTime.toFixed(1);
}
try {
  await document.readyState === "complete" || await once(window, "load");
  if (film.readyState < 1) await once(film, "loadedmetadata");
  const image = (id) => document.getElementById(id).naturalWidth;
  const styled = getComputedStyle(document.getElementById("styled"));
  const data = await (await fetch("data.json")).json();
  const late = await seek(14.5);
  const early = await seek(1.5);
  const middle = await seek(8.5);
  await film.play();
  await once(film, "timeupdate");
  report([
    "color=" + styled.color.replaceAll(" ", ""), "square=" + image("square"),
    "dot=" + image("dot"), "code=" + answer, "data=" + data.answer,
    "length=" + film.duration.toFixed(0), "width=" + film.videoWidth,
    "late=" + late, "early=" + early, "middle=" + middle,
    "plays=" + (film.currentTime > 8.4), "end",
  ].join("&"));
} catch (error) {
  report("failed=" + encodeURIComponent(error + " " + film.error?.message) + "&end");
}
</script>
"#;

/// Size in bytes of a gap in the middle of the film. The film is then too large
/// to be loaded whole: a browser must request its end by a range.
const GAP: u32 = 512 << 20;

/// Writes the film of the fixtures, 16 seconds in VP9 and Opus, with a gap in
/// the middle. This made the film:
///
/// ```sh
/// ffmpeg -f lavfi -i testsrc=size=64x48:rate=4:duration=16 \
///     -f lavfi -i anullsrc=r=8000:cl=mono -shortest -c:v libvpx-vp9 -crf 50 \
///     -b:v 0 -g 8 -c:a libopus -b:a 6k -movflags +faststart -map_metadata -1 \
///     -fflags +bitexact -flags:v +bitexact -flags:a +bitexact film.mp4
/// ```
fn write_film(path: &Path) {
    let mut film = fs::read(repository().join("tests/fixtures/film.mp4")).expect("the film");
    let number = |film: &[u8], at: usize| {
        let bytes = film.get(at..at + 4).expect("four bytes");
        u32::from_be_bytes(bytes.try_into().expect("four bytes"))
    };
    let set = |film: &mut [u8], at: usize, number: u32| {
        film.get_mut(at..at + 4)
            .expect("four bytes")
            .copy_from_slice(&number.to_be_bytes());
    };
    let named = |film: &[u8], name: &[u8], from: usize| {
        let rest = film.get(from..)?;
        let at = rest.windows(4).position(|window| window == name)?;
        Some(from + at)
    };
    // ISO/IEC 14496-12: `stco` holds the offsets of a track's chunks, after its
    // version and their number. Offsets in the second half move by the gap.
    let half = film.len() / 2;
    let (mut cut, mut from) = (film.len(), 0);
    let mut offsets = Vec::new();
    while let Some(table) = named(&film, b"stco", from) {
        let count = number(&film, table + 8) as usize;
        offsets.extend((0..count).map(|index| table + 12 + 4 * index));
        from = table + 12;
    }
    for &at in &offsets {
        let offset = number(&film, at) as usize;
        if offset >= half {
            cut = cut.min(offset);
        }
    }
    for &at in &offsets {
        let offset = number(&film, at);
        if offset as usize >= cut {
            set(&mut film, at, offset + GAP);
        }
    }
    let data = named(&film, b"mdat", from).expect("the data") - 4;
    let length = number(&film, data);
    set(&mut film, data, length + GAP);
    let mut file = File::create(path).expect("a file");
    let (before, after) = film.split_at(cut);
    file.write_all(before).expect("the first half");
    file.write_all_at(after, cut as u64 + u64::from(GAP))
        .expect("the second half");
}

#[test]
fn a_browser_shows_a_page_with_images_styles_and_a_video_that_is_sought() {
    let scratch = directory();
    let inside = scratch.path().join("site");
    fs::create_dir(&inside).expect("a directory");
    write(&inside, "index.html", PAGE);
    write(&inside, "style.css", "#styled { color: rgb(1, 2, 3); }");
    write(&inside, "code.mjs", "export const answer = 42;");
    write(&inside, "data.json", "{\"answer\": 43}");
    write(
        &inside,
        "square.svg",
        "<svg xmlns='http://www.w3.org/2000/svg' width='31' height='31'/>",
    );
    write(&inside, "dot.png", dot());
    write_film(&inside.join("film.mp4"));
    // Browsers use HTTP/2 only in TLS.
    for (scheme, version) in [("http", "HTTP/1.1"), ("https", "HTTP/2.0")] {
        let log = scratch.path().join(format!("{scheme}.log"));
        let server = both(&inside).args(["--access-log", text(&log)]).start();
        let port = server.address(scheme).port();
        let profile = directory();
        let url = format!("{scheme}://127.0.0.1:{port}/");
        let Some(browser) = Browser::open(&url, profile.path()) else {
            return;
        };
        let lines = within(START, "the page's report", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            text.contains("/report?").then_some(text)
        });
        drop(browser);
        let expected = "color=rgb(1,2,3)&square=31&dot=1&code=42&data=43&length=16&width=64\
                        &late=14.5&early=1.5&middle=8.5&plays=true&end";
        assert!(lines.contains(expected), "{lines}");
        for name in [
            "/",
            "/style.css",
            "/code.mjs",
            "/data.json",
            "/square.svg",
            "/dot.png",
        ] {
            let line = format!("\"GET {name} {version}\" 200 ");
            assert!(lines.contains(&line), "{line}in {lines}");
        }
        // The film came in parts, without the gap.
        let part = format!("\"GET /film.mp4 {version}\" 206 ");
        let parts = lines.matches(&part).count();
        assert!(parts >= 2, "{lines}");
        server.stop();
    }
}

/// Returns a PNG of one black dot.
fn dot() -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8], check: u32| {
        let length = u32::try_from(data.len()).expect("a length");
        [&length.to_be_bytes(), &name[..], data, &check.to_be_bytes()].concat()
    };
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", b"\0\0\0\x01\0\0\0\x01\x08\0\0\0\0", 0x3a7e_9b55),
        // One row, its filter and one grey value, in zlib's stored form.
        chunk(
            b"IDAT",
            b"\x78\x01\x01\x02\0\xfd\xff\0\0\0\x02\0\x01",
            0x7e05_0dd2,
        ),
        chunk(b"IEND", b"", 0xae42_6082),
    ]
    .concat()
}
