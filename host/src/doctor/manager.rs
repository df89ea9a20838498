//! Sockets and names that a service manager has passed: sd_notify(3), sd_listen_fds(3).

use std::env;

use netwasm_base::notify::Manager;

use super::Finding;

const NAME: &str = "service manager";

pub(super) fn findings() -> Vec<Finding> {
    let socket = env::var_os("NOTIFY_SOCKET");
    let sockets = env::var("LISTEN_FDS").ok();
    let mut findings = Vec::new();
    match (&socket, Manager::of_environment()) {
        (Some(socket), None) => findings.push(Finding::wrong(
            NAME,
            format!(
                "NOTIFY_SOCKET is '{}', which is not a socket's name",
                socket.display()
            ),
            "unset NOTIFY_SOCKET, or use Type=notify-reload in the unit",
        )),
        (Some(socket), Some(manager)) if !manager.is_there() => findings.push(Finding::wrong(
            NAME,
            format!("nobody listens at NOTIFY_SOCKET, '{}'", socket.display()),
            "unset NOTIFY_SOCKET, or mount the socket into the container",
        )),
        (Some(_), Some(_)) => findings.push(Finding::ok(NAME, "it is told at NOTIFY_SOCKET")),
        (None, _) => {}
    }
    if let Some(count) = sockets {
        let own = env::var("LISTEN_PID").is_ok_and(|it| it == std::process::id().to_string());
        findings.push(match own {
            true => Finding::ok(NAME, format!("it has passed {count} sockets")),
            false => Finding::slow(
                NAME,
                "LISTEN_FDS tells of sockets that LISTEN_PID says are another process's",
                "unset LISTEN_FDS LISTEN_PID LISTEN_FDNAMES",
            ),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(NAME, "none has started this"));
    }
    findings
}
