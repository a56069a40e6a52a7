import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from gridnode.engine.chat_template import ChatTemplate
from gridnode.engine.text import load_text_codec
from gridnode.errors import BadInput

MESSAGES = [
    {"role": "system", "content": 'Be <brief> & "kind".'},
    {"role": "user", "content": "Grüße 😀"},
    {"role": "assistant", "content": "4"},
]
TEMPLATES = {
    "tools that may be none": "{% if tools is not none %}tools{% endif %}{{ tools is defined }}",
    "documents": "{{ documents is none }}",
    "generation": (
        "{% for message in messages %}{% if message.role == 'assistant' %}"
        "{% generation %}{{ message.content }}{% endgeneration %}{% endif %}{% endfor %}"
    ),
    "the day": "{{ strftime_now('%Y') | length }}",
    "json": "{{ messages | tojson }}",
    "json with options": "{{ messages | tojson(indent=2, sort_keys=true, ensure_ascii=true) }}",
    "loop controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}x{% endfor %}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token }}",
    "prompt": "{% if add_generation_prompt %}go{% endif %}",
    "blocks are trimmed": "  {% if true %}\n  x\n  {% endif %}\ny",
}


def render(source: str) -> str:
    return ChatTemplate(source, special_tokens={}).render(MESSAGES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_render_as_in_transformers(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_llama, tmp_path / "copy"))
    (copy / "chat_template.jinja").write_text(TEMPLATES[name])
    reference = AutoTokenizer.from_pretrained(copy)
    expected = reference.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert load_text_codec(copy).render_chat(MESSAGES) == expected


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ raise_exception('no system messages') }}", "refuses.*no system messages"),
        ("{{ messages[0].content + 1 }}", "refuses.*concatenate"),
        ("{{ unknown.name.of.something }}", "refuses.*'unknown' is undefined"),
        ("{{ 1 // 0 }}", "refuses.*zero"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "refuses.*unsafe"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "refuses.*too big"),
        ("{% if %}", "cannot be read"),
        ("{% generation %}", "cannot be read"),
    ],
)
def test_what_a_template_ends_in_is_bad_input(source: str, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        render(source)


def test_a_broken_template_leaves_plain_prompts_usable(tiny_llama: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_llama, tmp_path / "copy"))
    (copy / "chat_template.jinja").write_text("{% if %}")
    codec = load_text_codec(copy)
    assert codec.encode("hi")
    with pytest.raises(BadInput, match="cannot be read"):
        codec.encode_chat(MESSAGES)
