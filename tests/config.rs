//! Configuration files: several services in a process, `netwasm check`, and
//! `--print-config`.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::{Run, UdpPeer, cert, directory, guest, text, write};

/// Writes a configuration file.
pub(crate) fn configured(content: &str) -> (TempDir, PathBuf) {
    let scratch = directory();
    let file = write(scratch.path(), "netwasm.toml", content);
    (scratch, file)
}

/// Returns the path of a guest as a string of TOML.
pub(crate) fn component(name: &str) -> String {
    format!("{:?}", text(&guest(name)))
}

#[test]
fn services_of_one_process_have_their_own_components_and_listeners() {
    let (_scratch, file) = configured(&format!(
        "workers = 2\n\
         [services.lines]\ncomponent = {}\ntcp = \"127.0.0.1:0\"\nudp = \"127.0.0.1:0\"\n\
         [services.site]\ncomponent = {}\nhttp = \"127.0.0.1:0\"\n",
        component("echo"),
        component("router")
    ));
    let server = Run::config(&file, 3).start();
    for _ in 0..20 {
        server.serves_echo();
        let response = server.connect_http().fetch("/about");
        response.is(200, "<h1>About</h1>");
    }
    let datagrams = UdpPeer::connect(server.address("udp"));
    assert_eq!(datagrams.ask(b"a datagram"), b"a datagram");
    let log = server.log.clone();
    server.stop();
    // Each has its own counts.
    let ends = log
        .lines()
        .into_iter()
        .filter(|line| line.contains("ended "));
    let ends: Vec<_> = ends.collect();
    let of = |name: &str| {
        let mut found = ends.iter().filter(|line| line.contains(name));
        let line = found.next().unwrap_or_else(|| panic!("{name}: {ends:?}"));
        assert_eq!(found.next(), None, "{ends:?}");
        line.clone()
    };
    let (lines, site) = (of("service=\"lines\""), of("service=\"site\""));
    assert!(
        lines.contains("accepted=20") && !lines.contains("requests"),
        "{lines}"
    );
    assert!(
        site.contains("accepted=20") && site.contains("requests=20"),
        "{site}"
    );
}

#[test]
fn what_one_service_may_do_another_may_not() {
    let peer = Run::guest("echo").tcp().start();
    let port = peer.address("tcp").port();
    let proxy = format!(
        "component = {}\ntcp = \"127.0.0.1:0\"\nargs = \"127.0.0.1:{port}\"\n",
        component("proxy")
    );
    let (_scratch, file) = configured(&format!(
        "[services.may]\n{proxy}allow-connect = \"127.0.0.1:{port}\"\n[services.not]\n{proxy}"
    ));
    let server = Run::config(&file, 2).start();
    let addresses: Vec<_> = server
        .listening
        .iter()
        .map(|url| {
            url.strip_prefix("tcp://")
                .expect("TCP")
                .parse()
                .expect("an address")
        })
        .collect();
    let [may, not] = addresses[..] else {
        panic!("{addresses:?}")
    };
    let mut allowed = crate::harness::Peer::connect(may);
    allowed.echoes(b"through");
    let mut denied = crate::harness::Peer::connect(not);
    denied.lost();
    let line = server.log.wait_for(&["--allow-connect", "guest=not"]);
    assert!(!line.contains("guest=may"), "{line}");
    drop(allowed);
    server.stop();
    peer.stop();
}

#[test]
fn one_service_that_traps_leaves_the_others_alone() {
    let (_scratch, file) = configured(&format!(
        "[services.bad]\ncomponent = {}\nhttp = \"127.0.0.1:0\"\n\
         [services.good]\ncomponent = {}\ntcp = \"127.0.0.1:0\"\n",
        component("probe"),
        component("echo")
    ));
    let server = Run::config(&file, 2).start();
    let mut before = server.connect();
    before.echoes(b"before");
    for _ in 0..5 {
        server.connect_http().fetch("/trap");
    }
    before.echoes(b"after");
    drop(before);
    server.serves_echo();
    server.stop();
}

