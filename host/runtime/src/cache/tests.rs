//! Tests of the cache of compiled code.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn key(component: &[u8]) -> Key {
    Key::of_code(&Engine::default(), &hash(component))
}

fn cache(directory: &Path) -> Cache {
    Cache {
        directory: directory.to_owned(),
        most: MOST_CODE,
    }
}

impl Cache {
    /// Returns the content of a file.
    pub(super) fn content(&self, key: &Key) -> Option<Vec<u8>> {
        self.get(key).map(|kept| kept.read().expect("it is read"))
    }
}

#[test]
fn a_damaged_file_is_not_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(&directory.path().join("code"));
    let key = key(b"a component");
    assert_eq!(cache.content(&key), None);
    cache.put(&key, b"some code");
    assert_eq!(cache.content(&key).as_deref(), Some(&b"some code"[..]));
    let path = cache.path(&key);
    let whole = fs::read(&path).expect("the file");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).expect("written");
        assert_eq!(cache.content(&key), None, "byte {at}");
        fs::write(&path, &whole[..at]).expect("written");
        assert_eq!(cache.content(&key), None, "{at} bytes");
    }
    cache.put(&key, b"some code");
    assert_eq!(cache.content(&key).as_deref(), Some(&b"some code"[..]));
}

#[test]
fn what_is_stored_can_be_used_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let code = directory.path().join("code");
    let stored = cache(&code).put(&key(b"a component"), b"some code");
    let content = stored.expect("it is stored").read().expect("it is read");
    assert_eq!(content, b"some code");
    // There is a file where the directory should be.
    let other = cache(&cache(&code).path(&key(b"a component")));
    assert!(other.put(&key(b"other"), b"some code").is_none());
}

#[test]
fn the_file_of_another_component_is_not_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path());
    let (one, other) = (key(b"one"), key(b"other"));
    cache.put(&one, b"some code");
    fs::rename(cache.path(&one), cache.path(&other)).expect("renamed");
    assert_eq!(cache.content(&other), None);
}

#[test]
fn a_file_that_others_may_write_is_not_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path());
    let key = key(b"a component");
    cache.put(&key, b"some code");
    let others = fs::Permissions::from_mode(0o666);
    fs::set_permissions(cache.path(&key), others).expect("permissions");
    assert_eq!(cache.content(&key), None);
}

#[test]
fn a_file_that_is_in_use_is_replaced_and_not_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path());
    let key = key(b"a component");
    cache.put(&key, b"some code");
    let used = cache.get(&key).expect("a file");
    cache.put(&key, b"other");
    assert_eq!(used.read().expect("it is read"), b"some code");
    assert_eq!(cache.content(&key).as_deref(), Some(&b"other"[..]));
}

#[test]
fn what_was_used_least_recently_goes_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path());
    let write = |name: &str, size: u64, age: u64| {
        let file = File::create(directory.path().join(name)).expect("a file");
        file.set_len(size).expect("a length");
        let used = SystemTime::now() - Duration::from_secs(age);
        file.set_modified(used).expect("a time");
    };
    write("old", MOST_CODE / 2, 200);
    write("recent", MOST_CODE / 2, 100);
    write("abandoned.1.tmp", 1, 7200);
    write("under-way.2.tmp", 1, 60);
    cache.put(&key(b"a component"), b"some code");
    let exists = |name: &str| directory.path().join(name).exists();
    assert!(exists("recent") && exists("under-way.2.tmp"));
    assert!(!exists("old") && !exists("abandoned.1.tmp"));
}

#[test]
fn processes_that_tidy_at_the_same_time_do_not_mind_each_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let content = [0; 100];
    std::thread::scope(|scope| {
        for process in 0..4_u8 {
            let directory = directory.path().to_owned();
            scope.spawn(move || {
                // Each file makes room for itself by removing others.
                let cache = Cache {
                    directory,
                    most: 500,
                };
                for number in 0..100_u8 {
                    let written = cache.write(&key(&[process, number]), &content);
                    written.expect("it is kept");
                }
            });
        }
    });
}

#[test]
fn a_use_is_marked_where_the_last_one_is_long_ago() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path());
    let key = key(b"a component");
    cache.put(&key, b"some code");
    let file = File::options().write(true).open(cache.path(&key));
    let file = file.expect("the file");
    for (age, marked) in [(USE * 2, true), (USE / 2, false)] {
        let then = SystemTime::now() - age;
        file.set_modified(then).expect("a time");
        assert!(cache.get(&key).is_some());
        let used = file.metadata().and_then(|it| it.modified());
        assert_eq!(used.expect("a time") > then, marked, "{age:?}");
    }
}
