//! The scanner: one function for each way in which bash reads text, each ending where bash ends it.

use super::here_document::Pending;
use super::{Piece, Place, Trouble, placeholder};

/// Deeper nesting is no script that anybody wrote.
const DEPTH: usize = 100;

const OUTSIDE: &str = "put the placeholder into a variable first, on a line of its own: `x={in.NAME}`, then use \"$x\"";
const UNCLOSED: &str = "close what is open there: a quote, a bracket, or `esac`";

pub(super) struct Scanner<'t> {
    text: &'t str,
    /// Bytes read so far.
    pub(super) at: usize,
    /// Where this part of the text ends: a here-document's body is read as a text of its own.
    pub(super) end: usize,
    /// Where the text that is not in `pieces` yet begins.
    kept: usize,
    /// The line, counted from 1, that `kept` is on.
    line: usize,
    pieces: Vec<Piece<'t>>,
    depth: usize,
    in_backticks: bool,
    /// Bash calculates here, inside quotes too.
    calculates: bool,
    /// Here-documents announced whose bodies have not begun.
    pub(super) pending: usize,
}

/// Where a list of commands ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    End,
    Parenthesis,
    Backtick,
}

/// What surrounds a parameter expansion, and decides what quotes mean inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    Nothing,
    Quotes,
    HereDocument,
}

/// What is open inside a list of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// `( commands )`
    Group,
    /// `a=( words )`, `@(pattern)`, a group inside `[[ ]]`
    Words,
    /// `[[ … ]]`
    Test,
    /// `case … esac`, in which a lone `)` ends a pattern.
    Case { seen_in: bool },
}

