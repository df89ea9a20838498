//! `wasi:blobstore` for guests that await: the containers of `--blobstore`. The
//! interface is older than WASI 0.3, so an instance waits for each call. The work
//! is done on threads that may block. Work that may take long is bounded in its
//! number, and ends with the instance.

mod containers;
mod streams;
mod values;

use netwasm_base::policy::Denied;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentNamedList, ComponentType, Lift, Linker, LinkerInstance, Lower, ResourceType,
};

use crate::blobs::{Failure, Going};
use crate::concurrent::state::{AsyncState, drop_handle};

/// Version that is linked. Nothing but a draft's own version meets it.
const VERSION: &str = "0.2.0-draft";

/// Most calls at once, of all services, whose work grows with the objects: others
/// wait for them. The threads that may block have other things to do as well.
const MOST_LONG: usize = 16;

static LONG: Semaphore = Semaphore::const_new(MOST_LONG);

/// Work of a call that blocks.
struct Work<A> {
    run: Run<A>,
    /// True if it may take long, as it grows with the objects.
    is_long: bool,
}

type Run<A> = Box<dyn FnOnce(&Going) -> Result<A, Failure> + Send>;

impl<A> Work<A> {
    /// Returns work that is soon done.
    fn short(run: impl FnOnce() -> Result<A, Failure> + Send + 'static) -> Self {
        Self {
            run: Box::new(|_| run()),
            is_long: false,
        }
    }

    /// Returns work that may take long, and looks whether it is wanted.
    fn long(run: impl FnOnce(&Going) -> Result<A, Failure> + Send + 'static) -> Self {
        Self {
            run: Box::new(run),
            is_long: true,
        }
    }
}

impl<A: Send + 'static> Work<A> {
    /// Returns it as work that is soon done, but ends with its instance.
    fn made_short(self) -> Self {
        Self {
            is_long: false,
            ..self
        }
    }

    /// Does the work on a thread that may block. If the future is dropped, the work
    /// ends soon.
    async fn done(self) -> wasmtime::Result<Result<A, Failure>> {
        let Self { run, is_long } = self;
        let place = match is_long {
            true => Some(LONG.acquire().await?),
            false => None,
        };
        let going = Going::default();
        let _wanted = going.wanted();
        let done = spawn_blocking(move || {
            let _place = place;
            run(&going)
        });
        Ok(done.await?)
    }
}

/// Links the three interfaces.
///
/// # Errors
/// Fails if one of them is already linked.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    let name = |interface| format!("wasi:blobstore/{interface}@{VERSION}");
    values::add_to_linker(&mut linker.instance(&name("types"))?)?;
    containers::add_methods(&mut linker.instance(&name("container"))?)?;
    containers::add_to_linker(&mut linker.instance(&name("blobstore"))?)
}

/// Links a function that returns a `result`. `begin` takes what the work needs,
/// and `finish` makes the reply of what it found.
fn define<P, A, R>(
    linker: &mut LinkerInstance<'_, AsyncState>,
    name: &str,
    begin: fn(&mut AsyncState, P) -> wasmtime::Result<Work<A>>,
    finish: fn(&mut AsyncState, A) -> wasmtime::Result<R>,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + Send + Sync + 'static,
    A: Send + 'static,
    R: ComponentType + Lower + Send + Sync + 'static,
{
    linker.func_wrap_async(
        name,
        move |mut store: StoreContextMut<'_, AsyncState>, params: P| {
            Box::new(async move {
                let work = begin(store.data_mut(), params)?;
                let outcome = work.done().await?;
                let state = store.data_mut();
                let told: Result<R, String> = match outcome {
                    Ok(found) => Ok(finish(state, found)?),
                    Err(failure) => Err(told(state, failure)),
                };
                Ok((told,))
            })
        },
    )
}

/// Links a resource. Its drop deletes it.
fn resource<R: Send + 'static>(
    linker: &mut LinkerInstance<'_, AsyncState>,
    name: &str,
) -> wasmtime::Result<()> {
    linker.resource(name, ResourceType::host::<R>(), drop_handle::<R>)
}

/// Returns what the guest is told of a failure. Logs a denial.
fn told(state: &AsyncState, failure: Failure) -> String {
    let denied = match failure {
        Failure::Told(text) => return text,
        Failure::NotAllowed(name) => Denied::container(&name),
        Failure::ReadOnly(name) => Denied::writing(&name),
    };
    state.env().net.deny(&denied);
    "access denied".into()
}

/// Returns the reply of a call that has nothing to tell.
fn done(_: &mut AsyncState, (): ()) -> wasmtime::Result<()> {
    Ok(())
}

/// Returns the reply of a call that tells what was found.
fn found<R>(_: &mut AsyncState, found: R) -> wasmtime::Result<R> {
    Ok(found)
}
