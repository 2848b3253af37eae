"""Has independent tools read what cistage writes for them: PROV, in-toto, DSSE signatures, RO-Crate.

    python tests/standards/check.py --bin target/release/cistage [--work DIR --target TARGET]

Runs a small pipeline, signed, in a folder of its own, or takes TARGET of the cache in DIR; exports it in every form, and
gives each to the tool that others use. Needs from PyPI: prov, roc-validator, in-toto-attestation, securesystemslib,
cryptography. Exit code 1 where a tool refuses a sound document, or takes a tampered one.
"""

import argparse
import base64
import json
import pathlib
import subprocess
import sys
import tempfile

PIPELINE = """
cistage: 1
name: standards
params: { word: "a word; with 'marks' and {braces}" }
stages:
  made: { uses: synthesize, with: { rows: 300 } }
  split: { uses: split, in: { rows: made.rows }, with: { test: 0.2 } }
  tokenizer: { uses: train-tokenizer, in: { rows: made.rows } }
  model:
    uses: train
    in: { train: split.train, tokenizer: tokenizer.tokenizer }
    with: { epochs: 1, model: { layers: 1, hidden: 8, heads: 2, intermediate: 16, max_positions: 128 } }
  evaluate: { uses: evaluate, in: { rows: split.test, model: model.model } }
  text: { uses: command, in: { "in": "odd name.txt" }, out: { o: o.txt }, with: { run: "cat {in.in} > {out.o}; echo {param.word} >> {out.o}" } }
publish: { metrics.json: evaluate.metrics }
"""
failures = []


def told(what, right, detail=""):
    """Prints one check, and remembers a failure."""
    print(f"{'ok  ' if right else 'FAIL'} {what}{': ' + detail if detail else ''}")
    if not right:
        failures.append(what)


def check_prov(text):
    from prov.model import ProvDocument

    document = ProvDocument.deserialize(content=text, format="json")
    again = ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
    told("prov reads the document, and its round trip is equal", document == again, f"{len(document.get_records())} records")


def check_statement(text):
    from google.protobuf import json_format
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    parsed = json_format.Parse(text, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    told("in-toto-attestation validates the statement", True, f"{len(parsed.subject)} subjects")


def check_envelope(envelope, public_key):
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    key = SSlibKey.from_crypto(load_pem_public_key(public_key), keyid=envelope["signatures"][0]["keyid"])
    Envelope.from_dict(json.loads(json.dumps(envelope))).verify([key], 1)
    told("securesystemslib verifies the envelope", True)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["subject"][0]["digest"]["sha256"] = "0" * 64
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    try:
        Envelope.from_dict(envelope).verify([key], 1)
        told("securesystemslib refuses a tampered envelope", False)
    except VerificationError as error:
        told("securesystemslib refuses a tampered envelope", True, str(error))


def check_crate(folder):
    import ro_crate

    told("roc-validator finds a valid crate", ro_crate.validate(folder) == 0)
    metadata = pathlib.Path(folder, "ro-crate-metadata.json")
    crate = json.loads(metadata.read_text())
    for entity in crate["@graph"]:
        entity.pop("license", None)
    metadata.write_text(json.dumps(crate))
    told("roc-validator finds a crate without licence wanting", ro_crate.validate(folder) > 0)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bin", required=True)
    arguments.add_argument("--work")
    arguments.add_argument("--target")
    given = arguments.parse_args()
    binary = str(pathlib.Path(given.bin).resolve())

    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(given.work or temporary)
        out = pathlib.Path(temporary, "out")

        def cistage(*args):
            done = subprocess.run([binary, *args], cwd=work, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"cistage {' '.join(args)}: exit code {done.returncode}\n{done.stderr}")
            return done.stdout

        if not given.work:
            (work / "p.yaml").write_text(PIPELINE)
            (work / "odd name.txt").write_text("some text\n")
            cistage("keys", "init", "--key", "key.pem")
            cistage("run", "p.yaml", "--sign", "--key", "key.pem")
        target = given.target or json.loads(cistage("runs", "--format", "json"))["runs"][0]["run"]
        for form in ["prov", "in-toto", "ro-crate"]:
            cistage("audit", target, "--export", form, "--output", str(out / form))
        check_prov((out / "prov").read_text())
        check_statement((out / "in-toto").read_text())
        if not given.work:
            envelope = json.loads((work / "cache/runs" / target / "provenance.dsse.json").read_text())
            check_envelope(envelope, (work / "key.pem.pub").read_bytes())
        check_crate(str(out / "ro-crate"))
    print(f"{len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
