"""Configuration: YAML read into strict pydantic classes, with errors that name the key and the file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from siamtrack.errors import UserError, nearest


class Config(BaseModel):
    """A section of a preset: unknown keys are refused, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=Config)


def validate(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """Return ``values`` as a ``cls``.

    Args:
        cls: the class that documents the keys.
        values: what was read.
        where: where the values come from, such as ``presets/siamrpnpp_lite.yaml: model``, for the message.

    Raises:
        UserError: a key is unknown or missing, or a value does not fit; names the first such key.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = nearest(str(first["loc"][-1]), _fields(cls, first["loc"][:-1]))
            raise UserError(f"{where}: unknown key {key!r}{hint}") from None
        message, given = first["msg"].removeprefix("Value error, "), first["input"]
        if message.startswith("Input ") and not isinstance(given, Mapping | list):
            message = f"{given!r} {message.removeprefix('Input ')}"
        raise UserError(f"{where}: {key}: {message}" if key else f"{where}: {message}") from None


def _fields(cls: type[BaseModel], path: Iterable[Any]) -> list[str]:
    """Return the keys that are known at ``path`` below ``cls``."""
    for part in path:
        field = cls.model_fields.get(str(part))
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()  # of X | None, X as well
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not sections:
            return []
        cls = sections[0]
    return list(cls.model_fields)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        UserError: there is no such file, it is not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{path} is not a YAML file ({reason})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}, expected a mapping of keys to values")
    return values


def override(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Return a copy of ``values`` with ``key.sub=value`` settings applied; values are read as YAML.

    Whether the key exists is not checked here but by :func:`validate`.

    Raises:
        UserError: a setting has no ``=``, or leads through something that is not a mapping.
    """
    result = {**values}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UserError(f"--set {setting!r}: expected key=value, such as --set train.steps=1000")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {setting!r}: {text!r} is not a YAML value") from None
        *parents, last = key.split(".")
        node = result
        for parent in parents:
            child = node.get(parent, {})
            if not isinstance(child, dict):
                raise UserError(f"--set {setting!r}: {parent!r} is a value, not a section")
            node[parent] = node = {**child}
        node[last] = value
    return result


def merge(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with those of ``over`` in their place, section by section."""
    merged = {**values}
    for key, value in over.items():
        before = merged.get(key)
        merged[key] = merge(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged
