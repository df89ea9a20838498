//! Tests of /etc/hosts and /etc/resolv.conf: names are looked up as glibc does,
//! from servers at the addresses and the port of those files.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{
    self, Dns, DnsReply as Reply, Run, Server, SystemFile, directory, eventually, in_own_network,
    text,
};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

const LOCALHOST: &[u8] = b"127.0.0.1 localhost\n";

/// Python that looks names up by getaddrinfo(3).
const GETADDRINFO: &str = "
import socket, sys
for name in sys.argv[1:]:
    try:
        print(*{found[4][0] for found in socket.getaddrinfo(name, None)})
    except socket.gaierror as error:
        names = {socket.EAI_NONAME: 'no name', socket.EAI_NODATA: 'no address'}
        print('error:', names.get(error.errno, 'failed'))
";

/// System files that a test sets.
struct System {
    hosts: SystemFile,
    resolv_conf: SystemFile,
}

impl System {
    fn new() -> Self {
        Self {
            hosts: SystemFile::over("/etc/hosts", LOCALHOST),
            resolv_conf: SystemFile::over("/etc/resolv.conf", b""),
        }
    }
}

/// Returns the outcome of a look-up in words common to netwasm and glibc:
/// addresses in any order, or the reason why there are none.
fn outcome(text: &str) -> BTreeSet<String> {
    match text {
        "error: name-unresolvable" => ["no name".into()].into(),
        "error: no-address" => ["no address".into()].into(),
        "error: resolver-failure" | "error: timeout" => ["failed".into()].into(),
        text => match text.strip_prefix("error: ") {
            Some(why) => [why.to_owned()].into(),
            None => text.split(' ').map(str::to_owned).collect(),
        },
    }
}

fn glibc(names: &[&str]) -> Vec<BTreeSet<String>> {
    let python = Command::new("python3")
        .args(["-c", GETADDRINFO])
        .args(names)
        .output()
        .expect("python3");
    let answers = String::from_utf8_lossy(&python.stdout);
    answers.lines().map(outcome).collect()
}

/// Starts the probe, with the DNS servers of the system.
fn probe() -> Server {
    Run::guest("probe")
        .tcp()
        .args(["--workers", "1", "--allow-resolve", "*"])
        .start()
}

fn netwasm(server: &Server, names: &[&str]) -> Vec<BTreeSet<String>> {
    let mut peer = server.connect();
    let ask = |name: &&str| outcome(&peer.ask(&format!("resolve {name}")));
    names.iter().map(ask).collect()
}

