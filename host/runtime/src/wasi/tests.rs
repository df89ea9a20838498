use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use wasmtime::component::{Component, ComponentNamedList, Lift, Lower};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::StreamError;
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{self as fs, HostDescriptor};

use netwasm_base::config::Directory;

use super::filesystem::{may_open, sync};
use super::io::{read, write, write_zeroes};
use super::*;

/// A component that waits for a timer: `sleep: func(nanoseconds: u64)`.
const SLEEPER: &str = r#"(component
    (import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $p (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $p))))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:clocks/monotonic-clock@0.2.6" (instance $clock
        (export "pollable" (type $p (eq $pollable)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
    (core func $subscribe (canon lower (func $clock "subscribe-duration")))
    (core func $block (canon lower (func $poll "[method]pollable.block")))
    (core module $m
        (import "" "subscribe" (func $subscribe (param i64) (result i32)))
        (import "" "block" (func $block (param i32)))
        (func (export "sleep") (param i64)
            (call $block (call $subscribe (local.get 0)))))
    (core instance $i (instantiate $m (with "" (instance
        (export "subscribe" (func $subscribe))
        (export "block" (func $block))))))
    (func (export "sleep") (param "nanoseconds" u64) (canon lift (core func $i "sleep"))))"#;

/// A component that exits with a failure: `leave: func()`.
const LEAVER: &str = r#"(component
    (import "wasi:cli/exit@0.2.0" (instance $cli
        (export "exit" (func (param "status" (result))))))
    (core func $exit (canon lower (func $cli "exit")))
    (core module $m
        (import "" "exit" (func $exit (param i32)))
        (func (export "leave") (call $exit (i32.const 1))))
    (core instance $i (instantiate $m (with "" (instance (export "exit" (func $exit))))))
    (func (export "leave") (canon lift (core func $i "leave"))))"#;

/// A component that takes handles to standard output and keeps them:
/// `hoard: func(handles: u32)`.
const HOARDER: &str = r#"(component
    (import "wasi:io/streams@0.2.0" (instance $io
        (export "output-stream" (type (sub resource)))))
    (alias export $io "output-stream" (type $output))
    (import "wasi:cli/stdout@0.2.0" (instance $cli
        (export "output-stream" (type $o (eq $output)))
        (export "get-stdout" (func (result (own $o))))))
    (core func $get (canon lower (func $cli "get-stdout")))
    (core module $m
        (import "" "get" (func $get (result i32)))
        (func (export "hoard") (param i32)
            (loop $again
                (drop (call $get))
                (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                (br_if $again (local.get 0)))))
    (core instance $i (instantiate $m (with "" (instance (export "get" (func $get))))))
    (func (export "hoard") (param "handles" u32) (canon lift (core func $i "hoard"))))"#;

struct State {
    wasi: Wasi,
    time_left: Duration,
    // Not `Send`, like a worker's store data.
    _worker: Rc<()>,
}

impl WasiHost for State {
    fn wasi(&mut self) -> &mut Wasi {
        &mut self.wasi
    }

    fn max_memory(&self) -> usize {
        usize::MAX
    }

    fn time_left(&self) -> Duration {
        self.time_left
    }

    fn waited(&mut self, time: Duration) {
        self.time_left = self.time_left.saturating_sub(time);
    }
}

fn guest(dirs: Vec<Directory>) -> GuestConfig {
    GuestConfig {
        name: "test".to_owned(),
        dirs,
        ..GuestConfig::default()
    }
}

fn limits() -> Limits {
    Limits {
        max_handles: 8,
        ..Limits::default()
    }
}

fn wasi(dirs: Vec<Directory>) -> Wasi {
    let setup = WasiSetup::new(&guest(dirs), &limits(), false, GuestLog::new("test"));
    Wasi::new(setup.map_err(|e| e.to_string()).expect("directories"))
}

fn directory(host: &Path, writable: bool) -> Directory {
    Directory {
        host: host.to_owned(),
        guest: "/".to_owned(),
        writable,
    }
}

