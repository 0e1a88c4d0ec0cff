"""Getting a text from wherever it is, and knowing what was got."""

import codecs
import io
import string
import threading
import time
import unicodedata
import zipfile
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import shakespeare_text_generator_using_gru as program
from conftest import ROOT, TOY_OPTIONS, run
from hypothesis import given, settings
from hypothesis import strategies as st

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
    monkeypatch.setattr(program, "PAUSES", (0, 0, 0, 0))
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
    "three failures of three kinds": [
        reply(500),
        reply(sent=1000),
        reply(502),
        reply(),
    ],
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
    "503 for ever": ([reply(503)], "the server says 503", 4),
    "a body always cut off": ([reply(sent=1000)], "Error", 4),
    "a longer text": ([reply(body=TEXT + b"!")], "SHA-256", 1),
    "another text": ([reply(body=TEXT.upper())], "SHA-256", 1),
    "a web page": ([reply(body=PAGE)], "a web page", 1),
    "a redirect loop": (
        [reply(302, b"", {"Location": "/text"})],
        "TooManyRedirects",
        124,
    ),
    "a stall for ever": ([reply(sent="stall")], "Error", 4),
    "garbage gzip": (
        [reply(headers={"Content-Encoding": "gzip"})],
        "ContentDecodingError",
        4,
    ),
    "an error text": ([reply(body=b"quota exceeded")], "SHA-256", 1),
    "nothing": ([reply(body=b"")], "nothing came", 1),
}


@pytest.mark.parametrize("case", BAD_ENDS)
def test_a_download_that_cannot_succeed_leaves_nothing(case, server, tmp_path):
    server.replies, reason, requests = BAD_ENDS[case]
    with pytest.raises(program.DownloadError, match=reason):
        program.fetch("named")
    assert len(server.requests) == requests
    assert files(tmp_path) == []


def test_after_each_try_that_failed_there_is_a_pause(server, monkeypatch):
    assert len(program.PAUSES) == 4  # the fixture's have the same length
    slept = []
    monkeypatch.setattr(program, "PAUSES", (0.1, 0.2, 0.3, 0))
    monkeypatch.setattr(program.time, "sleep", slept.append)
    server.replies = [reply(503), reply(sent=1000), reply(503), reply()]
    assert program.fetch("named") == TEXT
    assert slept == [0.1, 0.2, 0.3]


def test_a_damaged_cache_is_fetched_again(server, tmp_path):
    program.fetch("named")
    for damaged in [TEXT[:-1], b"", PAGE]:
        (tmp_path / "data" / "named.txt").write_bytes(damaged)
        assert program.fetch("named") == TEXT
        assert (tmp_path / "data" / "named.txt").read_bytes() == TEXT
    assert len(server.requests) == 4


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


def test_a_web_address_is_a_corpus(server, tmp_path):
    server.replies = [reply(), reply(404)]
    for _ in range(2):  # the second time from data/
        corpus = program.load_corpus(server.url)
        assert (corpus.name, corpus.text.encode()) == (server.url, TEXT)
        assert corpus.sha256 == sha256(TEXT).hexdigest()
    server.replies = [reply(body=PAGE)]
    with pytest.raises(program.DownloadError, match="a web page"):
        program.fetch(server.url + "?page")


def test_an_interrupted_download_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(program.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        program.fetch("named")
    assert files(tmp_path) == []


def works_zip(names=("b", "a")):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("works/README.md", "no work")
        archive.writestr("works/shakespeare/", "")
        for name in names:
            archive.writestr(f"works/shakespeare/{name}.txt", f"{name}\n")
    return file.getvalue()


def test_works_are_the_files_of_the_zip_in_order_of_name():
    assert program.unzip_works(works_zip()) == b"a\nb\n"
    for broken in [works_zip()[:-30], b"", works_zip().replace(b"a\n", b"x\n")]:
        with pytest.raises(program.DownloadError, match="damaged zip"):
            program.unzip_works(broken)


def test_what_is_kept_of_a_zip_is_its_text(server, tmp_path, monkeypatch):
    monkeypatch.setitem(program.ADDRESSES, "named", server.url + ".zip")
    monkeypatch.setitem(program.SHA256, "named", sha256(b"a\nb\n").hexdigest())
    server.replies = [reply(body=works_zip())]
    assert program.fetch("named") == b"a\nb\n"
    assert (tmp_path / "data" / "named.txt").read_bytes() == b"a\nb\n"


def test_every_name_that_is_known_has_an_address_or_comes_with_the_script():
    for name, url in program.ADDRESSES.items():
        comes_with_it = (ROOT / "data" / f"{name}.txt").exists()
        assert url.startswith("https://") or comes_with_it
    assert set(program.SHA256) <= set(program.ADDRESSES)


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


def test_the_report_says_that_the_sonnets_were_used(tmp_path):
    options = [*TOY_OPTIONS, "--corpus", "http://127.0.0.1:1/"]
    finished = run(*options, folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "THE SONNETS ARE USED INSTEAD" in finished.stdout
    assert '"corpus": "sonnets"' in (tmp_path / "runs" / "report.json").read_text()


def test_the_sonnets_are_whole():
    poems = (ROOT / "data" / "sonnets.txt").read_text(encoding="ascii").split("\n\n")
    numbers = [int(poem.split("\n")[0]) for poem in poems]
    lines = {n: len(poem.strip().split("\n")) - 1 for n, poem in zip(numbers, poems)}
    assert numbers == list(range(1, 155))
    assert {n: count for n, count in lines.items() if count != 14} == {99: 15, 126: 12}
    assert sum(lines.values()) == 2155


def test_a_folder_is_read_in_order_of_name_and_that_is_said(tmp_path, capsys):
    for name in ["b.txt", "a.txt", "c.md"]:
        (tmp_path / name).write_text(name[0])
    corpus = program.load_corpus(str(tmp_path))
    assert corpus.text == "a\nb" and "2 files" in capsys.readouterr().out


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


def test_windows_1252_is_read_with_a_warning(capsys):
    assert program.decode_text("“fée”\r\nœuf".encode("cp1252")) == "“fée”\nœuf"
    assert "Windows-1252" in capsys.readouterr().out


def test_one_strange_byte_does_not_make_a_long_text_binary():
    """No encoding has the byte 0x81 where it stands here."""
    assert program.decode_text(b"king " * 1000 + b"\x81") == "king " * 1000 + "\ufffd"
    for binary in [b"king \x81" * 1000, b"king " * 1000 + b"\0"]:
        with pytest.raises(program.UserError, match="a binary file"):
            program.decode_text(binary)


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


@given(st.text(alphabet=string.printable))
def test_on_ascii_words_are_those_of_the_original_rule(text):
    assert program.tokenize(text, "words") == original_rule(text)


def letters(text):
    return [c for c in text.lower() if unicodedata.category(c)[0] == "L"]


@given(st.text())
@settings(max_examples=300)
def test_words_lose_no_letter_but_with_a_digit(text):
    """On any Unicode text; in a word with digits all goes, in others only signs go."""
    assert program.cut_notices(text) == text
    words = program.tokenize(text, "words")
    if not any(unicodedata.category(c)[0] == "N" for c in text.lower()):
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
