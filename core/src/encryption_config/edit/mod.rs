//! Edits a file by the smallest changes of its text: comments, quotes and order of what is not
//! concerned stay as they are.

mod change;
mod extend;
mod learn;
mod parts;
mod reconcile;
mod scan;

pub use self::change::{Change, Refusal};
pub use self::extend::Extended;
pub(super) use self::parts::{Obstacle, Slot, Source, Splice};
use self::reconcile::reconcile;

use super::form::Form;
use super::judge::{Server, is_json, judge};
use super::model::EncryptionConfiguration;
use super::tree::{Text, Tree, Value};
use super::{json, yaml};
use crate::secret::SecretBytes;

/// Why a file cannot be edited. Nothing secret is in it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The file is not one that the server accepts.
    #[error("kube-apiserver would reject the file as it is")]
    Rejected,
    /// What the file should become is nothing that the server accepts.
    #[error("kube-apiserver would reject the edited file: {0}")]
    Unacceptable(String),
    /// The file is YAML in UTF-16.
    #[error("the file is in UTF-16: convert it to UTF-8 first")]
    Utf16,
    /// The text is such that comments would get lost, or such that nothing can be cut out of it.
    #[error("line {line}: {what}")]
    Obstacle {
        /// From 1.
        line: u32,
        /// What stands in the way.
        what: &'static str,
    },
    /// No edit led to a file that says what it should.
    #[error("no edit of the file's text says what it should, and nothing less is written")]
    Unproven,
}

/// Brings a file that the server accepts to another configuration. What is returned was judged: the
/// server accepts it, and reads `to` out of it.
///
/// Items that stay are untouched byte for byte; those that move take along the comments right
/// above them and behind them; those that leave take them away. New ones look like their
/// neighbours. An alias whose value changes is written out.
pub fn rewrite(
    source: &[u8],
    to: &EncryptionConfiguration,
    server: &Server,
) -> Result<SecretBytes, EditError> {
    let from = judge(source, server).configuration;
    let from = from.ok_or(EditError::Rejected)?;
    if from == *to {
        return Ok(SecretBytes::new(source.to_vec()));
    }
    change::accepted(to, server).map_err(EditError::Unacceptable)?;
    let (tree, is_json) = read_tree(source).ok_or(EditError::Utf16)?;
    let text = Source::new(source, &tree, is_json);
    let [from, form] = [&from, to].map(|it| with_kind_of(&tree, Form::of(it)));
    let mut error = EditError::Unproven;
    for expand in [false, true] {
        match reconcile(&text, &from, &form, expand) {
            Ok(splices) => {
                let edited = text.apply(splices).into_secret();
                if judge(edited.expose(), server).configuration.as_ref() == Some(to) {
                    return Ok(edited);
                }
            }
            Err(obstacle) => {
                error = EditError::Obstacle {
                    line: obstacle.line,
                    what: obstacle.what,
                };
            }
        }
    }
    Err(error)
}

/// A kind of old stays: a form knows today's alone.
fn with_kind_of(tree: &Tree, form: Form) -> Form {
    let (Form::Map(mut fields), Some(Value::Map(pairs))) =
        (form, tree.root.map(|it| tree.value(it)))
    else {
        return Form::Map(Vec::new());
    };
    for pair in tree.pairs(pairs) {
        let name = tree.text(pair.key).map_or("", Text::expose);
        let field = fields.iter_mut().find(|field| field.0 == name);
        if let (Some(field), Some(text)) = (field, tree.text(pair.value)) {
            field.1 = Form::Text(text.clone());
        }
    }
    Form::Map(fields)
}

/// The tree of a file whose offsets are those of its bytes, and whether it is JSON.
pub(super) fn read_tree(source: &[u8]) -> Option<(Tree, bool)> {
    if source.starts_with(b"\xff\xfe") || source.starts_with(b"\xfe\xff") {
        return None;
    }
    let is_json = is_json(source);
    let tree = match is_json {
        true => json::read(source),
        false => yaml::read(source).map(|(tree, _)| tree),
    };
    Some((tree.ok()?, is_json))
}
