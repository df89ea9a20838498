//! The flags of `netwasm run`, in the groups of its help, and their conversion
//! to settings.

mod http;
mod limits;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use netwasm_base::config::{
    BlobContainer, CertificateFiles, CipherSuites, ClientRules, Directory, DnsServer, Isolation,
    KeyvalueBucket, ListenAddress, ListenerConfig, ListenerKind, Network, OtlpConfig, Proxy,
    TlsFiles, TlsVersion, UpstreamGroup,
};
use netwasm_base::policy::{ConnectPattern, HostPort, ListenPattern, NamePattern};
use netwasm_base::unix::UnixRights;

use crate::logging::LogFormat;

use super::usage;
use super::values::{
    TimeOrNone, Variable, identity, isolation, mode, named_file, of_client, otlp_header, otlp_url,
    ratio, time, time_or_none, variable, workers,
};

pub(super) use self::http::Http;
pub(super) use self::limits::{Compiling, LimitFlags};

#[derive(Args, Debug)]
#[command(next_help_heading = "Listeners (repeatable)")]
pub(super) struct Listeners {
    /// Accept connections: PORT (of localhost), IP:PORT, unix:PATH or unix:@NAME
    #[arg(long, value_name = "ADDR")]
    tcp: Vec<ListenAddress>,
    /// Accept TLS connections
    #[arg(long, value_name = "ADDR")]
    tls: Vec<ListenAddress>,
    /// Receive datagrams
    #[arg(long, value_name = "ADDR")]
    udp: Vec<ListenAddress>,
    /// Serve HTTP: HTTP/1.1, and HTTP/2 with prior knowledge
    #[arg(long, value_name = "ADDR")]
    http: Vec<ListenAddress>,
    /// Serve HTTP over TLS: HTTP/2 and HTTP/1.1
    #[arg(long, value_name = "ADDR")]
    https: Vec<ListenAddress>,
    /// Redirect HTTP requests to HTTPS: to the same host and path
    #[arg(long, value_name = "ADDR", hide_short_help = true)]
    http_redirect: Vec<ListenAddress>,
    /// The port to redirect them to [default: that of --https, or 443]
    #[arg(long, value_name = "N", hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) http_redirect_port: Option<u16>,
    /// File mode of Unix sockets, such as 660; who may write may connect
    #[arg(long, value_name = "OCTAL", value_parser = mode, hide_short_help = true)]
    unix_mode: Option<u32>,
    /// Their owner, by name or number; only root may set another
    #[arg(long, value_name = "USER", hide_short_help = true)]
    unix_owner: Option<String>,
    /// Their group, by name or number
    #[arg(long, value_name = "GROUP", hide_short_help = true)]
    unix_group: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub(super) struct Tls {
    /// Certificate chain in PEM; repeatable, chosen by the name a client asks for
    #[arg(long, value_name = "FILE")]
    cert: Vec<PathBuf>,
    /// Private key in PEM, one for each --cert in the same order
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Accept only clients with a certificate signed by this authority
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    client_ca: Option<PathBuf>,
    /// Protocol to agree on with clients of --tls, the best one first; repeatable. --https offers
    /// h2, http/1.1 and http/1.0: of these, only the ones named here, if any is
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    alpn: Vec<String>,
    /// Lowest version of TLS that listeners speak
    #[arg(
        long,
        value_name = "1.2|1.3",
        default_value = "1.2",
        hide_short_help = true
    )]
    tls_min_version: TlsVersion,
    /// Cipher suites of listeners, the best first, by names of IANA or OpenSSL; repeatable
    #[arg(long, value_name = "NAME[:NAME]", hide_short_help = true)]
    tls_ciphers: Vec<CipherSuites>,
    /// Authority that outgoing connections trust besides the system's; repeatable
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    ca: Vec<PathBuf>,
    /// Accept any certificate on outgoing connections: for tests only
    #[arg(long, hide_short_help = true)]
    tls_insecure: bool,
    /// Authority that the guest may choose for a connection, in place of all others; repeatable
    #[arg(long, value_name = "NAME=FILE", value_parser = named_file, hide_short_help = true)]
    tls_authority: Vec<(String, PathBuf)>,
    /// Certificate that the guest may choose to present to a server; repeatable
    #[arg(long, value_name = "NAME=CERT[,KEY]", value_parser = identity, hide_short_help = true)]
    tls_identity: Vec<(String, CertificateFiles)>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Guest")]
