//! A folder that is an RO-Crate 1.1 of the Workflow Run, Process Run and Provenance Run profiles (0.5).
//!
//! <https://www.researchobject.org/workflow-run-crate/>. The results, the pipeline file and the records lie in the folder;
//! sources and what lies between are named by their digests.

use super::super::ProvenanceError;
use super::facts::{Facts, ended, files};
use super::in_toto::sha256;
use crate::action::{ActionKey, ActionRecord};
use crate::artifact::{Artifact, Format};
use crate::cache::{Cache, CacheError, RunRecord};
use crate::digest::Digest;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const METADATA: &str = "ro-crate-metadata.json";
const PROFILES: [(&str, &str); 4] = [
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate"),
    ("https://w3id.org/ro/wfrun/provenance/0.5", "Provenance Run Crate"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate"),
];
const ENGINE: &str = "#cistage";
const LANGUAGE: &str = "#pipeline-language";

/// Writes the crate into `folder`, which is empty.
pub fn ro_crate(cache: &Cache, facts: &Facts, folder: &Path) -> Result<(), ProvenanceError> {
    let Some(run) = facts.main_run() else {
        return Err(ProvenanceError::Unknown(
            "the run that made it has no readable record, and a crate describes a run: run the pipeline again"
                .to_owned(),
        ));
    };
    let mut crate_ = Crate { cache, folder, facts, entities: BTreeMap::new(), parts: Vec::new(), mentions: Vec::new() };
    let workflow = crate_.workflow(run)?;
    crate_.results()?;
    crate_.records(run)?;
    crate_.readme(run)?;
    crate_.sources();
    for record in &facts.actions {
        crate_.action(record);
    }
    crate_.run(run, &workflow);
    crate_.root(run, &workflow);
    let text = serde_json::to_vec_pretty(&crate_.finish()).expect("plain data");
    Ok(fs_err::write(folder.join(METADATA), text)?)
}

struct Crate<'a> {
    cache: &'a Cache,
    folder: &'a Path,
    facts: &'a Facts,
    entities: BTreeMap<String, Value>,
    /// The files in the folder.
    parts: Vec<String>,
    mentions: Vec<String>,
}

fn link(id: &str) -> Value {
    json!({ "@id": id })
}

fn links<'i>(ids: impl IntoIterator<Item = &'i String>) -> Value {
    let links: Vec<Value> = ids.into_iter().map(|id| link(id)).collect();
    // What is single stands alone: so the profiles' validator wants it.
    match <[Value; 1]>::try_from(links) {
        Ok([one]) => one,
        Err(links) => Value::Array(links),
    }
}

/// The id of a file in the folder: a relative URI.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/@=".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn media_type(format: Format) -> &'static str {
    match format {
        Format::Rows | Format::Predictions => "application/vnd.apache.parquet",
        Format::Metrics => "application/json",
        Format::Report => "text/html",
        _ => "application/octet-stream",
    }
}

fn action_id(key: ActionKey) -> String {
    format!("#action-{}", key.0.hex())
}

fn step_id(record: &ActionRecord) -> String {
    format!("#step-{}", uri(record.stage.as_str()))
}

fn tool_id(record: &ActionRecord) -> String {
    format!("#tool-{}-{}", uri(&record.manifest.stage), record.manifest.version)
}

