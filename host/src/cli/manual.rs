//! `netwasm help TOPIC` and `netwasm man`: texts made from the flags, the keys of
//! configuration files, and the documentation.

mod topics;

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::prose::{self, Block, StyledText};

use self::topics::{KEYS, TOPICS, Topic};
use super::{Cli, Command, mistakes, usage, version};

/// Columns of a text where there is no terminal, and the most in one.
const COLUMNS: (usize, usize) = (80, 100);

#[derive(Args, Debug)]
pub(super) struct HelpFlags {
    /// A topic, or a command
    #[arg(value_name = "TOPIC")]
    pub(super) topic: String,
}

#[derive(Args, Debug)]
pub(super) struct ManFlags {
    /// The page, such as netwasm-run or netwasm.toml [default: a list of them]
    #[arg(value_name = "PAGE", conflicts_with = "out")]
    page: Option<String>,
    /// Write all pages to a directory, which man -M reads
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A manual page.
struct Page {
    name: String,
    section: u8,
    /// A line about it.
    about: String,
    of: Of,
}

/// Source of a page.
enum Of {
    Command(Box<clap::Command>),
    Topic(&'static Topic),
}

impl HelpFlags {
    /// Returns the topic's text. The flags of a command are told by `--help`.
    pub(super) fn into_command(self) -> Result<Command, clap::Error> {
        let wanted = self.topic.to_lowercase();
        let Some(topic) = TOPICS.iter().find(|topic| topic.name == wanted) else {
            let program = Cli::command();
            let commands = program.get_subcommands().map(clap::Command::get_name);
            let known: Vec<_> = names().into_iter().chain(commands).collect();
            return Err(unknown(
                "topic or command",
                &self.topic,
                &known,
                "netwasm help",
            ));
        };
        let out = std::io::stdout();
        let styled = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let size = rustix::termios::tcgetwinsize(&out).ok();
        let columns = size.map_or(COLUMNS.0, |size| usize::from(size.ws_col));
        let title = Block::paragraph(&format!("**{}**: {}", topic.name, topic.about));
        let blocks: Vec<_> = std::iter::once(title).chain(topic.blocks()).collect();
        Ok(Command::Print(prose::plain(
            &blocks,
            columns.clamp(COLUMNS.0 / 2, COLUMNS.1),
            styled,
        )))
    }
}

impl ManFlags {
    /// Returns a page, a list of them, or all to write.
    pub(super) fn into_command(
        self,
        program: clap::Command,
        commit: &str,
    ) -> Result<Command, clap::Error> {
        let pages = pages(program);
        let date = version::date(commit);
        if let Some(directory) = self.out {
            let files = pages.iter().map(|page| {
                let file = format!("man{0}/{1}.{0}", page.section, page.name);
                (PathBuf::from(file), page.roff(date, &pages))
            });
            let files = files.collect();
            return Ok(Command::Write { directory, files });
        }
        let Some(wanted) = self.page else {
            let lines = pages.iter().map(|page| {
                let title = format!("{}({})", page.name, page.section);
                format!("{title:<26} {}\n", page.about)
            });
            return Ok(Command::Print(lines.collect()));
        };
        // `run`, `netwasm-run`, `netwasm-run.1` and `netwasm-run(1)`.
        let page = pages.iter().find(|page| {
            let Page { name, section, .. } = page;
            let short = name.strip_prefix("netwasm-").unwrap_or(name);
            [
                short.to_owned(),
                name.clone(),
                format!("{name}.{section}"),
                format!("{name}({section})"),
            ]
            .contains(&wanted)
        });
        match page {
            Some(page) => Ok(Command::Print(page.roff(date, &pages))),
            None => {
                let names: Vec<_> = pages.iter().map(|page| &*page.name).collect();
                let shorts = names
                    .iter()
                    .filter_map(|name| name.strip_prefix("netwasm-"));
                let all: Vec<_> = names.iter().copied().chain(shorts).collect();
                Err(unknown("page", &wanted, &all, "netwasm man"))
            }
        }
    }
}

/// Returns the names of all topics.
pub(super) fn names() -> [&'static str; TOPICS.len()] {
    TOPICS.each_ref().map(|topic| topic.name)
}

/// Returns a line for each topic, for the help.
pub(super) fn list_of_topics() -> String {
    let mut text = String::from("Topics of `netwasm help TOPIC`:\n");
    for Topic { name, about, .. } in &TOPICS {
        text += &format!("  {name:<14} {about}\n");
    }
    text
}

fn unknown(kind: &str, word: &str, known: &[&str], lists: &str) -> clap::Error {
    let meant = mistakes::nearest(word, known);
    let meant = meant.map_or_else(String::new, |it| format!(" Did you mean {it}?"));
    usage(&format!(
        "there is no {kind} '{word}'.{meant} `{lists}` lists them"
    ))
}

/// Returns all pages: of the program and its commands, of configuration files,
/// and of the topics.
fn pages(mut program: clap::Command) -> Vec<Page> {
    program.build();
    let about = |command: &clap::Command| {
        let about = command.get_about().map(ToString::to_string);
        about.unwrap_or_default()
    };
    let of_command = |command: &clap::Command| Page {
        name: command
            .get_display_name()
            .unwrap_or_else(|| command.get_name())
            .to_owned(),
        section: 1,
        about: about(command),
        of: Of::Command(Box::new(command.clone())),
    };
    let commands = std::iter::once(&program).chain(program.get_subcommands());
    let commands: Vec<_> = commands
        .filter(|command| !command.is_hide_set())
        .map(of_command)
        .collect();
    let topics = TOPICS.iter().map(|topic| {
        let (name, section) = match topic.name {
            KEYS => ("netwasm.toml".to_owned(), 5),
            name => (format!("netwasm-{name}"), 7),
        };
        Page {
            name,
            section,
            about: topic.about.to_owned(),
            of: Of::Topic(topic),
        }
    });
    commands.into_iter().chain(topics).collect()
}

impl Page {
    /// Returns the page, which refers to the others.
    fn roff(&self, date: &str, others: &[Self]) -> String {
        let Self { name, section, .. } = self;
        let program = format!("netwasm {}", version::VERSION);
        // Not by clap_mangen, which gives an empty date no place.
        let mut text =
            format!(".TH \"{name}\" \"{section}\" \"{date}\" \"{program}\" \"netwasm manual\"\n");
        match &self.of {
            Of::Command(command) => text += &of_command(command),
            Of::Topic(topic) => {
                let mut head = Roff::new();
                head.control("SH", ["NAME"])
                    .text([roman(format!("{name} - {}", topic.about))]);
                let blocks = topic.blocks();
                if !matches!(blocks.first(), Some(Block::Heading(_))) {
                    head.control("SH", ["DESCRIPTION"]);
                }
                text += &head.render();
                text += &prose::roff(&blocks);
            }
        }
        text += &self.see_also(others);
        // Each piece begins with it.
        let preamble = Roff::new().render();
        preamble.clone() + &text.replace(&preamble, "")
    }

