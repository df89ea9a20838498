//! Credentials of registries, where docker, podman and their like keep them.
//!
//! `REGISTRY_AUTH_FILE` names the only file, if it is set. Otherwise the first of
//! these that has some: `$DOCKER_CONFIG/config.json`,
//! `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`,
//! `~/.docker/config.json`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use netwasm_base::base64;
use netwasm_base::input::Input;

/// Largest file of credentials, or answer of a helper, in bytes.
const MOST: u64 = 1 << 20;

/// Time limit of a helper.
const HELPER: Duration = Duration::from_secs(10);

/// User name of a helper's answer that has a refresh token.
const TOKEN_USER: &str = "<token>";

/// Credentials of a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// A name and a password.
    Password {
        /// Name.
        user: String,
        /// Password.
        password: String,
    },
    /// A token that other tokens are given for.
    Refresh(String),
}

/// Credentials, and where they are from.
pub(crate) struct Found {
    pub(crate) login: Option<Login>,
    /// The file, or the places that have none.
    pub(crate) place: String,
}

/// Places of credentials.
pub(crate) struct Credentials {
    files: Vec<PathBuf>,
    /// True if the only file must exist.
    named: bool,
    /// Number of the first files that a variable names for this alone. The
    /// others are left out if they are of another user (`--user`).
    chosen: usize,
}

/// A file with credentials: those of docker, podman and their like have one
/// form.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigContent {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Answer of a helper.
#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl Credentials {
    /// Returns the places that variables say.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(file) = variable("REGISTRY_AUTH_FILE") {
            return Self {
                files: vec![file.into()],
                named: true,
                chosen: 1,
            };
        }
        let home = variable("HOME").map(PathBuf::from);
        let below = |base: Option<PathBuf>, name: &str| base.map(|it| it.join(name));
        let config = variable("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.or_else(|| below(home.clone(), ".config"));
        let docker = variable("DOCKER_CONFIG").map(PathBuf::from);
        let chosen = usize::from(docker.is_some());
        let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
        let files = [
            below(docker, "config.json"),
            below(runtime, "containers/auth.json"),
            below(config, "containers/auth.json"),
            below(home, ".docker/config.json"),
        ];
        Self {
            files: files.into_iter().flatten().collect(),
            named: false,
            chosen,
        }
    }

    /// Looks the credentials of a repository up.
    ///
    /// # Errors
    /// Says which file cannot be used, or which helper fails.
    pub(crate) fn find(&self, registry: &str, repository: &str) -> Result<Found, String> {
        for (number, file) in self.files.iter().enumerate() {
            let shown = file.display();
            let content = read(file, number < self.chosen);
            let Some(content) = content.map_err(|error| format!("{shown}: {error}"))? else {
                if self.named {
                    return Err(format!(
                        "REGISTRY_AUTH_FILE names {shown}, which does not exist"
                    ));
                }
                continue;
            };
            let found = content.find(registry, repository);
            if let Some(login) = found.map_err(|error| format!("{shown}: {error}"))? {
                return Ok(Found {
                    login: Some(login),
                    place: shown.to_string(),
                });
            }
        }
        let files = self.files.iter().map(|file| file.display().to_string());
        let files: Vec<_> = files.collect();
        Ok(Found {
            login: None,
            place: match &*files {
                [] => "no file, as neither HOME nor DOCKER_CONFIG is set".into(),
                files => files.join(", "),
            },
        })
    }
}

impl ConfigContent {
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>, String> {
        // Docker Hub has one name in each of these files.
        let names = match registry {
            "docker.io" | "index.docker.io" => ["index.docker.io", "docker.io"],
            other => [other, other],
        };
        let helper_of = |name: &&str| self.cred_helpers.get(*name);
        if let Some(helper) = names.iter().find_map(helper_of) {
            return ask(helper, &address(names[0]), HELPER);
        }
        // The longest path that has some: containers-auth.json(5).
        let mut paths = Vec::new();
        for name in names {
            let mut path = format!("{name}/{repository}");
            while path.len() > name.len() {
                paths.push(path.clone());
                path.truncate(path.rfind('/').unwrap_or_default());
            }
            paths.push(path);
        }
        let entry_of = |path: &String| {
            let mut entries = self.auths.iter();
            entries.find(|(key, _)| plain(key) == *path)
        };
        if let Some((key, entry)) = paths.iter().find_map(entry_of)
            && let Some(login) = entry.login().ok_or_else(|| {
                format!("what it has for {key} is not a user and a password in Base64")
            })?
        {
            return Ok(Some(login));
        }
        match &self.creds_store {
            Some(helper) => ask(helper, &address(names[0]), HELPER),
            None => Ok(None),
        }
    }
}

