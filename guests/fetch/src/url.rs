//! The parts of a URL that a client needs.

/// A URL of the schemes `http` and `https`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) is_encrypted: bool,
    /// As in the header `Host`.
    pub(crate) authority: &'a str,
    /// A name or an address, this without brackets.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// With the query.
    pub(crate) path: &'a str,
}

impl<'a> Url<'a> {
    pub(crate) fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_encrypted = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        // The fragment is not sent; user names are not for here.
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = match rest.find(['/', '?']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        let (host, port) = match authority.rsplit_once(':') {
            // The colon of an address in brackets.
            Some((_, end)) if end.ends_with(']') => (authority, None),
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (authority, None),
        };
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']')?,
            None => host,
        };
        let is_sound = |c: char| c.is_ascii_graphic();
        let sound = path.chars().all(is_sound) && authority.chars().all(|c| c > ' ' && c != '@');
        if host.is_empty() || !sound || path.starts_with('?') {
            return None;
        }
        Some(Self {
            is_encrypted,
            authority,
            host,
            port: port.unwrap_or(if is_encrypted { 443 } else { 80 }),
            path: if path.is_empty() { "/" } else { path },
        })
    }
}