pub(super) struct Guest {
    /// One instance per connection, worker or request [default: by kind]
    #[arg(long, value_parser = isolation, value_name = "MODE")]
    pub(super) isolation: Option<Isolation>,
    /// Threads that serve connections [default: one per core]
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(super) workers: Option<NonZeroUsize>,
    /// Let the guest read a directory, or write (:rw); repeatable
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Vec<Directory>,
    /// Let it read objects of wasi:blobstore, or write (:rw), in a directory; repeatable
    #[arg(long, value_name = "NAME=DIR", hide_short_help = true)]
    pub(super) blobstore: Vec<BlobContainer>,
    /// Give the guest a variable, or NAME to inherit it; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(super) env: Vec<Variable>,
    /// Give it a value of wasi:config, or NAME to take the variable's; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable, hide_short_help = true)]
    pub(super) config_var: Vec<Variable>,
    /// Let it open a bucket of wasi:keyvalue: memory:, file:PATH or redis(s)://HOST:PORT/DB; repeatable
    #[arg(long, value_name = "NAME=STORE", hide_short_help = true)]
    pub(super) keyvalue: Vec<KeyvalueBucket>,
    /// Run a file that `netwasm compile` made: native code, to be trusted like any program
    #[arg(long, hide_short_help = true)]
    pub(super) allow_compiled: bool,
    /// Compile each time, and keep nothing in ~/.cache/netwasm
    #[arg(long, hide_short_help = true)]
    pub(super) no_cache: bool,
    #[command(flatten)]
    pub(super) plugs: Plugs,
}

/// Components to compose with the component.
#[derive(Args, Debug)]
#[command(next_help_heading = "Guest")]
pub(super) struct Plugs {
    /// Compose with this component: as what the other imports, or as middleware around a handler,
    /// the first outermost; repeatable
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) plug: Vec<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Guest")]
pub(super) struct Reach {
    /// Let the guest connect, as to '*.example.org:443'; repeatable
    #[arg(long, value_name = "PATTERN")]
    pub(super) allow_connect: Vec<ConnectPattern>,
    /// Let it forward requests, as to 'api=10.0.0.1:80,...'; repeatable
    #[arg(long, value_name = "NAME=SERVERS")]
    pub(super) upstream: Vec<UpstreamGroup>,
    /// Let it send datagrams first, as to '10.0.0.0/8:53'; repeatable
    #[arg(long, value_name = "PATTERN")]
    pub(super) allow_udp: Vec<HostPort>,
    /// Let it look names up besides those that it may connect or send to; repeatable
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    pub(super) allow_resolve: Vec<NamePattern>,
    /// Let it listen on an address by itself; repeatable
    #[arg(long, value_name = "ADDR", hide_short_help = true)]
    pub(super) allow_listen: Vec<ListenPattern>,
    /// Ask this name server, not those of /etc/resolv.conf; repeatable, in order
    #[arg(long, value_name = "IP[:PORT]", hide_short_help = true)]
    pub(super) dns_server: Vec<DnsServer>,
    /// How long a DNS lookup may take
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    #[arg(hide_short_help = true)]
    pub(super) dns_timeout: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Log (to standard error)")]
pub(super) struct LogFlags {
    /// Show more; -vv: every step
    #[arg(short, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Show only warnings and errors, and no addresses
    #[arg(short, long, conflicts_with = "verbose", hide_short_help = true)]
    pub(super) quiet: bool,
    /// Format of its lines
    #[arg(long, value_enum, value_name = "text|json", default_value = "text")]
    #[arg(hide_possible_values = true)]
    pub(super) log_format: LogFormat,
    /// Lines a second of one kind, such as failed handshakes; the others are counted
    #[arg(long, value_name = "N", default_value = "20", hide_short_help = true)]
    pub(super) log_rate: NonZeroU32,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Operation")]
pub(super) struct Operating {
    /// Serve metrics and state there, over HTTP; unix:PATH also takes `netwasm reload`
    #[arg(long, value_name = "ADDR", hide_short_help = true)]
    pub(super) admin: Option<ListenAddress>,
    /// Answer /healthz, /readyz and /metrics there, to all who can connect
    #[arg(long, value_name = "ADDR", hide_short_help = true)]
    pub(super) probes: Option<ListenAddress>,
    /// How long to keep serving after SIGTERM or SIGINT, as not ready, before the drain
    #[arg(long, value_name = "TIME", value_parser = time_or_none, default_value = "none")]
    #[arg(hide_short_help = true)]
    pub(super) shutdown_delay: TimeOrNone,
    /// Run as this user once everything that needs root is open
    #[arg(long, value_name = "USER", hide_short_help = true)]
    pub(super) user: Option<String>,
    /// Run with this group instead of the user's own
    #[arg(long, value_name = "GROUP", requires = "user", hide_short_help = true)]
    pub(super) group: Option<String>,
    /// Send traces, and logs and metrics of guests, there by OTLP; /v1/traces unless it has a path
    #[arg(long, value_name = "URL", value_parser = otlp_url, hide_short_help = true)]
    otlp: Option<String>,
    /// Send this header with them, NAME={ file = "PATH" } in a configuration; repeatable
    #[arg(
        long,
        value_name = "NAME=VALUE",
        requires = "otlp",
        hide_short_help = true
    )]
    otlp_header: Vec<String>,
    /// Share of the traces that begin here that is sent, 0 to 1
    #[arg(long, value_name = "RATIO", value_parser = ratio, default_value = "1")]
    #[arg(hide_short_help = true)]
    otlp_sample: f64,
    /// Take clients' addresses from these proxies' PROXY headers; repeatable, also unix
    #[arg(long, value_name = "NETWORK", hide_short_help = true)]
    pub(super) proxy_protocol_from: Vec<Proxy>,
    /// Accept clients only from this network or address; repeatable
    #[arg(long, value_name = "NETWORK", hide_short_help = true)]
    allow_from: Vec<Network>,
    /// Accept none from this one; where networks overlap, the smallest decides
    #[arg(long, value_name = "NETWORK", hide_short_help = true)]
    deny_from: Vec<Network>,
    /// Connections of a client at once: of an IPv4 address, or an IPv6 network of 64 bits
    #[arg(long, value_name = "N", value_parser = of_client, hide_short_help = true)]
    max_client_connections: Option<NonZeroU32>,
    /// New connections of a client a second, and as many at once; others are reset
    #[arg(long, value_name = "N", value_parser = of_client, hide_short_help = true)]
    max_client_rate: Option<NonZeroU32>,
    /// HTTP requests of a client a second, and as many at once; others get a 429
    #[arg(long, value_name = "N", value_parser = of_client, hide_short_help = true)]
    max_client_requests: Option<NonZeroU32>,
}