impl Crate<'_> {
    fn put(&mut self, id: &str, entity: Value) {
        self.entities.entry(id.to_owned()).or_insert_with(|| {
            let mut object = Map::from_iter([("@id".to_owned(), json!(id))]);
            let Value::Object(rest) = entity else { unreachable!("entities are maps") };
            object.extend(rest);
            Value::Object(object)
        });
    }

    /// A file of the folder, with the bytes of an object.
    fn file(&mut self, path: &str, digest: Digest, extra: Value) -> Result<String, ProvenanceError> {
        let place = self.folder.join(path);
        fs_err::create_dir_all(place.parent().expect("inside the folder"))?;
        let bytes = crate::artifact::Layout::File;
        let artifact = Artifact { digest, bytes: 0, layout: bytes, format: Format::Raw };
        self.cache.copy_out(&artifact, &place).map_err(|error| match error {
            CacheError::Io(e) if e.kind() == std::io::ErrorKind::NotFound => {
                ProvenanceError::Damaged(format!("the bytes of {path} ({digest}) are gone: run the pipeline again"))
            }
            other => other.into(),
        })?;
        self.describe(path, digest, extra)
    }

    fn text(&mut self, path: &str, text: &[u8], extra: Value) -> Result<String, ProvenanceError> {
        let place = self.folder.join(path);
        fs_err::create_dir_all(place.parent().expect("inside the folder"))?;
        fs_err::write(&place, text)?;
        self.describe(path, Digest::of(text), extra)
    }

    fn describe(&mut self, path: &str, digest: Digest, extra: Value) -> Result<String, ProvenanceError> {
        let id = uri(path);
        let size = fs_err::metadata(self.folder.join(path))?.len();
        let mut entity = json!({
            "@type": "File",
            "name": path,
            "contentSize": size.to_string(),
            "identifier": digest.to_string(),
        });
        if let Some(sha256) = sha256(self.cache, digest)? {
            entity["sha256"] = json!(sha256);
        }
        let Value::Object(extra) = extra else { unreachable!("attributes are a map") };
        entity.as_object_mut().expect("made here").extend(extra);
        self.put(&id, entity);
        self.parts.push(id.clone());
        Ok(id)
    }

    /// The pipeline file, as it was.
    fn workflow(&mut self, run: &RunRecord) -> Result<String, ProvenanceError> {
        let name = Path::new(&run.file).file_name().map_or("pipeline.yaml".into(), |n| n.to_string_lossy());
        let (mut tools, mut steps) = (Vec::new(), Vec::new());
        for (position, record) in self.facts.actions.iter().enumerate() {
            let (tool, step) = (tool_id(record), step_id(record));
            let (kind, version) = (&record.manifest.stage, record.manifest.version);
            self.put(
                &tool,
                json!({ "@type": "SoftwareApplication", "name": kind, "softwareVersion": version.to_string(), "version": version.to_string() }),
            );
            let name = record.stage.as_str();
            let place = position.to_string();
            self.put(
                &step,
                json!({ "@type": "HowToStep", "name": name, "position": place, "workExample": link(&tool) }),
            );
            for (list, id) in [(&mut tools, tool), (&mut steps, step)] {
                if !list.contains(&id) {
                    list.push(id);
                }
            }
        }
        self.put(
            LANGUAGE,
            json!({ "@type": "ComputerLanguage", "name": "cistage pipeline", "alternateName": "cistage", "version": "1" }),
        );
        let extra = json!({
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            "name": run.pipeline,
            "encodingFormat": "application/yaml",
            "programmingLanguage": link(LANGUAGE),
            "hasPart": links(&tools),
            "step": links(&steps),
        });
        self.file(&name, run.text, extra)
    }

    fn results(&mut self) -> Result<(), ProvenanceError> {
        for (name, artifact) in &self.facts.results {
            let place = format!("results/{name}{}", artifact.format.extension());
            let mut parts = Vec::new();
            for (path, digest) in files(self.cache, &place, artifact)? {
                let encoding = if path.ends_with(".json") { "application/json" } else { media_type(artifact.format) };
                parts.push(self.file(&path, digest, json!({ "encodingFormat": encoding }))?);
            }
            if artifact.layout == crate::artifact::Layout::Tree {
                let id = format!("{}/", uri(&place));
                let digest = artifact.digest.to_string();
                self.put(
                    &id,
                    json!({ "@type": "Dataset", "name": name, "identifier": digest, "hasPart": links(&parts) }),
                );
                self.parts.push(id);
            }
        }
        Ok(())
    }

    /// The records themselves: they say more than any standard has words for.
    fn records(&mut self, run: &RunRecord) -> Result<(), ProvenanceError> {
        let json = || json!({ "encodingFormat": "application/json" });
        for record in &self.facts.actions {
            if let Some(bytes) = self.cache.record_bytes(record)? {
                self.text(&format!("records/actions/{}.json", record.key.0.hex()), &bytes, json())?;
            }
        }
        if let Some(bytes) = self.cache.run_bytes(&run.run)? {
            self.text(&format!("records/runs/{}.json", run.run), &bytes, json())?;
        }
        Ok(())
    }

    fn readme(&mut self, run: &RunRecord) -> Result<(), ProvenanceError> {
        let results: Vec<String> =
            self.facts.results.iter().map(|(name, artifact)| format!("- `{name}`: {}", artifact.digest)).collect();
        let text = format!(
            "# {}\n\nResults of the pipeline `{}`, run {} on {}, with their provenance: an RO-Crate 1.1 of the \
             Provenance Run profile.\n\n{}\n\n`records/` holds the program's own records of each action and of the run. \
             Digests are BLAKE3, as `b3sum` gives them; that of a folder is of its sorted listing.\n",
            run.pipeline,
            run.pipeline,
            run.run,
            run.started,
            results.join("\n")
        );
        let extra = json!({ "encodingFormat": "text/markdown", "about": link("./") });
        self.text("README.md", text.as_bytes(), extra).map(drop)
    }

    fn sources(&mut self) {
        for source in self.facts.sources.values() {
            let id = self.outside(source.digest);
            let digest = source.digest.to_string();
            let size = source.bytes.to_string();
            self.put(
                &id,
                json!({ "@type": "CreativeWork", "name": source.path, "identifier": digest, "contentSize": size }),
            );
        }
    }

    /// Bytes that are not in the folder.
    fn outside(&self, digest: Digest) -> String {
        format!("urn:cistage:blake3:{}", digest.hex())
    }

    /// How an artifact is named: by its place in the folder, or by its digest.
    fn artifact(&mut self, name: &str, artifact: &Artifact) -> String {
        if let Some((name, _)) = self.facts.results.iter().find(|(_, result)| result.digest == artifact.digest) {
            let folder = if artifact.layout == crate::artifact::Layout::Tree { "/" } else { "" };
            return format!("{}{folder}", uri(&format!("results/{name}{}", artifact.format.extension())));
        }
        let id = self.outside(artifact.digest);
        let (digest, size) = (artifact.digest.to_string(), artifact.bytes.to_string());
        self.put(&id, json!({ "@type": "CreativeWork", "name": name, "identifier": digest, "contentSize": size }));
        id
    }

    fn action(&mut self, record: &ActionRecord) {
        let id = action_id(record.key);
        let mut used: Vec<String> = Vec::new();
        for (port, input) in &record.inputs {
            used.push(self.artifact(&format!("{} of {}", port, record.stage), &input.artifact));
        }
        for (name, value) in &record.manifest.params {
            let param = format!("#param-{}-{}", record.key.0.hex(), uri(name));
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.put(&param, json!({ "@type": "PropertyValue", "name": name, "value": value }));
            used.push(param);
        }
        let mut made: Vec<String> = Vec::new();
        for (port, output) in &record.outputs {
            made.push(self.artifact(&format!("{}.{port}", record.stage), output));
        }
        let agent = self.agent(&record.environment.user);
        self.put(
            &id,
            json!({
                "@type": "CreateAction",
                "name": format!("{} ({})", record.stage, record.manifest.stage),
                "instrument": link(&tool_id(record)),
                "object": links(&used),
                "result": links(&made),
                "startTime": record.started,
                "endTime": ended(&record.started, record.cost.wall_seconds),
                "actionStatus": "http://schema.org/CompletedActionStatus",
                "agent": link(&agent),
            }),
        );
        if let Some(accepted) = &record.accepted {
            let said = format!("accepted by {} on {}: {}", accepted.by, accepted.at, accepted.reason);
            self.entities.get_mut(&id).expect("put above")["description"] = json!(said);
        }
        self.mentions.push(id.clone());
        let control = format!("#control-{}", record.key.0.hex());
        let name = format!("control of {}", record.stage);
        self.put(
            &control,
            json!({ "@type": "ControlAction", "name": name, "instrument": link(&step_id(record)), "object": link(&id) }),
        );
    }

    fn agent(&mut self, user: &str) -> String {
        let user = if user.is_empty() { "unknown" } else { user };
        let id = format!("#user-{}", uri(user));
        self.put(&id, json!({ "@type": "Person", "name": user }));
        id
    }

    fn run(&mut self, run: &RunRecord, workflow: &str) {
        let program = &run.environment.program;
        self.put(ENGINE, json!({ "@type": "SoftwareApplication", "name": "cistage", "softwareVersion": program, "version": program }));
        let agent = self.agent(&run.environment.user);
        let id = format!("#run-{}", run.run);
        let sources: Vec<String> = self.facts.sources.keys().map(|digest| self.outside(*digest)).collect();
        let results: Vec<(String, Artifact)> = self.facts.results.clone();
        let results: Vec<String> = results.iter().map(|(name, artifact)| self.artifact(name, artifact)).collect();
        let mut entity = json!({
            "@type": "CreateAction",
            "name": format!("run {}", run.run),
            "instrument": link(workflow),
            "result": links(&results),
            "startTime": run.started,
            "endTime": ended(&run.started, run.seconds),
            "actionStatus": "http://schema.org/CompletedActionStatus",
            "agent": link(&agent),
        });
        if !sources.is_empty() {
            entity["object"] = links(&sources);
        }
        self.put(&id, entity);
        let controls: Vec<String> =
            self.facts.actions.iter().map(|record| format!("#control-{}", record.key.0.hex())).collect();
        self.put(
            "#organize",
            json!({
                "@type": "OrganizeAction",
                "name": format!("execution of {} by cistage", run.pipeline),
                "instrument": link(ENGINE),
                "object": links(&controls),
                "result": link(&id),
                "agent": link(&agent),
                "startTime": run.started,
                "endTime": ended(&run.started, run.seconds),
            }),
        );
        self.mentions.push(id);
        self.mentions.push("#organize".to_owned());
    }

    fn root(&mut self, run: &RunRecord, workflow: &str) {
        for (id, name) in PROFILES {
            let version = id.rsplit('/').next().unwrap_or_default();
            self.put(id, json!({ "@type": "CreativeWork", "name": name, "version": version }));
        }
        self.put(
            "#licence",
            json!({ "@type": "CreativeWork", "name": "not stated", "description": "Whoever publishes this crate puts a licence here." }),
        );
        let profiles: Vec<String> = PROFILES.iter().map(|(id, _)| (*id).to_owned()).collect();
        let results: Vec<&str> = self.facts.results.iter().map(|(name, _)| name.as_str()).collect();
        let root = json!({
            "@type": "Dataset",
            "name": format!("{}: {}", run.pipeline, results.join(", ")),
            "description": format!("Results of the cistage pipeline {} (run {}) with their provenance", run.pipeline, run.run),
            // Of the run: two exports of one run are equal.
            "datePublished": ended(&run.started, run.seconds),
            "license": link("#licence"),
            "conformsTo": links(&profiles),
            "mainEntity": link(workflow),
            "hasPart": links(&self.parts.clone()),
            "mentions": links(&self.mentions.clone()),
        });
        self.put("./", root);
        self.put(
            METADATA,
            json!({
                "@type": "CreativeWork",
                "about": link("./"),
                "conformsTo": [link("https://w3id.org/ro/crate/1.1"), link("https://w3id.org/workflowhub/workflow-ro-crate/1.0")],
            }),
        );
    }

    fn finish(self) -> Value {
        let context = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"];
        json!({ "@context": context, "@graph": self.entities.into_values().collect::<Vec<_>>() })
    }
}
