//! Where the placeholders of a text for bash stand: what stands for them has to be quoted as that place asks for.
//!
//! The scanner follows bash's quoting, substitutions and here-documents. Where it can't be sure how bash reads a
//! place, it gives `Trouble`: a placeholder never becomes an unquoted reference, and its value is never pasted in.

mod here_document;
mod scanner;

#[cfg(test)]
mod tests;

/// A part of a text for bash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Bash reads it as it is.
    Text(&'t str),
    Placeholder {
        /// The text between the braces, `in.rows`.
        inside: &'t str,
        place: Place,
        /// Counted from 1.
        line: usize,
    },
}

/// How bash quotes at a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Outside quotes, or where quotes open anew: `cat {in.x}`, `"${y:-{in.x}}"`.
    Bare,
    /// `"{in.x}"`, and the body of a here-document.
    Double,
    /// `'{in.x}'`
    Single,
    /// `$'{in.x}'`
    Escaped,
    /// `$(( {param.n} ))`, a subscript, an offset: bash would run what a value says, unless it is a whole number.
    Arithmetic,
}

impl Place {
    /// The reference to an environment variable that is one word at this place.
    pub fn reference(self, variable: &str) -> String {
        match self {
            Self::Bare => format!("\"${{{variable}}}\""),
            Self::Double | Self::Arithmetic => format!("${{{variable}}}"),
            Self::Single => format!("'\"${{{variable}}}\"'"),
            Self::Escaped => format!("'\"${{{variable}}}\"$'"),
        }
    }
}

/// Why a text with placeholders can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// The line of the text, counted from 1.
    pub line: usize,
    pub what: &'static str,
    pub help: &'static str,
}

/// Cuts a text for bash at its placeholders. In a comment, and after a backslash, braces stay as they are.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Trouble> {
    // Without placeholders nothing is put in, and what bash makes of the text is its own affair.
    if !text.match_indices('{').any(|(at, _)| placeholder(&text[at..]).is_some()) {
        return Ok(vec![Piece::Text(text)]);
    }
    scanner::Scanner::new(text).scan()
}

/// The inside of the placeholder that a text begins with.
pub fn placeholder(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('{')?;
    // No further than a name goes: a text of braces alone is read once, not once for each.
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_=,.+@".contains(c))?;
    let inside = &rest[..end];
    let is_one = matches!(inside.split_once('.'), Some(("in" | "out" | "param", name)) if !name.is_empty());
    (is_one && rest[end..].starts_with('}')).then_some(inside)
}

/// Whether the part of a text that stands at `at` is outside quotes, comments and here-documents.
pub fn is_bare(text: &str, at: usize, part: &str) -> bool {
    // Where a placeholder would stand bare, so does this.
    let probe = format!("{}{{in.x}}{}", &text[..at], &text[at + part.len()..]);
    let mut from = 0;
    for piece in pieces(&probe).unwrap_or_default() {
        match piece {
            Piece::Text(text) => from += text.len(),
            Piece::Placeholder { place, .. } if from == at => return place == Place::Bare,
            Piece::Placeholder { inside, .. } => from += inside.len() + 2,
        }
    }
    false
}

/// Whether a value is safe where bash calculates: anything else could name a variable or run a command.
pub fn is_whole_number(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    // A leading zero means octal to bash.
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'))
}
