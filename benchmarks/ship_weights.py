"""Put a trained model into the package: weights, ONNX graphs and card.

python benchmarks/ship_weights.py RUN/best.safetensors CARD.yaml

CARD.yaml holds what cannot be computed: trained_on, command, commit, device, seeds, scores, licence, limits. The
model's name, parameters, operations and the files' SHA-256 are added.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from siamtrack.config import read_yaml
from siamtrack.models import zoo
from siamtrack.models.siamese import count_gmac
from siamtrack.models.zoo import sha256
from siamtrack.runtimes.export import export_onnx
from siamtrack.runtimes.torch_runtime import load, save
from siamtrack.tracking.config import tracking_config

WEIGHTS = Path(__file__).parent.parent / "src" / "siamtrack" / "weights"


def main(source: Path, facts: Path) -> None:
    """Copy, export, and write the card."""
    model, trained = load(source)
    preset = zoo.load(trained.name)  # its tracking may have been tuned since
    size = tracking_config(preset).search_size or preset.model.search_size
    template, search = count_gmac(model, size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    target = WEIGHTS / f"{preset.name}.safetensors"
    WEIGHTS.mkdir(exist_ok=True)
    save(target, model, preset)
    files = [target]
    if not preset.model.mask:  # the graphs of masks are as large as the weights; whoever wants them exports
        files += export_onnx(model, preset, WEIGHTS / preset.name)
    card: dict[str, Any] = {
        "name": preset.name,
        "parameters": parameters,
        "gmac": {"template": round(template, 4), "search": round(search, 4)},
        **read_yaml(facts),
        "sha256": {file.name: sha256(file) for file in files},
    }
    text = yaml.safe_dump(card, sort_keys=False, width=100, allow_unicode=True)
    (WEIGHTS / f"{preset.name}.card.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
