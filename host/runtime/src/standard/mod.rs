//! Standard interfaces beyond those of a `wasi:cli` world, for guests of all
//! kinds: `wasi:logging`, `wasi:config`, `wasi:keyvalue`, `wasi:otel`,
//! `wasi:clocks/timezone`.
//!
//! Most are drafts, and a draft's version is met by nothing but itself. Versions
//! that differ in their name alone are linked with the same functions. Each
//! function is written once, for both engines: see [`Guest`]. They are linked by
//! hand, as generated code could not share a function among versions and engines.

mod awaiting;
mod config;
mod events;
mod keyvalue;
mod logging;
pub(crate) mod no_tls;
mod otel;
pub(crate) mod spin;
mod timezone;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use netwasm_base::trace::Trace;
use netwasm_keyvalue::{Answer, Buckets};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Component, ComponentNamedList, Lift, Linker, LinkerInstance, Lower, Resource, ResourceTable,
};

use crate::local::{Env, Local};

/// Store data of either engine.
pub(crate) trait Guest: Sized + 'static {
    /// True if a function may wait. A handler of events cannot.
    const WAITS: bool;

    /// Returns the state that the instances of a thread share.
    fn local(&self) -> &Local;

    /// Returns the state that all instances share.
    fn env(&self) -> &Arc<Env> {
        &self.local().env
    }

    /// Returns the worker's buckets.
    fn buckets(&self) -> &Buckets {
        &self.local().buckets
    }

    /// Returns the span of the request that the present call handles, if requests
    /// are traced.
    fn trace(store: &mut StoreContextMut<'_, Self>) -> Option<Rc<Trace>>;

    /// Returns the resources of the instance.
    fn table(&mut self) -> &mut ResourceTable;

    /// Waits for an answer here if functions may not wait.
    ///
    /// # Errors
    /// Fails, which traps, if the event takes longer than it may, with all that it
    /// has waited for and computed.
    fn settle<A>(&mut self, answer: Answer<A>) -> wasmtime::Result<Answer<A>>;

    /// Links a function.
    ///
    /// # Errors
    /// Fails if the name is linked already.
    fn define<P, R>(
        linker: &mut LinkerInstance<'_, Self>,
        name: &str,
        call: Call<Self, P, R>,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Send + Sync + 'static,
        R: ComponentNamedList + Lower + Send + Sync + 'static;
}

/// A host function.
pub(crate) type Call<T, P, R> = fn(&mut T, P) -> wasmtime::Result<Reply<T, R>>;

/// The reply of a host function.
pub(crate) enum Reply<T, R> {
    /// It is there.
    Now(R),
    /// It comes later.
    Later(Pin<Box<dyn Future<Output = Finish<T, R>> + Send>>),
}

/// Makes a reply of an answer that has come.
pub(crate) type Finish<T, R> = Box<dyn FnOnce(&mut T) -> wasmtime::Result<R> + Send>;

/// Returns the reply that is made of an answer.
fn reply<T: Guest, A: Send + 'static, R: 'static>(
    state: &mut T,
    answer: Answer<A>,
    make: impl FnOnce(&mut T, Result<A, netwasm_keyvalue::Error>) -> wasmtime::Result<R>
    + Send
    + 'static,
) -> wasmtime::Result<Reply<T, R>> {
    match state.settle(answer)? {
        Answer::Now(outcome) => Ok(Reply::Now(make(state, outcome)?)),
        Answer::Later(later) => Ok(Reply::Later(Box::pin(async move {
            let outcome = later.await;
            let finish: Finish<T, R> = Box::new(move |state| make(state, outcome));
            finish
        }))),
    }
}

/// Links all of them.
///
/// # Errors
/// Fails if one of them is already linked.
pub(crate) fn add_to_linker<T: Guest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    logging::add_to_linker(linker)?;
    config::add_to_linker(linker)?;
    keyvalue::add_to_linker(linker)?;
    otel::add_to_linker(linker)?;
    spin::add_to_linker(linker)?;
    timezone::add_to_linker(linker)
}

/// Links functions in the form that a component imports, where a version has
/// several.
///
/// # Errors
/// Fails if nothing has been linked yet.
pub(crate) fn suit<T: Guest>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<()> {
    keyvalue::suit(linker, component)
}

/// Drops a guest's handle.
fn drop_handle<T: Guest, R: Send + 'static>(
    mut store: StoreContextMut<'_, T>,
    handle: u32,
) -> wasmtime::Result<()> {
    let table = store.data_mut().table();
    table.delete(Resource::<R>::new_own(handle))?;
    Ok(())
}
