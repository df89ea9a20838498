//! Runs that are reloaded when their files change: `run --watch`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::harness::{
    Client, Peer, Run, START, Server, Strace, cert, directory, eventually, guest, install,
    install_as, text, write,
};

/// Waits until the run has reloaded after so many changes of a file. It may have to
/// compile.
#[track_caller]
fn reloaded(server: &Server, name: &str, changes: usize) {
    let change = format!("{name} has changed");
    server
        .log
        .wait(START, &format!("a reload for {name}"), |lines| {
            let told = |line: &&String| line.contains("--watch: ") && line.contains(&change);
            let last = lines.iter().filter(told).nth(changes - 1)?;
            let mut after = lines.iter().skip_while(|line| *line != last);
            after
                .find(|line| line.contains("--watch: reloaded"))
                .map(drop)
        });
}

#[test]
fn a_component_that_is_replaced_answers_new_connections_and_ends_no_old_one() {
    let scratch = directory();
    let place = scratch.path().join("site.wasm");
    install("router", &place);
    let server = Run::component(&place).http().args(["--watch"]).start();
    let mut before = server.connect_http();
    before.fetch("/about").is(200, "<h1>About</h1>");
    install("hello", &place);
    reloaded(&server, "site.wasm", 1);
    eventually("the new component", || {
        let response = server.connect_http().fetch("/about");
        response.text().contains("Hello").then_some(())
    });
    let last = before.fetch("/about").is(200, "<h1>About</h1>");
    assert!(last.closes(), "{last:?}");
    server.stop();
}

#[test]
fn a_component_that_is_written_in_place_is_reloaded_once_it_is_whole() {
    let scratch = directory();
    let place = scratch.path().join("lines.wasm");
    install("echo", &place);
    let server = Run::component(&place).tcp().args(["--watch"]).start();
    let bytes = fs::read(guest("echo")).expect("a guest");
    let mut file = fs::File::create(&place).expect("a file");
    // Another one: a custom section at its end.
    let section = [0, 3, 1, b'v', 7];
    let parts = bytes.chunks(bytes.len() / 20).chain([section.as_slice()]);
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    for part in parts {
        file.write_all(part).expect("it is written");
        longest = longest.max(last.elapsed());
        last = Instant::now();
        thread::sleep(Duration::from_millis(10));
    }
    drop(file);
    reloaded(&server, "lines.wasm", 1);
    let attempts = server.log.count("everything stays as it was");
    // A slow machine may have paused in the middle.
    let paused = longest > Duration::from_millis(50);
    assert!(attempts == 0 || paused, "{attempts} of a part, {longest:?}");
    // A file that is no component changes nothing.
    fs::write(&place, "no component").expect("a file");
    server
        .log
        .wait_for(&["everything stays as it was", "lines.wasm"]);
    server.serves_echo();
    install("echo", &place);
    reloaded(&server, "lines.wasm", 3);
    server.serves_echo();
    server.stop();
}

