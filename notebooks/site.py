"""What the documentation site gets besides its own pages: pictures, the API, links between included files."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ("frontier.png", "mlflow.png")
# Files of the repository that are pages of the site, and the others that pages may name.
PAGES = {
    "dpsynth/privacy/README.md": "privacy.md",
    "dpsynth/audit/README.md": "audit_guide.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
HOMES = {page: Path(file).parent for file, page in PAGES.items()}


def documented() -> dict[str, list[str]]:
    """Returns the public modules by package: those that open with a docstring."""
    packages: dict[str, list[str]] = {}
    for file in sorted((ROOT / "dpsynth").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if not parts[-1].startswith("_") and ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))):
            package = ".".join(parts[:2]) if len(parts) > 2 else "dpsynth"
            packages.setdefault(package, []).append(".".join(parts))
    return packages


def on_files(files: Files, config: Any) -> Files:
    """Adds the pictures, and a page of the API per package."""
    for name in PICTURES:
        picture = (ROOT / ".readme" / name).read_bytes()
        files.append(File.generated(config, f"assets/{name}", content=picture))
    packages = documented()
    listed = [f"- [`{package}`]({package}.md)" for package in packages]
    index = "# API\n\nFrom docstrings, one page per package.\n\n" + "\n".join(listed)
    files.append(File.generated(config, "api/index.md", content=index))
    for package, modules in packages.items():
        body = "\n\n".join(f"::: {module}" for module in modules)
        files.append(File.generated(config, f"api/{package}.md", content=f"# {package}\n\n{body}\n"))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Leads links of included files to their pages, and unlinks what the site does not have."""
    home = HOMES.get(page.file.src_uri)
    if home is None:
        return html

    def lead(found: re.Match) -> str:
        target, words = found[1], found[2]
        if target.startswith(("http:", "https:", "#")):
            return found[0]
        file = (ROOT / home / target).resolve().relative_to(ROOT).as_posix()
        known = PAGES.get(file)
        return f'<a href="{known.replace(".md", ".html")}">{words}</a>' if known else words

    return re.sub(r'<a href="([^"]+)">(.*?)</a>', lead, html)
