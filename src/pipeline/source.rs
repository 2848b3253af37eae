//! The text of a pipeline file as values that know where they stand.
//!
//! One pass over parser events, because every later message wants a line and a column, and because the
//! limits have to hold before anything is built: size, depth, number of values, one document, no duplicate
//! keys, no merge keys, no tags.

use super::Position;
use super::diagnostics::{Diagnostics, Span};
use super::node::{Content, Entry, Node};
use super::not_yaml::{self, Slip};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Number, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A pipeline file is written by people.
pub const MOST_BYTES: usize = 1 << 20;
const MOST_LEVELS: usize = 32;
/// Counted with every alias expanded, so that a few nested aliases can't become millions of values.
const MOST_VALUES: usize = 10_000;

/// Reads the one document of a text. `None` where it can't be read at all; what is wrong is in `problems`.
pub fn read(text: &str, problems: &mut Diagnostics<'_>) -> Option<Node> {
    if text.len() > MOST_BYTES {
        let size = text.len();
        problems.whole(format!("the file has {size} bytes; a pipeline file may have {MOST_BYTES}"));
        return None;
    }
    // A byte order mark would become part of the first key.
    let mut reader =
        Reader { problems, open: Vec::new(), anchors: BTreeMap::new(), values: 0, repeated: 0, root: None };
    let mut documents = 0;
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok((event, span)) => (event, place(span)),
            Err(error) => {
                let position = Position { line: error.marker().line(), column: error.marker().col() + 1 };
                // The scanner looks ahead, and meets its own limit before ours is counted.
                if error.info().contains("recursion limit") {
                    let message = format!("lists and maps are nested more than {MOST_LEVELS} levels deep here");
                    reader.problems.at(Span { position, width: 1 }, message);
                    return None;
                }
                let Slip { position, help } = not_yaml::slip(error.info(), position, text);
                let message = format!("this is not YAML: {}", error.info());
                reader.problems.at(Span { position, width: 1 }, message).help = help;
                return None;
            }
        };
        if let Event::DocumentStart(_) = event {
            documents += 1;
            if documents > 1 {
                reader.problems.at(span, "a second document begins here; a pipeline file holds one");
                return None;
            }
        }
        reader.event(event, span)?;
    }
    if reader.root.is_none() {
        reader
            .problems
            .whole("the pipeline file holds comments only")
            .help("it has to be a map with `cistage: 1` and `stages:`");
    }
    reader.root
}

fn place(span: saphyr_parser::Span) -> Span {
    let (start, end) = (span.start, span.end);
    // Of what goes on over several lines, the first is underlined: the printer cuts the width there.
    let width = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { usize::MAX };
    Span { position: Position { line: start.line(), column: start.col() + 1 }, width: width.max(1) }
}

/// A list or map whose end has not been seen.
struct Open {
    span: Span,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: BTreeMap<String, usize>, duplicates: BTreeSet<usize>, key: Option<(String, Span)> },
}

struct Reader<'p, 't> {
    problems: &'p mut Diagnostics<'t>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    values: usize,
    /// Bytes of text that aliases repeat.
    repeated: usize,
    root: Option<Node>,
}

