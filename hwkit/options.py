"""A backend's options from the command line's key=value pairs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from hwkit.describe import Frozen
from hwkit.errors import BadInput

Options = TypeVar("Options", bound=Frozen)


def parsed(given: Mapping[str, str], options: type[Options], backend: str) -> Options:
    """`given` as `options`; "all", "auto" and "max" stand for None where that is a value's default.

    Raises BadInput for an unknown key or a value that does not fit.
    """
    known = options.model_fields
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"the {backend} backend has no option {key!r}{meant}", f"options: {', '.join(known)}")
    values = {key: None if value in ("all", "auto", "max") and known[key].default is None else value
              for key, value in given.items()}
    try:
        return options.model_validate(values)
    except ValidationError as e:
        error = e.errors()[0]
        key = str(error["loc"][0]) if error["loc"] else next(iter(given), "")
        raise BadInput(f"option {key}={given.get(key, '')}: {error['msg'][0].lower()}{error['msg'][1:]}",
                       f"e.g. {key}={known[key].default or 100}") from None
