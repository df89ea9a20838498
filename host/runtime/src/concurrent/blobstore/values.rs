//! The interface `types`: the values that objects are read as and written from.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use crate::blobs::{Container, Containers, Failure, Going, Range, copy};
use crate::concurrent::state::AsyncState;

use super::streams::{Reading, Writing};
use super::{Work, define, done, found, resource};

/// Most bytes of a value that are kept in memory, before it goes to a file.
const IN_MEMORY: usize = 16 << 10;

/// The WIT resource `incoming-value`.
pub(super) struct Incoming(pub(super) Range);

/// The WIT resource `outgoing-value`.
pub(super) struct Outgoing {
    content: Content,
    /// True if its stream was made.
    is_taken: bool,
    target: Option<(Container, String)>,
}

impl Outgoing {
    /// Says which object the value becomes.
    ///
    /// # Errors
    /// Fails if that was said before.
    pub(super) fn set_target(&mut self, container: Container, name: String) -> Result<(), String> {
        match self.target.replace((container, name)) {
            None => Ok(()),
            Some(before) => {
                self.target = Some(before);
                Err("the value is written to another object: make a value for each".into())
            }
        }
    }
}

/// Bytes written of a value. Clones share it.
#[derive(Clone)]
pub(super) struct Content(Arc<Mutex<Written>>);

struct Written {
    containers: Arc<Containers>,
    memory: Vec<u8>,
    /// Has all of it, once that is too much for the memory.
    file: Option<File>,
    /// Reason why a part is missing.
    failed: Option<String>,
}

impl Content {
    fn new(containers: &Arc<Containers>) -> Self {
        Self(Arc::new(Mutex::new(Written {
            containers: Arc::clone(containers),
            memory: Vec::new(),
            file: None,
            failed: None,
        })))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes if memory has room for them; otherwise returns false.
    pub(super) fn keep(&self, bytes: &[u8]) -> bool {
        let mut written = self.written();
        let fits = written.file.is_none() && written.memory.len() + bytes.len() <= IN_MEMORY;
        if fits {
            written.memory.extend(bytes);
        }
        fits
    }

    /// Adds bytes to a file. Blocks.
    ///
    /// # Errors
    /// Fails as write(2) does; the value is then of no use.
    pub(super) fn add(&self, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let added = written.add(bytes);
        if let Err(error) = &added {
            written.failed = Some(error.to_string());
        }
        added
    }

    /// Writes all to an object's file. Blocks.
    fn copy_to(&self, target: &mut File, going: &Going) -> io::Result<()> {
        let mut written = self.written();
        if let Some(reason) = &written.failed {
            return Err(io::Error::other(format!(
                "a part of it is missing: {reason}"
            )));
        }
        match &mut written.file {
            None => target.write_all(&written.memory),
            Some(file) => {
                file.rewind()?;
                copy(file, target, going)
            }
        }
    }
}

impl Written {
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut file = self.containers.unnamed_file()?;
                file.write_all(&self.memory)?;
                self.memory = Vec::new();
                self.file.insert(file)
            }
        };
        file.write_all(bytes)
    }
}

pub(super) fn add_to_linker(linker: &mut LinkerInstance<'_, AsyncState>) -> wasmtime::Result<()> {
    resource::<Outgoing>(linker, "outgoing-value")?;
    resource::<Incoming>(linker, "incoming-value")?;
    linker.func_wrap(
        "[static]outgoing-value.new-outgoing-value",
        |mut store: StoreContextMut<'_, AsyncState>, (): ()| {
            let state = store.data_mut();
            let content = Content::new(&state.env().blobs);
            let value = Outgoing {
                content,
                is_taken: false,
                target: None,
            };
            Ok((state.table.push(value)?,))
        },
    )?;
    linker.func_wrap(
        "[method]outgoing-value.outgoing-value-write-body",
        |mut store: StoreContextMut<'_, AsyncState>, (handle,): (Resource<Outgoing>,)| {
            let state = store.data_mut();
            let value = state.table.get_mut(&handle)?;
            if std::mem::replace(&mut value.is_taken, true) {
                return Ok((Err(()),));
            }
            let stream: DynOutputStream = Box::new(Writing::new(&value.content));
            let stream = state.table.push_child(stream, &handle)?;
            Ok((Ok(stream) as Result<Resource<DynOutputStream>, ()>,))
        },
    )?;
    define(
        linker,
        "[static]outgoing-value.finish",
        |state, (handle,): (Resource<Outgoing>,)| {
            let value = state.table.delete(handle)?;
            let Outgoing {
                content, target, ..
            } = value;
            Ok(Work::long(move |going| match target {
                Some((container, name)) => {
                    container.write(&name, &mut |file| content.copy_to(file, going))
                }
                None => Err(Failure::Told(
                    "the value has no object: call write-data before finish".into(),
                )),
            }))
        },
        done,
    )?;
    define(
        linker,
        "[static]incoming-value.incoming-value-consume-sync",
        |state, (handle,): (Resource<Incoming>,)| {
            let Incoming(range) = state.table.delete(handle)?;
            let most = state.env().net.limits.max_memory;
            Ok(Work::long(move |_| {
                if range.length > most as u64 {
                    return Err(Failure::Told(format!(
                        "it has {} bytes, and the guest has memory for {most}: read it as a stream",
                        range.length
                    )));
                }
                let read = range.read_at(0, most);
                read.map_err(|error| Failure::Told(format!("cannot read it: {error}")))
            }))
        },
        found,
    )?;
    linker.func_wrap(
        "[static]incoming-value.incoming-value-consume-async",
        |mut store: StoreContextMut<'_, AsyncState>, (handle,): (Resource<Incoming>,)| {
            let table = &mut store.data_mut().table;
            let Incoming(range) = table.delete(handle)?;
            let stream: DynInputStream = Box::new(Reading::new(range));
            Ok((Ok(table.push(stream)?) as Result<Resource<DynInputStream>, String>,))
        },
    )?;
    linker.func_wrap(
        "[method]incoming-value.size",
        |store: StoreContextMut<'_, AsyncState>, (handle,): (Resource<Incoming>,)| {
            Ok((store.data().table.get(&handle)?.0.length,))
        },
    )
}
