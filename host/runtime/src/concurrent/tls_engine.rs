//! `netwasm:net/tls-engine`: TLS sessions whose bytes the guest moves.

use std::rc::Rc;

use wasmtime::component::{HasSelf, Linker, Resource, WasmList};

use netwasm_net::tls::engine::{
    ClientCertificates, Engine, EngineFailure, EngineOptions, Greeting, HandshakeProgress,
    Identity, Plaintext, Verification,
};

use crate::concurrent::bindings::netwasm::net::tls_engine as wit;
use crate::concurrent::bindings::netwasm::net::tls_engine::{Host, HostSession};
use crate::concurrent::handles::TlsEngineHandle;
use crate::concurrent::state::{AsyncState, Store};

type Handle = Resource<TlsEngineHandle>;

/// Result of a function. The outer error is a trap.
type Called<T> = wasmtime::Result<Result<T, wit::Failure>>;

/// Links the interface.
///
/// # Errors
/// Fails if it is linked already.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    // Functions that carry many bytes read the guest's memory in place.
    linker.allow_shadowing(true);
    let mut interface = linker.instance("netwasm:net/tls-engine@0.2.0")?;
    interface.func_wrap(
        "[method]session.feed",
        |mut store: Store<'_>, (session, data): (Handle, WasmList<u8>)| {
            with_session(&mut store, &session, |engine, store| {
                engine.feed(data.as_le_slice(store));
            })
        },
    )?;
    interface.func_wrap(
        "[method]session.write",
        |mut store: Store<'_>, (session, data): (Handle, WasmList<u8>)| {
            let written = with_session(&mut store, &session, |engine, store| {
                engine.write(data.as_le_slice(store))
            })?;
            Ok((written.map(count).map_err(wit::Failure::from),))
        },
    )?;
    interface.func_wrap(
        "[method]session.exchange",
        |mut store: Store<'_>, (session, data, most): (Handle, WasmList<u8>, u32)| {
            let exchanged = with_session(&mut store, &session, |engine, store| {
                engine.exchange(data.as_le_slice(store), limit(most))
            })?;
            Ok((exchanged,))
        },
    )?;
    interface.func_wrap(
        "[method]session.encrypt",
        |mut store: Store<'_>, (session, data): (Handle, WasmList<u8>)| {
            let (encrypted, taken) = with_session(&mut store, &session, |engine, store| {
                engine.encrypt(data.as_le_slice(store))
            })?;
            Ok(((encrypted, count(taken)),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Runs something on a session beside the guest's memory.
fn with_session<R>(
    store: &mut Store<'_>,
    session: &Handle,
    work: impl FnOnce(&mut Engine, &Store<'_>) -> R,
) -> wasmtime::Result<R> {
    let engine = Rc::clone(&store.data().table.get(session)?.0);
    let mut engine = engine.borrow_mut();
    Ok(work(&mut engine, store))
}

/// Converts a number of bytes: a list has fewer than 4 GiB.
fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Converts a maximum of bytes.
fn limit(most: u32) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX)
}

impl AsyncState {
    fn with_engine<R>(
        &mut self,
        session: &Handle,
        work: impl FnOnce(&mut Engine) -> R,
    ) -> wasmtime::Result<R> {
        Ok(work(&mut self.table.get(session)?.0.borrow_mut()))
    }

    fn keep_engine(&mut self, engine: Engine) -> wasmtime::Result<Handle> {
        Ok(self.table.push(TlsEngineHandle::new(engine))?)
    }
}

impl Host for AsyncState {}

impl HostSession for AsyncState {
    fn connect(
        &mut self,
        options: wit::Options,
        server_name: Option<String>,
        verify: bool,
        check_name: bool,
    ) -> Called<Handle> {
        let verification = Verification {
            chain: verify,
            name: check_name,
        };
        let net = self.env().net.clone();
        let named = server_name.is_some();
        let config = self
            .tls_configs
            .client(&net.tls, &options.into(), verification, named);
        let held = &self.tls_held;
        let name = server_name.as_deref();
        let engine = config.and_then(|config| Engine::connect(config, name, held));
        match engine {
            Ok(engine) => Ok(Ok(self.keep_engine(engine)?)),
            Err(failure) => {
                if let EngineFailure::Denied(text) = &failure {
                    net.counters.denied.add();
                    tracing::warn!(guest = %net.guest, "{text}");
                }
                Ok(Err(failure.into()))
            }
        }
    }

    fn accept(&mut self) -> wasmtime::Result<Handle> {
        let engine = Engine::accept(&self.tls_held);
        self.keep_engine(engine)
    }

    fn answer(
        &mut self,
        session: Handle,
        options: wit::Options,
        clients: wit::ClientCertificates,
    ) -> Called<()> {
        let net = self.env().net.clone();
        let config = self
            .tls_configs
            .server(&net.tls, &options.into(), clients.into());
        let answered = match config {
            Ok(config) => self.with_engine(&session, |engine| engine.answer(config))?,
            Err(failure) => Err(failure),
        };
        Ok(answered.map_err(Into::into))
    }

    fn refuse(&mut self, session: Handle, alert: u8) -> Called<()> {
        let refused = self.with_engine(&session, |engine| engine.refuse(alert))?;
        Ok(refused.map_err(Into::into))
    }

    fn feed(&mut self, session: Handle, data: Vec<u8>) -> wasmtime::Result<()> {
        self.with_engine(&session, |engine| engine.feed(&data))
    }

    fn feed_end(&mut self, session: Handle) -> wasmtime::Result<()> {
        self.with_engine(&session, Engine::feed_end)
    }

    fn take(&mut self, session: Handle) -> wasmtime::Result<Vec<u8>> {
        self.with_engine(&session, Engine::take)
    }

    fn handshake(&mut self, session: Handle) -> Called<wit::Progress> {
        let (failed, progress) =
            self.with_engine(&session, |engine| (engine.has_failed(), engine.handshake()))?;
        if progress.is_err() && !failed {
            self.env().net.counters.handshakes_failed.add();
        }
        Ok(progress.map(Into::into).map_err(Into::into))
    }

    fn read(&mut self, session: Handle, most: u32) -> Called<wit::Incoming> {
        let read = self.with_engine(&session, |engine| engine.read(limit(most)))?;
        Ok(read.map(Into::into).map_err(Into::into))
    }

    fn write(&mut self, session: Handle, data: Vec<u8>) -> Called<u32> {
        let written = self.with_engine(&session, |engine| engine.write(&data))?;
        Ok(written.map(count).map_err(Into::into))
    }

    fn exchange(
        &mut self,
        session: Handle,
        data: Vec<u8>,
        most: u32,
    ) -> wasmtime::Result<(Vec<u8>, bool)> {
        self.with_engine(&session, |engine| engine.exchange(&data, limit(most)))
    }

    fn encrypt(&mut self, session: Handle, data: Vec<u8>) -> wasmtime::Result<(Vec<u8>, u32)> {
        let (encrypted, taken) = self.with_engine(&session, |engine| engine.encrypt(&data))?;
        Ok((encrypted, count(taken)))
    }

    fn close(&mut self, session: Handle) -> wasmtime::Result<()> {
        self.with_engine(&session, Engine::close)
    }

    fn pending(&mut self, session: Handle) -> wasmtime::Result<u32> {
        self.with_engine(&session, Engine::pending).map(count)
    }

    fn alpn(&mut self, session: Handle) -> wasmtime::Result<Option<String>> {
        self.with_engine(&session, |engine| engine.alpn())
    }

    fn version(&mut self, session: Handle) -> wasmtime::Result<Option<String>> {
        let version = self.with_engine(&session, |engine| engine.version())?;
        Ok(version.map(ToOwned::to_owned))
    }

    fn cipher(&mut self, session: Handle) -> wasmtime::Result<Option<(String, u32)>> {
        self.with_engine(&session, |engine| engine.cipher())
    }

    fn peer_certificates(&mut self, session: Handle) -> wasmtime::Result<Vec<Vec<u8>>> {
        self.with_engine(&session, |engine| engine.peer_certificates())
    }

    fn resumed(&mut self, session: Handle) -> wasmtime::Result<bool> {
        self.with_engine(&session, |engine| engine.resumed())
    }

    fn export(
        &mut self,
        session: Handle,
        label: String,
        context: Option<Vec<u8>>,
        length: u32,
    ) -> Called<Vec<u8>> {
        let exported = self.with_engine(&session, |engine| {
            engine.export(label.as_bytes(), context.as_deref(), limit(length))
        })?;
        Ok(exported.map_err(Into::into))
    }

    fn drop(&mut self, session: Handle) -> wasmtime::Result<()> {
        self.table.delete(session)?;
        Ok(())
    }
}

impl From<wit::Identity> for Identity {
    fn from(identity: wit::Identity) -> Self {
        Self {
            chain: identity.chain,
            key: identity.key,
            password: identity.password,
        }
    }
}

impl From<wit::Options> for EngineOptions {
    fn from(options: wit::Options) -> Self {
        Self {
            identities: options.identities.into_iter().map(Into::into).collect(),
            authorities: options.authorities,
            default_authorities: options.default_authorities,
            versions: options.versions,
            alpn: options.alpn,
        }
    }
}

impl From<wit::ClientCertificates> for ClientCertificates {
    fn from(clients: wit::ClientCertificates) -> Self {
        match clients {
            wit::ClientCertificates::None => Self::None,
            wit::ClientCertificates::Optional => Self::Optional,
            wit::ClientCertificates::Required => Self::Required,
        }
    }
}

impl From<EngineFailure> for wit::Failure {
    fn from(failure: EngineFailure) -> Self {
        match failure {
            EngineFailure::Invalid(text) => Self::Invalid(text),
            EngineFailure::Certificate(code, text) => Self::Certificate((code, text)),
            EngineFailure::Alert(number, name) => Self::Alert((number, name)),
            EngineFailure::Protocol(text) => Self::Protocol(text),
            EngineFailure::Truncated => Self::Truncated,
            EngineFailure::Denied(text) => Self::Denied(text),
        }
    }
}

impl From<HandshakeProgress> for wit::Progress {
    fn from(progress: HandshakeProgress) -> Self {
        match progress {
            HandshakeProgress::Done => Self::Done,
            HandshakeProgress::WantRead => Self::WantRead,
            HandshakeProgress::Greeted(Greeting { server_name, alpn }) => {
                Self::Greeted(wit::ClientHello { server_name, alpn })
            }
        }
    }
}

impl From<Plaintext> for wit::Incoming {
    fn from(incoming: Plaintext) -> Self {
        match incoming {
            Plaintext::Data(data) => Self::Data(data),
            Plaintext::WantRead => Self::WantRead,
            Plaintext::End => Self::End,
        }
    }
}
