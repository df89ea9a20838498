//! `netwasm run --watch`: builds, runs the component in a child process, and
//! does both again after each change of the sources.
//!
//! A build that fails leaves the running component alone. A restart is SIGTERM
//! with a short time to drain, then the new start: the ports are the same.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::runtime::Builder;
use tokio::time::sleep;

use super::build::{BuildOptions, Project, shown};
use super::building::Building;
use super::sources::Snapshot;
use super::{ProjectError, children, say};
use crate::signals::{Asked, Signals};

/// Interval for looking at the sources and at the child.
const POLL: Duration = Duration::from_millis(200);

/// Interval for looking at a child that is to end.
const ENDING: Duration = Duration::from_millis(20);

/// Time to drain before a restart. The host takes a second signal for one only
/// after a second.
const DRAIN: Duration = Duration::from_millis(1100);

/// Time to end after the second signal, before the child is killed.
const ABORT: Duration = Duration::from_secs(5);

/// Component that is watched and run.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The component's file, the directory of a project, or the folder of a
    /// program in Python.
    pub component: PathBuf,
    /// Components that are composed with it.
    pub plugs: Vec<PathBuf>,
    /// True if it is such a folder, whose program the arguments name.
    pub is_script: bool,
    /// The arguments that follow `netwasm run`, but for `--watch`.
    pub args: Vec<OsString>,
}

/// Runs until a signal ends the run. Returns the exit code of the component's
/// last run.
///
/// # Errors
/// Fails if there is nothing to build or to watch.
pub fn watch(watch: &Watch) -> Result<u8, ProjectError> {
    let project = match watch.component.is_dir() && !watch.is_script {
        true => Some(Project::at(&watch.component)?),
        false => None,
    };
    if project.is_none() && !watch.is_script && !watch.component.is_file() {
        let source = io::ErrorKind::NotFound.into();
        let path = watch.component.clone();
        return Err(ProjectError::Read { path, source });
    }
    let system = |source| ProjectError::Tool {
        tool: "netwasm".into(),
        source,
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(system)?.block_on(async {
        let signals = Signals::catch().map_err(system)?;
        let mut supervisor = Supervisor {
            watch,
            project,
            child: None,
            build: None,
            sources: snapshots(&watch.component, &watch.plugs),
            changing: None,
            running: Vec::new(),
            ended: None,
        };
        supervisor.run(signals).await
    })
}

struct Supervisor<'a> {
    watch: &'a Watch,
    project: Option<Project>,
    child: Option<Child>,
    build: Option<Building>,
    /// The sources of the last build, and the components to compose.
    sources: Vec<Snapshot>,
    /// Sources that have changed since, until they rest.
    changing: Option<Vec<Snapshot>>,
    /// The components that the child runs.
    running: Vec<Snapshot>,
    /// How the last child ended.
    ended: Option<ExitStatus>,
}

impl Supervisor<'_> {
    async fn run(&mut self, mut signals: Signals) -> Result<u8, ProjectError> {
        match &self.project {
            Some(_) => self.begin_build(),
            None => self.restart(&self.watch.component.clone()).await,
        }
        let mut ending = false;
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::End(_) => {
                        ending = true;
                        self.pass_on(Signal::TERM);
                    }
                    Asked::Reload => self.pass_on(Signal::HUP),
                    Asked::Reopen => self.pass_on(Signal::USR1),
                },
                () = sleep(if ending { ENDING } else { POLL }) => {}
            }
            self.look_at_child(ending);
            if ending {
                if let Some(build) = self.build.take() {
                    build.cancel();
                }
                if self.child.is_none() {
                    return Ok(self.code());
                }
                continue;
            }
            self.look_at_sources().await;
            self.look_at_build().await;
        }
    }

    fn pass_on(&self, signal: Signal) {
        if let Some(child) = &self.child {
            children::signal(child, signal);
        }
    }

    /// Notes that the child has ended.
    fn look_at_child(&mut self, ending: bool) {
        let Some(child) = &mut self.child else {
            return;
        };
        // A child whose state is unknown has none.
        if let Ok(None) = child.try_wait() {
            return;
        }
        self.ended = child.wait().ok();
        self.child = None;
        if !ending {
            let how = self.ended.map_or_else(String::new, |it| format!(" ({it})"));
            let what = match self.watch.is_script {
                true => "program",
                false => "component",
            };
            say(&format!("the {what} ended{how}: waiting for a change"));
        }
    }

    /// Begins a build, or a restart, once changed sources rest.
    async fn look_at_sources(&mut self) {
        let now = snapshots(&self.watch.component, &self.watch.plugs);
        if now == self.sources || now.iter().any(Snapshot::is_empty) {
            self.changing = None;
            return;
        }
        if self.changing.as_ref() != Some(&now) {
            self.changing = Some(now);
            return;
        }
        if self.build.is_some() {
            return;
        }
        self.changing = None;
        self.sources = now;
        match &self.project {
            Some(_) => self.begin_build(),
            None => self.restart(&self.watch.component.clone()).await,
        }
    }

    fn begin_build(&mut self) {
        let Some(project) = &self.project else {
            return;
        };
        say(&format!("building {}", shown(&self.watch.component)));
        match project.begin(&BuildOptions::default()) {
            Ok(build) => self.build = Some(build),
            Err(error) => self.not_built(&error),
        }
    }

    async fn look_at_build(&mut self) {
        let Some(built) = self.build.as_mut().and_then(Building::poll) else {
            return;
        };
        self.build = None;
        match built {
            Ok(component) => self.restart(&component).await,
            Err(error) => self.not_built(&error),
        }
    }

    fn not_built(&self, error: &ProjectError) {
        let rest = match &self.child {
            Some(_) => "; the old component goes on",
            None => "; waiting for a change",
        };
        say(&format!("{error}{rest}"));
    }

    /// Ends the child, and starts one with this component.
    async fn restart(&mut self, component: &Path) {
        let now = snapshots(component, &self.watch.plugs);
        if self.child.is_some() && now == self.running {
            say("the component is the same: nothing to restart");
            return;
        }
        if let Some(child) = self.child.take() {
            say("restarting");
            self.ended = end(child).await;
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg0("netwasm").arg("run");
        if !self.watch.is_script {
            command.arg("--built").arg(component);
        }
        command.args(&self.watch.args);
        match children::spawn(&mut command) {
            Ok(child) => {
                self.child = Some(child);
                self.running = now;
            }
            Err(error) => say(&format!("cannot start: {error}; waiting for a change")),
        }
    }

    /// Returns the exit code of the last run.
    fn code(&self) -> u8 {
        let code = self.ended.map_or(Some(0), |ended| ended.code());
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }
}

/// Looks at a component and at those that are composed with it.
fn snapshots(component: &Path, plugs: &[PathBuf]) -> Vec<Snapshot> {
    let plugs = plugs.iter().map(|plug| Snapshot::of(plug));
    std::iter::once(Snapshot::of(component))
        .chain(plugs)
        .collect()
}

/// Ends a child: lets it drain for a moment, then has it abort, then kills it.
async fn end(mut child: Child) -> Option<ExitStatus> {
    for (signal, time) in [(Signal::TERM, DRAIN), (Signal::TERM, ABORT)] {
        children::signal(&child, signal);
        let begun = Instant::now();
        while begun.elapsed() < time {
            match child.try_wait() {
                Ok(None) => sleep(ENDING).await,
                Ok(Some(status)) => return Some(status),
                Err(_) => return None,
            }
        }
    }
    // It may have ended in between.
    let _ = child.kill();
    child.wait().ok()
}
