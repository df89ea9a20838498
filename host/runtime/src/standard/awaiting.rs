//! The standard interfaces for async guests, whose functions may wait. While one
//! does, its instance does nothing else: the interfaces are older than WASI 0.3.

use std::rc::Rc;

use netwasm_base::trace::Trace;
use netwasm_keyvalue::Answer;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentNamedList, Lift, LinkerInstance, Lower, ResourceTable};

use super::{Call, Guest, Reply};
use crate::concurrent::state::AsyncState;
use crate::local::Local;

impl Guest for AsyncState {
    const WAITS: bool = true;

    fn local(&self) -> &Local {
        &self.local
    }

    fn trace(store: &mut StoreContextMut<'_, Self>) -> Option<Rc<Trace>> {
        Self::trace(store)
    }

    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    fn settle<A>(&mut self, answer: Answer<A>) -> wasmtime::Result<Answer<A>> {
        Ok(answer)
    }

    fn define<P, R>(
        linker: &mut LinkerInstance<'_, Self>,
        name: &str,
        call: Call<Self, P, R>,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Send + Sync + 'static,
        R: ComponentNamedList + Lower + Send + Sync + 'static,
    {
        linker.func_wrap_async(
            name,
            move |mut store: StoreContextMut<'_, Self>, params: P| {
                Box::new(async move {
                    match call(store.data_mut(), params)? {
                        Reply::Now(reply) => Ok(reply),
                        Reply::Later(later) => {
                            let finish = later.await;
                            finish(store.data_mut())
                        }
                    }
                })
            },
        )
    }
}
