"""Parameters: what an administrator has told a broker by component and name, each a value of JSON.

Policies are parameters, too, as in RabbitMQ ("Parameters and Policies"); so is whatever plugins are told. Those without
a virtual host are global. Holds no rule about values; those are with what a component means.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_PASSWORD = re.compile(r"(://[^/@:\s\"]*):[^/@\s\"]*@")


@dataclass(slots=True)
class Parameter:
    """A parameter.

    Args:
        virtual_host: whose it is; empty for a global one.
        component: whom it concerns; empty for a global one.
        value: as JSON has it.
        reference: of the journal's record.
    """

    virtual_host: str
    component: str
    name: str
    value: Any  # compiled, no field can be an ``object``
    reference: int = 0

    def text(self) -> str:
        """The value as JSON."""
        return json.dumps(self.value, ensure_ascii=True, separators=(",", ":"))

    def text_for_log(self) -> str:
        """The same without the passwords in addresses."""
        return _PASSWORD.sub(r"\1:***@", self.text())


Parameters = dict[tuple[str, str], Parameter]  # by component and name
