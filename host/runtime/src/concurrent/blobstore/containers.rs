//! The interfaces `blobstore` and `container`.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource};

use crate::blobs::{Container, Containers, Failure, Going, Listing};
use crate::concurrent::state::AsyncState;

use super::values::{Incoming, Outgoing};
use super::{Work, define, done, found, resource, told};

/// Most names that one call returns.
const MOST_NAMES: u64 = 1000;

/// `container-metadata`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct ContainerMetadata {
    #[component(name = "name")]
    name: String,
    #[component(name = "created-at")]
    created_at: u64,
}

/// `object-metadata`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct ObjectMetadata {
    #[component(name = "name")]
    name: String,
    #[component(name = "container")]
    container: String,
    #[component(name = "created-at")]
    created_at: u64,
    #[component(name = "size")]
    size: u64,
}

/// `object-id`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct ObjectId {
    #[component(name = "container")]
    container: String,
    #[component(name = "object")]
    object: String,
}

/// The WIT resource `stream-object-names`; `None` while a call reads on, and after
/// one that failed.
struct Names(Option<Listing>);

type Handle = Resource<Container>;
type Linked<'a> = LinkerInstance<'a, AsyncState>;

pub(super) fn add_to_linker(linker: &mut Linked<'_>) -> wasmtime::Result<()> {
    define(
        linker,
        "create-container",
        |state, (name,): (String,)| short(state, move |all| all.create(&name)),
        opened,
    )?;
    define(
        linker,
        "get-container",
        |state, (name,): (String,)| short(state, move |all| all.get(&name)),
        opened,
    )?;
    define(
        linker,
        "delete-container",
        |state, (name,): (String,)| long(state, move |all, going| all.delete(&name, going)),
        done,
    )?;
    define(
        linker,
        "container-exists",
        |state, (name,): (String,)| short(state, move |all| all.exists(&name)),
        found,
    )?;
    define(
        linker,
        "copy-object",
        |state, (from, to): (ObjectId, ObjectId)| {
            long(state, move |all, going| {
                let source = all.get(&from.container)?;
                let target = all.get(&to.container)?;
                target.copy_from(&to.object, &source, &from.object, going)
            })
        },
        done,
    )?;
    define(
        linker,
        "move-object",
        |state, (from, to): (ObjectId, ObjectId)| {
            long(state, move |all, going| {
                let source = all.get(&from.container)?;
                let target = all.get(&to.container)?;
                target.move_from(&to.object, &source, &from.object, going)
            })
        },
        done,
    )
}

pub(super) fn add_methods(linker: &mut Linked<'_>) -> wasmtime::Result<()> {
    resource::<Container>(linker, "container")?;
    resource::<Names>(linker, "stream-object-names")?;
    linker.func_wrap(
        "[method]container.name",
        |store: StoreContextMut<'_, AsyncState>, (container,): (Handle,)| {
            let name = store.data().table.get(&container)?.name().to_owned();
            Ok((Ok(name) as Result<String, String>,))
        },
    )?;
    define(
        linker,
        "[method]container.info",
        |state, (container,): (Handle,)| {
            of(state, &container, |it| {
                it.facts().map(|facts| ContainerMetadata {
                    name: it.name().to_owned(),
                    created_at: facts.created,
                })
            })
        },
        found,
    )?;
    define(
        linker,
        "[method]container.get-data",
        |state, (container, name, start, last): (Handle, String, u64, u64)| {
            of(state, &container, move |it| it.read(&name, start, last))
        },
        |state, range| Ok(state.table.push(Incoming(range))?),
    )?;
    linker.func_wrap(
        "[method]container.write-data",
        |mut store: StoreContextMut<'_, AsyncState>,
         (container, name, value): (Handle, String, Resource<Outgoing>)| {
            let state = store.data_mut();
            let container = state.table.get(&container)?.clone();
            let checked = container.check_target(&name);
            let set = match checked {
                Ok(()) => state.table.get_mut(&value)?.set_target(container, name),
                Err(failure) => Err(told(state, failure)),
            };
            Ok((set,))
        },
    )?;
    define(
        linker,
        "[method]container.list-objects",
        |state, (container,): (Handle,)| {
            long_of(state, &container, Container::list).map(Work::made_short)
        },
        |state, listing| Ok(state.table.push(Names(Some(listing)))?),
    )?;
    define(
        linker,
        "[method]container.delete-object",
        |state, (container, name): (Handle, String)| {
            of(state, &container, move |it| it.delete(&name))
        },
        done,
    )?;
    define(
        linker,
        "[method]container.delete-objects",
        |state, (container, names): (Handle, Vec<String>)| {
            long_of(state, &container, move |it, going| {
                names.iter().try_for_each(|name| {
                    going
                        .check()
                        .map_err(|error| Failure::told("delete", name, error))?;
                    it.delete(name)
                })
            })
        },
        done,
    )?;
    define(
        linker,
        "[method]container.has-object",
        |state, (container, name): (Handle, String)| of(state, &container, move |it| it.has(&name)),
        found,
    )?;
    define(
        linker,
        "[method]container.object-info",
        |state, (container, name): (Handle, String)| {
            of(state, &container, move |it| {
                let facts = it.facts_of(&name)?;
                Ok(ObjectMetadata {
                    name,
                    container: it.name().to_owned(),
                    created_at: facts.created,
                    size: facts.size,
                })
            })
        },
        found,
    )?;
    define(
        linker,
        "[method]container.clear",
        |state, (container,): (Handle,)| long_of(state, &container, Container::clear),
        done,
    )?;
    add_names(linker)
}

