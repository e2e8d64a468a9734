"""varl's docstrings as reStructuredText.

A docstring of varl has single backticks around code, an indented block for an equation, Google's sections, and the
field's notation in plain text (`π(a|s)`, `Σ_n`). Docutils would read the first as a role, the second as a quotation and
the bars and underscores of the third as markup.
"""

import re
from typing import Any

SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Yields", "Note", "Example", "Examples", "Metrics")
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)}):$")
_ITEM = re.compile(r"^\s*- ")
_CODE = re.compile(r"(``[^`]+``|`[^`]+`)")


def escape(text: str) -> str:
  """One line of prose, its code as literals and everything that docutils would read as markup escaped."""
  parts = _CODE.split(text)
  for i, part in enumerate(parts):
    if i % 2:
      parts[i] = f"``{part.strip('`')}``"
      if i + 1 < len(parts) and re.match(r"\w", parts[i + 1]):
        parts[i + 1] = "\\ " + parts[i + 1]
    else:
      parts[i] = re.sub(r"([\\*|`]|(?<=\w)_(?=\W|$))", r"\\\1", part)
  return "".join(parts)


def _in_list(out: list[str]) -> bool:
  """Whether the last paragraph has a list item already."""
  for line in reversed(out):
    if not line.strip():
      return False
    if _ITEM.match(line):
      return True
  return False


def convert(lines: list[str]) -> list[str]:
  """A docstring's lines as reStructuredText with Google's sections."""
  out: list[str] = []
  i = 0
  section = False
  while i < len(lines):
    line = lines[i]
    if _SECTION.match(line):
      section = True
    elif line and not line[0].isspace():
      section = False
    starts_block = line[:1].isspace() and line.strip() and not section and (i == 0 or not lines[i - 1].strip())
    if starts_block:
      block = []
      while i < len(lines) and (not lines[i].strip() or lines[i][:1].isspace()):
        block.append(lines[i])
        i += 1
      while block and not block[-1].strip():
        block.pop()
      out += ["::", "", *block, ""]
      continue
    if _ITEM.match(line) and out and out[-1].strip() and not section and not _in_list(out):
      out.append("")
    out.append(line if _SECTION.match(line) else escape(line))
    i += 1
  return out


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
  lines[:] = convert(lines)


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
  """The fields of a NamedTuple are described in its own docstring."""
  return True if type(obj).__name__ in ("_tuplegetter", "member_descriptor") else None


def setup(app: Any) -> dict[str, Any]:
  """Registers both hooks, the first before Napoleon's."""
  app.connect("autodoc-process-docstring", _process, priority=1)
  app.connect("autodoc-skip-member", _skip)
  return {"parallel_read_safe": True}
