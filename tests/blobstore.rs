//! `wasi:blobstore`: containers that are directories.

use std::fs;
use std::path::Path;

use crate::harness::{Finished, Run, directory, eventually, pattern, text};

/// Runs the probe with `--blobstore NAME=DIR`, as `given` has it, where DIR is
/// the directory. Its words are those of a line.
fn probe(root: &Path, given: &str, line: &str) -> Finished {
    let given = given.replace("DIR", text(root));
    let words: Vec<&str> = line.split_whitespace().collect();
    let run = Run::guest("blob-probe").args(["--blobstore", &given]);
    run.guest_args(&words).output()
}

/// Checks that it goes well, and returns what it prints.
#[track_caller]
fn printed(finished: &Finished) -> &str {
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    &finished.stdout
}

#[test]
fn objects_are_the_files_of_a_directory() {
    let root = directory();
    let run = |line: &str| probe(root.path(), "c=DIR:rw", line);
    // By streams, more than is kept in memory.
    let large = pattern(1 << 20);
    fs::write(root.path().join("large"), &large).expect("a file");
    let done = run("put c a/one 0123456789 ; get c a/one 2 4 ; info c a/one ; \
                    pipe c large b/copy ; copy c a/one c two ; abandon c half");
    assert_eq!(printed(&done), "3: 234\na/one in c: 10 bytes, true\n");
    let content = |name: &str| fs::read(root.path().join(name)).expect("an object");
    assert_eq!(content("a/one"), b"0123456789");
    assert_eq!(content("two"), b"0123456789");
    assert!(content("b/copy") == large);

    let done = run("move c b/copy c moved ; list c");
    let mut names: Vec<_> = printed(&done).lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["a/one", "large", "moved", "two"]);
    assert!(!root.path().join("b").exists());
    let done = run("delete c two ; delete c two ; has c two ; clear c");
    assert_eq!(printed(&done), "false\n");
    assert_eq!(fs::read_dir(root.path()).expect("it").count(), 0);
}

#[test]
fn a_container_is_a_permission_and_the_denial_names_its_flag() {
    let (root, outside) = (directory(), directory());
    fs::write(root.path().join("one"), "1").expect("a file");
    fs::write(outside.path().join("secret"), "secret").expect("a file");
    std::os::unix::fs::symlink(outside.path(), root.path().join("out")).expect("a link");
    let run = |line: &str| probe(root.path(), "c=DIR", line);
    assert_eq!(printed(&run("get c one 0 9")), "1: 1\n");
    for (line, told, logged) in [
        ("put c two 2", "access denied", "--blobstore c=DIR:rw"),
        ("get d one 0 9", "access denied", "--blobstore d=DIR"),
        ("get c ../one 0 9", "'../one' is not an object name", ""),
        ("get c out/secret 0 9", "cannot read 'out/secret'", ""),
        ("get c none 0 9", "cannot read 'none': there is none", ""),
    ] {
        let done = run(line);
        assert_eq!(done.code, Some(1), "{done:#?}");
        let begins = done.stdout.starts_with(&format!("error: {told}"));
        assert!(begins && done.stderr.contains(logged), "{line}: {done:#?}");
    }
    assert_eq!(fs::read_dir(root.path()).expect("it").count(), 2);
}

#[test]
fn what_is_too_large_is_refused_with_its_bound() {
    let root = directory();
    // 5 GiB, of which nothing is on the disk.
    let large = fs::File::create(root.path().join("large")).expect("a file");
    large.set_len(5 << 30).expect("a length");
    let run = |line: &str| probe(root.path(), "c=DIR:rw", line);
    let refused = |line: &str, reason: &str| {
        let done = run(line);
        assert_eq!(done.code, Some(1), "{done:#?}");
        assert!(done.stdout.contains(reason), "no {reason:?}: {done:#?}");
    };
    refused(
        "get c large 0 5368709119",
        "it has 5368709120 bytes, and the guest has memory for",
    );
    // A part of it is not.
    let done = run("get c large 5368709110 5368709119");
    assert_eq!(printed(&done), format!("10: {}\n", "\0".repeat(10)));
    let name = "x".repeat(1025);
    refused(&format!("put c {name} 1"), "it has 1024 bytes at most");
    let deep = vec!["a"; 33].join("/");
    refused(&format!("put c {deep} 1"), "slashes at most");
    assert_eq!(fs::read_dir(root.path()).expect("it").count(), 1);
}

#[test]
fn many_containers_are_the_sub_directories_of_one_directory() {
    let root = directory();
    let run = |line: &str| probe(root.path(), "*=DIR:rw", line);
    let done = run("exists new ; create new ; put new x 1");
    assert_eq!(printed(&done), "false\n");
    assert_eq!(fs::read(root.path().join("new/x")).expect("it"), b"1");
    printed(&run("remove new"));
    assert!(!root.path().join("new").exists());
    let done = run("create ..");
    assert!(done.stdout.contains("is not a container name"), "{done:#?}");
}

#[test]
fn unfinished_files_of_a_killed_process_are_removed_once_the_container_is_used() {
    let root = directory();
    let left = root.path().join("a/.netwasm-unfinished-1-1");
    fs::create_dir(root.path().join("a")).expect("made");
    fs::write(&left, "half").expect("written");
    // The first may end before they are.
    eventually("they are removed", || {
        let done = probe(root.path(), "c=DIR:rw", "has c one");
        assert_eq!(printed(&done), "false\n");
        (!left.exists()).then_some(())
    });
}
