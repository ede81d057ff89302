"""The code blocks of the documents, and the commands in them."""

from dataclasses import dataclass

from markdown_it import MarkdownIt

from harness.repository.tree import ROOT

LANGUAGES = {"sh", "python", "js", "sql", "json", "toml", "text"}
"""What a block may be: commands, a program, a document, or something to look at."""


@dataclass(frozen=True)
class Block:
    """A fenced or indented block of code."""

    document: str
    """Path from the root of the tree."""
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, one each, without comments of their own."""
        whole = self.text.replace("\\\n", " ").splitlines()
        return [line for line in whole if line.strip() and not line.startswith("#")]

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[str]:
    """Return the documents that users, operators and contributors read."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def blocks(document: str) -> list[Block]:
    """Return the blocks of a document in order."""
    tokens = MarkdownIt().parse((ROOT / document).read_text(encoding="utf-8"))
    return [
        Block(document, (token.map or [0])[0] + 1, token.info.strip(), token.content)
        for token in tokens
        if token.type in ("fence", "code_block")
    ]
