"""Nats and bits per character on tiny's last tenth, beside published character models.

    python benchmarks/characters.py [OPTION ...]

The test part is nanoGPT's validation part. The part that says when to stop is the last
hundredth of the text before it, and is not learnt from: a larger one would take away the
beginning of The Taming of the Shrew, which the test part goes on with, and with it the
names of its speakers (with a twentieth: 1.67 nats). Options go to the script.
"""

import math
import sys

from runs import run_script

OPTIONS = (
    "--corpus tiny --token-kind characters --validation-share 0.01 --minutes 27 "
    "--patience 9"
)

if __name__ == "__main__":
    report = run_script(*OPTIONS.split(), *sys.argv[1:])
    nats, minutes = math.log(report["test_perplexity"]), report["train_seconds"] / 60
    print(f"characters of the test part: {report['test_tokens']:,}")
    print(
        f"this program:    {nats:.4f} nats, {nats / math.log(2):.3f} bits per character"
    )
    print(f"                 {minutes:.1f} minutes, {report['peak_memory_mb']:,} MB")
    print(f"nanoGPT, 10.7 M: 1.4697 nats, {1.4697 / math.log(2):.3f} bits (published)")
