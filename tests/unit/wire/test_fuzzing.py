"""What a fuzzer found once is read without harm, and it finds nothing new in a moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing.targets import TARGETS

FUZZING = Path(__file__).parents[2] / "fuzzing"
SEED_RUNS = 3000


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_of_the_corpus_is_read_or_refused(name: str) -> None:
    inputs = [path.read_bytes() for path in sorted((FUZZING / "corpus" / name).iterdir())]
    assert inputs
    for data in (b"", *inputs):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzer_finds_nothing_in_a_moment(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    # No limit of memory: what counts there is the peak, which a process has from the one that starts it.
    command = [sys.executable, str(FUZZING / "run.py"), name, f"-runs={SEED_RUNS}", "-seed=1"]
    command += ["-rss_limit_mb=0"]
    # New inputs go to the first directory; the second one is only read.
    command += [str(tmp_path), str(FUZZING / "corpus" / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"Done {SEED_RUNS} runs" in done.stderr