impl Entry {
    /// Returns the credentials; `Some(None)` if there are none, and `None` if they
    /// cannot be read.
    fn login(&self) -> Option<Option<Login>> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Some(Some(Login::Refresh(token)));
        }
        if let (Some(user), Some(password)) = (given(&self.username), given(&self.password)) {
            return Some(Some(Login::Password { user, password }));
        }
        let Some(auth) = given(&self.auth) else {
            return Some(None);
        };
        let text = String::from_utf8(base64::decode(auth.trim())?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Some(Login::Password {
            user: user.to_owned(),
            // Docker wrote it with zeros behind it.
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
}

/// Returns the name of a registry in a helper.
fn address(registry: &str) -> String {
    match registry {
        "index.docker.io" => "https://index.docker.io/v1/".into(),
        other => other.to_owned(),
    }
}

/// Returns a key without scheme and version.
fn plain(key: &str) -> &str {
    let key = key
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let key = key.trim_end_matches('/');
    let version = |end| key.strip_suffix(end);
    version("/v1").or_else(|| version("/v2")).unwrap_or(key)
}

/// Reads a file; `None` if there is none. One that is not chosen may be of
/// another user.
fn read(path: &Path, is_chosen: bool) -> Result<Option<ConfigContent>, String> {
    let file = match Input::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !is_chosen => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    let read = file.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err("it has more than a MiB".into());
    }
    // The error of the parser may show a secret.
    let content = serde_json::from_slice(&bytes).map_err(|error| {
        format!(
            "it cannot be read as JSON with credentials: see line {}, column {}",
            error.line(),
            error.column()
        )
    });
    content.map(Some)
}

/// Asks a helper, `docker-credential-NAME`, for the credentials of a registry.
fn ask(name: &str, registry: &str, limit: Duration) -> Result<Option<Login>, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(format!(
            "'{}' is not the name of a helper",
            name.escape_debug()
        ));
    }
    ask_program(
        format!("docker-credential-{name}").as_ref(),
        registry,
        limit,
    )
}

fn ask_program(program: &OsStr, registry: &str, limit: Duration) -> Result<Option<Login>, String> {
    let fail = |reason: String| format!("the helper {} {reason}", program.display());
    let child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| fail(format!("cannot be run: {error}")))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (sender, answers) = mpsc::channel();
    let registry = registry.to_owned();
    let talk = move || {
        if let Some(mut input) = input {
            // One that reads nothing may answer nevertheless.
            let _ = input.write_all(registry.as_bytes());
        }
        let mut bytes = Vec::new();
        let read = output.map(|output| output.take(MOST).read_to_end(&mut bytes));
        let _ = sender.send(read.transpose().map(|_| bytes));
    };
    let thread = std::thread::Builder::new().name("credentials".into());
    let begun = thread.spawn(talk);
    let answer = match begun {
        Ok(_) => answers.recv_timeout(limit),
        Err(error) => {
            end(&mut child);
            return Err(fail(format!("cannot be talked to: {error}")));
        }
    };
    let Ok(answer) = answer else {
        end(&mut child);
        return Err(fail(format!("does not answer within {limit:?}")));
    };
    // It has closed its output, and so has nothing more to say.
    let status = child.try_wait().ok().flatten();
    if status.is_none() {
        end(&mut child);
    }
    let bytes = answer.map_err(|error| fail(format!("cannot be read: {error}")))?;
    match serde_json::from_slice::<HelperAnswer>(&bytes) {
        Ok(answer) if answer.user == TOKEN_USER => Ok(Some(Login::Refresh(answer.secret))),
        Ok(answer) => Ok(Some(Login::Password {
            user: answer.user,
            password: answer.secret,
        })),
        // It says so in words, which are the same in all helpers.
        Err(_) => {
            let text = String::from_utf8_lossy(&bytes);
            match text.contains("credentials not found") {
                true => Ok(None),
                false => Err(fail("does not answer with credentials".into())),
            }
        }
    }
}

