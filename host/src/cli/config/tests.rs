mod schema;

use std::ffi::OsString;
use std::fs;

use netwasm_base::config::{AccessLogFormat, Isolation, ListenerKind};

use super::keys::Form;
use super::*;
use crate::cli::parse;
use crate::logging::LogFormat;

/// Loads a text as a file.
fn load_text(text: &str) -> Result<Loaded, Vec<String>> {
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("netwasm.toml");
    fs::write(&file, text).expect("a file");
    load(&file).map_err(|mistakes| {
        let text = mistakes.to_string();
        let prefix = format!("{}:", file.display());
        let lines = text.lines().map(|line| {
            let rest = line.strip_prefix(&prefix).expect("the file's name");
            rest.trim_start().to_owned()
        });
        lines.collect()
    })
}

fn loaded(text: &str) -> Loaded {
    load_text(text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:#?}"))
}

fn printed(line: &str) -> String {
    let args = ["netwasm", "run", "--print-config"].into_iter();
    match parse("", args.chain(line.split_whitespace()).map(OsString::from)) {
        Ok(Command::Print(text)) => text,
        Ok(other) => panic!("{line} gave {other:?}"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn run_of(line: &str) -> (Config, LogOptions) {
    let args = ["netwasm", "run"].into_iter();
    match parse("", args.chain(line.split_whitespace()).map(OsString::from)) {
        Ok(Command::Run(run, log)) => (run.services.first().expect("one").clone(), log),
        other => panic!("{line} gave {other:?}"),
    }
}

/// A value for a key, by the kind that its flag takes.
fn sample(key: &Key) -> String {
    match (&*key.name, &*key.value) {
        ("access-log-format" | "log-format", _) => "json",
        ("isolation", _) => "worker",
        ("keyvalue", _) => "name=memory:",
        ("dns-server", _) => "10.0.0.53",
        ("allow-udp", _) => "10.0.0.1:53",
        ("tls-identity", _) => "name=cert,key",
        ("route", _) => "example.org/api",
        ("tls-min-version", _) => "1.3",
        ("tls-ciphers", _) => "TLS_AES_128_GCM_SHA256",
        ("topics", _) => "redis://localhost:6379",
        ("websocket-compression", _) => "shared",
        ("websocket-origin", _) => "https://example.org",
        ("websocket-slow", _) => "drop",
        (_, "NETWORK") => "10.0.0.0/8",
        ("write-high", _) => "64KiB",
        (name, "ADDR") if name.starts_with("allow") => "127.0.0.1:9",
        (_, "ADDR") => "127.0.0.1:0",
        (_, "PATTERN") => "example.org:443",
        (_, "N") => "7",
        (_, "OCTAL") => "660",
        (_, "SIZE") => "64KiB",
        (_, "TIME") => "7s",
        (_, "NAME=VALUE" | "NAME=FILE") => "name=value",
        (_, "NAME=HOST") => "name=mirror.example",
        (_, "NAME=DIR") => "name=data:rw",
        (_, "NAME=SERVERS") => "name=10.0.0.1:80",
        (_, "NAME") => "example.org",
        (_, "DIR") => "data::/data:rw",
        (_, "RATIO") => "0.25",
        (_, "URL") => "http://localhost:4318",
        _ => "word",
    }
    .to_owned()
}

/// Flags that cannot be given together with some of the others: one takes a
/// component's place, the other excludes `-v`.
const APART: [&str; 2] = ["module", "quiet"];

/// Returns a command line with all flags that have a key, except for [`APART`].
fn all_flags(keys: &[Key]) -> String {
    let mut line = "echo".to_owned();
    let others = keys.iter().filter(|key| !key.is_positional());
    for key in others.filter(|key| !APART.contains(&&*key.name)) {
        line += &match key.form {
            Form::Switch => format!(" --{}", key.name),
            Form::Times => " -vv".into(),
            _ => format!(" --{}={}", key.name, sample(key)),
        };
    }
    line + " -- value value"
}

#[test]
fn every_flag_has_its_key_and_both_mean_the_same() {
    let (command, keys) = flags();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let has_key = keys.iter().any(|key| key.id == id);
        assert_eq!(!keys::WITHOUT_KEY.contains(&id), has_key, "{id}");
    }
    let line = all_flags(&keys);
    let text = printed(&line);
    for key in keys.iter().filter(|key| !APART.contains(&&*key.name)) {
        let begin = format!("{} = ", key.name);
        assert!(text.lines().any(|it| it.starts_with(&begin)), "{text}");
    }
    let Loaded { run, log } = loaded(&text);
    let (config, its_log) = run_of(&line);
    assert_eq!(run.services, [config], "{text}");
    assert_eq!(log, its_log);
    // The printed text is a fixed point.
    let with_values = |text: &str| text.replace("(hidden)", "value");
    assert_eq!(with_values(&run.shown), with_values(&text));
    let quiet = printed("echo --tcp 1 --quiet");
    assert!(quiet.contains("quiet = true\n"), "{quiet}");
    assert_eq!(loaded(&quiet).log, run_of("echo --tcp 1 -q").1);
}

#[test]
fn a_file_may_have_several_services_and_defaults_of_all() {
    let Loaded { run, log } = loaded(
        "workers = 3\nlog-format = \"json\"\nmax-body = \"2MiB\"\nidle-timeout = 0\n\
         [services.site]\ncomponent = \"router\"\nhttp = [8080, \"unix:/run/site\"]\n\
         [services.chat-1]\ncomponent = \"./chat.wasm\"\ntcp = 6667\nisolation = \"worker\"\n\
         max-body = 3000\nallow-connect = \"example.org:443\"\nargs = [\"-x\", \"--tcp\"]\n\
         env = { A = \"b=c\", N = 7 }\n",
    );
    assert_eq!(run.workers.get(), 3);
    assert_eq!(log.format, LogFormat::Json);
    let [site, chat] = &*run.services else {
        panic!("{run:?}")
    };
    assert_eq!(site.guest.name, "site");
    assert_eq!(site.limits.http.max_body, 2 << 20);
    assert_eq!(site.limits.idle_timeout, None);
    let kinds = site.listeners.iter().map(|it| it.kind);
    assert_eq!(kinds.collect::<Vec<_>>(), [ListenerKind::Http; 2]);
    assert_eq!(chat.guest.name, "chat-1");
    assert_eq!(chat.guest.program, "chat.wasm");
    assert_eq!(chat.isolation, Some(Isolation::Worker));
    assert_eq!(chat.limits.http.max_body, 3000);
    assert_eq!(chat.guest.args, ["-x", "--tcp"]);
    let variables = [("A", "b=c"), ("N", "7")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(chat.guest.env, variables);
    // One may do this, the other may not.
    assert_eq!(
        (site.policy.connect.len(), chat.policy.connect.len()),
        (0, 1)
    );
    // Another service changes nothing for one: they draw from what the process
    // can have.
    for (service, line) in [
        (site, "router --http 1"),
        (chat, "chat.wasm --tcp 1 --allow-connect example.org:443"),
    ] {
        let (alone, _) = run_of(line);
        let most = alone.limits.max_connections;
        assert_eq!(service.limits.max_connections, most);
    }
}

#[test]
fn all_mistakes_are_told_with_line_and_column() {
    let mistakes = load_text(
        "worker = 2\n\
         idle-timeout = 30\n\
         [services.a]\n\
         component = \"echo\"\n\
         tcp = [8888, \"nowhere\"]\n\
         max_body = \"1MiB\"\n\
         no-cache = \"yes\"\n\
         env = { \"\" = 1.5 }\n\
         [services.\"b c\"]\n\
         component = true\n\
         workers = 2\n",
    );
    assert_eq!(
        mistakes.expect_err("mistakes"),
        [
            "1:1: there is no key 'worker': did you mean 'workers'?",
            "2:16: 'idle-timeout': a time has a unit, ms, s, m, h or d: write 30s for seconds",
            "5:14: 'tcp': 'nowhere' is not an address: write PORT (of localhost), IP:PORT, [IPV6]:PORT or unix:PATH",
            "6:1: there is no key 'max_body': did you mean 'max-body'?",
            "7:12: 'no-cache' is true or false, and this is of the type string",
            "8:14: a variable is a string, or { file = \"PATH\" } for the content of a file",
            "9:11: the name of a service has 1 to 64 letters, digits, '-', '_' or '.'",
            "10:13: 'component' is a string, and this is of the type boolean",
            "11:1: 'workers' is of the whole process: write it above the services",
        ]
    );
}

#[test]
fn the_form_of_logs_is_a_default_of_the_services_that_log() {
    let Loaded { run, .. } = loaded(
        "access-log-format = \"json\"\n\
         [services.a]\ncomponent = \"router\"\nhttp = 0\naccess-log = \"/tmp/log\"\n\
         [services.b]\ncomponent = \"hello\"\nhttp = 0\n",
    );
    let logs = run.services.iter().map(|it| it.access_log.as_ref());
    let formats: Vec<_> = logs.map(|log| log.map(|log| &log.format)).collect();
    assert_eq!(formats, [Some(&AccessLogFormat::Json), None]);
}

#[test]
fn what_does_not_go_together_is_told_at_its_key() {
    for (text, mistake) in [
        (
            "component = \"echo\"\ntcp = 1\nlisten = 80\n",
            "3:1: there is no key 'listen': each protocol has its own, tcp, tls, udp, http or https",
        ),
        (
            "component = \"echo\"\ncert = \"a\"\nhttps = 1\n",
            "2:1: each cert needs its key, in the same order: there are 1 cert and 0 key",
        ),
        (
            "component = \"router\"\n\nhttps = 1\n",
            "3:1: https 1 needs cert FILE and key FILE (for a test: certs/cert.pem and \
             certs/key.pem)",
        ),
        (
            "component = \"echo\"\ntcp = 1\nwrite-low = \"65KiB\"\n",
            "3:1: write-low (66560 bytes) must not be above write-high (65536 bytes)",
        ),
        (
            "tcp = 1\n",
            "1:1: there is no component: write component = \"FILE\", or the name of a built-in \
             one",
        ),
        (
            "component = \"ecko\"\ntcp = 1\n",
            "1:1: there is neither a file nor a built-in component 'ecko'. Did you mean echo?",
        ),
        (
            "component = \"echo\"\ntcp = 1\naccess-log-format = \"json\"\n",
            "3:1: access-log-format is the form of access-log, which is not set: write access-log \
             = \"FILE\"",
        ),
        (
            "[services.a]\ncomponent = \"echo\"\ntcp = 1\nmax-client-rate = 0\n",
            "4:19: 'max-client-rate': write a whole number from 1 to 4294967295; without it, there \
             is no limit",
        ),
        (
            "component = \"echo\"\nisolation = \"none\"\ntcp = 1\n",
            "2:13: 'isolation': write one of these, by which clients share an instance:",
        ),
        (
            "component = \"echo\"\nlog-format = \"xml\"\ntcp = 1\n",
            "2:14: 'log-format': write one of these: text, json",
        ),
        (
            "verbose = 3\ncomponent = \"echo\"\ntcp = 1\n",
            "1:11: 'verbose' is 0, 1 or 2",
        ),
        (
            "[services.a]\ncomponent = \"echo\"\ntcp = 1\n[services.b]\ncomponent = \"echo\"\n\
             tcp = \"[::1]:1\"\n",
            "6:1: tcp [::1]:1 is an address of the service 'a', too: give each its own",
        ),
        (
            "[services.a]\ncomponent = \"router\"\nhttp = 1\n[services.b]\n\
             component = \"hello\"\nroute = [\"a.example\", \"/\"]\nhttp = 1\n",
            "6:1: the route * is one of the service 'a', too, on the same listener",
        ),
        (
            "[services.a]\ncomponent = \"router\"\nhttp = 1\n[services.b]\n\
             component = \"hello\"\nmax-body = 5\nroute = \"a.example\"\nhttp = 1\n",
            "6:1: max-body differs from that of the service 'a' on the same listener: give both \
             the same, or each its own listener",
        ),
        (
            "component = \"echo\"\ntcp = 1\nroute = \"http://a.example/\"\n",
            "3:9: 'route': a route is no URL: write a.example/",
        ),
        (
            "component = \"echo\"\ntcp = 1\nroute = \"a.example\"\n",
            "3:1: route is for HTTP requests, and there is neither http nor https",
        ),
        (
            "tcp = 1\n[services.a]\ncomponent = \"echo\"\n",
            "1:1: each service has its own 'tcp': write it below [services.NAME]",
        ),
        (
            "services = 1\n",
            "1:12: write a table for each service: [services.NAME]",
        ),
        (
            "[services]\n",
            "1:1: write a table for each service: [services.NAME]",
        ),
    ] {
        let mistakes = load_text(text).err().unwrap_or_default();
        assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
        assert!(mistakes[0].starts_with(mistake), "{text}: {mistakes:?}");
    }
    // The words are the library's; the places are what counts.
    let mistakes = load_text("component = \"echo\ntcp = 1\nx = [\n").err();
    let mistakes = mistakes.expect("mistakes");
    assert!(mistakes[0].starts_with("1:"), "{mistakes:?}");
    assert!(mistakes.iter().all(|it| it.lines().count() == 1));
    assert!(load(Path::new("/nonexistent/a.toml")).is_err());
}

#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("secret");
    fs::write(&file, "hunter2\n").expect("a file");
    let text = format!(
        "component = \"echo\"\ntcp = 1\nenv = {{ TOKEN = {{ file = \"{}\" }}, A = \"plain\" }}\n",
        file.display()
    );
    let Loaded { run, .. } = loaded(&text);
    let env = &run.services[0].guest.env;
    assert!(env.contains(&("TOKEN".into(), "hunter2".into())), "{env:?}");
    assert!(run.shown.contains("secret\" }"), "{}", run.shown);
    for secret in ["hunter2", "plain"] {
        assert!(!run.shown.contains(secret), "{}", run.shown);
    }
    for (content, reason) in [
        (&b"a\xff"[..], "is not UTF-8"),
        (b"a\0b", "has a NUL byte"),
        (&vec![b'x'; (1 << 20) + 1], "has more than 1 MiB"),
    ] {
        fs::write(&file, content).expect("a file");
        let mistakes = load_text(&text).expect_err("a mistake");
        assert!(mistakes[0].starts_with("3:9: ") && mistakes[0].contains(reason));
    }
    fs::remove_file(&file).expect("it was there");
    let mistakes = load_text(&text).expect_err("a mistake");
    assert!(mistakes[0].contains("cannot read"), "{mistakes:?}");
}

#[test]
fn headers_for_the_receiver_of_traces_are_secret_wherever_they_come_from() {
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("key");
    fs::write(&file, "hunter2\n").expect("a file");
    let text = |headers: &str| {
        format!(
            "otlp = \"http://localhost\"\notlp-header = {{ {headers} }}\n\
             [services.a]\ncomponent = \"echo\"\ntcp = 1\n"
        )
    };
    let own = format!("Api-Key = {{ file = {file:?} }}, X = \"plain\"");
    let Loaded { run, .. } = loaded(&text(&own));
    let otlp = run.otlp.expect("a receiver");
    let pairs = otlp.headers.iter().map(|it| (&*it.name, &*it.value));
    let pairs: Vec<_> = pairs.collect();
    assert_eq!(pairs, [("Api-Key", "hunter2"), ("X", "plain")]);
    assert_eq!(run.secrets, std::slice::from_ref(&file));
    let line = "echo --tcp 127.0.0.1:1 --otlp http://localhost/?k=plain --otlp-header X=plain";
    let printed = printed(line);
    assert!(
        printed.contains("otlp-header = [\"X=(hidden)\"]")
            && printed.contains("otlp = \"http://localhost/?(hidden)\""),
        "{printed}"
    );
    let debug = format!("{otlp:?}");
    for shown in [run.shown, printed, debug] {
        assert!(
            !shown.contains("hunter2") && !shown.contains("plain"),
            "{shown}"
        );
    }
    for (headers, reason) in [
        ("\"a b\" = \"plain\"", "'a b' is not a header name"),
        ("host = \"plain\"", "host is not to be set"),
        (
            "a = \"plain\\u0007\"",
            "the value of a is not that of a header",
        ),
        ("a = 1.5", "a header is a string, or { file"),
    ] {
        let mistakes = load_text(&text(headers)).expect_err("a mistake");
        assert!(mistakes[0].starts_with("2:"), "{mistakes:?}");
        assert!(mistakes[0].contains(reason), "{mistakes:?}");
        assert!(!mistakes[0].contains("plain"), "{mistakes:?}");
    }
}

#[test]
fn a_command_line_with_a_file_has_nothing_else() {
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("a.toml");
    fs::write(&file, "component = \"echo\"\ntcp = 1\n").expect("a file");
    let file = file.to_str().expect("UTF-8");
    let parse = |more: &[&str]| {
        let args = ["netwasm", "run", "--config", file].into_iter();
        let args = args.chain(more.iter().copied());
        parse("", args.map(OsString::from))
    };
    assert!(matches!(parse(&[]), Ok(Command::Run(..))));
    assert!(matches!(parse(&["--print-config"]), Ok(Command::Print(_))));
    for (more, message) in [
        (&["--tcp", "1"][..], "write 'tcp' there, and not --tcp"),
        (&["echo"], "write 'component' there, and not echo"),
        (&["--", "x"], "write 'args' there, and not x"),
    ] {
        let error = parse(more).expect_err("two places").to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn what_a_command_line_means_is_printed_as_toml_whatever_its_letters() {
    let args = [
        "netwasm",
        "run",
        "echo",
        "--print-config",
        "--tcp",
        "1",
        "--env",
    ];
    let args = args.into_iter().chain(["A=\"\\\t\u{7f}\n'é"]);
    let Ok(Command::Print(text)) = parse("", args.map(OsString::from)) else {
        panic!("it prints")
    };
    let Loaded { run, .. } = loaded(&text);
    let variable = ("A".to_owned(), "\"\\\t\u{7f}\n'é".to_owned());
    assert_eq!(run.services[0].guest.env, [variable], "{text}");
}
