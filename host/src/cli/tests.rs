use std::time::Duration;

use netwasm_base::config::{
    AccessLogConfig, AccessLogFormat, AccessLogTarget, CIPHER_SUITES, CertificateFiles, Directory,
    DnsConfig, EventLimits, GuestConfig, HttpLimits, Isolation, ListenerConfig, ListenerKind,
    MessageCompression, NEVER, Origin, SlowClient, TcpOptions, TlsFiles, TlsVersion,
    WebSocketLimits,
};
use netwasm_base::descriptors;
use netwasm_base::policy::Policy;
use netwasm_base::unix::UnixRights;

use super::*;
use crate::logging::{LogFormat, Verbosity};

/// Parses the arguments after `netwasm`, given as one string.
fn parse_line(line: &str) -> Result<Command, clap::Error> {
    parse(
        "",
        std::iter::once("netwasm")
            .chain(line.split_whitespace())
            .map(OsString::from),
    )
}

fn run(line: &str) -> (Config, LogOptions) {
    match parse_line(&format!("run {line}")) {
        Ok(Command::Run(run, log)) => match &*run.services {
            [config] => (config.clone(), log),
            others => panic!("{line} gave {others:?}"),
        },
        Ok(other) => panic!("{line} gave {other:?}"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn error(line: &str) -> String {
    match parse_line(line) {
        Ok(command) => panic!("{line} gave {command:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn flags_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn a_project_says_the_isolation_unless_a_flag_does() {
    for (flags, expected) in [
        ("", Isolation::Worker),
        (" --isolation connection", Isolation::Connection),
    ] {
        let (mut config, _) = run(&format!("a.wasm --tcp 1{flags}"));
        assert_eq!(set_isolation(&mut config, "worker"), Ok(()));
        assert_eq!(config.isolation, Some(expected));
        let told = set_isolation(&mut config, "none");
        assert!(told.is_err_and(|told| told.contains("worker")));
    }
}

#[test]
fn without_flags_the_limits_are_the_defaults() {
    let (config, log) = run("a.wasm --tcp 1");
    let limits = Limits {
        max_connections: descriptors::connections(false),
        max_outgoing: descriptors::connections(false),
        ..Limits::default()
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.isolation, None);
    assert_eq!(config.tls, TlsFiles::default());
    assert_eq!(config.policy, Policy::default());
    assert_eq!(config.dns, DnsConfig::default());
    assert!(config.cache && !config.trust_compiled);
    assert_eq!(log, LogOptions::default());
    assert_eq!(
        config.guest,
        GuestConfig {
            name: "a".into(),
            program: "a.wasm".into(),
            ..GuestConfig::default()
        }
    );
}

#[test]
fn each_flag_reaches_its_place() {
    let (config, log) = run(
        "dir/a.wasm --tcp 1 --tls [::1]:2 --tls unix:/s --udp 0.0.0.0:3 --cert c1 --key k1 \
         --cert c2 --key k2 --client-ca ca --alpn h2 --alpn x --tls-min-version 1.3 \
         --tls-ciphers TLS_AES_128_GCM_SHA256:TLS13_AES_256_GCM_SHA384 --ca r1 --ca r2 \
         --isolation worker --workers 3 --allow-connect *.example.org:443 --dir p::/:rw \
         --allow-udp 10.0.0.1:53 --allow-resolve example.com --allow-listen [::1]:9 \
         --dns-server 10.0.0.53 --dns-server [::1]:5353 --dns-timeout 2s --tls-insecure \
         --tls-authority a=f=g --tls-identity b=c3,k3 --tls-identity d=e \
         --env A=b=c --env NETWASM_IS_NOT_SET --allow-compiled --no-cache \
         --event-timeout 1s --max-connections 10 --backlog 11 --idle-timeout 5m \
         --max-outgoing 13 --half-close-timeout none --tcp-keepalive 14s \
         --tcp-user-timeout 20s --tcp-receive-buffer 21kB --tcp-send-buffer 22kB \
         --background-timeout 15s --max-background 16 --max-metrics 99 --max-shared 98k --max-keyvalue 97k --config-var C=d=e --keyvalue k=memory: --keyvalue l=file:p \
         --response-body-timeout 17s \
         --handshake-timeout 2s --write-timeout 3s --write-high 3k --write-low 2KiB \
         --max-write-buffer 1.5MB --max-handles 12 --shutdown-timeout 4s --max-memory 1MiB \
         --http 4 --https unix:/t --http-redirect 5 --http-redirect-port 8443 --access-log - --access-log-format json --max-body 1k \
         --max-head 2k --max-request-line 3k --max-headers 4 --head-timeout 6s \
         --max-response-headers 18 \
         --body-timeout 7s --keep-alive-timeout 8s --response-timeout 9s --send-informational \
         --max-instance-reuse-count 5 --max-instance-concurrent-reuse-count 6 --max-connection-instances 18 --max-unread 19kB \
         --websocket-origin https://A.example --websocket-origin * --max-websocket-message 2k --max-websocket-frame 1k \
         --max-websocket-rate 23 --max-websocket-topics 26 --max-websocket-queue 3k --websocket-slow drop --websocket-ping 24s \
         --websocket-ping-timeout 25s --websocket-compression shared \
         --topics redis://:p@h/?prefix=x --events-kept 27 --events-kept-size 28kB --events-kept-time 29s --events-heartbeat 30s \
         --unix-mode 0660 --unix-owner root --unix-group 7 \
         --max-component-size 2M --compile-timeout 5s -vv --log-format json --log-rate 7 -- --tcp x",
    );
    assert_eq!(config.component, ComponentSource::File("dir/a.wasm".into()));
    assert!(config.trust_compiled && !config.cache);
    assert_eq!(config.workers.get(), 3);
    assert_eq!(config.isolation, Some(Isolation::Worker));
    let listeners = [
        (ListenerKind::Tcp, "1"),
        (ListenerKind::Tls, "[::1]:2"),
        (ListenerKind::Tls, "unix:/s"),
        (ListenerKind::Udp, "0.0.0.0:3"),
        (ListenerKind::Http, "4"),
        (ListenerKind::Https, "unix:/t"),
        (ListenerKind::Redirect, "5"),
    ]
    .map(|(kind, address)| ListenerConfig {
        kind,
        address: address.parse().expect("an address"),
    });
    assert_eq!(config.listeners, listeners);
    let unix = UnixRights {
        mode: Some(0o660),
        owner: Some("root".into()),
        group: Some("7".into()),
    };
    assert_eq!(config.unix, unix);
    assert_eq!(config.redirect_port, Some(8443));
    let pair = |chain: &str, key: &str| CertificateFiles {
        chain: chain.into(),
        key: key.into(),
    };
    let tls = TlsFiles {
        shared: Vec::new(),
        certificates: vec![pair("c1", "k1"), pair("c2", "k2")],
        client_ca: Some("ca".into()),
        alpn: vec![b"h2".to_vec(), b"x".to_vec()],
        min_version: TlsVersion::Tls13,
        ciphers: vec![CIPHER_SUITES[1], CIPHER_SUITES[0]],
        extra_roots: vec!["r1".into(), "r2".into()],
        insecure: true,
        authorities: vec![("a".into(), "f=g".into())],
        identities: vec![("b".into(), pair("c3", "k3")), ("d".into(), pair("e", "e"))],
    };
    assert_eq!(config.tls, tls);
    let guest = GuestConfig {
        name: "a".into(),
        program: "a.wasm".into(),
        args: vec!["--tcp".into(), "x".into()],
        env: vec![("A".into(), "b=c".into())],
        config: vec![("C".into(), "d=e".into())],
        dirs: vec![Directory {
            host: "p".into(),
            guest: "/".into(),
            writable: true,
        }],
        folder: None,
    };
    assert_eq!(config.guest, guest);
    let keyvalue = ["k=memory:", "l=file:p"].map(|it| it.parse().expect("a bucket"));
    assert_eq!(config.keyvalue, keyvalue);
    let topics = "redis://:p@h/?prefix=x".parse().expect("a server");
    assert_eq!(config.topics, Some(topics));
    let policy = Policy {
        connect: vec!["*.example.org:443".parse().expect("a pattern")],
        udp: vec!["10.0.0.1:53".parse().expect("a pattern")],
        resolve: vec!["example.com".parse().expect("a name")],
        listen: vec!["[::1]:9".parse().expect("an address")],
    };
    assert_eq!(config.policy, policy);
    let dns = DnsConfig {
        servers: ["10.0.0.53", "[::1]:5353"]
            .map(|server| server.parse().expect("a server"))
            .into(),
        timeout: Duration::from_secs(2),
    };
    assert_eq!(config.dns, dns);
    let limits = Limits {
        max_connections: 10,
        max_outgoing: 13,
        connections_given: true,
        backlog: 11,
        max_memory: 1 << 20,
        event_timeout: Duration::from_secs(1),
        idle_timeout: Some(Duration::from_secs(300)),
        half_close_timeout: None,
        tcp: TcpOptions {
            keepalive: Some(Duration::from_secs(14)),
            user_timeout: Some(Duration::from_secs(20)),
            receive_buffer: Some(21_000),
            send_buffer: Some(22_000),
        },
        handshake_timeout: Duration::from_secs(2),
        write_timeout: Duration::from_secs(3),
        write_high: 3000,
        write_low: 2048,
        max_write_buffer: 1_500_000,
        max_handles: 12,
        background_timeout: Duration::from_secs(15),
        max_background: 16,
        max_metrics: 99,
        max_shared: 98_000,
        max_keyvalue: 97_000,
        shutdown_timeout: Duration::from_secs(4),
        max_component_size: 2_000_000,
        compile_timeout: Duration::from_secs(5),
        http: HttpLimits {
            max_head: 2000,
            max_request_line: 3000,
            max_headers: 4,
            max_response_headers: 18,
            max_body: 1000,
            head_timeout: Duration::from_secs(6),
            body_timeout: Duration::from_secs(7),
            keep_alive_timeout: Duration::from_secs(8),
            response_timeout: Duration::from_secs(9),
            response_body_timeout: Duration::from_secs(17),
            max_instance_reuse: 5,
            max_instance_concurrency: 6,
            max_connection_instances: Some(18),
            max_unread: 19_000,
            send_informational: true,
            events: EventLimits {
                kept: 27,
                kept_size: 28_000,
                kept_time: Duration::from_secs(29),
                heartbeat: Some(Duration::from_secs(30)),
            },
            websocket: WebSocketLimits {
                max_message: 2000,
                max_frame: 1000,
                max_queue: 3000,
                slow: SlowClient::Drop,
                max_rate: Some(23),
                max_topics: 26,
                ping: Some(Duration::from_secs(24)),
                ping_timeout: Duration::from_secs(25),
                compression: MessageCompression::Shared,
                origins: vec![Origin::Exactly("https://a.example".into()), Origin::Any],
            },
        },
    };
    assert_eq!(config.limits, limits);
    assert_eq!(
        config.access_log,
        Some(AccessLogConfig {
            target: AccessLogTarget::Stdout,
            format: AccessLogFormat::Json,
        })
    );
    assert_eq!(
        log,
        LogOptions {
            format: LogFormat::Json,
            verbosity: Verbosity::Trace,
            rate: 7,
        }
    );
}

#[test]
fn a_run_is_quiet_or_tells_more_and_not_both() {
    for flag in ["-q", "--quiet"] {
        let (_, log) = run(&format!("a.wasm --tcp 1 {flag}"));
        assert_eq!(log.verbosity, Verbosity::Quiet);
    }
    let found = error("run a.wasm --tcp 1 -q -v");
    assert!(found.contains("cannot be used with"), "{found}");
}

#[test]
fn zero_is_no_limit_for_every_time() {
    let flags = [
        "--background-timeout",
        "--body-timeout",
        "--compile-timeout",
        "--dns-timeout",
        "--event-timeout",
        "--events-heartbeat",
        "--events-kept-time",
        "--half-close-timeout",
        "--handshake-timeout",
        "--head-timeout",
        "--idle-timeout",
        "--keep-alive-timeout",
        "--response-body-timeout",
        "--response-timeout",
        "--shutdown-timeout",
        "--tcp-keepalive",
        "--tcp-user-timeout",
        "--websocket-ping",
        "--websocket-ping-timeout",
        "--write-timeout",
    ];
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("run");
    let takes_time = |arg: &&clap::Arg| arg.get_value_names() == Some(&["TIME".into()]);
    let mut named: Vec<_> = run.get_arguments().filter(takes_time).collect();
    named.sort_by_key(|arg| arg.get_long());
    let named = named.into_iter().filter_map(clap::Arg::get_long);
    assert_eq!(
        named.map(|name| format!("--{name}")).collect::<Vec<_>>(),
        flags
    );
    for zero in ["0", "0s", "0ms", "none"] {
        let line = flags.map(|flag| format!("{flag} {zero}")).join(" ");
        let (config, _) = self::run(&format!("a.wasm --tcp 1 {line}"));
        assert_eq!(config.dns.timeout, NEVER, "{zero}");
        let limits = Limits {
            max_connections: config.limits.max_connections,
            max_outgoing: config.limits.max_outgoing,
            event_timeout: NEVER,
            idle_timeout: None,
            half_close_timeout: None,
            tcp: TcpOptions {
                keepalive: None,
                ..TcpOptions::default()
            },
            background_timeout: NEVER,
            handshake_timeout: NEVER,
            write_timeout: NEVER,
            shutdown_timeout: NEVER,
            compile_timeout: NEVER,
            http: HttpLimits {
                head_timeout: NEVER,
                body_timeout: NEVER,
                keep_alive_timeout: NEVER,
                response_timeout: NEVER,
                response_body_timeout: NEVER,
                events: EventLimits {
                    kept_time: NEVER,
                    heartbeat: None,
                    ..EventLimits::default()
                },
                websocket: WebSocketLimits {
                    ping: None,
                    ping_timeout: NEVER,
                    ..WebSocketLimits::default()
                },
                ..HttpLimits::default()
            },
            ..Limits::default()
        };
        assert_eq!(config.limits, limits, "{zero}");
        for flag in flags {
            let found = error(&format!("run a.wasm --tcp 1 {flag} 5"));
            let message = "a time has a unit, ms, s, m, h or d: write 5s for seconds";
            assert!(found.contains(message) && found.contains(flag), "{found}");
        }
    }
}

#[test]
fn variables_can_be_inherited() {
    let (config, _) = run("a.wasm --tcp 1 --env PATH --env EMPTY=");
    let path = std::env::var("PATH").expect("PATH is set");
    assert_eq!(
        config.guest.env,
        [("PATH".into(), path), ("EMPTY".into(), String::new())]
    );
}

#[test]
fn a_plain_word_that_is_no_file_is_a_built_in_component() {
    let (config, _) = run("echo --tcp 1");
    assert!(matches!(
        config.component,
        ComponentSource::BuiltIn { name: "echo", .. }
    ));
    assert_eq!(config.guest.name, "echo");
    // These are files. A missing one is reported when it is read.
    for file in ["echo.wasm", "./echo", "dir/echo"] {
        let (config, _) = run(&format!("{file} --tcp 1"));
        assert_eq!(config.component, ComponentSource::File(file.into()));
    }
    assert_eq!(
        error("run ecko --tcp 1"),
        "error: there is neither a file nor a built-in component 'ecko'. Did you mean echo? Built in: chat, chat-web, echo, fetch, file-server, gateway, hello, pool, proxy, relay-echo, resolve, reverse-proxy, router, socket-echo, static, stream-echo, stream-relay, tcp-client, upgrade, ws-echo\n"
    );
}

#[test]
fn mistakes_are_told_with_the_flags_to_change() {
    for (line, message) in [
        (
            "run a.wasm --tcp 1 --access-log a",
            "--access-log is of HTTP requests, and there is neither --http nor --https",
        ),
        (
            "run a.wasm --https 1",
            "--https 1 needs --cert FILE and --key FILE (for a test: \
             certs/cert.pem and certs/key.pem)",
        ),
        (
            "run a.wasm --tls 1",
            "--tls 1 needs --cert FILE and --key FILE (for a test: \
            certs/cert.pem and certs/key.pem)",
        ),
        (
            "run a.wasm --tcp 1 --cert a --cert b --key c",
            "each --cert needs its --key, in \
            the same order: there are 2 --cert and 1 --key",
        ),
        (
            "run a.wasm --udp unix:/s",
            "--udp cannot use a Unix socket: write --tcp unix:/s",
        ),
        (
            "run a.wasm --tcp unix:@a --unix-mode 600",
            "--unix-mode, --unix-owner and --unix-group are of a file, and unix:@a is an \
             abstract name without one: whoever is in its network namespace may connect",
        ),
        (
            "run a.wasm --tcp 1 --tcp 1",
            "two listeners have the address 1: give each its own",
        ),
        (
            "run a.wasm --tcp 1 --tls [::1]:1 --cert a --key b",
            "two listeners have the address [::1]:1: give each its own",
        ),
        (
            "run a.wasm --tcp 1 --tls-min-version 1.3 --tls-ciphers ECDHE-RSA-AES128-GCM-SHA256",
            "--tls-ciphers has only suites of TLS 1.2, which --tls-min-version 1.3 turns off",
        ),
        (
            "run a.wasm --tcp 1 --write-low 65KiB",
            "--write-low (66560 bytes) must not be above --write-high (65536 bytes)",
        ),
        (
            "run a.wasm --tcp 1 --max-write-buffer 1KiB",
            "--write-high (65536 bytes) must not be above --max-write-buffer (1024 bytes)",
        ),
        (
            "run a.wasm --tcp 1 --max-memory 1KiB",
            "--max-memory takes 64KiB, a page of \
            WebAssembly, to 4GiB, and this is 1024 bytes",
        ),
        (
            "run a.wasm --tcp 1 --max-memory 5GiB",
            "--max-memory takes 64KiB, a page of \
            WebAssembly, to 4GiB, and this is 5368709120 bytes",
        ),
        (
            "run a.wasm --tcp 1 --max-shared 65535",
            "--max-shared takes at least 64KiB, and this is 65535 bytes",
        ),
        (
            "compile a.wasm -o b --max-memory 5GiB",
            "--max-memory takes 64KiB, a page of \
            WebAssembly, to 4GiB, and this is 5368709120 bytes",
        ),
        (
            "run a.wasm --tcp 1 --write-timeout 2years",
            "--write-timeout takes at most 365 days, or 0 for no limit",
        ),
        (
            "run a.wasm --tcp 1 --dns-timeout 2years",
            "--dns-timeout takes at most 365 days, or 0 for no limit",
        ),
        (
            "run a.wasm --tcp 1 --dir a::/ --dir b::/",
            "two --dir have the path / in the guest: give each its own",
        ),
    ] {
        assert_eq!(error(line), format!("error: {message}\n"), "{line}");
    }
}

#[test]
fn values_that_cannot_be_used_say_what_to_write() {
    for (flag, message) in [
        ("--tcp *:80", "write 0.0.0.0:80 for all IPv4 addresses"),
        ("--event-timeout 30", "write 30s for seconds"),
        (
            "--event-timeout soon",
            "write a number with a unit, ms, s, m, h or d, such as 100ms",
        ),
        ("--idle-timeout never", "0 or none is no limit"),
        (
            "--max-memory many",
            "write a number of bytes, or one with its unit",
        ),
        ("--max-memory 0", "it must not be zero"),
        (
            "--max-memory=-1",
            "write a number of bytes, or one with its unit",
        ),
        ("--max-connections 0", "it must not be zero"),
        ("--max-handles 1k", "write a whole number, 1 or more"),
        ("--workers 0", "write a whole number from 1 to 1024"),
        ("--backlog 0", "0 is not in 1..=2147483647"),
        (
            "--access-log syslog:tcp:1",
            "write syslog, syslog:unix:PATH",
        ),
        (
            "--access-log syslog:facility=x",
            "'x' is none of kern, user, mail",
        ),
        ("--tls-min-version 1.1", "write 1.2 or 1.3"),
        (
            "--tls-ciphers AES128-SHA",
            "'AES128-SHA' is no cipher suite of this host: there are TLS_AES_256_GCM_SHA384,",
        ),
        ("--unix-mode 888", "write a mode in octal digits"),
        ("--unix-mode 1777", "such as 660 or 600"),
        ("--env =x", "write NAME=VALUE, or NAME to inherit it"),
        ("--dir ::/", "no directory of the host"),
        (
            "--allow-connect example.org",
            "no port: write example.org:443",
        ),
        ("--allow-udp unix:/a", "not a Unix socket"),
        ("--allow-resolve a:80", "without a port: write a"),
        ("--allow-listen *:80", "write 0.0.0.0:80"),
        ("--dns-server dns.example", "is not an IP address"),
        ("--dns-timeout five", "write a number with a unit"),
        (
            "--isolation none",
            "write one of these, by which clients share an instance:",
        ),
    ] {
        let message_found = error(&format!("run a.wasm --tcp 1 {flag}"));
        let name = flag.split([' ', '=']).next().expect("a first part");
        assert!(message_found.contains(message), "{flag}: {message_found}");
        assert!(message_found.contains(name), "{flag}: {message_found}");
    }
}

#[test]
fn both_listeners_of_tcp_and_udp_may_have_one_port() {
    run("a.wasm --tcp 1 --udp 1");
    run("a.wasm --tcp 0 --tcp 0 --tcp 127.0.0.1:0 --tcp 127.0.0.1:0");
}

#[test]
fn short_help_fits_a_screen_and_long_help_has_all_flags() {
    let short = error("run -h");
    assert!(short.lines().count() <= 50, "{short}");
    assert!(
        short.contains("--allow-connect") && !short.contains("--write-low"),
        "{short}"
    );
    let long = error("run --help");
    assert!(
        long.starts_with("Listens,") && long.contains("[default: 100ms]"),
        "{long}"
    );
    for arg in Cli::command()
        .find_subcommand("run")
        .expect("run")
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
    {
        if let Some(name) = arg.get_long() {
            assert!(long.contains(&format!("--{name}")), "{name} in {long}");
        }
    }
    assert!(long.lines().count() <= 280, "{long}");
    assert!(error("--help").contains("Examples:"));
    // After `--`, `--help` is an argument of the guest.
    run("a.wasm --tcp 1 -- --help");
}

#[test]
fn the_other_commands_take_a_component() {
    assert!(matches!(
        parse_line("inspect a.wasm"),
        Ok(Command::Inspect {
            component: ComponentSource::File(_),
            ..
        })
    ));
    match parse_line("compile a.wasm -o a.cwasm --max-memory 1MiB") {
        Ok(Command::Compile {
            component,
            plugs: _,
            output,
            limits,
        }) => {
            assert_eq!(component, ComponentSource::File("a.wasm".into()));
            assert_eq!(output, Path::new("a.cwasm"));
            assert_eq!(limits.max_memory, 1 << 20);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn watching_passes_on_all_arguments_but_its_own() {
    match parse_line("run a.wasm --watch --allow-listen 1 -- --watch") {
        Ok(Command::Watch(watch)) => {
            assert_eq!(watch.component, Path::new("a.wasm"));
            let args = ["a.wasm", "--allow-listen", "1", "--", "--watch"];
            assert_eq!(watch.args, args);
        }
        other => panic!("{other:?}"),
    }
    // A server is reloaded.
    match parse_line("run a.wasm --watch --tcp 1 -- --watch") {
        Ok(Command::Run(run, _)) => assert!(run.watch),
        other => panic!("{other:?}"),
    }
    assert!(error("run echo --watch --tcp 1").contains("does not change"));
    let (config, _) = run("--built b.wasm dir --tcp 1");
    assert_eq!(config.component, ComponentSource::File("b.wasm".into()));
    assert_eq!(config.guest.name, "b");
    assert!(error("run a.wasm --watch --tcp").contains("--tcp"));
}
