//! The work of a reload before anything begins, on a thread of its own: reads the
//! settings again, and prepares what has changed.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::config::{Config, ListenAddress, OtlpConfig, RunConfig, TlsFiles};
use netwasm_base::error::Error;
use netwasm_net::tls::Renewed;

use crate::logging::LogOptions;
use crate::server::Origin;
use crate::server::service::{Current, Prepared};
use crate::wiring::{Common, Lasting};

use super::{Kept, Next, Refused, Reload};

/// The settings of a process that no reload changes.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    /// `None` if no service is left.
    pub(super) workers: Option<NonZeroUsize>,
    pub(super) admin: Option<ListenAddress>,
    pub(super) probes: Option<ListenAddress>,
    pub(super) shutdown_delay: Option<Duration>,
    pub(super) otlp: Option<OtlpConfig>,
    /// User and group.
    pub(super) user: [Option<String>; 2],
    pub(super) log: LogOptions,
}

/// The work of a reload, before anything begins.
pub(super) struct Work {
    pub(super) origin: Arc<Origin>,
    pub(super) current: Vec<Current>,
    /// Settings of programs that have ended.
    pub(super) ended: Vec<Config>,
    pub(super) common: Arc<Common>,
    pub(super) fixed: Fixed,
    /// Settings that are not taken.
    pub(super) warnings: RefCell<Vec<String>>,
}

impl Work {
    /// Reads the settings again, and prepares what has changed.
    ///
    /// # Errors
    /// Fails with a line that says what is wrong.
    pub(super) fn prepare(&self) -> Result<Reload, Refused> {
        let (mut run, log) = match (self.origin.reread)() {
            Ok(read) => read,
            Err(reason) => {
                // Certificates do not depend on what is wrong.
                let renewed = self.current.iter().filter_map(|before| {
                    let renewed = renewed(before, &before.config).ok().flatten()?;
                    Some((before.generation, renewed))
                });
                return Err(Refused {
                    renewed: renewed.collect(),
                    ..Refused::from(reason)
                });
            }
        };
        self.keep_listeners(&mut run)?;
        self.keep_fixed(&mut run, log);
        self.common.fit(&run.services);
        let mut services = Vec::new();
        let mut problem = None;
        for (number, config) in run.services.iter().enumerate() {
            match self.next(config) {
                Ok(next) => {
                    let next = next.map(|next| (self.rank(config), next));
                    services.extend(next);
                }
                Err(fault) => {
                    let (keys, reason) = (fault.keys(config), fault.to_string());
                    let refused = Refused {
                        reason: self.origin.locate(&run, number, keys, &reason),
                        ..Refused::from(fault)
                    };
                    problem = Some(refused);
                    break;
                }
            }
        }
        if let Some(mut refused) = problem {
            // With the generations that it has prepared.
            drop(services);
            for config in &run.services {
                if let Some(before) = self.before(config)
                    && before.config == *config
                    && let Some(renewed) = renewed(before, config)?
                {
                    refused.renewed.push((before.generation, renewed));
                }
            }
            return Err(refused);
        }
        // Before those on whose listeners they answer come these.
        services.sort_by_key(|(rank, _)| *rank);
        Ok(Reload {
            run,
            services: services.into_iter().map(|(_, next)| next).collect(),
            warnings: self.warnings.take(),
        })
    }

    /// Logs a warning, which whoever asked for the reload gets, too.
    fn warn(&self, warning: String) {
        tracing::warn!("{warning}");
        self.warnings.borrow_mut().push(warning);
    }

    /// Lets services that have listeners keep them, wherever the settings now have
    /// others that share them.
    fn keep_listeners(&self, run: &mut RunConfig) -> Result<(), Refused> {
        let present = self.current.iter().map(|it| &*it.config.guest.name);
        let present: Vec<_> = present.collect();
        run.join_after(&present).map_err(|(number, error)| {
            let reason = error.to_string();
            Refused::from(self.origin.locate(run, number, &[], &reason))
        })
    }

    /// Returns the place of a service among those that run; new ones come after.
    fn rank(&self, config: &Config) -> usize {
        let mut current = self.current.iter();
        let place = current.position(|it| it.config.guest.name == config.guest.name);
        place.unwrap_or(self.current.len())
    }

