# %% [markdown]
# # Shakespeare text generator using a GRU
#
# This program reads the works of Shakespeare word by word and learns to guess the next
# word. Then it writes, by guessing again and again. The network is **Embedding → GRU →
# Dense** in Keras. It trains on a laptop in minutes, and its score is that of a text it
# has never seen. Read it from top to bottom and you will know what a GRU is, why it
# remembers, how it learns, and how to look inside one.
#
# Having learnt for a few minutes with punctuation, it may write:
#
#     KING HENRY V I know not,
#      And, I am sure, what was it in the world
#      To leave the world?
#
#     PERICLES I know, my lord.
#
#     KING HENRY VIII What is the matter?
#
# There are three ways to run it:
#
# - `python shakespeare_text_generator_using_gru.py`; with `--help` it lists its
#   options.
# - In JupyterLab: open `Shakespeare_text_generator_using_GRU.ipynb`, run its cells.
# - In Colab: upload that notebook alone and choose *Run all*.
#
# Each section says why, then defines a few functions, then runs them. Data flows one
# way: settings → corpus → tokens → ids → batches → model → scores, text and pictures.

# %%
import argparse
import codecs
import csv
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import signal
import sys
import textwrap
import time
import unicodedata
import warnings
import zipfile
import zlib
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import partial
from importlib.metadata import version
from itertools import chain, islice, tee
from operator import itemgetter
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import numpy.random  # now, as a Ctrl-C while it is imported would be lost

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no chatter


class UserError(Exception):
    """A mistake that the user can mend: says what is wrong and what to do about it."""


def report_error(kind, error, trace):
    """End with one line and, at a user's mistake, code 2; our bugs keep their trace."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped by Ctrl-C: the same command goes on", file=sys.stderr)
        sys.exit(130)
    if issubclass(kind, BrokenPipeError):  # nobody reads on, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    if not issubclass(kind, UserError):
        return sys.__excepthook__(kind, error, trace)
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    sys.exit(2)


@contextmanager
def replacing(path):
    """Lend a path to write to; once all is written, that file takes path's place."""
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # it may have vanished
        yield part
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path} ({reason}): make room there") from None
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def holding_interrupts():
    """Lend a list that grows with each Ctrl-C, which acts at the end if it is still there.

    Libraries in C++ may swallow it or abort when it comes in the middle of their work.
    """
    interrupts = []
    handler = signal.signal(signal.SIGINT, lambda *_: interrupts.append(True))
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt


def make_folder(name):
    """The path of a folder that is there and may be written to; else a UserError."""
    try:
        os.makedirs(name, exist_ok=True)
        if not os.access(name, os.W_OK | os.X_OK):
            raise PermissionError(13, "no permission")
    except OSError as error:
        message = f"cannot write {name} ({error.strerror}): give another --output-dir"
        raise UserError(message) from None
    return Path(name)


# %% [markdown]
# ## Settings
#
# Every number that shapes a run stands here once: name, type, meaning, the smallest and
# largest value that make sense, default. The options of the command line are made from
# these lines (`hidden_size` is `--hidden-size` there). In a notebook, write them into the
# list `options` below, for example `["--epochs", "2", "--prompt", "to be"]`.
#
# A preset is a start that other options change: `quick` takes about a minute on a laptop,
# `standard` five, `best` twenty.


# %%
PRESETS = {  # what each changes in the settings below
    "quick": dict(epochs=2),
    "standard": dict(),
    "best": dict(num_layers=3, dropout=0.5, input_dropout=0.25, activation_penalty=2)
    | dict(learning_rate=0.003, epochs=18, patience=5),
}
KINDS = {  # the same for what a token is
    "words": dict(),
    "verse": dict(),
    "characters": dict(min_count=1, embedding_size=64, hidden_size=384, num_layers=2)
    | dict(sequence_length=64, batch_size=32, learning_rate=0.003)
    | dict(dropout=0.5, input_dropout=0.1, activation_penalty=2),
}


@dataclass(frozen=True)
class Settings:
    """The settings of one run, each with its meaning and its limits."""

    preset: Annotated[str, "how long to train, how large to be", *PRESETS] = "standard"

    # What is read
    corpus: Annotated[str, "works, tiny, t8, sonnets, a file, folder or URL"] = "works"
    token_kind: Annotated[str, "what a token is", *KINDS] = "words"
    min_count: Annotated[int, "tokens seen less often become [UNK]", 1, 10**6] = 2
    max_tokens: Annotated[int, "read only the first N tokens; 0: all", 0, 10**9] = 0
    validation_share: Annotated[float, "share kept to say when to stop", 0, 0.9] = 0.1
    test_share: Annotated[float, "share kept for the final score", 0, 0.9] = 0.1

    # The network
    embedding_size: Annotated[int, "numbers in a token's vector", 1, 8192] = 256
    hidden_size: Annotated[int, "width of the GRU", 1, 8192] = 256
    num_layers: Annotated[int, "GRUs on top of each other", 1, 8] = 1

    # How it learns
    dropout: Annotated[float, "share of the GRU's output hidden", 0, 0.9] = 0.4
    input_dropout: Annotated[float, "of its input; half of it: words", 0, 0.9] = 0.2
    activation_penalty: Annotated[float, "on the squares of its output", 0, 100] = 0
    hide_words: Annotated[float, "share of local words read as [UNK]", 0, 1] = 0.5
    num_sampled: Annotated[int, "rivals on a CPU; 0, or a GPU: all", 0, 10**6] = 1024
    sequence_length: Annotated[int, "steps that learning looks back", 1, 10**4] = 35
    batch_size: Annotated[int, "streams of text read side by side", 1, 10**4] = 64
    learning_rate: Annotated[float, "highest rate of Adam", 1e-7, 1] = 0.004
    epochs: Annotated[int, "times the training part is read", 1, 10**4] = 8
    minutes: Annotated[float, "as many epochs as fit in; 0: --epochs", 0, 10**4] = 0
    patience: Annotated[int, "epochs without progress until it stops", 1, 10**4] = 2
    output_dir: Annotated[str, "folder for all that is kept"] = "runs"
    fresh: Annotated[bool, "start anew, whatever was interrupted"] = False

    # What it writes
    load: Annotated[str, "a kept generator.keras; nothing is trained"] = ""
    interactive: Annotated[bool, "type beginnings, read what follows"] = False
    score: Annotated[str, "a text of yours: how surprising is each word?"] = ""
    prompt: Annotated[str, "text to continue"] = "my lord"
    num_words: Annotated[int, "tokens to write; characters: 6 N", 1, 10**6] = 60
    num_samples: Annotated[int, "texts to write", 1, 1000] = 2
    repetition_penalty: Annotated[float, "above 1: repeats itself less", 1, 10] = 1.0
    temperature: Annotated[float, "below 1: safer; above 1: bolder", 0, 100] = 0.8
    top_k: Annotated[int, "choose among the N likeliest; 0: all", 0, 10**6] = 0
    top_p: Annotated[float, "... among the likeliest that add up to X", 0.001, 1] = 0.95
    seed: Annotated[int, "start of all chance: same seed, same run", 0, 2**31 - 1] = 0

    def __post_init__(self):
        for field in fields(self):
            kind, _, *limits = get_args(field.type)
            value = getattr(self, field.name)
            if kind is str and limits and value not in limits:
                allowed = " or ".join(limits)
                raise UserError(f"{option(field.name)} {value}: give {allowed}")
            if kind in (int, float) and not limits[0] <= value <= limits[1]:
                allowed = f"{limits[0]:,} to {limits[1]:,}"
                raise UserError(f"{option(field.name)} {value}: give {allowed}")
        if self.validation_share + self.test_share > 0.9:
            raise UserError("--validation-share and --test-share: together at most 0.9")


GROUPS = {  # each begins with the setting named
    "preset": "a start for all that follows",
    "corpus": "what is read",
    "embedding_size": "the network",
    "dropout": "how it learns",
    "load": "what it writes (the options that go with --load)",
}


NAMES = [field.name for field in fields(Settings)]


def option(name):
    """The command line's word for a setting: hidden_size is --hidden-size."""
    return "--" + name.replace("_", "-")


class OptionParser(argparse.ArgumentParser):
    """argparse, but a mistake is one line and not the whole usage."""

    def error(self, message):
        raise UserError(f"{message}; --help lists the options")


def make_parser(names):
    """A parser of the options that set the settings of these names, and no others."""
    parser = OptionParser(
        description="Train a small GRU on Shakespeare, score it, and let it write.",
        usage="%(prog)s [options]",
        epilog="In brackets: what is taken where nothing is said.",
        formatter_class=partial(argparse.HelpFormatter, max_help_position=30),
        argument_default=argparse.SUPPRESS,  # what is not given is left to Settings
        allow_abbrev=False,
    )
    group = parser
    for field in (field for field in fields(Settings) if field.name in names):
        kind, meaning, *limits = get_args(field.type)
        if field.name in GROUPS:
            group = parser.add_argument_group(GROUPS[field.name])
        if kind is bool:
            group.add_argument(option(field.name), action="store_true", help=meaning)
            continue
        group.add_argument(
            option(field.name),
            type=kind,
            metavar={int: "N", float: "X"}.get(kind) or "|".join(limits) or "TEXT",
            help=meaning if field.default == "" else f"{meaning} ({field.default})",
        )
    return parser


def read_settings(options):
    """The Settings that a list of command-line options asks for."""
    given = vars(make_parser(NAMES).parse_args(options))
    names = ["corpus", "output_dir", "load", "score"]
    if empty := [option(name) for name in names if given.get(name) == ""]:
        raise UserError(f"{empty[0]} is empty: name what you mean")
    if given.get("load"):
        for name in NAMES[: NAMES.index("load")]:
            if name in given and name != "corpus":
                raise UserError(f"{option(name)} is for training, not for --load")
        given.setdefault("corpus", "")
        given.setdefault("seed", int(np.random.default_rng().integers(10**6)))
    kind = KINDS.get(given.get("token_kind"), {})
    preset = PRESETS.get(given.get("preset"), {})
    return Settings(**(preset | kind | given))


# %%
in_notebook = sys.argv[0].endswith("_launcher.py")  # JupyterLab, Colab
running = __name__ == "__main__"  # false where a test imports this file
if running and not in_notebook:
    sys.excepthook = report_error
    # A terminal may lack a letter; a reader may leave: each line goes out at once.
    sys.stdout.reconfigure(errors="replace", line_buffering=True)
options = ["--preset", "quick"] if in_notebook else sys.argv[1:]
settings = read_settings(options if running else [])
training, writing = running and not settings.load, running