/// Calls a component's function from a task of a current-thread runtime, as a
/// worker does.
fn call<P>(component: &str, function: &str, parameters: P) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lower + Lift + 'static,
{
    let mut config = Config::new();
    config.concurrency_support(false);
    let engine = Engine::new(&config)?;
    let mut linker = Linker::<State>::new(&engine);
    add_to_linker(&mut linker)?;
    let component = Component::new(&engine, component)?;
    let mut store = Store::new(
        &engine,
        State {
            wasi: wasi(Vec::new()),
            time_left: limits().event_timeout,
            _worker: Rc::new(()),
        },
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let instance = linker.instantiate(&mut store, &component)?;
        let function = instance.get_typed_func::<P, ()>(&mut store, function)?;
        function.call(&mut store, parameters)
    })
}

/// Opens a path below the guest's first directory.
fn open(
    files: &mut WasiFilesystemCtxView<'_>,
    path: &str,
    flags: fs::DescriptorFlags,
) -> Result<Resource<Descriptor>, fs::ErrorCode> {
    let directories = files.get_directories().expect("directories");
    let (directory, _) = directories.into_iter().next().expect("a directory");
    let follow = fs::PathFlags::SYMLINK_FOLLOW;
    if !may_open(files, &directory, follow, path).expect("no trap") {
        return Err(fs::ErrorCode::Access);
    }
    let call = files.open_at(
        directory,
        follow,
        path.to_owned(),
        fs::OpenFlags::empty(),
        flags,
    );
    let opened = at_once(call).expect("at once");
    opened.map_err(|e| e.downcast().expect("no trap"))
}

fn files(wasi: &mut Wasi) -> WasiFilesystemCtxView<'_> {
    let WasiCtxView { ctx, table } = wasi.view();
    WasiFilesystemCtxView {
        ctx: ctx.filesystem(),
        table,
    }
}

#[test]
fn waiting_for_a_timer_traps_with_advice() {
    let started = Instant::now();
    let error = call(SLEEPER, "sleep", (3_600_000_000_000_u64,)).expect_err("a trap");
    let cause = error.root_cause().to_string();
    assert!(cause.contains("a handler may not wait"), "{cause}");
    assert!(cause.contains("netwasm:net/timers"), "{cause}");
    assert!(started.elapsed() < Duration::from_secs(600));
    call(SLEEPER, "sleep", (u64::MAX,)).expect_err("a trap");
}

#[test]
fn a_timer_that_is_due_is_no_wait() {
    call(SLEEPER, "sleep", (0_u64,)).expect("no trap");
}

#[test]
fn exit_ends_the_call_and_not_the_process() {
    let error = call(LEAVER, "leave", ()).expect_err("a trap");
    assert_eq!(
        reason(&error).as_deref(),
        Some("the guest exited with code 1")
    );
}

#[test]
fn handles_are_limited() {
    call(HOARDER, "hoard", (8_u32,)).expect("within the limit");
    let error = call(HOARDER, "hoard", (9_u32,)).expect_err("a trap");
    let reason = reason(&error).expect("a reason");
    assert!(reason.contains("--max-handles"), "{reason}");
}

