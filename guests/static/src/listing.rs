//! Lists a directory as a page.

use std::fs;
use std::io;

use netwasm_guest::http::escape;

use crate::path;

/// The listing of a directory, by its path with a slash at the end: directories
/// first, then files, each by name. What cannot be asked for is left out.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn page(directory: &str) -> io::Result<String> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        entries.extend(Entry::of(&entry?));
    }
    entries.sort();
    Ok(render(directory, &entries))
}

/// Entry of a directory, in the order of the listing.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Directory(String),
    File(String),
}

impl Entry {
    /// `None` for hidden and special files, and for links that lead nowhere.
    fn of(entry: &fs::DirEntry) -> Option<Self> {
        let name = entry.file_name().into_string().ok()?;
        if name.starts_with('.') {
            return None;
        }
        let mut kind = entry.file_type().ok()?;
        if kind.is_symlink() {
            kind = fs::metadata(entry.path()).ok()?.file_type();
        }
        if kind.is_dir() {
            Some(Self::Directory(name))
        } else {
            kind.is_file().then_some(Self::File(name))
        }
    }
}

fn render(directory: &str, entries: &[Entry]) -> String {
    let title = format!("Index of {}", escape(directory));
    let mut page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    if directory != "/" {
        page += "<li><a href=\"../\">../</a>\n";
    }
    for entry in entries {
        let (name, slash) = match entry {
            Entry::Directory(name) => (name, "/"),
            Entry::File(name) => (name, ""),
        };
        let (link, text) = (path::encode_segment(name), escape(name));
        page += &format!("<li><a href=\"{link}{slash}\">{text}{slash}</a>\n");
    }
    page + "</ul>\n"
}

#[cfg(test)]
mod tests {
    use super::{Entry, render};

    #[test]
    fn names_are_escaped_and_links_encoded() {
        let page = render(
            "/<b>/",
            &[Entry::File("javascript:\"'<a>?#%.txt".to_owned())],
        );
        assert!(page.contains("<h1>Index of /&lt;b&gt;/</h1>"), "{page}");
        let link = "<a href=\"javascript%3A%22%27%3Ca%3E%3F%23%25.txt\">";
        let text = "javascript:&quot;&#39;&lt;a&gt;?#%.txt</a>";
        assert!(page.contains(&format!("{link}{text}")), "{page}");
    }

    #[test]
    fn directories_come_first() {
        let file = |name: &str| Entry::File(name.to_owned());
        let mut entries = [file("b"), Entry::Directory("c".to_owned()), file("a")];
        entries.sort();
        let page = render("/", &entries);
        let links: Vec<_> = page.split("href=\"").skip(1).collect();
        let starts = ["c/\"", "a\"", "b\""];
        assert_eq!(links.len(), starts.len());
        for (link, start) in links.iter().zip(starts) {
            assert!(link.starts_with(start), "{link}");
        }
    }
}
