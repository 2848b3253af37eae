//! The canonical text of values: equal exactly where the values are equal, and read back as the same value.
//!
//! The input holds JSON documents one after the other. Numbers are equal when they are the same double, which is all that
//! the canonical form (RFC 8785) keeps of them.

#![no_main]

use cistage::digest::canonical;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|bytes: &[u8]| {
    let documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let values: Vec<Value> = documents.map_while(Result::ok).take(4).collect();
    for value in &values {
        alone(value);
        for other in &values {
            pair(value, other);
        }
        for leaf in 0..16 {
            let mut other = value.clone();
            if change(&mut other, &mut leaf.clone()) {
                assert_ne!(canonical(value), canonical(&other), "{value} and {other}");
                pair(value, &other);
            }
        }
    }
});

fn alone(value: &Value) {
    let text = canonical(value);
    let reference = serde_json_canonicalizer::to_vec(value).expect("a value has a form");
    assert_eq!(text, reference, "{}", String::from_utf8_lossy(&text));
    assert_eq!(canonical(&turned(value)), text, "the order of the keys means nothing");
    let read: Value = serde_json::from_slice(&text).expect("it is JSON");
    assert!(same(&read, value), "{read} was {value}");
    assert_eq!(canonical(&read), text);
}

fn pair(one: &Value, other: &Value) {
    assert_eq!(canonical(one) == canonical(other), same(one, other), "{one} and {other}");
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}

/// The value with the keys of its objects put in from behind.
fn turned(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(turned).collect(),
        Value::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(key, value)| (key.clone(), turned(value))).collect();
            Value::Object(entries.into_iter().rev().collect::<Map<_, _>>())
        }
        leaf => leaf.clone(),
    }
}

/// Makes the value another one at its n-th leaf, where there are so many.
fn change(value: &mut Value, n: &mut usize) -> bool {
    match value {
        Value::Array(items) if !items.is_empty() => return items.iter_mut().any(|item| change(item, n)),
        Value::Object(map) if !map.is_empty() => return map.values_mut().any(|value| change(value, n)),
        _ if *n > 0 => {
            *n -= 1;
            return false;
        }
        Value::Number(number) => {
            let next = number.as_f64().expect("a double").next_up();
            *value = if next.is_finite() { next.into() } else { Value::Null };
        }
        Value::String(text) => text.push('\u{0}'),
        Value::Null => *value = Value::Bool(false),
        Value::Bool(_) => *value = Value::Null,
        Value::Array(_) => *value = Value::Object(Map::new()),
        Value::Object(_) => *value = Value::Array(Vec::new()),
    }
    true
}