#[test]
fn a_directory_that_cannot_be_opened_is_named() {
    let missing = directory(Path::new("/nonexistent/public"), false);
    let log = GuestLog::new("test");
    let Err(error) = WasiSetup::new(&guest(vec![missing]), &limits(), false, log) else {
        panic!("a directory that does not exist was opened");
    };
    let error = error.to_string();
    assert!(error.contains("/nonexistent/public"), "{error}");
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn a_file_is_read_to_its_end_without_waiting() {
    let temporary = tempfile::tempdir().expect("a directory");
    std::fs::write(temporary.path().join("file"), "content").expect("a file");
    let mut wasi = wasi(vec![directory(temporary.path(), false)]);
    let mut files = files(&mut wasi);
    let file = open(&mut files, "file", fs::DescriptorFlags::READ).expect("open");
    let stream = files.read_via_stream(file, 2).expect("a stream");
    assert!(read(files.table, &stream, 0).expect("nothing").is_empty());
    let bytes = read(files.table, &stream, 3).expect("bytes");
    assert_eq!(bytes, b"nte");
    let bytes = read(files.table, &stream, u64::MAX).expect("bytes");
    assert_eq!(bytes, b"nt");
    let end = read(files.table, &stream, 1);
    assert!(matches!(end, Err(StreamError::Closed)));
}

#[test]
fn a_file_is_written_where_the_directory_allows_it() {
    let temporary = tempfile::tempdir().expect("a directory");
    let path = temporary.path().join("file");
    std::fs::write(&path, "....").expect("a file");
    let write_flag = fs::DescriptorFlags::WRITE;

    let mut reader = wasi(vec![directory(temporary.path(), false)]);
    let refused = open(&mut files(&mut reader), "file", write_flag);
    assert_eq!(refused.err(), Some(fs::ErrorCode::NotPermitted));

    let mut writer = wasi(vec![directory(temporary.path(), true)]);
    let mut files = files(&mut writer);
    let file = open(&mut files, "file", write_flag).expect("open");
    let stream = files.write_via_stream(file, 1).expect("a stream");
    write(files.table, &stream, b"ab".to_vec()).expect("written");
    write_zeroes(files.table, &stream, 2).expect("written");
    let too_much = vec![0; MAX_TRANSFER + 1];
    let refused = write(files.table, &stream, too_much);
    assert!(matches!(refused, Err(StreamError::Trap(_))));
    let refused = write_zeroes(files.table, &stream, u64::MAX);
    assert!(matches!(refused, Err(StreamError::Trap(_))));
    assert_eq!(std::fs::read(&path).expect("content"), b".ab\0\0");
}

#[test]
fn nothing_outside_a_directory_is_opened() {
    let temporary = tempfile::tempdir().expect("a directory");
    let inside = temporary.path().join("inside");
    std::fs::create_dir(&inside).expect("a directory");
    std::fs::write(temporary.path().join("secret"), "").expect("a file");
    std::os::unix::fs::symlink("../secret", inside.join("link")).expect("a link");
    let mut wasi = wasi(vec![directory(&inside, false)]);
    for path in ["../secret", "link", "/etc/passwd"] {
        let opened = open(&mut files(&mut wasi), path, fs::DescriptorFlags::READ);
        assert_eq!(opened.err(), Some(fs::ErrorCode::NotPermitted), "{path}");
    }
}

#[test]
fn a_pipe_is_refused_rather_than_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let temporary = tempfile::tempdir().expect("a directory");
    let pipe = temporary.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    std::os::unix::fs::symlink("pipe", temporary.path().join("link")).expect("a link");
    let mut wasi = wasi(vec![directory(temporary.path(), false)]);
    for path in ["pipe", "link"] {
        let opened = open(&mut files(&mut wasi), path, fs::DescriptorFlags::READ);
        assert_eq!(opened.err(), Some(fs::ErrorCode::Access), "{path}");
    }
}

#[test]
fn waits_for_a_disk_count_together() {
    let scratch = tempfile::tempdir().expect("a directory");
    std::fs::write(scratch.path().join("file"), "text").expect("a file");
    let limit = Duration::from_secs(60);
    let mut state = State {
        wasi: wasi(vec![directory(scratch.path(), false)]),
        time_left: limit,
        _worker: Rc::new(()),
    };
    let read = fs::DescriptorFlags::READ;
    let file = open(&mut files(&mut state.wasi), "file", read).expect("open");
    let pause = Duration::from_millis(5);
    // Much longer, since the wait may begin after the work.
    let slow = |_: &std::fs::File| -> std::io::Result<()> {
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    };
    let (synced,) = sync(&mut state, &file, slow).expect("no trap");
    assert!(synced.is_ok());
    assert!(state.time_left <= limit - pause, "{:?}", state.time_left);
    // Nothing is left.
    state.time_left = Duration::ZERO;
    let never = |_: &std::fs::File| -> std::io::Result<()> {
        loop {
            std::thread::park();
        }
    };
    let ended = sync(&mut state, &file, never).expect_err("a trap");
    assert!(ended.to_string().contains("--event-timeout"), "{ended:#}");
}
