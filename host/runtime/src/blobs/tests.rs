use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::*;

fn containers(root: &Path, form: &str) -> Containers {
    let given = form.replace("DIR", root.to_str().expect("text"));
    let given: BlobContainer = given.parse().expect("a container");
    Containers::open(&[given]).expect("a directory")
}

fn put(container: &Container, name: &str, content: &str) -> Result<(), Failure> {
    container.write(name, &mut |file| file.write_all(content.as_bytes()))
}

fn content(container: &Container, name: &str) -> Result<String, String> {
    let range = container
        .read(name, 0, u64::MAX)
        .map_err(|it| format!("{it:?}"))?;
    let bytes = range.read_at(0, 1 << 20).expect("it is read");
    Ok(String::from_utf8(bytes).expect("text"))
}

fn names(container: &Container) -> Vec<String> {
    let going = Going::default();
    let mut listing = container.list(&going).expect("a listing");
    let mut names = Vec::new();
    while let Some(name) = listing.next_name(&going).expect("it is read") {
        names.push(name);
    }
    assert!(listing.is_over());
    names.sort();
    names
}

#[test]
fn an_object_that_is_cut_short_while_it_is_read_is_no_whole_one() {
    let root = tempfile::tempdir().expect("a directory");
    let container = containers(root.path(), "c=DIR:rw").get("c").expect("it");
    put(&container, "x", "0123456789").expect("written");
    let range = container.read("x", 2, u64::MAX).expect("an object");
    assert_eq!(range.read_at(0, 4).expect("read"), b"2345");
    // By another program: what a guest writes takes an object's place.
    let file = File::options().write(true).open(root.path().join("x"));
    file.expect("a file").set_len(8).expect("a length");
    assert_eq!(range.read_at(4, 2).expect("read"), b"67");
    let error = range.read_at(4, 100).expect_err("it is not whole");
    assert!(error.to_string().contains("cut short"), "{error}");
    assert_eq!(range.read_at(8, 100).expect("its end"), b"");
}

#[test]
fn a_file_without_a_name_is_had_where_the_file_system_has_none() {
    let root = tempfile::tempdir().expect("a directory");
    let container = containers(root.path(), "c=DIR:rw").get("c").expect("it");
    let mut file = object::unlinked_file(&container.directory).expect("a file");
    assert_eq!(fs::read_dir(root.path()).expect("it").count(), 0);
    file.write_all(b"0123456789").expect("written");
    let mut content = String::new();
    file.rewind().expect("its begin");
    file.read_to_string(&mut content).expect("read");
    assert_eq!(content, "0123456789");
}

#[test]
fn a_write_that_fails_leaves_no_directories() {
    let root = tempfile::tempdir().expect("a directory");
    let container = containers(root.path(), "c=DIR:rw").get("c").expect("it");
    put(&container, "a/x", "1").expect("written");
    let mut full = |_: &mut File| -> io::Result<()> { Err(io::ErrorKind::StorageFull.into()) };
    let written = container.write("a/b/c/y", &mut full);
    written.expect_err("no room for it");
    // The system takes no name of 300 bytes.
    let long = format!("d/e/{}/y", "x".repeat(300));
    put(&container, &long, "1").expect_err("too long");
    assert_eq!(names(&container), ["a/x"]);
    let left = |path: &str| fs::read_dir(root.path().join(path)).expect("it").count();
    assert_eq!((left(""), left("a")), (1, 1));
}

#[test]
fn an_object_that_is_moved_to_itself_by_another_name_stays() {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir(root.path().join("sub")).expect("a directory");
    let opened = |form: &str| containers(root.path(), form).get("c").expect("it");
    let (one, other, within) = (
        opened("c=DIR:rw"),
        // It is compared by its name first.
        Container {
            name: "d".into(),
            ..opened("c=DIR:rw")
        },
        Container {
            name: "e".into(),
            ..opened("c=DIR/sub:rw")
        },
    );
    let going = Going::default();
    for (from, name, to, new_name) in [
        (&one, "x", &other, "x"),
        (&one, "sub/x", &within, "x"),
        (&within, "x", &one, "sub/x"),
    ] {
        put(from, name, "content").expect("written");
        to.move_from(new_name, from, name, &going).expect("moved");
        assert_eq!(content(to, new_name).as_deref(), Ok("content"), "{name}");
    }
    // Two names of one file are two objects.
    fs::hard_link(root.path().join("x"), root.path().join("y")).expect("a link");
    other.move_from("y", &one, "x", &going).expect("moved");
    assert!(content(&one, "x").is_err());
    assert_eq!(content(&one, "y").as_deref(), Ok("content"));
}

