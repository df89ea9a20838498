mod flags;
mod mistakes;

use std::time::Duration;

use netwasm_base::config::Isolation;

use super::*;

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
        long.starts_with("Runs a component ") && long.contains("[default: 100ms]"),
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
    assert!(long.lines().count() <= 300, "{long}");
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
            registry: _,
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

#[test]
fn a_component_may_be_in_a_registry() {
    let (config, _) =
        run("oci://a.example:5000/team/chat:1.0 --tcp 1 --ca a.pem --registry-ca b.pem");
    let reference = "oci://a.example:5000/team/chat:1.0".to_owned();
    assert_eq!(
        config.component,
        ComponentSource::Registry {
            reference,
            file: None
        }
    );
    assert_eq!(config.guest.name, "chat");
    assert_eq!(config.guest.program, "chat");
    let authorities = ["a.pem", "b.pem"].map(PathBuf::from);
    assert_eq!(config.registry.authorities, authorities);
    let flags = "oci://a/b --tcp 1 --offline --verify-key k.pub --registry-plain-http a:1 \
                 --registry-mirror docker.io=b:2/hub --registry-cache-size 1MB \
                 --registry-timeout 9s";
    assert_eq!(
        run(flags).0.registry,
        RegistryConfig {
            authorities: Vec::new(),
            mirrors: vec![("docker.io".into(), "b:2/hub".into())],
            plain: vec!["a:1".into()],
            cache_size: 1_000_000,
            timeout: Duration::from_secs(9),
            offline: true,
            verify_keys: vec!["k.pub".into()],
        }
    );
    assert_eq!(run("echo --tcp 1").0.registry, RegistryConfig::default());
    for (line, told) in [
        ("run oci://a --tcp 1", "has no name after the registry"),
        ("run oci://a/B --tcp 1", "lower-case"),
        ("run oci://a/b@sha256:1 --tcp 1", "64 hexadecimal"),
        ("pull a", "has no name after the registry"),
        ("pull a/b --registry-mirror a=http://b", "without a scheme"),
        ("push a.wasm a/b --annotation x", "write KEY=VALUE"),
    ] {
        let error = parse_line(line).expect_err(line).to_string();
        assert!(error.contains(told), "{line}: {error}");
    }
    match parse_line("push a.wasm oci://a/b:1 --annotation x=y=z") {
        Ok(Command::Push(push)) => {
            assert_eq!(push.annotations, [("x".into(), "y=z".into())]);
            assert_eq!(push.reference.to_string(), "oci://a/b:1");
        }
        other => panic!("{other:?}"),
    }
}