/// Checks that netwasm and glibc find the same, and returns it.
fn same(names: &[&str], what: &str) -> Vec<BTreeSet<String>> {
    let found = netwasm(&probe(), names);
    let expected = glibc(names);
    for (name, (found, expected)) in names.iter().zip(found.iter().zip(&expected)) {
        assert_eq!(
            found, expected,
            "{name}: netwasm and glibc differ with {what}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{what}");
    found
}

fn addresses(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn servers_of_resolv_conf_are_asked_as_glibc_does() {
    if !in_own_network("names::servers_of_resolv_conf_are_asked_as_glibc_does") {
        return;
    }
    let system = System::new();
    let near = |name: &str, family: RecordType| match name {
        "near.test." => Reply::addresses(&["192.0.2.2", "2001:db8::2"]),
        "four.test." => Reply::addresses(&["192.0.2.4"]),
        "none.test." => Reply::NoName,
        "nodata.test." => Reply::NoData,
        "servfail.test." => Reply::Fails(ResponseCode::ServFail),
        "refused.test." => Reply::Fails(ResponseCode::Refused),
        "notimp.test." => Reply::Fails(ResponseCode::NotImp),
        "silent.test." => Reply::Silence,
        "half.test." if family == RecordType::A => Reply::addresses(&["192.0.2.5"]),
        "half.test." => Reply::Fails(ResponseCode::ServFail),
        "cut.test." => Reply::truncated(&["192.0.2.6"]),
        "chain.test." => Reply::Aliases(
            harness::aliases("chain", 20),
            vec!["192.0.2.7".parse().expect("an address")],
        ),
        _ => Reply::NoName,
    };
    let _near = Dns::at("127.0.0.2:53", near);
    let _far = Dns::at("127.0.0.3:53", |_, _| Reply::addresses(&["192.0.2.3"]));
    let _broken = Dns::at("127.0.0.4:53", |_, _| Reply::Fails(ResponseCode::ServFail));
    let names = [
        "near.test",
        "four.test",
        "none.test",
        "nodata.test",
        "servfail.test",
        "refused.test",
        "notimp.test",
        "silent.test",
        "half.test",
        "cut.test",
        "chain.test",
    ];
    let order = |servers: &[u8]| -> String {
        let lines = servers
            .iter()
            .map(|it| format!("nameserver 127.0.0.{it}\n"));
        lines.collect::<String>() + "options timeout:1 attempts:1\n"
    };
    for servers in [&[2, 3][..], &[3, 2], &[2], &[4, 2, 3], &[9, 2]] {
        let conf = order(servers);
        system.resolv_conf.set(conf.as_bytes());
        let found = same(&names, &conf);
        match servers {
            [2, 3] => {
                assert_eq!(found[2], addresses(&["no name"]));
                assert_eq!(found[4], addresses(&["192.0.2.3"]));
            }
            [3, 2] => assert_eq!(found[0], addresses(&["192.0.2.3"])),
            _ => {}
        }
    }
}

#[test]
fn odd_entries_of_resolv_conf_are_lost_alone() {
    if !in_own_network("names::odd_entries_of_resolv_conf_are_lost_alone") {
        return;
    }
    let system = System::new();
    let dns = Dns::at("127.0.0.2:53", |name, _| match name {
        "db.test." | "db.one.test." => Reply::addresses(&["192.0.2.9"]),
        "x.y.one.test." => Reply::addresses(&["192.0.2.8"]),
        _ => Reply::NoName,
    });
    for conf in [
        &b"nameserver 127.0.0.2  # eth0:v4 \xe9\n"[..],
        b"# caf\xe9\nnameserver fe80::1%eth0\nnameserver 127.0.0\nnameserver 127.0.0.2\n",
        b"search a..test caf\xe9.test *.test .lan\nnameserver 127.0.0.2\n",
        b"options retrans:1 foo ndots:\nnameserver 127.0.0.2",
        b"\xef\xbb\xbf# by a tool\nnonsense\nnameserver 127.0.0.2\n",
        b"search .\nnameserver 127.0.0.2\n",
    ] {
        system.resolv_conf.set(conf);
        let found = same(&["db.test"], &String::from_utf8_lossy(conf));
        assert_eq!(found, [addresses(&["192.0.2.9"])]);
    }
    let conf = b"domain two.test\nsearch one.test two.test\nnameserver 127.0.0.2\n";
    system.resolv_conf.set(conf);
    same(&["db", "db.test", "x.y", "x.y.", "other"], "a search list");
    for dots in ["0", "2", "5"] {
        let conf =
            format!("search two.test one.test\nnameserver 127.0.0.2\noptions ndots:{dots}\n");
        system.resolv_conf.set(conf.as_bytes());
        same(&["db", "db.test", "x.y", "db."], &conf);
    }
    // Lost entries are logged, once.
    system
        .resolv_conf
        .set(b"search -x one.test\nnameserver 127.0.0.2\noptions foo\nsortlist 10.0.0.0\n");
    let server = probe();
    assert_eq!(
        netwasm(&server, &["db", "db"])[1],
        addresses(&["192.0.2.9"])
    );
    let line = server.log.wait_for(&["WARN", "/etc/resolv.conf"]);
    for part in ["line 1: \"-x\"", "line 3: \"foo\"", "line 4: \"sortlist\""] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(server.log.count("/etc/resolv.conf"), 1);

    // Options that change the questions.
    let asked = dns.questions().len();
    system
        .resolv_conf
        .set(b"nameserver 127.0.0.2\noptions use-vc no-aaaa edns0\n");
    assert_eq!(netwasm(&probe(), &["db.test"]), [addresses(&["192.0.2.9"])]);
    for question in &dns.questions()[asked..] {
        assert!(question.tcp && question.edns, "{question:?}");
        assert_eq!(question.family, RecordType::A);
    }
}

#[test]
fn odd_entries_of_the_hosts_file_are_lost_alone() {
    if !in_own_network("names::odd_entries_of_the_hosts_file_are_lost_alone") {
        return;
    }
    let system = System::new();
    system.resolv_conf.set(b"nameserver 127.0.0.2\n");
    let _dns = Dns::at("127.0.0.2:53", |_, _| Reply::NoName);
    system.hosts.set(
        b"127.0.0.1 localhost\n192.0.2.1 before.test\n192.0.2.2 same.test # caf\xe9\n\
          192.0.2.3 caf\xe9.test beside.test\nnonsense lost.test\n192.0.2.4 after.test\n\
          2001:db8::4 after.test AFTER2.test\n192.0.2.5 after.test",
    );
    let names = [
        "before.test",
        "same.test",
        "beside.test",
        "lost.test",
        "after.test",
        "after2.test",
    ];
    let server = probe();
    assert_eq!(netwasm(&server, &names), glibc(&names));
    assert_eq!(
        netwasm(&server, &["after.test"]),
        [addresses(&["192.0.2.4", "192.0.2.5", "2001:db8::4"])]
    );
    let line = server.log.wait_for(&["WARN", "/etc/hosts"]);
    assert!(
        line.contains("line 4:") && line.contains("line 5: \"nonsense\""),
        "{line}"
    );
    assert_eq!(server.log.count("/etc/hosts"), 1);

    // A change is noticed.
    system.hosts.set(b"192.0.2.99 before.test\n");
    eventually("the new address", || {
        let found = netwasm(&server, &["before.test"]);
        (found == [addresses(&["192.0.2.99"])]).then_some(())
    });
}

#[test]
fn servers_take_turns_where_rotate_says_so() {
    if !in_own_network("names::servers_take_turns_where_rotate_says_so") {
        return;
    }
    let system = System::new();
    system
        .resolv_conf
        .set(b"nameserver 127.0.0.2\nnameserver 127.0.0.3\noptions rotate\n");
    let servers = ["127.0.0.2:53", "127.0.0.3:53"]
        .map(|address| Dns::at(address, |_, _| Reply::addresses(&["192.0.2.1"])));
    let server = probe();
    for number in 0..4 {
        netwasm(&server, &[&format!("{number}.test")]);
    }
    for dns in &servers {
        // On a slow machine, one may be sent again.
        assert_eq!(dns.asked().len(), 4, "{:?}", dns.questions());
    }
}

#[test]
fn the_time_for_a_server_is_that_of_resolv_conf() {
    if !in_own_network("names::the_time_for_a_server_is_that_of_resolv_conf") {
        return;
    }
    let system = System::new();
    system
        .resolv_conf
        .set(b"nameserver 127.0.0.2\noptions timeout:1 attempts:1\n");
    let _silent = Dns::at("127.0.0.2:53", |_, _| Reply::Silence);
    let server = Run::guest("probe")
        .tcp()
        .args(["--allow-resolve", "*", "--dns-timeout", "10m"])
        .start();
    let begun = Instant::now();
    let answer = server.connect().ask("resolve name.test");
    assert_eq!(answer, "error: timeout");
    assert!(begun.elapsed() >= Duration::from_millis(900));
}

/// A process that is killed when it is dropped.
struct Daemon(Child);

impl Daemon {
    /// Starts a DNS server, and waits until it listens at this address.
    fn start(command: &mut Command, address: &str) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let daemon = Self(child);
        eventually(address, || TcpStream::connect(address).ok());
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts BIND, which knows `zone.test` and refuses other names. It listens
/// only on addresses that interfaces have.
fn bind9(directory: &Path) -> Daemon {
    let mut zone = "$TTL 60\n@ SOA ns h 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\n\
                    www A 192.0.2.1\nwww AAAA 2001:db8::1\nfour A 192.0.2.4\nempty TXT x\n"
        .to_owned();
    for number in 1..=99 {
        zone += &format!("many A 192.0.2.{number}\n");
    }
    // BIND 9.18 follows eleven aliases.
    for number in 0..10 {
        zone += &format!("chain{number} CNAME chain{}\n", number + 1);
    }
    zone += "chain10 A 192.0.2.12\ndangling CNAME missing\n";
    fs::write(directory.join("zone"), zone).expect("a zone");
    let conf = format!(
        "options {{ directory \"{}\"; listen-on {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
         recursion no; pid-file none; session-keyfile none; dnssec-validation no; }};\n\
         controls {{ }};\nzone \"zone.test\" {{ type primary; file \"zone\"; }};\n",
        text(directory)
    );
    let file = directory.join("named.conf");
    fs::write(&file, conf).expect("a configuration");
    Daemon::start(
        Command::new("named").args(["-f", "-c", text(&file)]),
        "127.0.0.1:53",
    )
}

/// Starts Unbound, which knows `local.test` and refuses other names.
fn unbound(directory: &Path) -> Daemon {
    let conf = format!(
        "server:\n directory: \"{}\"\n interface: 127.0.0.3\n do-daemonize: no\n\
         use-syslog: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n\
         local-zone: \".\" refuse\n local-zone: \"test\" refuse\n local-zone: \"local.test\" static\n\
         local-data: \"db.local.test A 192.0.2.77\"\nremote-control:\n control-enable: no\n",
        text(directory)
    );
    let file = directory.join("unbound.conf");
    fs::write(&file, conf).expect("a configuration");
    Daemon::start(
        Command::new("unbound").args(["-d", "-c", text(&file)]),
        "127.0.0.3:53",
    )
}

#[test]
fn real_servers_are_asked_as_glibc_does() {
    if !in_own_network("names::real_servers_are_asked_as_glibc_does") {
        return;
    }
    let system = System::new();
    let directory = directory();
    let (_bind9, _unbound) = (bind9(directory.path()), unbound(directory.path()));
    let names = [
        "www.zone.test",
        "four.zone.test",
        "empty.zone.test",
        "missing.zone.test",
        "many.zone.test",
        "chain0.zone.test",
        "dangling.zone.test",
        "db.local.test",
        "none.local.test",
        "elsewhere.test",
    ];
    for options in ["", "options edns0\n"] {
        for conf in [
            "nameserver 127.0.0.1\nnameserver 127.0.0.3\n",
            "nameserver 127.0.0.3\nnameserver 127.0.0.1\n",
            "nameserver 127.0.0.1\n",
        ] {
            let conf = format!("{conf}{options}");
            system.resolv_conf.set(conf.as_bytes());
            let found = same(&names, &conf);
            assert_eq!(found[0], addresses(&["192.0.2.1", "2001:db8::1"]));
            assert_eq!(found[4].len(), 99);
            assert_eq!(found[5], addresses(&["192.0.2.12"]));
        }
    }
}
