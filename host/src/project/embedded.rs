//! Files that are part of the program, by their paths: the build script makes
//! the lists, and a compressed text of all contents.

use std::io::Read;
use std::ops::Range;
use std::sync::LazyLock;

use flate2::read::ZlibDecoder;

/// Paths and contents.
type Files = LazyLock<Vec<(&'static str, &'static str)>>;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// All contents, one after another.
static CONTENTS: LazyLock<String> = LazyLock::new(|| {
    let compressed: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/embedded.z"));
    let mut text = String::new();
    let read = ZlibDecoder::new(compressed).read_to_string(&mut text);
    read.expect("the build script has compressed it");
    text
});

/// Returns files by their paths and places.
fn files(places: &[(&'static str, Range<usize>)]) -> Vec<(&'static str, &'static str)> {
    let content = |place: &Range<usize>| CONTENTS.get(place.clone()).unwrap_or_default();
    let files = places.iter().map(|(path, place)| (*path, content(place)));
    files.collect()
}
