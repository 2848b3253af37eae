//! Building HTML: every text that reaches a page is escaped here.

use std::fmt::Write;

/// Checked markup: text can only enter it escaped.
#[derive(Debug, Clone, Default)]
pub struct Html(String);

/// Escapes a text for element content and quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are invalid in HTML; direction overrides would let a name pose as another.
            c if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) => {
                escaped.push('\u{fffd}');
            }
            c => escaped.push(c),
        }
    }
    escaped
}

impl Html {
    /// Takes markup that holds no text of others', or only escaped.
    pub fn from_markup(markup: String) -> Self {
        Self(markup)
    }

    pub fn push(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<tag>text</tag>`.
    pub fn element(&mut self, tag: &str, text: &str) {
        let _ = writeln!(self.0, "<{tag}>{}</{tag}>", escape(text));
    }

    /// A section's heading, with what the section is about in grey.
    pub fn heading(&mut self, id: &str, text: &str, note: &str) {
        let _ = writeln!(
            self.0,
            "<h2 id=\"{}\">{} <span class=\"note\">{}</span></h2>",
            escape(id),
            escape(text),
            escape(note)
        );
    }

    /// A line that nobody should overlook.
    pub fn alarm(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p class=\"alarm\" role=\"alert\">{}</p>", escape(text));
    }

    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p class=\"note\">{}</p>", escape(text));
    }

    /// A chart with its caption.
    pub fn figure(&mut self, caption: &str, chart: &Self) {
        let _ = writeln!(self.0, "<figure><figcaption>{}</figcaption>\n{}</figure>", escape(caption), chart.0);
    }

    /// Puts several pieces beside one another where there is room.
    pub fn side_by_side(&mut self, pieces: &[Self]) {
        self.0.push_str("<div class=\"beside\">\n");
        for piece in pieces {
            self.push(piece);
        }
        self.0.push_str("</div>\n");
    }
}

/// A table, built row by row.
pub struct Table(String);

/// The cells of one row.
pub struct Row<'t>(&'t mut String);

impl Table {
    pub fn new<S: AsRef<str>>(columns: &[S]) -> Self {
        let mut text = "<div class=\"scroll\"><table>\n<thead><tr>".to_owned();
        for column in columns {
            let _ = write!(text, "<th scope=\"col\">{}</th>", escape(column.as_ref()));
        }
        text.push_str("</tr></thead>\n<tbody>\n");
        Self(text)
    }

    pub fn row(&mut self, fill: impl FnOnce(&mut Row<'_>)) {
        self.0.push_str("<tr>");
        fill(&mut Row(&mut self.0));
        self.0.push_str("</tr>\n");
    }

    pub fn finish(mut self) -> Html {
        self.0.push_str("</tbody></table></div>\n");
        Html(self.0)
    }
}

impl Row<'_> {
    pub fn header(&mut self, text: &str) {
        let _ = write!(self.0, "<th scope=\"row\">{}</th>", escape(text));
    }

    pub fn text(&mut self, text: &str) {
        let _ = write!(self.0, "<td>{}</td>", escape(text));
    }

    /// A right-aligned cell.
    pub fn number(&mut self, text: &str) {
        let _ = write!(self.0, "<td class=\"n\">{}</td>", escape(text));
    }

    /// A number, its full form on hovering; a dash where there is none.
    pub fn value(&mut self, value: Option<f64>) {
        self.value_with(value, "");
    }

    /// A number with a small remark behind it.
    pub fn value_with(&mut self, value: Option<f64>, remark: &str) {
        match value {
            Some(value) => {
                let _ = write!(self.0, "<td class=\"n\" title=\"{value}\">{}", super::numbers::short(value));
                if !remark.is_empty() {
                    let _ = write!(self.0, " <small>{}</small>", escape(remark));
                }
                self.0.push_str("</td>");
            }
            None => self.0.push_str("<td class=\"n none\">–</td>"),
        }
    }

    /// A cell that nobody should overlook.
    pub fn alarm(&mut self, text: &str) {
        let _ = write!(self.0, "<td class=\"n alarm\">{}</td>", escape(text));
    }

    pub fn code(&mut self, text: &str, full: &str) {
        let _ = write!(self.0, "<td><code title=\"{}\">{}</code></td>", escape(full), escape(text));
    }

    pub fn link(&mut self, id: &str, text: &str) {
        let _ = write!(self.0, "<td><a href=\"#{}\">{}</a></td>", escape(id), escape(text));
    }
}

/// The whole page.
pub fn document(title: &str, body: &Html) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
        escape(title),
        STYLE,
        body.as_str()
    )
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_not_become_markup() {
        assert_eq!(escape("<a href='x'>\"&\u{0}\u{202e}é"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\u{fffd}\u{fffd}é");
    }
}