/// Links the methods of `stream-object-names`.
fn add_names(linker: &mut Linked<'_>) -> wasmtime::Result<()> {
    define(
        linker,
        "[method]stream-object-names.read-stream-object-names",
        |state, (names, most): (Resource<Names>, u64)| {
            let reading = read_on(state, &names, move |listing, going| {
                let mut read = Vec::new();
                while (read.len() as u64) < most.min(MOST_NAMES) {
                    match listing.next_name(going) {
                        Ok(Some(name)) => read.push(name),
                        // The next call fails.
                        Err(_) if !read.is_empty() => break,
                        Err(failure) => return Err(failure),
                        Ok(None) => break,
                    }
                }
                Ok(read)
            });
            reading.map(Work::made_short)
        },
        |state, (place, listing, read)| Ok((read, put_back(state, place, listing)?)),
    )?;
    define(
        linker,
        "[method]stream-object-names.skip-stream-object-names",
        |state, (names, count): (Resource<Names>, u64)| {
            read_on(state, &names, move |listing, going| {
                let mut skipped = 0;
                while skipped < count {
                    match listing.next_name(going) {
                        Ok(Some(_)) => skipped += 1,
                        // The next call fails.
                        Err(_) if skipped > 0 => break,
                        Err(failure) => return Err(failure),
                        Ok(None) => break,
                    }
                }
                Ok(skipped)
            })
        },
        |state, (place, listing, skipped)| Ok((skipped, put_back(state, place, listing)?)),
    )
}

/// Returns work on the containers.
fn short<A: 'static>(
    state: &mut AsyncState,
    call: impl FnOnce(&Containers) -> Result<A, Failure> + Send + 'static,
) -> wasmtime::Result<Work<A>> {
    let containers = Arc::clone(&state.env().blobs);
    Ok(Work::short(move || call(&containers)))
}

/// Returns work on the containers that may take long.
fn long<A: 'static>(
    state: &mut AsyncState,
    call: impl FnOnce(&Containers, &Going) -> Result<A, Failure> + Send + 'static,
) -> wasmtime::Result<Work<A>> {
    let containers = Arc::clone(&state.env().blobs);
    Ok(Work::long(move |going| call(&containers, going)))
}

/// Returns work on a container.
fn of<A: 'static>(
    state: &mut AsyncState,
    container: &Handle,
    call: impl FnOnce(&Container) -> Result<A, Failure> + Send + 'static,
) -> wasmtime::Result<Work<A>> {
    let container = state.table.get(container)?.clone();
    Ok(Work::short(move || call(&container)))
}

/// Returns work on a container that may take long.
fn long_of<A: 'static>(
    state: &mut AsyncState,
    container: &Handle,
    call: impl FnOnce(&Container, &Going) -> Result<A, Failure> + Send + 'static,
) -> wasmtime::Result<Work<A>> {
    let container = state.table.get(container)?.clone();
    Ok(Work::long(move |going| call(&container, going)))
}

/// Returns work that reads on in a listing, and returns that with its place.
fn read_on<A: 'static>(
    state: &mut AsyncState,
    names: &Resource<Names>,
    call: impl FnOnce(&mut Listing, &Going) -> Result<A, Failure> + Send + 'static,
) -> wasmtime::Result<Work<(u32, Listing, A)>> {
    let listing = state.table.get_mut(names)?.0.take();
    let place = names.rep();
    Ok(Work::long(move |going| {
        let absent = || {
            let reason = "cannot read these names: another call reads them, or one has failed; \
                          list the objects again";
            Failure::Told(reason.into())
        };
        let mut listing = listing.ok_or_else(absent)?;
        let read = call(&mut listing, going)?;
        Ok((place, listing, read))
    }))
}

/// Puts a listing back, and returns true if it is over.
fn put_back(state: &mut AsyncState, place: u32, listing: Listing) -> wasmtime::Result<bool> {
    let is_over = listing.is_over();
    let names = state.table.get_mut(&Resource::<Names>::new_borrow(place))?;
    names.0 = Some(listing);
    Ok(is_over)
}

/// Returns the handle of a container.
fn opened(state: &mut AsyncState, container: Container) -> wasmtime::Result<Handle> {
    let container = container.with_share(state.listing_share());
    Ok(state.table.push(container)?)
}
