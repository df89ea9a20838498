//! The program: arguments, log, and exit code.
//!
//! Not in `main.rs`, so that a test binary can be the program, too:
//! `netwasm_test::embedded_host!`.

mod components;

use std::ffi::OsString;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::Context;
use netwasm_base::config::{AccessLogTarget, ComponentSource, RunConfig, connections_wanted};
use netwasm_base::line::in_one_line;
use netwasm_base::users::{self, UnknownUser};
use netwasm_base::{Error, descriptors};
use netwasm_http::access_log;
use netwasm_keyvalue::Stores;
use netwasm_net::files::Roots;
use netwasm_net::tls::Tls;
use netwasm_runtime::guests::LoadedComponent;
use netwasm_runtime::{compile, inspect};

use crate::admin;
use crate::changes::Watcher;
use crate::cli::{self, Command, Examined};
use crate::doctor::{self, Examination};
use crate::logging::{self, LogOptions};
use crate::project::{build, new, watch, wit};
use crate::server::{self, Origin, Outcome};

use self::components::{
    build_all, fetch_all, find_component, find_interpreters, is_reference, ready, ready_component,
    ready_plugs, warn_of_no_files,
};

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

/// Runs the program with these arguments, the first of which is its own name,
/// and returns its exit code. Arguments that are wrong, or ask for help, end the
/// process.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    main_of("", args)
}

