"""Record one frame of every kind of message as this version sends it, for later versions to read.

    python tests/record_frames.py

writes `tests/vectors/protocol-N.json` for the present protocol N. Once a release has spoken N its file never
changes again: what changes the frames then is protocol N + 1.
"""

from __future__ import annotations

import json
from pathlib import Path

from wire_samples import SAMPLES

from gridnode.wire.codec import encode_message
from gridnode.wire.frames import encode_frame
from gridnode.wire.messages import PROTOCOL_VERSION

VECTORS = Path(__file__).parent / "vectors"


def vector_file(protocol: int) -> Path:
    """Return the file with the frames of a protocol."""
    return VECTORS / f"protocol-{protocol}.json"


def main() -> None:
    """Write the file of the present protocol."""
    frames = {
        type(message).__name__: b"".join(encode_frame(encode_message(message, body))).hex()
        for message, body in SAMPLES
    }
    VECTORS.mkdir(exist_ok=True)
    vector_file(PROTOCOL_VERSION).write_text(json.dumps(frames, indent=2) + "\n")


if __name__ == "__main__":
    main()
