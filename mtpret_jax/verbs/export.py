"""A run for PyTorch: model.safetensors in torchvision's layout, and config.json.

python -m mtpret_jax.main export --workdir=runs/demo --run=contrastive --out=exported
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from etils import epath

from mtpret_jax import command, export


def run(program: str, arguments: Sequence[str]) -> int:
    """Exit code: 0."""
    parser = command.Parser(program, __doc__)
    parser.add_argument("--workdir", required=True, help="of the main command")
    parser.add_argument("--run", required=True, help="a run of it that has ended")
    parser.add_argument("--out", required=True, help="folder: not there, or empty")
    options = parser.parse(arguments)

    def body() -> int:
        folder = epath.Path(options.out).expanduser()
        place = epath.Path(options.workdir).expanduser()
        facts = export.export(place, options.run, folder)
        files = f"{export.TENSORS} and {export.FACTS}"
        said = [f"Written to {folder}: {files} ({facts['kind']})."]
        if "why_not" in facts:
            said.append(f"Note: {facts['why_not']}")
        sys.stdout.write("\n".join([*said, ""]))
        return command.DONE

    return command.call(body, verbosity=options.verbosity)
