//! Media types of files, by their names.

/// A media type (RFC 9110, section 8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Media(&'static str);

impl Media {
    /// Returns the type for the extension of a file's name, in any case;
    /// `application/octet-stream` if it is unknown.
    pub(crate) fn of(name: &str) -> Self {
        let extension = match name.rsplit_once('.') {
            // A name such as `.html` is hidden, and has no extension.
            Some((stem, extension)) if !stem.is_empty() => extension,
            _ => "",
        };
        Self(
            current(extension)
                .or_else(|| mime_guess::from_ext(extension).first_raw())
                .unwrap_or("application/octet-stream"),
        )
    }

    pub(crate) fn name(self) -> &'static str {
        self.0
    }

    /// Returns what follows the name in `Content-Type`. XML declares its own
    /// encoding, and a parameter would override that (RFC 7303, section 3).
    pub(crate) fn parameter(self) -> &'static str {
        if self.0.starts_with("text/") && self.0 != "text/xml" {
            "; charset=utf-8"
        } else {
            ""
        }
    }

    /// True if compression is worthwhile, so that there may be siblings.
    pub(crate) fn compresses(self) -> bool {
        self.0.starts_with("text/")
            || self.0.ends_with("+xml")
            || self.0.ends_with("+json")
            || matches!(
                self.0,
                "application/javascript"
                    | "application/json"
                    | "application/json5"
                    | "application/n-triples"
                    | "application/rtf"
                    | "application/trig"
                    | "application/vnd.ms-fontobject"
                    | "application/wasm"
                    | "application/xml"
                    | "application/xml-dtd"
                    | "application/yaml"
                    | "font/collection"
                    | "font/otf"
                    | "font/ttf"
                    | "image/bmp"
                    | "image/x-icon"
                    | "model/gltf-binary"
            )
    }
}

/// Returns the type of a common extension, found sooner than in the large
/// table, or of one for which that table has an outdated name.
fn current(extension: &str) -> Option<&'static str> {
    let mut lower = [0; 11];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"" => "application/octet-stream",
        b"html" | b"htm" => "text/html",
        b"css" => "text/css",
        // RFC 9239.
        b"js" | b"mjs" | b"cjs" => "text/javascript",
        b"json" | b"map" => "application/json",
        b"txt" => "text/plain",
        b"svg" => "image/svg+xml",
        b"png" => "image/png",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"gif" => "image/gif",
        b"webp" => "image/webp",
        b"avif" => "image/avif",
        b"ico" => "image/x-icon",
        // RFC 8081.
        b"woff" => "font/woff",
        b"woff2" => "font/woff2",
        b"otf" => "font/otf",
        b"ttf" => "font/ttf",
        b"wasm" => "application/wasm",
        b"mp4" => "video/mp4",
        b"webm" => "video/webm",
        b"mp3" => "audio/mpeg",
        // RFC 6381 and ISO/IEC 14496-12 know no `audio/m4a`.
        b"m4a" => "audio/mp4",
        // Segments of HTTP Live Streaming (RFC 8216).
        b"ts" => "video/mp2t",
        b"m3u8" => "application/vnd.apple.mpegurl",
        // RFC 9512.
        b"yaml" | b"yml" => "application/yaml",
        b"zst" => "application/zstd",
        b"bin" => "application/octet-stream",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the value of `Content-Type`.
    fn content_type(name: &str) -> String {
        let media = Media::of(name);
        format!("{}{}", media.name(), media.parameter())
    }

    #[test]
    fn text_has_a_charset_and_nothing_else_has() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("INDEX.HTM", "text/html; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("app.min.js", "text/javascript; charset=utf-8"),
            ("module.mjs", "text/javascript; charset=utf-8"),
            ("notes.txt", "text/plain; charset=utf-8"),
            ("readme.md", "text/markdown; charset=utf-8"),
            ("table.csv", "text/csv; charset=utf-8"),
            ("data.json", "application/json"),
            ("app.js.map", "application/json"),
            ("site.webmanifest", "application/manifest+json"),
            ("drawing.svg", "image/svg+xml"),
            ("feed.xml", "text/xml"),
            ("feed.atom", "application/atom+xml"),
            ("code.wasm", "application/wasm"),
            ("photo.jpg", "image/jpeg"),
            ("photo.JPEG", "image/jpeg"),
            ("photo.avif", "image/avif"),
            ("favicon.ico", "image/x-icon"),
            ("font.woff2", "font/woff2"),
            ("font.woff", "font/woff"),
            ("font.ttf", "font/ttf"),
            ("font.otf", "font/otf"),
            ("film.mp4", "video/mp4"),
            ("film.webm", "video/webm"),
            ("film.ts", "video/mp2t"),
            ("song.mp3", "audio/mpeg"),
            ("song.ogg", "audio/ogg"),
            ("song.flac", "audio/flac"),
            ("song.wav", "audio/wav"),
            ("paper.pdf", "application/pdf"),
            ("archive.zip", "application/zip"),
            ("archive.tar.gz", "application/gzip"),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_a_stream_of_octets() {
        for name in [
            "",
            "LICENSE",
            ".html",
            "a.",
            "a.unheard",
            "a.an-extension-without-end",
            "a.ü",
        ] {
            assert_eq!(content_type(name), "application/octet-stream", "{name}");
        }
    }

    #[test]
    fn text_compresses_and_what_is_compressed_does_not() {
        for name in [
            "a.html",
            "a.css",
            "a.js",
            "a.json",
            "a.xml",
            "a.svg",
            "a.wasm",
            "a.ttf",
            "a.otf",
            "a.eot",
            "a.rss",
            "a.webmanifest",
            "a.geojson",
            "a.yaml",
            "a.ico",
        ] {
            assert!(Media::of(name).compresses(), "{name}");
        }
        for name in [
            "a.png", "a.jpg", "a.woff2", "a.mp4", "a.zip", "a.gz", "a.br", "a.zst", "a.pdf", "a",
        ] {
            assert!(!Media::of(name).compresses(), "{name}");
        }
    }
}