#[test]
fn a_file_that_is_wrong_is_told_with_all_its_mistakes() {
    let (_scratch, file) = configured("component = \"echo\"\ntcp = 1\nworker = 2\nudp = true\n");
    let shown = file.display();
    let run = Run::command(&["run", "--config", text(&file)]).output();
    let mistakes = [
        format!("{shown}:3:1: there is no key 'worker': did you mean 'workers'?"),
        format!("{shown}:4:7: 'udp' is a string or a list of strings"),
    ];
    run.refused(2, &mistakes.each_ref().map(String::as_str));
    let check = Run::command(&["check", text(&file)]).output();
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(
        mistakes.iter().all(|it| check.stdout.contains(it)),
        "{check:?}"
    );
}

#[test]
fn check_reads_the_files_that_a_file_names() {
    let (scratch, file) = configured("");
    let check = || Run::command(&["check", text(&file)]).output();
    let bad = write(scratch.path(), "bad.wasm", "no component");
    fs::write(
        &file,
        format!(
            "[services.a]\ncomponent = \"echo\"\ntls = 1\ncert = {:?}\nkey = \"/nonexistent/k\"\n\
             [services.b]\ncomponent = {:?}\ntcp = 2\ndir = \"/nonexistent/d::/\"\n\
             [services.c]\ncomponent = \"router\"\ntcp = 3\n",
            text(&cert("cert.pem")),
            text(&bad)
        ),
    )
    .expect("a file");
    let found = check();
    assert_eq!(found.code, Some(1), "{found:?}");
    let shown = file.display();
    for line in [
        format!("{shown}:4:1: "),
        format!("{shown}:7:1: {}", bad.display()),
        format!("{shown}:9:1: "),
        format!("{shown}:11:1: router: "),
    ] {
        let has = found.stdout.lines().any(|it| it.starts_with(&line));
        assert!(has, "no {line} in {found:#?}");
    }
    assert_eq!(found.stdout.lines().count(), 4, "{found:#?}");
    fs::write(&file, "component = \"echo\"\ntcp = 1\n").expect("a file");
    let found = check();
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(
        found.stdout.ends_with(": 1 service, and nothing wrong\n"),
        "{found:?}"
    );
}

#[test]
fn check_says_all_at_once_whatever_kind_of_mistake_there_is() {
    let (scratch, file) = configured("");
    let project = scratch.path().join("project");
    fs::create_dir(&project).expect("a directory");
    let content = format!(
        "[services.key]\ncomponent = \"echo\"\ntpc = 1\n\
         [services.value]\ncomponent = \"echo\"\ntcp = 1\nmax-body = \"much\"\n\
         [services.project]\ncomponent = {:?}\ntcp = 2\n\
         [services.log]\ncomponent = \"router\"\nhttp = 3\naccess-log = \"/none/log\"\n\
         [services.good]\ncomponent = \"router\"\nhttp = 4\naccess-log = {:?}\n",
        text(&project),
        text(&scratch.path().join("log"))
    );
    fs::write(&file, content).expect("a file");
    let found = Run::command(&["check", text(&file)]).output();
    assert_eq!(found.code, Some(1), "{found:?}");
    let shown = file.display();
    let lines: Vec<_> = found.stdout.lines().collect();
    for (line, begin) in lines.iter().zip([
        ":3:1: there is no key 'tpc'",
        ":7:12: 'max-body': write a number of bytes",
        ":9:1: ",
        ":14:1: cannot write /none/log: ",
    ]) {
        let begin = format!("{shown}{begin}");
        assert!(line.starts_with(&begin), "no {begin} in {found:#?}");
    }
    assert_eq!(lines.len(), 4, "{found:#?}");
    assert!(!scratch.path().join("log").exists());
}

#[test]
fn what_a_command_line_means_runs_as_a_file() {
    let printed = Run::guest("echo")
        .args([
            "--tcp",
            "127.0.0.1:0",
            "--max-body",
            "2MiB",
            "--print-config",
        ])
        .output();
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let (_scratch, file) = configured(&printed.stdout);
    let server = Run::config(&file, 1).start();
    server.serves_echo();
    server.stop();
    let schema = Run::command(&["check", "--schema"]).output();
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).expect("it is JSON");
    assert!(
        schema
            .pointer("/$defs/service/properties/max-body")
            .is_some()
    );
}
