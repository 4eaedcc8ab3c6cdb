"""A hook of mkdocs: what pages link to outside ``docs/`` becomes a part of the site.

In a checkout ``../csrc/event.h`` and ``../examples/README.md`` are files, and links to them work as
they are. A site has only what is below ``docs/``. So a page outside is added under its path, a
source file or a folder as a page that shows it, and links are rewritten to match. A link that leads
nowhere ends a strict build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# A link's target; or code, in which there are none: that is matched first, and has no group.
LINK = re.compile(
    r"^ *(`{3,})[^\n]*\n.*?^ *\1 *$|`[^`\n]+`|(?<=\]\()(?!\w+:|#)(?P<target>[^)#\s]+)",
    re.DOTALL | re.MULTILINE,
)
ROLE = re.compile(r":(?:attr|class|func|meth|mod):(?=<code>)")
LEXERS = {
    ".c": "c",
    ".h": "c",
    ".cpp": "cpp",
    ".hpp": "cpp",
    ".py": "python",
    ".toml": "toml",
    ".yml": "yaml",
}
logger = logging.getLogger("mkdocs.hooks.hook")

_origins: dict[str, str] = {}  # of each added page: the path in the repository


def address(path: str) -> str:
    """Return the site's name for a file of the repository."""
    if path.startswith("docs/") and not (ROOT / path).is_dir():
        return path.removeprefix("docs/")
    return path if path.endswith(".md") else f"source/{path}.md"


def targets(origin: str, text: str) -> list[tuple[str, str]]:
    """Return the links of a page at ``origin``: as written, and as repository paths."""
    links = [match["target"] for match in LINK.finditer(text) if match["target"]]
    return [
        (link, posixpath.normpath(posixpath.join(posixpath.dirname(origin), link)))
        for link in links
    ]


def shown(path: Path, name: str) -> str:
    """Return a page that shows a file or lists a folder of the repository."""
    if path.is_dir():
        return f"# {name}\n\n" + "".join(
            f"- [{each.name}]({path.name}/{each.name})\n"
            for each in sorted(path.iterdir())
            if each.is_file()
        )
    lexer = LEXERS.get(path.suffix, "text")
    return f"# {name}\n\n````````{lexer}\n{path.read_text(encoding='utf-8')}\n````````\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the navigation does not name at the end of "Use"."""
    named = set(pages(config.nav))
    use = next(part["Use"] for part in config.nav if "Use" in part)
    use += [path.name for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in named]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is linked to, and what that links to, and so on."""
    pending = [
        (f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages()
    ]
    outside = [link for link in pages(config.nav) if not (ROOT / "docs" / link).exists()]
    pending.append(("mkdocs.yml", "".join(f"]({link})" for link in outside)))
    while pending:
        origin, text = pending.pop()
        for link, name in targets(origin, text):
            path = ROOT / name
            if name.startswith("../") or not path.exists():
                logger.warning("%s links to %s, which is not there", origin, link)
            elif (path.is_dir() or not name.startswith("docs/")) and address(name) not in _origins:
                content = (
                    path.read_text(encoding="utf-8") if name.endswith(".md") else shown(path, name)
                )
                _origins[address(name)] = name
                files.append(File.generated(config, address(name), content=content))
                pending.append((name, content if name.endswith(".md") or path.is_dir() else ""))
    return files


def pages(nav: object) -> list[str]:
    """Return the pages that the navigation names."""
    if isinstance(nav, dict):
        return pages(list(nav.values()))
    if isinstance(nav, list):
        return [page for part in nav for page in pages(part)]
    return [str(nav)]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs gives them by name
    """Point links to where the site has their targets."""
    here = page.file.src_uri
    origin = _origins.get(here, f"docs/{here}")

    def moved(match: re.Match[str]) -> str:
        if not match["target"]:
            return match[0]
        name = posixpath.normpath(posixpath.join(posixpath.dirname(origin), match["target"]))
        return posixpath.relpath(address(name), posixpath.dirname(here) or ".")

    return LINK.sub(moved, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Drop the roles that docstrings give to names; the name is left."""
    return ROLE.sub("", html)