    fn see_also(&self, others: &[Self]) -> String {
        // The first page names all, the others the next of kin.
        let is_named = |other: &&Self| {
            let is_near = other.section == 5 || other.name == "netwasm";
            other.name != self.name && (self.name == "netwasm" || is_near)
        };
        let others: Vec<_> = others.iter().filter(is_named).collect();
        let mut page = Roff::new();
        page.control("SH", ["SEE ALSO"]);
        for (number, other) in others.iter().enumerate() {
            let comma = if number + 1 < others.len() { "," } else { "" };
            page.text([
                bold(&other.name),
                roman(format!("({}){comma}", other.section)),
            ]);
        }
        page.render()
    }
}

/// Returns the sections of a command. Those of its flags are clap_mangen's.
fn of_command(command: &clap::Command) -> String {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = man.render_name_section(&mut text);
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]).text([bold(usage)]);
    text.extend(synopsis.render().into_bytes());
    let _ = man.render_description_section(&mut text);
    let _ = man.render_options_section(&mut text);
    if command.has_subcommands() {
        let _ = man.render_subcommands_section(&mut text);
    }
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if let Some(after) = command.get_after_help() {
        text += &prose::roff(&notes(&after.to_string()));
    }
    text
}

/// Returns what is below the flags in a command's help, as blocks: a line with a
/// colon at its end is a heading, and lines that are indented stay as they are.
fn notes(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    for part in text.split("\n\n") {
        let (first, rest) = part.split_once('\n').unwrap_or((part, ""));
        let is_prose = |line: &str| !line.starts_with(' ') && !line.contains("  ");
        match first.strip_suffix(':') {
            Some(heading) if !first.starts_with(' ') => {
                blocks.push(Block::Heading(heading.replace('`', "")));
                let lines = rest
                    .lines()
                    .map(|line| line.strip_prefix("  ").unwrap_or(line));
                blocks.push(Block::Lines(lines.collect::<Vec<_>>().join("\n")));
            }
            _ => {
                if blocks.is_empty() {
                    blocks.push(Block::Heading("Notes".into()));
                }
                blocks.push(match part.lines().all(is_prose) {
                    true => Block::Paragraph(StyledText::read(&part.replace('\n', " "))),
                    false => Block::Lines(part.to_owned()),
                });
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    fn answer(line: &str) -> Result<String, String> {
        let words = std::iter::once("netwasm").chain(line.split_whitespace());
        match parse("0123456789ab 2026-11-30", words.map(Into::into)) {
            Ok(Command::Print(text)) => Ok(text),
            Ok(other) => panic!("{line}: {other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn each_topic_has_a_text_and_the_help_lists_it() {
        let help = answer("help").expect_err("the program's help");
        for name in names() {
            let text = answer(&format!("help {name}")).expect(name);
            assert!(text.lines().count() > 4, "{text}");
            assert!(text.lines().all(|it| !it.ends_with(' ')), "{text}");
            assert!(help.contains(&format!("\n  {name} ")), "{help}");
        }
        assert!(answer("help run").expect_err("its flags").contains("--tcp"));
    }

    #[test]
    fn an_unknown_topic_or_page_names_the_one_that_was_meant() {
        let told = answer("help permisions").expect_err("no topic");
        assert!(told.contains("Did you mean permissions?"), "{told}");
        let told = answer("help isnpect").expect_err("no command");
        assert!(told.contains("Did you mean inspect?"), "{told}");
        let told = answer("man netwasm-rum").expect_err("no page");
        assert!(told.contains("Did you mean netwasm-run?"), "{told}");
    }

    #[test]
    fn a_page_is_found_by_each_of_its_names() {
        let page = answer("man netwasm-run.1").expect("a page");
        assert!(
            page.contains("\n.TH \"netwasm-run\" \"1\" \"2026-11-30\""),
            "{page}"
        );
        for name in ["run", "netwasm-run", "netwasm-run(1)"] {
            assert_eq!(answer(&format!("man {name}")).as_ref(), Ok(&page));
        }
        let list = answer("man").expect("a list");
        assert!(list.contains("netwasm.toml(5)"), "{list}");
    }
}
