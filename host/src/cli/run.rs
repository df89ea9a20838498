//! The flags of `netwasm run` as a whole, and the settings that they mean.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;

use netwasm_base::config::{
    ComponentSource, Config, DnsConfig, GuestConfig, HttpLimits, Limits, ListenAddress, OtlpConfig,
    RunConfig, check_admin, check_probes,
};
use netwasm_base::policy::Policy;

use crate::logging::{LogOptions, Verbosity};
use crate::project::watch::Watch;

use super::flags::{
    Compiling, Guest, Http, LimitFlags, Listeners, LogFlags, Operating, Reach, Tls,
};
use super::python::Python;
use super::registry::RegistryFlags;
use super::topics::TopicFlags;
use super::values::Variable;
use super::websocket::WebSocketFlags;
use super::{Command, component_source, file_name, guest_name, usage};

#[derive(Args, Debug)]
pub(super) struct RunFlags {
    /// The component: a file, a project's directory, a built-in one (echo), oci://HOST/NAME:TAG, or
    /// SCRIPT.py
    #[arg(required_unless_present_any = ["module", "config"])]
    pub(super) component: Option<PathBuf>,

    /// Take all settings from a file, which has these flags as keys
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Print this command line as a configuration file, and exit
    #[arg(long, hide_short_help = true)]
    pub(super) print_config: bool,

    /// Reload, or restart a program, whenever one of its files changes
    #[arg(long)]
    pub(super) watch: bool,

    /// Take the listening sockets of the run at --admin unix:PATH, which then drains
    #[arg(long, hide_short_help = true)]
    pub(super) takeover: bool,

    /// The file that the component was built to: --watch adds this
    #[arg(long, value_name = "FILE", hide = true)]
    built: Option<PathBuf>,

    /// Arguments of the guest
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,

    #[command(flatten)]
    listeners: Listeners,
    #[command(flatten)]
    http: Http,
    #[command(flatten)]
    websocket: WebSocketFlags,
    #[command(flatten)]
    topics: TopicFlags,
    #[command(flatten)]
    tls: Tls,
    #[command(flatten)]
    guest: Guest,
    #[command(flatten)]
    python: Python,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    compiling: Compiling,
    #[command(flatten)]
    log: LogFlags,
    #[command(flatten)]
    operating: Operating,
    #[command(flatten)]
    registry: RegistryFlags,
}

