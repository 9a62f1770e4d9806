"""The models by name: presets and the weights that travel with them. Needs no torch."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from siamtrack.config import Config, override, read_yaml, validate
from siamtrack.errors import UserError, nearest
from siamtrack.models.config import ModelConfig

C = TypeVar("C", bound=Config)

DEFAULT = "siamrpnpp_lite"
_SECTIONS = ("name", "summary", "model", "tracking", "train", "search")
_HERE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Preset:
    """What belongs to a model: its network's configuration and the parameters of tracking, training and search.

    Each room reads its own section with :meth:`section`, so that this class depends on none of them.
    """

    name: str
    values: Mapping[str, Any]
    origin: str
    """Where the values were read, for messages."""

    def section(self, name: str, cls: type[C]) -> C:
        """Return section ``name`` as ``cls``, an absent section as its defaults.

        Raises:
            UserError: the section does not fit ``cls``.
        """
        values = self.values.get(name) or {}
        if not isinstance(values, dict):
            raise UserError(f"{self.origin}: {name} holds {values!r}, expected a section of keys and values")
        return validate(cls, values, f"{self.origin}: {name}")

    @property
    def model(self) -> ModelConfig:
        """The network's configuration."""
        return self.section("model", ModelConfig)

    def to_json(self) -> str:
        """Return what a weight file carries so that it can be used by itself (without ``train``)."""
        return json.dumps({key: value for key, value in self.values.items() if key != "train"}, sort_keys=True)


def names() -> list[str]:
    """Return the names of the presets in this package."""
    return sorted(path.stem for path in (_HERE / "presets").glob("*.yaml"))


def load(name: str, settings: Iterable[str] = ()) -> Preset:
    """Return the preset of this package called ``name``, or the one in the YAML file ``name``.

    Args:
        name: a name of :func:`names`, or a path that ends in .yaml.
        settings: ``key.sub=value`` overrides.

    Raises:
        UserError: no such preset or file, unknown sections, or a setting that is not key=value.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in names():
        path = _HERE / "presets" / f"{name}.yaml"
    else:
        raise UserError(f"there is no model {name!r}{nearest(name, names())} (known: {', '.join(names())})")
    return _preset(override(read_yaml(path), settings), path.name)


def from_json(text: str, origin: str) -> Preset:
    """Return the preset that a weight file carries (see :meth:`Preset.to_json`).

    Raises:
        UserError: the text is no preset.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{origin}: the model description inside the file is not readable")
    return _preset(values, origin)


def _preset(values: dict[str, Any], origin: str) -> Preset:
    for key in values:
        if key not in _SECTIONS:
            raise UserError(f"{origin}: unknown key {key!r}{nearest(key, _SECTIONS)}")
    if not isinstance(values.get("name"), str):
        given = f"holds {values['name']!r}" if "name" in values else "is missing"
        raise UserError(f"{origin}: key 'name' {given}; give the model a name")
    return Preset(values["name"], values, origin)


def weights(name: str, suffix: str) -> Path | None:
    """Return the shipped file ``<name><suffix>``, or None if the package has none.

    Suffixes: ``.safetensors``, ``.template.onnx``, ``.search.onnx``, ``.card.yaml``.
    """
    path = _HERE / "weights" / f"{name}{suffix}"
    return path if path.is_file() else None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
