#!/usr/bin/env python3
"""The same mistakes made with cistage, Snakemake and DVC, and what each says: writes docs/mistakes.md.

    python3 tests/peers/mistakes.py --bin target/release/cistage --peers DIR [--out docs/mistakes.md]

DIR holds the programs `snakemake` and `dvc` (a virtual environment's bin). Every tool is given the same two steps over a file of
rows, and one mistake. What they print is left as it is, but for colours, empty lines, paths of this machine, lines past 220 columns and what
lies in the middle of more than twenty lines.
"""
import argparse
import os
import pathlib
import re
import subprocess
import tempfile

CISTAGE = """cistage: 1
name: t
params: { n: 3 }
stages:
  count:
    uses: command
    in: { rows: rows.tsv }
    out: { count: count.txt }
    with: { run: "head -n {param.n} {in.rows} | wc -l > {out.count}" }
  sum:
    uses: command
    in: { count: count.count }
    out: { sum: sum.txt }
    with: { run: "cat {in.count} > {out.sum}" }
publish: { sum.txt: sum.sum }
"""
SNAKEMAKE = """configfile: "config.yaml"
rule sum:
    input: number="count.txt"
    output: "sum.txt"
    shell: "cat {input.number} > {output}"
rule count:
    input: rows="rows.tsv"
    output: "count.txt"
    params: n=config["n"]
    shell: "head -n {params.n} {input.rows} | wc -l > {output}"
"""
DVC = """stages:
  count:
    cmd: head -n ${n} rows.tsv | wc -l > count.txt
    deps: [rows.tsv]
    params: [n]
    outs: [count.txt]
  sum:
    cmd: cat count.txt > sum.txt
    deps: [count.txt]
    outs: [sum.txt]
"""
FILES = {
    "cistage": {"p.yaml": CISTAGE},
    "Snakemake": {"Snakefile": SNAKEMAKE, "config.yaml": "n: 3\n"},
    "DVC": {"dvc.yaml": DVC, "params.yaml": "n: 3\n"},
}
# Without the machine and the jobs that went well.
QUIET = ["--quiet", "host", "progress", "reason"]
COMMANDS = {"cistage": ["run", "p.yaml"], "Snakemake": ["--cores", "1", *QUIET], "DVC": ["repro"]}


class Mistake:
    """What changes in each tool's files, or which words its command gets."""

    def __init__(self, title, cistage, snakemake, dvc):
        self.title, self.changes = title, {"cistage": cistage, "Snakemake": snakemake, "DVC": dvc}


def swap(file, old, new):
    """One change of a file's text."""
    return ("swap", file, old, new)


def words(*args):
    """Other words for the command."""
    return ("words", list(args))


def gone(file):
    """A file that is not there."""
    return ("gone", file)


P, S, D = "p.yaml", "Snakefile", "dvc.yaml"
MISTAKES = [
    Mistake("A key is misspelt", swap(P, "    in: { rows", "    inn: { rows"), swap(S, "input: rows", "inputs: rows"), swap(D, "deps: [rows", "dep: [rows")),
    Mistake("An input's file is not there", gone("rows.tsv"), gone("rows.tsv"), gone("rows.tsv")),
    Mistake("An input names an output that no step has", swap(P, "count: count.count", "count: count.cuont"), swap(S, 'number="count.txt"', 'number="cuont.txt"'),
            swap(D, "deps: [count.txt]", "deps: [cuont.txt]")),
    Mistake("Two steps wait for each other", swap(P, "rows: rows.tsv", "rows: sum.sum"), swap(S, 'rows="rows.tsv"', 'rows="sum.txt"'), swap(D, "[rows.tsv]", "[sum.txt]")),
    Mistake("The file is indented wrongly", swap(P, "    out: { count", "   out: { count"), swap(S, '    output: "count', '   output: "count'), swap(D, "    deps: [rows", "   deps: [rows")),
    Mistake("Two steps have one name", swap(P, "  sum:\n", "  count:\n"), swap(S, "rule sum", "rule count"), swap(D, "  sum:\n", "  count:\n")),
    Mistake("The command uses a parameter that does not exist", swap(P, "{param.n}", "{param.m}"), swap(S, "{params.n}", "{params.m}"), swap(D, "${n}", "${m}")),
    Mistake("The command uses an input that does not exist", swap(P, "{in.rows}", "{in.row}"), swap(S, "{input.rows}", "{input.row}"), swap(D, "${n} rows.tsv", "${n} row.tsv")),
    Mistake("A parameter that does not exist is set", words("run", P, "--set", "head=4"), words("--cores", "1", *QUIET, "--config", "head=4"), words("exp", "run", "-S", "head=4")),
    Mistake("The command is misspelt", swap(P, "head -n", "haed -n"), swap(S, "head -n", "haed -n"), swap(D, "head -n", "haed -n")),
    Mistake("The command fails", swap(P, "cat {in.count}", "cat {in.count} nowhere"), swap(S, "cat {input.number}", "cat {input.number} nowhere"), swap(D, "cat count.txt", "cat count.txt nowhere")),
    Mistake("The command does not write what it declares", swap(P, "cat {in.count} > {out.sum}", "cat {in.count}"), swap(S, "cat {input.number} > {output}", "cat {input.number}"),
            swap(D, "cat count.txt > sum.txt", "cat count.txt")),
    Mistake("A failure in the middle of a pipe", swap(P, "head -n {param.n} {in.rows}", "cat nowhere"), swap(S, "head -n {params.n} {input.rows}", "cat nowhere"), swap(D, "head -n ${n} rows.tsv", "cat nowhere")),
    Mistake("A step that does not exist is asked for", words("run", P, "--force", "summ"), words("--cores", "1", "summ", *QUIET), words("repro", "summ")),
    Mistake("The pipeline's file does not exist", words("run", "q.yaml"), words("--cores", "1", *QUIET, "-s", "q.smk"), words("repro", "q.yaml")),
    Mistake("A profile that does not exist", words("run", P, "--profile", "small"), words("--cores", "1", *QUIET, "--profile", "small"), words("repro", "--profile", "small")),
    Mistake("Two steps write one file", swap(P, "publish: { sum.txt: sum.sum }", "publish: { a.txt: sum.sum, a.txt: count.count }"), swap(S, 'output: "sum.txt"', 'output: "count.txt"'),
            swap(D, "outs: [sum.txt]", "outs: [count.txt]")),
    Mistake("An output lies outside the folder", swap(P, "sum.txt: sum.sum", "../sum.txt: sum.sum"), swap(S, 'output: "sum.txt"', 'output: "../sum.txt"'), swap(D, "outs: [sum.txt]", "outs: [../sum.txt]")),
    Mistake("An input is its own output", swap(P, "count: count.count", "count: sum.sum"), swap(S, 'number="count.txt"', 'number="sum.txt"'), swap(D, "deps: [count.txt]", "deps: [sum.txt]")),
    Mistake("A number is a word", swap(P, "{ n: 3 }", "{ n: three }"), swap("config.yaml", "n: 3", "n: three"), swap("params.yaml", "n: 3", "n: three")),
]
LINES = 20


