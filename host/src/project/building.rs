//! A tool that builds a project, while it runs.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::thread::JoinHandle;

use serde_json::Value;

use super::build::{of_tool, shown};
use super::native::NativeProject;
use super::{ProjectError, children, write};

/// A tool that builds.
#[derive(Debug)]
pub(super) struct Building {
    tool: &'static str,
    /// `None` if the component is there already.
    child: Option<Child>,
    /// Sources and tools of the component, to be noted in a file.
    pub(super) made_of: Option<(PathBuf, String)>,
    /// Reads what it prints: cargo's messages.
    printed: Option<JoinHandle<String>>,
    /// The component, if it is known before.
    output: Option<PathBuf>,
    /// The core module that a component is made of then.
    pub(super) module: Option<(NativeProject, PathBuf)>,
}

impl Building {
    pub(super) fn start(
        tool: &'static str,
        mut command: Command,
        missing: &str,
        output: Option<PathBuf>,
    ) -> Result<Self, ProjectError> {
        let mut child =
            children::spawn(&mut command).map_err(|error| of_tool(tool, error, missing))?;
        let printed = child.stdout.take().map(|mut stdout| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                // The part that was read before an error may be enough.
                let _ = stdout.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        Ok(Self {
            tool,
            child: Some(child),
            made_of: None,
            printed,
            output,
            module: None,
        })
    }

    /// Returns a build that has nothing to do.
    pub(super) fn done(tool: &'static str, output: PathBuf) -> Self {
        Self {
            tool,
            child: None,
            made_of: None,
            printed: None,
            output: Some(output),
            module: None,
        }
    }

    /// Waits for the component.
    pub(super) fn wait(mut self) -> Result<PathBuf, ProjectError> {
        match &mut self.child {
            Some(child) => {
                let status = child.wait();
                self.ended(status)
            }
            None => self.finish(),
        }
    }

    /// Returns the component once it is built; `None` until then.
    pub(super) fn poll(&mut self) -> Option<Result<PathBuf, ProjectError>> {
        let Some(child) = &mut self.child else {
            return Some(self.finish());
        };
        match child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(self.ended(Ok(status))),
            Err(error) => Some(self.ended(Err(error))),
        }
    }

    /// Ends the tool.
    pub(super) fn cancel(mut self) {
        if let Some(child) = &mut self.child {
            children::signal(child, rustix::process::Signal::TERM);
            // It ends at once; otherwise it is waited for.
            let _ = child.wait();
        }
    }

    fn ended(&mut self, status: io::Result<ExitStatus>) -> Result<PathBuf, ProjectError> {
        let tool = self.tool;
        let status = status.map_err(|source| ProjectError::Tool {
            tool: tool.into(),
            source,
        })?;
        if !status.success() {
            return Err(ProjectError::Told(format!("{tool} failed ({status})")));
        }
        let output = self.finish()?;
        if let Some((file, made_of)) = self.made_of.take() {
            write(&file, &made_of)?;
        }
        Ok(output)
    }

    /// Returns the component, once the tool has done its part.
    fn finish(&mut self) -> Result<PathBuf, ProjectError> {
        if let Some(output) = self.output.take() {
            if let Some((native, module)) = self.module.take() {
                native.finish(&module, &output)?;
            }
            return Ok(output);
        }
        let printed = self.printed.take().and_then(|reader| reader.join().ok());
        the_component(&components(&printed.unwrap_or_default()))
    }
}

/// Returns the components among the artifacts that cargo's messages name.
fn components(messages: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for message in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(message) else {
            continue;
        };
        let files = message.get("filenames").and_then(Value::as_array);
        let files = files.into_iter().flatten().filter_map(Value::as_str);
        found.extend(
            files
                .filter(|file| file.ends_with(".wasm"))
                .map(PathBuf::from),
        );
    }
    found
}

fn the_component(found: &[PathBuf]) -> Result<PathBuf, ProjectError> {
    match found {
        [component] => Ok(component.clone()),
        [] => Err(ProjectError::Told(
            "the project makes no component: a handler is a library with `crate-type = \
             [\"cdylib\"]` below [lib] of its Cargo.toml, and a program has a src/main.rs"
                .into(),
        )),
        several => {
            let names: Vec<_> = several.iter().map(|path| shown(path)).collect();
            Err(ProjectError::Told(format!(
                "the project makes several components: name the one to run: {}",
                names.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_found_in_the_messages_of_cargo() {
        let messages = r#"{"reason":"compiler-artifact","filenames":["/t/deps/liba.rlib"]}
not a message
{"reason":"compiler-artifact","filenames":["/t/a.wasm"],"fresh":true}
{"reason":"build-finished","success":true}"#;
        let found = components(messages);
        assert_eq!(found, [PathBuf::from("/t/a.wasm")]);
        assert!(the_component(&found).is_ok());
        for (found, told) in [
            (vec![], "crate-type"),
            (vec!["a.wasm".into(), "b.wasm".into()], "a.wasm, b.wasm"),
        ] {
            let error = the_component(&found).expect_err("not one");
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
