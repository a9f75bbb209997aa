"""How Sphinx builds the pages: `make docs`.

The source folder is the repository, so that pages may show what stands elsewhere (the
README of each set, CONTRIBUTING.md) without a copy; nothing is taken from a network.
"""

import importlib.metadata
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import options
from sphinx.application import Sphinx

import mtpret_jax

project = "mtpret_jax"
author = "The mtpret_jax authors"
html_show_copyright = False
version = release = importlib.metadata.version("mtpret_jax")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "tfds_builders/**.md",
    "benchmarks/README.md",
    "colab/README.md",
    "tests/golden/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "mtpret_jax"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# A section of README.md begins with a heading of the second level wherever it is shown;
# cells of notebooks are no plain Python.
suppress_warnings = ["myst.header", "misc.highlighting_failure"]

default_role = "code"  # Docstrings write names as Markdown does.
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# As they are: of "Returns", Napoleon takes what stands before a colon for a type.
napoleon_custom_sections = ["Source", "Differs", "Returns"]

html_theme = "furo"
html_title = "mtpret_jax"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_extra_path = ["entry"]
html_show_sourcelink = False
html_copy_source = False
html_use_index = True


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts what is made from the code in the place of its comment."""
    made = {
        "options": options.markdown,
        "presets": options.presets,
        "arms": options.study_arms,
        "load": load,
    }
    for name, make in made.items():
        if f"<!-- {name} -->" in source[0]:
            source[0] = source[0].replace(f"<!-- {name} -->", make())


def load() -> str:
    """The entry for a trained model, where the package has one."""
    if not hasattr(mtpret_jax, "load"):
        return "See [Predict, embed, export](../commands.md)."
    return (
        "```{eval-rst}\n"
        ".. autofunction:: mtpret_jax.load\n\n"
        ".. autoclass:: mtpret_jax.inference.model.Model\n"
        "   :members: describe, predict, embed\n"
        "```"
    )


def root_links(app: Sphinx, path: pathlib.Path, page: str, content: list[str]) -> None:
    """Links of a section of README.md begin at the root, wherever it is shown."""
    if path == pathlib.Path("README.md"):
        content[0] = re.sub(r"\]\((?!\w+:|[#/])", "](/", content[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    app.connect("include-read", root_links)
