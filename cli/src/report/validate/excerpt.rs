//! A line of a masked file and a caret beneath the column that a finding is about.

/// The line, cut around the column where it is wider than `width`, and where in it the caret goes,
/// from 0. `None` where there is nothing to look at.
pub(super) fn excerpt(
    masked: &str,
    line: u32,
    column: u32,
    width: usize,
) -> Option<(String, usize)> {
    const LEAST: usize = 20;

    let width = width.max(LEAST);
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    // Every character is one column wide, and one byte.
    let text = masked.lines().nth(index)?.trim_end();
    if text.is_empty() {
        return None;
    }
    let caret = usize::try_from(column)
        .ok()?
        .checked_sub(1)?
        .min(text.len());
    if text.len().max(caret + 1) <= width {
        return Some((text.to_owned(), caret));
    }
    let room = width - 2; // for what stands in place of the rest
    let start = caret
        .saturating_sub(room / 2)
        .min((text.len() + 1).saturating_sub(room));
    let end = (start + room).min(text.len());
    let mut cut = String::new();
    let before = if start > 0 { "…" } else { "" };
    let after = if end < text.len() { "…" } else { "" };
    cut.push_str(before);
    cut.push_str(text.get(start..end)?);
    cut.push_str(after);
    Some((cut, caret - start + before.chars().count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_is_beneath_its_column() {
        let masked = "a: b\n\n  c: **\n";
        assert_eq!(excerpt(masked, 1, 4, 80), Some(("a: b".into(), 3)));
        assert_eq!(excerpt(masked, 3, 3, 80), Some(("  c: **".into(), 2)));
        // At the end of the line, and beyond it.
        assert_eq!(excerpt(masked, 1, 5, 80), Some(("a: b".into(), 4)));
        assert_eq!(excerpt(masked, 1, 99, 80), Some(("a: b".into(), 4)));
        for line in [0, 2, 4, 5, u32::MAX] {
            assert_eq!(excerpt(masked, line, 1, 80), None, "{line}");
        }
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let line: String = (0..1000)
            .map(|i| char::from(b'a' + (i % 26) as u8))
            .collect();
        for column in 1..=1001_usize {
            let (text, caret) = excerpt(&line, 1, column as u32, 40).unwrap();
            assert!(text.chars().count() <= 40 && caret < 40, "{column}: {text}");
            match line.chars().nth(column - 1) {
                Some(scalar) => assert_eq!(text.chars().nth(caret), Some(scalar), "{column}"),
                None => assert_eq!(caret, text.chars().count()),
            }
        }
    }
}
