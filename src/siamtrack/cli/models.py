"""``siamtrack models``: what models there are."""

from importlib.util import find_spec
from typing import Annotated, Any

import typer

from siamtrack.config import read_yaml
from siamtrack.models import zoo
from siamtrack.tracking.config import tracking_config

app = typer.Typer(help="List the models; 'show NAME' describes one.")


@app.callback(invoke_without_command=True)
def list_models(context: typer.Context) -> None:
    """List the models: size, operations of a template and of a search crop, and whether there are weights."""
    if context.invoked_subcommand:
        return
    line = "{:23} {:>8} {:>13}  {:10}  {}"
    print(line.format("model", "M param.", "GMAC", "weights", "summary"))
    for name in zoo.names():
        preset = zoo.load(name)
        parameters, template, search, _ = _measure(preset)
        size = f"{parameters / 1e6:.2f}" if parameters else "?"
        gmac = f"{template:.2f} + {search:.2f}" if parameters else "?"
        place = "package" if zoo.weights(name, ".safetensors") else "to convert"
        print(line.format(name, size, gmac, place, preset.values.get("summary", "")))
    print(
        "\nGMAC: of a template, once a target, + of a search region, in each frame. Weights: in the package, or to\n"
        "convert from a published checkpoint ('siamtrack convert'); or train your own ('siamtrack train')."
    )
    if not find_spec("torch"):
        print("? is counted with PyTorch; pip install 'siamtrack[torch]'")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="Name of a model, or a preset's .yaml file.")]) -> None:
    """Describe a model: configuration, size, operations, and the card of its weights."""
    preset = zoo.load(name)
    model, tracking = preset.model, tracking_config(preset)
    parameters, template, search, how = _measure(preset)
    print(f"{preset.name}: {preset.values.get('summary', '')}")
    if parameters:
        print(f"parameters: {parameters:,}")
        print(f"operations: {template:.3f} GMAC a template, {search:.3f} GMAC a search crop ({how})")
    else:
        print("parameters, operations: counted with PyTorch; pip install 'siamtrack[torch]'")
    _print({"model": model.model_dump(), "tracking": tracking.model_dump(), "weights": _card(preset.name) or "none"})


def _card(name: str) -> dict[str, Any] | None:
    path = zoo.weights(name, ".card.yaml")
    return read_yaml(path) if path else None


def _measure(preset: zoo.Preset) -> tuple[int, float, float, str]:
    """Return parameters (0 if unknown), GMAC of template and search crop, and how they were found."""
    if find_spec("torch"):
        from siamtrack.models.siamese import check_network, count_gmac

        model = check_network(preset.model, preset.origin)
        size = tracking_config(preset).search_size or preset.model.search_size
        operations = count_gmac(model, size)
        return sum(p.numel() for p in model.parameters()), *operations, "counted by torch's flop counter"
    card = _card(preset.name)
    if card:
        return card["parameters"], card["gmac"]["template"], card["gmac"]["search"], "from the weights' card"
    return 0, 0.0, 0.0, ""


def _print(values: dict[str, Any], indent: str = "") -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print(value, indent + "  ")
        else:
            print(f"{indent}{key}: {value}")
