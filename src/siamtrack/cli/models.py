"""``siamtrack models``: what models there are."""

from importlib.util import find_spec
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from siamtrack.config import read_yaml
from siamtrack.errors import UserError
from siamtrack.models import zoo

app = typer.Typer(help="List the models; 'show NAME' describes one.")


@app.callback(invoke_without_command=True)
def list_models(context: typer.Context) -> None:
    """List the models."""
    if context.invoked_subcommand:
        return
    table = Table(Column("model", no_wrap=True), "M parameters", "GMAC template, search", "weights", "summary")
    for name in zoo.names():
        card = _card(name)
        size = f"{card['parameters'] / 1e6:.2f}" if card else ""
        gmac = f"{card['gmac']['template']:.2f}, {card['gmac']['search']:.2f}" if card else ""
        place = "in the package" if card else "none"
        table.add_row(name, size, gmac, place, str(zoo.load(name).values.get("summary", "")))
    Console().print(table)


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="Name of a model, or a preset's .yaml file.")]) -> None:
    """Describe a model: configuration, size, operations, and the card of its weights."""
    preset = zoo.load(name)
    print(f"{preset.name}: {preset.values.get('summary', '')}")
    parameters, template, search, how = _measure(preset)
    print(f"parameters: {parameters:,}")
    print(f"operations: {template:.3f} GMAC a template, {search:.3f} GMAC a search crop ({how})")
    for key, value in preset.model.model_dump().items():
        print(f"{key}: {value}")
    print(f"tracking: {preset.values.get('tracking', {})}")
    _print_card(_card(preset.name) or {})


def _card(name: str) -> dict[str, Any] | None:
    path = zoo.weights(name, ".card.yaml")
    return read_yaml(path) if path else None


def _measure(preset: zoo.Preset) -> tuple[int, float, float, str]:
    """Return parameters, GMAC of template and search, and how they were found."""
    if find_spec("torch"):
        from siamtrack.models.siamese import build, count_gmac

        model = build(preset.model)
        return (
            sum(p.numel() for p in model.parameters()),
            *count_gmac(model),
            "counted by torch's flop counter",
        )
    card = _card(preset.name)
    if not card:
        raise UserError(
            "counting the operations of a model without weights needs PyTorch; pip install 'siamtrack[torch]'"
        )
    return card["parameters"], card["gmac"]["template"], card["gmac"]["search"], "from the weights' card"


def _print_card(card: dict[str, Any], indent: str = "") -> None:
    for key, value in card.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_card(value, indent + "  ")
        else:
            print(f"{indent}{key}: {value}")
