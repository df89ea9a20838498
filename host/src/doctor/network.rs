//! Settings of the network, and name servers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netwasm_base::config::{DnsConfig, Limits};
use netwasm_base::descriptors;
use netwasm_net::dns;

use super::{Finding, number, word};

/// Time in which a server on the network answers.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// Local ports below which outgoing connections run out.
const FEW_PORTS: u64 = 20_000;

pub(super) fn findings(network: bool) -> Vec<Finding> {
    let mut findings: Vec<_> = [backlog(), congestion(), ports(), tracking()]
        .into_iter()
        .flatten()
        .collect();
    findings.extend(names(network));
    findings
}

fn backlog() -> Option<Finding> {
    const NAME: &str = "backlog";
    let most = number("/proc/sys/net/core/somaxconn")?;
    let wanted = u64::try_from(Limits::default().backlog).unwrap_or(0);
    Some(match most < wanted {
        true => Finding::slow(
            NAME,
            format!(
                "net.core.somaxconn is {most}, and --backlog {wanted}: connections are lost in bursts"
            ),
            "sysctl -w net.core.somaxconn=4096",
        ),
        false => Finding::ok(NAME, format!("net.core.somaxconn is {most}")),
    })
}

fn congestion() -> Option<Finding> {
    const NAME: &str = "congestion control";
    let algorithm = word("/proc/sys/net/ipv4/tcp_congestion_control")?;
    Some(match algorithm.starts_with("bbr") {
        true => Finding::slow(
            NAME,
            format!("{algorithm} paces what is sent: bulk over loopback and short paths is slow"),
            "sysctl -w net.ipv4.tcp_congestion_control=cubic, unless clients are far away",
        ),
        false => Finding::ok(NAME, algorithm),
    })
}

fn ports() -> Option<Finding> {
    const NAME: &str = "local ports";
    let text = word("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut ends = text
        .split_whitespace()
        .filter_map(|it| it.parse::<u64>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    let count = (last + 1).saturating_sub(first);
    let found = format!("{count} for outgoing connections to one server");
    Some(match count < FEW_PORTS {
        true => Finding::slow(
            NAME,
            found,
            "sysctl -w net.ipv4.ip_local_port_range='15000 60999'",
        ),
        false => Finding::ok(NAME, found),
    })
}

fn tracking() -> Option<Finding> {
    const NAME: &str = "connection tracking";
    let most = number("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let connections = descriptors::connections(false);
    let wanted = connections as u64;
    Some(match most < wanted {
        true => Finding::slow(
            NAME,
            format!("the firewall knows {most} connections, and open files allow {wanted}"),
            "sysctl -w net.netfilter.nf_conntrack_max=262144",
        ),
        false => Finding::ok(NAME, format!("the firewall knows {most} connections")),
    })
}

fn names(network: bool) -> Vec<Finding> {
    const NAME: &str = "names";
    let servers = match dns::system_servers() {
        Ok(servers) => servers,
        Err(error) => {
            return vec![Finding::wrong(
                NAME,
                format!("{}: {error}", dns::RESOLV_CONF),
                "write `nameserver IP` there, or use --dns-server",
            )];
        }
    };
    if !network {
        let shown: Vec<_> = servers.iter().map(|it| it.ip().to_string()).collect();
        return vec![Finding::ok(
            NAME,
            format!(
                "servers: {} (not asked without --network)",
                shown.join(", ")
            ),
        )];
    }
    servers.into_iter().map(asked).collect()
}

/// Asks a server, as a run would.
pub(super) fn asked(server: SocketAddr) -> Finding {
    let name = format!("name server {server}");
    let begin = Instant::now();
    let answer = || -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let answer = tokio::time::timeout(LIMIT, dns::probe(server)).await;
            answer.unwrap_or_else(|_| Err("it did not answer within 1 s".into()))
        })
    };
    match answer() {
        Ok(()) => Finding::ok(
            &name,
            format!("answered in {} ms", begin.elapsed().as_millis()),
        ),
        Err(reason) => Finding::wrong(
            &name,
            reason,
            format!("remove it from {}, or use --dns-server", dns::RESOLV_CONF),
        ),
    }
}

/// Returns findings about the servers of a service's settings.
pub(super) fn of_service(config: &DnsConfig) -> Vec<Finding> {
    let servers = config.servers.iter();
    servers.map(|server| asked(server.0)).collect()
}
