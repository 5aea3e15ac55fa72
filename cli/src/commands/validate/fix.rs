//! `atrest validate --fix`: what will change is shown, with secrets masked, before it does.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use atrest_core::encryption_config::{Server, fix, mask};

use crate::args::{Global, Validate};
use crate::commands::confirmed;
use crate::report;
use crate::status::Failure;

/// Mends each file that can be read. What cannot be read is for the report that follows.
pub(super) fn run(global: &Global, arguments: &Validate, server: &Server) -> Result<(), Failure> {
    if arguments.files.iter().any(|file| file == Path::new("-")) {
        return Err(Failure::unusable("what comes from stdin cannot be mended")
            .hint("name the file instead of -"));
    }
    arguments
        .files
        .iter()
        .try_for_each(|path| mend(global, arguments, server, path))
}

fn mend(
    global: &Global,
    arguments: &Validate,
    server: &Server,
    path: &Path,
) -> Result<(), Failure> {
    let Ok(source) = atrest_files::read(path) else {
        return Ok(());
    };
    let name = report::one_line(&path.to_string_lossy());
    // Nobody is asked about what is not shown.
    let is_quiet = global.quiet && arguments.yes && !arguments.dry_run;
    let say = |line: String| {
        if !is_quiet && !line.is_empty() {
            report::say(line);
        }
    };
    let fixed = fix(source.expose(), server);
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.mode() & 0o7777);
    let is_open = mode & 0o077 != 0;
    for mend in &fixed.mended {
        say(format!("{name}: {}: {}: {}", mend.id, mend.path, mend.what));
    }
    if is_open {
        say(format!("{name}: AR-L048: mode {mode:04o} becomes 0600"));
    }
    if fixed.mended.is_empty() && !is_open {
        say(format!("{name}: there is nothing to mend"));
        return Ok(());
    }
    say(diff(&name, source.expose(), fixed.bytes.expose()));
    if arguments.dry_run {
        return Ok(());
    }
    let question = format!("mend {name}?");
    match arguments
        .yes
        .then_some(true)
        .or_else(|| confirmed(&question))
    {
        Some(true) => {}
        Some(false) => {
            say(format!("{name}: nothing was changed"));
            return Ok(());
        }
        None => {
            report::say(format_args!(
                "{name}: nothing was changed: say --yes where nobody can be asked"
            ));
            return Ok(());
        }
    }
    let unwritten = |error| Failure::unusable(error).hint("the file is as it was");
    if is_open {
        // First: nobody new is to read what is written then.
        atrest_files::restrict(path).map_err(unwritten)?;
    }
    if !fixed.mended.is_empty() {
        let expected = Some(source.fingerprint());
        atrest_files::replace(path, fixed.bytes.expose(), expected).map_err(unwritten)?;
    }
    say(format!("{name}: mended"));
    Ok(())
}

