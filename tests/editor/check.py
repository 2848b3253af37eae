"""Asks the YAML language server, which editors use, what `pipelines/schema.json` gives: hover texts, completions, complaints.

    python3 tests/editor/check.py --server node_modules/.bin/yaml-language-server [--schema pipelines/schema.json]

Speaks the language server protocol with it, as an editor does. Exit code 1 where an answer is not the one that a user needs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

TEXT = """# yaml-language-server: $schema={schema}
cistage: 1
name: example
params: {{ data: rows.tsv }}
stages:
  rows:
    uses: import-sequences
    in: {{ file: "${{data}}" }}
  balance:
    uses: sample-bins
    in: {{ rows: rows.rows }}
    with:
      per_bin: 300
  train:
    uses: train
    in: {{ train: balance.rows, tokenizer: tokenizer.json }}
    with:
      learning_rate: 1e-3
{more}"""


class Server:
    def __init__(self, program, schema):
        self.process = subprocess.Popen([program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.schema, self.number, self.told = schema, 0, {}
        self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": {"textDocument": {
            "hover": {"contentFormat": ["markdown"]}, "completion": {"completionItem": {"documentationFormat": ["markdown"]}}}}})
        self.tell("initialized", {})

    def send(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def receive(self):
        length = 0
        while line := self.process.stdout.readline().strip():
            name, value = line.split(b":", 1)
            length = int(value) if name.lower() == b"content-length" else length
        if not length:
            sys.exit("the language server ended")
        return json.loads(self.process.stdout.read(length))

    def tell(self, method, params):
        self.send({"method": method, "params": params})

    def ask(self, method, params):
        self.number += 1
        self.send({"id": self.number, "method": method, "params": params})
        while True:
            message = self.receive()
            if message.get("id") == self.number and "method" not in message:
                return message.get("result")
            self.hear(message)

    def hear(self, message):
        if message.get("method") == "textDocument/publishDiagnostics":
            self.told[message["params"]["uri"]] = message["params"]["diagnostics"]
        elif "id" in message:
            # It asks for settings: an editor without any.
            items = message.get("params", {}).get("items", [])
            answer = [{"hover": True, "completion": True, "validate": True} if item.get("section") == "yaml" else {} for item in items]
            self.send({"id": message["id"], "result": answer or None})

    def open(self, name, more=""):
        path = self.schema.parent / name
        text = TEXT.format(schema=self.schema.as_uri(), more=more)
        document = {"uri": path.as_uri(), "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        return document

    def place(self, document, word, after=False):
        for number, line in enumerate(document["text"].split("\n")):
            if word in line:
                column = line.index(word) + (len(word) if after else 1)
                return {"textDocument": {"uri": document["uri"]}, "position": {"line": number, "character": column}}
        raise ValueError(word)

    def hover(self, document, word):
        answer = self.ask("textDocument/hover", self.place(document, word))
        contents = (answer or {}).get("contents", "")
        return contents["value"] if isinstance(contents, dict) else str(contents)

    def completions(self, document, word):
        answer = self.ask("textDocument/completion", self.place(document, word, after=True))
        items = answer["items"] if isinstance(answer, dict) else answer or []
        return {item["label"]: item for item in items}

    def complaints(self, document):
        while document["uri"] not in self.told:
            self.hear(self.receive())
        return [diagnostic["message"] for diagnostic in self.told[document["uri"]]]


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--server", required=True)
    args.add_argument("--schema", type=pathlib.Path, default=pathlib.Path("pipelines/schema.json"))
    args = args.parse_args()
    problems = 0

    def check(holds, what, shown):
        nonlocal problems
        problems += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {what}: {shown}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        schema = pathlib.Path(folder) / "schema.json"
        schema.write_bytes(args.schema.read_bytes())
        server = Server(args.server, schema)

        document = server.open("plain.yaml")
        complaints = server.complaints(document)
        check(not complaints, "a right file has no complaint", complaints)
        for word, said in {
            "per_bin": "Rows drawn from each bin",
            "learning_rate": "peak rate",
            "uses: sample-bins": "Draws the same number of rows",
            "stages": "a name for each stage",
            "rows: rows.rows": "STAGE.PORT or a path",
            "params": "--set",
        }.items():
            text = server.hover(document, word)
            check(said in text, f"hover over `{word}`", " ".join(text.split())[:150])

        document = server.open("uses.yaml", "  new:\n    uses: \n")
        offered = server.completions(document, "    uses: \n"[:-1])
        wanted = {"train", "split", "sample-bins", "command", "evaluate"}
        check(wanted <= set(offered), "completions after `uses:`", ", ".join(sorted(offered))[:150])

        document = server.open("with.yaml", "      \n")
        at = {"textDocument": {"uri": document["uri"]}, "position": {"line": document["text"].count("\n") - 1, "character": 6}}
        answer = server.ask("textDocument/completion", at)
        items = answer["items"] if isinstance(answer, dict) else answer
        offered = {item["label"] for item in items}
        check({"epochs", "batch_size", "precision"} <= offered, "completions under `with:` of `train`", ", ".join(sorted(offered))[:150])
        check("per_bin" not in offered, "none of another stage's there", len(offered))

        document = server.open("wrong.yaml", "      epoch: 3\n")
        complaints = server.complaints(document)
        check(any("epoch" in text for text in complaints), "an unknown parameter", complaints)
        document = server.open("kind.yaml", "      epochs: many\n")
        complaints = server.complaints(document)
        check(bool(complaints), "a parameter of another type", complaints)
        server.process.kill()
    print(f"{problems} problems")
    sys.exit(1 if problems else 0)


main()
