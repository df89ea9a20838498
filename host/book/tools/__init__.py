"""The tools of the book: `build`, `check` and `run` beside this folder use them.

| module | contents |
| --- | --- |
| `pages` | pages, their fences, headings and links |
| `book` | the chapters: what they include, where each link leads |
| `reference` | what a `netwasm` says of itself: help, settings, interfaces |
| `checks` | what must hold of all pages |
| `session` | the commands of a page, run one after another |
| `pictures` | plots of the tables of speed, and dark twins of pictures |
"""
