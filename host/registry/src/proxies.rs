//! Proxies of outgoing connections: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
//! `NO_PROXY`, in upper or lower case.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;
use netwasm_base::base64;

use crate::error::Error;

/// Proxies that the environment names.
#[derive(Clone, Default)]
pub(crate) struct Proxies {
    secure: Option<Proxy>,
    plain: Option<Proxy>,
    /// Hosts that are reached without one.
    except: Vec<String>,
}

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// True if it is reached by TLS.
    pub(crate) secure: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Value of `Proxy-Authorization`; a secret.
    pub(crate) authorization: Option<String>,
}

impl Proxies {
    /// Reads variables.
    ///
    /// # Errors
    /// Fails with one that is no address of a proxy, without what it has before
    /// the `@`.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let find = |names: &[&'static str]| {
            let given = |name: &&'static str| {
                let value = variable(name).or_else(|| variable(&name.to_ascii_lowercase()))?;
                (!value.is_empty()).then_some((*name, value))
            };
            names.iter().find_map(given)
        };
        let proxy = |names: &[&'static str]| {
            find(names).map_or(Ok(None), |(name, value)| {
                let proxy = Proxy::parse(&value);
                proxy.map(Some).map_err(|reason| {
                    Error::Setting(format!("the variable {name} names no proxy: {reason}"))
                })
            })
        };
        let except = find(&["NO_PROXY"]).map_or_else(String::new, |(_, value)| value);
        let except = except
            .split([',', ' '])
            .map(|it| it.trim().to_ascii_lowercase());
        Ok(Self {
            secure: proxy(&["HTTPS_PROXY", "ALL_PROXY"])?,
            plain: proxy(&["HTTP_PROXY", "ALL_PROXY"])?,
            except: except.filter(|it| !it.is_empty()).collect(),
        })
    }

    /// Returns the proxy on the way to a host. There is none to this machine.
    pub(crate) fn to(&self, secure: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if secure { &self.secure } else { &self.plain };
        let proxy = proxy.as_ref()?;
        let direct = is_loopback(host) || self.except.iter().any(|it| excepts(it, host, port));
        (!direct).then_some(proxy)
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, String> {
        let text = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let uri: Uri = text.parse().map_err(|_| "it is no URL".to_owned())?;
        let (secure, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            other => {
                return Err(format!(
                    "{} is not http or https",
                    other.unwrap_or_default()
                ));
            }
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let authority = uri.authority().map_or("", |it| it.as_str());
        let authorization = authority.rsplit_once('@').map(|(user, _)| {
            let user = match user.contains(':') {
                true => user.to_owned(),
                false => format!("{user}:"),
            };
            format!("Basic {}", base64::encode(&unescaped(&user)))
        });
        Ok(Self {
            secure,
            host: host.ok_or("it has no host")?.to_owned(),
            port: uri.port_u16().unwrap_or(port),
            authorization,
        })
    }
}

/// True if a host is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    match address(host) {
        Some(address) => address.is_loopback(),
        None => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Returns the address that a host is, with or without brackets.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// True if an entry of `NO_PROXY` is about a host: a name, with all below it; an
/// address or network; `*`. Each may have a port.
fn excepts(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let host = host.to_ascii_lowercase();
    if let Some(address) = address(&host) {
        let network = entry.parse::<IpNet>();
        let same = self::address(entry) == Some(address);
        if same || network.is_ok_and(|network| network.contains(&address)) {
            return true;
        }
    }
    let (name, only) = match entry.rsplit_once(':') {
        Some((name, only)) if only.parse::<u16>().is_ok() => (name, only.parse().ok()),
        _ => (entry, None),
    };
    if only.is_some_and(|only: u16| only != port) {
        return false;
    }
    let name = name.trim_start_matches("*.").trim_start_matches('.');
    let below = || host.strip_suffix(name).is_some_and(|it| it.ends_with('.'));
    !name.is_empty() && (host == name || below())
}

/// Replaces `%40` and the like by their bytes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|it| std::str::from_utf8(it).ok());
        let escaped = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = match escaped {
            Some(_) => tail.get(2..).unwrap_or_default(),
            None => tail,
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
        Proxies::new(|wanted| {
            let mut variables = variables.iter();
            let found = variables.find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_host_is_reached_by_the_proxy_of_its_scheme() {
        let variables = [
            ("HTTPS_PROXY", "http://us%40er:secret@proxy.example:3128"),
            ("http_proxy", "plain.example"),
            (
                "no_proxy",
                "a.example, .b.example,10.0.0.0/8,c.example:5000",
            ),
        ];
        let proxies = proxies(&variables).expect("proxies");
        let to = |host: &str, port| proxies.to(true, host, port).map(|it| it.port);
        let proxy = proxies.to(true, "d.example", 443).expect("a proxy");
        assert_eq!(
            (&*proxy.host, proxy.port, proxy.secure),
            ("proxy.example", 3128, false)
        );
        let authorization = base64::encode(b"us@er:secret");
        assert_eq!(proxy.authorization, Some(format!("Basic {authorization}")));
        let proxy = proxies.to(false, "d.example", 80).expect("a proxy");
        assert_eq!((&*proxy.host, proxy.port), ("plain.example", 80));
        for (host, port, direct) in [
            ("a.example", 443, true),
            ("x.A.example", 443, true),
            ("xa.example", 443, false),
            ("b.example", 443, true),
            ("10.1.2.3", 443, true),
            ("11.1.2.3", 443, false),
            ("c.example", 5000, true),
            ("c.example", 443, false),
            ("localhost", 443, true),
            ("[::1]", 443, true),
        ] {
            assert_eq!(to(host, port).is_none(), direct, "{host}:{port}");
        }
    }

    #[test]
    fn a_wrong_variable_is_told_without_its_password() {
        for value in [
            "socks5://user:secret@a:1",
            "http://user:secret@",
            "http://user:secret@[:1",
        ] {
            let error = proxies(&[("ALL_PROXY", value)]).err().expect("it is wrong");
            let error = error.to_string();
            assert!(error.contains("ALL_PROXY"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(proxies(&[("HTTPS_PROXY", "")]).is_ok_and(|it| it.secure.is_none()));
    }
}