# %% [markdown]
# ## The corpus
#
# `works` is all of Shakespeare, 42 plays and poems in the public domain. `--corpus` also
# takes `tiny` (the excerpt that char-rnn and nanoGPT learn from), `t8` (the edition of the
# project that this one follows; for personal use only), `sonnets` (comes with this
# program), and a file, a folder of `.txt` files or a web address of your own.
#
# What is downloaded is kept in the folder `data` and checked, so that everybody's scores
# are of the same text. Licence notices are not Shakespeare: they are cut away, or the
# network would learn to write them. Whatever is done to a text is said.


# %%
SOURCES = {  # name: bytes, SHA-256 ("" where it is not known), addresses to try in turn
    "works": (
        5_283_795,
        "1f921c97a441b8b36b6474ee8284d918d9fe1da695590b8866b229d448ffdb51",
        "https://github.com/martin-gorner/tensorflow-rnn-shakespeare/archive/25946cd6486e8a8f96d84edb200a8b8b6e961c27.zip",
    ),
    "tiny": (
        1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
    ),
    "t8": (
        5_458_199,
        "",
        "https://ocw.mit.edu/ans7870/6/6.006/s08/lecturenotes/files/t8.shakespeare.txt",
    ),
}
TIMEOUT, TRIES, PAUSE = 20, 4, 1.0  # seconds, times, seconds (doubled after each try)


@dataclass(frozen=True)
class Corpus:
    """A text, and what tells which text it was."""

    name: str
    text: str
    num_bytes: int
    sha256: str


class DownloadError(Exception):
    """Says why a text cannot be had from the internet."""


def download(url):
    """The bytes at a URL; what may pass (no connection, a busy server) is tried again."""
    import requests

    headers = {"User-Agent": "shakespeare-text-generator-using-gru"}
    get = partial(requests.get, url, stream=True, timeout=TIMEOUT, headers=headers)
    for attempt in range(TRIES):
        content, pause = bytearray(), PAUSE * 2**attempt
        try:
            with get() as reply:
                reply.raise_for_status()
                for chunk in reply.iter_content(2**16):
                    content += chunk
                    if sys.stdout.isatty():
                        print(f"Downloading: {len(content) / 1e6:.1f} MB", end="\r")
            return bytes(content)
        except requests.HTTPError as error:
            reason = f"the server says {error.response.status_code}"
            asked = error.response.headers.get("Retry-After", "")
            pause = min(int(asked), 60) if asked.isdecimal() else pause
            if error.response.status_code not in [429, 500, 502, 503, 504]:
                break
        except (requests.RequestException, ValueError) as error:
            reason = type(error).__name__
        if attempt < TRIES - 1:
            time.sleep(pause)
    raise DownloadError(reason)


