"""Taking out of texts what says who somebody is and where: for reports that others read. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

# Shorter ones stand inside of ordinary words: they are replaced where they stand alone.
_MIN_PART_CHARACTERS = 4
# Keys of gridnode and of the Hub, invitations; private keys in PEM.
_KEY = (
    r"\bgridnode://\S+|\bgn-[a-z2-7]{8,}|\bhf_\w{8,}"
    r"|-----BEGIN [A-Z ]+-----[^!]*?(?:-----END [A-Z ]+-----|\Z)"
)
_MAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_HARDWARE = r"\b(?i:[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5})\b"
# Peer ids: whole, as mDNS and as logs cut them. Eight letters without a digit could be any word, unless the
# word before says what they are.
_NODE = (
    r"\b[a-z2-7]{52}\b|\b[a-z2-7]{16}(?=\._gridnode)|\b(?=[a-z]*[2-7])[a-z2-7]{8}\b"
    r"|(?:(?<=\bnode )|(?<=\bpeer )|(?<=\blink to )|(?<=\bfound ))[a-z2-7]{8}\b"
)
_IPV4 = r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)"
_IPV6 = r"(?<![\w:.])(?i:[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?:\.\d{1,3}){0,3}(?:%\w+)?"


class Redactor:
    """Replaces secrets by words like `<name 1>`: the same secret by the same word, so that lines still
    can be compared.

    Args:
        known: Words for the kinds of secrets that no pattern finds, with the secrets.
    """

    def __init__(self, known: Mapping[str, Iterable[str]]) -> None:
        self._words: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        pairs = {text.casefold(): (_anywhere(text), kind) for kind, texts in known.items() for text in texts}
        # A name may be a part of another one, and of a mail address.
        ordered = [pairs[text] for text in sorted(pairs, key=len, reverse=True) if text]
        forms = [(_KEY, "key"), (_MAIL, "mail"), *ordered, (_HARDWARE, "address"), (_NODE, "node")]
        addresses = [(_IPV4, "address"), (_IPV6, "address")]
        self._known = _alternatives(ordered)
        self._all = _alternatives([*forms, *addresses])
        self._num_forms = len(forms)
        self._kinds = [kind for _, kind in (*forms, *addresses)]
        self._known_kinds = [kind for _, kind in ordered]

    def __call__(self, text: str) -> str:
        """Return `text` without secrets."""
        return self._all.sub(self._replace, text)

    def document(self, value: Any) -> Any:
        """Return a JSON document with every text in it redacted; the names of its fields stay."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {key: self.document(member) for key, member in value.items()}
        if isinstance(value, list | tuple):
            return [self.document(member) for member in value]
        return value

    def _replace(self, found: re.Match[str]) -> str:
        assert found.lastindex is not None
        if found.lastindex > self._num_forms and (kept := _harmless(found[0])):
            # A time of day may look like an address, and a name like a part of one.
            return kept if ":" not in kept else self._known.sub(self._replace_known, kept)
        return self._word(self._kinds[found.lastindex - 1], found[0])

    def _replace_known(self, found: re.Match[str]) -> str:
        assert found.lastindex is not None
        return self._word(self._known_kinds[found.lastindex - 1], found[0])

    def _word(self, kind: str, secret: str) -> str:
        key = secret.casefold()
        if key not in self._words:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._words[key] = f"<{kind} {self._counts[kind]}>"
        return self._words[key]


def _harmless(text: str) -> str:
    """Return `text` if it is no address, or one that every computer has; otherwise nothing."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return text
    return text if ip.is_loopback or ip.is_unspecified else ""


def _anywhere(text: str) -> str:
    """Return the pattern of a known secret."""
    quoted = f"(?i:{re.escape(text)})"
    return quoted if len(text) >= _MIN_PART_CHARACTERS else rf"(?<!\w){quoted}(?!\w)"


def _alternatives(forms: Iterable[tuple[str, str]]) -> re.Pattern[str]:
    """Return a pattern whose group N is the form N."""
    return re.compile("|".join(f"({pattern})" for pattern, _ in forms) or r"(?!)")
