"""Flags of `gridnode up`: one for every key of the configuration, made from its description."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer

from gridnode.cli.options import option_reader
from gridnode.config.keys import SECTIONS
from gridnode.config.layers import Given, Layer
from gridnode.config.settings import Setting, settings


def takes_settings(
    command: Callable[..., None], *, sections: Iterable[str] = SECTIONS
) -> Callable[..., None]:
    """Return `command` with a flag for every key of `sections`; its first parameter gets those given."""
    taken = {name: setting for name, setting in settings().items() if setting.section in sections}

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        command(_given(arguments, taken), **arguments)

    own = list(inspect.signature(command).parameters.values())[1:]
    hints = typing.get_type_hints(command, include_extras=True)
    parameters = [
        *(_parameter(setting) for setting in taken.values()),
        *(parameter.replace(annotation=hints[parameter.name]) for parameter in own),
    ]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    return run


def _given(arguments: dict[str, Any], taken: Mapping[str, Setting]) -> Layer:
    """Take the flags that were given out of `arguments`."""
    found = {}
    for name, setting in taken.items():
        value = arguments.pop(setting.field)
        if value is not None and value != []:
            value = tuple(value) if setting.kind.is_list else value
            found[name] = Given(value, "flag", setting.flag)
    return found


def _parameter(setting: Setting) -> inspect.Parameter:
    return inspect.Parameter(
        setting.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_option_type(setting), _option(setting)],
    )


def _option_type(setting: Setting) -> Any:
    if setting.kind.is_list:
        return list[str] | None
    return bool | None if setting.kind.is_flag else str | None


def _option(setting: Setting) -> Any:
    shown: dict[str, Any] = {
        "help": setting.doc.replace("`", "") + (" May be repeated." if setting.kind.is_list else ""),
        "rich_help_panel": SECTIONS.get(setting.section, setting.section),
        "show_default": setting.described_default or False,
    }
    if setting.kind.is_flag:
        return typer.Option(f"{setting.flag}/{setting.flag.replace('--', '--no-', 1)}", **shown)

    def read(text: str) -> Any:
        value = setting.kind.read(text)
        return value if setting.kind.is_list else setting.check(value)

    return typer.Option(setting.flag, parser=option_reader(read), metavar=setting.metavar, **shown)