def unzip_works(content):
    """The files of a zip's folder shakespeare, joined in the order of their names."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = sorted(n for n in archive.namelist() if "/shakespeare/" in n)
            return b"".join(archive.read(n) for n in names)
    except (zipfile.BadZipFile, zlib.error):
        raise DownloadError("a damaged zip came") from None


def check_content(content, num_bytes, sha256):
    """Raise a DownloadError if content is a web page or not what is known of it."""
    start = content[:1000].lower()
    if b"<html" in start or b"<!doctype" in start:
        raise DownloadError("a web page came, not a text")
    if num_bytes and len(content) != num_bytes:
        raise DownloadError(f"{len(content):,} bytes came, not {num_bytes:,}")
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise DownloadError("another text came: its SHA-256 is not the known one")


def fetch(name):
    """The bytes of a named corpus or a URL: from data/ if whole there, or downloaded."""
    num_bytes, sha256, *urls = SOURCES.get(name, (0, "", name))
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    stem = name if name in SOURCES else digest[:16]
    path = Path("data") / f"{stem}.txt"
    with suppress(OSError, DownloadError):
        content = path.read_bytes()
        check_content(content, num_bytes, sha256)
        return content
    for url in urls:
        try:
            content = download(url)
            content = unzip_works(content) if url.endswith(".zip") else content
            check_content(content, num_bytes, sha256)
        except DownloadError as error:
            failure = error
            continue
        make_folder(path.parent)
        with replacing(path) as part:
            part.write_bytes(content)
        return content
    raise failure


def find_sonnets():
    """The bytes of data/sonnets.txt, from here or from beside the script."""
    for folder in [Path(), Path(globals().get("__file__", "")).parent]:
        with suppress(OSError):
            return (folder / "data" / "sonnets.txt").read_bytes()
    raise UserError(
        "the sonnets do not come with a notebook alone: connect to the internet, or put "
        "a text beside the notebook and name it with --corpus"
    )


def read_files(name, option="--corpus"):
    """The bytes of a file, or of each .txt file of a folder in order of name, as a list."""
    path = Path(name)
    try:
        files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise FileNotFoundError(2, "no text there")
        return [file.read_bytes() for file in files]
    except OSError as error:
        message = f"cannot read {name} ({error.strerror}): give {option} a text file"
        raise UserError(message) from None


def decode_text(content):
    """The text that bytes stand for: UTF-8, UTF-16 or, with a warning, Windows-1252."""
    boms = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
    text = "\0"
    for encoding in ["utf-16" if content.startswith(boms) else "utf-8-sig", "cp1252"]:
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            break
    if "\0" in text:
        raise UserError("a binary file: give a text with --corpus or --score")
    if encoding == "cp1252":
        print("Warning: the text is not UTF-8; it is read as Windows-1252")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text)


def cut_notices(text):
    """The text without the licence notices of t8 and Project Gutenberg; says what went."""
    kept = re.sub(r"<<THIS ELECTRONIC VERSION.*?>>", "", text, flags=re.S)
    for start in [r"\*\*\* ?START OF TH.*?\*\*\*", r"(?=1609\s+THE SONNETS)"]:
        found = re.search(f"^{start}", kept, re.M)
        if found and "gutenberg" in kept[: found.end()].lower():
            kept = kept[found.end() :]
    if found := re.search(r"^(\*\*\* ?END OF TH|End of this Etext)", kept, re.M):
        kept = kept[: found.start()]
    if cut := len(text) - len(kept):
        print(f"Cut away: licence notices, {cut:,} characters ({cut / len(text):.1%})")
    return kept


def load_corpus(name):
    """The Corpus of a name: in SOURCES, sonnets, a file, a folder or a web address."""
    try:
        if name in SOURCES or name.startswith(("http://", "https://")):
            contents = [fetch(name)]
        else:
            contents = [find_sonnets()] if name == "sonnets" else read_files(name)
    except DownloadError as error:
        name, contents = "sonnets", [find_sonnets()]
        print(f"WARNING: NO DOWNLOAD ({error}): THE SONNETS ARE USED INSTEAD.")
        print("Their 17,000 words teach little. For a text of your own: --corpus FILE")
    if len(contents) > 1:
        print(f"Reading {len(contents)} files of the folder {name}")
    text = cut_notices("\n".join(map(decode_text, contents)))
    content = b"".join(contents)
    digest = hashlib.sha256(content).hexdigest()
    return Corpus(name, text, len(content), digest)


# %%
if running and settings.score:
    text_to_score = decode_text(read_files(settings.score, "--score")[0])
if training:
    corpus = load_corpus(settings.corpus)
    print(f"Corpus: {corpus.name}, {len(corpus.text):,} characters, it begins")
    print("   ", textwrap.shorten(corpus.text[:400], 80))

# %% [markdown]
# ## Words
#
# Newline markers and punctuation go, capitals become small letters, and what lies between
# blanks is a word if it is made of letters. A line's last word and the next line's first
# stay two words. In plain English text this is Python's `string.punctuation`; in others,
# Unicode's categories say what is a letter, a mark or a digit.
#
# Two other kinds lose nothing, so that what is written looks like a play. With
# `--token-kind verse` words stay as they are, and punctuation marks and line breaks are
# tokens, too. A blank goes without saying, before a word and after a comma; where it stands
# against that rule it is a token, `" "`, and where it is missing stands `[GLUE]`. With
# `--token-kind characters` every character is a token: that serves any language. The
# program calls its units *tokens* whatever they are.


# %%
class WordTable(dict):
    """A table for str.translate: what becomes of a character on the way to words."""

    def __missing__(self, code):
        kind = unicodedata.category(chr(code))
        if kind[0] in "LM":  # letters and their marks stay
            self[code] = code
        elif kind[0] == "N":  # all digits become 0, to be found soon
            self[code] = "0"
        elif kind == "Cf" or kind[0] in "PS" and chr(code) not in "–—―":
            self[code] = None
        else:  # blanks, newlines and long dashes part words
            self[code] = " "
        return self[code]


GLUE = "[GLUE]"  # no blank here, though there usually is one


def takes_blank(left, right):
    """Whether a blank between two tokens of verse goes without saying."""
    if {left, right} & {"\n", " ", GLUE}:
        return False
    before, after = (unicodedata.category(token[-1]) for token in [left, right])
    opening, closing = {"Ps", "Pi", "Pd"}, {"Pe", "Pf", "Po", "Pd"}
    return before not in opening and after not in closing


def tokenize_verse(text):
    """Words, marks and line breaks: "Ay,\\n'tis." gives ["Ay", ",", "\\n", "'tis", "."]."""
    marks = [re.escape(c) for c in set(text) if unicodedata.category(c)[0] in "PS"]
    word = f"[^\\s{''.join(marks)}]+"
    word = rf"(?:(?<!\S)['’])?{word}(?:['’-]{word})*"  # 'tis, o'er, grey-eyed
    tokens, left, blank = [], "\n", False
    for found in re.finditer(rf"{word}|\n|\s|(\S)\1*", text):
        token = sys.intern(found[0])
        if token.isspace() and token != "\n":
            blank = True
            continue
        if blank != takes_blank(left, token):
            tokens.append(" " if blank else GLUE)
        tokens.append(token)
        left, blank = token, False
    return tokens + [" "] * blank


def tokenize(text, token_kind):
    """The tokens of a text: "Ay, sir." gives ["ay", "sir"]."""
    if token_kind == "characters":
        return list(text)
    if token_kind == "verse":
        return tokenize_verse(text)
    table = WordTable()
    lines = (line.translate(table).split() for line in text.lower().splitlines())
    return [sys.intern(word) for line in lines for word in line if "0" not in word]


def spell(tokens, token_kind, left="\n"):
    """Yield what each token adds to a text that ends in `left`: "ay", then " sir"."""
    for token in tokens:
        if token_kind == "verse":
            blank = takes_blank(left, token)
        else:
            blank = token_kind == "words" and left != "\n"
        yield " " * blank + token.replace(GLUE, "")
        left = token


def detokenize(tokens, token_kind):
    """The text that tokens make: ["ay", "sir"] gives "ay sir"."""
    return "".join(spell(tokens, token_kind))


# %%
if training:
    tokens = tokenize(corpus.text, settings.token_kind)[: settings.max_tokens or None]
    print(f"Tokens: {len(tokens):,} of {len(set(tokens)):,} types, the first are")
    print("   ", tokens[:10])

# %% [markdown]
# ## Vocabulary
#
# The text is cut into three parts before anything is learnt from it: the network learns
# from the first, the second says when to stop, and the last is kept for the final score.
# The parts are contiguous, as shuffled ones would let sentences leak from one to the
# other. The vocabulary comes from the training part alone. Words seen only once there
# teach nothing and become `[UNK]`, as does every word of the other parts that is not in
# the vocabulary.

# %%
UNKNOWN = "[UNK]"  # its id is 0


def split_tokens(tokens, settings):
    """The training, validation and test parts, one after the other in the text."""
    num_validation = int(len(tokens) * settings.validation_share)
    num_test = int(len(tokens) * settings.test_share)
    num_train = len(tokens) - num_validation - num_test
    train, rest = tokens[:num_train], tokens[num_train:]
    return train, rest[:num_validation], rest[num_validation:]


def check_sizes(train_tokens, validation_tokens, settings):
    """Raise a UserError if the parts are too short for the streams they are read as."""
    streams, length = settings.batch_size, settings.sequence_length
    if len(train_tokens) <= streams * length or 0 < len(validation_tokens) <= streams:
        raise UserError(
            f"{len(train_tokens):,} training tokens and {len(validation_tokens):,} for "
            f"validation are too few for {streams} streams of {length}: give a longer "
            "text, --token-kind characters, or a smaller --batch-size"
        )


def build_vocabulary(train_tokens, min_count):
    """The known tokens, [UNK] first and then by falling frequency; position = id."""
    counts = Counter(train_tokens).most_common()
    vocabulary = [UNKNOWN] + [token for token, n in counts if n >= min_count]
    if len(vocabulary) == 1:
        raise UserError(
            f"no token is seen {min_count} times in the training part: give a longer "
            "text, or a smaller --min-count"
        )
    return vocabulary


def encode(tokens, vocabulary):
    """The ids of tokens, (len(tokens),) int32; 0 stands for what is not known."""
    ids = {token: token_id for token_id, token in enumerate(vocabulary)}
    return np.fromiter((ids.get(token, 0) for token in tokens), np.int32, len(tokens))


def decode(token_ids, vocabulary):
    """The tokens that ids stand for."""
    return [vocabulary[token_id] for token_id in token_ids]


def find_passage(token_ids, doublings=5):
    """Where the most frequent run of 2**doublings tokens stands first, and how often."""
    if len(token_ids) < 2**doublings:
        return 0, 0
    hashes = token_ids.astype(np.uint64)  # of runs of 1, then 2, 4, ... tokens
    for step in [2**n for n in range(doublings)]:
        factor = np.uint64(pow(0x9E3779B97F4A7C15, step, 2**64))
        hashes = hashes[:-step] * factor + hashes[step:]
    values, counts = np.unique(hashes, return_counts=True)
    return int(np.argmax(hashes == values[counts.argmax()])), int(counts.max())


def advise(train_tokens, train_ids, vocabulary, settings):
    """Yield what is better known before a text is trained on, with what to do about it."""
    size, width = settings.embedding_size, settings.hidden_size
    weights = len(vocabulary) * size + 3 * width * (size + width)
    if weights > 20 * len(train_ids):
        yield (
            f"the network has {weights:,} weights to learn {len(train_ids):,} tokens by "
            "heart: a longer text or --embedding-size 64 --hidden-size 64 may be better"
        )
    elif len(train_ids) > 3_000_000 and settings.preset != "quick":
        yield "so long a text takes its time: --preset quick or --minutes cut it short"
    if settings.token_kind == "characters":
        return
    if 50_000 < len(train_ids) < 200_000 and settings.preset != "best":
        yield "with so short a text --preset best takes only minutes, and learns more"
    start, count = find_passage(train_ids)
    if count >= 10:
        passage = " ".join(train_tokens[start : start + 8])
        yield f"one passage stands {count:,} times, cut it if it is no text: {passage} ..."
    if sum(map(len, train_tokens)) > 15 * len(train_tokens):
        yield "there are few blanks between its words: try --token-kind characters"


# %%
if training:
    parts = split_tokens(tokens, settings)
    check_sizes(*parts[:2], settings)
    vocabulary = build_vocabulary(parts[0], settings.min_count)
    all_ids = [encode(part, vocabulary) for part in parts]
    print(f"Vocabulary: {len(vocabulary):,} tokens, the first are {vocabulary[:8]}")
    for name, ids in zip(["Training", "Validation", "Test"], all_ids):
        share = np.mean(ids == 0) if len(ids) else 0
        print(f"{name} part: {len(ids):,} tokens, {share:.1%} of them [UNK]")
    for advice in advise(parts[0], all_ids[0], vocabulary, settings):
        print("Advice:", advice)

# %% [markdown]
# ## Training examples
#
# At every position the network is to say which token comes next, so the targets are the
# inputs, shifted by one: the cell below shows both. The text teaches by itself, and
# nobody has to label it.
#
# The text is laid out as parallel streams, read side by side in windows. What the GRU
# remembers at the end of a window is where it begins the next one.
#
# A play that was never seen has names and words of its own: in the held-out parts four
# times as many words are unknown as in the training part. To expect that, the network
# learns from a text like it. In each epoch some of the words that only one tenth of the
# training part knows are hidden there: they count as `[UNK]`, other ones each time.


# %%
def make_batches(token_ids, batch_size, sequence_length):
    """Inputs and targets, each (batches × batch_size, sequence_length).

    Row i of a batch continues row i of the batch before. The text a b c d … in two
    streams and windows of three:

        batch 1    a b c    batch 2    d e f    …
                   m n o               p q r
    """
    length = (len(token_ids) - 1) // (batch_size * sequence_length) * sequence_length

    def cut(ids):
        windows = ids[: batch_size * length].reshape(batch_size, -1, sequence_length)
        return windows.swapaxes(0, 1).reshape(-1, sequence_length)

    return cut(token_ids), cut(token_ids[1:])


def hide_local_words(token_ids, vocabulary_size, settings, random):
    """The ids with 0, for [UNK], in the place of a share of the local words' ids.

    A word is local to a tenth of the text if it would be unknown there, had the network
    learnt from the other nine tenths. It is hidden in all of its tenth, or not at all.
    """
    tenths = np.arange(len(token_ids)) * 10 // len(token_ids)
    counts = np.bincount(token_ids * 10 + tenths, minlength=vocabulary_size * 10)
    counts = counts.reshape(vocabulary_size, 10)
    elsewhere = counts.sum(axis=1, keepdims=True) - counts
    hidden = random.random(counts.shape) < settings.hide_words
    hidden &= elsewhere < settings.min_count
    return np.where(hidden[token_ids, tenths], 0, token_ids)


# %%
if training:
    train_ids, validation_ids, test_ids = all_ids
    inputs, targets = make_batches(train_ids, 1, settings.sequence_length)
    print("inputs: ", decode(inputs[0, :8], vocabulary))
    print("targets:", decode(targets[0, :8], vocabulary))

# %% [markdown]
# ## The GRU, by hand
#
# A recurrent network reads one token $x$ at a time and keeps a state $h$: a few hundred
# numbers, all that it remembers. The plain one has a single equation,
#
# $$h' = \tanh(x W + h U + b),$$
#
# and it forgets. At every step the whole memory goes through the matrix $U$ and through
# $\tanh$, whose slope is at most 1. What an early word left in $h$ fades a little each
# time. Learning fades with it: the gradient comes back along the same path and is
# multiplied by the same factors, step by step, until nothing is left to learn from or,
# where $U$ is large, until it explodes ([Pascanu et al.
# 2013](https://arxiv.org/abs/1211.5063)).
#
# The gated recurrent unit ([Cho et al. 2014](https://arxiv.org/abs/1406.1078)) keeps
# the memory in the open and lets two gates decide what becomes of it. A gate is a
# number between 0 and 1 for each unit of the state, made by the sigmoid $\sigma$ from
# the word that comes and from the memory itself.
#
# The *reset gate* serves the short-term memory. It says how much of the old state the
# new thought may use; where it is 0, the new thought comes from the word alone.
#
# $$r = \sigma(x W_r + h U_r + b_r)$$
#
# The *update gate* serves the long-term memory. It says how much of the old state
# stays.
#
# $$z = \sigma(x W_z + h U_z + b_z)$$
#
# The *candidate* is the new thought. It is the plain network's equation, but for $r$.
#
# $$\tilde h = \tanh\big(x W_h + b_h + r \circ (h U_h + c_h)\big)$$
#
# The *new state* is a blend of the two, unit by unit ($\circ$ multiplies so).
#
# $$h' = z \circ h + (1 - z) \circ \tilde h$$
#
# ![The GRU cell: h runs along the top to h', the update gate z and the candidate change it,
# the reset gate r says what of h the candidate sees](docs/gru_cell.svg)
#
# Below are the same letters in NumPy: `x_z` is the word's part of what goes into $z$,
# `h_z` the memory's part. Keras stacks the matrices in the order z, r, h and resets
# after multiplying by $U_h$, Cho et al. before; what is $z$ here is $1 - z$ in [Chung
# et al. 2014](https://arxiv.org/abs/1412.3555). A test holds that this is Keras' GRU to
# the fifth decimal. It is also the function that will write: one step a token, with no
# TensorFlow.


# %%
@dataclass(frozen=True)
class Generator:
    """What it takes to score and to write. V: vocabulary, E: embedding, H: hidden size."""

    embedding: np.ndarray  # (V, E)
    grus: list  # of (kernel (E or H, 3 H), recurrent_kernel (H, 3 H), bias (2, 3 H))
    dense: tuple  # (kernel (H, V), bias (V,))
    vocabulary: list
    token_kind: str


def sigmoid(x):
    """1 / (1 + exp(-x)), written so that nothing overflows."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def gru_gates(x, h, kernel, recurrent_kernel, bias):
    """The gates z and r and the candidate, for input x in state h, as Keras has them."""
    x_z, x_r, x_h = np.split(x @ kernel + bias[0], 3, axis=-1)
    h_z, h_r, h_h = np.split(h @ recurrent_kernel + bias[1], 3, axis=-1)
    z = sigmoid(x_z + h_z)
    r = sigmoid(x_r + h_r)
    return z, r, np.tanh(x_h + r * h_h)


def gru_step(x, h, *weights):
    """The new state (hidden_size,) after input x in state h."""
    z, r, candidate = gru_gates(x, h, *weights)
    return z * h + (1 - z) * candidate


def zero_state(generator):
    """The state of a generator that has read nothing: zeros, one array a layer."""
    return [np.zeros(len(recurrent), np.float32) for _, recurrent, _ in generator.grus]