/// Ends a helper with all that it has started.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // They may have ended by themselves.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn password(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    fn content(value: serde_json::Value) -> ConfigContent {
        serde_json::from_value(value).expect("credentials")
    }

    #[test]
    fn the_longest_path_decides_and_docker_hub_has_its_old_name() {
        let auth = |text: &str| json!({ "auth": base64::encode(text.as_bytes()) });
        let content = content(json!({
            "auths": {
                "https://a.example:5000/v2/": auth("host:1"),
                "a.example:5000/team": auth("team:2:3"),
                "https://index.docker.io/v1/": auth("hub:4"),
                "b.example": { "identitytoken": "long" },
                "c.example": { "auth": "***" },
                "d.example": {}
            }
        }));
        let find = |registry: &str, repository: &str| content.find(registry, repository);
        assert!(find("a.example:5000", "x/y") == Ok(password("host", "1")));
        assert!(find("a.example:5000", "team/y") == Ok(password("team", "2:3")));
        assert!(find("a.example:5000", "teams") == Ok(password("host", "1")));
        assert!(find("a.example", "x") == Ok(None));
        assert!(find("docker.io", "library/x") == Ok(password("hub", "4")));
        assert!(find("b.example", "x") == Ok(Some(Login::Refresh("long".into()))));
        let error = find("c.example", "x").err().expect("it is wrong");
        assert!(
            error.contains("c.example") && !error.contains('*'),
            "{error}"
        );
        assert!(find("d.example", "x") == Ok(None));
    }

    #[test]
    fn a_helper_is_asked_and_one_that_hangs_is_ended() {
        let scratch = tempfile::tempdir().expect("a directory");
        let helper = |script: &str, limit| {
            let path = scratch.path().join("docker-credential-x");
            // By another process: one that a test forks meanwhile would hold the
            // file open, and it could not be run.
            let made = Command::new("sh")
                .args([
                    "-c",
                    r#"printf '#!/bin/sh\n%s\n' "$1" >"$0"; chmod 755 "$0""#,
                ])
                .args([path.as_os_str(), script.as_ref()])
                .status();
            assert!(made.expect("a shell").success());
            ask_program(path.as_os_str(), "a.example", limit)
        };
        let answer = r#"read host; echo "{\"Username\":\"$1-$host\",\"Secret\":\"s\"}""#;
        assert!(helper(answer, HELPER) == Ok(password("get-a.example", "s")));
        let token = r#"echo '{"Username":"<token>","Secret":"s"}'"#;
        assert!(helper(token, HELPER) == Ok(Some(Login::Refresh("s".into()))));
        let none = "echo credentials not found in native keychain; exit 1";
        assert!(helper(none, HELPER) == Ok(None));
        let error = helper("echo no", HELPER).err().expect("no answer");
        assert!(
            error.contains("does not answer with credentials"),
            "{error}"
        );
        let error = helper("sleep 600", Duration::from_millis(50)).err();
        assert!(error.is_some_and(|it| it.contains("does not answer within 50ms")));
        for name in ["", "../x", "a b"] {
            assert!(ask(name, "a.example", HELPER).is_err());
        }
    }

    #[test]
    fn files_are_looked_at_in_order() {
        let scratch = tempfile::tempdir().expect("a directory");
        let home = scratch.path().join("home");
        let put = |name: &str, user: &str| {
            let path = scratch.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            let auth = base64::encode(format!("{user}:p").as_bytes());
            let text = json!({ "auths": { "a.example": { "auth": auth } } });
            fs::write(path, text.to_string()).expect("a file");
        };
        let find = |variables: &[(&str, &Path)]| {
            let credentials = Credentials::new(|wanted| {
                let mut variables = variables.iter();
                let found = variables.find(|(name, _)| *name == wanted);
                found.map(|(_, path)| path.display().to_string())
            });
            credentials.find("a.example", "x")
        };
        let home: &[(&str, &Path)] = &[("HOME", &home)];
        let found = find(home).unwrap_or_else(|error| panic!("{error}"));
        assert!(found.login.is_none());
        assert!(
            found.place.ends_with("home/.docker/config.json"),
            "{}",
            found.place
        );
        for (name, user) in [
            ("home/.docker/config.json", "docker"),
            ("home/.config/containers/auth.json", "podman"),
        ] {
            put(name, user);
            let found = find(home).unwrap_or_else(|error| panic!("{error}"));
            assert!(found.login == password(user, "p"), "{user}");
        }
        let missing = scratch.path().join("missing");
        let error = find(&[("REGISTRY_AUTH_FILE", &missing)])
            .err()
            .expect("no file");
        assert!(error.contains("does not exist"), "{error}");
        fs::write(&missing, r#"{"auths": {"a": "secret"}}"#).expect("a file");
        let error = find(&[("REGISTRY_AUTH_FILE", &missing)])
            .err()
            .expect("no map");
        assert!(
            error.contains("line 1") && !error.contains("secret"),
            "{error}"
        );
    }
}
