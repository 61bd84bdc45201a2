"""How pages look: one column on a phone, dark where the reader's system is dark, and nothing from elsewhere."""

import re
from collections.abc import Iterable
from html import escape

from worldmodel.evaluate.page.verdict import Answer

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"  # nothing from elsewhere
MARKS = {True: ("good", "✓"), False: ("poor", "!"), None: ("open", "–")}  # class and sign of an answer

STYLE = """
:root { color-scheme: light dark; --ink: #1d2024; --soft: #5d646c; --paper: #fff; --card: #f4f5f7; --line: #dfe2e6;
        --good: #17722f; --poor: #b3261e; --advice: #fff4dc; --edge: #e0a33a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a0a7af; --paper: #15171a; --card: #202328; --line: #343940;
          --good: #6fce86; --poor: #ff8a80; --advice: #2f2817; --edge: #a87d2e; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1100px;
       margin: 0 auto; padding: 1.2em 1em 4em; overflow-wrap: break-word; }
h1 { font-size: 1.6em; line-height: 1.2; margin: 0 0 .2em; } h2 { font-size: 1.25em; margin: 0 0 .4em; }
h3 { font-size: 1em; margin: 1.6em 0 .4em; color: var(--soft); }
p { margin: .4em 0; } .lead, .note, figcaption, summary { color: var(--soft); } .note, figcaption { font-size: .85em; }
code { font-size: .9em; background: var(--card); border-radius: 4px; padding: .1em .3em; }
.top { display: flex; flex-wrap: wrap; gap: 1.5em; margin: 1.2em 0; align-items: flex-start; }
.top > figure { flex: 0 1 336px; } .top > .verdict { flex: 1 1 340px; }
.sentences { list-style: none; padding: 0; margin: 0; } .sentences li { display: flex; gap: .6em; margin: .5em 0; }
.mark { flex: none; width: 1.5em; height: 1.5em; line-height: 1.5em; border-radius: 50%; text-align: center;
        font-weight: 700; font-size: .85em; color: var(--paper); background: var(--soft); }
.mark.good { background: var(--good); } .mark.poor { background: var(--poor); }
section { border-top: 1px solid var(--line); margin-top: 2em; padding-top: 1.4em; }
section h2 { display: flex; gap: .5em; align-items: center; }
.advice { background: var(--advice); border-left: 4px solid var(--edge); border-radius: 4px; padding: .5em .9em;
          margin: .7em 0; }
.advice ul { margin: 0; padding-left: 1.1em; } .advice li { margin: .25em 0; }
.wide { overflow-x: auto; } .wide table { min-width: 620px; }
@media (max-width: 600px) { .wide table { min-width: 0; }
  .wide :is(th, td):is(:nth-child(3), :nth-child(5), :nth-child(7)) { display: none; } }
table { border-collapse: collapse; width: 100%; font-size: .85em; margin: .8em 0; }
th, td { text-align: left; padding: .25em .6em .25em 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.name { overflow-wrap: anywhere; min-width: 9em; font-family: ui-monospace, monospace; font-size: .92em; }
.yes { color: var(--good); } .no { color: var(--poor); } .yes, .no { font-weight: 600; white-space: nowrap; }
.numbers { display: flex; flex-wrap: wrap; gap: .7em; margin: 1em 0; padding: 0; }
.numbers div { background: var(--card); border-radius: 8px; padding: .5em .9em; }
.numbers dt { font-size: .8em; color: var(--soft); } .numbers dd { margin: 0; font-weight: 600; }
.shown { display: flex; flex-wrap: wrap; gap: 1.2em; align-items: flex-start; }
figure { margin: 0; max-width: 100%; } img, video { max-width: 100%; height: auto; display: block; border-radius: 6px; }
figure.plot img { width: 500px; } figure.film video { width: 100%; background: #16171b; }
figure.clip video { image-rendering: pixelated; width: 256px; } summary { cursor: pointer; margin: .6em 0; }
"""


def document(title: str, body: Iterable[str]) -> str:
    """A whole page."""
    head = (
        f'<meta charset=utf-8><meta http-equiv=Content-Security-Policy content="{POLICY}">'
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>\n"


def top(film: str, sentences: Iterable[Answer], below: str = "") -> str:
    """The film beside the verdict, or above it on a phone. below: what stands under the verdict, as HTML."""
    items = "".join(f"<li>{mark(each)}<span>{escape(each.sentence)}</span></li>" for each in sentences)
    verdict = f"<div class=verdict><h2>Verdict</h2><ul class=sentences>{items}</ul>{below}</div>"
    return f"<div class=top>{film}{verdict}</div>"


def mark(answer: Answer) -> str:
    """A sign for good, poor or open."""
    kind, sign = MARKS[answer.good]
    return f"<span class='mark {kind}' role=img aria-label={kind}>{sign}</span>"


def advice_box(sentences: Iterable[str]) -> str:
    """What to change; "" for nothing."""
    items = "".join(f"<li>{_with_code(each)}</li>" for each in sentences)
    return f"<div class=advice><ul>{items}</ul></div>" if items else ""


def _with_code(text: str) -> str:
    """Text whose parts in backticks are code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
