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

const ALL_OF_IT: &str = "put quotes around all of it, or use lines of its own below the key (`run: |`)";

/// Judges the parser's complaint `info` at `position` of a text.
pub fn slip(info: &str, position: Position, text: &str) -> Slip {
    let lines: Vec<&str> = text.lines().collect();
    let slip = judge(info, position, &lines);
    if slip.position.line <= lines.len() {
        return slip;
    }
    // The end of a file shows nothing.
    match before(slip.position, &lines) {
        Some((at, line)) => Slip { position: first_of(at, line), ..slip },
        None => slip,
    }
}

fn judge(info: &str, position: Position, lines: &[&str]) -> Slip {
    let with = |help: &str| Slip { position, help: Some(help.to_owned()) };
    if info.contains("simple key") {
        stale(position, lines).unwrap_or_else(|| with("a key needs a colon, and a space after it"))
    } else if info.contains("mapping values are not allowed") {
        colonless(position, lines)
            .or_else(|| dedented(position, lines))
            .or_else(|| too_deep(position, lines))
            .unwrap_or_else(|| {
                with("a text with `: ` in it needs quotes, or lines of its own below its key (`run: |`)")
            })
    } else if info.contains("block mapping, did not find expected key") {
        bracketed(position, lines)
            .or_else(|| colonless(position, lines))
            .or_else(|| dedented(position, lines))
            .unwrap_or_else(|| with("give a key as many spaces before it as the other keys of its map have"))
    } else if info.contains("found a tab") || info.contains("start with a tab") {
        tabbed(position, lines).unwrap_or_else(|| with("indent with spaces"))
    } else if info.contains("tabs disallowed") {
        with("indent with spaces")
    } else if info.contains("trailing content") {
        with(&format!("the text goes on after its quotes: {ALL_OF_IT}"))
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
        Slip { position, help: None }
    }
}

/// What a key that no map has most likely is: a known one whose colon is missing, or the space after it.
pub fn joined(key: &str, known: &[&str]) -> Option<String> {
    let word = key.split(|c: char| c == ':' || c.is_whitespace()).next()?;
    let rest = &key[word.len()..];
    if word.is_empty() || rest.len() < 2 || !(known.is_empty() || known.contains(&word)) {
        return None;
    }
    match rest.strip_prefix(':') {
        // An address: `https://…`.
        Some(value) if value.starts_with('/') => None,
        Some(_) => Some(format!("a space after the colon: `{word}: …`")),
        None if known.is_empty() => None,
        None => Some(format!("a key needs a colon: `{word}: …`")),
    }
}

/// The last line above that says something, with its number.
fn before<'t>(position: Position, lines: &[&'t str]) -> Option<(usize, &'t str)> {
    let above = lines.iter().enumerate().take(position.line - 1).rev();
    let said = |line: &str| !line.is_empty() && !line.starts_with('#');
    above.map(|(at, line)| (at + 1, *line)).find(|(_, line)| said(line.trim()))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Where a line begins to say something.
fn first_of(number: usize, line: &str) -> Position {
    Position { line: number, column: indent(line) + 1 }
}

/// Whether a line begins with a key and its colon.
fn is_key(line: &str) -> bool {
    line.contains(": ") || line.trim_end().ends_with(':')
}

/// Whether the lines below a line are its text: `run: |`.
fn opens_text(line: &str) -> bool {
    let value = line.trim_end().rsplit_once(": ").map_or("", |(_, value)| value.trim_start());
    value.starts_with(['|', '>']) && value[1..].chars().all(|c| c.is_ascii_digit() || "+-".contains(c))
}

/// A line that could only be a key, and has no colon.
fn stale(position: Position, lines: &[&str]) -> Option<Slip> {
    let (mut at, mut line) = before(position, lines)?;
    // The first of several such lines is where it began.
    while let Some((earlier, above)) = before(Position { line: at, column: 1 }, lines)
        && !is_key(above)
        && indent(above) == indent(line)
    {
        (at, line) = (earlier, above);
    }
    let key = line.split_whitespace().next()?;
    let deeper = lines.get(at..).into_iter().flatten().find(|next| !next.trim().is_empty());
    let holds_more = line.trim() == key && deeper.is_some_and(|next| indent(next) > indent(line));
    let text = text_above(at, line, lines).filter(|_| !holds_more);
    let help = match text {
        Some(opening) => {
            let spaces = indent(opening) + 2;
            format!("this belongs to the text below `{}`: give it at least {spaces} spaces", opening.trim())
        }
        None => joined(line.trim(), &[]).unwrap_or_else(|| format!("a key needs a colon: `{key}: …`")),
    };
    Some(Slip { position: first_of(at, line), help: Some(help) })
}

/// The line that opens the text to which a line should belong: right above it, or above lines that do.
fn text_above<'t>(at: usize, line: &str, lines: &[&'t str]) -> Option<&'t str> {
    let mut from = at;
    loop {
        let (above_at, above) = before(Position { line: from, column: 1 }, lines)?;
        if opens_text(above) {
            let is_right_above = from == at && indent(above) >= indent(line);
            return (is_right_above || indent(above) == indent(line)).then_some(above);
        }
        if indent(above) <= indent(line) {
            return None;
        }
        from = above_at;
    }
}

