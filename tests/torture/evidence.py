"""The files of a cache that prove something, by what they are, and the stages that need them."""
import collections
import json


def entries(ws, output):
    """The digests of an output: its own and, of a folder, those of its files."""
    yield output["digest"]
    if output["layout"] == "tree":
        yield from (f"blake3:{line.split()[0]}" for line in ws.object(output["digest"]).read_text().splitlines())


def records(ws):
    return {file: json.loads(file.read_text()) for file in sorted(ws.cache.glob("actions/??/*.json"))}


def roles(ws):
    """What each object is, by its digest."""
    found = {}
    for record in records(ws).values():
        found[record["key"]] = "manifest"
        if record.get("log"):
            found[record["log"]["digest"]] = "log"
        for output in record["outputs"].values():
            listing, *files = entries(ws, output)
            found |= {listing: "listing" if files else "output"} | dict.fromkeys(files, "file of a folder")
        while record.get("parent"):
            found[record["parent"]] = "replaced record"
            record = json.loads(ws.object(record["parent"]).read_text())
    for file in ws.cache.glob("runs/*/run.json"):
        found[json.loads(file.read_text())["text"]] = "pipeline text"
    return found


def by_kind(ws):
    """All evidence, by kind. Objects that nothing names are left out: nobody would miss them."""
    kinds, known = collections.defaultdict(list), roles(ws)
    for file in sorted(ws.cache.glob("objects/??/*")):
        if role := known.get(f"blake3:{file.parent.name}{file.name}"):
            kinds[f"object, {role}"].append(file)
    kinds["record"] = list(records(ws))
    kinds["run.json"] = sorted(ws.cache.glob("runs/*/run.json"))
    kinds["head.json"] = [ws.cache / "runs/head.json"]
    return dict(sorted(kinds.items()))


def seconds(ws):
    """How long it takes to make again what needs a file, by file."""
    took = collections.Counter()
    for file, record in records(ws).items():
        digests = {record["key"], *(d for output in record["outputs"].values() for d in entries(ws, output))}
        for each in [file, *map(ws.object, digests)]:
            took[each] += record["cost"]["wall_seconds"]
    return took
