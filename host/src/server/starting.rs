//! The parts of a start. Those that take long have a thread of their own.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use netwasm_base::config::{ListenAddress, RunConfig};
use netwasm_base::error::Error;

use crate::admin::{Admin, Audience};
use crate::signals::{Asked, Signals};
use crate::wiring::{Common, Lasting};

use super::origin::Origin;
use super::service::Prepared;
use super::takeover::{self, Handed, Predecessor};
use super::threads::STACK;

/// Pulls what is in registries, and returns the run with the files. Returns
/// `None` if a signal asked for the end meanwhile.
pub(super) fn fetch(
    config: &RunConfig,
    origin: &Arc<Origin>,
    main: &Runtime,
    signals: &mut Signals,
) -> Result<Option<RunConfig>, Error> {
    let (mut run, origin) = (config.clone(), Arc::clone(origin));
    at_start(main, signals, move || {
        (origin.fetch)(&mut run).map_err(Error::Registry)?;
        Ok(run)
    })
}

/// Builds all that the services need. Returns `None` if a signal asked for the
/// end meanwhile.
pub(super) fn prepare(
    config: &RunConfig,
    common: &Arc<Common>,
    main: &Runtime,
    signals: &mut Signals,
) -> Result<Option<Vec<Prepared>>, Error> {
    let services = config.services.clone();
    let common = Arc::clone(common);
    at_start(main, signals, move || {
        let prepared = services
            .iter()
            .map(|service| Prepared::new(service, Lasting::first(&common)));
        prepared.collect()
    })
}

/// Takes the sockets of the run that this one is to replace: `--takeover`.
/// Without such a run, there are none.
pub(super) fn take_over(config: &RunConfig) -> Result<(Option<Predecessor>, Vec<Handed>), Error> {
    let (true, Some(ListenAddress::Unix(socket))) = (config.takeover, &config.admin) else {
        return Ok((None, Vec::new()));
    };
    let Some((predecessor, handed)) = takeover::take(socket)? else {
        tracing::info!("--takeover: no run is there to take over from");
        return Ok((None, Vec::new()));
    };
    Ok((Some(predecessor), handed))
}

/// Binds the admin interface and the probes, unless their sockets were handed over.
pub(super) fn interfaces(config: &RunConfig, mut handed: Vec<Handed>) -> Result<Vec<Admin>, Error> {
    let wanted = [
        (Audience::Owner, &config.admin),
        (Audience::Anybody, &config.probes),
    ];
    let mut interfaces = Vec::new();
    for (audience, address) in wanted {
        let Some(address) = address else { continue };
        let its = handed.extract_if(.., |handed| audience.is_of(handed, address));
        let its: Vec<_> = its.flat_map(|handed| handed.bound).collect();
        interfaces.push(match its.is_empty() {
            true => Admin::bind(audience, address)?,
            false => Admin::adopt(audience, address, its),
        });
    }
    Ok(interfaces)
}

/// Tries to start the guests. Returns `None` if a signal asked for the end
/// meanwhile.
pub(super) fn try_guests(
    prepared: Vec<Prepared>,
    main: &Runtime,
    signals: &mut Signals,
) -> Result<Option<Vec<Prepared>>, Error> {
    at_start(main, signals, move || {
        prepared.iter().try_for_each(Prepared::try_guest)?;
        Ok(prepared)
    })
}

/// Does a part of the start on a thread of its own, because compiling may take
/// minutes, and guests need a large stack. Returns `None` if a signal asked for
/// the end meanwhile.
fn at_start<T: Send + 'static>(
    main: &Runtime,
    signals: &mut Signals,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<Option<T>, Error> {
    let (done, mut made) = oneshot::channel();
    on_thread("start", move || {
        // After a signal, nobody receives it.
        let _ = done.send(work());
    })?;
    main.block_on(async {
        loop {
            tokio::select! {
                biased;
                made = &mut made => {
                    // The panic is already logged.
                    let failed = |_| Error::Engine("the start failed".into());
                    return made.map_err(failed)?.map(Some);
                }
                asked = signals.next() => if let Asked::End(ending) = asked {
                    tracing::info!(signal = ending.name(), "ended before it served");
                    return Ok(None);
                },
            }
        }
    })
}

/// Runs a task on a thread of its own, on which guests may run, too.
pub(super) fn on_thread(name: &str, task: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(task)
        .map(drop)
        .map_err(Error::Thread)
}
