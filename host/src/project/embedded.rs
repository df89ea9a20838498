//! Files that are part of the program, by their paths: the build script makes
//! the lists.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