/// A unified diff of the texts, in which everything that may be a secret is masked.
fn diff(name: &str, old: &[u8], new: &[u8]) -> String {
    const CONTEXT: usize = 3;

    let [old_masked, new_masked] = [old, new].map(mask);
    let [old_shown, new_shown] = [&old_masked, &new_masked].map(|text| lines(text.as_bytes()));
    let [mut old, mut new] = [old, new].map(lines);
    if old.len() != old_shown.len() || new.len() != new_shown.len() {
        // Lines that end otherwise.
        (old, new) = (old_shown.clone(), new_shown.clone());
    }
    let script = script(&old, &new);
    let changes: Vec<usize> = (0..script.len())
        .filter(|at| !matches!(script[*at], Line::Both(..)))
        .collect();
    let mut out = String::new();
    let mut rest = changes.as_slice();
    while let [first, ..] = rest {
        let apart = |pair: &[usize]| pair[1] - pair[0] > 2 * CONTEXT + 1;
        let count = rest
            .windows(2)
            .position(apart)
            .map_or(rest.len(), |at| at + 1);
        let from = first.saturating_sub(CONTEXT);
        let to = (rest[count - 1] + CONTEXT + 1).min(script.len());
        let hunk = &script[from..to];
        rest = &rest[count..];

        let range = |side: fn(&Line) -> Option<usize>| {
            let start = script[..from].iter().filter_map(side).count();
            let count = hunk.iter().filter_map(side).count();
            format!("{},{count}", start + usize::from(count > 0))
        };
        let (of_old, of_new) = (range(Line::in_old), range(Line::in_new));
        let _ = write!(out, "\n@@ -{of_old} +{of_new} @@");
        for line in hunk {
            let (sign, shown) = match line {
                Line::Both(_, new) => (' ', new_shown[*new]),
                Line::Old(old) => ('-', old_shown[*old]),
                Line::New(new) => ('+', new_shown[*new]),
            };
            let shown = String::from_utf8_lossy(shown);
            let _ = write!(out, "\n{sign}{}", shown.trim_end());
        }
    }
    match out.is_empty() {
        true => String::new(),
        false => format!("--- {name}\n+++ {name}{out}"),
    }
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// A line of a diff, by its numbers in the texts.
enum Line {
    Both(usize, usize),
    Old(usize),
    New(usize),
}

impl Line {
    fn in_old(&self) -> Option<usize> {
        match self {
            Self::Both(old, _) | Self::Old(old) => Some(*old),
            Self::New(_) => None,
        }
    }

    fn in_new(&self) -> Option<usize> {
        match self {
            Self::Both(_, new) | Self::New(new) => Some(*new),
            Self::Old(_) => None,
        }
    }
}

/// The longest common subsequence; of what is too much for that, everything.
fn script(old: &[&[u8]], new: &[&[u8]]) -> Vec<Line> {
    const MOST: usize = 4 << 20;

    let same = |(a, b): &(&&[u8], &&[u8])| a == b;
    let head = old.iter().zip(new).take_while(same).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev());
    let tail = tail.take_while(same).count();
    let [a, b] = [&old[head..old.len() - tail], &new[head..new.len() - tail]];
    // common[i][j]: what is common from these on.
    let width = b.len() + 1;
    let is_small = (a.len() + 1) * width <= MOST;
    let mut common = vec![0_u32; if is_small { (a.len() + 1) * width } else { 0 }];
    if is_small {
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                common[i * width + j] = match a[i] == b[j] {
                    true => common[(i + 1) * width + j + 1] + 1,
                    false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
                };
            }
        }
    }
    let mut script: Vec<_> = (0..head).map(|at| Line::Both(at, at)).collect();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let at = |i: usize, j: usize| common.get(i * width + j).copied().unwrap_or_default();
        if is_small && i < a.len() && j < b.len() && a[i] == b[j] {
            script.push(Line::Both(head + i, head + j));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || at(i + 1, j) >= at(i, j + 1)) {
            script.push(Line::Old(head + i));
            i += 1;
        } else {
            script.push(Line::New(head + j));
            j += 1;
        }
    }
    let (old, new) = (old.len() - tail, new.len() - tail);
    script.extend((0..tail).map(|at| Line::Both(old + at, new + at)));
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_unified_and_masked() {
        let old = "kind: EncryptionConfig\napiVersion: v1\nresources:\n- resources: [secrets]\n  providers:\n  \
                   - secretbox:\n      keys:\n      - name: a # c2VjcmV0\n        secret: hunter2\n";
        let new = old.replace(
            "kind: EncryptionConfig\n",
            "kind: EncryptionConfiguration\n",
        );
        let expected = "\
--- file
+++ file
@@ -1,4 +1,4 @@
-kind: EncryptionConfig
+kind: EncryptionConfiguration
 apiVersion: v1
 resources:
 - resources: [secrets]";
        assert_eq!(diff("file", old.as_bytes(), new.as_bytes()), expected);
        let new = old.replace("hunter2", "hunter 2") + "# more";
        let expected = "\
--- file
+++ file
@@ -6,4 +6,5 @@
   - secretbox:
       keys:
       - name: a # ********
-        secret: *******
+        secret: ****** *
+# ****";
        assert_eq!(diff("file", old.as_bytes(), new.as_bytes()), expected);
        assert_eq!(diff("file", old.as_bytes(), old.as_bytes()), "");
    }

    #[test]
    fn far_changes_have_hunks_of_their_own() {
        let old: String = (0..30).map(|it| format!("name: {it}\n")).collect();
        let new = old
            .replace("name: 2\n", "")
            .replace("name: 25\n", "name: x\nname: y\n");
        let diff = diff("file", old.as_bytes(), new.as_bytes());
        let hunks: Vec<_> = diff.lines().filter(|line| line.starts_with("@@")).collect();
        assert_eq!(hunks, ["@@ -1,6 +1,5 @@", "@@ -23,7 +22,8 @@"]);
    }
}