def said(tool, program, change):
    """What a tool prints, and its exit code."""
    with tempfile.TemporaryDirectory() as place:
        root = pathlib.Path(place) / "work"
        root.mkdir()
        (root / "rows.tsv").write_text("ACGT\t1\nACGG\t2\nACGA\t3\n")
        argv = list(COMMANDS[tool])
        files = dict(FILES[tool])
        if change[0] == "swap":
            _, name, old, new = change
            assert old in files[name], (tool, old)
            files[name] = files[name].replace(old, new, 1)
        for name, text in files.items():
            (root / name).write_text(text)
        if change[0] == "gone":
            (root / change[1]).unlink()
        if change[0] == "words":
            argv = change[1]
        env = dict(os.environ, NO_COLOR="1", TERM="dumb", DVC_NO_ANALYTICS="1", HOME=place, COLUMNS="100")
        if tool == "DVC":
            quiet = {"cwd": root, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True, "env": env}
            subprocess.run(["git", "init", "-q"], **quiet)
            subprocess.run([program, "init", "-q"], **quiet)
            subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "t", "--allow-empty"], **quiet)
        done = subprocess.run([program, *argv], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.replace("\r", "\n"))
        text = text.replace(str(root), "WORK").replace(place, "HOME").rstrip()
        text = text.replace("tmpdir=/tmp", "tmpdir=TMP")
        text = re.sub(r"/[^ \"']*/(site-packages|lib/python[0-9.]+)/", "LIB/", text)
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        if len(lines) > LINES:
            lines = [*lines[: LINES // 2], f"... {len(lines) - LINES} lines more ...", *lines[-LINES // 2 :]]
        return "\n".join(line[:220] for line in lines), done.returncode


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--bin", default="target/release/cistage")
    args.add_argument("--peers", required=True, help="folder with snakemake and dvc")
    args.add_argument("--out", default="docs/mistakes.md")
    args = args.parse_args()
    peers = pathlib.Path(args.peers).absolute()
    programs = {"cistage": pathlib.Path(args.bin).absolute(), "Snakemake": peers / "snakemake", "DVC": peers / "dvc"}
    versions = {tool: subprocess.run([path, "--version"], stdout=subprocess.PIPE, text=True).stdout.split("\n")[0].split(" (")[0] for tool, path in programs.items()}
    os.environ["PATH"] = f"{peers}:{os.environ['PATH']}"
    page = ["# Twenty mistakes", "",
            "What is said of a mistake by cistage, and of the same mistake by Snakemake "
            f"{versions['Snakemake']} and DVC {versions['DVC']}: as they print it, without colours, cut where it is longer than twenty lines "
            f"(Snakemake with `{' '.join(QUIET)}`).",
            "`python3 tests/peers/mistakes.py --peers DIR`, with both in DIR, made this page.", ""]
    for number, mistake in enumerate(MISTAKES, 1):
        page += [f"## {number}. {mistake.title}", ""]
        for tool, change in mistake.changes.items():
            text, code = said(tool, str(programs[tool]), change)
            page += [f"{tool}, exit code {code}:", "", "```text", text or "(nothing)", "```", ""]
        print(f"{number}/{len(MISTAKES)} {mistake.title}", flush=True)
    pathlib.Path(args.out).write_text("\n".join(page).rstrip() + "\n")


if __name__ == "__main__":
    main()
