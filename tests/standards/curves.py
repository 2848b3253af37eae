"""Has TensorBoard read the curves that `cistage metrics --tensorboard` writes.

    python tests/standards/curves.py --bin target/release/cistage

Trains a small model in a folder of its own, and compares every scalar that TensorBoard's reader finds with the stage's
metrics. Needs from PyPI: tensorboard. Exit code 1 where they differ.
"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

PIPELINE = """
cistage: 1
name: curves
stages:
  made: { uses: synthesize, with: { rows: 600 } }
  split: { uses: split, in: { rows: made.rows }, with: { test: 0.2 } }
  tokenizer: { uses: train-tokenizer, in: { rows: made.rows } }
  model:
    uses: train
    in: { train: split.train, validation: split.test, tokenizer: tokenizer.tokenizer }
    with: { epochs: 3, model: { layers: 1, hidden: 8, heads: 2, intermediate: 16, max_positions: 128 } }
publish: { metrics.json: model.metrics }
"""


def single(number):
    return struct.unpack("f", struct.pack("f", number))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    program = parser.parse_args().bin.resolve()
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "p.yaml").write_text(PIPELINE)
        for words in (["run", "p.yaml", "-q"], ["metrics", "--tensorboard", "curves", "-q"]):
            subprocess.run([program, *words], cwd=folder, check=True)
        metrics = json.loads((pathlib.Path(folder) / "metrics.json").read_text())
        (stage,) = pathlib.Path(folder).glob("curves/*/*")
        reader = EventAccumulator(str(stage), size_guidance={SCALARS: 0})
        reader.Reload()
        found = {name: [(event.step, event.value) for event in reader.Scalars(name)] for name in reader.Tags()["scalars"]}
    loss = metrics["curves"]["loss"]
    wrong = []
    if [value for _, value in found.get("loss", [])] != [single(value) for value in loss]:
        wrong.append("the loss differs")
    for epoch in metrics["curves"]["epochs"]:
        for name, value in {"loss": epoch["loss"], **{f"validation.{k}": v for k, v in epoch["validation"].items()}}.items():
            if isinstance(value, float) and (epoch["epoch"], single(value)) not in found.get(f"epoch/{name}", []):
                wrong.append(f"epoch {epoch['epoch']}: {name} is not {value}")
    print(f"{stage.name}: {', '.join(f'{name} ({len(points)})' for name, points in sorted(found.items()))}")
    print("\n".join(wrong) or "ok   TensorBoard reads every value")
    sys.exit(bool(wrong))


main()