impl Reader<'_, '_> {
    /// Takes one event; `None` where reading can't go on.
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let empty_map = || Kind::Map { entries: vec![], seen: BTreeMap::new(), duplicates: BTreeSet::new(), key: None };
        match event {
            Event::Scalar(text, style, anchor, None) => {
                if self.wants_key() {
                    return self.key(text.into_owned(), span);
                }
                // An empty value stands wherever the parser noticed that nothing came: its key is a better place.
                let span =
                    if text.is_empty() && style == ScalarStyle::Plain { self.key_span().unwrap_or(span) } else { span };
                let content = match scalar(&text, style) {
                    Ok(value) => Content::Scalar(value),
                    Err(message) => {
                        self.problems.at(span, message);
                        Content::Invalid
                    }
                };
                self.finished(Node::new(span, content), anchor)
            }
            Event::SequenceStart(anchor, None) => self.begin(Open { span, anchor, kind: Kind::List(Vec::new()) }),
            Event::MappingStart(anchor, None) => self.begin(Open { span, anchor, kind: empty_map() }),
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { span, anchor, kind } = self.open.pop().expect("the parser pairs starts and ends");
                let content = match kind {
                    Kind::List(items) => Content::List(items),
                    Kind::Map { entries, .. } => Content::Map(entries),
                };
                self.finished(Node::new(span, content), anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Scalar(.., Some(tag)) | Event::SequenceStart(_, Some(tag)) | Event::MappingStart(_, Some(tag)) => {
                let name = format!("{}{}", tag.handle, tag.suffix).replace("tag:yaml.org,2002:", "!!");
                self.problems
                    .at(span, format!("the tag `{name}` is not understood; pipeline files use no tags"))
                    .help("put a value in quotes to make it text");
                None
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Some(())
            }
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: Kind::Map { key: None, .. }, .. }))
    }

    fn key_span(&self) -> Option<Span> {
        match self.open.last() {
            Some(Open { kind: Kind::Map { key: Some((_, span)), .. }, .. }) => Some(*span),
            _ => None,
        }
    }

    fn key(&mut self, text: String, span: Span) -> Option<()> {
        if text == "<<" {
            self.problems
                .at(span, "merge keys (`<<`) are not supported")
                .help("write the keys out, or use a parameter that is a map");
            return None;
        }
        let Some(Open { kind: Kind::Map { seen, duplicates, key, entries }, .. }) = self.open.last_mut() else {
            unreachable!("asked by wants_key")
        };
        let line = span.position.line;
        if let Some(first) = seen.get(&text) {
            self.problems
                .at(span, format!("duplicate key `{text}`: it stands on line {first} already"))
                .help("remove one of the two");
            duplicates.insert(entries.len());
        } else {
            seen.insert(text.clone(), line);
        }
        *key = Some((text, span));
        Some(())
    }

    fn begin(&mut self, open: Open) -> Option<()> {
        if self.wants_key() {
            self.problems
                .at(open.span, "a key has to be text, not a list or a map")
                .help("put quotes around a value that begins with `{` or `[`");
            return None;
        }
        if self.open.len() >= MOST_LEVELS {
            self.problems.at(open.span, format!("lists and maps are nested more than {MOST_LEVELS} levels deep here"));
            return None;
        }
        self.open.push(open);
        Some(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Option<()> {
        if self.wants_key() {
            self.problems.at(span, "a key has to be text, not an alias");
            return None;
        }
        let Some(node) = self.anchors.get(&anchor) else {
            self.problems.at(span, "this alias stands inside the value that it names");
            return None;
        };
        // Before the copy: the copy is what the budget protects from.
        self.values += node.count() - 1;
        if self.values >= MOST_VALUES {
            self.problems.at(span, format!("with its aliases written out the file has more than {MOST_VALUES} values"));
            return None;
        }
        self.repeated += node.bytes();
        if self.repeated > MOST_BYTES {
            self.problems.at(span, format!("with its aliases written out the file has more than {MOST_BYTES} bytes"));
            return None;
        }
        if self.open.len() + node.levels() > MOST_LEVELS {
            self.problems.at(
                span,
                format!("with this alias written out, values are nested more than {MOST_LEVELS} levels deep"),
            );
            return None;
        }
        let node = node.clone();
        self.finished(node, 0)
    }

    /// Puts a complete value where it belongs.
    fn finished(&mut self, node: Node, anchor: usize) -> Option<()> {
        self.values += 1;
        if self.values > MOST_VALUES {
            self.problems.at(node.span, format!("the file has more than {MOST_VALUES} values"));
            return None;
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(Kind::List(items)) => items.push(node),
            Some(Kind::Map { entries, duplicates, key, .. }) => {
                let (key, key_span) = key.take().expect("a value follows its key");
                if !duplicates.remove(&entries.len()) {
                    entries.push(Entry { key, key_span, value: node });
                }
            }
        }
        Some(())
    }
}

/// Types a scalar by YAML 1.2's core schema, as serde_yaml reads it: `no` is text, `014` is text.
fn scalar(text: &str, style: ScalarStyle) -> Result<Value, String> {
    if style != ScalarStyle::Plain {
        return Ok(Value::String(text.to_owned()));
    }
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Value::Null);
    }
    let typed =
        text.starts_with(|c: char| c.is_ascii_digit() || "+-.tTfF".contains(c)) && !text.contains(char::is_whitespace);
    match typed.then(|| serde_yaml::from_str::<serde_yaml::Value>(text)) {
        Some(Ok(serde_yaml::Value::Bool(value))) => Ok(Value::Bool(value)),
        Some(Ok(serde_yaml::Value::Number(number))) => {
            let exact = number.as_u64().map(Number::from).or_else(|| number.as_i64().map(Number::from));
            let number = exact.or_else(|| number.as_f64().and_then(Number::from_f64));
            number.map(Value::Number).ok_or_else(|| format!("{text} is not a finite number"))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, Instant};

    fn problems(text: &str) -> String {
        let mut problems = Diagnostics::new("p.yaml", text);
        read(text, &mut problems);
        problems
            .finish()
            .0
            .iter()
            .map(|p| {
                let at = p.position.map_or(String::new(), |at| format!("{}:{} ", at.line, at.column));
                format!("{at}{}\n", p.message)
            })
            .collect()
    }

    fn value(text: &str) -> Value {
        let mut problems = Diagnostics::new("p.yaml", text);
        let node = read(text, &mut problems);
        assert!(problems.is_empty(), "{}", problems.finish());
        node.expect("readable").to_value()
    }

    #[test]
    fn values_know_where_they_stand() {
        let text = "a: 1\nstages:\n  rows: { uses: split, with: [x, \"${y}\"] }\n  empty:\n  last: |\n    text\n";
        let mut problems = Diagnostics::new("p.yaml", text);
        let root = read(text, &mut problems).expect("readable");
        let place = |node: &Node| (node.span.position.line, node.span.position.column, node.span.width);
        let stages = &root.get("stages").expect("there").value;
        let rows = &stages.get("rows").expect("there").value;
        assert_eq!(place(&root.get("a").expect("there").value), (1, 4, 1));
        assert_eq!(place(&rows.get("uses").expect("there").value), (3, 17, 5));
        assert_eq!(rows.get("with").expect("there").key_span.position, Position { line: 3, column: 24 });
        let Content::List(items) = &rows.get("with").expect("there").value.content else { panic!("a list") };
        assert_eq!((place(&items[0]), place(&items[1])), ((3, 31, 1), (3, 34, 6)));
        assert_eq!(place(&stages.get("empty").expect("there").value), (4, 3, 5));
        assert_eq!(stages.get("last").expect("there").value.text(), Some("text\n"));
    }

    #[test]
    fn scalars_are_typed_as_serde_yaml_types_them() {
        for text in [
            "1",
            "-1",
            "+1",
            "014",
            "0x1f",
            "0o17",
            "0b11",
            "1_000",
            "1.5",
            "1e-5",
            "1.",
            ".5",
            "-.5",
            "18446744073709551615",
            "-9223372036854775808",
            "true",
            "True",
            "TRUE",
            "tRue",
            "false",
            "yes",
            "no",
            "on",
            "off",
            "y",
            "~",
            "null",
            "Null",
            "NULL",
            "nULL",
            "",
            "a",
            "a b",
            "1 2",
            "made.rows",
            "2026-11-23",
            "12:30:45",
            "0.01",
            "1e3",
            "1e",
            "+",
            "--1",
            "1.2.3",
            "'1'",
            "\"true\"",
            "nan",
            "inf",
            "0",
            "-0",
            "00",
            "---x",
            "1GiB",
            "truex",
        ] {
            let line = format!("k: {text}");
            let theirs: Value = serde_yaml::from_str(&line).expect("valid YAML");
            assert_eq!(value(&line), theirs, "{text:?}");
        }
        assert_eq!(
            problems("a: .nan\nb: -.inf"),
            "1:4 .nan is not a finite number\n2:4 -.inf is not a finite number\n"
        );
    }

    #[test]
    fn aliases_are_written_out_within_a_budget() {
        assert_eq!(value("a: &x {b: [1]}\nc: *x"), json!({"a": {"b": [1]}, "c": {"b": [1]}}));
        assert_eq!(problems("a: &x [*x]"), "1:8 this alias stands inside the value that it names\n");
        let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for i in 1..9 {
            let alias = format!("*a{}", i - 1);
            bomb += &format!("a{i}: &a{i} [{}]\n", vec![alias; 9].join(", "));
        }
        assert_eq!(problems(&bomb), "5:10 with its aliases written out the file has more than 10000 values\n");
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 18), vec!["*a"; 9000].join(", "));
        assert_eq!(problems(&long), "2:21 with its aliases written out the file has more than 1048576 bytes\n");
    }

    #[test]
    fn what_hides_or_repeats_values_is_refused() {
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3", "3:1 duplicate key `a`: it stands on line 1 already\n"),
            (
                "a: 1\na: 2\na: 3",
                "2:1 duplicate key `a`: it stands on line 1 already\n3:1 duplicate key `a`: it stands on line 1 already\n",
            ),
            ("x: &x {a: 1}\ny: {<<: *x}", "2:5 merge keys (`<<`) are not supported\n"),
            (
                "a: !!python/object:os.system x",
                "1:4 the tag `!!python/object:os.system` is not understood; pipeline files use no tags\n",
            ),
            ("a: 1\n---\nb: 2", "2:1 a second document begins here; a pipeline file holds one\n"),
            ("{a: 1}: 2", "1:1 a key has to be text, not a list or a map\n"),
        ] {
            assert_eq!(problems(text), expected, "{text:?}");
        }
        assert!(problems("a: [1, 2").contains("this is not YAML"));
        assert!(problems("a: b: c").contains("this is not YAML"));
    }

    #[test]
    fn deep_wide_and_large_files_are_refused_at_once() {
        let started = Instant::now();
        for deep in ["[".repeat(5000), "{a: ".repeat(5000), "- ".repeat(5000), "? ".repeat(5000)] {
            let message = problems(&deep);
            assert!(message.contains("levels deep") || message.contains("a key has to be text"), "{message}");
        }
        let block: String = (0..5000).map(|i| format!("{}a:\n", " ".repeat(i.min(100)))).collect();
        assert!(problems(&block).contains("levels deep"));
        assert!(problems(&"- a\n".repeat(100_000)).contains("more than 10000 values"));
        assert!(problems(&"a".repeat(2 << 20)).contains("bytes"));
        for long in [
            "a".repeat(1 << 20),
            "\"".repeat(1 << 20),
            "&a ".repeat(300_000),
            "\t".repeat(1 << 20),
            "#\n".repeat(500_000),
            "a: ".repeat(300_000),
            "[a,".repeat(300_000),
        ] {
            problems(&long);
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
