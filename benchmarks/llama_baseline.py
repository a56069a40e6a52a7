"""The baseline of `benchmarks/engine.py`: llama.cpp, in an interpreter that has llama-cpp-python.

Prints tokens per second as JSON: `python llama_baseline.py MODEL.gguf THREADS`. Needs nothing of gridnode.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time


def main() -> None:
    """Measure one model with so many threads, pinned to as many cores."""
    from llama_cpp import Llama

    location, num_threads = sys.argv[1], int(sys.argv[2])
    os.sched_setaffinity(0, set(range(num_threads)))
    threads = {"n_threads": num_threads, "n_threads_batch": num_threads}
    model = Llama(location, n_ctx=1024, n_batch=512, n_ubatch=512, n_gpu_layers=0, verbose=False, **threads)

    def timed(token_ids: list[int]) -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        model.eval(token_ids)
        return time.perf_counter() - wall, time.process_time() - processor

    found = {}
    for size in (128, 512):
        runs = []
        for _ in range(3):
            model.reset()
            runs.append(timed([i % 1000 for i in range(size)])[0])
        found[f"prefill_{size}"] = size / statistics.median(runs)
    model.reset()
    model.eval([i % 1000 for i in range(128)])
    steps = [timed([7]) for _ in range(40)]
    found["decode"] = 1 / statistics.median(wall for wall, _ in steps)
    found["processor_ms"] = statistics.median(processor for _, processor in steps) * 1e3
    print(json.dumps(found))


if __name__ == "__main__":
    main()
