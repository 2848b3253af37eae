//! What a stage may use, as people write it: `2GiB`, `1h30m`.

use super::diagnostics::Diagnostics;
use super::nearest::suggestion;
use super::node::{Content, Node};
use crate::stage::Resources;
use serde_json::Value;

const KEYS: [&str; 4] = ["cpus", "memory", "gpus", "time"];

/// Reads `resources:`; what it does not say is as the stage needs it.
pub fn read(node: &Node, needs: Resources, problems: &mut Diagnostics<'_>) -> Resources {
    let mut resources = needs;
    if !matches!(node.content, Content::Map(_) | Content::Invalid) && !node.is_null() {
        let found = node.describe();
        problems
            .at(node.span, format!("`resources` is a map, not {found}"))
            .help("for example: { cpus: 2, memory: 4GiB, time: 1h }");
    }
    for entry in node.entries() {
        let (key, value) = (entry.key.as_str(), &entry.value);
        let Content::Scalar(scalar) = &value.content else {
            if value.content != Content::Invalid {
                let found = value.describe();
                problems.at(value.span, format!("`{key}` is one value, not {found}"));
            }
            continue;
        };
        let good = match key {
            "cpus" => whole(scalar).filter(|&n| n > 0).map(|n| resources.cpus = n),
            "gpus" => whole(scalar).map(|n| resources.gpus = n),
            "memory" => bytes(scalar).map(|n| resources.memory = n),
            "time" => seconds(scalar).map(|n| resources.time = n),
            _ => {
                problems
                    .at(entry.key_span, format!("unknown key `{key}` in `resources`"))
                    .help(suggestion(key, KEYS, "its keys"));
                continue;
            }
        };
        if good.is_none() {
            let expected = match key {
                "cpus" => "a whole number, 1 or more",
                "gpus" => "a whole number",
                "memory" => "a number of bytes or a size such as `500MB` or `2GiB`",
                _ => "a time such as `90s`, `30m` or `1h30m`",
            };
            let found = value.describe();
            problems.at(value.span, format!("`{key}`: expected {expected}, found {found}"));
        }
    }
    resources
}

fn whole(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok())
}

fn bytes(value: &Value) -> Option<u64> {
    value.as_str().map_or_else(|| value.as_u64(), parse_bytes)
}

/// A size as people write it, `2GiB`, in bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    let bytes = number * factor as f64;
    (bytes >= 1.0 && bytes < 2_f64.powi(63)).then_some(bytes as u64)
}

fn seconds(value: &Value) -> Option<u64> {
    parse_seconds(value.as_str()?)
}

/// A span of time as people write it, `1h30m`, in seconds.
pub fn parse_seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2GiB", Some(2 << 30)),
            ("1.5kB", Some(1500)),
            ("500 MB", Some(500_000_000)),
            ("2G", None),
            ("-1GB", None),
            ("GB", None),
            ("1e30GB", None),
        ] {
            assert_eq!(bytes(&json!(text)), expected, "{text}");
        }
        assert_eq!((bytes(&json!(4096)), bytes(&json!(-1)), bytes(&json!(1.5))), (Some(4096), None, None));
        for (text, expected) in [
            ("90s", Some(90)),
            ("1h30m", Some(5400)),
            ("2d", Some(172_800)),
            ("90", None),
            ("1x", None),
            ("", None),
            ("1h 2m", None),
            ("99999999999999999d", None),
            ("1é", None),
        ] {
            assert_eq!(seconds(&json!(text)), expected, "{text}");
        }
    }
}
