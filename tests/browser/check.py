"""Looks at every page in a real browser: no error on the console, nothing executed, a live run that moves, no page too wide.

    python tests/browser/check.py --bin target/release/cistage [--chromium PATH] [--shots DIR] [--runs 1000]

Makes a cache of many small runs, a hostile one and a training in a folder of its own, and serves it. Needs playwright from PyPI
and a Chromium. Exit code 1 where a page fails; prints the weight of the pages and the time to their first paint.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from playwright.sync_api import sync_playwright

HOSTILE = r"""
cistage: 1
name: "<img src=x onerror=alert(1)>"
params: { text: "</script><script>alert(2)</script>", link: "javascript:alert(3)" }
stages:
  made: { uses: synthesize, with: { rows: 300 } }
  picture:
    uses: command
    in: { rows: made.rows }
    out: { metrics: { path: m.json, format: metrics }, drawing: p.svg }
    with: { run: "echo '{\"<svg onload=alert(4)>\": 1, \"b\": 2}' > {out.metrics}; echo '<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(5)\"><script>alert(6)</script></svg>' > {out.drawing}" }
  breaks:
    uses: command
    in: { rows: made.rows }
    out: { o: o.txt }
    with: { run: "echo '<script>alert(7)</script>' {param.text} {param.link}; exit 3" }
"""

SMALL = """
cistage: 1
name: small
params: { n: 1 }
stages:
  s: { uses: command, out: { o: o.txt }, with: { run: "echo {param.n} > {out.o}" } }
"""

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
TOO_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Check:
    def __init__(self, shots):
        self.problems, self.shots = [], shots

    def problem(self, text):
        self.problems.append(text)
        print(f"PROBLEM {text}", flush=True)

    def watch(self, page, name):
        page.on("console", lambda m: self.problem(f"{name}: console: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.problem(f"{name}: error: {e}"))
        page.on("dialog", lambda d: (self.problem(f"{name}: a dialog opened: {d.message}"), d.dismiss()))
        page.on("request", lambda r: self.problem(f"{name}: asked {r.url}") if not r.url.startswith(self.home) and not r.url.startswith(("data:", "file:")) else None)

    def look(self, browser, name, url):
        for size, (width, height) in WIDTHS.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = context.new_page()
                self.watch(page, f"{name} ({size}, {scheme})")
                answer = page.goto(url)
                page.wait_for_timeout(300)
                if page.evaluate(TOO_WIDE) > 0:
                    self.problem(f"{name} ({size}): wider than the window")
                if size == "desktop" and scheme == "light":
                    weight = len(answer.body()) if answer else 0
                    print(f"{name:28} {weight / 1024:8.1f} KiB   first paint {page.evaluate(FIRST_PAINT)} ms", flush=True)
                if self.shots:
                    page.screenshot(path=self.shots / f"{name}-{size}-{scheme}.png")
                context.close()


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--bin", type=pathlib.Path, required=True)
    args.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    args.add_argument("--shots", type=pathlib.Path)
    args.add_argument("--runs", type=int, default=1000)
    args = args.parse_args()
    if not args.chromium:
        sys.exit("no chromium was found: name one with --chromium")
    program = str(args.bin.resolve())
    if args.shots:
        args.shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "small.yaml").write_text(SMALL)
        (work / "hostile.yaml").write_text(HOSTILE)
        begun = time.time()
        for n in range(args.runs):
            subprocess.run([program, "run", "small.yaml", "-q", "--set", f"n={n % 7}"], cwd=work, check=True)
        print(f"{args.runs} runs made in {time.time() - begun:.0f} s", flush=True)
        subprocess.run([program, "run", "hostile.yaml", "-q", "--keep-going"], cwd=work, stderr=subprocess.DEVNULL)
        subprocess.run([program, "init", ".", "-q"], cwd=work, check=True)
        subprocess.run([program, "run", "pipeline.yaml", "-q"], cwd=work, check=True)
        subprocess.run([program, "run", "pipeline.yaml", "-q", "--set", "seed=43"], cwd=work, check=True)
        server = subprocess.Popen([program, "serve", "--listen", "127.0.0.1:0"], cwd=work, stderr=subprocess.PIPE, text=True)
        try:
            home = re.search(r"http://[^/]+", server.stderr.readline()).group()
            pages(args, program, work, home)
        finally:
            server.kill()


def pages(args, program, work, home):
    check = Check(args.shots)
    check.home = home
    listed = json.loads(subprocess.run([program, "runs", "-n", "4", "--format", "json"], cwd=work, capture_output=True, text=True).stdout)
    runs = [run["run"] for run in (listed["runs"] if isinstance(listed, dict) else listed)]
    subprocess.run([program, "report", runs[2], "-o", "hostile.html", "-q"], cwd=work, check=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        for name, url in {
            "runs": home,
            "run": f"{home}/run/{runs[0]}",
            "hostile": f"{home}/run/{runs[2]}",
            "compare": f"{home}/compare?a={runs[1]}&b={runs[0]}",
            "artifact": f"{home}/artifact/evaluate.metrics",
            "search": f"{home}/search?q=%3Cscript%3Ealert(8)%3C/script%3E",
            "file": (work / "hostile.html").as_uri(),
        }.items():
            check.look(browser, name, url)
        by_keyboard(check, browser, home)
        live(check, browser, home, program, work)
        browser.close()
    print(f"{len(check.problems)} problems")
    sys.exit(1 if check.problems else 0)


def by_keyboard(check, browser, home):
    """From the list to a run with Tab and Enter alone."""
    page = browser.new_page()
    check.watch(page, "keyboard")
    page.goto(home)
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.getAttribute('href')?.startsWith('/run/') ?? false"):
            page.keyboard.press("Enter")
            page.wait_for_url("**/run/*")
            break
    else:
        check.problem("keyboard: no run could be reached")
    page.close()


def live(check, browser, home, program, work):
    """A training under way: its page moves on by itself, and becomes the page of an ended run."""
    run = subprocess.Popen([program, "run", "pipeline.yaml", "-q", "--set", "epochs=8", "--set", "seed=44"], cwd=work)
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    check.watch(page, "live")
    unended = []
    while not unended and run.poll() is None:
        folders = sorted((work / "cache" / "runs").glob("*-*"))
        unended = [f.name for f in folders if (f / "events.jsonl").exists() and not (f / "run.json").exists()]
        time.sleep(0.05)
    if not unended:
        return check.problem("live: the run was over before it was seen")
    page.goto(f"{home}/run/{unended[-1]}")
    seen = set()
    until = time.time() + 120
    while time.time() < until:
        text = page.inner_text("main")
        seen.add(text)
        if "loss" in text and check.shots and "running" in text:
            page.screenshot(path=check.shots / "live.png")
        if "succeeded" in text:
            break
        page.wait_for_timeout(250)
    run.wait()
    print(f"live: {len(seen)} states seen")
    if len(seen) < 3 or "succeeded" not in text:
        check.problem("live: the page did not move on to its end")
    page.close()


main()
