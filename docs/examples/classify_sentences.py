"""Teach the demo model to tell good news from bad, with prompts before every block; nodes keep theirs.

    gridnode up --model M --executor torch --quantize none
    python docs/examples/classify_sentences.py --model M

The sentences are made up here. Prints how many of those that were never trained on are right, before and
after.
"""

from __future__ import annotations

import argparse
import itertools
import random

import torch

import gridnode
from gridnode.api.training import Trainer, TrainingPlan
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.select import prepare_text
from gridnode.engine.text import TextCodec, load_text_codec

GOOD = ("wonderful", "brilliant", "delightful", "excellent", "charming", "superb")
BAD = ("dreadful", "boring", "terrible", "awful", "dull", "horrible")
THINGS = ("film", "book", "concert", "meal", "journey", "speech", "garden", "play")
FRAMES = ("The {} was {}.", "What a {}, it was {}!", "I found the {} {}.")

Sentence = tuple[str, int]
"""Its text, and 1 if it is good news."""


def sentences() -> tuple[list[Sentence], list[Sentence]]:
    """Return sentences to train on, and others: about other things, in other words."""
    made = [
        (frame.format(thing, word), int(word in GOOD))
        for frame, thing, word in itertools.product(FRAMES, THINGS, GOOD + BAD)
    ]
    unseen = [one for one in made if any(w in one[0] for w in (*GOOD[4:], *BAD[4:])) and "play" in one[0]]
    seen = [one for one in made if not any(w in one[0] for w in (*GOOD[4:], *BAD[4:], "play"))]
    random.Random(0).shuffle(seen)
    return seen, unseen


def batch_of(some: list[Sentence], codec: TextCodec) -> dict[str, torch.Tensor]:
    """Return token ids, their mask and the classes of some sentences, padded behind."""
    rows = [codec.encode(text) for text, _ in some]
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
        "labels": torch.tensor([label for _, label in some]),
    }


def accuracy(model: torch.nn.Module, some: list[Sentence], codec: TextCodec) -> float:
    """Return how many of the sentences are told right, from 0 to 1."""
    with torch.no_grad():
        batch = batch_of(some, codec)
        found = model(**batch, use_cache=False).logits.argmax(-1)
    return float((found == batch["labels"]).float().mean())


def main() -> None:
    """Train, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="what the swarm serves: a file, directory or Hub id")
    parser.add_argument("--join", default=(), help="a node of the swarm, if not this computer's")
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()

    torch.manual_seed(0)
    codec = load_text_codec(prepare_text(open_checkpoint(options.model)))
    model = gridnode.AutoDistributedModelForSequenceClassification.from_pretrained(
        options.model, join=options.join, num_labels=2, pad_token_id=0
    )
    try:
        prompts = gridnode.PromptTuning(model, num_tokens=4, deep=True)
        tuned = torch.nn.ModuleDict({"prompts": prompts, "head": model.score})
        seen, unseen = sentences()
        print(f"before: {accuracy(model, unseen, codec):.0%} of {len(unseen)} new sentences are right")
        plan = TrainingPlan(epochs=options.epochs, batch_size=8, learning_rate=5e-3)
        trainer = Trainer(
            tuned, seen, lambda some: model(**batch_of(some, codec), use_cache=False).loss, plan
        )
        trainer.run(lambda step, loss: print(f"step {step} of {trainer.num_steps}: loss {loss:.3f}"))
        print(f"after: {accuracy(model, unseen, codec):.0%} of {len(unseen)} new sentences are right")
    finally:
        model.close()


if __name__ == "__main__":
    main()
