//! What is wrong with a text that is not YAML, in the words of somebody who wrote it by hand.
//!
//! A parser notices a slip where it can't go on, which is often a line after it, and says so in the words of YAML's grammar.

use super::Position;

/// Where a slip most likely is, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Slip {
    pub position: Position,
    pub help: Option<String>,
}

/// Judges the parser's complaint `info` at `position` of a text.
pub fn slip(info: &str, position: Position, text: &str) -> Slip {
    let lines: Vec<&str> = text.lines().collect();
    let here = Slip { position, help: None };
    let with = |help: &str| Slip { position, help: Some(help.to_owned()) };
    if info.contains("mapping values are not allowed") {
        colonless(position, &lines).or_else(|| too_deep(position, &lines)).unwrap_or_else(|| {
            with("a text with `: ` in it needs quotes, or lines of its own below its key (`run: |`)")
        })
    } else if info.contains("block mapping, did not find expected key") {
        colonless(position, &lines)
            .unwrap_or_else(|| with("give a key as many spaces before it as the other keys of its map have"))
    } else if info.contains("tabs disallowed") {
        with("indent with spaces")
    } else if info.contains("quoted scalar") {
        with("close the quote that begins here, on this line")
    } else if info.contains("invalid indentation in flow") {
        with("a `{` or `[` above is not closed: count them on the lines before")
    } else if info.contains("expected ',' or") {
        with(
            "a text with quotes, commas, braces or `: ` in it needs quotes around all of it, or lines of its own (`run: |`)",
        )
    } else if info.contains("unknown anchor") {
        with("a text that begins with `*` needs quotes")
    } else {
        here
    }
}

/// The last line above that says something, with its number.
fn before<'t>(position: Position, lines: &[&'t str]) -> Option<(usize, &'t str)> {
    let above = lines.get(..position.line - 1)?.iter().enumerate().rev();
    let said = |line: &str| !line.is_empty() && !line.starts_with('#');
    above.map(|(at, line)| (at + 1, *line)).find(|(_, line)| said(line.trim()))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// A key above that has no colon.
fn colonless(position: Position, lines: &[&str]) -> Option<Slip> {
    let (at, above) = before(position, lines)?;
    let key = above.split_whitespace().next()?;
    (!above.contains(':') && !key.starts_with('-') && indent(above) == indent(lines.get(position.line - 1)?)).then(
        || Slip {
            position: Position { line: at, column: indent(above) + 1 },
            help: Some(format!("a key needs a colon: `{key}: …`")),
        },
    )
}

/// A line that is indented as if it belonged to a value.
fn too_deep(position: Position, lines: &[&str]) -> Option<Slip> {
    let (at, above) = before(position, lines)?;
    let line = lines.get(position.line - 1)?;
    // Only the first `:` of a line can be one too many because of the line above.
    let is_first = line.chars().position(|c| c == ':')? + 1 == position.column;
    (is_first && above.contains(": ") && indent(line) > indent(above)).then(|| Slip {
        position: Position { line: position.line, column: indent(line) + 1 },
        help: Some(format!(
            "line {at} has a value already, so nothing can stand below it: give this line as many spaces as that one"
        )),
    })
}

#[cfg(test)]
mod tests {
    use crate::pipeline::diagnostics::Diagnostics;
    use crate::pipeline::source;

    #[test]
    fn slips_are_told_where_they_are_with_what_to_do() {
        for (text, line, column, help) in [
            ("a: 1\nb:\n   c: 1\n  d: 2\n", 4, 3, "as many spaces"),
            ("a:\n  b: x\n    c: y\n", 3, 5, "line 2 has a value already"),
            ("a:\n  b x\n  c: y\n", 2, 3, "a key needs a colon: `b: …`"),
            ("a:\n  b x\n\n  # said\n  c: y\n", 2, 3, "a key needs a colon: `b: …`"),
            ("a: echo b: c\n", 1, 10, "needs quotes"),
            ("a:\n\tb: 1\n", 2, 2, "indent with spaces"),
            ("a: { b: { c: 1 }\nd: { e: 2 }\n", 2, 1, "is not closed"),
            ("a: { run: echo \"b: c\" > x }\n", 1, 18, "quotes around all of it"),
            ("a: \"b\nc: 1\n", 1, 4, "close the quote"),
            ("a: *b\n", 1, 4, "needs quotes"),
        ] {
            let mut problems = Diagnostics::new("p.yaml", text);
            assert!(source::read(text, &mut problems).is_none(), "{text:?}");
            let problem = problems.finish().0.remove(0);
            let at = problem.position.expect("a place");
            assert_eq!((at.line, at.column), (line, column), "{text:?} {problem:?}");
            assert!(problem.help.as_ref().is_some_and(|told| told.contains(help)), "{text:?} {problem:?}");
        }
    }
}