/// A key above that has no colon, or no space after it.
fn colonless(position: Position, lines: &[&str]) -> Option<Slip> {
    let (at, above) = before(position, lines)?;
    let key = above.split_whitespace().next()?;
    let help = match above.contains(':') {
        true if is_key(above) => None,
        true => joined(above.trim(), &[]),
        false => Some(format!("a key needs a colon: `{key}: …`")),
    }?;
    (!key.starts_with('-') && indent(above) == indent(lines.get(position.line - 1)?))
        .then(|| Slip { position: first_of(at, above), help: Some(help) })
}

/// A key above, with a value, that has fewer spaces than its neighbours: it stands beside what it should belong to.
fn dedented(position: Position, lines: &[&str]) -> Option<Slip> {
    let (at, above) = before(position, lines)?;
    let (_, earlier) = before(Position { line: at, column: 1 }, lines)?;
    let wanted = indent(lines.get(position.line - 1)?);
    let is_beside = indent(earlier) == indent(above) && earlier.trim_end().ends_with(':');
    let key = above.trim().split(':').next()?;
    (above.contains(": ") && indent(above) < wanted && (indent(earlier) == wanted || is_beside)).then(|| Slip {
        position: first_of(at, above),
        help: Some(format!("give `{key}` {wanted} spaces, as the keys below it: they belong to the same map")),
    })
}

/// A line that is indented as if it belonged to a value.
fn too_deep(position: Position, lines: &[&str]) -> Option<Slip> {
    let (at, above) = before(position, lines)?;
    let line = lines.get(position.line - 1)?;
    // Only the first `:` of a line can be one too many because of the line above.
    let is_first = line.chars().position(|c| c == ':')? + 1 == position.column;
    (is_first && above.contains(": ") && indent(line) > indent(above)).then(|| Slip {
        position: first_of(position.line, line),
        help: Some(format!(
            "line {at} has a value already, so nothing can stand below it: give this line as many spaces as that one"
        )),
    })
}

/// A text that begins with a bracket, and so with a map or a list.
fn bracketed(position: Position, lines: &[&str]) -> Option<Slip> {
    let line = lines.get(position.line - 1)?;
    let (key, value) = line.split_once(": ")?;
    let value = value.trim_start();
    let what = if value.starts_with('{') { "a map" } else { "a list" };
    let column = line.chars().count() - value.chars().count() + 1;
    (value.starts_with(['{', '[']) && !key.contains(['{', '[']) && position.column > column).then(|| Slip {
        position: Position { line: position.line, column },
        help: Some(format!("what begins with `{}` is {what} to YAML: {ALL_OF_IT}", &value[..1])),
    })
}

/// The first line from here on that is indented with a tab.
fn tabbed(position: Position, lines: &[&str]) -> Option<Slip> {
    let from = lines.iter().enumerate().skip(position.line - 1);
    let mut tabs = from.filter_map(|(at, line)| {
        let tab = line.find(|c: char| c != ' ').filter(|first| line[*first..].starts_with('\t'))?;
        Some(Position { line: at + 1, column: tab + 1 })
    });
    Some(Slip { position: tabs.next()?, help: Some("indent with spaces".to_owned()) })
}

#[cfg(test)]
mod tests {
    use crate::pipeline::diagnostics::Diagnostics;
    use crate::pipeline::source;

    #[test]
    fn slips_are_told_where_they_are_with_what_to_do() {
        for (text, line, column, help) in [
            ("a:\n  run: |\n\techo\n", 3, 1, "indent with spaces"),
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
            (
                "a:\n  run: |\n  echo x\n  echo y\n",
                3,
                3,
                "belongs to the text below `run: |`: give it at least 4 spaces",
            ),
            ("a:\n  run: |\necho x\n", 3, 1, "belongs to the text below `run: |`"),
            ("a:\n  run: |\n    if x\n    then y\n  fi\nb: c\n", 5, 3, "belongs to the text below `run: |`"),
            ("a:\n  run: |\n    x\nb\n  c: d\n", 4, 1, "a key needs a colon: `b: …`"),
            ("a:\n  b: c\nd\n  e: f\n", 3, 1, "a key needs a colon: `d: …`"),
            ("a:\n  uses:x\n  out: { y: z }\n", 2, 3, "a space after the colon: `uses: …`"),
            ("s:\n  a:\n  uses: x\n    out: y\n", 3, 3, "give `uses` 4 spaces"),
            ("s:\n  a:\n    uses: x\n  out: { o: p }\n    in: y\n", 4, 3, "give `out` 4 spaces"),
            ("a:\n  b: c\n\td: e\n", 3, 1, "indent with spaces"),
            ("a:\n  b: c\n  \td: e\n", 3, 3, "indent with spaces"),
            ("a:\n  run: {in.x} --y\n", 2, 8, "what begins with `{` is a map to YAML: put quotes around all of it"),
            ("a:\n  run: \"x\" y\n", 2, 12, "the text goes on after its quotes"),
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
