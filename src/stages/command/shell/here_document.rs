//! Here-documents: `<<WORD` announces a body that begins on the next line and ends with the word.

use super::scanner::{Around, Scanner};
use super::{Place, Trouble, placeholder};

/// A here-document whose body has not begun.
pub(super) struct Pending {
    word: String,
    /// A quoted word keeps bash from looking into the body.
    quoted: bool,
    /// `<<-`: tabs at the beginnings of lines don't count.
    tabs: bool,
}

impl Scanner<'_> {
    /// At `<<`: reads the word.
    pub(super) fn announce(&mut self) -> Result<Pending, Trouble> {
        self.at += 2;
        let tabs = self.peek() == Some(b'-');
        if tabs {
            self.step();
        }
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.step();
        }
        let (mut word, mut quoted, mut quote) = (String::new(), false, None);
        while let Some(c) = self.rest().chars().next() {
            match c {
                '\n' | ' ' | '\t' | ';' | '&' | '|' | '<' | '>' | '(' | ')' if quote.is_none() => break,
                '\n' | '$' | '`' => return Err(self.strange()),
                '{' if placeholder(self.rest()).is_some() => return Err(self.strange()),
                '\'' | '"' if quote.is_none() => {
                    quote = Some(c);
                    quoted = true;
                }
                _ if quote == Some(c) => quote = None,
                '\\' if quote.is_none() => {
                    quoted = true;
                    self.step();
                    word.extend(self.rest().chars().next());
                }
                '\\' => return Err(self.strange()),
                _ => word.push(c),
            }
            self.step();
        }
        if quote.is_some() || (word.is_empty() && !quoted) {
            return Err(self.strange());
        }
        self.pending += 1;
        Ok(Pending { word, quoted, tabs })
    }

    fn strange(&self) -> Trouble {
        self.trouble("the word after `<<` can't be read", "use a plain word, such as `<<EOF`")
    }

    /// After a line feed: reads the bodies of those that were announced.
    pub(super) fn here_documents(&mut self, announced: &mut Vec<Pending>) -> Result<(), Trouble> {
        if self.pending > announced.len() {
            return Err(self.trouble(
                "a line break in `$( … )` stands between `<<` and its here-document",
                "let the line with `<<` end outside `$( … )`",
            ));
        }
        for document in announced.drain(..) {
            self.pending -= 1;
            self.body(&document)?;
        }
        Ok(())
    }

    fn body(&mut self, document: &Pending) -> Result<(), Trouble> {
        let (from, whole) = (self.at, self.end);
        let (mut body, mut after) = (whole, whole);
        let mut continued = false;
        for line in self.rest().split_inclusive('\n') {
            let begin = line.as_ptr() as usize - self.rest().as_ptr() as usize + from;
            let bare = line.strip_suffix('\n').unwrap_or(line);
            let shown = if document.tabs { bare.trim_start_matches('\t') } else { bare };
            if !continued && shown == document.word {
                (body, after) = (begin, begin + line.len());
                break;
            }
            let backslashes = bare.len() - bare.trim_end_matches('\\').len();
            continued = !document.quoted && backslashes % 2 == 1;
        }
        self.end = body;
        while let Some(byte) = self.peek() {
            match byte {
                b'{' if document.quoted && placeholder(self.rest()).is_some() => {
                    return Err(self.trouble(
                        "a here-document with a quoted word is taken as it is, and a placeholder in it would stay",
                        "take the quotes off the word after `<<`, or give the value to the program as an argument",
                    ));
                }
                _ if document.quoted => self.step(),
                b'\\' => self.backslash()?,
                b'$' => self.dollar(Around::HereDocument)?,
                b'`' => self.backticks()?,
                b'{' => self.brace(Place::Double),
                _ => self.step(),
            }
        }
        (self.at, self.end) = (after, whole);
        Ok(())
    }
}