def read_token(generator, token_id, state):
    """The state after one more token, or one more of each of several texts."""
    x, new_state = generator.embedding[token_id], []
    for weights, h in zip(generator.grus, state):
        x = gru_step(x, h, *weights)
        new_state.append(x)
    return new_state


def read_tokens(generator, token_ids):
    """The state after a text that begins with these tokens."""
    state = zero_state(generator)
    for token_id in token_ids:
        state = read_token(generator, token_id, state)
    return state


def score_tokens(generator, token_ids):
    """The nats that each token but the first costs, (len(token_ids) - 1,) float64.

    The tokens are one stream that starts from a zero state; a token costs -ln of the
    probability that a softmax over the whole vocabulary gave it.
    """
    kernel, bias = generator.dense
    inputs, targets = token_ids[:-1], token_ids[1:]
    state, nats = zero_state(generator), [np.zeros(0)]
    for start in range(0, len(inputs), 1000):
        block, hidden = slice(start, start + 1000), []
        for token_id in inputs[block]:
            state = read_token(generator, token_id, state)
            hidden.append(state[-1])
        logits = np.stack(hidden) @ kernel + bias  # (up to 1000, V)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(hidden)), targets[block]]
        nats.append(np.log(np.exp(logits).sum(axis=1)) - chosen)
    return np.concatenate(nats)


def perplexity(loss):
    """exp(loss), the loss being mean nats per token; None for None, where no token was."""
    return None if loss is None else float(np.exp(loss))


# %% [markdown]
# What do the gates do for the memory? With $z = 0$ and $r = 1$ the four equations are
# the plain network's one. So we can let both read the same 20 random inputs and only
# move $z$. Each starts twice, from two states that differ by a millionth, and we see
# how much of the difference is left. About as much of a gradient would come back.
#
# Without gates, nothing. Where $z$ is near 1 most of $h'$ is $h$ itself: no matrix and
# no $\tanh$ lie on that way, what comes back is multiplied by $z$, and it lasts. A gate
# that has learnt when to close can keep a word for as long as it matters, and then let
# it go.


# %%
def memory_left(update_bias, steps, size=100):
    """The share of a small change of the state that is left after some random inputs."""
    draw = np.random.default_rng(0)
    kernels = draw.normal(0, size**-0.5, (2, size, 3 * size))
    bias = np.repeat([[update_bias, 9, 0], [0, 0, 0]], size, axis=1)
    h = np.repeat([[0], [1e-6]], size, axis=1)  # two states, read side by side
    for x in draw.normal(size=(steps, size)):
        h = gru_step(x, h, *kernels, bias)
    return np.ptp(h, axis=0).mean() / 1e-6


# %%
if training:
    for kind, update_bias in {"z = 0": -99, "z near 0.5": 0, "z near 0.98": 4}.items():
        left = [f"{memory_left(update_bias, steps):.4f}" for steps in [1, 5, 20]]
        print(f"{kind}: left after 1, 5 and 20 steps:", *left)

# %% [markdown]
# Do gates pay? With equally many weights, as [Chung et al.
# 2014](https://arxiv.org/abs/1412.3555) compared them, a GRU ends at a validation
# perplexity of 224 to 232, an LSTM (a cell with three gates and a second state) at 232 to
# 238, and a plain recurrent network, though twice as wide, at 296 to 310
# (`benchmarks/experiments.py`: 80,000 words, two seeds).

# %% [markdown]
# ## The model
#
# Embedding turns a token's id into a vector, the GRU reads the vectors, and Dense gives
# every token of the vocabulary a score for being next. A softmax makes chances of the
# scores: all positive, with the sum 1.
#
# Before it learns, every matrix is random. How large should its numbers be? Each output
# of a layer is a sum over $n_{in}$ inputs, so it has $n_{in} \operatorname{Var}(w)$
# times their variance; a gradient on its way back meets
# $n_{out} \operatorname{Var}(w)$. Both factors should be 1, so [Glorot and Bengio
# 2010](https://proceedings.mlr.press/v9/glorot10a.html) make their mean 1. Numbers
# drawn evenly from $-a$ to $a$ have the variance $a^2 / 3$, and so every matrix here
# starts with
#
# $$a = \sqrt{\frac{6}{n_{in} + n_{out}}}.$$
#
# The cell below sends a signal of variance 1 through ten layers. With Glorot's weights
# it arrives as it was. With weights half as large it is lost on the way, a millionth is
# left; with weights twice as large it explodes. The project that this one follows found
# that only Glorot's scheme worked. In our experiment (`benchmarks/experiments.py`) it ended
# at a validation perplexity of 221, a normal distribution of about the same size at 219, and
# weights of about 1, evenly from 0 or normal, above the 438 of word frequencies: what
# counts is the size, and the formula finds it without guessing, at any width.
#
# A model that has learnt nothing finds all tokens equally likely, so its perplexity is
# about the size of the vocabulary: the last line of this section.


# %%
if training:
    draw, glorot = np.random.default_rng(0), math.sqrt(6 / (256 + 256))
    start, layers = draw.normal(size=(100, 256)), draw.uniform(-1, 1, (10, 256, 256))
    for share in [0.5, 1, 2]:
        output = np.linalg.multi_dot([start, *(share * glorot * layers)])
        print(f"{share} x Glorot: variance after ten layers {output.var():.2g}")


# %%
def start_tensorflow():
    """Import Keras and TensorFlow; give back the name of the device that will train.

    Their C++ libraries write to stderr whatever they are told, so it is shut meanwhile.
    """
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        with holding_interrupts():
            import keras
            import tensorflow as tf

            return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    except ImportError as error:
        advice = "pip install tensorflow; in Colab choose a CPU or GPU runtime"
        raise UserError(f"{error}: {advice}") from None
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def suit_device(settings, device):
    """The settings that a device is given: on a GPU the plain full softmax, with cuDNN."""
    return replace(settings, num_sampled=0) if device == "GPU" else settings


def build_model(vocabulary_size, settings):
    """Embedding → GRU → Dense: ids (batch, time) to logits (batch, time, vocabulary)."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    glorot, size = "glorot_uniform", settings.embedding_size
    gru = partial(
        keras.layers.GRU,
        settings.hidden_size,
        return_sequences=True,
        kernel_initializer=glorot,
        recurrent_initializer=glorot,
    )
    layers = [
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(vocabulary_size, size, embeddings_initializer=glorot),
        *(gru() for _ in range(settings.num_layers)),
        keras.layers.Dense(vocabulary_size, kernel_initializer=glorot),
    ]
    return keras.Sequential(layers, name="generator")


def make_generator(model, vocabulary, token_kind):
    """The Generator that holds a model's weights."""
    embedding, *grus, dense = (layer.get_weights() for layer in model.layers)
    return Generator(embedding[0], grus, dense, vocabulary, token_kind)


# %%
if training:
    output_dir = make_folder(settings.output_dir)
    device = start_tensorflow()
    print("Training on the", device)
    if in_notebook and device == "CPU":
        print("For a GPU in Colab: Runtime → Change runtime type. A CPU will do, too.")
    settings = suit_device(settings, device)
    model = build_model(len(vocabulary), settings)
    model.summary()
    untrained = make_generator(model, vocabulary, settings.token_kind)
    start = perplexity(score_tokens(untrained, train_ids[:1000]).mean())
    print(f"Untrained perplexity: {start:,.0f}; vocabulary: {len(vocabulary):,} tokens")

# %% [markdown]
# ## Training
#
# At each position the network gives the word that came some chance $p$. The loss is the
# *cross-entropy*: the mean of $-\ln p$, the surprise at each word, in nats (a nat is
# 1.44 bits). *Perplexity* is the exponential of it: 1 is certainty, the vocabulary's
# size is guessing, and a perplexity of 100 is being as unsure as among 100 equally
# likely words. Perplexity is only how we report it; what is lowered is the
# cross-entropy.
#
# Why not the squared error, $(1 - p)^2$? Suppose the network is badly wrong, with $p$
# at 0.001. Push the word's score up a little: $-\ln p$ falls with the slope
# $p - 1 = -0.999$, the squared error with $-2p(1 - p)^2 = -0.002$. Where there is most
# to learn, it teaches least. And the least cross-entropy is the greatest chance for the
# whole text, as logarithms of chances add up where chances multiply.
#
# This is *not* a convex problem, though the text of the project that this one follows
# says so. In a convex one, the point midway between two best ones would be best, too.
# Take the smallest network of two layers, which says $a \cdot b$ and should say 1:
# $(1, 1)$ and $(-1, -1)$ are perfect, $(0, 0)$ between them is not. In a GRU, let any
# two units change places with all their weights: the same network, and midway a worse
# one (a test shows it). So there are many valleys, chance decides into which one we
# walk, and nothing promises that it is the deepest.
#
# *Adam* ([Kingma and Ba 2015](https://arxiv.org/abs/1412.6980)) moves every weight
# against its gradient, as the last steps have it on average. It divides by that
# gradient's usual size, so that a weight with small gradients learns at the same pace
# as one with large ones.
#
# What makes this run fast and good:
#
# - **The output uses the embedding's table** instead of a matrix of its own ([weight
#   tying](https://arxiv.org/abs/1608.05859)): half the weights, and rare words are
#   learnt from both sides.
# - **Words share what they have in common.** A word's vector is one of its own plus
#   those of its last two, last three and first four letters ([after
#   fastText](https://arxiv.org/abs/1607.04606)). Most words are rare; what *loveth*
#   means and where it may stand is learnt from *lovely* and *giveth*, too.
# - **The bias starts at the words' frequencies**, so that the table need not learn
#   them.
# - **A [sampled softmax](https://arxiv.org/abs/1412.2007).** Scoring 14,000 words at
#   each step would be most of the work. While training, the right word is compared with
#   1,024 others, the frequent ones always, a rare one now and then and with its weight
#   raised to make up for it. Every perplexity that you see is of the full softmax.
# - **[Dropout](https://arxiv.org/abs/1512.05287)** of whole words and of vector
#   elements, the same ones at every step of a window, and a rate that warms up and then
#   falls along a cosine.
# - **A [penalty on activations](https://arxiv.org/abs/1708.01009)**, with `best` and with
#   characters: twice the mean square of the GRU's output is added to the loss. A network
#   that may not shout learns less by heart.
#
# All this is scaffolding. What training leaves in the model is a plain Embedding → GRU
# → Dense: the sums become the embedding's table, and the same numbers Dense's kernel.
#
# The state is carried from window to window, while the gradient stops at the window's
# edge (truncated backpropagation through time). A gradient can grow on its way back as
# well as fade: it is cut to the length 1. After each epoch the validation part is
# scored; the best weights are kept. Twenty steps of a copy tell beforehand how long it
# will take. Ctrl-C (in a notebook: the square button) ends the training early, not the
# program.
#
# After each epoch a *checkpoint* is written: the weights, what Adam remembers, the best
# weights so far and the history. If the run is interrupted, by Ctrl-C or a crash, the
# same command goes on from there and ends as if nothing had happened, on a CPU bit for bit:
# all chance follows from the seed and the number of the epoch, so none of it needs keeping.
# The file's name is made of all that shapes the weights, so that no other command takes it
# for its own. It is removed when the run has ended.


