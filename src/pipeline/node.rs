//! Values that know where in the pipeline file they stand.

use super::diagnostics::Span;
use serde_json::{Map, Value};

/// A value of the file, and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Span,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What stands here was wrong and has been reported: later checks pass over it.
    Invalid,
}

/// A key with its value, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    pub fn new(span: Span, content: Content) -> Self {
        Self { span, content }
    }

    pub fn empty_map(span: Span) -> Self {
        Self::new(span, Content::Map(Vec::new()))
    }

    /// A value from elsewhere, all of it placed at `span`.
    pub fn placed(span: Span, value: &Value) -> Self {
        let content = match value {
            Value::Array(items) => Content::List(items.iter().map(|item| Self::placed(span, item)).collect()),
            Value::Object(map) => Content::Map(
                map.iter()
                    .map(|(key, value)| Entry { key: key.clone(), key_span: span, value: Self::placed(span, value) })
                    .collect(),
            ),
            scalar => Content::Scalar(scalar.clone()),
        };
        Self::new(span, content)
    }

    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_value())).collect::<Map<_, _>>())
            }
            Content::Invalid => Value::Null,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub fn is_null(&self) -> bool {
        self.content == Content::Scalar(Value::Null)
    }

    /// Whether anything in it has been reported already.
    pub fn has_invalid(&self) -> bool {
        match &self.content {
            Content::Scalar(_) => false,
            Content::List(items) => items.iter().any(Self::has_invalid),
            Content::Map(entries) => entries.iter().any(|entry| entry.value.has_invalid()),
            Content::Invalid => true,
        }
    }

    /// What it is, in words: `a list`, `the text "x"`, `3`.
    pub fn describe(&self) -> String {
        match &self.content {
            Content::Scalar(value) => describe(value),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
            Content::Invalid => "something else".to_owned(),
        }
    }

    pub fn count(&self) -> usize {
        1 + match &self.content {
            Content::List(items) => items.iter().map(Self::count).sum(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.count()).sum::<usize>(),
            _ => 0,
        }
    }

    /// Bytes of all texts and keys in it.
    pub fn bytes(&self) -> usize {
        match &self.content {
            Content::Scalar(Value::String(text)) => text.len(),
            Content::List(items) => items.iter().map(Self::bytes).sum(),
            Content::Map(entries) => entries.iter().map(|entry| entry.key.len() + entry.value.bytes()).sum(),
            Content::Scalar(_) | Content::Invalid => 0,
        }
    }

    pub fn levels(&self) -> usize {
        match &self.content {
            Content::List(items) => 1 + items.iter().map(Self::levels).max().unwrap_or(0),
            Content::Map(entries) => 1 + entries.iter().map(|entry| entry.value.levels()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// What a value is, in words.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => {
            let short: String = text.chars().take(60).collect();
            format!("the text {short:?}")
        }
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        other => other.to_string(),
    }
}
