//! Problems of a pipeline file: collected with their places, printed with the line they stand on.

use super::{Position, Problem, Problems};
use std::fmt;

/// A place in the file, and how many characters it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    pub position: Position,
    pub width: usize,
}

/// Longer lines are not shown: a file on one line would be repeated with every problem.
const LONGEST_LINE: usize = 300;
/// More problems than this are counted only.
const MOST_PROBLEMS: usize = 50;

/// Collects the problems of one file.
pub struct Diagnostics<'t> {
    file: String,
    lines: Vec<&'t str>,
    problems: Vec<Problem>,
}

impl<'t> Diagnostics<'t> {
    pub fn new(file: impl Into<String>, text: &'t str) -> Self {
        Self { file: file.into(), lines: text.lines().collect(), problems: Vec::new() }
    }

    /// Adds a problem at a place in the file.
    pub fn at(&mut self, span: Span, message: impl Into<String>) -> &mut Problem {
        let line = self.lines.get(span.position.line.saturating_sub(1)).filter(|line| line.len() <= LONGEST_LINE);
        self.add(Problem {
            file: self.file.clone(),
            position: Some(span.position),
            width: span.width.max(1),
            message: message.into(),
            help: None,
            line_text: line.map(|&line| line.to_owned()),
        })
    }

    /// The place of one line, counted from 1, of a text of `lines` that begins at `span`; the whole where the text does not
    /// stand in the file line by line, as a folded one.
    pub fn line_of(&self, span: Span, lines: &[&str], line: usize) -> Span {
        let number = span.position.line + line - 1;
        let (Some(wanted), Some(there)) = (lines.get(line - 1), self.lines.get(number.saturating_sub(1))) else {
            return span;
        };
        let wanted = wanted.trim();
        if lines.len() == 1 || wanted.is_empty() || there.trim() != wanted {
            return span;
        }
        let indent = there.chars().take_while(|c| c.is_whitespace()).count();
        Span { position: Position { line: number, column: indent + 1 }, width: wanted.chars().count() }
    }

    /// Adds a problem of the whole file.
    pub fn whole(&mut self, message: impl Into<String>) -> &mut Problem {
        let file = self.file.clone();
        self.option(&file, message)
    }

    /// Adds a problem of a command line option: `--set`, `--profile`, `--to`.
    pub fn option(&mut self, option: &str, message: impl Into<String>) -> &mut Problem {
        self.add(Problem {
            file: option.to_owned(),
            position: None,
            width: 0,
            message: message.into(),
            help: None,
            line_text: None,
        })
    }

    fn add(&mut self, problem: Problem) -> &mut Problem {
        self.problems.push(problem);
        self.problems.last_mut().expect("just pushed")
    }

    pub fn count(&self) -> usize {
        self.problems.len()
    }

    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Gives all problems, by place, each once.
    pub fn finish(mut self) -> Problems {
        self.problems.sort_by(|a, b| (a.position, &a.file, &a.message).cmp(&(b.position, &b.file, &b.message)));
        self.problems.dedup_by(|a, b| a.position == b.position && a.file == b.file && a.message == b.message);
        Problems(self.problems)
    }
}

impl Problem {
    /// Adds what would be right.
    pub fn help(&mut self, text: impl Into<String>) {
        self.help = Some(text.into());
    }
}

impl fmt::Display for Problem {
    /// `error:`, the place, the line underlined, and `help:`, without colour.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", visible(&self.message))?;
        let Some(Position { line, column }) = self.position else {
            write!(f, "\n --> {}", visible(&self.file))?;
            return self.fmt_help(f);
        };
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        write!(f, "\n{margin}--> {}:{line}:{column}", visible(&self.file))?;
        if let Some(text) = &self.line_text {
            // One character stands for one: the underline must stay below its word.
            let shown: String = text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect();
            let rest = shown.trim_end().chars().count().saturating_sub(column - 1).max(1);
            let mark = "^".repeat(self.width.clamp(1, rest));
            let indent = " ".repeat(column - 1);
            write!(f, "\n{margin} |\n{number} | {}\n{margin} | {indent}{mark}", shown.trim_end())?;
        }
        self.fmt_help(f)
    }
}

impl Problem {
    fn fmt_help(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(help) = &self.help else { return Ok(()) };
        for (i, line) in help.trim_end().lines().enumerate() {
            write!(f, "\n{}{}", if i == 0 { "help: " } else { "      " }, visible(line))?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().take(MOST_PROBLEMS).enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n\n" })?;
        }
        match self.0.len().saturating_sub(MOST_PROBLEMS) {
            0 => Ok(()),
            more => write!(f, "\n\nerror: and {more} more problems"),
        }
    }
}

impl std::error::Error for Problems {}

/// Control and direction characters, with which a file could rewrite the terminal's text.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(line: usize, column: usize, width: usize) -> Span {
        Span { position: Position { line, column }, width }
    }

    #[test]
    fn problems_are_shown_by_place_with_their_line_underlined() {
        let mut problems = Diagnostics::new("p.yaml", "cistage: 1\nstage: {}\n");
        problems.at(span(2, 1, 5), "unknown key `stage`").help("did you mean `stages`?");
        problems.at(span(1, 10, 1), "no");
        problems.option("--set", "unknown parameter `x`").help("one\ntwo");
        let expected = "\
error: unknown parameter `x`
 --> --set
help: one
      two

error: no
 --> p.yaml:1:10
  |
1 | cistage: 1
  |          ^

error: unknown key `stage`
 --> p.yaml:2:1
  |
2 | stage: {}
  | ^^^^^
help: did you mean `stages`?";
        assert_eq!(problems.finish().to_string(), expected);
    }

    #[test]
    fn control_and_direction_characters_never_reach_the_terminal() {
        let mut problems = Diagnostics::new("p\u{1b}.yaml", "a: \u{1b}[2J\u{202e}x\n");
        problems.at(span(1, 4, 9), "bad \u{1b}[31m value");
        assert!(problems.finish().to_string().chars().all(|c| c == '\n' || !is_hidden(c)));
    }
}