#[test]
fn a_configuration_and_all_that_it_names_are_watched() {
    let scratch = directory();
    let path = |name: &str| scratch.path().join(name);
    let (file, place, token) = (path("netwasm.toml"), path("lines.wasm"), path("token"));
    for name in ["cert.pem", "key.pem"] {
        fs::copy(cert(name), path(name)).expect("a copy");
    }
    install("echo", &place);
    fs::write(&token, "one").expect("a file");
    let configure = |more: &str| {
        let content = format!(
            "[services.lines]\ncomponent = {:?}\ntcp = \"127.0.0.1:0\"\n\
             tls = \"127.0.0.1:0\"\ncert = {:?}\nkey = {:?}\n\
             env = {{ TOKEN = {{ file = {:?} }} }}\n{more}",
            text(&place),
            text(&path("cert.pem")),
            text(&path("key.pem")),
            text(&token),
        );
        write(scratch.path(), "netwasm.toml", content);
    };
    configure("");
    let server = Run::config(&file, 2).args(["--watch"]).start();

    // One more service, with a component of its own, which is watched then.
    let more = path("more.wasm");
    install("router", &more);
    let socket = path("more.sock");
    configure(&format!(
        "[services.more]\ncomponent = {:?}\nhttp = \"unix:{}\"\n",
        text(&more),
        text(&socket)
    ));
    reloaded(&server, "netwasm.toml", 1);
    Peer::connect_unix(&socket)
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    install("hello", &more);
    reloaded(&server, "more.wasm", 1);
    eventually("the new component", || {
        let response = Peer::connect_unix(&socket).fetch("/about");
        response.text().contains("Hello").then_some(())
    });

    // A mistake leaves everything as it was.
    configure("tpc = 1\n");
    server
        .log
        .wait_for(&["everything stays as it was", "there is no key 'tpc'"]);
    server.serves_echo();
    configure("");
    reloaded(&server, "netwasm.toml", 3);

    let replace = |name: &str, with: &Path| {
        fs::copy(with, path("new")).expect("a copy");
        fs::rename(path("new"), path(name)).expect("it is replaced");
    };
    // Between the two, the key does not belong to the certificate.
    replace("key.pem", &cert("other.key"));
    replace("cert.pem", &cert("other.pem"));
    eventually("the new certificate", || {
        let mut peer = Client::of("other.example")
            .try_connect(server.address("tls"))
            .ok()?;
        let chain = peer.get().conn.peer_certificates().expect("a certificate");
        let expected = CertificateDer::from_pem_file(cert("other.pem")).ok()?;
        (chain.first() == Some(&expected)).then_some(())
    });
    fs::write(&token, "two").expect("a file");
    reloaded(&server, "token", 1);
    install_as("echo", &place, 1);
    reloaded(&server, "lines.wasm", 1);
    server.serves_echo();
    server.stop();
}

/// Puts a version of a ConfigMap in place as the kubelet does: all its files at
/// once, by one link.
fn mount(volume: &Path, version: &str, content: &str) {
    let data = volume.join("..data");
    fs::create_dir(volume.join(version)).expect("a directory");
    write(&volume.join(version), "netwasm.toml", content);
    let before = fs::read_link(&data);
    symlink(version, volume.join("..data_tmp")).expect("a link");
    fs::rename(volume.join("..data_tmp"), &data).expect("it is replaced");
    match before {
        Ok(before) => fs::remove_dir_all(volume.join(before)).expect("it was there"),
        Err(_) => symlink("..data/netwasm.toml", volume.join("netwasm.toml")).expect("a link"),
    }
}

#[test]
fn a_config_map_is_reloaded_where_the_machine_has_no_inotify_left_too() {
    let scratch = directory();
    let volume = scratch.path();
    let content = |component: &str| {
        format!(
            "[services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\n",
            text(&guest(component))
        )
    };
    mount(volume, "..1", &content("router"));
    let file = volume.join("netwasm.toml");
    let server = Run::config(&file, 1).args(["--watch"]).start();
    let greets = || {
        eventually("the new component", || {
            let response = server.connect_http().fetch("/about");
            response.text().contains("Hello").then_some(())
        });
    };
    mount(volume, "..2", &content("hello"));
    reloaded(&server, "netwasm.toml", 1);
    greets();
    let call = "inotify_init1";
    let inject = format!("inject={call}:error=EMFILE");
    let trace = format!("trace={call}");
    let Some(_strace) = Strace::attach(&server, &["-e", &trace, "-e", &inject]) else {
        return;
    };
    mount(volume, "..3", &content("router"));
    reloaded(&server, "netwasm.toml", 2);
    server
        .log
        .wait_for(&["twice a second", "fs.inotify.max_user_instances"]);
    mount(volume, "..4", &content("hello"));
    reloaded(&server, "netwasm.toml", 3);
    greets();
}
