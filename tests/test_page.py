"""The page writes as the program does: in a real browser, from a file, without a network.

The browser is Debian's Chromium, driven by Playwright; where one of them is missing the tests
skip. The generators are tiny and random, so nothing is trained.
"""

import json
import re
import shutil
import subprocess
import sys
import threading
import unicodedata
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import ROOT, newest, run

sys.path.insert(0, str(ROOT / "benchmarks"))
import html_page

TEMPLATE = (ROOT / "data" / "page.html").read_text(encoding="utf-8")
make_page = program.make_page
PLAIN = {
    "words": "the king queen my lord and love is not what news o night".split(),
    "verse": "The King , . ! \n ' ( ) -- 'tis o'er Ay sir [GLUE]".split(" ") + [" "],
    "characters": list("abcdefghijklmnopqrstuvwxyz ABC,.\n'é東🙂"),
}
PROMPTS = {
    "words": "My lord, what xylophone?",
    "verse": "The King, 'tis\n(o'er) xylophone",
    "characters": "the 東 Q🙂",
}
NASTY = [
    "Ay, sir!\n  that's o'er--all; 'tis grey-eyed — so, -- ay-- 'twas'",
    "the 2nd of May 1595, 3 kings, x2y a1 Ⅳ ½ ٣",
    "👩\u200d👩\u200d👧 👍🏽👍🏽  ☠\ufe0f, 🇬🇧🇬🇧 ❤️!! a🙂b",
    "नमस्ते दुनिया। क्या हाल है? مرحبا، كيف الحال؟ 東京、日本。",
    "e\u0301te\u0301 n\u0303 \u0301alone İSTANBUL ΟΔΟΣ straße ﬁne",
    "  runs   of    spaces \t\t tabs\t and\x1c\x1d odd\x85ones\xa0here\u2028too\u2029 ",
    "\n\n a \n b  \r\n\r c",
    "[GLUE] [UNK][GLUE]x[UNK] '' a'b--c ’’ ’s ‘s “q” «r» „s“",
    "</script><!-- <b>&amp;</b> --> \\u003c \"quotes\" 'single' `ticks`",
    "𝔄𝔟 𐐀𐐨 𝟘𝟙 𠀀字 𐬺a 𐏐b (𐩐) 𑁇𑁇.",
    "a\u00adb zero\u200bwidth \ufeffbom \u180bmvs \u3164filler\uffa0 1\u20e3",
    "-a- --b-- ‐c‑d- don't 'don't' o''er ' '",
    "",
    " ",
]


def make_generator(token_kind, tokens=None, hidden=(8, 8), seed=0, tied=True):
    """A random generator with 8 numbers a token and a GRU of each hidden size."""
    random = np.random.default_rng(seed)
    vocabulary = ["[UNK]", *dict.fromkeys(tokens or PLAIN[token_kind])]
    vocabulary += [chr(0x4E00 + n) for n in range(60 - len(vocabulary))]
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)  # noqa: E731
    shapes = zip([8, *hidden], hidden)
    cells = [[draw(n, 3 * h), draw(h, 3 * h), draw(2, 3 * h)] for n, h in shapes]
    table, width = draw(len(vocabulary), 8), hidden[-1]
    projection = draw(width, 8) if width != 8 else np.eye(8, dtype=np.float32)
    kernel = projection @ table.T if tied else draw(width, len(vocabulary))
    dense = kernel, draw(len(vocabulary))
    return program.Generator(table, cells, dense, vocabulary, token_kind)


GENERATORS = {
    "words": make_generator("words"),
    "verse": make_generator("verse", hidden=(12, 12)),  # with a projection
    "characters": make_generator("characters", hidden=(8, 8)),
}
SETTINGS = {
    "prompt": "my lord",
    "temperature": 0.8,
    "top_p": 0.95,
    "num_words": 60,
    "seed": 0,
}
REPORT = {"corpus": "plays", "test_perplexity": 223.4, "settings": SETTINGS}
REPORT |= {"date": "2026-11-25"}


def read_model(page):
    return json.loads(re.search(r'id="model">(.*?)</script>', page, re.DOTALL)[1])


def dequantized(generator):
    """The generator with the weights that stand in its page."""
    return html_page.read_page(make_page(TEMPLATE, generator, REPORT), generator)