#[test]
fn objects_are_files_and_their_names_paths() {
    let root = tempfile::tempdir().expect("a directory");
    let container = containers(root.path(), "c=DIR:rw").get("c").expect("it");
    put(&container, "one", "1").expect("written");
    put(&container, "a/b/two", "0123456789").expect("written");
    assert_eq!(
        fs::read(root.path().join("a/b/two")).expect("a file"),
        b"0123456789"
    );
    assert_eq!(names(&container), ["a/b/two", "one"]);
    let part = container.read("a/b/two", 2, 4).expect("a part");
    assert_eq!(
        (part.length, part.read_at(1, 10).expect("it")),
        (3, b"34".to_vec())
    );
    assert_eq!(container.read("one", 5, 9).expect("a part").length, 0);
    // An open object stays.
    put(&container, "a/b/two", "new").expect("written");
    assert_eq!(part.read_at(0, 10).expect("it"), b"234");
    assert_eq!(container.facts_of("a/b/two").expect("it").size, 3);

    container
        .copy_from("three", &container, "a/b/two", &Going::default())
        .expect("copied");
    container
        .move_from("a/four", &container, "a/b/two", &Going::default())
        .expect("moved");
    container
        .move_from("a/four", &container, "a/four", &Going::default())
        .expect("the same");
    assert_eq!(names(&container), ["a/four", "one", "three"]);
    assert!(
        !root.path().join("a/b").exists(),
        "an empty directory is no object"
    );
    container.delete("a/four").expect("deleted");
    container.delete("a/four").expect("no error");
    assert!(!root.path().join("a").exists());
    container.clear(&Going::default()).expect("cleared");
    assert_eq!(fs::read_dir(root.path()).expect("it").count(), 0);
}

#[test]
fn no_name_and_no_link_leads_out_of_the_directory() {
    let root = tempfile::tempdir().expect("a directory");
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), "secret").expect("written");
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, root.path().join(name));
    link(outside.path(), "out").expect("a link");
    link(&outside.path().join("secret"), "file").expect("a link");
    let container = containers(root.path(), "c=DIR:rw").get("c").expect("it");
    for name in [
        "",
        ".",
        "..",
        "../secret",
        "/etc/passwd",
        "a//b",
        "a/../../b",
        "a/",
        "a\0b",
        ".netwasm-unfinished-1-1",
        "a/.netwasm-unfinished-",
    ] {
        assert!(content(&container, name).is_err(), "{name:?} is read");
        assert!(put(&container, name, "x").is_err(), "{name:?} is written");
        assert!(container.delete(name).is_err(), "{name:?} is deleted");
    }
    for name in ["out/secret", "file"] {
        assert!(content(&container, name).is_err(), "{name} is read");
        assert!(!container.has(name).expect("a name"), "{name}");
    }
    assert!(put(&container, "out/new", "x").is_err());
    container.delete("out/secret").expect("there is none");
    assert_eq!(names(&container), Vec::<String>::new());
    // A link is replaced, and not followed.
    put(&container, "file", "own").expect("written");
    assert_eq!(content(&container, "file").expect("it"), "own");
    let kept = fs::read_to_string(outside.path().join("secret"));
    assert_eq!(kept.expect("it"), "secret");
    assert_eq!(fs::read_dir(outside.path()).expect("it").count(), 1);
}

#[test]
fn a_write_that_fails_leaves_the_object_as_it_was() {
    let root = tempfile::tempdir().expect("a directory");
    let container = containers(root.path(), "c=DIR:rw").get("c").expect("it");
    put(&container, "one", "old").expect("written");
    let failed = container.write("one", &mut |file| {
        file.write_all(b"half")?;
        Err(io::Error::other("the rest is lost"))
    });
    let Err(Failure::Told(told)) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(told, "cannot write 'one': the rest is lost");
    assert_eq!(content(&container, "one").expect("it"), "old");
    assert_eq!(fs::read_dir(root.path()).expect("it").count(), 1);
}