# %%
NUM_TRAIN_SCORED = 20_000  # tokens of the training part that are scored each epoch


def token_frequencies(token_ids, vocabulary_size):
    """Each token's share of token_ids, (vocabulary_size,); one never seen counts as one."""
    counts = np.maximum(np.bincount(token_ids, minlength=vocabulary_size), 1)
    return counts / counts.sum()


def sampling_odds(vocabulary_size, num_sampled):
    """How likely each token is to be in a sample of num_sampled, (vocabulary_size,).

    Tokens are in order of falling frequency, which is about 1 / rank (Zipf's law). The
    first few are always in it; the others' odds are scale / rank and make up the sum.
    """
    rank = np.arange(1, vocabulary_size + 1)
    tails = np.cumsum(1 / rank[::-1])[::-1]  # the sum of 1 / rank from each rank on
    scales = (num_sampled + 1 - rank[:num_sampled]) / tails[:num_sampled]
    scale = scales[np.argmax(scales <= rank[:num_sampled])]
    return np.minimum(1, scale / rank)


def draw_sample(odds, chance):
    """Ids of tokens, each as likely to be among them as its odds say, (sum(odds),) int32.

    The sample is systematic: strides of 1 through the running sum of the odds, from a
    random start, so that no token is drawn twice.
    """
    import tensorflow as tf
    from keras import ops, random

    edges = np.cumsum(odds).astype(np.float32)
    strides = ops.arange(round(edges[-1]), dtype="float32")
    strides += random.uniform((1,), seed=chance)
    return ops.minimum(tf.searchsorted(edges, strides, side="right"), len(odds) - 1)


def sampled_loss(hidden, targets, sample, table, bias, odds):
    """The mean cross-entropy, in nats, of targets against a sample of the vocabulary.

    Targets and sample are rows of table and bias. Each of the sample counts 1 / odds times.
    """
    import tensorflow as tf
    from keras import ops

    sample, targets = ops.cast(sample, "int64"), ops.cast(targets, "int64")[:, None]
    always, size = ops.ones_like(targets, "float32"), sample.shape[0]
    values = sample, always, odds  # how often each token is expected
    loss = tf.nn.sampled_softmax_loss(
        table, bias, targets, hidden, size, size, sampled_values=values
    )
    return ops.mean(loss)


def full_loss(hidden, targets, table, bias):
    """The mean cross-entropy, in nats, over the whole vocabulary."""
    from keras import ops

    logits = ops.matmul(hidden, ops.transpose(table)) + bias
    chosen = ops.sum(hidden * ops.take(table, targets, axis=0), axis=-1)
    chosen += ops.take(bias, targets)  # twice as fast as to look them up in logits
    return ops.mean(ops.logsumexp(logits, axis=-1) - chosen)


# %%
def number_affixes(vocabulary):
    """The numbers of each token's affixes, (vocabulary_size, 3) int32.

    Those of "loves" are "-es", "-ves" and "love-". One that no other token has is 0.
    """
    affixes = [["-" + t[-2:], "-" + t[-3:], t[:4] + "-"] for t in vocabulary]
    counts = Counter(affix for row in affixes for affix in dict.fromkeys(row))
    shared = [affix for affix, count in counts.items() if count > 1]
    numbers = {affix: number for number, affix in enumerate(shared, start=1)}
    return np.array([[numbers.get(affix, 0) for affix in row] for row in affixes])


def make_trainer(model, vocabulary, settings, steps=1):
    """A Keras model that trains `model`: its GRUs, its bias, and what makes its tables.

    Called with inputs and targets, ids (batch_size, time), it gives their loss, and it
    remembers the GRUs' states. `fold` writes the tables into the layers of `model`. The
    rate of Adam is laid out for so many steps.
    """
    import keras
    import tensorflow as tf
    from keras import ops, random

    batch_size, hidden_size = settings.batch_size, settings.hidden_size
    vocabulary_size, size = len(vocabulary), settings.embedding_size
    sampled = 0 < settings.num_sampled < vocabulary_size
    odds = sampling_odds(vocabulary_size, settings.num_sampled) if sampled else None
    affixes = number_affixes(vocabulary)
    embedding, *grus, dense = model.layers

    class Trainer(keras.Model):
        def __init__(self):
            super().__init__()
            self.words = self.add_weight((vocabulary_size, size), "glorot_uniform")
            self.affixes = self.add_weight((affixes.max() + 1, size), "glorot_uniform")
            self.grus, self.bias = grus, dense.bias
            self.projection = keras.layers.Identity()
            if hidden_size != size:
                self.projection = keras.layers.Dense(size, use_bias=False)
            self.states = [
                self.add_weight((batch_size, gru.units), "zeros", trainable=False)
                for gru in grus
            ]
            self.chance = random.SeedGenerator(settings.seed)

        def begin(self, epoch=0):
            """Forget what was read; let all chance follow from (seed, epoch)."""
            for state in self.states:
                state.assign(ops.zeros_like(state))
            sequence = np.random.SeedSequence((settings.seed, epoch))
            self.chance.state.assign(sequence.generate_state(2))

        def drop(self, x, rate, *shape):
            """Dropout, the same one along what is 1 in the shape."""
            return random.dropout(x, rate, noise_shape=shape, seed=self.chance)

        def vectors(self, token_ids):
            """A token's own vector, and those of its affixes: their sum, for each token."""
            # Times 1 makes dense gradients; Adam goes wrong on a table's sparse ones.
            own = ops.take(self.words * 1.0, token_ids, axis=0)
            numbers = ops.take(affixes, token_ids, axis=0)
            return own + ops.sum(ops.take(self.affixes * 1.0, numbers, axis=0), axis=1)

        def fold(self):
            """Make `model` the plain Embedding → GRU → Dense that was learnt so far."""
            table = self.vectors(np.arange(vocabulary_size))
            projection = self.projection(ops.eye(hidden_size))
            embedding.embeddings.assign(table)
            dense.kernel.assign(ops.matmul(projection, ops.transpose(table)))

        def call(self, pair, training=False):
            inputs, targets = (ops.reshape(ids, (-1,)) for ids in pair)
            met = ops.arange(vocabulary_size)
            if training and sampled:  # nobody needs the vectors of the other tokens
                sample = draw_sample(odds, self.chance)
                met, places = tf.unique(ops.concatenate([inputs, targets, sample]))
                ends = np.cumsum([inputs.shape[0], targets.shape[0]])
                inputs, targets, rivals = ops.split(places, ends)
            table = self.vectors(met) if training else embedding.embeddings.value
            bias = ops.take(self.bias * 1.0, met)
            drop = self.drop if training else lambda x, *_: x
            words = drop(table, settings.input_dropout / 2, None, 1)
            x = ops.take(words, ops.reshape(inputs, (batch_size, -1)), axis=0)
            x = drop(x, settings.input_dropout, batch_size, 1, size)
            for gru, state in zip(grus, self.states):
                x = gru(x, initial_state=state.value)
                state.assign(x[:, -1])
            x = drop(x, settings.dropout, batch_size, 1, hidden_size)
            penalty = settings.activation_penalty * ops.mean(x**2) if training else 0
            hidden = ops.reshape(self.projection(x), (-1, size))
            if training and sampled:
                expected = ops.take(odds.astype("float32"), sample)
                loss = sampled_loss(hidden, targets, rivals, table, bias, expected)
            else:
                loss = full_loss(hidden, targets, table, bias)
            return loss + penalty

        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return y_pred

    warmup, peak = steps // 50, settings.learning_rate
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, 0.05, warmup_target=peak, warmup_steps=warmup
    )
    trainer = Trainer()
    trainer.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), jit_compile=False)
    return trainer


# %%
def make_dataset(token_ids, batch_size, sequence_length):
    """The batches of make_batches as a tf.data.Dataset, in order."""
    import tensorflow as tf

    pairs = make_batches(token_ids, batch_size, sequence_length)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can double the seconds of an epoch
    dataset = tf.data.Dataset.from_tensor_slices((pairs,))
    return dataset.batch(batch_size, drop_remainder=True).with_options(options)


