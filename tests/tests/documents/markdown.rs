//! As much of Markdown as the checks need.

use std::fs;
use std::path::{Path, PathBuf};

/// One of our documents.
pub(crate) struct Document {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A block of code.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Block {
    /// The word after the fence; empty for an indented block.
    pub(crate) language: String,
    pub(crate) text: String,
    /// Its first line, from 1.
    pub(crate) line: usize,
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// README.md, CHANGELOG.md and everything below docs/.
pub(crate) fn documents() -> Vec<Document> {
    let mut paths = vec![
        repository().join("README.md"),
        repository().join("CHANGELOG.md"),
    ];
    let mut folders = vec![repository().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| Document {
        text: fs::read_to_string(&path).unwrap(),
        path,
    };
    paths.into_iter().map(read).collect()
}

impl Document {
    /// For messages.
    pub(crate) fn name(&self) -> String {
        let path = self.path.strip_prefix(repository()).unwrap();
        path.display().to_string()
    }

    /// The blocks of code, fenced and indented ones.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        split(&self.text).1
    }

    /// The text with the blocks of code taken out, line by line.
    pub(crate) fn prose(&self) -> String {
        split(&self.text).0
    }
}

fn split(text: &str) -> (String, Vec<Block>) {
    let mut prose = String::new();
    let mut blocks: Vec<Block> = Vec::new();
    let mut fenced = false;
    let mut indented = false;
    let mut after_blank = true;
    for (i, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fenced = !fenced;
            indented = false;
            if fenced {
                blocks.push(Block {
                    language: language.trim().to_owned(),
                    text: String::new(),
                    line: i + 2,
                });
            }
            continue;
        }
        let code = line.strip_prefix("    ").filter(|_| !fenced);
        if fenced {
            push(&mut blocks, line);
        } else if let Some(code) = code.filter(|_| indented || after_blank) {
            if !indented {
                indented = true;
                blocks.push(Block {
                    language: String::new(),
                    text: String::new(),
                    line: i + 1,
                });
            }
            push(&mut blocks, code);
        } else {
            indented = false;
            prose.push_str(line);
            prose.push('\n');
        }
        after_blank = line.trim().is_empty();
    }
    assert!(!fenced, "a fence is not closed");
    (prose, blocks)
}

fn push(blocks: &mut [Block], line: &str) {
    let block = blocks.last_mut().unwrap();
    block.text.push_str(line);
    block.text.push('\n');
}

#[test]
fn blocks_are_taken_out_of_the_prose() {
    let (prose, blocks) = split("a\n\n    b\n    c\n\n```console\n$ d\n```\n- e\n    f\n");
    assert_eq!(prose, "a\n\n\n- e\n    f\n");
    let block = |language: &str, text: &str, line| Block {
        language: language.into(),
        text: text.into(),
        line,
    };
    assert_eq!(
        blocks,
        [block("", "b\nc\n", 3), block("console", "$ d\n", 7)]
    );
}
