"""The page that a generator becomes: its size, its perplexity, its words a second.

    python benchmarks/html_page.py GENERATOR...

The weights of the page, 8 bits each, score the whole test part of the text that the generator
was trained on, beside those that they are made of. The words a second are those of Chromium,
writing 300 of them as fast as it can. Wants tests/requirements.txt and Chromium.
"""

import json
import re
import shutil
import sys
import tempfile
import time
from base64 import b64decode
from pathlib import Path

import numpy as np
from runs import ROOT, program, read_text

TEMPLATE = (ROOT / "data" / "page.html").read_text(encoding="utf-8")
WORDS = 300


def unpack(packed):
    """The matrix that the page reads."""
    scales = np.frombuffer(b64decode(packed["scales"]), "<f4")
    values = np.frombuffer(b64decode(packed["values"]), np.int8)
    return values.reshape(len(scales), -1) * scales[:, None]


def read_page(page, generator):
    """The Generator with the weights that stand in its page."""
    model = json.loads(re.search(r'id="model">(.*?)</script>', page, re.S)[1])
    table, bias = unpack(model["embedding"]), unpack(model["bias"])[:, 0]
    cells = [
        [unpack(w).T.copy(), unpack(u).T.copy(), unpack(b).reshape(2, -1)]
        for w, u, b in model["cells"]
    ]
    dense = (table @ unpack(model["projection"])).T.copy(), bias
    return program.replace(generator, embedding=table, cells=cells, dense=dense)


def words_a_second(page):
    """How fast Chromium writes WORDS words."""
    from playwright.sync_api import sync_playwright

    chromium = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(page, encoding="utf-8")
        tab = playwright.chromium.launch(**chromium).new_page()
        tab.goto(path.as_uri())
        tab.get_by_role("slider", name="Pace").fill("8")
        tab.get_by_role("slider", name="Length").fill(str(WORDS))
        for _ in range(2):  # the first time is for the compiler
            start = time.perf_counter()
            tab.get_by_role("button", name="Write", exact=True).click()
            tab.locator("#stop").wait_for(state="hidden")
            seconds = time.perf_counter() - start
        return WORDS / seconds


if __name__ == "__main__":
    print("    MB   test perplexity   of the page    words a second")
    for path in sys.argv[1:]:
        generator, report = program.load_generator(program.find_model(path))
        saved = program.Settings(**report["settings"])
        text = read_text(report["corpus"])
        tokens = program.tokenize(text, saved.token_kind)
        *_, test = program.split_tokens(tokens[: saved.max_tokens or None], saved)
        ids = program.encode(test, generator.vocabulary)
        page = program.make_page(TEMPLATE, generator, report)
        plain, rounded = (
            program.perplexity(program.score(g, ids))
            for g in [generator, read_page(page, generator)]
        )
        print(f"{len(page) / 1e6:6.2f}{plain:14.3f}{rounded:14.3f}", end="")
        print(f" ({rounded / plain - 1:+.4%}){words_a_second(page):10.0f}  {path}")