def measure_loss(trainer, token_ids, settings):
    """The mean cross-entropy of a part, nats per token, read as parallel streams."""
    longest = min(settings.sequence_length, 8)  # so few scores stay in the cache
    length = min(longest, (len(token_ids) - 1) // settings.batch_size)
    trainer.begin()
    batches = make_dataset(token_ids, settings.batch_size, length)
    return trainer.evaluate(batches, verbose=0)


def measure_losses(trainer, train_ids, validation_ids, settings):
    """The losses of the training text's beginning and of the validation part, or None."""
    trainer.fold()
    parts = train_ids[:NUM_TRAIN_SCORED], validation_ids
    return [measure_loss(trainer, ids, settings) if len(ids) else None for ids in parts]


def time_training(model, vocabulary, train_ids, validation_ids, settings):
    """Seconds of a step, and of an epoch's scores, by 20 steps of a throw-away copy."""
    import keras

    trainer = make_trainer(keras.models.clone_model(model), vocabulary, settings)
    sizes = settings.batch_size, settings.sequence_length
    text = train_ids[: 20 * math.prod(sizes) + 1]
    batches = make_dataset(text, *sizes).repeat()
    fit = partial(trainer.fit, shuffle=False, verbose=0)
    with holding_interrupts():
        fit(batches.take(1))  # the first step takes longer
        measure_loss(trainer, text[: math.prod(sizes) + 1], settings)
        start = time.perf_counter()
        fit(batches.take(20))
        middle = time.perf_counter()
        measure_loss(trainer, text, settings)
    num_scored = len(validation_ids) + len(train_ids[:NUM_TRAIN_SCORED])
    scoring = (time.perf_counter() - middle) / len(text) * num_scored
    return (middle - start) / 20, scoring


def peak_memory_mb():
    """The most memory that this process has had, in MB; None where no one can tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def count_steps(token_ids, settings):
    """How many batches, and so steps of training, an epoch has."""
    return (len(token_ids) - 1) // (settings.batch_size * settings.sequence_length)


def plan_steps(step_seconds, score_seconds, steps_per_epoch, settings):
    """How many steps to train, and the seconds that they and all scores will take.

    They are those of all epochs or, with --minutes, as many as 95 % of them allow.
    """
    step_seconds += score_seconds / steps_per_epoch  # its share of the scores
    steps = settings.epochs * steps_per_epoch
    if settings.minutes:
        seconds = 0.95 * 60 * settings.minutes - score_seconds
        steps = max(1, int(seconds / step_seconds))
    return steps, steps * step_seconds


# %%
def name_checkpoint(corpus, settings):
    """The name of a run's checkpoint: a hash of all that its weights follow from."""
    values = asdict(settings)
    names = [*values]
    names = names[names.index("token_kind") : names.index("output_dir")] + ["seed"]
    run = json.dumps([corpus.sha256, [values[name] for name in names]])
    return f"checkpoint-{hashlib.sha256(run.encode()).hexdigest()[:12]}.npz"


def save_checkpoint(path, trainer, best_weights, history, steps):
    """Write all that a training goes on from; where that fails, say so and go on."""
    arrays = [v.numpy() for v in trainer.variables + trainer.optimizer.variables]
    try:
        with replacing(path) as part:
            np.savez(part, *arrays, *best_weights, run=json.dumps([steps, history]))
    except UserError as error:
        print(f"Warning: {error}; the next epoch tries again")


def read_checkpoint(path, fresh):
    """The planned steps, history and arrays of a checkpoint; without one 0 and nothing."""
    if fresh or not path.exists():
        return 0, [], []
    try:
        with np.load(path, allow_pickle=False) as file:
            steps, history = json.loads(file["run"].item())
            return steps, history, [file[f"arr_{n}"] for n in range(len(file) - 1)]
    except Exception as error:  # whatever a damaged file brings about
        print(f"Warning: {path} is damaged ({type(error).__name__}): starting anew")
    return 0, [], []


def restore(trainer, arrays):
    """Give a trainer and its Adam what a checkpoint holds; return the best weights."""
    trainer(np.zeros((2, trainer.states[0].shape[0], 1), int))  # makes all weights
    trainer.optimizer.build(trainer.trainable_variables)
    variables = trainer.variables + trainer.optimizer.variables
    if [v.shape for v in variables] != [a.shape for a in arrays[: len(variables)]]:
        raise UserError("the checkpoint is of another program: give --fresh")
    for variable, array in zip(variables, arrays):
        variable.assign(array)
    return arrays[len(variables) :]


def judge(row):
    """The perplexity that says how good an epoch was: less is better."""
    return row["validation_perplexity"] or row["train_perplexity"]


# %%
def train(
    model, vocabulary, train_ids, validation_ids, settings, steps, show, checkpoint=None
):
    """Train a model and leave its best weights in it; yield each epoch's row of history.

    Best is the lowest validation loss (without a validation part: the lowest training
    loss). The training perplexity is that of the first 20,000 tokens, without dropout.
    `show` is what Keras calls verbose: 0 is nothing, 1 a progress bar, 2 a line an epoch.
    Ctrl-C ends it as if the epoch were over. With a checkpoint, (path, history, arrays),
    it goes on from there, the rows of that history first, and keeps each epoch there.
    """
    import keras

    trainer = make_trainer(model, vocabulary, settings, steps)
    trainer.bias.assign(np.log(token_frequencies(train_ids, len(vocabulary))))
    sizes = settings.batch_size, settings.sequence_length
    steps_per_epoch = count_steps(train_ids, settings)
    epochs = math.ceil(steps / steps_per_epoch)
    stop = keras.callbacks.LambdaCallback(  # fit says "Epoch 3/8", and fits only that
        on_epoch_end=lambda *_: setattr(trainer, "stop_training", True),
        on_train_batch_end=lambda batch, logs: setattr(
            trainer, "stop_training", any(interrupts)
        ),
    )
    callbacks = [stop, keras.callbacks.TerminateOnNaN()]
    fit = partial(trainer.fit, epochs=epochs, callbacks=callbacks, shuffle=False)
    path, history, arrays = checkpoint or (None, [], [])
    best_weights = restore(trainer, arrays) if history else None
    too_high = len(vocabulary) * math.exp(3)
    start = time.perf_counter() - (history[-1]["seconds"] if history else 0)

    yield from history
    for epoch in range(len(history), epochs):
        if history and history[-1]["stopped"]:
            break
        random = np.random.default_rng((settings.seed, epoch))
        text = hide_local_words(train_ids, len(vocabulary), settings, random)
        text = np.roll(text, random.integers(len(text)))  # windows begin elsewhere
        batches = make_dataset(text, *sizes).take(steps - epoch * steps_per_epoch)
        with holding_interrupts() as interrupts:
            trainer.begin(epoch)
            fit(batches, initial_epoch=epoch, verbose=show)
            losses = measure_losses(trainer, train_ids, validation_ids, settings)
            train_loss, validation_loss = losses
            row = {
                "epoch": epoch + 1,
                "train_perplexity": perplexity(train_loss),
                "validation_perplexity": perplexity(validation_loss),
                "validation_loss": validation_loss,
                "seconds": time.perf_counter() - start,
                "stopped": "by Ctrl-C" if interrupts else None,
            }
            history = [*history, row]
            best = min(history, key=judge)
            if not judge(row) < too_high:
                row["stopped"] = "loss too high: try a smaller --learning-rate"
            elif best is row:
                best_weights = model.get_weights()
            elif row["epoch"] - best["epoch"] == settings.patience:
                row["stopped"] = row["stopped"] or "no progress"
            if path and row["stopped"] in [None, "no progress"]:
                save_checkpoint(path, trainer, best_weights, history, steps)
                row["stopped"] = "by Ctrl-C" if interrupts else row["stopped"]
            interrupts.clear()
        yield row
    if best_weights is None:
        raise UserError("training went astray: try a smaller --learning-rate")
    model.set_weights(best_weights)


def describe(numbers):
    """Named numbers as a list of texts such as "test tokens: 93,839", without the Nones."""
    texts = []
    for name, value in numbers.items():
        if isinstance(value, float):
            value = f"{value:,.1f}" if value >= 100 else f"{value:.3f}"
        elif isinstance(value, int):
            value = f"{value:,}"
        if value is not None:
            texts.append(f"{name.replace('_', ' ')}: {value}")
    return texts


# %%
if training:
    show = 1 if in_notebook or sys.stdout.isatty() else 2
    ingredients = model, vocabulary, train_ids, validation_ids, settings
    checkpoint = output_dir / name_checkpoint(corpus, settings)
    steps, rows, arrays = read_checkpoint(checkpoint, settings.fresh)
    if steps:
        print(f"Resuming after epoch {len(rows)}: {checkpoint} (--fresh starts anew)")
    else:
        seconds = time_training(*ingredients)
        steps_per_epoch = count_steps(train_ids, settings)
        steps, expected = plan_steps(*seconds, steps_per_epoch, settings)
        forecast = {"steps": steps, "expected_minutes": expected / 60}
        forecast["peak_memory_mb_so_far"] = peak_memory_mb()
        print(", ".join(describe(forecast)))
    history, stages = [], {"Untrained": untrained}
    for row in train(*ingredients, steps, show, (checkpoint, rows, arrays)):
        history.append(row)
        print(", ".join(describe(row | {"validation_loss": None})))
        if len(history) == 1 and not rows:  # a run that goes on is past that
            beginner = make_generator(model, vocabulary, settings.token_kind)
            stages["After one epoch"] = beginner
    generator = make_generator(model, vocabulary, settings.token_kind)

# %% [markdown]
# ## How good is it?
#
# The test part is scored once, now: one stream from its first token to its last,
# softmax over the whole vocabulary, `[UNK]` counted like any other token. Beside it
# stands the *unigram* baseline, which knows how frequent words are and nothing else.
# What the network has below it is what it gained by reading in order.
#
# The curves show each epoch. Where the training text's still falls and the validation
# text's no longer does, the network learns by heart what it should learn to understand,
# and training stops.
#
# Perplexities over different vocabularies do not compare. *Bits per character* do,
# where the text is the same: an unknown token costs what `[UNK]` costs, then its
# letters, then an end mark, by how frequent letters are in the words of the training
# part. With `words`, the characters are those of the stripped text: no capitals, no
# punctuation.


# %%
def mean(values):
    """Their mean as a float, or None where there are none."""
    return float(np.mean(values)) if len(values) else None


def spelling_nats(tokens, types):
    """The nats it takes to spell tokens, by the letters of types with one added to each."""
    end = ""
    counts = Counter(letter for word in types for letter in [*word, end])
    total = counts.total() + len(counts) + 1  # one more: any letter never seen
    letters = Counter(letter for token in tokens for letter in [*token, end])
    return -sum(n * math.log((counts[x] + 1) / total) for x, n in letters.items())


def score_parts(generator, train_tokens, validation_tokens, test_tokens):
    """A dictionary of scores and counts; a score of a part without tokens is None."""
    vocabulary = generator.vocabulary
    train_ids = encode(train_tokens, vocabulary)
    test_ids = encode(test_tokens, vocabulary)
    validation_nats = score_tokens(generator, encode(validation_tokens, vocabulary))
    test_nats = score_tokens(generator, test_ids)
    unigram_nats = -np.log(token_frequencies(train_ids, len(vocabulary)))[test_ids]
    unknown = [t for t, i in zip(test_tokens[1:], test_ids[1:]) if i == 0]
    spelling = spelling_nats(unknown, set(train_tokens))
    bits = (test_nats.sum() + spelling) / math.log(2)
    num_characters = len(detokenize(test_tokens, generator.token_kind))
    return {
        "vocabulary_size": len(vocabulary),
        "train_tokens": len(train_ids),
        "test_tokens": len(test_ids),
        "unknown_share": mean(test_ids == 0),
        "unigram_perplexity": perplexity(mean(unigram_nats)),
        "validation_perplexity": perplexity(mean(validation_nats)),
        "test_perplexity": perplexity(mean(test_nats)),
        "bits_per_character": bits / num_characters if len(test_nats) else None,
    }


def draw_curves(history, path):
    """Draw loss and perplexity of training and validation, epoch by epoch, as a PNG."""
    from matplotlib.figure import Figure  # needs no screen, unlike pyplot

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(title="Loss", xlabel="epoch", ylabel="nats per token")
    right.set(title="Perplexity", xlabel="epoch", ylabel="perplexity")
    epochs = [row["epoch"] for row in history]
    for part in ["train", "validation"]:
        perplexities = [row[f"{part}_perplexity"] for row in history]
        if None not in perplexities:
            left.plot(epochs, np.log(perplexities), "o-", label=part)
            right.plot(epochs, perplexities, "o-", label=part)
    for axes in [left, right]:
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path) as part:
        figure.savefig(part, dpi=120)


def show_picture(path):
    """Show a PNG in the notebook."""
    from IPython.display import Image, display

    display(Image(path))


# %%
if training:
    scores = score_parts(generator, *parts)
    print(*describe(scores), sep="\n")
    draw_curves(history, output_dir / "curves.png")
    if in_notebook:
        show_picture(output_dir / "curves.png")