impl Operating {
    /// Returns the receiver of traces.
    ///
    /// # Errors
    /// Fails with a header that cannot be sent, without its value.
    pub(super) fn otlp(&self) -> Result<Option<OtlpConfig>, String> {
        let Some(url) = self.otlp.clone() else {
            return Ok(None);
        };
        let headers = self.otlp_header.iter().map(|text| otlp_header(text));
        let headers = headers.collect::<Result<_, _>>();
        Ok(Some(OtlpConfig {
            url,
            sample: self.otlp_sample,
            headers: headers.map_err(|reason| format!("--otlp-header: {reason}"))?,
        }))
    }

    pub(super) fn clients(&self) -> ClientRules {
        ClientRules {
            allow: self.allow_from.clone(),
            deny: self.deny_from.clone(),
            connections: self.max_client_connections,
            rate: self.max_client_rate,
            requests: self.max_client_requests,
        }
    }
}

impl Listeners {
    pub(super) fn unix_rights(&self) -> UnixRights {
        UnixRights {
            mode: self.unix_mode,
            owner: self.unix_owner.clone(),
            group: self.unix_group.clone(),
        }
    }

    pub(super) fn into_configs(self) -> Vec<ListenerConfig> {
        [
            (ListenerKind::Tcp, self.tcp),
            (ListenerKind::Tls, self.tls),
            (ListenerKind::Udp, self.udp),
            (ListenerKind::Http, self.http),
            (ListenerKind::Https, self.https),
            (ListenerKind::Redirect, self.http_redirect),
        ]
        .into_iter()
        .flat_map(|(kind, addresses)| {
            addresses
                .into_iter()
                .map(move |address| ListenerConfig { kind, address })
        })
        .collect()
    }
}

impl Tls {
    pub(super) fn into_files(self) -> Result<TlsFiles, clap::Error> {
        let (certs, keys) = (self.cert.len(), self.key.len());
        if certs != keys {
            return Err(usage(&format!(
                "each --cert needs its --key, in the same order: there are {certs} --cert and \
                 {keys} --key"
            )));
        }
        let pairs = self.cert.into_iter().zip(self.key);
        Ok(TlsFiles {
            shared: Vec::new(),
            certificates: pairs
                .map(|(chain, key)| CertificateFiles { chain, key })
                .collect(),
            client_ca: self.client_ca,
            alpn: self.alpn.into_iter().map(String::into_bytes).collect(),
            min_version: self.tls_min_version,
            ciphers: self.tls_ciphers.into_iter().flat_map(|it| it.0).collect(),
            extra_roots: self.ca,
            insecure: self.tls_insecure,
            authorities: self.tls_authority,
            identities: self.tls_identity,
        })
    }
}