def expected_text(kind, prompt, **changes):
    """What the program makes of a prompt with the weights of the page."""
    settings = program.Settings(prompt=prompt, **changes)
    written = "".join(program.write(dequantized(GENERATORS[kind]), settings))
    return program.detokenize(program.tokenize(prompt, kind), kind) + written


@pytest.fixture(scope="module")
def shared_tab(browser):
    """A tab for all tests that ask for nothing special: opening one takes a while."""
    return browser.new_page()


@pytest.fixture
def open_page(browser, shared_tab, tmp_path):
    """A function that opens a generator's page as a double click does."""
    contexts, errors = [], []
    hear_error = lambda error: errors.append(str(error))  # noqa: E731
    hear_message = lambda message: errors.append(message.text)  # noqa: E731

    def open_page(generator="words", report=REPORT, **options):
        if isinstance(generator, str):
            generator = GENERATORS[generator]
        path = tmp_path / "page.html"
        path.write_text(make_page(TEMPLATE, generator, report), encoding="utf-8")
        page = shared_tab
        if options:
            contexts.append(browser.new_context(**options))
            page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", hear_error)
        page.on("console", hear_message)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    for event, hear in [("pageerror", hear_error), ("console", hear_message)]:
        if not contexts:
            shared_tab.remove_listener(event, hear)
    assert errors == []


def press(page, name, key="Enter"):
    page.get_by_role("button", name=name, exact=True).press(key)


def set_slider(page, name, value):
    """Move a slider as far as the script's own events would see it."""
    page.get_by_role("slider", name=name).fill(str(value))


def wait_until_done(page):
    page.locator("#stop").wait_for(state="hidden")


def write(page, prompt=None, **sliders):
    """Write, and give back the text."""
    if prompt is not None:
        page.get_by_role("textbox", name="Prompt").fill(prompt)
    for name, value in ({"Pace": 8} | sliders).items():
        set_slider(page, name, value)
    press(page, "Write")
    wait_until_done(page)
    return text_of(page)


def text_of(page):
    return page.locator("article").text_content()


# The export.


def test_the_page_holds_the_table_once():
    assert TEMPLATE.count(">MODEL<") == 1
    page = make_page(TEMPLATE, GENERATORS["verse"], REPORT)
    assert html_page.unpack(read_model(page)["projection"]).shape == (8, 12)


@pytest.mark.parametrize("kind", GENERATORS)
def test_weights_are_off_by_half_a_step_at_most(kind):
    generator, rounded = GENERATORS[kind], dequantized(GENERATORS[kind])
    for matrix, found in [(generator.embedding, rounded.embedding)] + [
        (matrix.T, found.T)
        for cell, other in zip(generator.cells, rounded.cells)
        for matrix, found in zip(cell[:2], other[:2])
    ]:
        scales = abs(matrix).max(axis=1, keepdims=True) / 127
        assert (abs(matrix - found) <= 0.501 * scales).all()
    assert np.allclose(generator.dense[1], rounded.dense[1], rtol=1e-6)
    assert np.allclose(generator.cells[0][2], rounded.cells[0][2], rtol=1e-6)


def test_a_large_vocabulary_makes_a_page_of_a_few_megabytes():
    random = np.random.default_rng(0)
    table = random.normal(size=(14000, 256)).astype(np.float32)
    cell = [random.normal(size=shape) for shape in [(256, 768), (256, 768), (2, 768)]]
    words = ["[UNK]", *(f"word{n}" for n in range(13999))]
    generator = program.Generator(table, [cell], (table.T, table[:, 0]), words, "words")
    assert len(make_page(TEMPLATE, generator, REPORT)) < 7e6


def test_what_is_no_gru_or_not_tied_is_refused(monkeypatch):
    with pytest.raises(program.UserError, match="tied"):
        make_page(TEMPLATE, make_generator("words", tied=False), REPORT)
    monkeypatch.setattr(program, "CELL", "lstm")
    with pytest.raises(program.UserError, match="needs a GRU"):
        make_page(TEMPLATE, GENERATORS["words"], REPORT)


