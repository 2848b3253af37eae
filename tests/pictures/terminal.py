"""Draws what a terminal shows of some commands as SVG, for the pages of docs/: runs them in tmux, and turns its screen into text.

    python3 tests/pictures/terminal.py --bin target/release/cistage --out docs/pictures [NAME…]

Needs tmux. Makes its runs in a folder of its own.
"""

import argparse
import html
import os
import pathlib
import re
import subprocess
import tempfile
import time

COLOURS = {"31": "#ff8a80", "32": "#8bd49c", "33": "#f2c572", "2": "#8a94a3"}
SIZE, LEADING, WIDE = 14, 19, 8.43  # pixels: of letters, between lines, of a letter

BROKEN = """cistage: 1
name: promoters
params: { rows: 4000, per_bin: 200 }
stages:
  made: { uses: synthesize, with: { rows: "${rows}" } }
  split: { uses: split, in: { rows: made.rows } }
  balance:
    uses: sample-bins
    in: { rows: split.trian }
    with: { per_bin: "${per_bins}", rule: flor }
"""

# Name, columns, lines, and what is typed, each with what has to be on the screen before the next.
SCENES = [
    ("terminal-run", 104, 18, [("cistage run dream2022.yaml --profile demo", r"finetune.*left")]),
    ("terminal-narrow", 56, 12, [("cistage run dream2022.yaml --profile demo --set seed=7", r"pretrain.*[2-9]\d %")]),
    ("terminal-plan", 104, 20, [("cistage run dream2022.yaml --profile demo -q; echo all done", r"(?m)^all done"), ("clear", r"\A\$"),
                                ("cistage plan dream2022.yaml --profile demo --set per_bin=200", r"of work"),
                                ("cistage why dream2022.yaml balance --profile demo --set per_bin=200", r"300 -> 200")]),
    ("terminal-error", 104, 24, [("cistage run broken.yaml", r"problems")]),
]


def pieces(line):
    """Text with its look: foreground colour and weight."""
    colour, bold = None, False
    for part in re.split(r"(\x1b\[[\d;]*m)", line):
        code = re.fullmatch(r"\x1b\[([\d;]*)m", part)
        if not code:
            if part:
                yield part, colour, bold
            continue
        for number in (code[1] or "0").split(";"):
            if number in ("0", "39"):
                colour, bold = None, bold and number == "39"
            elif number == "1":
                bold = True
            elif number in COLOURS:
                colour = COLOURS[number]


def svg(lines, columns):
    width, height = round(columns * WIDE + 32), len(lines) * LEADING + 28
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
           f'<rect width="{width}" height="{height}" rx="8" fill="#171b22"/>',
           f'<g font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="{SIZE}" fill="#dfe5ec">']
    for number, line in enumerate(lines):
        column, y = 0, 26 + number * LEADING
        for text, colour, bold in pieces(line):
            if text.strip():
                blanks = len(text) - len(text.lstrip())
                column, text = column + blanks, text[blanks:]
                look = (f' fill="{colour}"' if colour else "") + (' font-weight="bold"' if bold else "")
                length = f' textLength="{len(text) * WIDE:.1f}" lengthAdjust="spacingAndGlyphs"'
                # Blanks that no viewer runs together.
                shown = html.escape(text).replace(" ", "\u00a0")
                out.append(f'<text x="{16 + column * WIDE:.1f}" y="{y}"{length}{look}>{shown}</text>')
            column += len(text)
    return "\n".join(out) + "\n</g></svg>\n"


def tmux(*words):
    return subprocess.run(["tmux", "-L", SERVER, *words], check=True, capture_output=True, text=True).stdout


# A server that was told to end may take a moment to: each picture has its own.
SERVER = ""


def scene(columns, lines, typed, env):
    global SERVER
    SERVER = f"pictures-{os.getpid()}-{columns}x{lines}-{time.monotonic_ns()}"
    tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines), "-c", str(env), "env", "-i",
         f"PATH={env}/bin:/usr/bin:/bin", f"HOME={env}", "TERM=screen-256color", "PS1=$ ", "bash", "--norc")
    while not tmux("capture-pane", "-p").startswith("$"):
        time.sleep(0.1)
    for command, shown in typed:
        tmux("send-keys", command, "Enter")
        until = time.time() + 600
        while not re.search(shown, tmux("capture-pane", "-p")):
            if time.time() > until:
                raise SystemExit(f"{command}: nothing like {shown!r} came")
            time.sleep(0.2)
        time.sleep(0.4)
    screen = tmux("capture-pane", "-p", "-e").rstrip("\n").split("\n")
    tmux("kill-server")
    return screen


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--bin", type=pathlib.Path, required=True)
    args.add_argument("--out", type=pathlib.Path, required=True)
    args.add_argument("names", nargs="*", help="these pictures alone")
    args = args.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        work = pathlib.Path(folder)
        (work / "bin").mkdir()
        (work / "bin" / "cistage").symlink_to(args.bin.resolve())
        flagship = pathlib.Path(__file__).resolve().parents[2] / "pipelines" / "dream2022.yaml"
        (work / "dream2022.yaml").write_bytes(flagship.read_bytes())
        (work / "broken.yaml").write_text(BROKEN)
        for name, columns, lines, typed in SCENES:
            if args.names and name not in args.names:
                continue
            path = args.out / f"{name}.svg"
            path.write_text(svg(scene(columns, lines, typed, work), columns))
            print(f"{path}: {path.stat().st_size} bytes", flush=True)


main()
