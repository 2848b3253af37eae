//! W3C PROV as PROV-JSON: artifacts are entities, executions are activities, the program and its user are agents.
//!
//! <https://www.w3.org/submissions/prov-json/>

use super::facts::{Facts, ended};
use crate::action::{ActionKey, ActionRecord, Origin};
use crate::artifact::Artifact;
use crate::digest::Digest;
use serde_json::{Map, Value, json};

/// Writes the lineage as a PROV-JSON document.
pub fn prov(facts: &Facts) -> Value {
    let mut document = Document::default();
    for source in facts.sources.values() {
        let path = json!({ "prov:location": source.path, "cistage:bytes": source.bytes });
        document.put("entity", &entity(source.digest), path);
    }
    for record in &facts.actions {
        document.action(record);
    }
    for (name, artifact) in &facts.results {
        document.put("entity", &entity(artifact.digest), json!({ "prov:label": name }));
    }
    document.finish()
}

fn entity(digest: Digest) -> String {
    format!("blake3:{}", digest.hex())
}

fn activity(key: ActionKey) -> String {
    format!("action:{}", key.0.hex())
}

/// The sections of the document: `entity`, `used`, ... each by id.
#[derive(Default)]
struct Document(Map<String, Value>);

impl Document {
    /// Adds an element, or further attributes of one.
    fn put(&mut self, section: &str, id: &str, attributes: Value) {
        let section = self.0.entry(section).or_insert_with(|| json!({}));
        let element = section.as_object_mut().expect("made here").entry(id).or_insert_with(|| json!({}));
        let Value::Object(attributes) = attributes else { unreachable!("attributes are a map") };
        element.as_object_mut().expect("made here").extend(attributes);
    }

    /// Adds a relation, which has no name of its own.
    fn relate(&mut self, section: &str, attributes: Value) {
        let number = self.0.get(section).and_then(Value::as_object).map_or(0, Map::len) + 1;
        self.put(section, &format!("_:{section}{number}"), attributes);
    }

    fn artifact(&mut self, artifact: &Artifact) -> String {
        let id = entity(artifact.digest);
        self.put("entity", &id, json!({ "cistage:bytes": artifact.bytes, "cistage:format": artifact.format.as_str() }));
        id
    }

    fn action(&mut self, record: &ActionRecord) {
        let id = activity(record.key);
        let environment = &record.environment;
        self.put(
            "activity",
            &id,
            json!({
                "prov:startTime": record.started,
                "prov:endTime": ended(&record.started, record.cost.wall_seconds),
                "prov:label": record.stage,
                "cistage:kind": record.manifest.stage,
                "cistage:version": record.manifest.version,
                "cistage:params": json!(record.manifest.params).to_string(),
                "cistage:run": record.run,
                "cistage:host": environment.host,
                "cistage:threads": environment.threads,
            }),
        );
        if let Some(accepted) = &record.accepted {
            self.put("activity", &id, json!({ "cistage:accepted": json!(accepted).to_string() }));
        }
        let plan = entity(record.key.0);
        self.put("entity", &plan, json!({ "prov:type": { "$": "prov:Plan", "type": "prov:QUALIFIED_NAME" } }));
        let program = format!("program:{}", name(&environment.program));
        let software = json!({ "$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME" });
        let commit = environment.commit.clone().unwrap_or_default();
        self.put(
            "agent",
            &program,
            json!({ "prov:type": software, "prov:label": environment.program, "cistage:commit": commit }),
        );
        self.relate("wasAssociatedWith", json!({ "prov:activity": id, "prov:agent": program, "prov:plan": plan }));
        if !environment.user.is_empty() {
            let user = format!("user:{}", name(&environment.user));
            let person = json!({ "$": "prov:Person", "type": "prov:QUALIFIED_NAME" });
            self.put("agent", &user, json!({ "prov:type": person, "prov:label": environment.user }));
            self.relate("wasAssociatedWith", json!({ "prov:activity": id, "prov:agent": user }));
        }
        let role = |port: &str| json!({ "$": port, "type": "xsd:string" });
        for (port, input) in &record.inputs {
            let used = self.artifact(&input.artifact);
            self.relate("used", json!({ "prov:activity": id, "prov:entity": used, "prov:role": role(port.as_str()) }));
            if let Origin::Action { key, .. } = &input.origin {
                let informant = activity(*key);
                self.relate("wasInformedBy", json!({ "prov:informed": id, "prov:informant": informant }));
            }
        }
        for (port, output) in &record.outputs {
            let made = self.artifact(output);
            self.relate(
                "wasGeneratedBy",
                json!({ "prov:entity": made, "prov:activity": id, "prov:role": role(port.as_str()) }),
            );
            for input in record.inputs.values() {
                let used = entity(input.artifact.digest);
                self.relate(
                    "wasDerivedFrom",
                    json!({ "prov:generatedEntity": made, "prov:usedEntity": used, "prov:activity": id }),
                );
            }
        }
    }

    fn finish(mut self) -> Value {
        let prefixes = ["cistage", "blake3", "action", "program", "user"];
        let prefixes = prefixes.map(|prefix| (prefix.to_owned(), json!(format!("urn:cistage:{prefix}:"))));
        self.0.insert("prefix".to_owned(), Value::Object(prefixes.into_iter().collect()));
        Value::Object(self.0)
    }
}

/// A text as the local part of a qualified name.
fn name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}