impl RunFlags {
    /// Returns the settings of a service, and those of the process.
    pub(super) fn into_config(self) -> Result<(Config, OfProcess), clap::Error> {
        let otlp = self.operating.otlp().map_err(|error| usage(&error))?;
        let script = self.python.script(self.component.as_deref())?;
        let component = match &script {
            Some(_) => self.python.interpreter()?,
            // One of them is given: the parser has checked that.
            None => self.built.or(self.component).unwrap_or_default(),
        };
        let compiling = match &script {
            Some(_) => self.compiling.of_interpreter(),
            None => self.compiling,
        };
        let connects = !self.reach.allow_connect.is_empty() || !self.reach.upstream.is_empty();
        let tls = self.tls.into_files()?;
        let mut config = Config {
            registry: self.registry.into_config(&tls.extra_roots),
            component: match &script {
                Some(_) => ComponentSource::File(component.clone()),
                None => component_source(&component)?,
            },
            plugs: self.guest.plugs.plug,
            blobstore: self.guest.blobstore,
            trust_compiled: self.guest.allow_compiled,
            cache: !self.guest.no_cache,
            redirect_port: self.listeners.http_redirect_port,
            unix: self.listeners.unix_rights(),
            listeners: self.listeners.into_configs(),
            routes: self.http.route.clone(),
            sites: Vec::new(),
            clients: self.operating.clients(),
            proxies: self.operating.proxy_protocol_from,
            hosted: Vec::new(),
            tls,
            isolation: self.guest.isolation,
            workers: self
                .guest
                .workers
                .or_else(|| thread::available_parallelism().ok())
                .unwrap_or(NonZeroUsize::MIN),
            limits: Limits {
                http: HttpLimits {
                    events: self.topics.limits(),
                    websocket: self.websocket.into_limits(),
                    ..self.http.limits()
                },
                ..self.limits.into_limits(&compiling, connects)
            },
            access_log: self.http.access_log(),
            guest: GuestConfig {
                name: guest_name(&component),
                program: file_name(&component),
                args: self.args,
                env: self
                    .guest
                    .env
                    .into_iter()
                    .filter_map(|Variable(pair)| pair)
                    .collect(),
                // Of two with one name, the last.
                config: self
                    .guest
                    .config_var
                    .into_iter()
                    .filter_map(|Variable(pair)| pair)
                    .collect(),
                dirs: self.guest.dir,
                folder: None,
            },
            policy: Policy {
                connect: self.reach.allow_connect,
                udp: self.reach.allow_udp,
                resolve: self.reach.allow_resolve,
                listen: self.reach.allow_listen,
            },
            keyvalue: self.guest.keyvalue,
            topics: self.topics.server,
            upstreams: self.reach.upstream,
            dns: DnsConfig {
                servers: self.reach.dns_server,
                timeout: self.reach.dns_timeout,
            },
        };
        if let Some(script) = &script {
            config.guest = self.python.guest(script, config.guest)?;
        }
        config.check().map_err(|error| usage(&error))?;
        let (user, group) = (self.operating.user, self.operating.group);
        let admin = self.operating.admin;
        if let Some(admin) = &admin {
            check_admin(admin).map_err(|error| usage(&error))?;
        }
        let probes = self.operating.probes;
        if let Some(probes) = &probes {
            check_probes(probes).map_err(|error| usage(&error))?;
        }
        let log = LogOptions {
            format: self.log.log_format,
            verbosity: match self.log.quiet {
                true => Verbosity::Quiet,
                false => self.log.verbose.into(),
            },
            rate: self.log.log_rate.get(),
        };
        let process = OfProcess {
            log,
            admin,
            probes,
            shutdown_delay: self.operating.shutdown_delay.0,
            otlp,
            user,
            group,
        };
        Ok((config, process))
    }
}

/// Returns the command for a run that is watched: a program, which cannot be
/// reloaded, is run as a child.
pub(super) fn watched(
    run: Box<RunConfig>,
    log: LogOptions,
    component: PathBuf,
    args: &[OsString],
) -> Result<Command, clap::Error> {
    let (None, Some(service)) = (&run.file, run.services.first()) else {
        return Ok(Command::Run(run, log));
    };
    if matches!(service.component, ComponentSource::Registry { .. }) {
        return Err(usage(
            &"--watch is for a file or a project's directory: SIGHUP and `netwasm reload` pull a \
              component of a registry again",
        ));
    }
    if matches!(service.component, ComponentSource::BuiltIn { .. }) {
        return Err(usage(
            &"--watch is for a file or a project's directory: a built-in component does not change",
        ));
    }
    let folder = &service.guest.folder;
    if folder.is_none() && !service.listeners.is_empty() {
        return Ok(Command::Run(run, log));
    }
    let mut own = true;
    let passed_on = args.iter().skip(2).filter(|arg| {
        own &= *arg != "--";
        !own || *arg != "--watch"
    });
    Ok(Command::Watch(Watch {
        component: folder.clone().unwrap_or(component),
        plugs: service.plugs.clone(),
        is_script: folder.is_some(),
        args: passed_on.cloned().collect(),
    }))
}

/// Settings of the process.
#[derive(Clone, Debug, Default)]
pub(super) struct OfProcess {
    log: LogOptions,
    /// Address of the admin interface.
    admin: Option<ListenAddress>,
    /// Address of the probes.
    probes: Option<ListenAddress>,
    /// Time to serve on after a signal.
    shutdown_delay: Option<Duration>,
    /// Receiver of traces.
    otlp: Option<OtlpConfig>,
    /// User to go on as.
    user: Option<String>,
    /// Group to go on as.
    group: Option<String>,
}

impl OfProcess {
    /// Gives a run its settings, and returns how the log is written.
    pub(super) fn set(self, run: &mut RunConfig) -> LogOptions {
        let Self {
            log,
            admin,
            probes,
            shutdown_delay,
            otlp,
            user,
            group,
        } = self;
        run.admin = admin;
        run.probes = probes;
        run.shutdown_delay = shutdown_delay;
        run.otlp = otlp;
        run.user = user;
        run.group = group;
        log
    }
}