#[test]
fn what_is_not_given_is_not_allowed() {
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("one"), "1").expect("written");
    let reading = containers(root.path(), "c=DIR");
    let container = reading.get("c").expect("it");
    assert_eq!(content(&container, "one").expect("it"), "1");
    assert!(matches!(
        put(&container, "two", "2"),
        Err(Failure::ReadOnly(_))
    ));
    assert!(matches!(container.delete("one"), Err(Failure::ReadOnly(_))));
    let cleared = container.clear(&Going::default());
    assert!(matches!(cleared, Err(Failure::ReadOnly(_))));
    assert!(matches!(reading.get("d"), Err(Failure::NotAllowed(_))));
    assert!(matches!(reading.create("d"), Err(Failure::NotAllowed(_))));
    let deleted = reading.delete("c", &Going::default());
    assert!(matches!(deleted, Err(Failure::Told(_))));

    let many = containers(root.path(), "*=DIR:rw");
    assert!(!many.exists("d").expect("allowed"));
    put(&many.create("d").expect("made"), "x/y", "1").expect("written");
    assert!(many.exists("d").expect("allowed"));
    assert!(many.get("..").is_err() && many.create("a/b").is_err());
    many.delete("d", &Going::default()).expect("deleted");
    assert!(!root.path().join("d").exists());
    assert_eq!(fs::read(root.path().join("one")).expect("it"), b"1");
}

#[test]
fn a_name_of_too_many_parts_is_refused_as_no_listing_would_have_it() {
    let root = tempfile::tempdir().expect("a directory");
    let container = containers(root.path(), "c=DIR:rw").get("c").expect("it");
    let most = vec!["a"; MAX_SEGMENTS].join("/");
    put(&container, &most, "1").expect("written");
    assert_eq!(names(&container), [&*most]);
    let more = format!("{most}/b");
    container.delete(&most).expect("deleted");
    let Err(Failure::Told(told)) = put(&container, &more, "1") else {
        panic!("it is written");
    };
    assert!(told.contains("32 parts"), "{told}");
    // One that is there by other means can be read and deleted.
    fs::create_dir_all(root.path().join(&most)).expect("made");
    fs::write(root.path().join(&more), "2").expect("written");
    assert_eq!(content(&container, &more).expect("it"), "2");
    container.delete(&more).expect("deleted");
    assert_eq!(fs::read_dir(root.path()).expect("it").count(), 0);
}

#[test]
fn work_that_nobody_wants_ends_and_leaves_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let container = containers(root.path(), "c=DIR:rw").get("c").expect("it");
    put(&container, "one", "1").expect("written");
    let going = Going::default();
    let wanted = going.wanted();
    container
        .copy_from("two", &container, "one", &going)
        .expect("copied");
    let mut listing = container.list(&going).expect("a listing");
    drop(wanted);
    let name = listing.next_name(&going).expect("no failure");
    assert!(name.is_some(), "it was found before");
    assert!(listing.is_over());
    assert!(container.list(&going).expect("a listing").is_over());
    let copied = container.copy_from("three", &container, "one", &going);
    assert!(matches!(copied, Err(Failure::Told(_))), "{copied:?}");
    let moved = container.move_from("four", &container, "one", &going);
    assert!(matches!(moved, Err(Failure::Told(_))), "{moved:?}");
    assert!(container.clear(&going).is_err());
    assert_eq!(names(&container), ["one", "two"]);
    assert_eq!(fs::read_dir(root.path()).expect("it").count(), 2);
}

