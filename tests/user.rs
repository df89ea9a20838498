//! Runs that go on as another user: `--user`, `--group`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tempfile::TempDir;

use crate::harness::{
    Client, Run, Server, cert, directory, guest, refused, reload, skipped, text, unix_address,
    write,
};

/// Number of the user `nobody`, and of its group, where a test is run by root.
fn nobody() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root goes on as another user");
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let line = users.lines().find(|line| line.starts_with("nobody:"));
    let mut fields = line.expect("nobody").split(':').skip(2);
    let mut number = || fields.next()?.parse().ok();
    Some((number()?, number()?))
}

/// Returns a directory that all may look into, with a copy of a guest.
fn open_directory(name: &str) -> TempDir {
    let scratch = directory();
    set_mode(scratch.path(), 0o755);
    fs::copy(guest(name), scratch.path().join("guest.wasm")).expect("a copy");
    set_mode(&scratch.path().join("guest.wasm"), 0o644);
    scratch
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// Checks the users, groups and capabilities of all threads.
fn runs_as(server: &Server, user: u32, group: u32) {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("tasks");
    let mut count = 0;
    for task in tasks {
        let status = task.expect("a task").path().join("status");
        // Threads that compile end.
        let Ok(status) = fs::read_to_string(status) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let words = line.expect("the field").split_whitespace();
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(field("Uid:"), [(); 4].map(|()| user.to_string()));
        assert_eq!(field("Gid:"), [(); 4].map(|()| group.to_string()));
        let groups = field("Groups:");
        assert!(!groups.contains(&"0".to_owned()), "{groups:?}");
        assert!(groups.contains(&group.to_string()), "{groups:?}");
        for set in ["CapPrm:", "CapEff:"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
        count += 1;
    }
    assert!(count > 2, "{count} threads");
}

#[test]
fn what_only_root_may_open_is_opened_before_and_cannot_be_afterwards() {
    let Some((user, group)) = nobody() else {
        return;
    };
    let scratch = open_directory("router");
    let (file, key) = (
        scratch.path().join("netwasm.toml"),
        write(
            scratch.path(),
            "key.pem",
            fs::read(cert("key.pem")).expect("a key"),
        ),
    );
    set_mode(&key, 0o600);
    let chain = write(
        scratch.path(),
        "cert.pem",
        fs::read(cert("cert.pem")).expect("a certificate"),
    );
    // Only root may look in here.
    let closed = scratch.path().join("closed");
    fs::create_dir(&closed).expect("a directory");
    set_mode(&closed, 0o700);
    let log = closed.join("access.log");
    let content = format!(
        "user = \"nobody\"\nworkers = 2\ncomponent = {:?}\nhttps = \"127.0.0.1:0\"\n\
         http = \"unix:{}\"\ncert = {:?}\nkey = {:?}\naccess-log = {:?}\n",
        text(&scratch.path().join("guest.wasm")),
        text(&closed.join("socket")),
        text(&chain),
        text(&key),
        text(&log),
    );
    fs::write(&file, &content).expect("a file");
    let server = Run::config(&file, 2).start();
    let serves = || {
        let mut peer = Client::of("localhost").connect(server.address("https"));
        peer.fetch("/about").is(200, "<h1>About</h1>");
    };
    runs_as(&server, user, group);
    serves();
    // The key is root's. Everything goes on as it was.
    refused(
        &server,
        &[
            "cannot read",
            "key.pem as nobody (--user)",
            "Permission denied",
        ],
    );
    serves();
    // Nor may it look for the log, which goes on.
    server.log.wait_for(&[
        "the access log cannot be reopened: lines go on to the old file",
        "access.log as nobody (--user)",
    ]);
    set_mode(&key, 0o644);
    reload(&server);
    serves();
    let least = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if least.is_ok_and(|least| least.trim() == "1024") {
        let more = content.replace("127.0.0.1:0\"\nhttp", "127.0.0.2:89\"\nhttp");
        fs::write(&file, more).expect("a file");
        refused(
            &server,
            &["CAP_NET_BIND_SERVICE", "goes on as nobody (user)"],
        );
        fs::write(&file, &content).expect("a file");
    }
    // Another user needs a restart.
    fs::write(&file, content.replace("nobody", "root")).expect("a file");
    reload(&server);
    server
        .log
        .wait_for(&["another --user or --group needs a restart"]);
    runs_as(&server, user, group);
    serves();
    let end = server.log.clone();
    server.stop();
    assert_eq!(end.count("panicked"), 0);
    let lines = fs::read_to_string(&log).expect("the log");
    assert_eq!(lines.lines().count(), 4, "{lines}");
    assert_eq!(fs::metadata(&log).expect("the log").uid(), 0);
}

#[test]
fn a_guest_acts_as_the_user() {
    let Some((user, _)) = nobody() else {
        return;
    };
    let scratch = open_directory("probe");
    let data = scratch.path().join("data");
    fs::create_dir(&data).expect("a directory");
    set_mode(&data, 0o777);
    let server = Run::component(&scratch.path().join("guest.wasm"))
        .tcp()
        .args(["--user", "nobody", "--group", "12345"])
        .args(["--dir", &format!("{}::/data:rw", text(&data))])
        .start();
    runs_as(&server, user, 12345);
    assert_eq!(server.connect().ask("write-file /data/new x"), "ok");
    let made = fs::metadata(data.join("new")).expect("the file");
    assert_eq!((made.uid(), made.gid()), (user, 12345));
    server.stop();
}

#[test]
fn a_run_that_goes_on_as_a_user_is_reloaded_and_taken_over() {
    let Some((user, group)) = nobody() else {
        return;
    };
    let scratch = open_directory("echo");
    let admin = unix_address(&scratch.path().join("admin"));
    let file = write(
        scratch.path(),
        "netwasm.toml",
        format!(
            "user = \"nobody\"\nadmin = {admin:?}\ncomponent = {:?}\ntcp = \"127.0.0.1:0\"\n",
            text(&scratch.path().join("guest.wasm"))
        ),
    );
    let mut server = Run::config(&file, 1).start();
    let listening = server.listening.clone();
    let reloaded = Run::command(&["reload", &admin]).output();
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    let next = Run::config(&file, 1).args(["--takeover"]).start();
    assert_eq!(next.listening, listening);
    assert_eq!(server.wait().code(), Some(0));
    runs_as(&next, user, group);
    next.serves_echo();
    next.stop();
}

#[test]
fn users_that_cannot_be_are_told_at_the_start() {
    let run = |args: &[&str]| Run::guest("echo").tcp().args(args).output();
    run(&["--user", "no-such-name"]).refused(1, &["--user: this machine has no user"]);
    run(&["--user", "root", "--group", "no-such-name"])
        .refused(1, &["--group: this machine has no group"]);
    run(&["--user", "4000000001"]).refused(1, &["give its group, too (--group)"]);
    run(&["--group", "root"]).refused(2, &["--user"]);
    let scratch = directory();
    let file = write(
        scratch.path(),
        "netwasm.toml",
        "component = \"echo\"\ntcp = \"unix:/nowhere\"\nuser = \"no-such-name\"\n\
         unix-group = \"no-such-group\"\n",
    );
    let check = Run::command(&["check", text(&file)]).output();
    for line in [
        ":3:1: user: this machine has no user 'no-such-name'",
        ":4:1: this machine has no group 'no-such-group'",
    ] {
        assert!(check.stdout.contains(line), "{check:?}");
    }
}

#[test]
fn only_root_goes_on_as_another_user() {
    let Some((user, _)) = nobody() else {
        return;
    };
    let run = |name: &str| {
        let run = Run::command(&["run", "echo", "--user", name, "--group", &user.to_string()]);
        run.tcp().user(user)
    };
    run("root")
        .output()
        .refused(1, &["--user root: only root can go on as another user"]);
    // It is that user already.
    let server = run("nobody").args(["--no-cache"]).start();
    server.serves_echo();
    server.stop();
}
