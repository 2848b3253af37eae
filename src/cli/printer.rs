//! The one owner of stdout and stderr.

use super::exit::CliError;
use crate::pipeline::Problems;
pub(super) use crate::report::numbers::duration;
use clap::ValueEnum;
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    Human,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// How a piece of text looks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    Bold,
    Dim,
    Good,
    Bad,
    Note,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "1;31",
            Self::Note => "33",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Printer {
    pub(super) json: bool,
    pub(super) quiet: bool,
    color_out: bool,
    color_err: bool,
}

impl Printer {
    pub(super) fn new(format: OutputFormat, color: Color, quiet: bool) -> Self {
        let wanted = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        Self {
            json: format == OutputFormat::Json,
            quiet,
            color_out: wanted(io::stdout().is_terminal()),
            color_err: wanted(io::stderr().is_terminal()),
        }
    }

    /// Text for people on stdout.
    pub(super) fn line(&self, text: &str) -> Result<(), CliError> {
        writeln!(io::stdout().lock(), "{}", clean(text))?;
        Ok(())
    }

    /// Text on stdout as it is: a document, not a message.
    pub(super) fn document(&self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// A JSON value on stdout.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).expect("results are plain data");
        writeln!(io::stdout().lock(), "{text}")?;
        Ok(())
    }

    /// Refuses to write two forms at once.
    pub(super) fn one_form(&self, csv: bool) -> Result<(), CliError> {
        let both = csv && self.json;
        if both { Err(CliError::input("--csv and --format json are two forms: choose one")) } else { Ok(()) }
    }

    /// A table as CSV (RFC 4180) on stdout, its first row the names of the columns.
    pub(super) fn csv(&self, rows: &[Vec<String>]) -> Result<(), CliError> {
        let mut out = csv::Writer::from_writer(io::stdout().lock());
        for row in rows {
            out.write_record(row.iter().map(|cell| as_text(cell).into_owned())).map_err(as_io)?;
        }
        out.flush()?;
        Ok(())
    }

    /// A line for people beside the result: on stderr, so that stdout can be piped.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            tell(format_args!("{}", clean(text)));
        }
    }

    pub(super) fn warning(&self, text: &str) {
        tell(format_args!("{}{}", self.paint_err("warning: ", Style::Note), clean(text)));
    }

    pub(super) fn error(&self, message: &str, help: Option<&str>) {
        tell(format_args!("{}{}", self.paint_err("error: ", Style::Bad), clean(message)));
        if let Some(help) = help {
            tell(format_args!("{}{}", self.paint_err("help: ", Style::Good), clean(help)));
        }
    }

    pub(super) fn problems(&self, problems: &Problems) {
        for problem in &problems.0 {
            let text = clean(&problem.to_string()).into_owned();
            match text.strip_prefix("error: ") {
                Some(rest) => tell(format_args!("{}{rest}\n", self.paint_err("error: ", Style::Bad))),
                None => tell(format_args!("{text}\n")),
            }
        }
        let count = problems.0.len();
        if count > 1 {
            tell(format_args!("{count} problems"));
        }
    }

    /// Text with a look, where stdout shows colour.
    pub(super) fn paint(&self, text: &str, style: Style) -> String {
        paint(text, style, self.color_out)
    }

    pub(super) fn paint_err(&self, text: &str, style: Style) -> String {
        paint(text, style, self.color_err)
    }
}

/// The error below one of the csv crate, which hides its kind: a closed pipe is no failure.
fn as_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// A cell that a spreadsheet would take for a formula, with the mark that makes it text.
fn as_text(cell: &str) -> Cow<'_, str> {
    let begins = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if begins && cell.parse::<f64>().is_err() { Cow::Owned(format!("'{cell}")) } else { Cow::Borrowed(cell) }
}

/// A line on stderr; where nobody can hear it, it is not said, and nothing else goes wrong.
pub(super) fn tell(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn paint(text: &str, style: Style, color: bool) -> String {
    if color { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_owned() }
}

/// Takes control characters out of text that may come from files or programs: a terminal obeys them. So it does the marks
/// that turn the direction of text, by which a name could pose as another. Our own colour codes stay.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let harmless = |c: char| (!c.is_control() && !turns(c)) || c == '\n' || c == '\t';
    if text.chars().all(harmless) {
        return text.into();
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(code) = colour_code(rest) {
            cleaned.push_str(code);
            rest = &rest[code.len()..];
            continue;
        }
        if harmless(c) {
            cleaned.push(c);
        } else {
            cleaned.extend(c.escape_default());
        }
        rest = &rest[c.len_utf8()..];
    }
    cleaned.into()
}

fn colour_code(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\x1b[")?;
    let length = body.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    let (code, rest) = body.split_at(length);
    // No other ones: some would hide text.
    let styles = [Style::Bold, Style::Dim, Style::Good, Style::Bad, Style::Note];
    let is_ours = code == "0" || styles.iter().any(|style| style.code() == code);
    (is_ours && rest.starts_with('m')).then(|| &text[..length + 3])
}

/// Lays cells out in columns, two blanks apart; numbers to the right where `right` says so. Cells are cleaned, as all that
/// people read.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| visible(s)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - visible(cell));
            if right.contains(&c) {
                line += &pad;
                line += cell;
            } else {
                line += cell;
                line += &pad;
            }
            line += "  ";
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(code) = colour_code(rest) {
            rest = &rest[code.len()..];
        } else {
            count += 1;
            rest = &rest[c.len_utf8()..];
        }
    }
    count
}

/// How many there are of something, whose plural has an `s`.
pub(super) fn counted(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// A size as people say it, in powers of 1024.
pub(super) fn bytes(size: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = size as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{size} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_from_data_are_shown_not_obeyed() {
        assert_eq!(clean("a\x1b]0;title\x07b"), "a\\u{1b}]0;title\\u{7}b");
        assert_eq!(clean("\x1b[1;31mred\x1b[0m\x08"), "\x1b[1;31mred\x1b[0m\\u{8}");
        assert_eq!(clean("\x1b[8mhidden\u{202e}turned"), "\\u{1b}[8mhidden\\u{202e}turned");
    }

    #[test]
    fn no_cell_is_a_formula_and_numbers_stay_numbers() {
        let cells = ["=1+2", "-3.5", "-a", "@x", "a=b", ""].map(|cell| as_text(cell).into_owned());
        assert_eq!(cells, ["'=1+2", "-3.5", "'-a", "'@x", "a=b", ""]);
    }

    #[test]
    fn tables_line_up_whatever_the_colour() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["\x1b[1mlong\x1b[0m".to_owned(), "7".to_owned()]];
        assert_eq!(table(&rows, &[1]), "a     10\n\x1b[1mlong\x1b[0m   7\n");
    }
}
