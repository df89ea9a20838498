use wasmtime::component::Resource;

use netwasm_base::error::ConnectionError;

use crate::bindings::netwasm::net::http::{Fields, Host, HostRequest, Response};
use crate::bindings::netwasm::net::types::{ConnectionInfo, Error as WitError, SocketAddress};
use crate::convert::called;
use crate::handles::RequestHandle;
use crate::instance;
use crate::state::State;

impl Host for State {
    fn respond(
        &mut self,
        token: u64,
        response: Response,
    ) -> wasmtime::Result<Result<(), WitError>> {
        self.refresh_files();
        // A trap fails this request with the others that are deferred.
        let answer = instance::answer(self, response)?;
        Ok(match self.deferred.take(token) {
            Some(deferred) => {
                deferred.give(Some(answer));
                Ok(())
            }
            None => Err(called(ConnectionError::InvalidState)),
        })
    }
}

impl HostRequest for State {
    fn header(
        &mut self,
        _this: Resource<RequestHandle>,
        name: String,
    ) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.request()?.head.first(&name).map(<[u8]>::to_vec))
    }

    fn header_values(
        &mut self,
        _this: Resource<RequestHandle>,
        name: String,
    ) -> wasmtime::Result<Vec<Vec<u8>>> {
        let values = self.request()?.head.all(&name);
        Ok(values.map(<[u8]>::to_vec).collect())
    }

    fn headers(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<Fields> {
        let fields = self.request()?.head.fields();
        Ok(fields
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect())
    }

    fn body(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.request()?.body.clone())
    }

    fn trailers(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<Fields> {
        Ok(self.request()?.trailers.clone())
    }

    fn scheme(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.request()?.scheme().into())
    }

    fn authority(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.request()?.head.authority().map(str::to_owned))
    }

    fn minor_version(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<u8> {
        Ok(self.request()?.head.minor_version())
    }

    fn info(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<ConnectionInfo> {
        let transport = self.request()?.transport.as_deref();
        Ok(transport.map_or_else(
            || ConnectionInfo {
                peer: SocketAddress::Unix(None),
                local: SocketAddress::Unix(None),
                tls: None,
            },
            ConnectionInfo::from,
        ))
    }

    fn drop(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}