@pytest.mark.parametrize("perplexity, said", [(None, ""), (1234.56, "1,234.6")])
def test_its_footer_says_what_it_learnt_from(open_page, perplexity, said):
    page = open_page(report=REPORT | {"test_perplexity": perplexity})
    footer = page.locator("footer").text_content()
    assert "Shakespeare's plays" in footer and "2026-11-25" in footer
    assert ("Perplexity on" in footer) == bool(said) and said in footer


def test_a_run_leaves_a_page_and_load_makes_one(toy_folder):
    kept = newest(toy_folder) / "generator.html"
    output = (toy_folder / "output.txt").read_text(encoding="utf-8")
    assert output.splitlines()[-1].endswith(str(kept.relative_to(toy_folder)))
    finished = run("--load", "--page", "to send.html", folder=toy_folder)
    assert finished.returncode == 0, finished.stderr
    page = (toy_folder / "to send.html").read_text(encoding="utf-8")
    assert page == kept.read_text(encoding="utf-8")
    assert read_model(page)["vocabulary"][0] == "[UNK]"


def test_without_its_template_no_page_is_promised(toy_folder, tmp_path):
    shutil.copy(program.__file__, tmp_path / "script.py")
    shutil.copy(newest(toy_folder) / "generator.keras", tmp_path)
    command = [
        sys.executable,
        "script.py",
        "--load",
        "generator.keras",
        "--page",
        "a.html",
    ]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 2 and "data/page.html" in finished.stderr
    assert not (tmp_path / "a.html").exists()


def test_a_page_tells_nothing_of_its_sender():
    secret = "/home/someone/private"
    settings = SETTINGS | {"output_dir": secret, "corpus": secret, "score": secret}
    report = REPORT | {"corpus": f"{secret}/novel.txt", "settings": settings}
    page = make_page(TEMPLATE, GENERATORS["words"], report)
    assert secret not in page and read_model(page)["corpus"] == "novel.txt"


def test_a_page_that_cannot_be_written_is_a_mistake(toy_folder):
    finished = run("--load", "--page", "toy.txt/page.html", folder=toy_folder)
    assert finished.returncode == 2 and "cannot write" in finished.stderr


# The network and its tokens.


@pytest.mark.parametrize("kind", GENERATORS)
def test_logits_are_those_of_numpy(open_page, kind):
    generator, ids = dequantized(GENERATORS[kind]), [3, 1, 0, 7, 7, 59]
    page = open_page(kind)
    logits = page.evaluate(
        "ids => [[], ...ids.map((_, n) => ids.slice(0, n + 1))].map(ids =>"
        " [...predict(ids.reduce((states, id) => read(id, states).states, begin()))])",
        ids,
    )
    (kernel, bias), states = generator.dense, program.begin(generator)
    hidden = [0 * kernel[:, 0], *(x for x, _ in program.read(generator, ids, states))]
    assert np.allclose(logits, np.stack(hidden) @ kernel + bias, rtol=0, atol=1e-4)
    gates = page.evaluate("[...read(3, begin()).gates]")
    assert np.allclose(gates, program.read_gates(generator, [3])[0][0], atol=1e-5)


def test_tokens_are_those_of_the_program(open_page):
    page = open_page()
    for kind in GENERATORS:
        split = "([kind, texts]) => texts.map(text => KINDS[kind].tokenize(text))"
        found = page.evaluate(split, [kind, NASTY])
        assert found == [program.tokenize(text, kind) for text in NASTY]


def test_every_character_is_a_letter_where_the_program_says_so(open_page):
    characters = [
        chr(n)
        for n in range(0x110000)
        if unicodedata.category(chr(n)) not in ("Cn", "Cs")
    ]
    find = (
        "text => Array.from(text, character => letterOfWord(character) || '_').join('')"
    )
    found = open_page().evaluate(find, "".join(characters))
    expected = [program.letter_of_word(c) or "_" for c in characters]
    differ = [c for c, a, b in zip(characters, expected, found) if a != b]
    assert len(differ) < 20, differ  # categories that a newer Unicode corrected


def test_spelling_is_that_of_the_program(open_page):
    page = open_page("verse")
    tokens = [
        "Ay",
        "'tis",
        ",",
        "\n",
        "(",
        "--",
        " ",
        "\t",
        "[GLUE]",
        "«",
        "»",
        "🙂",
        "𐬺",
        "字",
    ]
    pairs = [[left, right] for left in tokens for right in tokens]
    spell = "([kind, pairs]) => pairs.map(pair => KINDS[kind].takesSpace(...pair))"
    for kind, (_, takes_space) in program.TOKENIZERS.items():
        found = page.evaluate(spell, [kind, pairs])
        assert found == [takes_space(*pair) for pair in pairs]