#[test]
fn listings_that_have_too_many_directories_open_are_told_so() {
    let root = tempfile::tempdir().expect("a directory");
    let container = Container {
        places: ListingPlaces::new(2),
        ..containers(root.path(), "c=DIR:rw").get("c").expect("it")
    };
    let going = Going::default();
    put(&container, "x", "1").expect("written");
    let one = container.list(&going).expect("a listing");
    let mut other = container.list(&going).expect("a listing");
    let Err(Failure::Told(told)) = container.list(&going) else {
        panic!("it has a place")
    };
    assert!(told.starts_with("cannot list 'c': "), "{told}");
    assert!(told.contains("ulimit -Hn"), "{told}");
    drop(one);
    assert!(container.list(&going).is_ok());
    // One that is read to its end has nothing open.
    assert!(other.next_name(&going).expect("a name").is_some());
    assert_eq!(container.places.left(), 2);

    // An object that is too deep is not passed over in silence.
    put(&container, "a/b/z", "3").expect("written");
    // Either may be found first.
    if let Ok(mut listing) = container.list(&going) {
        let name = listing.next_name(&going).expect("a name");
        assert_eq!(name.as_deref(), Some("x"));
        for _ in 0..2 {
            assert!(!listing.is_over());
            let failed = listing.next_name(&going);
            assert!(matches!(failed, Err(Failure::Told(_))), "{failed:?}");
        }
    }
    assert_eq!(container.places.left(), 2);
    assert!(container.clear(&going).is_err());
}

#[test]
fn an_instance_that_keeps_listings_leaves_places_for_others() {
    let root = tempfile::tempdir().expect("a directory");
    let container = Container {
        places: ListingPlaces::new(3),
        ..containers(root.path(), "c=DIR:rw").get("c").expect("it")
    };
    put(&container, "x", "1").expect("written");
    let going = Going::default();
    let greedy = container.clone().with_share(&ListingShare::new(2));
    let kept = [greedy.list(&going), greedy.list(&going)];
    assert!(kept.iter().all(Result::is_ok));
    let Err(Failure::Told(told)) = greedy.list(&going) else {
        panic!("it has a place")
    };
    assert!(told.contains("the listings of this instance"), "{told}");
    let other = container.clone().with_share(&ListingShare::new(2));
    assert!(other.list(&going).is_ok());
    other.clear(&going).expect("cleared");
    drop(kept);
    assert_eq!(container.places.left(), 3);
}

#[test]
fn files_that_a_killed_process_left_are_removed_and_those_being_written_stay() {
    let root = tempfile::tempdir().expect("a directory");
    let container = containers(root.path(), "c=DIR:rw").named["c"].clone();
    put(&container, "kept/one", "1").expect("written");
    fs::create_dir_all(root.path().join("a/b")).expect("made");
    let left = |name: &str| File::create(root.path().join(name)).expect("a file");
    left(".netwasm-unfinished-1-1");
    left("a/b/.netwasm-unfinished-2-2");
    // Another process has it: a lock belongs to one who opened the file.
    let other = left("kept/.netwasm-unfinished-3-3");
    assert!(cleaning::lock(&other).expect("a lock"));
    assert_eq!(cleaning::clean(&container, false).expect("cleaned"), 2);
    assert!(!root.path().join("a").exists());
    assert!(root.path().join("kept/.netwasm-unfinished-3-3").exists());
    drop(other);
    assert_eq!(cleaning::clean(&container, false).expect("cleaned"), 1);
    assert_eq!(content(&container, "kept/one").expect("it"), "1");

    // One that is written at this time, up to where it has its place.
    let written = container.write("new", &mut |file| {
        assert_eq!(cleaning::clean(&container, false).expect("cleaned"), 0);
        file.write_all(b"whole")
    });
    written.expect("written");
    assert_eq!(content(&container, "new").expect("it"), "whole");
    assert_eq!(cleaning::clean(&container, false).expect("cleaned"), 0);
}

#[test]
fn a_container_stays_when_its_unfinished_files_are_removed() {
    let root = tempfile::tempdir().expect("a directory");
    let many = containers(root.path(), "*=DIR:rw").any.expect("containers");
    fs::create_dir_all(root.path().join("c/a/b")).expect("made");
    for name in ["c/.netwasm-unfinished-1-1", "c/a/b/.netwasm-unfinished-1-2"] {
        fs::write(root.path().join(name), "half").expect("written");
    }
    assert_eq!(cleaning::clean(&many, true).expect("cleaned"), 2);
    let container = root.path().join("c");
    assert_eq!(fs::read_dir(container).expect("it").count(), 0);
}