/// Where bash stops to calculate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    Parentheses,
    Bracket,
    Brace,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            end: text.len(),
            kept: 0,
            line: 1,
            pieces: Vec::new(),
            depth: 0,
            in_backticks: false,
            calculates: false,
            pending: 0,
        }
    }

    pub(super) fn scan(mut self) -> Result<Vec<Piece<'t>>, Trouble> {
        self.commands(Until::End)?;
        self.keep(self.end);
        Ok(self.pieces)
    }

    pub(super) fn trouble(&self, what: &'static str, help: &'static str) -> Trouble {
        let line = self.text[..self.at.min(self.text.len())].matches('\n').count() + 1;
        Trouble { line, what, help }
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..self.end]
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest().bytes().next()
    }

    fn begins(&self, text: &str) -> bool {
        self.rest().starts_with(text)
    }

    /// Steps over one character.
    pub(super) fn step(&mut self) {
        self.at += self.rest().chars().next().map_or(0, char::len_utf8);
    }

    fn keep(&mut self, until: usize) {
        if self.kept < until {
            let text = &self.text[self.kept..until];
            self.line += text.matches('\n').count();
            self.pieces.push(Piece::Text(text));
        }
        self.kept = until;
    }

    /// At `{`: takes a placeholder, or steps over the brace.
    pub(super) fn brace(&mut self, place: Place) {
        let Some(inside) = placeholder(self.rest()) else { return self.step() };
        self.keep(self.at);
        let place = if self.calculates { Place::Arithmetic } else { place };
        self.pieces.push(Piece::Placeholder { inside, place, line: self.line });
        self.at += inside.len() + 2;
        self.kept = self.at;
    }

    /// At a backslash: the character after it is itself.
    pub(super) fn backslash(&mut self) -> Result<(), Trouble> {
        self.step();
        if self.in_backticks && matches!(self.peek(), Some(b'$' | b'`' | b'\\' | b'"' | b'\n')) {
            return Err(self.trouble(
                "a backslash between backticks is read twice, and a placeholder can't be quoted for both",
                "write `$( … )` in place of the backticks",
            ));
        }
        self.step();
        Ok(())
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Result<(), Trouble>) -> Result<(), Trouble> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.trouble("quotes and substitutions are nested too deeply", OUTSIDE));
        }
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    /// Commands of their own, inside `$( )` or backticks: bash calculates there no more.
    fn inner_commands(&mut self, until: Until) -> Result<(), Trouble> {
        let calculates = std::mem::take(&mut self.calculates);
        self.deeper(|scanner| scanner.commands(until))?;
        self.calculates = calculates;
        Ok(())
    }

    fn commands(&mut self, until: Until) -> Result<(), Trouble> {
        let mut open: Vec<Open> = Vec::new();
        let mut here: Vec<Pending> = Vec::new();
        // Whether a reserved word is one here, and the word under way: its beginning, and whether it is free of quotes.
        let (mut start, mut word): (bool, Option<(usize, bool)>) = (true, None);
        while let Some(byte) = self.peek() {
            let lists_words = matches!(open.last(), Some(Open::Words | Open::Test));
            if matches!(byte, b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'`')
                && !(byte == b'(' && word.is_some())
                && let Some((from, plain)) = word.take()
            {
                start = plain && self.end_word(from, start, &mut open);
            }
            match byte {
                b' ' | b'\t' => self.step(),
                b'\n' => {
                    self.step();
                    start = !matches!(open.last(), Some(Open::Words | Open::Test));
                    self.here_documents(&mut here)?;
                }
                b';' | b'&' | b'|' => {
                    self.step();
                    start = !lists_words;
                }
                b'#' if word.is_none() => self.comment()?,
                b'\\' => {
                    self.backslash()?;
                    word = Some((word.map_or(self.at, |(from, _)| from), false));
                }
                b'\'' | b'"' | b'$' => {
                    word = Some((word.map_or(self.at, |(from, _)| from), false));
                    match byte {
                        b'\'' => self.single()?,
                        b'"' => self.double()?,
                        _ => self.dollar(Around::Nothing)?,
                    }
                }
                b'`' if until == Until::Backtick => {
                    return if open.is_empty() && here.is_empty() { Ok(()) } else { Err(self.unclosed()) };
                }
                b'`' => {
                    self.backticks()?;
                    word = Some((self.at, false));
                }
                b'{' => {
                    let from = self.at;
                    self.brace(Place::Bare);
                    let plain = self.at == from + 1;
                    word = Some(word.map_or((from, plain), |(from, before)| (from, before && plain)));
                }
                b'<' if self.begins("<<<") => self.at += 3,
                b'<' if self.begins("<<") => {
                    if self.in_backticks {
                        return Err(self.trouble("a here-document between backticks", "write `$( … )` in their place"));
                    }
                    here.push(self.announce()?);
                }
                b'<' | b'>' => {
                    self.step();
                    if self.begins("(") {
                        self.step();
                        open.push(Open::Group);
                        start = true;
                    }
                }
                b'(' if word.is_none() && !lists_words && self.begins("((") => {
                    self.at += 2;
                    self.arithmetic(Close::Parentheses)?;
                    start = false;
                }
                b'(' => {
                    // `f()` and `a=(…)`, `@(…)`: words, or nothing.
                    let words = lists_words || word.is_some();
                    if let Some((from, true)) = word.take() {
                        self.end_word(from, start, &mut open);
                    }
                    self.step();
                    open.push(if words { Open::Words } else { Open::Group });
                    start = !words;
                }
                b')' => match open.last_mut() {
                    Some(Open::Group | Open::Words) => {
                        self.step();
                        open.pop();
                        start = true;
                    }
                    Some(Open::Test) => return Err(self.unclosed()),
                    None if until == Until::Parenthesis => {
                        return if here.is_empty() { Ok(()) } else { Err(self.unclosed()) };
                    }
                    // The end of a pattern of `case`, or nothing that bash takes.
                    Some(Open::Case { .. }) | None => {
                        self.step();
                        start = true;
                    }
                },
                b'[' if word.is_some_and(|(from, plain)| plain && self.is_subscript(from)) => {
                    word = word.map(|(from, _)| (from, false));
                    self.step();
                    self.arithmetic(Close::Bracket)?;
                }
                _ => {
                    word = word.or(Some((self.at, true)));
                    self.step();
                }
            }
        }
        if let Some((from, true)) = word {
            self.end_word(from, start, &mut open);
        }
        if until == Until::End && open.is_empty() { Ok(()) } else { Err(self.unclosed()) }
    }

    /// Whether the `[` here begins the subscript of the name that began at `from`: `a[1]=x`, not `ls file[ab`.
    fn is_subscript(&self, from: usize) -> bool {
        let line = self.rest().split(['\n', ';']).next().unwrap_or_default();
        is_identifier(&self.text[from..self.at]) && line.contains(']')
    }

    fn unclosed(&self) -> Trouble {
        self.trouble("something opened in this text does not close where it should", UNCLOSED)
    }

    /// Ends an unquoted word; says whether a reserved word may follow it.
    fn end_word(&self, from: usize, start: bool, open: &mut Vec<Open>) -> bool {
        let word = &self.text[from..self.at];
        match (word, open.last_mut()) {
            ("]]", Some(Open::Test)) => {
                open.pop();
                false
            }
            ("in", Some(Open::Case { seen_in })) if !*seen_in => {
                *seen_in = true;
                true
            }
            ("esac", Some(Open::Case { .. })) if start => {
                open.pop();
                false
            }
            ("case", _) if start => {
                open.push(Open::Case { seen_in: false });
                false
            }
            ("[[", _) if start => {
                open.push(Open::Test);
                false
            }
            ("if" | "then" | "else" | "elif" | "do" | "while" | "until" | "!" | "{" | "}" | "time", _) => start,
            _ => false,
        }
    }

    fn comment(&mut self) -> Result<(), Trouble> {
        let line = self.rest().split('\n').next().unwrap_or_default();
        if self.in_backticks && line.contains('`') {
            return Err(self.trouble("a comment between backticks", "write `$( … )` in their place"));
        }
        self.at += line.len();
        Ok(())
    }

    /// A line feed inside quotes between `<<WORD` and its body.
    fn no_here_document(&self) -> Result<(), Trouble> {
        if self.pending == 0 {
            return Ok(());
        }
        Err(self.trouble(
            "a quoted line break stands between `<<` and its here-document",
            "let the line with `<<` end outside quotes",
        ))
    }

    /// At `'`.
    fn single(&mut self) -> Result<(), Trouble> {
        self.step();
        while let Some(byte) = self.peek() {
            match byte {
                b'\'' => {
                    self.step();
                    return Ok(());
                }
                b'`' | b'\\' if self.in_backticks => {
                    return Err(self.trouble(
                        "a backtick or a backslash in quotes between backticks",
                        "write `$( … )` in their place",
                    ));
                }
                b'\n' => {
                    self.no_here_document()?;
                    self.step();
                }
                b'{' => self.brace(Place::Single),
                _ => self.step(),
            }
        }
        Err(self.unclosed())
    }

    /// At the `'` of `$'`.
    fn escaped(&mut self) -> Result<(), Trouble> {
        self.step();
        while let Some(byte) = self.peek() {
            match byte {
                b'\'' => {
                    self.step();
                    return Ok(());
                }
                b'\\' => self.backslash()?,
                b'`' if self.in_backticks => return Err(self.unclosed()),
                b'\n' => {
                    self.no_here_document()?;
                    self.step();
                }
                b'{' => self.brace(Place::Escaped),
                _ => self.step(),
            }
        }
        Err(self.unclosed())
    }

    /// At `"`.
    fn double(&mut self) -> Result<(), Trouble> {
        self.step();
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.step();
                    return Ok(());
                }
                b'\\' => self.backslash()?,
                b'$' => self.dollar(Around::Quotes)?,
                b'`' => self.backticks()?,
                b'\n' => {
                    self.no_here_document()?;
                    self.step();
                }
                b'{' => self.brace(Place::Double),
                _ => self.step(),
            }
        }
        Err(self.unclosed())
    }

    /// At `` ` ``, outside backticks.
    pub(super) fn backticks(&mut self) -> Result<(), Trouble> {
        if self.in_backticks {
            return Err(self.trouble("backticks inside backticks", "write `$( … )` in their place"));
        }
        self.step();
        self.in_backticks = true;
        self.inner_commands(Until::Backtick)?;
        self.in_backticks = false;
        self.step();
        Ok(())
    }

    /// At `$`.
    pub(super) fn dollar(&mut self, around: Around) -> Result<(), Trouble> {
        if placeholder(&self.rest()[1..]).is_some() {
            return Err(self.trouble(
                "a placeholder has no `$` before it",
                "write `{in.NAME}`; `\\$` before it gives a dollar sign",
            ));
        }
        self.step();
        match self.peek() {
            Some(b'(') if self.begins("((") => {
                self.at += 2;
                self.arithmetic(Close::Parentheses)
            }
            Some(b'(') => {
                self.step();
                self.inner_commands(Until::Parenthesis)?;
                self.step();
                Ok(())
            }
            Some(b'{') => self.parameter(around),
            Some(b'[') => {
                self.step();
                self.arithmetic(Close::Bracket)
            }
            Some(b'\'') if around == Around::Nothing => self.escaped(),
            Some(b'"') if around == Around::Nothing => self.double(),
            Some(b'#' | b'$' | b'!' | b'?' | b'*' | b'@' | b'-') => {
                self.step();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// At the `{` of `${`.
    fn parameter(&mut self, around: Around) -> Result<(), Trouble> {
        self.step();
        if matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'|')) {
            return Err(self.trouble("`${` with a command inside", "write `$( … )`"));
        }
        while matches!(self.peek(), Some(b'#' | b'!')) {
            self.step();
        }
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b"_@*".contains(&b)) {
            self.step();
        }
        if self.begins("[") {
            self.step();
            self.deeper(|scanner| scanner.arithmetic(Close::Bracket))?;
        }
        if self.begins(":") && !matches!(self.rest().as_bytes().get(1), Some(b'-' | b'=' | b'?' | b'+')) {
            self.step();
            return self.deeper(|scanner| scanner.arithmetic(Close::Brace));
        }
        self.deeper(|scanner| scanner.expansion(around))
    }

    /// The rest of `${name…}`.
    fn expansion(&mut self, around: Around) -> Result<(), Trouble> {
        while let Some(byte) = self.peek() {
            match byte {
                b'}' => {
                    self.step();
                    return Ok(());
                }
                b'\\' => self.backslash()?,
                b'\'' if around == Around::Nothing => self.single()?,
                b'"' if around != Around::HereDocument => self.double()?,
                b'\'' | b'"' => {
                    return Err(self.trouble("quotes inside `${…}` inside quotes can mean two things", OUTSIDE));
                }
                b'$' => self.dollar(around)?,
                b'`' => self.backticks()?,
                b'\n' => {
                    self.no_here_document()?;
                    self.step();
                }
                // Quotes open anew inside `${…}`, also inside quotes.
                b'{' => self.brace(Place::Bare),
                _ => self.step(),
            }
        }
        Err(self.unclosed())
    }

    /// After the opening: to the end of what bash calculates.
    fn arithmetic(&mut self, close: Close) -> Result<(), Trouble> {
        let calculates = std::mem::replace(&mut self.calculates, true);
        self.deeper(|scanner| scanner.calculation(close))?;
        self.calculates = calculates;
        Ok(())
    }

    fn calculation(&mut self, close: Close) -> Result<(), Trouble> {
        let mut nested = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'(' if close == Close::Parentheses => nested += 1,
                b'[' if close == Close::Bracket => nested += 1,
                b')' if close == Close::Parentheses && nested == 0 => {
                    if !self.begins("))") {
                        return Err(self.trouble(
                            "`((` that does not end with `))`",
                            "for a command in parentheses write `( (` or `$( (`",
                        ));
                    }
                    self.at += 2;
                    return Ok(());
                }
                b')' if close == Close::Parentheses => nested -= 1,
                b']' if close == Close::Bracket && nested == 0 => {
                    self.step();
                    return Ok(());
                }
                b']' if close == Close::Bracket => nested -= 1,
                b'}' if close == Close::Brace => {
                    self.step();
                    return Ok(());
                }
                b'\n' => self.no_here_document()?,
                b'\\' => {
                    self.backslash()?;
                    continue;
                }
                b'\'' => {
                    self.single()?;
                    continue;
                }
                b'"' => {
                    self.double()?;
                    continue;
                }
                b'$' => {
                    self.dollar(Around::Quotes)?;
                    continue;
                }
                b'`' => {
                    self.backticks()?;
                    continue;
                }
                b'{' => {
                    self.brace(Place::Arithmetic);
                    continue;
                }
                _ => {}
            }
            self.step();
        }
        Err(self.unclosed())
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
