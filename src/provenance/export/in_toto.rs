//! An in-toto statement (v1) with SLSA provenance (v1): these files came out of this run, from these files.
//!
//! <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>, <https://slsa.dev/spec/v1.0/provenance>

use super::facts::{Facts, ended, files};
use crate::action::ActionRecord;
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};

/// The type of a statement.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// How a predicate of ours is read: a run of a pipeline.
const BUILD: &str = "urn:cistage:run:1";

/// Writes the statement about the results. Each file has its BLAKE3, by which `audit` knows it, and, while its bytes are
/// in the cache, its SHA-256, by which other tools do.
pub fn statement(cache: &Cache, facts: &Facts) -> Result<Value, CacheError> {
    let mut subjects = Vec::new();
    for (name, artifact) in &facts.results {
        for (name, digest) in files(cache, name, artifact)? {
            subjects.push(json!({ "name": name, "digest": digests(cache, digest)? }));
        }
    }
    let run = facts.main_run();
    let mut dependencies: Vec<Value> = facts
        .sources
        .values()
        .map(|source| json!({ "name": source.path, "digest": { "blake3": source.digest.hex() } }))
        .collect();
    if let Some(run) = run {
        dependencies.push(json!({ "name": run.file, "digest": { "blake3": run.text.hex() } }));
    }
    let newest = facts.actions.iter().max_by_key(|record| &record.started);
    let program = run.map(|run| &run.environment).or(newest.map(|record| &record.environment));
    Ok(json!({
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {
                    "pipeline": run.map(|run| &run.pipeline),
                    "file": run.map(|run| &run.file),
                    "profiles": run.map(|run| &run.profiles),
                    "sets": run.map(|run| &run.sets),
                    "params": run.map(|run| &run.params),
                },
                "internalParameters": { "actions": facts.actions.iter().map(|record| action(record)).collect::<Vec<_>>() },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {
                    "id": "urn:cistage:program",
                    "version": {
                        "cistage": program.map(|p| p.program.as_str()).unwrap_or_default(),
                        "commit": program.and_then(|p| p.commit.clone()).unwrap_or_default(),
                    },
                },
                "metadata": {
                    "invocationId": run.map(|run| run.run.to_string()),
                    "startedOn": run.map(|run| run.started.clone()),
                    "finishedOn": run.map(|run| ended(&run.started, run.seconds)),
                },
                "byproducts": byproducts(cache, facts)?,
            },
        },
    }))
}

fn action(record: &ActionRecord) -> Value {
    let inputs = record.inputs.iter().map(|(port, input)| (port.to_string(), json!(input.artifact.digest)));
    let outputs = record.outputs.iter().map(|(port, output)| (port.to_string(), json!(output.digest)));
    json!({
        "stage": record.stage,
        "kind": record.manifest.stage,
        "version": record.manifest.version,
        "key": record.key,
        "target": record.manifest.target,
        "params": record.manifest.params,
        "inputs": inputs.collect::<serde_json::Map<_, _>>(),
        "outputs": outputs.collect::<serde_json::Map<_, _>>(),
        "run": record.run,
        "started": record.started,
        "threads": record.environment.threads,
        "accepted": record.accepted,
    })
}

/// The records that say all this, by digest: whoever trusts the statement can trust them.
fn byproducts(cache: &Cache, facts: &Facts) -> Result<Vec<Value>, CacheError> {
    let mut records = Vec::new();
    for record in &facts.actions {
        if let Some(bytes) = cache.record_bytes(record)? {
            let digest = Digest::of(&bytes);
            records.push(
                json!({ "name": format!("actions/{}", record.key.0.hex()), "digest": { "blake3": digest.hex() } }),
            );
        }
    }
    for id in facts.runs.keys() {
        if let Some(bytes) = cache.run_bytes(id)? {
            let digest = Digest::of(&bytes);
            records.push(json!({ "name": format!("runs/{id}"), "digest": { "blake3": digest.hex() } }));
        }
    }
    Ok(records)
}

fn digests(cache: &Cache, digest: Digest) -> Result<Value, CacheError> {
    let sha256 = sha256(cache, digest)?;
    Ok(match sha256 {
        Some(sha256) => json!({ "blake3": digest.hex(), "sha256": sha256 }),
        None => json!({ "blake3": digest.hex() }),
    })
}

/// The SHA-256 of an object, in hex; `None` where its bytes are gone.
pub fn sha256(cache: &Cache, digest: Digest) -> Result<Option<String>, CacheError> {
    let mut file = match fs_err::File::open(cache.object_path(digest)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let (mut hasher, mut check, mut block) = (Sha256::new(), blake3::Hasher::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut block)? {
            0 => break,
            n => {
                hasher.update(&block[..n]);
                check.update(&block[..n]);
            }
        }
    }
    if Digest::from_hash(check.finalize()) != digest {
        return Err(CacheError::Unusable(format!("the object {digest} is damaged: run the pipeline again")));
    }
    Ok(Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}