# %% [markdown]
# ## Keeping
#
# `generator.keras` holds a plain Embedding → GRU → Dense that `keras.saving.load_model` can
# load anywhere, with the vocabulary and a report as two more members of that zip file. We
# read it without Keras: JSON and arrays only, so that a file from a stranger can do nothing
# but hold numbers.


# %%
def make_report(settings, corpus, scores, history):
    """All that tells which run this was and how good, ready for JSON."""
    return {
        "settings": asdict(settings),
        "corpus": corpus.name,
        "corpus_bytes": corpus.num_bytes,
        "corpus_sha256": corpus.sha256,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ["tensorflow", "keras", "numpy"]},
        **scores,
        "train_seconds": round(history[-1]["seconds"], 1),
        "peak_memory_mb": peak_memory_mb(),
    }


def write_file(path, text):
    """Write text to a file, which is there in full or as it was before."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="replace")


def save_history(history, path):
    """Write the rows of history as CSV."""
    with replacing(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)


def guess_next(generator, token_ids):
    """The logits (vocabulary,) of what comes after a text that begins with these tokens."""
    kernel, bias = generator.dense
    return read_tokens(generator, token_ids)[-1] @ kernel + bias


def save_generator(model, generator, report, line, path):
    """Write generator.keras; one that was there stays as generator.previous.keras.

    What the generator says after a line of token ids is kept with it, as a check.
    """
    check = {"token_ids": line, "logits": guess_next(generator, line)}
    check = {name: values.tolist() for name, values in check.items()}
    with replacing(path) as part:
        model.save(part)
        with zipfile.ZipFile(part, "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr("vocabulary.json", json.dumps(generator.vocabulary))
            file.writestr("report.json", json.dumps(report))
            file.writestr("check.json", json.dumps(check))
        if path.exists():
            os.replace(path, path.with_name("generator.previous.keras"))


def read_layer(weights, name, *shapes):
    """The arrays of one layer in a weights file; a ValueError if they are not as said."""
    arrays = []
    for number, shape in enumerate(shapes):
        array = weights[f"layers/{name}/vars/{number}"]
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {shape}")
        if array.external or array.id.get_storage_size() != array.nbytes:
            raise ValueError(f"the numbers of {name} are not plainly there")
        arrays.append(array[()])
        if not np.abs(arrays[-1]).max() < 1e6:
            raise ValueError(f"no training leaves numbers like those of {name}")
    return arrays


def load_generator(path):
    """The Generator in a file and its Settings, read without Keras; else a UserError."""
    import h5py

    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("it is no file")  # a pipe would be waited for
        with zipfile.ZipFile(path) as file:
            size = sum(member.file_size for member in file.infolist())
            if size > 10 * os.path.getsize(path) + 10**8:
                raise ValueError("it unpacks to far too much")
            vocabulary, report, check = (
                json.loads(file.read(f"{name}.json"))
                for name in ["vocabulary", "report", "check"]
            )
            content = io.BytesIO(file.read("model.weights.h5"))
        kinds = [type(vocabulary), *map(type, vocabulary)]
        if len(vocabulary) < 2 or kinds[0] is not list or {*kinds[1:]} != {str}:
            raise ValueError("its vocabulary is not a list of words")
        kept = Settings(**report["settings"])
        size, width, depth = len(vocabulary), kept.hidden_size, kept.embedding_size
        with h5py.File(content) as weights:
            (embedding,) = read_layer(weights, "embedding", (size, depth))
            grus = []
            for name in ["gru", *(f"gru_{n}" for n in range(1, kept.num_layers))]:
                shapes = (depth, 3 * width), (width, 3 * width), (2, 3 * width)
                grus.append(read_layer(weights, f"{name}/cell", *shapes))
                depth = width
            dense = read_layer(weights, "dense", (width, size), (size,))
        generator = Generator(embedding, grus, dense, vocabulary, kept.token_kind)
        logits = guess_next(generator, check["token_ids"][:10])
        if not np.allclose(logits, check["logits"], rtol=0, atol=1e-3):
            raise ValueError("it does not say what it said when it was kept")
    except FileNotFoundError:
        message = f"there is no file {path}: train first, or mend --load"
        raise UserError(message) from None
    except Exception as error:  # whatever a strange file brings about
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"{path} is not a whole generator.keras ({reason}): give --load one"
        raise UserError(message) from None
    return generator, kept


# %%
if training:
    report = make_report(settings, corpus, scores, history)
    save_history(history, output_dir / "history.csv")
    write_file(output_dir / "report.json", json.dumps(report, indent=2))
    path, line = output_dir / "generator.keras", train_ids[:10]
    save_generator(model, generator, report, line, path)
    print("Kept:", ", ".join(sorted(map(str, {*output_dir.iterdir()} - {checkpoint}))))
elif writing:
    generator, kept = load_generator(settings.load)
    if settings.corpus:  # to see what samples copy from it
        corpus = load_corpus(settings.corpus)
        tokens = tokenize(corpus.text, kept.token_kind)[: kept.max_tokens or None]
        parts = split_tokens(tokens, kept)

# %% [markdown]
# ## Writing
#
# The generator reads the prompt, then draws a word, reads that word, draws the next, and so
# on. Its state holds all that was read, so that each word costs one step, however long the
# text has grown. Several samples are written side by side. What shapes a draw, in the order
# in which it acts:
#
# - `repetition_penalty` divides the probability of a token by this number for each time
#   that it stands among the last 64. A little above 1, such as 1.1, breaks loops.
# - `temperature` divides the scores: below 1 likely words become likelier, at 0 the
#   likeliest is always taken.
# - `top_k` leaves only the k likeliest words, `top_p` only the likeliest whose
#   probabilities add up to p. They cut off the long tail of words that fit badly.


# %%
NUM_RECENT = 64  # tokens that repetition_penalty looks back on


def draw_token(logits, recent, random, settings):
    """The id of a token drawn from scores (vocabulary,), never that of [UNK].

    `recent` are the ids that repetition_penalty acts on.
    """
    scores = logits.copy()
    scores[0] = -np.inf  # [UNK]
    np.subtract.at(scores, recent, math.log(settings.repetition_penalty))
    if settings.temperature == 0:
        return int(scores.argmax())
    if 0 < settings.top_k < len(scores):
        lowest = np.partition(scores, -settings.top_k)[-settings.top_k]
        scores[scores < lowest] = -np.inf
    weights = np.exp((scores - scores.max()) / max(settings.temperature, 1e-6))
    sums = np.cumsum(weights, dtype=np.float64)
    while True:  # without a sort: draw again if top_p would have cut the token off
        token_id = np.searchsorted(sums, random.random() * sums[-1], side="right")
        if weights[weights > weights[token_id]].sum() < settings.top_p * sums[-1]:
            return int(token_id)


def write_tokens(generator, prompt_ids, settings):
    """Yield ids (num_samples,) that go on from a prompt, without end.

    Sample n draws by chance that starts from seed + n, whatever stands beside it.
    """
    seeds = [(settings.seed + n) % 2**31 for n in range(settings.num_samples)]
    randoms = [np.random.default_rng(seed) for seed in seeds]
    kernel, bias = generator.dense
    state = [np.tile(h, (len(seeds), 1)) for h in read_tokens(generator, prompt_ids)]
    recent = np.tile(prompt_ids[-NUM_RECENT:], (len(seeds), 1)).astype(int)
    while True:
        logits = state[-1] @ kernel + bias
        token_ids = [draw_token(*x, settings) for x in zip(logits, recent, randoms)]
        yield token_ids
        recent = np.column_stack([recent, token_ids])[:, -NUM_RECENT:]
        state = read_token(generator, token_ids, state)


def write_samples(generator, settings):
    """Yield each sample's seed, and an iterator of what its tokens add to the prompt.

    All samples are written while the first one is read.
    """
    kind, vocabulary = generator.token_kind, generator.vocabulary
    prompt_tokens = tokenize(settings.prompt, kind)
    last = ["\n", *settings.prompt.split(), *prompt_tokens][-1]
    steps = write_tokens(generator, encode(prompt_tokens, vocabulary), settings)
    num_tokens = settings.num_words * (6 if kind == "characters" else 1)
    copies = tee(islice(steps, num_tokens), settings.num_samples)
    for n, copy in enumerate(copies):
        tokens = map(vocabulary.__getitem__, map(itemgetter(n), copy))
        yield (settings.seed + n) % 2**31, spell(tokens, kind, last)


# %% [markdown]
# Is what it writes its own? Under each sample stands the longest run of its words that the
# training text has too, and how many of its runs of five words stand there.


# %%
def join_words(text):
    """A text's words with one blank before each and one at the end, to find runs in."""
    return f" {' '.join(text.split())} "


def find_copies(text, source):
    """The longest run of a text's words that a source has, and the share of its 5-grams.

    Both are texts; the source comes from join_words.
    """
    words, longest, start = text.split(), [], 0
    for end in range(1, len(words) + 1):
        while start < end and join_words(" ".join(words[start:end])) not in source:
            start += 1
        longest = max(longest, words[start:end], key=len)
    grams = [join_words(" ".join(words[n : n + 5])) for n in range(len(words) - 4)]
    return " ".join(longest), mean([gram in source for gram in grams])


def describe_copies(text, source):
    """A line that says how much of a text is copied from a source."""
    run, share = find_copies(text, source)
    note = f'longest run of the training text: {len(run.split())} words, "{run}"'
    return f"({note}{'' if share is None else f'; {share:.0%} of its 5-grams'})"


# %% [markdown]
# A text is printed as it is written. In a conversation (`--interactive`) what was typed and
# what was answered is the next prompt, if an empty line says to go on.


# %%
def name_unknown(prompt, generator):
    """A line on what of a prompt is not known, with what is nearest to it, or ""."""
    kind, known = generator.token_kind, set(generator.vocabulary)
    unknown = [t for t in dict.fromkeys(tokenize(prompt, kind)) if t not in known]
    unknown += [word for word in prompt.split() if not tokenize(word, kind)]  # unread
    names = [f"{len(unknown) - 5:,} more"] if len(unknown) > 5 else []
    for token in reversed(unknown[:5]):
        near = ", ".join(get_close_matches(token, generator.vocabulary, 2))
        names.insert(0, token[:30] + f" (near: {near})" * bool(near))
    line = f"Not known, read as {UNKNOWN} or not at all: {', '.join(names)}\n"
    return line if names else ""


def wrap_pieces(pieces, width):
    """Yield the words of a text that comes in pieces, in lines that are no longer."""
    column, word = 0, ""
    for character in chain.from_iterable(chain(pieces, "\n")):
        if character.isspace():
            length = len(re.sub("\033.*?m", "", word))  # without colours
            if column > 0 and column + length > width:
                column, word = 0, "\n" + word.lstrip()
            yield word
            column = 0 if character == "\n" else column + length
            word = ""
        word += character


