//! What the files of the AWS tools say, where the environment does not: `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Settings by the names that variables of the environment have, in small letters.
pub fn settings() -> Vec<(&'static str, String)> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let profile = set("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let file = |variable: &str, name: &str| -> BTreeMap<String, BTreeMap<String, String>> {
        let path =
            set(variable).map(PathBuf::from).or_else(|| Some(PathBuf::from(set("HOME")?).join(".aws").join(name)));
        path.and_then(|path| fs_err::read_to_string(path).ok()).map(|text| sections(&text)).unwrap_or_default()
    };
    let (credentials, config) = (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config"));
    let in_config = if profile == "default" { profile.clone() } else { format!("profile {profile}") };
    let said = |name: &str| {
        let places = [credentials.get(&profile), config.get(&in_config)];
        places.into_iter().flatten().find_map(|section| section.get(name).cloned())
    };
    let mut found = Vec::new();
    // A key of one place with the secret of another would be nobody's.
    if set("AWS_ACCESS_KEY_ID").is_none() {
        for name in ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"] {
            found.extend(said(name).map(|value| (name, value)));
        }
    }
    if set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")).is_none() {
        found.extend(said("region").map(|value| ("aws_region", value)));
    }
    if set("AWS_ENDPOINT_URL").or_else(|| set("AWS_ENDPOINT_URL_S3")).is_none() {
        found.extend(said("endpoint_url").map(|value| ("aws_endpoint_url", value)));
    }
    found
}

/// `[section]`, then `name = value`; nested lines are left out.
fn sections(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines().filter(|line| !line.starts_with([' ', '\t', '#', ';'])) {
        if let Some(name) = line.trim().strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.trim().clone_into(&mut section);
        } else if let Some((name, value)) = line.split_once('=') {
            let section: &mut BTreeMap<String, String> = sections.entry(section.clone()).or_default();
            section.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_hold_names_and_values() {
        let read =
            sections("# mine\n[default]\naws_access_key_id = A\ns3 =\n  max = 1\n[profile lab]\nregion=eu-west-1\n");
        assert_eq!(read["default"]["aws_access_key_id"], "A");
        assert_eq!(read["profile lab"]["region"], "eu-west-1");
        assert!(!read["default"].contains_key("max"));
    }
}
