"""All the simulations: what became of each, and the tables of their verdicts.

`python -m particles.gallery DIR` is for whoever keeps results: it copies the summary and the figure of every study in a
folder to `sims/results/`, and writes the table of the README anew from the summaries that are kept there.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from particles import durable
from particles.errors import StorageError
from particles.study import SUMMARY, read_summary, scripts, verdicts

RESULTS = Path("sims/results")
MARKS = "<!-- the verdicts -->\n", "<!-- end of the verdicts -->\n"


def summaries(folder: str | Path) -> dict[str, dict]:
    """The summary of every simulation that has a finished study in a folder, in the order of the list."""
    found = {name: read_summary(Path(folder) / name) for name in scripts()}
    return {name: summary for name, summary in found.items() if summary and summary.get("finished")}


def good(claims: Sequence[Mapping]) -> int:
    """How many claims have a good verdict."""
    return sum(bool(claim["ok"]) for claim in claims)


def all_hold(claims: Sequence[Mapping]) -> bool:
    """Whether all claims have a good verdict."""
    return good(claims) == len(claims)


def overview(found: Mapping[str, Mapping]) -> str:
    """A line a simulation: how many of its claims hold, and how long it took; then every claim that does not.

    >>> claim = {"claim": "it falls", "expected": -1.0, "measured": -0.5, "standard_error": None, "ok": False}
    >>> print(overview({"fall": {"claims": [claim], "seconds": 2.0}}))
    simulation  verdict      claims  seconds
    fall        NOT all hold  0 of 1      2.0
    NOT  fall: it falls: expected -1, measured -0.5
    """
    width = max(map(len, ["simulation", *found]))
    lines = [f"{'simulation':{width}}  {'verdict':12} {'claims':>6}  seconds"]
    for name, summary in found.items():
        claims = summary["claims"]
        verdict = "all hold" if all_hold(claims) else "NOT all hold"
        lines.append(f"{name:{width}}  {verdict:12} {f'{good(claims)} of {len(claims)}':>7} {summary['seconds']:8.1f}")
    for name, summary in found.items():
        lines += [verdicts([{**c, "claim": f"{name}: {c['claim']}"}]) for c in summary["claims"] if not c["ok"]]
    return "\n".join(lines)


def markdown(found: Mapping[str, Mapping]) -> str:
    """The lecture → the simulation → the verdict, as a table in Markdown: a row a simulation."""
    titles = scripts()
    lines = ["| the lecture | the simulation | the verdict |", "|---|---|---|"]
    for name, summary in found.items():
        claims = summary["claims"]
        verdict = f"{good(claims)} of {len(claims)} claims hold"
        lines.append(f"| {_cell(titles[name])} | `{name}` | [{verdict}](sims/results/README.md#{name}) |")
    return "\n".join(lines) + "\n"


def pages(found: Mapping[str, Mapping]) -> str:
    """Every kept result with its figure and the table of its claims, in Markdown."""
    titles = scripts()
    parts = ["# Results\n", "Written by `python -m particles.gallery` from the summaries beside it.\n"]
    for name, summary in found.items():
        parts += [f"## {name}\n", f"{titles[name]}\n", f"`{summary['command']}`, {summary['seconds']:.0f} s\n"]
        parts += [f"![{name}]({name}.png)\n"]
        rows = ["| claim | from | expected | measured | verdict |", "|---|---|---|---|---|"]
        rows += [_row(claim) for claim in summary["claims"]]
        parts += ["\n".join(rows) + "\n"]
    return "\n".join(parts)


def _row(claim: Mapping) -> str:
    error = "" if claim["standard_error"] is None else f" ± {claim['standard_error']:.2g}"
    verdict = "holds" if claim["ok"] else "**does not hold**"
    numbers = f"{_number(claim['expected'])} | {_number(claim['measured'])}{error}"
    return f"| {_cell(claim['claim'])} | {_cell(claim['source'])} | {numbers} | {verdict} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def keep(folder: str | Path, root: str | Path = ".") -> list[str]:
    """Copy the summary and the first figure of every finished study in a folder to `sims/results`; the names kept.

    The tables of the README and of `sims/results/README.md` are then written from all that are kept.

    Raises:
        StorageError: no study there, one without its figure, or a README without the marks of the table.
    """
    root, found = Path(root), summaries(folder)
    if not found:
        raise StorageError(f"{folder} holds no finished study", "run them first: particles run all")
    results = root / RESULTS
    for name, summary in found.items():
        if not summary["figures"]:
            raise StorageError(f"the study {name!r} has no figure", "run it again")
        for source, kept_as in ((summary["figures"][0], f"{name}.png"), (SUMMARY, f"{name}.json")):
            with durable.whole(results / kept_as) as aside:
                shutil.copyfile(Path(folder) / name / source, aside)
    write_tables(root)
    return list(found)


def kept(root: str | Path = ".") -> dict[str, dict]:
    """The summaries that are kept in `sims/results`, in the order of the list."""
    files = {name: Path(root) / RESULTS / f"{name}.json" for name in scripts()}
    return {name: json.loads(f.read_text(encoding="utf-8")) for name, f in files.items() if f.is_file()}


def write_tables(root: str | Path = ".") -> None:
    """Write the tables of both READMEs from the summaries that are kept.

    Raises:
        StorageError: a README without the marks of the table.
    """
    found, readme = kept(root), Path(root) / "README.md"
    texts = {Path(root) / RESULTS / "README.md": pages(found)}
    texts[readme] = _between(readme.read_text(encoding="utf-8"), markdown(found))
    for path, text in texts.items():
        with durable.whole(path) as aside:
            durable.write(aside, [text.encode()])


def _between(text: str, table: str) -> str:
    """The text with the table between the marks."""
    first, last = MARKS
    if text.count(first) != 1 or text.count(last) != 1:
        raise StorageError("the README has no place for the table", f"put {first.strip()} and {last.strip()} in it")
    head, rest = text.split(first)
    return f"{head}{first}\n{table}\n{last}{rest.split(last)[1]}"


if __name__ == "__main__":
    print(*keep(*sys.argv[1:]), sep="\n")
