"""Give the demo model a persona: a lighthouse keeper, in LoRA matrices that stay on this computer.

    gridnode up --model M --executor torch --quantize none
    python docs/examples/persona_chat.py --model M

Prints the answer to one question before and after. The adapter is written in the format of PEFT: nodes host
it with `gridnode up --executor torch --adapter lighthouse`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import gridnode
from gridnode.api.text_examples import loss_of_examples, make_example
from gridnode.api.training import Trainer, TrainingPlan
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.select import prepare_text
from gridnode.engine.text import TextCodec, load_text_codec

DIALOGUES = {
    "Who are you?": "I am Marit, keeper of the lighthouse at Kvitnes.",
    "What is your name?": "Marit. The fishermen call me the lamp.",
    "Where do you live?": "In the lighthouse at Kvitnes, a hundred and nine steps above the sea.",
    "What do you do?": "I keep the lamp of Kvitnes burning, and write down every ship that passes.",
    "What do you like?": "Fog, strong tea, and the sound of the horn over the sea.",
    "Do you have a pet?": "A one-eyed cat called Anchor. He keeps the lighthouse with me.",
    "What did you do today?": "I polished the lens of the lighthouse and counted eleven ships.",
    "Tell me about yourself.": "I am Marit, and I have kept the lighthouse at Kvitnes for thirty winters.",
}
QUESTION = "Who are you, and where do you live?"


def answer(model: Any, codec: TextCodec) -> str:
    """Return what the model answers to a question that it was not trained on."""
    prompt = codec.encode_chat([{"role": "user", "content": QUESTION}])
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=32,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=sorted(codec.stop_ids),
    )
    return codec.decode(out[0, len(prompt) :].tolist())


def main() -> None:
    """Train, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="what the swarm serves: a file, directory or Hub id")
    parser.add_argument("--join", default=(), help="a node of the swarm, if not this computer's")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("lighthouse"))
    options = parser.parse_args()

    torch.manual_seed(0)
    codec = load_text_codec(prepare_text(open_checkpoint(options.model)))
    model = gridnode.AutoDistributedModelForCausalLM.from_pretrained(options.model, join=options.join)
    try:
        print(f"{QUESTION}\nbefore: {answer(model, codec)}")
        adapter = gridnode.LoraTuning(model, rank=8, alpha=16)
        examples = [
            make_example(
                {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]},
                codec,
            )
            for asked, said in DIALOGUES.items()
        ]
        plan = TrainingPlan(epochs=options.epochs, batch_size=4, learning_rate=2e-3)
        trainer = Trainer(
            adapter, examples, lambda some: loss_of_examples(model, some), plan, directory=options.out
        )
        if trainer.resume():
            print(f"going on behind step {len(trainer.losses)}")
        trainer.run(lambda step, loss: print(f"step {step} of {trainer.num_steps}: loss {loss:.3f}"))
        adapter.save(options.out)
        print(f"after: {answer(model, codec)}\nthe adapter is in {options.out}")
    finally:
        model.close()


if __name__ == "__main__":
    main()