    /// Keeps the settings that only a restart changes, and says so.
    fn keep_fixed(&self, run: &mut RunConfig, log: LogOptions) {
        let Fixed {
            workers,
            admin,
            probes,
            shutdown_delay,
            otlp,
            user,
            log: present,
        } = self.fixed.clone();
        let stays = |what: &str| {
            self.warn(format!(
                "another {what} needs a restart: the present one stays"
            ));
        };
        if let Some(workers) = workers {
            if run.workers != workers {
                stays(&format!(
                    "number of --workers, {} instead of {workers},",
                    run.workers
                ));
            }
            run.workers = workers;
            for service in &mut run.services {
                service.workers = run.workers;
            }
        }
        if run.admin != admin {
            stays("--admin");
        }
        if run.probes != probes {
            stays("--probes");
        }
        if run.shutdown_delay != shutdown_delay {
            stays("--shutdown-delay");
        }
        let without_headers = |otlp: &Option<OtlpConfig>| {
            let plain = |it: OtlpConfig| OtlpConfig {
                headers: Vec::new(),
                ..it
            };
            otlp.clone().map(plain)
        };
        if without_headers(&run.otlp) != without_headers(&otlp) {
            stays("--otlp or --otlp-sample");
            run.otlp = otlp;
        }
        if [run.user.take(), run.group.take()] != user {
            stays("--user or --group");
        }
        if log.format != present.format {
            stays("--log-format");
        }
        if log.rate != present.rate {
            stays("--log-rate");
        }
        if log.verbosity != present.verbosity {
            stays("--verbose");
        }
    }

    fn before(&self, config: &Config) -> Option<&Current> {
        let name = &config.guest.name;
        self.current.iter().find(|it| it.config.guest.name == *name)
    }

    /// Returns what becomes of a service, if these have changed; `None` if it
    /// has ended.
    fn next(&self, config: &Config) -> Result<Option<Next>, Error> {
        let name = &config.guest.name;
        // Without listeners, it is a program.
        let is_program = |config: &Config| config.listeners.is_empty();
        let before = self.before(config);
        let mut ended = self.ended.iter();
        if before.is_none()
            && is_program(config)
            && let Some(ended) = ended.find(|it| it.guest.name == *name)
        {
            if ended != config {
                self.warn(format!(
                    "{name} is a program that has ended: a restart runs it again"
                ));
            }
            return Ok(None);
        }
        if let Some(before) = before {
            let kept = |config: &Config, stamp, renewed| {
                Ok(Some(Next::Kept(Box::new(Kept {
                    name: name.clone(),
                    generation: before.generation,
                    stamp,
                    renewed,
                    config: config.clone(),
                }))))
            };
            let is_same = goes_on(&before.config, config);
            if is_program(&before.config) && is_program(config) {
                // Two of it at once is what no program expects.
                if !is_same || !matches!(before.same_component(), Ok(Some(_))) {
                    self.warn(format!(
                        "{name} is a program that runs: what has changed needs a restart"
                    ));
                    return kept(&before.config, None, None);
                }
            }
            if is_same && let Some(stamp) = before.same_component()? {
                return kept(config, stamp, renewed(before, config)?);
            }
        }
        let lasting = match before {
            Some(before) => before.run.lasting.clone(),
            None => Lasting::first(&self.common),
        };
        let prepared = Prepared::new(config, lasting)?;
        prepared.try_guest()?;
        Ok(Some(Next::New(Box::new(prepared))))
    }
}

/// True if a service goes on with these settings: they differ at most in the
/// others on its listeners.
fn goes_on(before: &Config, next: &Config) -> bool {
    let own = |config: &Config| {
        let mut config = config.clone();
        config.tls.shared.clear();
        let sites = config.sites.iter_mut();
        sites.for_each(|site| site.others.clear());
        config
    };
    before == next || own(before) == own(next)
}

/// Reads the certificates of a service that stays; `None` if it has none.
fn renewed(before: &Current, config: &Config) -> Result<Option<Renewed>, Error> {
    if config.tls == TlsFiles::default() {
        return Ok(None);
    }
    let renewed = before.run.net.tls.read_again(&config.tls);
    let renewed = renewed.map_err(|error| {
        Error::Tls(format!(
            "{error} (the old certificates and authorities stay)"
        ))
    })?;
    Ok(Some(renewed))
}
