"""The configuration of a running node: what SIGHUP changes at once, and what waits for the next start."""

from __future__ import annotations

import logging
import os

from gridnode.config import NodeConfig
from gridnode.config.layers import Layer, to_node_config
from gridnode.config.settings import settings
from gridnode.config.sources import ONLY_FILE_VARIABLE, read_sources, strange_variables, user_file
from gridnode.errors import BadInput
from gridnode.logs import LOG_FILE, LogLevel, LogPlan, apply_plan
from gridnode.node.node import Node

logger = logging.getLogger("gridnode.config")


class LiveConfig:
    """What one `gridnode up` was told, read again on request.

    Args:
        flags: They stay what they were.
        is_terminal: Whether people read standard error: they get warnings, a service logs more.
    """

    def __init__(self, flags: Layer, *, is_terminal: bool) -> None:
        self._flags = flags
        self.is_terminal = is_terminal
        self.present = self._read()
        self._state_dir = self.present.state_dir  # a running node does not move

    def _read(self) -> NodeConfig:
        return to_node_config(read_sources(os.environ, self._flags))

    def start_logging(self) -> None:
        """Log as told: to standard error, and to the file in the state directory.

        Raises:
            BadInput: the file cannot be written.
        """
        usual = LogLevel.WARNING if self.is_terminal else LogLevel.INFO
        plan = LogPlan(
            level=self.present.log_level or usual,
            format=self.present.log_format,
            file=str(self._state_dir / LOG_FILE),
        )
        try:
            apply_plan(plan)
        except OSError as exc:
            raise BadInput(f"cannot write the log {plan.file}: {exc.strerror or exc}") from exc

    def warn_of_strange_variables(self) -> None:
        """Log a warning for every variable that is misspelt, or names a file that is not there."""
        if ONLY_FILE_VARIABLE in os.environ and not user_file(os.environ).exists():
            logger.warning("%s names %s, which does not exist", ONLY_FILE_VARIABLE, user_file(os.environ))
        for line in strange_variables(os.environ):
            logger.warning("%s", line)

    def reload(self, node: Node) -> None:
        """Read files and environment again; give `node` what can change now. A bad file changes nothing."""
        try:
            found = self._read()
        except BadInput as exc:
            logger.error("the configuration was not read again: %s", exc)
            return
        before, self.present = self.present, found
        for name, setting in settings().items():
            if getattr(before, setting.field) == getattr(found, setting.field):
                continue
            if setting.is_live:
                logger.info("%s is taken over", name)
            else:
                logger.warning("%s has changed; it counts from the next start on", name)
        self.start_logging()
        node.reconfigure(found)