/// Like [`main`], of a program that is built from this commit, as
/// `netwasm_commit::commit` has it.
pub fn main_of(commit: &str, args: impl IntoIterator<Item = OsString>) -> u8 {
    let command = match cli::parse(commit, args) {
        Ok(command) => command,
        // Help goes to standard output and is a success.
        Err(error) => error.exit(),
    };
    // Catches panics, so that their log lines are still written.
    let ended = catch_unwind(AssertUnwindSafe(|| run(command)));
    netwasm_registry::clean();
    match ended {
        Ok(Ok(code)) => {
            let _ = logging::finish(None);
            code
        }
        Err(_panicked) => {
            let _ = logging::finish(None);
            FAILURE
        }
        Ok(Err(error)) => {
            // Reported like a mistake in the arguments, because it is one.
            if let Some(Error::Config(wrong)) = error.downcast_ref() {
                let _ = logging::finish(None);
                cli::usage(wrong).exit();
            }
            // Fails only if standard error is closed.
            let _ = logging::finish(Some(&format!("netwasm: {}", one_line(&error))));
            FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(mut run, log) => {
            find_interpreters(&run)?;
            find_component(&run)?;
            let watched = match run.watch {
                true => Some((Watcher::new()?, run.clone())),
                false => None,
            };
            if let Some((watcher, run)) = &watched {
                watcher.set(files_of(run), &logs_of(run));
            }
            build_all(&mut run)?;
            serve(&run, log, watched)
        }
        Command::Check { file } => check(&file),
        Command::Doctor(options) => {
            let examined = options.config.as_deref().map(examine);
            let (text, is_right) = doctor::report(&options, examined.as_ref());
            print(&text)?;
            Ok(if is_right { SUCCESS } else { FAILURE })
        }
        Command::Reload { socket } => told(admin::reload(&socket)),
        Command::Ready { admin } => told(admin::ready(&admin)),
        Command::Print(text) => {
            print(&text)?;
            Ok(SUCCESS)
        }
        Command::Write { directory, files } => {
            for (file, text) in files {
                let path = directory.join(file);
                let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
                written
                    .and_then(|()| std::fs::write(&path, text))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(SUCCESS)
        }
        Command::Watch(watched) => Ok(watch::watch(&watched)?),
        Command::Pull(options) => told(components::pull(&options)),
        Command::Push(options) => told(components::push(&options)),
        Command::New {
            directory,
            kind,
            language,
        } => {
            let told = new::create(&directory, kind, language)?;
            print(&format!("{told}\n"))?;
            Ok(SUCCESS)
        }
        Command::Build { directory, options } => {
            let component = build::build(&directory, &options)?;
            print(&format!("{}\n", build::shown(&component)))?;
            Ok(SUCCESS)
        }
        Command::Wit {
            out: None,
            wasi: _,
            language: _,
        } => {
            print(&wit::document())?;
            Ok(SUCCESS)
        }
        Command::Wit {
            out: Some(directory),
            wasi,
            language,
        } => {
            match (wasi, language) {
                (Some(release), _) => wit::write_wasi(&directory, release.as_deref())?,
                (None, Some(language)) => wit::write_for(&directory, language)?,
                (None, None) => wit::write_package(&directory)?,
            }
            Ok(SUCCESS)
        }
        Command::Inspect {
            component,
            mut plugs,
            registry,
            limits,
        } => {
            let component = ready(component, &mut plugs, &registry, &limits)?;
            let report = inspect::inspect(&component, &plugs, &limits)?;
            print(&report.to_string())?;
            match report.problem {
                Some(_) => Ok(FAILURE),
                None => Ok(SUCCESS),
            }
        }
        Command::Compile {
            component,
            mut plugs,
            output,
            registry,
            limits,
        } => {
            let component = ready(component, &mut plugs, &registry, &limits)?;
            let code = compile(&component, &plugs, &limits)?;
            std::fs::write(&output, code)
                .with_context(|| format!("cannot write {}", output.display()))?;
            Ok(SUCCESS)
        }
    }
}

/// Returns the files that a run is made from, and the directories of projects.
fn files_of(run: &RunConfig) -> Vec<PathBuf> {
    let mut files: Vec<_> = run.file.iter().chain(&run.secrets).cloned().collect();
    for service in &run.services {
        if let ComponentSource::File(component) = &service.component {
            files.push(component.clone());
        }
        let plugs = service.plugs.iter().filter(|plug| !is_reference(plug));
        files.extend(plugs.cloned());
        let tls = &service.tls;
        let identities = tls.identities.iter().map(|(_, files)| files);
        for pair in tls.certificates.iter().chain(identities) {
            files.extend([pair.chain.clone(), pair.key.clone()]);
        }
        files.extend(tls.client_ca.clone());
        files.extend(tls.authorities.iter().map(|(_, file)| file.clone()));
    }
    files
}

/// Returns the files that the access logs of a run are.
fn logs_of(run: &RunConfig) -> Vec<PathBuf> {
    let targets = run.services.iter().filter_map(|it| it.access_log.as_ref());
    let files = targets.filter_map(|log| match &log.target {
        AccessLogTarget::File(file) => Some(file.clone()),
        AccessLogTarget::Stdout | AccessLogTarget::Syslog(_) => None,
    });
    files.collect()
}

/// Reads a configuration file and all that it names.
fn examine(file: &Path) -> Examination {
    let Examined {
        run,
        services,
        count,
        mut mistakes,
    } = cli::examine(file);
    let configs = services
        .iter()
        .map(|(_, service)| service.clone())
        .collect();
    let mut faults: Vec<(usize, &[&str], String)> = Vec::new();
    if let Err(error) = run.identity() {
        faults.push((0, &["user", "group"], error.to_string()));
    }
    for (number, mut service) in services {
        let log = service.access_log.as_ref();
        let mut found = vec![
            Tls::load(&service.tls).err(),
            Roots::open(&service.guest.dirs).err(),
            Stores::check(&service.keyvalue)
                .map_err(Error::Keyvalue)
                .err(),
            log.and_then(|log| access_log::check(&log.target).err()),
        ];
        match (ready_component(&mut service), ready_plugs(&mut service)) {
            (Ok(()), Ok(())) => found.push(LoadedComponent::load(&service, count).err()),
            (Err(error), _) => faults.push((number, &["component"], one_line(&error))),
            (_, Err(error)) => faults.push((number, &["plug"], one_line(&error))),
        }
        let found = found.into_iter().flatten();
        faults.extend(found.map(|error| (number, error.keys(&service), error.to_string())));
        let unknown = |error: UnknownUser| error.to_string();
        let owner = service.unix.owner.as_deref().map(users::user);
        let owner = owner.and_then(Result::err).map(unknown);
        faults.extend(owner.map(|error| (number, ["unix-owner"].as_slice(), error)));
        let group = service.unix.group.as_deref().map(users::group);
        let group = group.and_then(Result::err).map(unknown);
        faults.extend(group.map(|error| (number, ["unix-group"].as_slice(), error)));
    }
    if !faults.is_empty() {
        let more = cli::locate(file, &faults);
        mistakes = Some(match mistakes {
            Some(mistakes) => mistakes.and(more),
            None => more,
        });
    }
    Examination {
        services: configs,
        admin: run.admin,
        probes: run.probes,
        count,
        mistakes,
    }
}

/// Says what is wrong with a configuration file, and with what it names.
fn check(file: &Path) -> anyhow::Result<u8> {
    let Examination {
        count, mistakes, ..
    } = examine(file);
    match mistakes {
        None => {
            let services = if count == 1 { "service" } else { "services" };
            print(&format!(
                "{}: {count} {services}, and nothing wrong\n",
                file.display()
            ))?;
            Ok(SUCCESS)
        }
        Some(mistakes) => {
            print(&format!("{mistakes}\n"))?;
            Ok(FAILURE)
        }
    }
}

/// Runs services or commands. Succeeds if all connections ended by themselves
/// and the command reports success.
/// `watched` is what watches the run's files, and the run before its projects
/// were built.
fn serve(
    run: &RunConfig,
    log: LogOptions,
    watched: Option<(Watcher, Box<RunConfig>)>,
) -> anyhow::Result<u8> {
    logging::start(log)?;
    let (watcher, again) = match watched {
        Some((watcher, again)) => (Some(watcher), *again),
        None => (None, run.clone()),
    };
    for service in &run.services {
        if let Some(folder) = &service.guest.folder {
            let guest = &service.guest.name;
            tracing::info!(
                guest,
                "the program may read its folder, {}",
                folder.display()
            );
        }
    }
    warn_of_no_files(run);
    match descriptors::raise_limit() {
        Ok(Some(limit @ ..descriptors::LEAST)) => anyhow::bail!(
            "the limit of open files (ulimit -n) is {limit}: at least {} are needed",
            descriptors::LEAST
        ),
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files to its hard limit");
        }
    }
    let wanted = connections_wanted(&run.services);
    let possible = descriptors::connections(false);
    if wanted > possible && possible < descriptors::MAX_CONNECTIONS {
        tracing::warn!(
            wanted,
            possible,
            "the limit of open files (ulimit -n) allows fewer connections than --max-connections"
        );
    } else if possible < descriptors::FEW {
        tracing::warn!(
            connections = wanted,
            "the limit of open files (ulimit -n) is low: so many connections at once, others wait"
        );
    }
    let watching = watcher.clone();
    let reread = move || {
        let (mut run, log) = match &again.file {
            None => (again.clone(), log),
            Some(file) => {
                let loaded = cli::load(file).map_err(|mistakes| mistakes.in_a_line())?;
                (loaded.run, loaded.log)
            }
        };
        if let Some(watcher) = &watching {
            watcher.set(files_of(&run), &logs_of(&run));
        }
        find_interpreters(&run).map_err(|error| one_line(&error))?;
        let built = build_all(&mut run).and_then(|()| fetch_all(&mut run));
        built.map_err(|error| one_line(&error))?;
        Ok((run, log))
    };
    let locate = |file: &Path, number: usize, keys: &[&str], fault: &str| {
        cli::locate(file, &[(number, keys, fault.to_owned())]).in_a_line()
    };
    let origin = Origin {
        reread: Box::new(reread),
        fetch: Box::new(|run: &mut RunConfig| fetch_all(run).map_err(|error| one_line(&error))),
        locate: Box::new(locate),
    };
    let outcome = server::run(run, log, origin, watcher.as_ref())?;
    Ok(match outcome {
        Outcome {
            drained: true,
            code,
        } => code,
        Outcome { code: 0, .. } => FAILURE,
        Outcome { code, .. } => code,
    })
}

/// Prints what a run has told, or fails with its reason.
fn told(answer: Result<String, String>) -> anyhow::Result<u8> {
    match answer {
        Ok(text) => {
            print(&text)?;
            Ok(SUCCESS)
        }
        Err(reason) => anyhow::bail!(reason),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `netwasm inspect FILE | head -1` closes the pipe early.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Joins an error and its causes in one line. Leaves out a cause if the error
/// before it already ends with its text.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    in_one_line(&text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netwasm_test::Component;

    netwasm_test::embedded_host!(super::main);

    #[test]
    fn a_test_binary_can_be_the_host_of_its_tests() {
        let scratch = tempfile::tempdir().expect("a directory");
        let component = Component::built_in("echo")
            .host(embedded_host())
            .host_env("XDG_CACHE_HOME", scratch.path())
            .time_limit(Duration::from_secs(150));
        let server = component.clone().tcp().arg("two words").start();
        let mut client = server.connect_tcp();
        client.send("hello");
        client.expect("hello");
        client.finish();
        client.expect_end();
        server.log().expect_none("running 1 test");
        assert_eq!(server.stop().accepted, 1);

        // A failure is the host's own, not one of a test.
        let fault = std::panic::catch_unwind(|| component.tcp().flag("--no-such").start());
        let message = fault.expect_err("no such flag").downcast::<String>();
        let message = message.expect("a message");
        assert!(message.contains("exit status: 2"), "{message}");
        assert!(message.contains("--no-such"), "{message}");
    }
}
