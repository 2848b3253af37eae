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

    /// A heading that can be linked to.
    pub fn chapter(&mut self, id: &str, text: &str) {
        let _ = writeln!(self.0, "<h2 id=\"{}\">{}</h2>", escape(id), escape(text));
    }

    /// Links to chapters of the page.
    pub fn navigation(&mut self, chapters: &[(&str, &str)]) {
        self.0.push_str("<nav aria-label=\"chapters\">\n");
        for (id, text) in chapters {
            let _ = writeln!(self.0, "<a href=\"#{}\">{}</a>", escape(id), escape(text));
        }
        self.0.push_str("</nav>\n");
    }

    /// Terms and what they are here.
    pub fn definitions(&mut self, terms: &[(&str, String)]) {
        self.0.push_str("<dl>\n");
        for (term, text) in terms {
            let _ = writeln!(self.0, "<div><dt>{}</dt><dd>{}</dd></div>", escape(term), escape(text));
        }
        self.0.push_str("</dl>\n");
    }

    /// A line that ends in a link.
    pub fn linked(&mut self, text: &str, to: &str, link: &str) {
        let _ = writeln!(self.0, "<p>{} <a href=\"{}\">{}</a></p>", escape(text), escape(to), escape(link));
    }

    /// A text as it is, line by line.
    pub fn preformatted(&mut self, text: &str) {
        let lines: Vec<String> = text.lines().map(escape).collect();
        let _ = writeln!(self.0, "<pre tabindex=\"0\">{}</pre>", lines.join("\n"));
    }

    /// What only some readers want to see: folded.
    pub fn folded(&mut self, summary: &str, content: &Self) {
        let _ = writeln!(self.0, "<details><summary>{}</summary>\n{}</details>", escape(summary), content.0);
    }

    /// A drawing as large as it is, made smaller where there is no room.
    pub fn drawing(&mut self, svg: &str) {
        let _ = writeln!(self.0, "<div class=\"drawing scroll\">{svg}</div>");
    }

    /// A form that asks the page `action` for what is chosen in `content`.
    pub fn form(&mut self, action: &str, content: &Self, button: &str) {
        let _ = writeln!(
            self.0,
            "<form action=\"{}\">\n{}<button>{}</button></form>",
            escape(action),
            content.0,
            escape(button)
        );
    }

    /// How far something is, with words for it.
    pub fn progress(&mut self, done: u64, total: u64, text: &str) {
        let (total, text) = (total.max(1), escape(text));
        let _ = writeln!(self.0, "<p><progress max=\"{total}\" value=\"{done}\">{text}</progress> {text}</p>");
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

    /// A cell of a sentence: it breaks into lines where there is room, not where the text does.
    pub fn sentence(&mut self, text: &str) {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = write!(self.0, "<td class=\"wrap\">{}</td>", escape(&text));
    }

    /// What became of something; `failed` stands out.
    pub fn state(&mut self, text: &str) {
        let _ = write!(self.0, "<td class=\"state {0}\">{0}</td>", escape(text));
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

    /// A link to a place on the page, or to another page.
    pub fn link(&mut self, to: &str, text: &str) {
        let _ = write!(self.0, "<td><a href=\"{}\">{}</a></td>", escape(to), escape(text));
    }

    /// A choice of one row of the table, sent as `name=value`.
    pub fn choice(&mut self, name: &str, value: &str, label: &str) {
        let (name, value, label) = (escape(name), escape(value), escape(label));
        let _ = write!(
            self.0,
            "<td><input type=\"radio\" name=\"{name}\" value=\"{value}\" aria-label=\"{label}\" required></td>"
        );
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

/// A page of `cistage serve`, with the way to the others; `live` keeps it up to date.
pub fn served(title: &str, body: &Html, live: bool) -> String {
    let script = if live { "<script src=\"/live.js\" defer></script>\n" } else { "" };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n{script}</head>\n<body>\n<header><a href=\"/\">runs</a>\n\
         <form action=\"/search\" role=\"search\"><label>find <input type=\"search\" name=\"q\" \
         placeholder=\"run, digest, stage.port, pipeline\"></label></form></header>\n<main>\n{}</main>\n</body>\n</html>\n",
        escape(title),
        STYLE,
        body.as_str()
    )
}

/// Fetches a page of a run under way again and again, and shows what changed.
pub const LIVE: &str = include_str!("live.js");

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_not_become_markup() {
        assert_eq!(escape("<a href='x'>\"&\u{0}\u{202e}é"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\u{fffd}\u{fffd}é");
    }
}