def print_pieces(pieces):
    """Print a text as its pieces come, in lines that fit; give back the text."""
    shown, kept = tee(pieces)
    for word in wrap_pieces(shown, shutil.get_terminal_size().columns):
        print(word, end="", flush=True)
    print()
    return "".join(kept)


def print_samples(generator, settings, source, shown=None):
    """Print the samples as they are written; give back each as a list of three texts.

    They are a title, the sample and, if a source is given, what it copied from there.
    `shown` is printed in the place of the prompt.
    """
    if generator.token_kind != "characters":  # a blank follows anyway
        settings = replace(settings, prompt=settings.prompt.rstrip(" "))
    shown, samples = settings.prompt if shown is None else shown, []
    for seed, pieces in write_samples(generator, settings):
        title = f"--- temperature {settings.temperature}, seed {seed}"
        print(title)
        written = print_pieces(chain([shown], pieces))[len(shown) :]
        note = describe_copies(written, source) if source else ""
        print_pieces([note, "\n"] if note else [])
        samples.append([title, settings.prompt + written, note])
    return samples


def change_settings(settings, line):
    """The settings after a line such as "/temperature 0.7"; if it is amiss, says so."""
    parser = make_parser(NAMES[NAMES.index("num_words") :])
    name, *value = f"{line} "[1:].split(" ", maxsplit=1)
    try:
        return replace(settings, **vars(parser.parse_args([option(name), *value])))
    except UserError as error:
        print(str(error).replace("--", "/"))
        return settings


def converse(generator, settings, source):
    """Go on from each line that is typed, until Ctrl-D."""
    with suppress(EOFError):
        while True:
            line = input("> " if sys.stdin.isatty() else "")
            if line.strip() == "/help":
                for name in NAMES[NAMES.index("num_words") :]:
                    print(f"/{option(name)[2:]} {getattr(settings, name)}")
            elif line.startswith("/"):
                settings = change_settings(settings, line)
            else:
                print(name_unknown(line, generator), end="")
                settings = replace(settings, prompt=line or settings.prompt)
                samples = print_samples(generator, settings, source, shown=line or "…")
                seed = (settings.seed + settings.num_samples) % 2**31
                settings = replace(settings, prompt=samples[-1][1], seed=seed)


# %%
if writing:
    known = detokenize(parts[0], generator.token_kind) if settings.corpus else ""
    source = join_words(known) if known else ""
if training:
    short = replace(settings, num_samples=1, num_words=20)
    for name, stage in (stages | {"Trained": generator}).items():
        print(name)
        print_samples(stage, short, "")
if training or writing and not settings.score and not settings.interactive:
    print(name_unknown(settings.prompt, generator), end="")
    temperatures = {settings.temperature} | ({0.3, 1.2} if training else set())
    samples = []
    for temperature in sorted(temperatures):
        changed = replace(settings, temperature=temperature)
        samples += print_samples(generator, changed, source)
if training:
    text = "\n\n".join("\n".join(sample) for sample in samples)
    write_file(output_dir / "samples.txt", text + "\n")

# %% [markdown]
# A prompt of yours: change a value, run the cell again. In Colab, tick `download_model` to
# have what was trained before the runtime vanishes; `--load` writes with it anywhere.

# %%
prompt = "what is love"  # @param {type: "string"}
temperature = 0.8  # @param {type: "slider", min: 0, max: 1.5, step: 0.1}
top_p = 0.95  # @param {type: "slider", min: 0.05, max: 1, step: 0.05}
num_words = 60  # @param {type: "slider", min: 10, max: 500, step: 10}
download_model = False  # @param {type: "boolean"}
if writing and in_notebook:
    play = dict(prompt=prompt, temperature=temperature, top_p=top_p)
    print_samples(generator, replace(settings, num_words=num_words, **play), source)
if download_model and "google.colab" in sys.modules:
    from google.colab import files

    files.download("runs/generator.keras")

# %% [markdown]
# ### What does it find surprising?
#
# The function that scored the test part can score any text. Every token costs bits: one
# that the generator thought had a chance of 1 in 8 costs 3. Green are tokens of up to 4
# bits, yellow of up to 8, orange of up to 12, and red are those that it least expected.

# %%
COLORS = {4: "32", 8: "33", 12: "38;5;208", math.inf: "31"}  # bits: terminal's code


def score_text(generator, text):
    """The tokens of a text, the bits that each costs (nan: the first), and a summary."""
    tokens = tokenize(text, generator.token_kind)
    token_ids = encode(tokens, generator.vocabulary)
    nats = score_tokens(generator, token_ids)
    summary = {
        "tokens": len(tokens),
        "unknown_share": mean(token_ids == 0),
        "perplexity": perplexity(mean(nats)),
    }
    return tokens, np.append(np.nan, nats / math.log(2))[: len(tokens)], summary


def color_tokens(tokens, bits, token_kind):
    """Yield the pieces of a text in the colours of the bits that they cost."""
    for piece, surprise in zip(spell(tokens, token_kind), np.nan_to_num(bits)):
        code = next(code for limit, code in COLORS.items() if surprise <= limit)
        yield f"\033[{code}m{piece}\033[0m"


# %%
if writing and settings.score:
    tokens, bits, summary = score_text(generator, text_to_score)
    print(f"{settings.score}:", *describe(summary), sep="\n")
    if in_notebook or sys.stdout.isatty():
        print_pieces(color_tokens(tokens, bits, generator.token_kind))
    else:  # a file has no colours
        print(*(f"{b:6.1f}  {token!r}" for token, b in zip(tokens, bits)), sep="\n")
if writing and settings.interactive:
    print("Type a beginning. An empty line goes on, /help lists settings such as")
    print("/temperature 0.7, Ctrl-D ends.")
    converse(generator, settings, source)

# %% [markdown]
# ## Looking inside
#
# What has it learnt? First, which words make it forget. Of the 300 most frequent tokens
# we list those at which the update gate is lowest (the mean of all units, the memory
# still empty) and those at which it is highest. After a few minutes with the works the
# network has found out for itself that *exeunt* and *enter* end what was going on: it
# makes room. *Not* and *up* belong to what was just said, and it keeps that.
#
# Then the embedding: for a few tokens, the nearest among the 2,000 most frequent. Words
# that can stand in one another's place get vectors that point the same way (we measure
# it by the cosine of their angle), and so do words that share their first letters or
# their last.
#
# Last, we watch it read a line: the prompt, and what it wrote after it. For another
# line change the prompt; with *and so farewell exeunt enter king henry what news* you
# see the memory go and come.
#
# - *Surprisal* is $-\log_2 p$, what each token costs in bits. Where there was hardly a
#   choice it is small; 10 bits is one among 1,024.
# - *The update gate*: a column is a word, a row is a unit of the first GRU. Rows are
#   sorted by their mean: on top, those that keep what they know for many words; at the
#   bottom, those that live for the last word or two. The black line is the mean of the
#   column, on the scale to the right. Where it dips, the word makes the network forget.
# - *The reset gate*, sorted by its own means. Where it is red, the new thought comes
#   from the word alone.


# %%
def read_gates(generator, token_ids):
    """The gates z and r of the first GRU at each token, each (tokens, hidden_size)."""
    state, gates = zero_state(generator), []
    for token_id in token_ids:
        x = generator.embedding[token_id]
        gates.append(gru_gates(x, state[0], *generator.grus[0])[:2])
        state = read_token(generator, token_id, state)
    return np.swapaxes(gates, 0, 1)


def rank_by_memory(generator, count=300):
    """The most frequent tokens, first those at which an empty memory keeps least."""
    x, h = generator.embedding[1 : count + 1], zero_state(generator)[0]
    z, _, _ = gru_gates(x, h, *generator.grus[0])
    return decode(np.argsort(z.mean(axis=1)) + 1, generator.vocabulary)


def find_nearest(generator, token, count=6, among=2000):
    """The frequent tokens whose vectors point where a token's points, by cosine."""
    vector = generator.embedding[generator.vocabulary.index(token)]
    vectors = generator.embedding[1 : among + 1]
    order = np.argsort(-(vectors @ vector) / np.linalg.norm(vectors, axis=1))
    return [t for t in decode(order + 1, generator.vocabulary) if t != token][:count]


def draw_reading(generator, text, path):
    """Draw what each token of a text's start costs, and the gates at it, as a PNG."""
    from matplotlib.figure import Figure

    text = text.encode(errors="replace").decode()  # half a letter cannot be drawn
    tokens = tokenize(text, generator.token_kind)[:28]
    labels = [t.replace(" ", "␣").replace("\n", "⏎")[:14] for t in tokens]
    ids, places = encode(tokens, generator.vocabulary), np.arange(len(tokens)) + 0.5
    figure = Figure(figsize=(10, 10.5), layout="constrained")
    top, *maps = figure.subplots(3, height_ratios=[1, 3, 3])
    top.bar(places[1:], score_tokens(generator, ids) / math.log(2), color="gray")
    top.set(title="Surprisal: what each token costs", ylabel="bits", xlim=(0, len(ids)))
    maps[0].set(title="Update gate z: blue keeps the memory, red renews it")
    maps[1].set(title="Reset gate r: blue looks at the memory, red looks away")
    for axes, gate in zip(maps, read_gates(generator, ids)):
        rows = gate[:, np.argsort(gate.mean(axis=0))].T  # (units, tokens)
        image = axes.pcolormesh(rows, cmap="RdBu", vmin=0, vmax=1)
        axes.plot(places, gate.mean(axis=1) * len(rows), "ko-", mec="white")
        axes.set(ylabel="units, in order of their mean")
        figure.colorbar(image, ax=axes, pad=0.01, label="gate (black: mean of all)")
    turn = 90 if max(map(len, labels)) > 1 else 0  # single letters stand upright
    for axes in [top, *maps]:
        axes.set_xticks(places, labels, rotation=turn, parse_math=False)
    with replacing(path) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that the font does not have
        figure.savefig(part, dpi=120)


# %%
if training or writing and in_notebook:
    ranked = rank_by_memory(generator)
    print("It forgets most at", ranked[:12])
    print("It keeps most at  ", ranked[:-13:-1])
    for token in sorted({"king", "night", "two", "E", "?"} & {*generator.vocabulary}):
        print("Nearest to", token, find_nearest(generator, token))
    _, pieces = next(write_samples(generator, settings))
    line = settings.prompt + "".join(pieces)
    path = make_folder(settings.output_dir) / "reading.png"
    draw_reading(generator, line, path)
    if in_notebook:
        show_picture(path)

# %%
if training and history[-1]["stopped"] != "by Ctrl-C":
    checkpoint.unlink(missing_ok=True)
elif training and not in_notebook:
    sys.exit(130)  # what shells expect of a program that Ctrl-C ended
