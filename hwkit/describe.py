"""Read a TOML or JSON file into a frozen model; a mistake becomes one line that names file and key."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from hwkit.data import description
from hwkit.errors import BadDescription

Kind = Literal["measured", "simulated", "estimated", "published", "assumed"]
KINDS: tuple[Kind, ...] = get_args(Kind)

NonEmpty = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


def _is_name(text: str) -> str:
    if not text or not all(c.isalnum() or c in "-_." for c in text) or not text[0].isalnum():
        raise ValueError("a name has letters, digits, '-', '_' and '.' only, and starts with a letter or digit")
    return text


Name = Annotated[str, AfterValidator(_is_name)]


class Frozen(BaseModel):
    """Base of everything read from a file: immutable, no unknown keys, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figure(Frozen):
    """One number with its provenance. The unit is in the name of the field that holds it."""

    value: float
    kind: Kind
    source: NonEmpty


class Interval(Frozen):
    """A range [low, high] with its provenance."""

    low: float
    high: float
    kind: Kind
    source: NonEmpty


M = TypeVar("M", bound=BaseModel)


def _fields_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Names of the fields that were possible at a key's place, for "did you mean"."""
    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            continue
        inner = [t for t in (field.annotation, *get_args(field.annotation))
                 if isinstance(t, type) and issubclass(t, BaseModel)]
        current = inner[0] if inner else None
    return list(getattr(current, "model_fields", {}))


def _line(error: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    location = error["loc"]
    key = ".".join(str(part) for part in location)
    match error["type"]:
        case "extra_forbidden":
            known = _fields_at(model, location[:-1])
            stem = str(location[-1]).rsplit("_", 1)[0]
            near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
            near = near or [k for k in known if k.rsplit("_", 1)[0] == stem]
            also = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            return key, f"unknown key; {also}"
        case "missing":
            return key, "missing"
        case "string_too_short":
            return key, "must not be empty"
        case _:
            return key, f"{error['msg'][0].lower()}{error['msg'][1:]} (got {error['input']!r:.60})"


def validated(value: object, model: type[M], path: Path | str, hint: str = "") -> M:
    """`value` as `model`; BadDescription with the first wrong key otherwise."""
    try:
        return model.model_validate(value)
    except ValidationError as e:
        # a key that is misspelt also counts as missing: tell the misspelling, it explains both
        errors = sorted(e.errors(), key=lambda one: one["type"] != "extra_forbidden")
        key, problem = _line(errors[0], model)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise BadDescription(path, key, problem + more, hint) from None


def read_toml(path: Path, hint: str = "") -> dict[str, Any]:
    """The tables of a TOML file. Raises BadDescription when unreadable or not TOML."""
    try:
        with path.open("rb") as f:
            return tomllib.load(f)
    except FileNotFoundError:
        raise BadDescription(path, "", "no such file", hint) from None
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is not text"
        raise BadDescription(path, "", f"cannot be read: {why}", hint) from None
    except tomllib.TOMLDecodeError as e:
        raise BadDescription(path, "", f"not valid TOML: {e}", hint) from None


def load(path: Path, model: type[M], hint: str = "") -> M:
    """A TOML file as a frozen model."""
    return validated(read_toml(path, hint), model, path, hint)


def load_named(folder: str, name: str, model: type[M], hint: str = "") -> M:
    """The description called `name` in `folder` ("targets" or "boards"); its own `name` must agree.

    Raises UnknownName, BadDescription.
    """
    path = description(folder, name)
    found = load(path, model, hint)
    own = getattr(found, "name", name)
    if own != name:
        raise BadDescription(path, "name", f"is {own!r}, but it stands where {name!r} is looked up", hint)
    return found


def load_json(path: Path, model: type[M], hint: str = "") -> M:
    """A JSON file as a frozen model. Raises BadDescription."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as e:
        raise BadDescription(path, "", f"cannot be read: {e.strerror}", hint) from None
    except ValueError:
        raise BadDescription(path, "", "is not JSON", hint) from None
    return validated(value, model, path, hint)


def toml_text(tables: dict[str, Any], prefix: str = "") -> str:
    """TOML of nested tables, lists of tables, and values that JSON and TOML write alike."""
    lines, after = [], []
    for key, value in tables.items():
        if isinstance(value, dict):
            after.append(f"\n[{prefix}{key}]\n{toml_text(value, f'{prefix}{key}.')}")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            after += [f"\n[[{prefix}{key}]]\n{toml_text(one, f'{prefix}{key}.')}" for one in value]
        else:
            lines.append(f"{key} = {json.dumps(value)}\n")
    return "".join(lines + after)