def test_a_draw_is_that_of_the_program(open_page):
    page, logits = open_page(), np.random.default_rng(1).normal(size=300) * 3
    numbers = list((np.arange(200) + 0.5) / 200)
    stubs = [SimpleNamespace(random=lambda u=u: u) for u in numbers]
    for temperature, top_p in [(0.8, 0.95), (1.5, 1), (0.3, 0.5), (1, 0.05), (0, 1)]:
        found = page.evaluate(
            "([logits, numbers, ...settings]) =>"
            " numbers.map(u => drawToken(Float64Array.from(logits), u, ...settings))",
            [list(logits), numbers, temperature, top_p],
        )
        settings = program.Settings(temperature=temperature, top_p=top_p)
        assert found == [
            program.draw_token(logits, [], stub, settings) for stub in stubs
        ]


def test_its_random_numbers_are_even_and_independent(open_page):
    find = "Array.from({length: 50}, (_, s) => Array.from({length: 200}, (_, n) => uniform(s, n)))"
    numbers = np.array(open_page().evaluate(find))
    assert 0 <= numbers.min() and numbers.max() < 1
    counts = np.histogram(numbers, 20)[0]
    assert (
        (counts - 500) ** 2 / 500
    ).sum() < 44  # chi-square with 19 degrees: p = 0.001
    for a, b in [(numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.04


# What a person does.


@pytest.mark.parametrize("kind", GENERATORS)
def test_what_is_typed_is_continued_as_by_the_program(open_page, kind):
    page, prompt = open_page(kind), PROMPTS[kind]
    box = page.get_by_role("textbox", name="Prompt")
    box.press("Control+a")
    page.keyboard.type(prompt)
    page.get_by_role("slider", name="Temperature").press("Home")
    page.get_by_role("slider", name="Pace").press("End")
    box.press("Control+Enter")
    wait_until_done(page)
    assert text_of(page) == expected_text(kind, prompt, temperature=0, num_words=60)
    unknown = {"words": "xylophone", "verse": "xylophone", "characters": "Q"}[kind]
    assert page.locator(".unknown").all_text_contents() == [unknown]
    assert page.locator("#unknown").text_content().endswith(f": {unknown}")


def test_it_goes_on_and_writes_another(open_page):
    page = open_page()
    first = write(page, "my lord")
    assert len(first.split()) == 62
    press(page, "Go on")
    wait_until_done(page)
    assert text_of(page).startswith(first) and len(text_of(page).split()) == 122
    press(page, "Another")
    wait_until_done(page)
    assert page.get_by_role("spinbutton", name="Random seed").input_value() == "1"
    other = text_of(page)
    assert other != first and other.startswith("my lord ") and len(other.split()) == 62


def test_the_same_seed_writes_the_same_text_at_any_pace(open_page):
    page = open_page("verse")
    first = write(page, "The King", Length=15)
    assert write(page, "Ay", Length=15) != first
    assert write(page, "The King", Length=15, Pace=7) == first
    page.reload()
    assert write(page, "The King", Length=15) == first
    page.get_by_role("spinbutton", name="Random seed").fill("5")
    assert write(page, "The King", Length=15) != first


def test_it_stops_at_once_and_goes_on_from_there(open_page):
    page = open_page()
    set_slider(page, "Pace", 0)
    page.get_by_role("button", name="Write").click()
    page.locator("article .written").first.wait_for()
    press(page, "Stop")
    wait_until_done(page)
    few = text_of(page)
    assert len(few.split()) < 10
    assert page.evaluate("document.activeElement.id") == "go-on"
    set_slider(page, "Pace", 8)
    press(page, "Go on")
    wait_until_done(page)
    assert text_of(page).startswith(few) and len(text_of(page).split()) > 60


def test_an_alternative_takes_the_place_of_a_word(open_page):
    page, generator = open_page(), dequantized(GENERATORS["words"])
    before = write(page, "my lord").split()
    page.locator("article span").nth(7).click()
    choices = page.get_by_role("dialog").get_by_role("button")
    ids = program.encode(before[:7], generator.vocabulary)
    *_, (hidden, _) = program.read(generator, ids, program.begin(generator))
    logits = hidden @ generator.dense[0] + generator.dense[1]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    probabilities[0] = 0
    likeliest = np.argsort(-probabilities)[:5]
    shown = [line.split() for line in choices.all_text_contents()]
    assert [word for word, _ in shown] == [generator.vocabulary[i] for i in likeliest]
    percents = [float(percent[:-1]) / 100 for _, percent in shown]
    assert np.allclose(percents, probabilities[likeliest], rtol=0.06)
    chosen = next(word for word, _ in shown if word != before[7])
    choices.filter(has_text=chosen).click()
    wait_until_done(page)
    after = text_of(page).split()
    assert after[:8] == before[:7] + [chosen] and len(after) == 68
    assert not page.get_by_role("dialog").is_visible()


def test_the_keyboard_reaches_every_word(open_page):
    page = open_page()
    before = write(page, "my lord", Length=20).split()
    page.locator("article [tabindex]").focus()
    for key in [
        "End",
        "ArrowRight",
        "ArrowLeft",
        "Home",
        "ArrowLeft",
        "ArrowRight",
        "ArrowRight",
    ]:
        page.keyboard.press(key)
    word = page.evaluate("document.activeElement.textContent")
    assert word == before[2] and page.locator("article [tabindex]").count() == 1
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == before[2]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_until_done(page)
    assert text_of(page).split()[:2] == before[:2]
    assert page.locator("article .chosen").count() == 1


def test_a_line_break_has_alternatives_too(open_page):
    page = open_page("verse")
    write(page, "The King\nAy", Length=5)
    place = "document.querySelector('.break').getBoundingClientRect().toJSON()"
    box = page.evaluate(place)
    page.mouse.click(box["left"] + 6, box["top"] + box["height"] / 2)
    title = page.get_by_role("dialog").locator("p").text_content()
    assert title.startswith("line break ")


def test_alternatives_go_with_the_text_that_they_belong_to(open_page):
    page = open_page()
    write(page, "my lord", Length=40)
    page.locator("article span").nth(30).click()
    set_slider(page, "Length", 5)
    press(page, "Write")  # by keyboard: a click would close them anyway
    wait_until_done(page)
    assert not page.get_by_role("dialog").is_visible()


def test_surprisal_is_shown_and_summed(open_page):
    page, generator = open_page(), dequantized(GENERATORS["words"])
    ids = program.encode(write(page, "my lord").split(), generator.vocabulary)
    bits = program.score(generator, ids) / np.log(2)  # of all but the first
    assert np.allclose(
        page.evaluate("story.map(entry => entry.bits)")[1:], bits, atol=1e-4
    )
    assert f"{bits[1:].mean():.1f} bits" in page.locator("#summary").text_content()


def test_the_unknown_token_is_never_written(open_page):
    generator = make_generator("words")
    generator.dense[1][0] = 100
    page = open_page(generator)
    write(page, "my lord", Temperature=1.5, **{"Top-p": 1})
    assert "[UNK]" not in text_of(page)
    page.locator("article span").nth(4).click()
    assert "[UNK]" not in page.get_by_role("dialog").text_content()


def test_the_text_is_copied(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    written = write(page, "my lord")
    press(page, "Copy")
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == written


def test_the_picture_has_a_column_for_each_token(open_page):
    page = open_page()
    write(page, "my lord")
    size = page.evaluate(
        "[document.querySelector('canvas').width, document.querySelector('canvas').height]"
    )
    assert size == [62, 8]
    drawn = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 62, 8).data"
    assert (
        np.array(page.evaluate(f"[...{drawn}]"))
        .reshape(8, 62, 4)[:, :, 3]
        .any(axis=0)
        .all()
    )


# Safety and comfort.


@pytest.fixture
def server():
    """A server on this machine that counts who asks it for anything."""

    class Handler(BaseHTTPRequestHandler):
        hits = []

        def do_GET(self):
            self.hits.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SimpleNamespace(
            address=f"http://127.0.0.1:{server.server_port}", hits=Handler.hits
        )
        server.shutdown()


@pytest.mark.parametrize("kind", ["words", "verse"])
def test_hostile_content_is_text_and_no_request_leaves(open_page, server, kind):
    attack = f'<img src="{server.address}/image" onerror="window.hacked = 1">'
    tokens = [
        attack,
        f"</script><script src={server.address}/script></script>",
        f"<style>@import '{server.address}/style'</style>",
        "<!--",
        "<script>",
        "]]>",
        "\u2028",
        "\u2029",
        "\"'`${window.hacked = 1}",
        "\u200b",
        "\\u003c",
        "\ud800",
        "__proto__",
        "constructor",
    ]
    settings = SETTINGS | {
        "prompt": attack,
        "temperature": 1.5,
        "top_p": 1,
        "num_words": 300,
    }
    report = {
        "corpus": attack,
        "date": attack,
        "test_perplexity": 9.5,
        "settings": settings,
    }
    page = open_page(make_generator(kind, tokens), report)
    assert page.get_by_role("textbox", name="Prompt").input_value() == attack
    assert attack in page.locator("footer").text_content()
    write(page)
    add = "token => add(token, predict(statesBefore(story.length)), 'written')"
    for token in tokens:
        page.evaluate(add, token)
    assert all(token in text_of(page) for token in tokens)
    assert page.evaluate("tokens => tokens.map(nameOf)", tokens) == tokens
    page.locator("article span").filter(has_text="<!--").first.click()
    assert page.get_by_role("dialog").get_by_text("<!--").first.is_visible()
    page.wait_for_timeout(200)
    assert server.hits == []
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, iframe, link, object, style:not(head *)").count() == 0


def test_the_policy_stops_what_would_slip_through(open_page, server, browser, tmp_path):
    """Even a script that runs cannot ask for anything: the policy is really in force."""
    page = make_page(TEMPLATE, GENERATORS["words"], REPORT)
    smuggled = f"<body><img src={server.address}/x><script>window.hacked = 1</script>"
    path = tmp_path / "smuggled.html"
    path.write_text(page.replace("<body>", smuggled, 1), encoding="utf-8")
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(path.as_uri())
    failed = tab.evaluate(f"fetch('{server.address}/y').then(() => false, () => true)")
    assert failed and server.hits == [] and tab.evaluate("window.hacked") is None
    context.close()


def test_every_control_has_a_name(open_page):
    page = open_page()
    write(page, "my lord xylophone")
    page.locator("article span").nth(4).click()
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    named = [
        (n["role"]["value"], n.get("name", {}).get("value"))
        for n in nodes
        if "role" in n
    ]
    roles = "button slider spinbutton textbox dialog image region DisclosureTriangle".split()
    found = [(role, name) for role, name in named if role in roles]
    assert all(name for _, name in found), found
    assert {name for role, name in found if role == "slider"} == {
        "Temperature",
        "Top-p",
        "Length",
        "Pace",
    }
    assert {"textbox", "spinbutton", "dialog", "image"} <= {role for role, _ in found}


def test_it_speaks_only_when_it_is_done(open_page):
    page = open_page()
    page.evaluate(
        "window.said = []; for (const status of document.querySelectorAll('[role=status]'))"
        " new MutationObserver(() => said.push(status.textContent))"
        ".observe(status, {childList: true, characterData: true, subtree: true})"
    )
    write(page, "my lord", Pace=7, Length=20)
    assert [line for line in page.evaluate("said") if line] == [
        page.locator("#summary").text_content()
    ]


@pytest.mark.parametrize("width, folded", [(320, True), (1280, False)])
def test_it_fits_a_phone_and_a_wide_screen(open_page, width, folded):
    page = open_page("verse", viewport={"width": width, "height": 700})
    is_open = page.evaluate("document.getElementById('settings').open")
    assert is_open != folded
    page.evaluate("document.getElementById('settings').open = true")
    write(page, "The King, " + "o" * 200)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for number in [0, 30, 60]:
        page.locator("article span").nth(number).dispatch_event("click")
        box = page.get_by_role("dialog").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        page.keyboard.press("Escape")


def test_without_scripts_it_says_what_to_do(open_page):
    page = open_page(java_script_enabled=False)
    assert "open this file in a browser" in page.locator("body").inner_text()
