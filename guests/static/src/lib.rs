//! Serves the files of a directory.
//!
//! ```sh
//! netwasm run guests/static.wasm --http 8080 --dir ./public::/
//! ```
//!
//! A directory is answered by its `index.html`. After `--` it takes
//!
//! - `--list`, to list directories that have no index;
//! - `--fallback PATH`, a file to send where nothing exists, as applications
//!   with routes of their own want it: `--fallback /index.html`.
//!
//! Hidden files, whose names begin with a dot, are neither sent nor listed,
//! except what is in `/.well-known/`. Names must be UTF-8.
//!
//! The guest only says which file it is. Everything else that a file server
//! does, from ranges to compression, the host does: see `body` in
//! `wit/http.wit`.
mod listing;
mod options;
mod path;

use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::sync::LazyLock;

use netwasm_guest::http::{Method, Request, Response};
use netwasm_guest::{Error, ErrorKind, File, error, warn};
use options::Options;

netwasm_guest::export!(http: serve);

/// Options of the command line; `None`, and a line in the log, if they make no
/// sense.
static OPTIONS: LazyLock<Option<Options>> =
    LazyLock::new(|| match Options::parse(std::env::args().skip(1)) {
        Ok(options) => Some(options),
        Err(reason) => {
            error!("{reason}");
            None
        }
    });

async fn serve(request: Request<'_>) -> Response {
    let Some(options) = &*OPTIONS else {
        return Response::error(500);
    };
    answer(&request, options)
}

fn answer(request: &Request<'_>, options: &Options) -> Response {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return Response::error(405).header("allow", "GET, HEAD");
    }
    let path = match path::decode(request.path()) {
        Ok(path) if path::is_hidden(&path) => return Response::error(404),
        Ok(path) => path,
        Err(reason) => return Response::error_because(400, reason),
    };
    let file = if path.ends_with('/') {
        File::open(&[&path, "index.html"].concat())
    } else {
        File::open(&path)
    };
    match file {
        Ok(file) => file.into(),
        // The second is a name that is longer than names can be.
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidArgument => {
                // With its question mark, even if nothing follows that.
                let query = request.target().strip_prefix(request.path());
                without_file(&path, query.unwrap_or_default(), options)
            }
            _ => failed(&path, &error),
        },
    }
}

/// Answers where there is no file to send.
fn without_file(path: &str, query: &str, options: &Options) -> Response {
    match look(path) {
        Found::Directory if !path.ends_with('/') => {
            let location = format!("{}/{query}", path::encode(path));
            Response::new(301).header("location", location)
        }
        Found::Directory if options.list => list(path),
        Found::Directory | Found::Other => Response::error(404),
        Found::Nothing => match &options.fallback {
            None => Response::error(404),
            Some(fallback) => match File::open(fallback) {
                Ok(file) => file.into(),
                Err(error) => {
                    warn!("cannot open the --fallback: {error}");
                    failed(fallback, &error)
                }
            },
        },
    }
}

/// Content of a path that has no file to send.
enum Found {
    Directory,
    /// A special file, or a link that leads out of the directory.
    Other,
    Nothing,
}

fn look(path: &str) -> Found {
    // With a slash behind it, a file would not be found.
    let path = match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Found::Directory,
        Ok(_) => Found::Other,
        Err(error) => match error.kind() {
            IoErrorKind::NotFound | IoErrorKind::NotADirectory => Found::Nothing,
            _ => Found::Other,
        },
    }
}

fn list(path: &str) -> Response {
    match listing::page(path) {
        Ok(listing) => Response::html(listing),
        Err(error) => match error.kind() {
            IoErrorKind::NotFound => Response::error(404),
            IoErrorKind::PermissionDenied => Response::error(403),
            // Where no descriptor is left, WASI says no more than that.
            _ => {
                error!("cannot list {path:?}: {error}");
                Response::error(503)
            }
        },
    }
}

/// Answers where a file cannot be opened.
fn failed(path: &str, error: &Error) -> Response {
    match error.kind() {
        ErrorKind::NotFound => Response::error(404),
        ErrorKind::AccessDenied => Response::error(403),
        ErrorKind::LimitExceeded => Response::error(503),
        _ => {
            error!("cannot open {path:?}: {error}");
            Response::error(500)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing::{self, Client};

    #[test]
    fn files_are_found_and_hidden_ones_are_not() {
        testing::add_file("/index.html", "index");
        testing::add_file("/a b.txt", "a");
        testing::add_file("/.env", "secret");
        let client =
            Client::new(async |request: Request<'_>| answer(&request, &Options::default()));
        assert_eq!(client.get("/").send().text(), "index");
        assert_eq!(client.get("/a%20b.txt?x").send().text(), "a");
        assert_eq!(client.get("/.env").send().status(), 404);
        assert_eq!(client.get("/..%2fx").send().status(), 400);
        let refused = client.post("/", "").send();
        assert_eq!(refused.status(), 405);
        assert_eq!(refused.header("allow").as_deref(), Some("GET, HEAD"));
    }
}
