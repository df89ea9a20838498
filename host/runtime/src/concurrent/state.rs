//! The host's state of one async instance.
//!
//! wasmtime needs store data that may go to another thread. An instance never
//! does, and a worker's objects must not: [`SendWrapper`] promises the one and
//! checks the other.

use std::rc::Rc;
use std::sync::Arc;

use send_wrapper::SendWrapper;
use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};
use wasmtime_wasi_tls::WasiTlsCtx;

use netwasm_base::config::Isolation;
use netwasm_base::trace::Trace;
use netwasm_net::health::Health;
use netwasm_net::tls::engine::{Configs, Held};

use crate::blobs::ListingShare;
use crate::concurrent::bucket_calls::BucketCalls;
use crate::concurrent::permissions::Permissions;
use crate::concurrent::sending::Http;
use crate::concurrent::sockets::Sockets;
use crate::local::{Env, Local};
use crate::measures::Measures;
use crate::memory::MemoryLimit;
use crate::steps::Computed;
use crate::wasi::WasiContext;

/// Store access of a host function for async guests.
pub(crate) type Store<'a> = StoreContextMut<'a, AsyncState>;

/// The data of an instance's store.
pub(crate) struct AsyncState {
    pub(crate) local: SendWrapper<Rc<Local>>,
    pub(crate) health: SendWrapper<Rc<Health>>,
    pub(crate) memory: MemoryLimit,
    pub(crate) measures: Measures,
    pub(crate) permissions: Arc<Permissions>,
    /// Turn of the instance in which it was last interrupted.
    pub(crate) turn: u64,
    /// Time that the instance has computed for in that turn.
    pub(crate) computed: Computed,
    /// Made when first used: a handler of streams may never need it.
    context: Option<Box<WasiContext>>,
    pub(crate) http: Http,
    /// Made when first used, like the context.
    sockets: Option<Box<SendWrapper<Sockets>>>,
    /// `wasi:tls`, made when first used.
    wasi_tls: Option<Box<WasiTlsCtx>>,
    /// Configurations of the TLS sessions that it moves by itself.
    pub(crate) tls_configs: Configs,
    /// Bytes that these sessions hold.
    pub(crate) tls_held: SendWrapper<Held>,
    /// Made when first used.
    bucket_calls: Option<Arc<BucketCalls>>,
    /// Made when first used.
    listing_share: Option<ListingShare>,
    pub(crate) table: ResourceTable,
}

impl AsyncState {
    pub(crate) fn new(local: &Rc<Local>, health: &Rc<Health>) -> Self {
        let env = &local.env;
        let mut table = ResourceTable::new();
        table.set_max_capacity(most_resources(env));
        let permissions = Arc::new(Permissions::new(&env.net));
        Self {
            local: SendWrapper::new(Rc::clone(local)),
            health: SendWrapper::new(Rc::clone(health)),
            memory: MemoryLimit::new(env),
            measures: Measures::new(env),
            turn: 0,
            computed: Computed::default(),
            context: None,
            http: Http::new(local, health, &permissions),
            permissions,
            sockets: None,
            wasi_tls: None,
            tls_configs: Configs::default(),
            tls_held: SendWrapper::new(Held::default()),
            bucket_calls: None,
            listing_share: None,
            table,
        }
    }

    /// Returns the sockets of a program that brings its own event loop.
    pub(crate) fn sockets(&mut self) -> &mut Sockets {
        let Self {
            local,
            health,
            permissions,
            sockets,
            ..
        } = self;
        sockets.get_or_insert_with(|| {
            let most = most_resources(&local.env);
            Box::new(SendWrapper::new(Sockets::new(
                local,
                permissions,
                health,
                most,
            )))
        })
    }

    /// Returns these sockets, if there are any.
    pub(crate) fn opened_sockets(&self) -> Option<&Sockets> {
        self.sockets.as_ref().map(|sockets| &***sockets)
    }

    /// Returns the context of `wasi:tls`, and the resources.
    pub(super) fn tls_parts(
        &mut self,
        make: impl FnOnce(&Rc<Local>) -> WasiTlsCtx,
    ) -> (&mut WasiTlsCtx, &mut ResourceTable) {
        let Self {
            local,
            wasi_tls,
            table,
            ..
        } = self;
        let context = wasi_tls.get_or_insert_with(|| Box::new(make(local)));
        (context, table)
    }

    /// Returns the bounds of calls of buckets that do not keep the instance from
    /// making others.
    pub(super) fn bucket_calls(&mut self) -> &Arc<BucketCalls> {
        self.bucket_calls.get_or_insert_default()
    }

    /// Returns the directories that listings of objects may have open.
    pub(super) fn listing_share(&mut self) -> &ListingShare {
        self.listing_share.get_or_insert_default()
    }

    pub(crate) fn env(&self) -> &Arc<Env> {
        &self.local.env
    }

    /// Returns the span of the request that the present call handles, if requests
    /// are traced.
    pub(crate) fn trace(store: &mut Store<'_>) -> Option<Rc<Trace>> {
        if !store.data().http.hooks.traces() {
            return None;
        }
        let stack = store.async_call_stack().ok();
        let call = stack.and_then(Iterator::last);
        store.data().http.hooks.trace(call)
    }

    /// Returns the message and the place of the panic that the guest told last.
    pub(crate) fn panic(&self) -> Option<String> {
        self.context.as_ref()?.panic()
    }
}

/// Returns how many host objects an instance may have: `--max-handles`, and its
/// connections besides.
pub(crate) fn most_resources(env: &Env) -> usize {
    let limits = &env.net.limits;
    let alone = env.isolation != Isolation::Worker && !env.is_program;
    let connections = if alone { 1 } else { limits.max_connections };
    limits.max_handles.saturating_add(connections)
}

impl WasiView for AsyncState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self {
            local,
            permissions,
            context,
            table,
            ..
        } = self;
        let env = &local.env;
        let context = context.get_or_insert_with(|| {
            let stdio = env.is_program;
            Box::new(env.wasi.concurrent_context(stdio, permissions))
        });
        WasiCtxView {
            ctx: &mut context.context,
            table,
        }
    }
}

impl WasiHttpView for AsyncState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.http.hooks,
            table: &mut self.table,
            ctx: &mut self.http.context,
        }
    }
}

/// Drops a guest's handle.
pub(super) fn drop_handle<R: Send + 'static>(
    mut store: Store<'_>,
    handle: u32,
) -> wasmtime::Result<()> {
    let table = &mut store.data_mut().table;
    table.delete(Resource::<R>::new_own(handle))?;
    Ok(())
}
