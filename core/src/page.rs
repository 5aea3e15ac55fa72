//! The page of a rule, which is its doc comment.

/// A doc comment: a title of one sentence, and a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comment(pub(crate) &'static str);

impl Comment {
    /// The first sentence.
    pub(crate) fn title(self) -> &'static str {
        self.0.lines().next().unwrap_or_default().trim()
    }

    /// What follows the title, in Markdown. Examples are indented by four blanks.
    pub(crate) fn page(self) -> String {
        let mut page = String::new();
        let mut is_fenced = false;
        for line in self.0.lines().skip(1) {
            let line = line.strip_prefix(' ').unwrap_or(line);
            if line.starts_with("```") {
                is_fenced = !is_fenced;
                continue;
            }
            let indent = if is_fenced && !line.is_empty() {
                "    "
            } else {
                ""
            };
            page.push_str(indent);
            page.push_str(line);
            page.push('\n');
        }
        let text = page.trim_end();
        text.strip_prefix('\n').unwrap_or(text).to_owned()
    }
}
