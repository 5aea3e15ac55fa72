//! Command lines in the documents are ones that the programs take: subcommands and flags exist.

use std::collections::BTreeMap;
use std::process::Command;

use atrest_tests::binaries;

use crate::markdown::{Block, documents};

#[test]
fn every_command_line_parses() {
    let mut helps = Helps::default();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in documents() {
        for block in document.blocks() {
            for line in command_lines(&block) {
                seen += 1;
                if let Err(reason) = helps.check(&line) {
                    let place = format!("{}:{}", document.name(), block.line);
                    wrong.push(format!("{place}: {}: {reason}", line.join(" ")));
                }
            }
        }
    }
    assert!(seen > 20, "only {seen} command lines were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Lines of our programs, continued lines joined: behind `$ ` in console blocks, else as they
/// stand.
fn command_lines(block: &Block) -> Vec<Vec<String>> {
    if !matches!(block.language.as_str(), "" | "console" | "sh") {
        return Vec::new();
    }
    let text = block.text.replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| {
        let line = match block.language.as_str() {
            "console" => line.strip_prefix("$ ")?,
            _ => line.strip_prefix("$ ").unwrap_or(line),
        };
        let line = line.split(" #").next().unwrap_or_default();
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let program = words.iter().position(|word| word != "sudo")?;
        matches!(words[program].as_str(), "atrest" | "atrest-kms").then(|| {
            let end = words
                .iter()
                .position(|w| matches!(w.as_str(), "|" | ">" | "<" | "&&" | ";"));
            words[program..end.unwrap_or(words.len())].to_vec()
        })
    });
    lines.collect()
}

/// What the programs' `--help` says, by the words in front of it.
#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, String>);

impl Helps {
    fn check(&mut self, line: &[String]) -> Result<(), String> {
        let mut command = vec![line[0].clone()];
        let mut flags = Vec::new();
        let mut value_may_follow = false;
        for word in &line[1..] {
            if word.starts_with('-') && word != "-" {
                let flag = word.split('=').next().unwrap_or_default();
                flags.push(flag.to_owned());
                value_may_follow = !word.contains('=');
                continue;
            }
            let subcommands = subcommands(self.of(&command));
            if subcommands.contains(word) {
                command.push(word.clone());
            } else if !subcommands.is_empty() && !value_may_follow {
                return Err(format!("no subcommand {word}"));
            }
            value_may_follow = false;
        }
        let help = self.of(&command);
        match flags.iter().find(|flag| !has_flag(help, flag)) {
            None => Ok(()),
            Some(flag) => Err(format!("no flag {flag}")),
        }
    }

    fn of(&mut self, command: &[String]) -> &str {
        self.0.entry(command.to_vec()).or_insert_with(|| {
            let output = Command::new(binaries::path(&command[0]))
                .args(&command[1..])
                .arg("--help")
                .output()
                .unwrap();
            assert!(output.status.success(), "{command:?} --help");
            String::from_utf8(output.stdout).unwrap()
        })
    }
}

/// The names in the section `Commands:`.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.trim().is_empty())
        // Further lines of a description stand further to the right.
        .filter_map(|line| {
            line.strip_prefix("  ")?
                .split(' ')
                .next()
                .map(str::to_owned)
        })
        .filter(|name| !name.is_empty())
        .collect()
}

/// Whether a line of the help is about the flag.
fn has_flag(help: &str, flag: &str) -> bool {
    help.lines().map(str::trim_start).any(|line| {
        line.starts_with('-')
            && line
                .split([' ', ',', '=', '['])
                .take_while(|word| word.is_empty() || word.starts_with('-'))
                .any(|word| word == flag)
    })
}

#[test]
fn a_flag_that_is_not_there_is_found_out() {
    let mut helps = Helps::default();
    let mut check = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        helps.check(&words)
    };
    for line in [
        "atrest verify --config FILE --quiet",
        "atrest --quiet rotate run -f rotation.yaml --hold 30m",
        "atrest-kms keyring list --keyring FILE",
    ] {
        assert_eq!(check(line), Ok(()), "{line}");
    }
    for line in [
        "atrest verify --confg FILE",
        "atrest rotat run",
        "atrest rotate run --hol 30m",
        "atrest-kms keyring lst",
    ] {
        assert!(check(line).is_err(), "{line}");
    }
}
