"""Small HTML pages of tables, without scripts or outside files."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 1.5em; color: #222; }}
table {{ border-collapse: collapse; margin: 0 0 2em; }}
caption {{ text-align: left; font-weight: 600; padding: .4em 0; }}
th, td {{ padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
p {{ max-width: 60em; }}
</style></head><body><h1>{title}</h1>{body}</body></html>
"""


def page(title: str, body: str) -> str:
    """A whole page."""
    return PAGE.format(title=escape(title), body=body)


def text(words: str) -> str:
    """A paragraph."""
    return f"<p>{escape(words)}</p>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table; numbers to four significant digits, None as a dash."""
    cells = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
    cells += ["<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row) + "</tr>" for row in rows]
    return f"<table><caption>{escape(caption)}</caption>{''.join(cells)}</table>"


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "&ndash;"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return escape(", ".join(map(str, value))) or "&ndash;"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
