//! A connection as an object, over the functions of `transports`.

use super::netwasm::net::files::File;
use super::netwasm::net::transports;
use super::netwasm::net::types::{ConnectionId, ConnectionInfo, Error, ProxyInfo, TlsRole};

/// A connection. Dropping it closes it.
pub(super) struct Transport(pub(super) ConnectionId);

impl Transport {
    pub(super) fn write(&self, data: &[u8]) -> u64 {
        transports::write(self.0, data)
    }
    pub(super) fn writelines(&self, data: &[Vec<u8>]) -> u64 {
        transports::writelines(self.0, data)
    }
    pub(super) fn want_write(&self) {
        transports::want_write(self.0);
    }
    pub(super) fn write_eof(&self) -> Result<(), Error> {
        transports::write_eof(self.0)
    }
    pub(super) fn send_file(
        &self,
        file: &File,
        offset: u64,
        length: Option<u64>,
    ) -> Result<u64, Error> {
        transports::send_file(self.0, file, offset, length)
    }
    pub(super) fn start_tls(&self, role: &TlsRole, received: &[u8]) -> Result<(), Error> {
        transports::start_tls(self.0, role, received)
    }
    pub(super) fn close(&self) {
        transports::close(self.0);
    }
    pub(super) fn abort(&self) {
        transports::abort(self.0);
    }
    pub(super) fn pause_reading(&self) {
        transports::pause_reading(self.0);
    }
    pub(super) fn resume_reading(&self) {
        transports::resume_reading(self.0);
    }
    pub(super) fn set_idle_timeout(&self, after: Option<u64>) {
        transports::set_idle_timeout(self.0, after);
    }
    pub(super) fn set_write_buffer_limits(&self, high: u64, low: u64) {
        transports::set_write_buffer_limits(self.0, high, low);
    }
    pub(super) fn get_write_buffer_limits(&self) -> (u64, u64) {
        transports::get_write_buffer_limits(self.0)
    }
    pub(super) fn get_write_buffer_size(&self) -> u64 {
        transports::get_write_buffer_size(self.0)
    }
    pub(super) fn info(&self) -> ConnectionInfo {
        transports::info(self.0)
    }
    pub(super) fn proxied(&self) -> Option<ProxyInfo> {
        transports::proxied(self.0)
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.close();
    }
}
