"""The report for people. Pure."""

from __future__ import annotations

from itertools import groupby

from rich.text import Text

from gridnode.cli.doctor.findings import Diagnosis, Finding, State
from gridnode.cli.showing import printable

_WORDS = {State.OK: ("ok", "green"), State.WARN: ("warn", "yellow"), State.FAIL: ("FAIL", "bold red")}


def report(diagnosis: Diagnosis) -> Text:
    """Return one line per finding, the command that mends it below, and the verdict at the end."""
    text = Text()
    width = max((len(finding.check) for finding in diagnosis.findings), default=0)
    for group, findings in groupby(diagnosis.findings, key=lambda finding: finding.group):
        text.append(f"{group.capitalize()}\n", style="bold")
        for finding in findings:
            _add(text, finding, width)
    text.append(f"\n{printable(diagnosis.verdict)}\n", style="bold")
    return text


def _add(text: Text, finding: Finding, width: int) -> None:
    word, style = _WORDS[finding.state]
    text.append(f"  {word:4}", style=style)
    # Names and versions of strangers are in it.
    text.append(printable(f"  {finding.check:{width}}  {finding.measured}\n").replace("\t", " "))
    if finding.mend:
        text.append(f"        {'':{width}}  -> {printable(finding.mend)}\n", style="dim")
